"""Commands that plugins add: entry points of the group `boxwood.command`, each a click command."""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint, entry_points

from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.context import Context

GROUP = "boxwood.command"
# Where Docker's own command line looks for the programs behind `docker compose` and the like,
# after `cli-plugins` in the folder of the configuration.
DOCKER_PLUGINS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)


def plugin_commands() -> list[EntryPoint]:
    """The commands that plugins declare, by name; none is imported."""
    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def run_docker_plugin(ctx: Context, name: str) -> None:
    """Become Docker's plugin of that name, led to our engine; returns when there is none."""
    if not name.replace("-", "").isalnum():
        return
    for folder in (os.path.join(ctx.config_dir, "cli-plugins"), *DOCKER_PLUGINS):
        path = os.path.join(folder, f"docker-{name}")
        if os.access(path, os.X_OK):
            ctx.client.close()  # an engine that none has started yet is started now
            environment = {**os.environ, "DOCKER_HOST": ctx.host}
            environment["DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND"] = ctx.prog
            os.execve(path, [path, *ctx.argv], environment)


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
