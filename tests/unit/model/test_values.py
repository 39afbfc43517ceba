"""Digests, platforms and image configs."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwood.errors import InvalidArgument, NotFound
from boxwood.model.digest import Digest, chain_id, chain_ids
from boxwood.model.image import Image, ImageConfig
from boxwood.model.platform import Platform
from boxwood.model.wire import encode

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha512:{HEX}{HEX}"])
def test_digests(text: str) -> None:
    digest = Digest.parse(text)
    assert digest == text
    assert f"{digest.algorithm}:{digest.hex}" == text
    assert encode({"a": digest}) == b'{"a":"%s"}' % text.encode()


@pytest.mark.parametrize(
    "text",
    ["", HEX, f"sha256:{HEX[:-1]}", f"sha256:{HEX}0", f"sha256:{HEX.upper()}", f"md5:{HEX}",
     f"sha256:{HEX}\n", f"sha512:{HEX}", "sha256:../../etc/passwd", f" sha256:{HEX}"],
)  # fmt: skip
def test_no_digests(text: str) -> None:
    with pytest.raises(InvalidArgument):
        Digest.parse(text)


def test_chain_ids() -> None:
    """The example of the specification, computed by hand."""
    first, second = Digest.of(b"one"), Digest.of(b"two")
    wanted = hashlib.sha256(f"{first} {second}".encode()).hexdigest()
    assert chain_ids((first, second)) == (first, f"sha256:{wanted}")
    assert chain_id(None, first) == first


def test_platforms() -> None:
    assert str(Platform.parse("linux/aarch64/v8")) == "linux/arm64"
    assert str(Platform.parse("linux/arm/7")) == "linux/arm/v7"
    assert str(Platform.parse("x86_64")) == "linux/amd64"
    for text in ("", "a/b/c/d", "linux//", "linux/am d64", "bogus"):
        with pytest.raises(InvalidArgument):
            Platform.parse(text)


@pytest.mark.parametrize(
    ("machine", "image", "fits"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64/v3", "linux/amd64/v2", True),
        ("linux/amd64", "linux/amd64/v3", False),
        ("linux/arm/v7", "linux/arm/v6", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/arm64/v9", "linux/arm64", True),
        ("linux/arm64", "linux/arm64/v9", False),
        ("linux/amd64", "windows/amd64", False),
        ("linux/riscv64", "linux/riscv64", True),
    ],
)
def test_which_images_run_where(machine: str, image: str, fits: bool) -> None:
    assert (Platform.parse(machine).rank(Platform.parse(image)) is not None) is fits


def test_the_nearest_variant_is_best() -> None:
    machine = Platform.parse("linux/arm/v7")
    ranks = [machine.rank(Platform.parse(f"linux/arm/{v}")) for v in ("v7", "v6", "v5")]
    assert ranks == [0, 1, 2]


def config(**fields: object) -> bytes:
    return json.dumps({"architecture": "amd64", "os": "linux", **fields}).encode()


def test_configs_are_read_leniently() -> None:
    parsed = ImageConfig.parse(
        config(
            config={"Cmd": "sh", "Env": None, "Volumes": {"/a": None}, "Healthcheck": {}},
            rootfs={"type": "layers", "diff_ids": [f"sha256:{HEX}"]},
            history=[{"created_by": "x", "empty_layer": None}, {"empty_layer": True}, None],
            unknown=[1, 2],
        )
    )  # fmt: skip
    assert parsed.config.cmd == ("sh",)
    assert parsed.config.env is None
    assert parsed.config.volumes == {"/a": {}}


@pytest.mark.parametrize(
    "document",
    [b"", b"null", b"[]", b"{", b"\xff", b'{"a":' * 5000, config(rootfs={"diff_ids": ["x"]}),
     config(rootfs={"diff_ids": [f"sha256:{HEX}"]}, history=[{}, {}]), config(config={"Cmd": 5}),
     config(rootfs={"diff_ids": [f"sha256:{HEX}"] * 600}), b" " * (9 << 20)],
)  # fmt: skip
def test_broken_configs(document: bytes) -> None:
    with pytest.raises(InvalidArgument):
        ImageConfig.parse(document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(["config", "rootfs", "history", "os", "created", "architecture"])


@pytest.mark.property
@given(st.dictionaries(KEYS, JSON))
def test_any_document_parses_or_is_refused(document: dict[str, object]) -> None:
    try:
        ImageConfig.parse(json.dumps(document).encode())
    except InvalidArgument:
        return


@pytest.mark.parametrize("config", [ImageConfig(), ImageConfig(os="linux", architecture="amd64")])
def test_an_image_of_no_architecture_is_for_any(config: ImageConfig) -> None:
    image = Image(id="sha256:1", document=b"{}", config=config)
    image.check_platform("x", Platform.parse("linux/amd64"))
    wanted = Platform.parse("linux/arm64")
    if not config.architecture:
        image.check_platform("x", wanted)
        return
    with pytest.raises(NotFound, match=r"x was found but its platform \(linux/amd64\)"):
        image.check_platform("x", wanted)
