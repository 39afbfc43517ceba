"""Pull and push with real registries: Debian's docker-registry, skopeo, the stock client."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import quote

import pytest

from boxwood.model.descriptor import DOCKER_MANIFEST, OCI_MANIFEST
from tests.support import terminal
from tests.support.engine import Engine
from tests.support.needs import need_program
from tests.support.registry import Registry, serving

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """A plain registry on the loopback."""
    with serving() as one:
        yield one


@pytest.fixture
def house(clean_engine: Engine) -> Iterator[Engine]:
    """The shared engine; what a test pulled or tagged goes."""
    before = {tag for image in _images(clean_engine) for tag in image["RepoTags"]}
    yield clean_engine
    for image in _images(clean_engine):
        for name in {*image["RepoTags"], *image["RepoDigests"]} - before:
            clean_engine.api("DELETE", f"/images/{quote(name, safe='')}?force=1")


def _images(engine: Engine) -> list[dict[str, list[str]]]:
    found: list[dict[str, list[str]]] = engine.api("GET", "/images/json?all=1").json()
    return found


def manifest(registry: Registry, name: str) -> dict[str, object]:
    """Return an image's manifest as the registry has it."""
    repository, _, tag = name.partition(":")
    found: dict[str, object] = json.loads(registry.get(f"{repository}/manifests/{tag}"))
    return found


def layered(house: Engine, name: str, *commands: str) -> None:
    """Make an image of several layers, the last one the same as the first."""
    house.docker("tag", "busybox", name)
    for command in commands:
        house.docker("run", "--name", "made", "--network", "none", name, "sh", "-c", command)
        house.docker("commit", "made", name)
        house.docker("rm", "made")


@pytest.mark.parametrize("program", ["docker", "boxwood"])
def test_there_and_back(house: Engine, registry: Registry, program: str) -> None:
    """The same image, the same manifest, and nothing travels twice."""
    run = house.docker if program == "docker" else house.cli
    name = f"{registry.address}/{program}/box:1"
    layered(house, name, "echo one > /one", "echo two > /two")
    image = run("image", "inspect", "-f", "{{.Id}}", name).stdout
    first = run("push", name).stdout
    assert first.count("Pushed") == 3
    digest = next(word for word in first.split() if word.startswith("sha256:"))
    assert run("push", name).stdout.count("Layer already exists") == 3
    run("rmi", name)
    pulled = run("pull", name).stdout
    assert f"Digest: {digest}" in pulled
    assert f"Status: Downloaded newer image for {name}" in pulled
    assert run("image", "inspect", "-f", "{{.Id}}", name).stdout == image
    shown = run("image", "inspect", "-f", "{{json .RepoDigests}}", name).stdout
    assert json.loads(shown) == [f"{name[:-2]}@{digest}"]
    assert (
        run("run", "--rm", "--network", "none", name, "cat", "/one", "/two").stdout == "one\ntwo\n"
    )
    assert f"Status: Image is up to date for {name}" in run("pull", name).stdout
    before = len(registry.requests())
    run("pull", name)
    assert registry.requests()[before:] == [f"HEAD /v2/{program}/box/manifests/1"]


