"""Renders `docs/cli.md` from the declarations: `python -m boxwood.cli.docs [FILE]`."""

from __future__ import annotations

import sys

from boxwood.cli import tree
from boxwood.cli.command import Flag
from boxwood.cli.help import default_note
from boxwood.cli.options import GLOBAL_FLAGS

_INTRO = """# The command line

`boxwood` takes Docker's commands and flags in both spellings (`boxwood ps`,
`boxwood container ls`). This page is rendered from the declarations that the parser reads
(`./dev docs`); a test fails when it is not.

Flags are read as Docker reads them: `-abc` bundles, `--x=y` and `--x y` are the same, a boolean
takes a value only behind `=`, `--` ends the flags; for `run`, `create` and `exec` they end at the
first argument. A flag that cannot be read ends any command with 125.

Which engine: `-H`, else `BOXWOOD_HOST`, else `unix:///run/boxwood/boxwood.sock`. When none runs
there, one is started (`BOXWOOD_AUTOSTART=0` switches that off). Called through a link named
`docker`, `DOCKER_HOST`, contexts and the other `DOCKER_` variables count in their place.

| Variable | |
| --- | --- |
| `BOXWOOD_HOST` | the engine: `unix://PATH` or `tcp://HOST:PORT` |
| `BOXWOOD_TLS_VERIFY` | speak TLS to a `tcp://` engine and verify it |
| `BOXWOOD_CERT_PATH` | the folder of `ca.pem`, `cert.pem` and `key.pem` |
| `BOXWOOD_API_VERSION` | ask for this version of the Engine API, not for the engine's newest |
| `BOXWOOD_CONFIG`, `DOCKER_CONFIG` | the folder of `config.json`, `~/.docker` when not set |
| `BOXWOOD_AUTOSTART` | `0`: never start an engine |

A command that is none of ours is looked for among the plugins' (the entry points
`boxwood.command`, each a click command) and then among Docker's own plugins (`docker-compose` in
`~/.docker/cli-plugins` and the folders beside Docker's programs), which are led to our engine.
"""


def render() -> str:
    """The whole page."""
    parts = [_INTRO, "## Global flags\n", _table(GLOBAL_FLAGS), "## Commands\n"]
    seen: set[str] = set()
    for _, module in tree.walk():
        if module not in seen:
            seen.add(module)
            parts.append(_command(module))
    return "\n".join(parts).rstrip() + "\n"


def _command(module: str) -> str:
    command = tree.load(module)
    names = tree.spellings(module)
    name = names[-1]
    text = command.about or f"{command.short}."
    lines = [f"### {name}\n", f"{text}\n"]
    lines.append(f"    boxwood {name} {command.usage}".rstrip() + "\n")
    if len(names) > 1:
        others = ", ".join(f"`boxwood {spelling}`" for spelling in names[:-1])
        lines.append(f"Also: {others}\n")
    flags = [flag for flag in command.flags if not flag.hidden]
    if flags:
        lines.append(_table(tuple(flags)))
    return "\n".join(lines)


def _table(flags: tuple[Flag, ...]) -> str:
    rows = ["| Flag | Value | |", "| --- | --- | --- |"]
    for flag in sorted(flags, key=lambda flag: flag.name):
        shown = f"`-{flag.short}`, `--{flag.name}`" if flag.short else f"`--{flag.name}`"
        kind = "" if flag.kind == "bool" else flag.kind
        text = (flag.help + default_note(flag)).replace("|", "\\|")
        rows.append(f"| {shown} | {kind} | {text} |")
    return "\n".join(rows) + "\n"


def main(argv: list[str]) -> int:
    """Write the page to the file that is named, or to stdout."""
    page = render()
    if not argv:
        sys.stdout.write(page)
        return 0
    with open(argv[0], "w", encoding="utf-8") as file:
        file.write(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
