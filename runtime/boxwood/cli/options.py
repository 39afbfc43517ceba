"""The flags that stand before the command."""

from __future__ import annotations

from boxwood.cli.command import Flag

GLOBAL_FLAGS = (
    Flag("config", "string", "Folder of the client's configuration (default ~/.docker)"),
    Flag("context", "string", "Context that names the engine (only as `docker`)", "c"),
    Flag("debug", "bool", "Show how a failure came about", "D"),
    Flag("host", "list", "Engine to speak to: unix://PATH or tcp://HOST:PORT", "H"),
    Flag(
        "log-level",
        "string",
        "Least important message to log: debug, info, warn, error or fatal",
        "l",
        default="info",
    ),
    Flag("tls", "bool", "Speak TLS to a tcp:// engine; implied by --tlsverify"),
    Flag("tlscacert", "string", "Trust only certificates that this authority signed"),
    Flag("tlscert", "string", "The client's own certificate"),
    Flag("tlskey", "string", "The key of the client's certificate"),
    Flag("tlsverify", "bool", "Speak TLS and verify the engine's certificate"),
    Flag("version", "bool", "Print the version and quit", "v"),
)