def test_what_was_pulled_is_pushed_as_it_came(house: Engine, registry: Registry) -> None:
    """zstd layers and an OCI manifest stay what they are, although no archive is kept."""
    layered(house, "made:1", "seq 100000 > /numbers")
    archive = house.data_root.with_name("made.tar")
    layout = f"docker://{registry.address}/oci/made:1"
    skopeo = [need_program("skopeo"), "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]
    try:
        house.docker("save", "-o", archive, "made:1")
        subprocess.run(
            [*skopeo, "-f", "oci", "--dest-compress-format", "zstd", f"docker-archive:{archive}",
             layout],
            check=True,
        )  # fmt: skip
    finally:
        archive.unlink(missing_ok=True)
    came = registry.get("oci/made/manifests/1", "application/vnd.oci.image.manifest.v1+json")
    house.docker("rmi", "made:1")
    house.docker("pull", f"{registry.address}/oci/made:1")
    house.docker("tag", f"{registry.address}/oci/made:1", f"{registry.address}/other/made:2")
    before = len(registry.requests())
    said = house.docker("push", f"{registry.address}/other/made:2").stdout
    assert said.count(": Mounted from oci/made\n") == 2
    asked = registry.requests()[before:]
    went = registry.get("other/made/manifests/2", "application/vnd.oci.image.manifest.v1+json")
    assert went == came
    # The registry had the layers in another repository: they are mounted, not sent.
    assert [one.split()[0] for one in asked if "mount=" in one] == ["POST"] * 2
    sent = [one for one in asked if one.startswith("PUT") and "/blobs/uploads/" in one]
    assert len(sent) == 1  # the config
    target = house.data_root.with_name("copied.tar")
    try:
        subprocess.run(
            [need_program("skopeo"), "--insecure-policy", "copy", "-q", "--src-tls-verify=false",
             f"docker://{registry.address}/other/made:2", f"oci-archive:{target}:back:1"],
            check=True,
        )  # fmt: skip
        assert "Loaded image: back:1" in house.docker("load", "-i", target).stdout
    finally:
        target.unlink(missing_ok=True)


def test_all_tags(house: Engine, registry: Registry) -> None:
    """``--all-tags`` both ways, with both clients; tags that are no images' are passed over."""
    for run, kind in ((house.docker, "docker"), (house.cli, "boxwood")):
        name, tags = f"{registry.address}/many/{kind}", ("a", "b", "c")
        for tag in tags:
            run("tag", "busybox", f"{name}:{tag}")
        assert run("push", "--all-tags", name).stdout.count("digest: sha256:") == 3
        run("tag", "busybox", f"{name}:sha256-{'0' * 64}.sig")
        run("push", f"{name}:sha256-{'0' * 64}.sig")
        run("rmi", *(f"{name}:{tag}" for tag in (*tags, f"sha256-{'0' * 64}.sig")))
        assert run("pull", "--all-tags", name).stdout.count("Status: ") == 3
        shown = run("images", "--format", "{{.Tag}}", name).stdout
        assert sorted(shown.split()) == ["a", "b", "c"]
        for words in (("push",), ("pull",)):
            refused = run(*words, "-a", f"{name}:a", check=False)
            assert refused.returncode == 1
            assert refused.stderr == "tag can't be used with --all-tags/-a\n"


def test_what_is_printed(house: Engine, registry: Registry) -> None:
    """The default tag is said, and with --quiet the name alone, as Docker's client does."""
    said = []
    name = f"{registry.address}/said/box"
    house.docker("tag", "busybox", name)
    house.docker("push", name)
    for run in (house.docker, house.cli):
        run("tag", "busybox", name)
        out = run("push", name).stdout.splitlines()
        quiet = run("push", "-q", name).stdout
        again = [run("pull", *flags, name).stdout for flags in ((), ("-q",))]
        said.append((out[:2], sorted(out[2:]), quiet, again))
        run("rmi", name)
    assert said[0] == said[1]
    assert said[1][0][0] == "Using default tag: latest"


def test_on_a_terminal(house: Engine, registry: Registry) -> None:
    """A line for each layer that stays, and below them what is said at the end."""
    name = f"{registry.address}/seen/box"
    layered(house, name, "seq 10000 > /numbers")
    for words in (("push", name), ("rmi", name), ("pull", name)):
        variables = [f"{key}={value}" for key, value in house.environment().items()]
        command = ["env", "-i", *variables, "TERM=xterm", str(house.program), *words]
        status, came = terminal.run(command, [], b"")
        assert status == 0, came
    assert b"Pull complete" in came
    assert came.index(b"Digest: sha256:") > came.rindex(b"Pull complete")
    assert came.endswith(f"{name}:latest\r\n".encode())


def test_by_digest(house: Engine, registry: Registry) -> None:
    """A reference with a digest is pulled and run; it has no tag."""
    name = f"{registry.address}/digest/box"
    house.docker("tag", "busybox", f"{name}:1")
    said = house.docker("push", f"{name}:1").stdout
    digest = next(word for word in said.split() if word.startswith("sha256:"))
    house.docker("rmi", f"{name}:1")
    house.docker("pull", f"{name}@{digest}")
    out = house.docker("run", "--rm", "--network", "none", f"{name}@{digest}", "echo", "it runs")
    assert out.stdout == "it runs\n"
    wrong = house.docker("pull", f"{name}@sha256:{'0' * 64}", check=False)
    assert (wrong.returncode, "manifest unknown" in wrong.stderr) == (1, True)


def test_a_platform_that_it_is_or_is_not(house: Engine, registry: Registry, tmp_path: Path) -> None:
    """``--platform`` of what is here: its own is taken, another one's is not found."""
    name = f"{registry.address}/platform/box:1"
    house.docker("tag", "busybox", name)
    digests = set()
    for run in (house.docker, house.cli):
        for words in (
            ["image", "inspect"],
            ["history"],
            ["push"],
            ["save", "-o", f"{tmp_path}/saved"],
        ):
            own = run(*words, "--platform", "linux/amd64", name)
            if words == ["push"]:
                digests.add(next(one for one in own.stdout.split() if one.startswith("sha256:")))
            other = run(*words, "--platform", "linux/arm64", name, check=False)
            assert other.returncode == 1
            assert (
                f"image with reference {name} was found but its platform (linux/amd64) "
                "does not match the specified platform (linux/arm64)"
            ) in other.stderr
    assert len(digests) == 1
    repository = name.removesuffix(":1")
    every = house.cli("push", "-a", "--platform", "linux/arm64", repository, check=False)
    assert (every.returncode, "does not match" in every.stderr) == (1, True)
    house.cli("push", "-a", "--platform", "amd64", repository)
    house.cli("save", "-o", f"{tmp_path}/every", "--platform", "linux/amd64", repository)


def test_run_pulls_what_is_missing(house: Engine, registry: Registry) -> None:
    """As Docker does, telling of it on standard error."""
    name = f"{registry.address}/missing/box:1"
    house.docker("tag", "busybox", name)
    house.docker("push", name)
    for run in (house.docker, house.cli):
        house.docker("rmi", name)
        done = run("run", "--rm", "--network", "none", name, "echo", "here")
        assert done.stdout == "here\n"
        assert f"Unable to find image '{name}' locally" in done.stderr
        assert "Downloaded newer image" in done.stderr


def test_distribution(house: Engine, registry: Registry) -> None:
    """What a registry says of an image, without pulling it."""
    name = f"{registry.address}/said/box:1"
    house.docker("tag", "busybox", name)
    house.docker("push", name)
    shown = house.api("GET", f"/distribution/{quote(name, safe='')}/json").json()
    data = registry.get("said/box/manifests/1", shown["Descriptor"]["mediaType"])
    assert shown["Descriptor"]["size"] == len(data)
    assert shown["Platforms"] == [{"architecture": "amd64", "os": "linux"}]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("{}/no/such:1", "manifest for {}/no/such:1 not found: manifest unknown"),
        ("127.0.0.1:1/x/y:1", "registry 127.0.0.1:1: "),
        ("{}/Upper/case:1", "must be lowercase"),
    ],
)
def test_what_is_not_there(house: Engine, registry: Registry, name: str, words: str) -> None:
    """One sentence, and nothing is left."""
    done = house.docker("pull", name.format(registry.address), check=False)
    assert done.returncode == 1
    assert words.format(registry.address) in done.stderr
    assert house.docker("push", f"{registry.address}/not/here:1", check=False).stderr.strip() == (
        f"An image does not exist locally with the tag: {registry.address}/not/here"
    )


