"""``boxwood copy`` and ``boxwood image mirror``: between real registries, layouts and archives."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwood.model.digest import Digest
from tests.support.layouts import Layout
from tests.support.needs import need_program
from tests.support.paths import BOXWOOD, clean_environment
from tests.support.registry import Registry, serving


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """A plain registry on the loopback."""
    with serving() as one:
        yield one


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An empty layout."""
    return Layout(tmp_path / "source")


def run(*args: object) -> subprocess.CompletedProcess[str]:
    """Run our command line, which finds no engine."""
    environment = clean_environment(BOXWOOD_HOST="unix:///nothing/there.sock")
    return subprocess.run(
        [str(BOXWOOD), *map(str, args)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def copied(*args: object) -> str:
    """Copy; returns the digest, which is the last line."""
    done = run("copy", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def digest_of(name: str) -> str:
    """Return an image's digest as skopeo finds it."""
    command = [need_program("skopeo"), "inspect", "--tls-verify=false", "--raw", name]
    raw = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    return str(Digest.of(raw))


def test_an_index_goes_whole_or_one_image_of_it(
    layout: Layout, registry: Registry, tmp_path: Path
) -> None:
    """Through a registry, an archive and a directory: each digest stays, and skopeo sees it."""
    entry = layout.index()
    whole = layout.call("multi", entry)
    own = entry["below"][1]["digest"]
    there = f"docker://{registry.address}/whole/multi:1"
    assert copied("--all", f"{layout.name}:multi", there) == whole == digest_of(there)
    archive, folder = f"oci-archive:{tmp_path / 'a.tar'}", f"dir:{tmp_path / 'd'}"
    assert copied("-a", there, archive) == whole == digest_of(archive)
    assert copied("-a", archive, folder) == whole == digest_of(folder)
    back = f"{registry.address}/whole/back:1"
    assert copied("-a", folder, back) == whole == digest_of(f"docker://{back}")
    # One image of it: this machine's, or the one that is asked for.
    one = f"docker://{registry.address}/whole/one:1"
    assert copied(there, one) == own == digest_of(one)
    other = entry["below"][0]["digest"]
    assert copied("--platform", "linux/riscv64", there, f"oci:{tmp_path / 'o'}:1") == other
    failed = run("copy", "--platform", "windows/amd64", there, one)
    assert failed.returncode == 1
    assert "has no image for windows/amd64" in failed.stderr
    failed = run("copy", "-a", there, f"docker-archive:{tmp_path / 'b.tar'}")
    assert "an index of several" in failed.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "d", "o", "source"]


def test_what_is_there_is_not_sent(layout: Layout, registry: Registry) -> None:
    """Blobs are asked for, or mounted from where they came from in the same registry."""
    layout.call("1", layout.manifest(b"layer" * 500))
    first = f"{registry.address}/sent/one:1"
    said = run("copy", f"{layout.name}:1", f"docker://{first}").stdout
    assert said.count("Copied") == 2
    said = run("copy", f"{layout.name}:1", f"docker://{first}").stdout
    assert said.count("Already exists") == 2
    start = len(registry.log)
    copied(first, f"{registry.address}/sent/two:1")
    log = registry.log[start:]
    assert len(re.findall(r"POST /v2/sent/two/blobs/uploads/\?mount=\S*from=sent%2Fone", log)) == 2
    assert "PUT /v2/sent/two/blobs" not in log


def test_a_source_that_lies_is_not_written(layout: Layout, tmp_path: Path) -> None:
    """Other bytes under a layer's digest, of the right number: refused, and no image is there."""
    entry = layout.manifest(b"layer" * 500)
    layout.call("1", entry)
    wrong = layout.path / "blobs/sha256" / Digest.of(b"layer" * 500).hex
    wrong.write_bytes(b"other" * 500)
    done = run("copy", f"{layout.name}:1", f"oci:{tmp_path / 'target'}:1")
    assert done.returncode == 1
    assert "other bytes came" in done.stderr
    done = run("copy", f"oci:{tmp_path / 'target'}:1", f"dir:{tmp_path / 'd'}")
    assert done.returncode == 1
    assert not (tmp_path / "d").exists()


def test_a_manifest_as_a_layer(layout: Layout, tmp_path: Path) -> None:
    """It would be tagged on its way: refused."""
    inner = layout.manifest(b"inner")
    layout.call("1", layout.manifest(b"outer", layers=[inner]))
    done = run("copy", f"{layout.name}:1", f"oci:{tmp_path / 'target'}:1")
    assert done.returncode == 1
    assert "a manifest as a layer" in done.stderr


def test_mirror(layout: Layout, registry: Registry, tmp_path: Path) -> None:
    """What is missing goes, with its signature; what fails is said, and the rest goes on."""
    digests = {tag: layout.call(tag, layout.manifest(tag.encode())) for tag in ("1.0", "1.1", "2")}
    whole = layout.call("multi", layout.index())
    signature = f"sha256-{digests['1.1'].partition(':')[2]}.sig"
    layout.call(signature, layout.manifest(b"signature"))
    there = f"docker://{registry.address}/mirrored/some"
    done = run("image", "mirror", "--tag", "1.*", layout.name, there)
    assert done.returncode == 0, done.stderr
    last = "2 tags: 2 copied, 0 up to date, 0 failed; 1 signatures and the like"
    assert done.stdout.splitlines()[-1] == last
    assert digest_of(f"{there}:1.1") == digests["1.1"]
    assert digest_of(f"{there}:{signature}") != ""
    (layout.path / "blobs/sha256" / Digest.of(b"2").hex).write_bytes(b"3")
    done = run("image", "mirror", layout.name, there)
    assert done.returncode == 1
    assert "2: failed: copy: sha256:" in done.stdout
    assert "other bytes came from oci:" in done.stdout
    assert done.stdout.splitlines()[-1] == "5 tags: 1 copied, 3 up to date, 1 failed"
    assert digest_of(f"{there}:multi") == whole
    # And into a layout; a second time nothing is to be done.
    target = f"oci:{tmp_path / 'target'}"
    assert "4 tags: 4 copied" in run("image", "mirror", there, target).stdout
    assert run("image", "mirror", there, target).stdout == (
        "4 tags: 0 copied, 4 up to date, 0 failed\n"
    )
    assert digest_of(f"{target}:multi") == whole


def last(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.splitlines()[-1]


def test_mirror_of_what_is_chosen(layout: Layout, tmp_path: Path) -> None:
    """A dry run writes nothing; patterns leave out; of an index one platform's image goes."""
    digests = {tag: layout.call(tag, layout.manifest(tag.encode())) for tag in ("1", "1-rc", "2")}
    index = layout.index()
    layout.call("multi", index)
    target = tmp_path / "target"
    words = ("image", "mirror", "--exclude", "*-rc", "--platform", "linux/riscv64")
    done = run(*words, "--dry-run", layout.name, f"oci:{target}")
    assert done.returncode == 0, done.stderr
    assert last(done) == "3 tags: 3 to copy, 0 up to date, 0 failed"
    assert f"1: to copy ({digests['1']})" in done.stdout
    assert not target.exists()
    assert "3 copied" in last(run(*words, layout.name, f"oci:{target}"))
    tags = {
        entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"]
        for entry in json.loads((target / "index.json").read_text())["manifests"]
    }
    riscv = next(one["digest"] for one in index["below"] if "riscv64" in str(one["platform"]))
    assert tags == {"1": digests["1"], "2": digests["2"], "multi": riscv}
    assert last(run(*words, layout.name, f"oci:{target}")).startswith(
        "3 tags: 0 copied, 3 up to date"
    )
    done = run("image", "mirror", "--exclude", "*", layout.name, f"oci:{target}")
    assert "no tag there without *, of 4" in done.stderr


def test_mirror_of_a_list(layout: Layout, tmp_path: Path) -> None:
    """Several repositories; one that fails is said, the others go on, and the exit code tells."""
    second = Layout(tmp_path / "second")
    layout.call("1", layout.manifest(b"1"))
    for tag in ("a", "b", "c"):
        second.call(tag, second.manifest(tag.encode()))
    file = tmp_path / "list"
    file.write_text(
        f"# what is mirrored\n\n{layout.name} oci:{tmp_path}/one\n"
        f"{second.name} oci:{tmp_path}/two a b # and no other\n"
    )
    done = run("image", "mirror", "--list", file)
    assert done.returncode == 0, done.stderr
    assert last(done) == "2 repositories, 0 failed; 3 tags: 3 copied, 0 up to date, 0 failed"
    file.write_text(f"oci:{tmp_path}/none oci:{tmp_path}/three\n" + file.read_text())
    done = run("image", "mirror", "--list", file)
    assert done.returncode == 1
    assert f"oci:{tmp_path}/none: failed: " in done.stdout
    assert last(done) == "3 repositories, 1 failed; 3 tags: 0 copied, 3 up to date, 0 failed"
    for text, reason in (("", "names no repository"), ("\nx\n", "line 2: a source without")):
        file.write_text(text)
        assert reason in run("image", "mirror", "--list", file).stderr
    assert "No such file" in run("image", "mirror", "--list", tmp_path / "none").stderr
    assert "the list says" in run("image", "mirror", "--list", file, "a", "b").stderr
    assert "name a source and" in run("image", "mirror", "a").stderr


def test_mirror_refusals(layout: Layout, tmp_path: Path) -> None:
    """Places without tags, no tag that matches, both flags."""
    layout.call("1", layout.manifest(b"1"))
    for args, reason in (
        (("--tag", "9*", layout.name, f"oci:{tmp_path / 't'}"), "matches 9*, of 1"),
        ((layout.name, f"dir:{tmp_path / 't'}"), "has no tags"),
        (("-a", "--tag", "1", layout.name, layout.name), "exclude each other"),
        ((f"oci:{tmp_path / 'none'}", layout.name), "no such directory"),
    ):
        done = run("image", "mirror", *args)
        assert done.returncode == 1
        assert reason in done.stderr
    assert not (tmp_path / "t").exists()


def test_killed_at_any_moment(layout: Layout, tmp_path: Path) -> None:
    """Every file of the target is whole, and the next copy goes on with what is missing."""
    layers = [bytes([number]) * (4 << 20) for number in range(6)]
    entry = layout.manifest(layers[0], layers=[layout.blob("layer.v1.tar", one) for one in layers])
    wanted = layout.call("1", entry)
    target = tmp_path / "target"
    command = [str(BOXWOOD), "copy", f"{layout.name}:1", f"oci:{target}:1"]
    for wait in (0.3, 0.45):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for path in target.rglob("*"):
            if path.parent.name == "sha256":
                assert Digest.of(path.read_bytes()).hex == path.name
    assert copied(f"{layout.name}:1", f"oci:{target}:1") == wanted == digest_of(f"oci:{target}:1")
    passing = [path.name for path in target.rglob(".*")]
    assert passing == []
