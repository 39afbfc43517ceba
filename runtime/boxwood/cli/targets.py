"""Commands that do one thing to each of several targets."""

from __future__ import annotations

from boxwood.cli.errors import CliError
from boxwood.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from boxwood.cli.context import Context
    from boxwood.client.client import Query

# How many requests are under way at once: Docker's number.
AT_ONCE = 50


def each(
    ctx: Context,
    names: list[str],
    method: str,
    path: Callable[[str], str],
    query: Query | None = None,
    *,
    tolerate: Callable[[ApiError], bool] | None = None,
    show: Callable[[str, object], None] | None = None,
) -> int:
    """Send one request per name, many at once; answers in the order of names.

    A success echoes the name as typed (or calls `show` with the answer), a failure is a line on
    stderr and makes the exit code 1 unless it is tolerated.
    """
    if "" in names:
        raise CliError("invalid container name or ID: value is empty")
    code = 0
    client = ctx.client
    for start in range(0, len(names), AT_ONCE):
        batch = names[start : start + AT_ONCE]
        sent = [client.send(method, path(name), query=query) for name in batch]
        for name, connection in zip(batch, sent, strict=True):
            try:
                answer = client.receive(connection, method).json()
            except ApiError as error:
                ctx.err(f"Error response from daemon: {error.message}")
                code = code if tolerate is not None and tolerate(error) else 1
            else:
                _echo(ctx, name, answer, show)
    return code


def _echo(
    ctx: Context, name: str, answer: object, show: Callable[[str, object], None] | None
) -> None:
    if show is None:
        ctx.out(name)
    else:
        show(name, answer)
