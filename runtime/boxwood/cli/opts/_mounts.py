"""The grammars of `--volume` and `--mount`."""

from __future__ import annotations

import os

from boxwood.cli.opts._csv import parse_csv
from boxwood.cli.opts._errors import FlagError, OptError
from boxwood.cli.opts._scalars import parse_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


def _absolute(path: str) -> str:
    """A path that starts with a dot, from the working directory; others as they are."""
    return os.path.abspath(path) if path.startswith(".") else path


# -- --volume


def volume(spec: str) -> tuple[str | None, str | None]:
    """One `--volume`: a bind for HostConfig.Binds, or the path of an anonymous volume.

    Relative sources are made absolute; the options are left to the daemon. Raises OptError.
    """
    if not spec:
        raise OptError("invalid empty volume spec")
    if len(spec) <= 2:
        return None, spec
    parts = _split(spec)
    if not all(parts):
        raise OptError(f"invalid spec: {spec}: empty section between colons")
    if len(parts) > 3:
        raise OptError(f"invalid spec: {spec}: too many colons")
    if len(parts) == 1:
        return None, spec
    source = parts[0]
    if source[0] == ".":
        return _absolute(source) + spec[len(source) :], None
    return spec, None


def _split(spec: str) -> list[str]:
    """The parts between colons; a drive letter's colon (`c:\\x`) parts nothing."""
    parts = spec.split(":")
    if len(parts) > 2 and len(parts[0]) == 1 and parts[0].isalpha() and parts[1][:1] == "\\":
        return [f"{parts[0]}:{parts[1]}", *parts[2:]]
    return parts


# -- --mount


class _Mount:
    """A mount while its fields are read; option groups exist once one of theirs was set."""

    def __init__(self) -> None:
        self.base: dict[str, Any] = {"Type": "volume"}
        self.groups: dict[str, dict[str, Any]] = {}

    def group(self, kind: str) -> dict[str, Any]:
        """The options of a kind (bind, volume, image, tmpfs)."""
        if kind not in self.groups:
            self.groups[kind] = {"DriverConfig": {}} if kind == "volume" else {}
        return self.groups[kind]

    def document(self) -> dict[str, Any]:
        """The mount as the API has it, empty fields left out."""
        found = {key: value for key, value in self.base.items() if value}
        for kind, options in self.groups.items():
            kept = {k: v for k, v in options.items() if v or k == "DriverConfig"}
            if kind == "volume":
                kept["DriverConfig"] = {k: v for k, v in kept["DriverConfig"].items() if v}
            found[f"{kind.capitalize()}Options"] = kept
        return found


def mount(text: str) -> dict[str, Any]:
    """One `--mount` as HostConfig.Mounts has it. Raises FlagError."""
    try:
        return _mount(text)
    except OptError as error:
        raise FlagError(text, "--mount", str(error)) from None


def _mount(text: str) -> dict[str, Any]:
    found = _Mount()
    for field in parse_csv(text):
        name, equals, value = field.partition("=")
        key = name.lower()
        if not equals:
            _set_bare(found, key, field)
        elif key in _BASE:
            _set_base(found.base, key, value)
        elif key in _OPTIONS:
            kind, setter = _OPTIONS[key]
            setter(found.group(kind), key, value)
        else:
            raise OptError(f"unexpected key '{key}' in '{field}'")
    _check(found)
    return found.document()


def _set_bare(found: _Mount, key: str, field: str) -> None:
    """A field without a value: a flag that is set."""
    if key in ("readonly", "ro"):
        found.base["ReadOnly"] = True
    elif key == "volume-nocopy":
        found.group("volume")["NoCopy"] = True
    elif key == "bind-nonrecursive":
        found.group("bind")["NonRecursive"] = True
    elif key == "bind-create-src":
        found.group("bind")["CreateMountpoint"] = True
    else:
        raise OptError(f"invalid field '{field}' must be a key=value pair")


_BASE = {
    "type": "Type",
    "source": "Source",
    "src": "Source",
    "target": "Target",
    "dst": "Target",
    "destination": "Target",
    "readonly": "ReadOnly",
    "ro": "ReadOnly",
    "consistency": "Consistency",
}


