"""Completion in the shell: the scripts, and the words that they ask for.

The scripts call `boxwood __complete WORDS...`; candidates come one a line from the declarations,
names of containers, images, volumes and networks from a running engine.
"""

from __future__ import annotations

from boxwood.cli import tree
from boxwood.cli.options import GLOBAL_FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from boxwood.cli.command import Command, Flag
    from boxwood.cli.context import Context

# What a command's arguments name, by module; others take files or words.
_CONTAINERS = (tree.CONTAINER.keys() - {"cp", "create", "run"}) | {"container_inspect", "inspect"}
_IMAGES = frozenset(["create", "history", "image_inspect", "push", "rmi", "run", "save", "tag"])
_VOLUMES = frozenset(("volume_inspect", "volume_rm"))
_NETWORKS = frozenset(("network_connect", "network_disconnect", "network_inspect", "network_rm"))

_BASH = """_{prog}_complete() {{
    local IFS=$'\\n' words=("${{COMP_WORDS[@]:1:COMP_CWORD}}")
    COMPREPLY=($({prog} __complete "${{words[@]}}" 2>/dev/null))
    [[ ${{#COMPREPLY[@]}} -gt 0 ]] || compopt -o default
}}
complete -F _{prog}_complete {prog}"""

_ZSH = """#compdef {prog}
_{prog}_complete() {{
    local -a found
    found=("${{(@f)$({prog} __complete "${{(@)words[2,CURRENT]}}" 2>/dev/null)}}")
    if [[ -n "${{found[*]}}" ]]; then compadd -a found; else _files; fi
}}
compdef _{prog}_complete {prog}"""

# Where there are no candidates the second line does not hold, and fish offers files by itself.
_FISH = """function __{prog}_complete
    set -l words (commandline -opc) (commandline -ct)
    set -g __{prog}_found ({prog} __complete $words[2..-1] 2>/dev/null)
    set -q __{prog}_found[1]
end
complete -c {prog} -n __{prog}_complete -f -a '$__{prog}_found'"""


def script(prog: str, shell: str) -> str:
    """The script for `bash`, `zsh` or `fish`."""
    return {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell].format(prog=prog)


def complete(ctx: Context, words: list[str]) -> list[str]:
    """Candidates for the last of `words`, which may be empty."""
    *before, last = words or [""]
    module, rest = _find(before)
    if module is None:
        return _matching(last, _at_root(rest, last))
    command = tree.load(module)
    if not command.interspersed and _positionals(command, rest):
        return []
    if last.startswith("-"):
        return _matching(last, _flags(command.flags))
    return _matching(last, _objects(ctx, module))


def _find(before: list[str]) -> tuple[str | None, list[str]]:
    """The command that was typed and what followed; (None, words) while there is none."""
    words = list(before)
    while words and words[0].startswith("-"):
        taken = words.pop(0)
        if "=" not in taken and words and not _is_bool(taken):
            words.pop(0)
    if words and words[0] in tree.GROUPS:
        members = tree.GROUPS[words[0]][1]
        aliases = tree.ALIASES.get(words[0], {})
        if len(words) > 1 and (name := aliases.get(words[1], words[1])) in members:
            return members[name], words[2:]
        return None, words
    if words and words[0] in tree.TOP:
        return tree.TOP[words[0]], words[1:]
    return None, words


def _is_bool(text: str) -> bool:
    return any(
        flag.kind == "bool" and text in (f"--{flag.name}", f"-{flag.short}")
        for flag in GLOBAL_FLAGS
    )


def _at_root(words: list[str], last: str) -> list[str]:
    if words and words[0] in tree.GROUPS:
        return list(tree.GROUPS[words[0]][1])
    if words:
        return []
    if last.startswith("-"):
        return _flags(GLOBAL_FLAGS)
    return [*tree.TOP, *tree.GROUPS]


def _flags(flags: Iterable[Flag]) -> list[str]:
    shown = [flag for flag in flags if not flag.hidden]
    return [f"--{flag.name}" for flag in shown] + [f"-{flag.short}" for flag in shown if flag.short]


def _positionals(command: Command, words: list[str]) -> bool:
    """Whether a positional argument is among the words."""
    bools = {f"--{flag.name}" for flag in command.flags if flag.kind == "bool"}
    skip = False
    for word in words:
        if skip:
            skip = False
        elif not word.startswith("-"):
            return True
        else:
            skip = word.startswith("--") and "=" not in word and word not in bools
    return False


def _objects(ctx: Context, module: str) -> list[str]:
    from boxwood.client.errors import ClientError

    try:
        return _ask(ctx, module)
    except ClientError:  # no engine, no names: completion has nobody to tell
        return []


def _ask(ctx: Context, module: str) -> list[str]:
    client = ctx.new_client()
    if module in _CONTAINERS:
        found = client.get("/containers/json", {"all": True})
        return [name.lstrip("/") for item in found for name in item["Names"]]
    if module in _IMAGES:
        return [tag for item in client.get("/images/json") for tag in item["RepoTags"] or ()]
    if module in _VOLUMES:
        return [item["Name"] for item in client.get("/volumes")["Volumes"] or ()]
    if module in _NETWORKS:
        return [item["Name"] for item in client.get("/networks")]
    return []


def _matching(prefix: str, candidates: Iterable[str]) -> list[str]:
    return sorted(word for word in set(candidates) if word.startswith(prefix))
