"""`manifest annotate`: say what platform a manifest of a list is for."""

from __future__ import annotations

from boxwood.cli import manifests
from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

# What Go is built for, by operating system.
_ARCHITECTURES = {
    "linux": "386 amd64 arm arm64 loong64 mips mipsle mips64 mips64le ppc64 ppc64le riscv64 s390x",
    "windows": "386 amd64 arm arm64",
    "darwin": "386 amd64 arm arm64",
    "freebsd": "386 amd64 arm arm64",
    "dragonfly": "amd64",
    "netbsd": "386 amd64 arm",
    "openbsd": "386 amd64 arm",
    "plan9": "386 amd64",
    "solaris": "amd64",
}


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Change what the list says of it."""
    target, name = manifests.whole(args[0]), manifests.whole(args[1])
    found = next((one for one in manifests.kept(ctx, target) if one["Ref"] == name), None)
    if found is None:
        raise CliError(f"manifest for image {args[1]} does not exist in {args[0]}")
    platform = dict(found["Descriptor"].get("platform") or {})
    for flag, key in (("os", "os"), ("arch", "architecture"), ("variant", "variant"),
                      ("os_version", "os.version")):  # fmt: skip
        if values[flag]:
            platform[key] = values[flag]
    if values["os_features"]:
        before = platform.get("os.features") or []
        platform["os.features"] = list(dict.fromkeys([*before, *values["os_features"]]))
    valid = _ARCHITECTURES.get(platform.get("os", ""), "").split()
    if platform.get("architecture") not in valid:
        said = f"{values['os'] or ''}/{values['arch'] or ''}"
        raise CliError(f"manifest entry for image has unsupported os/arch combination: {said}")
    found["Descriptor"]["platform"] = manifests.platform_of(platform)
    manifests.keep(ctx, target, found)
    return 0


COMMAND = Command(
    run,
    "Add additional information to a local image manifest",
    "[OPTIONS] MANIFEST_LIST MANIFEST",
    (
        Flag("arch", "string", "Set the architecture"),
        Flag("os", "string", "Set the operating system"),
        Flag("os-features", "strings", "Add features of the operating system"),
        Flag("os-version", "string", "Set the version of the operating system"),
        Flag("variant", "string", "Set the variant of the architecture"),
    ),
    least=2,
    most=2,
)
