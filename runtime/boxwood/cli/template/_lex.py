"""Tokens of Go's text/template language (package text/template, "Actions").

Positions count code points; `boxwood.cli.template._parse` turns them into bytes for messages.
"""

from __future__ import annotations

from boxwood.cli.template._quote import quote

TEXT, LEFT, RIGHT, SPACE, PIPE, ASSIGN, DECLARE, CHAR, STRING, RAW, CHARCONST = range(11)
NUMBER, COMPLEX, BOOL, DOT, FIELD, VARIABLE, IDENT, LPAREN, RPAREN, EOF, ERROR = range(11, 22)
KEYWORD = 32

KEYWORDS = {
    word: KEYWORD + at
    for at, word in enumerate(
        (
            "block",
            "break",
            "continue",
            "define",
            "else",
            "end",
            "if",
            "range",
            "nil",
            "template",
            "with",
        )
    )
}
KW_NIL = KEYWORDS["nil"]

SPACES = " \t\r\n"
_TERMINATORS = SPACES + ".,|:)("
_SIMPLE = {"=": ASSIGN, "|": PIPE}


class Token:
    """One token: kind, text, offset in code points, and the line it starts on (from 1)."""

    __slots__ = ("kind", "line", "pos", "text")

    def __init__(self, kind: int, text: str, pos: int, line: int) -> None:
        self.kind = kind
        self.text = text
        self.pos = pos
        self.line = line

    def __str__(self) -> str:
        """How Go's parser names the token in a message."""
        if self.kind == EOF:
            return "EOF"
        if self.kind == ERROR:
            return self.text
        if self.kind >= KEYWORD or self.kind == DOT:
            return f"<{self.text}>"
        if len(self.text.encode("utf-8", "surrogateescape")) > 10:
            return quote(self.text[:10]) + "..."
        return quote(self.text)


class _LexError(Exception):
    """Ends the scan; the message becomes the ERROR token."""


def tokenize(text: str) -> list[Token]:
    """All tokens of `text`; the last is EOF, or ERROR with Go's words. Never raises."""
    lexer = _Lexer(text)
    try:
        lexer.run()
    except _LexError as error:
        lexer.tokens.append(Token(ERROR, str(error), lexer.start, lexer.start_line))
    return lexer.tokens


def is_word(char: str) -> bool:
    """Whether `char` may stand in an identifier: `_`, a letter or a digit."""
    return char == "_" or char.isalpha() or char.isdecimal()


def _name(char: str) -> str:
    """The `%#U` form of a code point."""
    shown = f"U+{ord(char):04X}"
    return f"{shown} '{char}'" if char.isprintable() else shown