def test_what_pull_and_push_say(house: Engine, registry: Registry) -> None:
    """Docker's words for what is here already, for digests, names and platforms."""
    name = f"{registry.address}/said/box"
    layered(house, f"{name}:1")
    assert "The push refers to repository" in house.docker("push", f"{name}:1").stdout
    found = house.docker("inspect", "-f", "{{index .RepoDigests 0}}", f"{name}:1").stdout.strip()
    digest = found.partition("@")[2]
    current = f"Digest: {digest}\nStatus: Image is up to date for "
    assert house.docker("pull", f"{name}:1").stdout == (
        f"1: Pulling from said/box\n{current}{name}:1\n{name}:1\n"
    )
    assert house.docker("pull", found).stdout.startswith(
        f"{found}: Pulling from said/box\n{current}{found}\n"
    )
    other = house.docker("pull", "--platform", "linux/arm64", f"{name}:1").stdout
    assert f"WARNING: image with reference {name}:1 was found but its platform (" in other
    for arguments, said in (
        (("pull", "--platform", "bogus", f"{name}:1"), '"bogus": unknown operating system or arch'),
        (("pull", "-a", f"{name}/not"), f"repository {name}/not not found: name unknown"),
        (("pull", "scratch"), "'scratch' is a reserved name"),
        (("push", f"{name}:2"), f"tag does not exist: {name}:2"),
        (("push", "-a", f"{name}/not"), f"does not exist locally with the tag: {name}/not"),
        (
            ("push", "--platform", "linux/arm64", f"{name}:1"),
            "not match the specified platform (linux/arm64)",
        ),
        (
            ("run", "--platform", "linux/arm64", f"{name}:1"),
            "not match the specified platform (linux/arm64)",
        ),
    ):
        done = house.docker(*arguments, check=False)
        assert done.returncode, arguments
        assert said in done.stderr, arguments


