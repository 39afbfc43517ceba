"""Commands that plugins add: entry points of the group `boxwood.command`, each a click command."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.context import Context

GROUP = "boxwood.command"


def plugin_commands() -> list[EntryPoint]:
    """The commands that plugins declare, by name; none is imported."""
    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def run_plugin_command(ctx: Context, name: str, argv: list[str]) -> int | None:
    """Run a plugin's command; None when no plugin has one of that name.

    The command's `obj` is the Context. Raises CliError, naming the plugin, when it cannot load.
    """
    points = [point for point in plugin_commands() if point.name == name]
    if not points:
        return None
    import click

    try:
        command = points[0].load()
    except Exception as error:  # a stranger's module: whatever it raises names the plugin
        raise CliError(f"plugin command: {name}: {points[0].value}: {error}") from error
    if not isinstance(command, click.Command):
        raise CliError(f"plugin command: {name}: {points[0].value}: not a click command")
    try:
        result = command.main(argv, prog_name=f"{ctx.prog} {name}", standalone_mode=False, obj=ctx)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 1
    return result if isinstance(result, int) else 0
