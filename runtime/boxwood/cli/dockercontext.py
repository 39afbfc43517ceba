"""Docker's contexts, read for the program that was called as `docker`."""

from __future__ import annotations

import hashlib
import os

from boxwood.cli.errors import CliError
from boxwood.client import jsonwire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.context import Context


def context_host(ctx: Context) -> str | None:
    """The address of the context that --context, DOCKER_CONTEXT or the configuration names.

    None for the default context. Raises CliError for a context that is not there. The store's
    layout is `contexts/meta/<sha256 of the name>/meta.json`.
    """
    name = ctx.options["context"] or ctx.environ("CONTEXT") or ctx.config.get("currentContext")
    if not name or name == "default":
        return None
    digest = hashlib.sha256(name.encode()).hexdigest()
    path = os.path.join(ctx.config_dir, "contexts", "meta", digest, "meta.json")
    try:
        with open(path, "rb") as file:
            meta = jsonwire.loads(file.read())
        return str(meta["Endpoints"]["docker"]["Host"])
    except FileNotFoundError as error:
        raise CliError(
            f'Current context "{name}" is not found on the file system, '
            "please check your config file"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CliError(f"context: {name}: {path}: {error}") from error