def _set_base(base: dict[str, Any], key: str, value: str) -> None:
    name = _BASE[key]
    if name == "Source":
        base[name] = _absolute(value)
    elif name == "ReadOnly":
        base[name] = _flag(key, value)
    else:
        base[name] = value if name == "Target" else value.lower()


def _flag(key: str, value: str) -> bool:
    if value not in _TRUE and value not in _FALSE:
        raise OptError(f"invalid value for {key}: {value}")
    return value in _TRUE


def _recursive(options: dict[str, Any], key: str, value: str) -> None:
    names = {
        "enabled": "",
        "disabled": "NonRecursive",
        "writable": "ReadOnlyNonRecursive",
        "readonly": "ReadOnlyForceRecursive",
    }
    if value not in names:
        raise OptError(
            f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", '
            'or "readonly")'
        )
    if names[value]:
        options[names[value]] = True


def _boolean(name: str) -> Any:
    def setter(options: dict[str, Any], key: str, value: str) -> None:
        options[name] = _flag(key, value)

    return setter


def _text(name: str) -> Any:
    def setter(options: dict[str, Any], _key: str, value: str) -> None:
        options[name] = value.lower() if name == "Propagation" else value

    return setter


def _pair(options: dict[str, Any], value: str) -> None:
    key, _, setting = value.partition("=")
    if key:
        options[key] = setting


def _label(options: dict[str, Any], _key: str, value: str) -> None:
    _pair(options.setdefault("Labels", {}), value)


def _driver(options: dict[str, Any], _key: str, value: str) -> None:
    options["DriverConfig"]["Name"] = value


def _driver_option(options: dict[str, Any], _key: str, value: str) -> None:
    _pair(options["DriverConfig"].setdefault("Options", {}), value)


def _size(options: dict[str, Any], key: str, value: str) -> None:
    try:
        options["SizeBytes"] = parse_bytes(value)
    except OptError:
        raise OptError(f"invalid value for {key}: {value}") from None


def _mode(options: dict[str, Any], key: str, value: str) -> None:
    if not value or any(digit not in "01234567" for digit in value) or int(value, 8) >> 32:
        raise OptError(f"invalid value for {key}: {value}")
    options["Mode"] = int(value, 8)


_OPTIONS: dict[str, tuple[str, Any]] = {
    "bind-propagation": ("bind", _text("Propagation")),
    "bind-nonrecursive": ("bind", _boolean("NonRecursive")),
    "bind-recursive": ("bind", _recursive),
    "bind-create-src": ("bind", _boolean("CreateMountpoint")),
    "volume-subpath": ("volume", _text("Subpath")),
    "volume-nocopy": ("volume", _boolean("NoCopy")),
    "volume-label": ("volume", _label),
    "volume-driver": ("volume", _driver),
    "volume-opt": ("volume", _driver_option),
    "image-subpath": ("image", _text("Subpath")),
    "tmpfs-size": ("tmpfs", _size),
    "tmpfs-mode": ("tmpfs", _mode),
}


def _check(found: _Mount) -> None:
    """What belongs together, and what does not."""
    kind = found.base["Type"]
    if not kind:
        raise OptError("type is required")
    if not found.base.get("Target"):
        raise OptError("target is required")
    for group in ("volume", "bind", "image", "tmpfs"):
        if group in found.groups and kind != group:
            raise OptError(f"cannot mix '{group}-*' options with mount type '{kind}'")
    bind = found.groups.get("bind")
    if bind is not None:
        if not bind:  # bind-recursive=enabled alone says nothing
            del found.groups["bind"]
        _check_bind(bind, bool(found.base.get("ReadOnly")))


_NEED_READ_ONLY = (("ReadOnlyNonRecursive", "writable"), ("ReadOnlyForceRecursive", "readonly"))


def _check_bind(bind: dict[str, Any], read_only: bool) -> None:
    needs = "to be specified in conjunction"
    for name, value in _NEED_READ_ONLY:
        if bind.get(name) and not read_only:
            raise OptError(f"option 'bind-recursive={value}' requires 'readonly' {needs}")
    if bind.get("ReadOnlyForceRecursive") and bind.get("Propagation") != "rprivate":
        raise OptError(
            f"option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' {needs}"
        )
