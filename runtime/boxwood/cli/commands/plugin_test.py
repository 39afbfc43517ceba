"""`plugin test`: the conformance kit of a driver's kind, run here, and a grade."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

KINDS = ("storage", "isolation", "network", "volume", "log", "registry")


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Run the kit and print the grade; 0 when all that was tried holds."""
    import json
    import subprocess
    import tempfile
    from pathlib import Path

    kind = values["kind"] or "storage"
    if kind not in KINDS:
        raise CliError(f"plugin test: {kind}: no such kind; one of {', '.join(KINDS)}")
    _need_pytest()
    _need_driver(kind, args[0])
    root = values["root"]
    if root and not Path(root).is_dir():
        raise CliError(f"plugin test: {root}: no such folder")
    with tempfile.TemporaryDirectory(
        prefix="boxwood-kit-", dir=root and Path(root).absolute(), ignore_cleanup_errors=True
    ) as folder:
        report = Path(folder, "report.json")
        command = _command(kind, args[0], values, folder)
        quiet = None if values["verbose"] else subprocess.PIPE
        done = subprocess.run(
            command, cwd=folder, stdout=quiet, stderr=quiet, text=True, check=False
        )
        if not report.exists():
            said = (done.stderr or done.stdout or "").strip().splitlines()
            raise CliError(f"plugin test: {args[0]}: pytest: {said[-1] if said else 'no report'}")
        found = json.loads(report.read_text())
    _show(ctx, found, f"{kind} {args[0]}")
    held = found["grade"] in ("A", "B")
    return 0 if held else 1


def _need_pytest() -> None:
    from importlib.util import find_spec

    if find_spec("pytest") is None:
        raise CliError("plugin test: pytest: is missing; install it: pip install pytest")


def _need_driver(kind: str, name: str) -> None:
    from importlib.metadata import entry_points

    names = sorted(point.name for point in entry_points(group=f"boxwood.{kind}"))
    if name not in names:
        raise CliError(
            f"plugin test: {name}: no {kind} driver of this name is installed; "
            f"there are {', '.join(names)}"
        )


def _command(kind: str, name: str, values: Values, folder: str) -> list[str]:
    import sys

    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    command += ["-v", "-rs"] if values["verbose"] else ["-q", "--tb=short"]
    if not _entry_point():
        command += ["-p", "boxwood.testing.plugin"]
    command += [f"--boxwood-{kind}={name}", f"--boxwood-report={folder}/report.json"]
    command.append(f"--basetemp={folder}/roots")
    command += [f"--boxwood-{kind}-opt={option}" for option in values["opt"] or ()]
    if values["thorough"]:
        command.append("--boxwood-thorough")
    return [*command, "--pyargs", f"boxwood.testing.{kind}"]


def _entry_point() -> bool:
    """Does pytest find the kit's plugin by itself?"""
    from importlib.metadata import entry_points

    return any(point.value == "boxwood.testing.plugin" for point in entry_points(group="pytest11"))


def _show(ctx: Context, found: dict[str, Any], what: str) -> None:
    groups: dict[str, list[dict[str, Any]]] = {}
    for law in found["laws"]:
        groups.setdefault(law["group"], []).append(law)
    for group, laws in groups.items():
        ctx.out(f"{group:<12} {_held(laws)} of {len(laws)} hold")
        for law in laws:
            if law["outcome"] != "passed":
                ctx.out(f"  {law['outcome']}: {law['law']}: {law['why']}")
    laws = found["laws"]
    skipped = sum(law["outcome"] == "skipped" for law in laws)
    tail = f", {skipped} left out" if skipped else ""
    ctx.out(f"\n{what}: grade {found['grade']}: {_held(laws)} of {len(laws)} laws hold{tail}")


def _held(laws: list[dict[str, Any]]) -> int:
    return sum(law["outcome"] == "passed" for law in laws)


COMMAND = Command(
    run,
    "Run the conformance kit on an installed driver and grade it",
    "[OPTIONS] NAME",
    (
        Flag("kind", "string", f'Kind of the driver ({", ".join(KINDS)}; default "storage")'),
        Flag("opt", "list", "Option for the driver (KEY=VALUE)"),
        Flag("root", "string", "Where the driver's roots are made; default: a temporary folder"),
        Flag("thorough", "bool", "Try every system call, not every tenth (minutes)"),
        Flag("verbose", "bool", "Show pytest's own output", "v"),
    ),
    least=1,
    most=1,
)
