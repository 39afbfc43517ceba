"""The help, laid out as Docker lays it out, from the commands' declarations."""

from __future__ import annotations

import shutil
import textwrap

from boxwood.cli import tree
from boxwood.cli.command import Flag
from boxwood.cli.options import GLOBAL_FLAGS

_COMMON = [
    "run",
    "exec",
    "ps",
    "build",
    "pull",
    "push",
    "images",
    "login",
    "logout",
    "search",
    "version",
    "info",
]


def page(prog: str, words: list[str]) -> str | None:
    """The help for `words` (none: the program, a group, a command); None if there is none."""
    if not words:
        return program_help(prog)
    if words[0] in tree.GROUPS:
        members = tree.GROUPS[words[0]][1]
        name = tree.ALIASES.get(words[0], {}).get(words[1], words[1]) if words[1:] else ""
        if not name:
            return group_help(prog, words[0])
        return command_help(prog, f"{prog} {words[0]} {name}", members[name]) \
            if name in members else None  # fmt: skip
    module = tree.TOP.get(words[0])
    return command_help(prog, f"{prog} {words[0]}", module) if module else None


def program_help(prog: str) -> str:
    """What `boxwood --help` prints."""
    rest = [name for name in sorted(tree.TOP) if name not in _COMMON]
    sections = [
        f"Usage:  {prog} [OPTIONS] COMMAND",
        "A container engine, small at its core",
        _commands("Common Commands", {name: _short(tree.TOP[name]) for name in _COMMON}),
        _commands("Management Commands", {name: group[0] for name, group in _groups()}),
        _commands("Commands", {name: _short(tree.TOP[name]) for name in rest}),
        _plugin_section(),
        "Global Options:\n" + "\n".join(flag_lines(GLOBAL_FLAGS)),
        f"Run '{prog} COMMAND --help' for more information on a command.",
    ]
    return "\n\n".join(section for section in sections if section)


def group_help(prog: str, group: str) -> str:
    """What `boxwood container` prints."""
    about, members = tree.GROUPS[group]
    name = f"{prog} {group}"
    return "\n\n".join(
        (
            f"Usage:  {name} COMMAND",
            about,
            _commands("Commands", {key: _short(at) for key, at in sorted(members.items())}),
            f"Run '{name} COMMAND --help' for more information on a command.",
        )
    )


def command_help(prog: str, name: str, module: str) -> str:
    """What `boxwood ps --help` prints."""
    command = tree.load(module)
    sections = [f"Usage:  {name} {command.usage}".rstrip(), command.about or command.short]
    names = tree.spellings(module)
    if len(names) > 1:
        sections.append("Aliases:\n  " + ", ".join(f"{prog} {spelling}" for spelling in names))
    if command.flags:
        sections.append("Options:\n" + "\n".join(flag_lines(command.flags)))
    return "\n\n".join(sections)


def flag_lines(flags: tuple[Flag, ...]) -> list[str]:
    """The flags as a table wrapped to the terminal's width."""
    shown = sorted((flag for flag in flags if not flag.hidden), key=lambda flag: flag.name)
    heads = [_flag_head(flag) for flag in shown]
    indent = max(map(len, heads), default=0) + 3
    width = max(shutil.get_terminal_size().columns - 1, indent + 24)
    lines: list[str] = []
    for flag, head in zip(shown, heads, strict=True):
        text = flag.help + default_note(flag)
        lines += textwrap.wrap(
            text, width, initial_indent=head.ljust(indent), subsequent_indent=" " * indent
        )
    return lines


def default_note(flag: Flag) -> str:
    """` (default 3)` for a default worth telling."""
    if flag.default in (None, False, ""):
        return ""
    if isinstance(flag.default, str):
        return f' (default "{flag.default}")'
    return f" (default {str(flag.default).lower()})"


def _flag_head(flag: Flag) -> str:
    short = f"-{flag.short}, " if flag.short else "    "
    kind = "" if flag.kind == "bool" else f" {flag.kind}"
    return f"  {short}--{flag.name}{kind}"


def _groups() -> list[tuple[str, tuple[str, dict[str, str]]]]:
    return sorted(tree.GROUPS.items())


def _short(module: str) -> str:
    return tree.load(module).short


def _commands(title: str, entries: dict[str, str]) -> str:
    width = max(map(len, entries), default=0) + 2
    return "\n".join([f"{title}:", *(f"  {key:<{width}}{text}" for key, text in entries.items())])


def _plugin_section() -> str:
    from boxwood.cli.plugins import plugin_commands

    entries = {point.name: f"(plugin {point.value})" for point in plugin_commands()}
    return _commands("Plugin Commands", entries) if entries else ""
