"""Which command is where: names to the modules of `boxwood.cli.commands`.

Data only: nothing is imported before it is known which command was typed. A module that runs one
command has it as `COMMAND`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Command

# Commands that stand at the top and in a group alike: name -> module.
CONTAINER = {
    name: name
    for name in [
        "attach",
        "commit",
        "cp",
        "create",
        "diff",
        "exec",
        "export",
        "kill",
        "logs",
        "pause",
        "port",
        "rename",
        "restart",
        "rm",
        "run",
        "start",
        "stats",
        "stop",
        "top",
        "unpause",
        "update",
        "wait",
    ]
}
_IMAGE = {
    name: name for name in ["build", "history", "import", "load", "pull", "push", "save", "tag"]
}
_PLAIN = {
    name: name for name in ["events", "info", "inspect", "login", "logout", "search", "version"]
}
_OWN = {name: name for name in ["completion", "copy", "daemon", "doctor"]}

TOP: dict[str, str] = {
    **CONTAINER,
    **_IMAGE,
    **_PLAIN,
    **_OWN,
    "images": "images",
    "ps": "ps",
    "rmi": "rmi",
}

# Management commands: name -> what it says of itself, and its commands.
GROUPS: dict[str, tuple[str, dict[str, str]]] = {
    "bench": (
        "Measure what this machine and its drivers can do",
        {
            "network": "bench_network",
            "registry": "bench_registry",
            "storage": "bench_storage",
        },
    ),
    "builder": ("Manage builds", {"build": "build", "prune": "builder_prune"}),
    "container": (
        "Manage containers",
        {**CONTAINER, "inspect": "container_inspect", "ls": "ps", "prune": "container_prune"},
    ),
    "image": (
        "Manage images",
        {**_IMAGE, "inspect": "image_inspect", "ls": "images", "mirror": "image_mirror",
         "prune": "image_prune", "rm": "rmi", "verify": "image_verify"},
    ),
    "manifest": (
        "Manage manifests of images, and lists of them",
        {name: f"manifest_{name}" for name in ["annotate", "create", "inspect", "push", "rm"]},
    ),
    "network": (
        "Manage networks",
        {name: f"network_{name}"
         for name in ["connect", "create", "disconnect", "inspect", "ls", "prune", "rm"]},
    ),
    "plugin": ("Show what extends the engine", {"ls": "plugin_ls", "test": "plugin_test"}),
    "system": (
        "Manage the engine",
        {"df": "system_df", "dial-stdio": "system_dial_stdio", "events": "events",
         "fsck": "system_fsck", "info": "info", "prune": "system_prune"},
    ),
    "volume": (
        "Manage volumes",
        {name: f"volume_{name}" for name in ["create", "inspect", "ls", "prune", "rm"]},
    ),
}  # fmt: skip

# Other names of a group's commands.
ALIASES: dict[str, dict[str, str]] = {
    "container": {"list": "ls", "ps": "ls", "remove": "rm"},
    "image": {"list": "ls", "remove": "rm"},
    "network": {"list": "ls", "remove": "rm"},
    "plugin": {"list": "ls"},
    "volume": {"list": "ls", "remove": "rm"},
}

# What Docker has and this engine leaves out on purpose, and why.
LEFT_OUT = {
    **dict.fromkeys(
        ("config", "node", "secret", "service", "stack", "swarm"), "swarm is out of scope"
    ),
    "trust": "content trust has gone from Docker too; see `boxwood image verify`",
}


def load(module: str) -> Command:
    """The declaration in `boxwood.cli.commands.<module>`."""
    name = f"boxwood.cli.commands.{module}"
    command: Command = __import__(name, fromlist=("COMMAND",)).COMMAND
    return command


def walk() -> list[tuple[str, str]]:
    """Every command as (`container ls`, module), in the order of names."""
    pairs = list(TOP.items())
    for group, (_, members) in GROUPS.items():
        pairs += [(f"{group} {name}", module) for name, module in members.items()]
    return sorted(pairs)


def spellings(module: str) -> list[str]:
    """All ways to type a module's command, groups first, as Docker's help lists them."""
    names: list[str] = []
    for group, (_, members) in GROUPS.items():
        for name in members:
            if members[name] == module:
                aliases = [key for key, to in ALIASES.get(group, {}).items() if to == name]
                names += [f"{group} {spelling}" for spelling in (name, *aliases)]
    return names + [name for name, at in TOP.items() if at == module]
