"""What every command is handed: its name, the global flags, the configuration, the client."""

from __future__ import annotations

import os
import sys

from boxwood.cli.errors import CliError
from boxwood.client.address import DEFAULT_ADDRESS, Address, parse_address
from boxwood.client.client import Client
from boxwood.client.errors import ConnectError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.client.tls import TlsFiles

_LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")


class Context:
    """`prog` is how the program was called, `name` that with the command (`boxwood run`).

    `argv` is the whole command line behind the program's name, `given` the names of the command's
    flags that were in it.
    """

    def __init__(self, prog: str, options: Values, argv: list[str]) -> None:
        self.prog = prog
        self.argv = argv
        self.name = prog
        self.options = options
        self.given: set[str] = set()
        self._client: Client | None = None
        self._config: dict[str, Any] | None = None

    @property
    def is_docker(self) -> bool:
        """Whether we were called through a link named `docker`, and so are one."""
        return self.prog == "docker"

    @property
    def product(self) -> str:
        """The engine's name in sentences: `Boxwood`, or `Docker` when called as `docker`."""
        return "Docker" if self.is_docker else "Boxwood"

    @property
    def config_dir(self) -> str:
        """The folder of `config.json`: --config, the environment, `~/.docker`."""
        chosen = self.options["config"] or self.environ("CONFIG") or os.environ.get("DOCKER_CONFIG")
        return chosen or os.path.join(os.path.expanduser("~"), ".docker")

    def forget_config(self) -> None:
        """It was changed: the next who asks reads it again."""
        self._config = None

    @property
    def config(self) -> dict[str, Any]:
        """`config.json`'s keys, read at the first use; {} when there is none."""
        if self._config is None:
            path = os.path.join(self.config_dir, "config.json")
            try:
                self._config = read_config(path)
            except (OSError, ValueError) as error:
                # As Docker: a file that cannot be read keeps nobody from working.
                self._config = {}
                self.err(f"WARNING: Error loading config file: {path}: {error}")
        return self._config

    @property
    def host(self) -> str:
        """The address of the engine that is spoken to. Raises CliError."""
        return self._target()[0].text

    @property
    def client(self) -> Client:
        """A connected client. Raises ConnectError, CliError.

        Where the engine is our own default one and none runs, it is started.
        """
        if self._client is None:
            self._client = self._connect()
        return self._client

    def new_client(self) -> Client:
        """Another client for the same engine, not connected yet: for what runs beside."""
        address, tls, _ = self._target()
        return self._made(address, tls)

    def client_at(self, text: str) -> Client:
        """A client for another engine, not connected yet. Raises CliError."""
        return self._made(*self._address(text))

    def _made(self, address: Address, tls: TlsFiles | None) -> Client:
        headers = self.config.get("HttpHeaders") or {}
        return Client(
            address,
            tls=tls,
            version=self.environ("API_VERSION") or None,
            headers={key: str(value) for key, value in headers.items() if key != "User-Agent"},
        )

    def environ(self, name: str) -> str:
        """`BOXWOOD_<name>`; called as `docker`, `DOCKER_<name>`. Empty when absent."""
        prefix = "DOCKER" if self.is_docker else "BOXWOOD"
        return os.environ.get(f"{prefix}_{name}", "")

    def out(self, text: str) -> None:
        """One line to stdout."""
        sys.stdout.write(text + "\n")

    def err(self, text: str) -> None:
        """One line to stderr, after all that stdout was told before."""
        sys.stdout.flush()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def check_options(self) -> None:
        """Refuse contradictions among the global flags. Raises CliError."""
        if len(self.options["host"]) > 1:
            raise CliError("Specify only one -H")
        level = self.options["log_level"]
        if level not in _LOG_LEVELS:
            raise CliError(f"Unable to parse logging level: {level}")
        if self.options["host"] and self.options["context"]:
            raise CliError("conflicting options: cannot specify both --host and --context")

    def _connect(self) -> Client:
        client = self.new_client()
        try:
            client.connect()
        except ConnectError as error:
            if error.reason != "missing" or not self._may_start():
                raise
            from boxwood.cli.autostart import start_engine

            start_engine(self)
            client.connect()
        return client

    def _may_start(self) -> bool:
        on = os.environ.get("BOXWOOD_AUTOSTART", "1") not in ("0", "false", "no")
        return on and self._target()[2]

    def _target(self) -> tuple[Address, TlsFiles | None, bool]:
        """The address, the TLS files for it, and whether it is our default one."""
        text, default = self._host()
        return *self._address(text), default

    def _address(self, text: str) -> tuple[Address, TlsFiles | None]:
        tls = None if text.startswith(("unix://", "ssh://")) else self._tls()
        try:
            return parse_address(text, tls=tls is not None, program=self.prog), tls
        except ValueError as error:
            raise CliError(str(error)) from error

    def _host(self) -> tuple[str, bool]:
        """design.md section 8: -H, the environment, (as `docker`) the context, the default."""
        if self.options["host"]:
            return self.options["host"][0], False
        if self.options["context"] and not self.is_docker:
            raise CliError("--context: contexts are Docker's: use -H or BOXWOOD_HOST")
        if not self.options["context"] and (host := self.environ("HOST")):
            return host, False
        if self.is_docker:
            from boxwood.cli.dockercontext import context_host

            if chosen := context_host(self):
                return chosen, False
        return DEFAULT_ADDRESS, True

    def _tls(self) -> TlsFiles | None:
        verify = self.options["tlsverify"] or bool(self.environ("TLS_VERIFY"))
        if not (self.options["tls"] or verify):
            return None
        from boxwood.client.tls import TlsFiles

        folder = self.environ("CERT_PATH") or self.config_dir
        return TlsFiles(
            self.options["tlscacert"] or os.path.join(folder, "ca.pem"),
            self.options["tlscert"] or os.path.join(folder, "cert.pem"),
            self.options["tlskey"] or os.path.join(folder, "key.pem"),
            verify=verify,
        )


def read_config(path: str) -> dict[str, Any]:
    """The configuration file's object, {} without one or if it is empty; OSError, ValueError."""
    from boxwood.client import jsonwire

    try:
        with open(path, "rb") as file:
            value = jsonwire.loads(file.read().strip() or b"{}")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value
