"""`logs`: what a container has printed."""

from __future__ import annotations

from boxwood.cli import session, streams
from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context
    from boxwood.client.client import Query, Response

MULTIPLEXED = "application/vnd.docker.multiplexed-stream"


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print the log, the container's stdout and stderr each to our own."""
    path = f"/containers/{quote(args[0])}"
    if values["network"]:
        return _network(ctx, path)
    response = ctx.client.request("GET", f"{path}/logs", query=_query(values))
    sink = _sink(ctx, path, response)
    for piece in response.pieces():
        sink.feed(memoryview(piece))
    sink.finish()
    return 0


def _network(ctx: Context, path: str) -> int:
    """Print the names that a container under an egress policy asked for, and the destinations that
    it was refused, the latest last."""
    found = ctx.client.get(f"/boxwood{path}/egress")
    if found["Policy"] is None:
        raise CliError("the container has no egress policy: nothing is written down")
    for one in sorted([*found["Names"], *found["Refused"]], key=lambda one: str(one["Last"])):
        verdict = "allowed" if one["Allowed"] else "refused"
        ctx.out(f"{one['Last']} {verdict} {one['Count']} {one['Name']}")
    if found["Policy"] == "learn" and found["Names"]:
        ctx.out("--egress allow=" + ",".join(sorted(one["Name"] for one in found["Names"])))
    return 0


def _query(values: Values) -> Query:
    return {
        "stdout": True,
        "stderr": True,
        "follow": values["follow"] or None,
        "timestamps": values["timestamps"] or None,
        "details": values["details"] or None,
        "tail": values["tail"],
        "since": _moment("since", values["since"]),
        "until": _moment("until", values["until"]),
    }


def _moment(name: str, text: str | None) -> str | None:
    if not text:
        return None
    from boxwood.cli.opts import OptError, parse_time

    try:
        return parse_time(text)
    except OptError as error:
        raise CliError(f'invalid value for "{name}": {error}') from error


def _sink(ctx: Context, path: str, response: Response) -> streams.Demultiplexer | streams.Verbatim:
    """A terminal's log is not framed. Engines before API 1.42 do not say which it is."""
    if response.headers.get("content-type", "") != MULTIPLEXED:
        container = ctx.client.get(f"{path}/json")
        if container["Config"]["Tty"]:
            return streams.Verbatim(session.STDOUT)
    return streams.Demultiplexer(session.STDOUT, session.STDERR)


COMMAND = Command(
    run,
    "Fetch the logs of a container",
    "[OPTIONS] CONTAINER",
    (
        Flag("details", "bool", "Show what else the log driver was told to keep"),
        Flag("follow", "bool", "Go on with what is printed from now on", "f"),
        Flag("network", "bool", "Show what it asked for and was refused, under an egress policy"),
        Flag("since", "string", "Show what came after a time (RFC 3339) or a duration ago (42m)"),
        Flag("tail", "string", "Show this many lines of the end", "n", default="all"),
        Flag("timestamps", "bool", "Show the time of each line", "t"),
        Flag("until", "string", "Show what came before a time (RFC 3339) or a duration ago (42m)"),
    ),
    least=1,
    most=1,
)