def _closed(tmp_path: Path) -> AbstractContextManager[Registry]:
    """A registry that lets in nobody but `me` with the password `secret`."""
    words = tmp_path / "htpasswd"
    with words.open("w") as file:
        subprocess.run(
            [need_program("htpasswd"), "-nbB", "-C", "4", "me", "secret"], check=True, stdout=file
        )
    return serving({"auth": {"htpasswd": {"realm": "here", "path": str(words)}}})


def test_passwords(house: Engine, tmp_path: Path) -> None:
    """Basic authentication: without, with a wrong and with the right login."""
    with _closed(tmp_path) as closed:
        name = f"{closed.address}/mine/box:1"
        house.docker("tag", "busybox", name)
        refused = house.docker("push", name, check=False)
        assert refused.returncode == 1
        assert "authentication required" in refused.stderr
        wrong = house.docker(
            *("login", "-u", "me", "--password-stdin", closed.address),
            input="wrong", check=False,
        )  # fmt: skip
        assert wrong.returncode == 1
        assert "unauthorized" in wrong.stderr
        own = {"DOCKER_CONFIG": str(tmp_path / "docker")}
        login = ("login", "-u", "me", "--password-stdin", closed.address)
        assert "Login Succeeded" in house.docker(*login, input="secret", env=own).stdout
        house.docker("push", name, env=own)
        house.docker("rmi", name)
        denied = house.docker("pull", name, check=False)
        assert f"pull access denied for {closed.address}/mine/box" in denied.stderr
        house.docker("pull", name, env=own)


def test_our_own_login(house: Engine, tmp_path: Path) -> None:
    """Kept for its owner alone, used by pull and push, forgotten by logout."""
    with _closed(tmp_path) as closed:
        name = f"{closed.address}/mine/box:1"
        house.docker("tag", "busybox", name)
        own = {"BOXWOOD_CONFIG": str(tmp_path / "own")}
        login = ("login", "-u", "me", "--password-stdin", closed.address)
        assert house.cli(*login, input="wrong", env=own, check=False).returncode == 1
        assert not (tmp_path / "own").exists()
        done = house.cli(*login, input="secret", env=own)
        assert done.stdout == "Login Succeeded\n"
        file = tmp_path / "own/config.json"
        assert str(file) in done.stderr
        assert file.stat().st_mode & 0o777 == 0o600
        house.cli("push", name, env=own)
        house.cli("rmi", name)
        house.cli("pull", name, env=own)
        removed = house.cli("logout", closed.address, env=own)
        assert removed.stdout == f"Removing login credentials for {closed.address}\n"
        assert json.loads(file.read_text()) == {"auths": {}}
        assert house.cli("pull", name, env=own, check=False).returncode == 1


