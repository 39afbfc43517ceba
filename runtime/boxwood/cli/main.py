"""The program `boxwood`: finds the typed command, runs it, and words what went wrong."""

from __future__ import annotations

import os
import sys

from boxwood.cli.command import defaults
from boxwood.cli.context import Context
from boxwood.cli.errors import CliError, HelpRequested, UsageError
from boxwood.cli.options import GLOBAL_FLAGS
from boxwood.cli.parser import FlagParser, check_count, parse
from boxwood.client.errors import ApiError, ConnectError, ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn
else:
    # The module behind `signal`, without `enum`, which costs 5 ms to import.
    import _signal

# What flag errors of any command, and the engine's refusals of run and create, end with.
EXIT_FLAG = 125
# Ended by an interrupt: 128 + SIGINT.
EXIT_INTERRUPTED = 130


def entry() -> NoReturn:
    """The console script. Leaves without tearing the interpreter down, which takes 3 ms."""
    # As programs in C and Go: a closed pipe or an interrupt ends the process by its signal.
    # Sockets are written with MSG_NOSIGNAL where a lost peer is expected.
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    _open_streams()
    prog = "docker" if os.path.basename(sys.argv[0]) == "docker" else "boxwood"
    code = main(sys.argv[1:], prog)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _open_streams() -> None:
    """Have descriptors 0 to 2, so that no socket takes their place, and UTF-8 on stdout."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    # Names and arguments are bytes; what is not UTF-8 among them comes out as it went in.
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]


def main(argv: list[str], prog: str = "boxwood") -> int:
    """Run one command line; its exit code. Nothing is raised that a user can cause."""
    ctx = Context(prog, {}, argv)
    try:
        rest = _read_global(ctx, argv)
        return _dispatch(ctx, rest)
    except CliError as error:
        if error.text:
            ctx.err(error.text)
        return error.code
    except ApiError as error:
        ctx.err(f"Error response from daemon: {error.message}")
    except ConnectError as error:
        ctx.err(describe_connect(ctx, error))
    except ProtocolError as error:
        ctx.err(f"error during connect: {error}")
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OSError as error:
        ctx.err(f"{ctx.name}: {_describe_os(error)}")
    return 1


def describe_connect(ctx: Context, error: ConnectError) -> str:
    """One sentence for an engine that cannot be reached, with the way out where we know it."""
    low = ctx.product.lower()
    if error.reason == "permission":
        return (
            f"permission denied while trying to connect to the {ctx.product} daemon socket at "
            f"{error.address}: be root, or in the group that owns the socket"
        )
    if error.reason == "not-a-socket" and not ctx.is_docker:
        return f"Cannot connect to the {ctx.product} daemon at {error.address}: not a socket."
    if error.reason in ("missing", "not-a-socket"):
        return (
            f"Cannot connect to the {ctx.product} daemon at {error.address}. "
            f"Is the {low} daemon running?"
        )
    return f"error during connect: {error.address}: {error.detail}"


def _describe_os(error: OSError) -> str:
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename else what


def _read_global(ctx: Context, argv: list[str]) -> list[str]:
    """Read the flags before the command into `ctx.options`; what follows them."""
    values = defaults(GLOBAL_FLAGS)
    ctx.options = values
    parser = FlagParser(GLOBAL_FLAGS, values, interspersed=False)
    try:
        rest = parser.parse(argv)
    except UsageError as error:
        usage = f"Usage:  {ctx.prog} [OPTIONS] COMMAND [ARG...]"
        ctx.err(f"{error.text}\n\n{usage}\n\nRun '{ctx.prog} --help' for more information")
        raise CliError("", EXIT_FLAG) from error
    except HelpRequested:
        return ["help"]
    ctx.check_options()
    return rest


def _dispatch(ctx: Context, rest: list[str]) -> int:
    if ctx.options["version"]:
        return _version(ctx)
    if not rest or rest[0] == "help":
        return _help(ctx, rest[1:])
    from boxwood.cli import tree

    name, group = rest[0], tree.GROUPS.get(rest[0])
    if group is None:
        module = tree.TOP.get(name)
        if module is None:
            return _outside(ctx, rest)
        ctx.name = f"{ctx.prog} {name}"
        return _run(ctx, module, rest[1:])
    return _dispatch_group(ctx, name, rest[1:])


def _dispatch_group(ctx: Context, group: str, rest: list[str]) -> int:
    from boxwood.cli import tree

    ctx.name = f"{ctx.prog} {group}"
    if not rest or rest[0] in ("--help", "-h"):
        return _help(ctx, [group])
    typed = rest[0]
    name = tree.ALIASES.get(group, {}).get(typed, typed)
    module = tree.GROUPS[group][1].get(name)
    if typed.startswith("-"):
        ctx.err(_usage_lines(f"unknown flag: {typed}", ctx.name, f"{ctx.name} COMMAND"))
        return EXIT_FLAG
    if module is None:
        text = f"{ctx.prog}: unknown command: {ctx.name} {typed}"
        ctx.err(_usage_lines(text, ctx.name, ctx.name))
        return 1
    ctx.name = f"{ctx.name} {name}"
    return _run(ctx, module, rest[1:])


def _run(ctx: Context, module: str, argv: list[str]) -> int:
    from boxwood.cli import tree

    command = tree.load(module)
    try:
        values, args = parse(command, argv, ctx.given)
        check_count(command, len(args), ctx.name)
        return command.run(ctx, values, args)
    except HelpRequested:
        from boxwood.cli.help import command_help

        ctx.out(command_help(ctx.prog, ctx.name, module))
        return 0
    except UsageError as error:
        text = error.text if error.flag else f"{ctx.prog}: {error.text}"
        ctx.err(_usage_lines(text, ctx.name, f"{ctx.name} {command.usage}".rstrip()))
        return EXIT_FLAG if error.flag else 1


def _usage_lines(text: str, name: str, usage: str) -> str:
    return f"{text}\n\nUsage:  {usage}\n\nRun '{name} --help' for more information"


def _version(ctx: Context) -> int:
    from boxwood import __version__

    ctx.out(f"{ctx.product} version {__version__}")
    return 0


def _help(ctx: Context, words: list[str]) -> int:
    from boxwood.cli import help as pages

    text = pages.page(ctx.prog, words)
    if text is None:
        raise CliError(f"{ctx.prog}: unknown help topic: {' '.join(words)}")
    ctx.out(text)
    return 0


def _outside(ctx: Context, rest: list[str]) -> int:
    """A command that is not ours: a plugin's, a shell's question, or nobody's."""
    from boxwood.cli import tree

    name = rest[0]
    if name == "__complete":
        from boxwood.cli.completion import complete

        for candidate in complete(ctx, rest[1:]):
            ctx.out(candidate)
        return 0
    from boxwood.cli.plugins import run_docker_plugin, run_plugin_command

    if name in tree.LEFT_OUT:
        raise CliError(f"{ctx.prog} {name}: not supported: {tree.LEFT_OUT[name]}")
    code = run_plugin_command(ctx, name, rest[1:])
    if code is not None:
        return code
    run_docker_plugin(ctx, name)
    raise CliError(
        f"{ctx.prog}: unknown command: {ctx.prog} {name}\n\n"
        f"Run '{ctx.prog} --help' for more information"
    )
