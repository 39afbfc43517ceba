"""Devices, GPUs, and limits on devices."""

from __future__ import annotations

from posixpath import normpath

from boxwood.cli.opts._csv import parse_csv
from boxwood.cli.opts._errors import OptError
from boxwood.cli.opts._limits import to_map
from boxwood.cli.opts._scalars import parse_bytes, parse_int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WEIGHTS = range(10, 1001)  # of the kernel's blkio controller
_BPS_FORMAT = (
    "The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. "
    "Unit is optional and can be kb, mb, or gb"
)
_IOPS_FORMAT = "The correct format is <device-path>:<number>. Number must be a positive integer"


def devices(specs: list[str]) -> tuple[list[dict[str, str]], list[str]]:
    """Device mappings, and the names that CDI resolves. Raises OptError."""
    mappings, names = [], []
    for spec in specs:
        if is_cdi_name(spec):
            names.append(spec)
        else:
            mappings.append(_device(spec))
    return mappings, names


def is_cdi_name(text: str) -> bool:
    """Whether `text` is a qualified name of the Container Device Interface: V/C=NAME."""
    kind, equals, name = text.partition("=")
    vendor, slash, of_kind = kind.partition("/")
    if not equals or not slash or not name or not name[0].isalnum() or not name[-1].isalnum():
        return False
    return _is_cdi_word(vendor, "_-.") and _is_cdi_word(of_kind, "_-")


def _is_cdi_word(text: str, extra: str) -> bool:
    if not text or not text.isascii() or not text[0].isalpha() or not text[-1].isalnum():
        return False
    return all(char.isalnum() or char in extra for char in text)


def _is_mode(text: str) -> bool:
    return bool(text) and len(set(text)) == len(text) and set(text) <= set("rwm")


def _device(spec: str) -> dict[str, str]:
    """One `HOST[:CONTAINER[:MODE]]` or `HOST:MODE`."""
    parts = spec.split(":")
    if len(parts) > 3 or not parts[0]:
        raise OptError(f"bad format for path: {spec}")
    host, inside, mode = parts[0], parts[0], "rwm"
    if len(parts) == 3:
        inside, mode = parts[1], parts[2]
        if not _is_mode(mode):
            raise OptError(f"bad mode specified: {mode}")
    elif len(parts) == 2 and _is_mode(parts[1]):
        mode = parts[1]
    elif len(parts) == 2:
        inside = parts[1]
    if not inside.startswith("/"):
        raise OptError(f"{inside} is not an absolute path")
    if len(parts) < 3:
        host = normpath(host) if inside is parts[0] else host
        inside = normpath(inside)
    return {"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": mode}


def cgroup_rule(text: str) -> str:
    """A rule of the devices controller (`c 1:3 rwm`). Raises OptError."""
    parts = text.split(" ")
    good = len(parts) == 3 and parts[0] in ("a", "b", "c")
    if good:
        numbers = parts[1].split(":")
        good = len(numbers) == 2 and all(n == "*" or (n.isascii() and n.isdigit()) for n in numbers)
        good = good and 1 <= len(parts[2]) <= 3 and set(parts[2]) <= set("rwm")
    if not good:
        raise OptError(f"invalid device cgroup format '{text}'")
    return text


# -- limits


def _device_value(text: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not colon or not path:
        raise OptError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise OptError(f"bad format for device path: {text}")
    return path, value


def weight_device(text: str) -> dict[str, Any]:
    """`DEVICE:WEIGHT`, 10 to 1000, or 0. Raises OptError."""
    path, value = _device_value(text)
    try:
        weight = parse_int(value, bits=16, unsigned=True)
    except OptError:
        weight = 1
    if weight and weight not in _WEIGHTS:
        raise OptError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": weight}


def bps_device(text: str) -> dict[str, Any]:
    """`DEVICE:RATE` in bytes per second. Raises OptError."""
    path, value = _device_value(text)
    try:
        return {"Path": path, "Rate": parse_bytes(value)}
    except OptError:
        raise OptError(f"invalid rate for device: {text}. {_BPS_FORMAT}") from None


def iops_device(text: str) -> dict[str, Any]:
    """`DEVICE:RATE` in operations per second. Raises OptError."""
    path, value = _device_value(text)
    try:
        return {"Path": path, "Rate": parse_int(value, unsigned=True)}
    except OptError:
        raise OptError(f"invalid rate for device: {text}. {_IOPS_FORMAT}") from None


# -- GPUs


def gpus(text: str) -> dict[str, Any]:
    """One `--gpus` as a device request. Raises OptError."""
    found: dict[str, Any] = {"Driver": "", "Count": 0, "DeviceIDs": None}
    found["Capabilities"], found["Options"] = [["gpu"]], {}
    seen: set[str] = set()
    for field in parse_csv(text):
        key, equals, value = field.partition("=")
        if key in seen:
            raise OptError(f"gpu request key '{key}' can be specified only once")
        seen.add(key)
        if not equals:
            seen.add("count")
            key, value = "count", key
        _set_gpu(found, key, value, field)
    if "count" not in seen and found["DeviceIDs"] is None:
        found["Count"] = 1
    return found


def _set_gpu(found: dict[str, Any], key: str, value: str, field: str) -> None:
    match key:
        case "driver":
            found["Driver"] = value
        case "count":
            found["Count"] = _count(value)
        case "device":
            found["DeviceIDs"] = value.split(",")
        case "capabilities":
            found["Capabilities"] = [[*value.split(","), "gpu"]]
        case "options":
            found["Options"] = to_map(parse_csv(value))
        case _:
            raise OptError(f"unexpected key '{key}' in '{field}'")


def _count(text: str) -> int:
    if text == "all":
        return -1
    try:
        return parse_int(text)
    except OptError as error:
        cause = str(error).rpartition(": ")[2]
        raise OptError(
            f'invalid count ({text}): value must be either "all" or an integer: {cause}'
        ) from None