def test_a_login_at_a_terminal(house: Engine, tmp_path: Path) -> None:
    """User and password are asked for; what is typed as a password is not seen."""
    with _closed(tmp_path) as closed:
        variables = [f"{key}={value}" for key, value in house.environment().items()]
        variables += ["TERM=xterm", f"BOXWOOD_CONFIG={tmp_path / 'own'}"]
        command = ["env", "-i", *variables, str(house.program), "login", closed.address]
        status, came = terminal.run(command, [b"me\n", b"wrong\n"], b": ")
        assert (status, b"unauthorized" in came) == (1, True), came
        assert not (tmp_path / "own").exists()
        status, came = terminal.run(command, [b"me\n", b"secret\n"], b": ")
        assert (status, b"Login Succeeded" in came) == (0, True), came
        assert came.startswith(b"Username: me\r\nPassword: ")
        assert b"secret" not in came
        kept = json.loads((tmp_path / "own/config.json").read_text())["auths"]
        assert base64.b64decode(kept[closed.address]["auth"]) == b"me:secret"
        status, came = terminal.run(command, [], b": ")
        assert (status, b"existing credentials" in came) == (0, True), came


HELPER = """#!/bin/sh
# Keeps one login in a file.
read -r said
case $1 in
  store) echo "$said" > "$KEPT" ;;
  get) cat "$KEPT" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
  erase) rm "$KEPT" ;;
esac
"""


def test_a_credential_helper(house: Engine, tmp_path: Path) -> None:
    """What it keeps is never in config.json."""
    (tmp_path / "bin").mkdir()
    helper = tmp_path / "bin/docker-credential-test"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    with _closed(tmp_path) as closed:
        config = tmp_path / "own/config.json"
        config.parent.mkdir()
        config.write_text(json.dumps({"credHelpers": {closed.address: "test"}}))
        own = {
            "BOXWOOD_CONFIG": str(config.parent),
            "KEPT": str(tmp_path / "kept"),
            "PATH": f"{helper.parent}:{os.environ['PATH']}",
        }
        name = f"{closed.address}/mine/box:1"
        house.docker("tag", "busybox", name)
        login = ("login", "-u", "me", "--password-stdin", closed.address)
        house.cli(*login, input="secret", env=own)
        assert "secret" in (tmp_path / "kept").read_text()
        assert "auths" not in json.loads(config.read_text())
        house.cli("push", name, env=own)
        house.cli("logout", closed.address, env=own)
        assert not (tmp_path / "kept").exists()


def pushed_layers(registry: Registry, name: str) -> list[tuple[str, str]]:
    """Return media type and digest of each layer of an image in the registry."""
    repository, _, tag = name.partition(":")
    accept = f"{DOCKER_MANIFEST}, {OCI_MANIFEST}"
    layers = json.loads(registry.get(f"{repository}/manifests/{tag}", accept))["layers"]
    return [(one["mediaType"].rpartition(".")[2], one["digest"]) for one in layers]


def test_compression_by_choice(house: Engine, registry: Registry) -> None:
    """gzip unless zstd is asked for; made once, remembered, and readable by others."""
    name = f"{registry.address}/packed/box"
    layered(house, f"{name}:1", "seq 200000 > /numbers")
    house.cli("push", f"{name}:1")
    plain = pushed_layers(registry, "packed/box:1")
    assert [kind for kind, _ in plain] == ["gzip", "gzip"]
    for level in ("zstd", "zstd:19"):
        house.cli("tag", f"{name}:1", f"{name}:{len(level)}")
        said = house.cli("push", "--compression", level, f"{name}:{len(level)}").stdout
        assert said.count(": Compressing") == 2
        packed = pushed_layers(registry, f"packed/box:{len(level)}")
        assert [kind for kind, _ in packed] == ["tar+zstd", "tar+zstd"]
        assert (
            ": Compressing"
            not in house.cli("push", "--compression", level, f"{name}:{len(level)}").stdout
        )
    subprocess.run(
        [need_program("skopeo"), "inspect", "--tls-verify=false", f"docker://{name}:4"],
        check=True,
        capture_output=True,
    )
    identity = house.cli("image", "inspect", "-f", "{{.Id}}", f"{name}:1").stdout
    house.cli("rmi", f"{name}:1", f"{name}:4", f"{name}:7")
    house.cli("pull", f"{name}:7")
    assert house.cli("image", "inspect", "-f", "{{.Id}}", f"{name}:7").stdout == identity
    refused = house.cli("push", "--compression", "lzma", f"{name}:7", check=False)
    assert refused.returncode == 1
    assert "compression 'lzma': write gzip, zstd" in refused.stderr
    left = list((house.data_root / "content/ingest").iterdir())
    assert left == []
