"""Writes the pages of docs/ that are made from the code: `python docs/render.py`.

Run by `./dev docs`; tests/house/test_docs.py fails when a page is not what this would write.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from boxwood import configuration
from boxwood.api import coverage
from boxwood.cli import docs as cli

HERE = Path(__file__).parent

CONFIGURATION = """# Configuration

The daemon reads `/etc/boxwood/daemon.json`, or the file that `--config-file` names: one JSON object
under the keys of dockerd's `daemon.json`, as far as they mean anything here. Each key has a flag of
`boxwood daemon`; a list's flag is in the singular and may be repeated (`--storage-opt`, `--label`).
A key that is unknown, of the wrong type, or given both in the file and as a flag, is an error that
names it. This page is rendered from the code (`./dev docs`).

```json
{
  "data-root": "/srv/boxwood",
  "log-opts": {"max-size": "50m", "max-file": "3"},
  "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1024, "Hard": 4096}}
}
```

Several engines live side by side on one machine when each has its own `--data-root`,
`--exec-root` and `-H`. Two on one data root do not: the second refuses to start.

On SIGHUP the file is read again. What changes without a restart is marked with ↻.

| key | default | meaning |
| --- | --- | --- |
"""


def _shown(value: object) -> str:
    """Show a default as it would stand in the file."""
    return f"`{msgspec.json.encode(value).decode()}`"


def render_configuration() -> str:
    """Render docs/configuration.md."""
    defaults = msgspec.to_builtins(configuration.Configuration())
    rows = [
        f"| `{key}`{' ↻' if key in configuration.RELOADED else ''} | {_shown(defaults[key])} "
        f"| {meaning} |"
        for key, meaning in configuration.DOCS.items()
    ]
    return CONFIGURATION + "\n".join(rows) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "api-coverage.md": coverage.render,
    "cli.md": cli.render,
    "configuration.md": render_configuration,
}


if __name__ == "__main__":
    for name, render in PAGES.items():
        (HERE / name).write_text(render())