class _Lexer:
    """The scanner's state; `start` is where the token being read begins."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pos = 0
        self.start = 0
        self.line = 1
        self.start_line = 1
        self.depth = 0
        self.tokens: list[Token] = []

    def emit(self, kind: int) -> None:
        """Ends the current token here."""
        text = self.text[self.start : self.pos]
        self.tokens.append(Token(kind, text, self.start, self.start_line))
        self.ignore()

    def ignore(self) -> None:
        """Starts a new token here, counting the lines that were passed."""
        self.line += self.text.count("\n", self.start, self.pos)
        self.start = self.pos
        self.start_line = self.line

    def run(self) -> None:
        """Scans to the end of the text."""
        while True:
            at = self.text.find("{{", self.pos)
            if at < 0:
                self.pos = len(self.text)
                if self.pos > self.start:
                    self.emit(TEXT)
                self.emit(EOF)
                return
            self._text_until(at)
            if self._left():
                self._action()

    def _text_until(self, at: int) -> None:
        """Emits the text before an action, trimmed where the action says so."""
        end = at
        if self._left_trim(at + 2):
            while end > self.pos and self.text[end - 1] in SPACES:
                end -= 1
        self.pos = end
        if end > self.start:
            self.emit(TEXT)
        self.pos = at
        self.ignore()

    def _left_trim(self, at: int) -> bool:
        two = self.text[at : at + 2]
        return len(two) == 2 and two[0] == "-" and two[1] in SPACES

    def _left(self) -> bool:
        """Reads `{{`, or a whole comment; true when an action follows."""
        self.pos += 2
        after = 2 if self._left_trim(self.pos) else 0
        if self.text.startswith("/*", self.pos + after):
            self.pos += after
            self.ignore()
            self._comment()
            return False
        self.emit(LEFT)
        self.pos += after
        self.ignore()
        self.depth = 0
        return True

    def _comment(self) -> None:
        end = self.text.find("*/", self.pos + 2)
        if end < 0:
            raise _LexError("unclosed comment")
        self.pos = end + 2
        closing, trim = self._at_right(self.pos)
        if not closing:
            raise _LexError("comment ends before closing delimiter")
        self._skip_right(trim)
        self.ignore()

    def _skip_right(self, trim: bool) -> None:
        self.pos += 4 if trim else 2
        while trim and self.pos < len(self.text) and self.text[self.pos] in SPACES:
            self.pos += 1

    def _at_right(self, at: int) -> tuple[bool, bool]:
        """Whether a right delimiter stands at `at`, and whether it trims."""
        if self.text.startswith("-}}", at + 1) and at < len(self.text) and self.text[at] in SPACES:
            return True, True
        return self.text.startswith("}}", at), False

    def _right(self, trim: bool) -> None:
        if trim:
            self.pos += 2
            self.ignore()
        self.pos += 2
        self.emit(RIGHT)
        while trim and self.pos < len(self.text) and self.text[self.pos] in SPACES:
            self.pos += 1
        self.ignore()

    def _action(self) -> None:
        """Reads the inside of an action, its right delimiter included."""
        while True:
            closing, trim = self._at_right(self.pos)
            if closing:
                if self.depth:
                    raise _LexError("unclosed left paren")
                self._right(trim)
                return
            if self.pos >= len(self.text):
                raise _LexError("unclosed action")
            self._inside(self.text[self.pos])

    def _inside(self, char: str) -> None:
        """Reads one token that starts with `char`."""
        if char in SPACES:
            self._space()
        elif char in "+-0123456789" or (char == "." and self._peek(1) in _DIGITS):
            self._number()
        elif char in ".$":
            self._field(DOT if char == "." else VARIABLE, FIELD if char == "." else VARIABLE)
        elif is_word(char):
            self._word()
        elif char in "\"'`":
            self._quoted(char)
        else:
            self._punctuation(char)

    def _punctuation(self, char: str) -> None:
        self.pos += 1
        if char in _SIMPLE:
            self.emit(_SIMPLE[char])
        elif char == ":":
            if self._peek() != "=":
                raise _LexError("expected :=")
            self.pos += 1
            self.emit(DECLARE)
        elif char == "(":
            self.depth += 1
            self.emit(LPAREN)
        elif char == ")":
            self.depth -= 1
            if self.depth < 0:
                raise _LexError("unexpected right paren")
            self.emit(RPAREN)
        elif "!" <= char <= "~":
            self.emit(CHAR)
        else:
            raise _LexError(f"unrecognized character in action: {_name(char)}")

    def _peek(self, ahead: int = 0) -> str:
        """The character `ahead` of here; a NUL-free marker past the end."""
        at = self.pos + ahead
        return self.text[at] if at < len(self.text) else _END

    def _space(self) -> None:
        while self._peek() in SPACES and not self._at_right(self.pos)[1]:
            self.pos += 1
        if self.pos > self.start:
            self.emit(SPACE)

    def _at_terminator(self) -> bool:
        char = self._peek()
        return char is _END or char in _TERMINATORS or self.text.startswith("}}", self.pos)

    def _must_end(self) -> None:
        if not self._at_terminator():
            raise _LexError(f"bad character {_name(self._peek())}")

    def _run_of_words(self) -> None:
        while self._peek() is not _END and is_word(self._peek()):
            self.pos += 1

    def _field(self, alone: int, named: int) -> None:
        self.pos += 1
        if self._at_terminator():
            self.emit(alone)
            return
        self._run_of_words()
        self._must_end()
        self.emit(named)

    def _word(self) -> None:
        self._run_of_words()
        self._must_end()
        word = self.text[self.start : self.pos]
        if word in ("true", "false"):
            self.emit(BOOL)
        else:
            self.emit(KEYWORDS.get(word, IDENT))

    def _quoted(self, mark: str) -> None:
        self.pos += 1
        kind, name = _QUOTES[mark]
        while True:
            char = self._peek()
            self.pos += 1
            if char == "\\" and mark != "`":
                char = self._peek()
                self.pos += 1
                if char is not _END and char != "\n":
                    continue
            if char is _END or (char == "\n" and mark != "`"):
                self.pos = min(self.pos, len(self.text))
                raise _LexError(f"unterminated {name}")
            if char == mark:
                self.emit(kind)
                return

    def _number(self) -> None:
        good = self._scan_number()
        kind = NUMBER
        if good and self._peek() in "+-":
            good = self._scan_number() and self.text[self.pos - 1] == "i"
            kind = COMPLEX
        if not good:
            shown = quote(self.text[self.start : self.pos])
            raise _LexError(f"bad number syntax: {shown}")
        self.emit(kind)

    def _accept(self, chars: str) -> bool:
        if self._peek() in chars:
            self.pos += 1
            return True
        return False

    def _accept_run(self, chars: str) -> None:
        while self._accept(chars):
            pass

    def _scan_number(self) -> bool:
        """Reads what looks like a number (its value is judged by the parser)."""
        self._accept("+-")
        digits = _DIGITS + "_"
        if self._accept("0"):
            for marks, allowed in _BASES:
                if self._accept(marks):
                    digits = allowed
                    break
        self._accept_run(digits)
        if self._accept("."):
            self._accept_run(digits)
        exponent = {len(_DIGITS) + 1: "eE", len(_HEX) + 1: "pP"}.get(len(digits))
        if exponent and self._accept(exponent):
            self._accept("+-")
            self._accept_run(_DIGITS + "_")
        self._accept("i")
        if self._peek() is not _END and is_word(self._peek()):
            self.pos += 1
            return False
        return True


_END = "past the end"  # longer than one character: never `in` a set of characters
_DIGITS = "0123456789"
_HEX = "0123456789abcdefABCDEF"
_BASES = (("xX", _HEX + "_"), ("oO", "01234567_"), ("bB", "01_"))
_QUOTES = {
    '"': (STRING, "quoted string"),
    "`": (RAW, "raw quoted string"),
    "'": (CHARCONST, "character constant"),
}
