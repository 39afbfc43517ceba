"""Binds, volumes and tmpfs by both grammars, seen in the container's mount table and files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.fields.box import Api, Box
from tests.integration.fields.claims import shows
from tests.support.busybox import busybox_tar
from tests.support.engine import Engine

pytestmark = pytest.mark.root

MIB = 1 << 20


def mount(kind: str, target: str, source: str = "", **more: Any) -> dict[str, Any]:
    entry = {"Type": kind, "Target": target, **more}
    return entry | ({"Source": source} if source else {})


def table(box: Box, target: str) -> list[list[str]]:
    """The lines of the container's mount table at a place, as words."""
    lines = (line.split() for line in box.sh("cat /proc/self/mountinfo").splitlines())
    return [words for words in lines if words[4] == target]


@pytest.fixture
def tree(room: Path) -> Iterator[Path]:
    """A folder of the host with a file, a submount below it, a mount of its own that is shared."""
    subprocess.run(["mount", "-t", "tmpfs", "fields", room], check=True)
    try:
        subprocess.run(["mount", "--make-shared", room], check=True)
        (room / "file").write_text("host\n")
        (room / "sub").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "fields-sub", room / "sub"], check=True)
        (room / "sub/inner").write_text("inner\n")
        yield room
    finally:
        subprocess.run(["umount", "-R", "-l", room], check=True)


@pytest.fixture
def volume(api: Api) -> Iterator[Callable[[str], Path]]:
    """Name volumes: they are removed at the end. Returns where their files are."""
    names: list[str] = []

    def named(name: str) -> Path:
        names.append(name)
        return Path(api.engine.data_root, "volumes", name, "_data")

    yield named
    for name in names:
        answer = api.call("DELETE", f"/volumes/{name}?force=1")
        assert answer.status in (204, 404), answer.body


@pytest.fixture(scope="module")
def image(engine: Engine) -> Iterator[str]:
    """An image with VOLUME /home, where a file of the user lies."""
    changes = "&".join(
        f"changes={quote(line)}" for line in ('CMD ["sh"]', 'VOLUME ["/home"]', "USER root")
    )
    where = f"/images/create?fromSrc=-&repo=fields-volumes&tag=1&{changes}"
    headers = {"Content-Type": "application/x-tar"}
    answer = engine.api("POST", where, busybox_tar(), headers=headers)
    assert answer.status == 200, answer.body
    yield "fields-volumes:1"
    assert engine.api("DELETE", "/images/fields-volumes:1?force=1").status == 200


@shows("HostConfig.Binds")
def test_binds(api: Api, tree: Path) -> None:
    with api.living(host={"Binds": [f"{tree}:/data"]}) as box:
        assert box.sh("cat /data/file /data/sub/inner") == "host\ninner\n"
        box.sh("echo mine >/data/new")
        assert (tree / "new").read_text() == "mine\n"
    with api.living(host={"Binds": [f"{tree}:/data:ro", f"{tree}/made:/made"]}) as box:
        assert "Read-only" in box.sh("touch /data/x")
        assert "Read-only" in box.sh("touch /data/sub/x"), "read-only all the way down"
        assert (tree / "made").is_dir(), "a missing source is made"
    assert "Duplicate mount point: /a" in api.refused(host={"Binds": [f"{tree}:/a", "/b:/a"]})
    assert "invalid mode" in api.refused(host={"Binds": [f"{tree}:/a:nonsense"]})


@shows("HostConfig.Mounts", "Mount.Type", "Mount.Source", "Mount.Target", "Mount.ReadOnly")
def test_mounts(api: Api, tree: Path) -> None:
    with api.living(host={"Mounts": [mount("bind", "/a/b", f"{tree}")]}) as box:
        assert box.sh("cat /a/b/file; touch /a/b/t && echo ok") == "host\nok\n"
    with api.living(host={"Mounts": [mount("bind", "/a", f"{tree}/file", ReadOnly=True)]}) as box:
        assert box.sh("cat /a") == "host\n"
        assert "Read-only" in box.sh("echo x >/a")
    for source, target in ((f"{tree}", "/etc/passwd"), (f"{tree}/file", "/home")):
        with api.made("true", host={"Mounts": [mount("bind", target, source)]}) as box:
            answer = api.call("POST", f"/containers/{box.id}/start")
            assert answer.status >= 400
            assert "Are you trying to mount a directory onto a file" in answer.message
    missing = mount("bind", "/a", f"{tree}/missing")
    assert "does not exist" in api.refused(host={"Mounts": [missing]})
    assert "mount type unknown" in api.refused(host={"Mounts": [mount("nonsense", "/a", "/b")]})


@shows("Mount.BindOptions", "BindOptions.NonRecursive", "BindOptions.CreateMountpoint")
def test_bind_options(api: Api, tree: Path) -> None:
    flat = mount("bind", "/a", f"{tree}", BindOptions={"NonRecursive": True})
    made = mount("bind", "/b", f"{tree}/new/deep", BindOptions={"CreateMountpoint": True})
    with api.living(host={"Mounts": [flat, made]}) as box:
        assert box.sh("cat /a/file; ls /a/sub") == "host\n"
        assert len(table(box, "/a/sub")) == 0
        assert (tree / "new/deep").is_dir()
    with api.living(host={"Mounts": [mount("bind", "/a", f"{tree}")]}) as box:
        assert box.sh("cat /a/sub/inner") == "inner\n"


@shows("BindOptions.ReadOnlyNonRecursive", "BindOptions.ReadOnlyForceRecursive")
def test_read_only_recursive_or_not(api: Api, tree: Path) -> None:
    def script(**options: Any) -> str:
        entry = mount("bind", "/a", f"{tree}", ReadOnly=True, BindOptions=options)
        return api.sh("touch /a/x; touch /a/sub/x && echo below", host={"Mounts": [entry]})

    assert "below" not in script(), "recursive where the kernel can"
    only_top = script(ReadOnlyNonRecursive=True)
    assert "/a/x: Read-only" in only_top
    assert "below" in only_top
    assert "below" not in script(ReadOnlyForceRecursive=True, Propagation="rprivate")
    both = {"ReadOnlyNonRecursive": True, "ReadOnlyForceRecursive": True}
    entry = mount("bind", "/a", f"{tree}", ReadOnly=True, BindOptions=both)
    assert "conflicts" in api.refused(host={"Mounts": [entry]})


@shows("BindOptions.Propagation")
def test_propagation(api: Api, tree: Path) -> None:
    """What is mounted on the host later arrives, or not; shared ones go the other way too."""
    spreads = ("rprivate", "rslave", "rshared")
    entries = [
        mount("bind", f"/{spread}", f"{tree}", BindOptions={"Propagation": spread})
        for spread in spreads
    ]
    with api.living(host={"Mounts": entries, "CapAdd": ["SYS_ADMIN"]}) as box:
        marks = {spread: " ".join(table(box, f"/{spread}")[0][6:]) for spread in spreads}
        assert "shared:" not in marks["rprivate"]
        assert "master:" not in marks["rprivate"]
        assert "master:" in marks["rslave"]
        assert "shared:" in marks["rshared"]
        (tree / "late").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "fields-late", tree / "late"], check=True)
        (tree / "late/word").write_text("arrived\n")
        seen = {spread: box.sh(f"cat /{spread}/late/word") for spread in spreads}
        assert "No such file" in seen["rprivate"]
        assert seen["rslave"] == seen["rshared"] == "arrived\n"
    private = tree / "sub"
    subprocess.run(["mount", "--make-private", private], check=True)
    for spread, words in (("rshared", "a shared mount"), ("rslave", "a shared or slave mount")):
        with api.made("true", host={"Binds": [f"{private}:/x:{spread}"]}) as box:
            answer = api.call("POST", f"/containers/{box.id}/start")
            assert answer.status >= 400
            assert f"{private} but it is not {words}" in answer.message
    with api.living(host={"Binds": [f"{tree}:/x:rslave"]}) as box:
        assert "master:" in " ".join(table(box, "/x")[0])


@shows("Mount.TmpfsOptions", "TmpfsOptions.SizeBytes", "TmpfsOptions.Mode", "TmpfsOptions.Options")
def test_tmpfs_mounts(api: Api) -> None:
    options = {"SizeBytes": 4 * MIB, "Mode": 0o1750, "Options": [["exec"], ["uid", "1000"]]}
    with api.living(host={"Mounts": [mount("tmpfs", "/t", TmpfsOptions=options)]}) as box:
        line = " ".join(table(box, "/t")[0])
        assert " - tmpfs " in line
        assert "size=4096k" in line
        assert "noexec" not in line
        assert box.sh("stat -c '%a %u' /t") == "1750 1000\n"
        assert "No space" in box.sh("dd if=/dev/zero of=/t/f bs=1M count=8")
    with api.living(host={"Mounts": [mount("tmpfs", "/t", ReadOnly=True)]}) as box:
        line = " ".join(table(box, "/t")[0])
        assert "noexec" in line
        assert "size=" not in line
        assert box.sh("stat -c %a /t") == "1777\n"
        assert "Read-only" in box.sh("touch /t/x")


@shows("HostConfig.Tmpfs")
def test_tmpfs(api: Api, default: Box) -> None:
    with api.living(host={"Tmpfs": {"/run/x": "size=1m,mode=700", "/home": ""}}) as box:
        assert "size=1024k" in " ".join(table(box, "/run/x")[0])
        assert box.sh("stat -c %a /run/x") == "700\n"
        assert table(box, "/home")
    assert not table(default, "/home")
    assert "nonsense" in api.refused(host={"Tmpfs": {"/a": "nonsense"}})


@shows("Mount.VolumeOptions", "VolumeOptions.Labels", "VolumeOptions.DriverConfig")
@shows("VolumeDriverConfig.Name", "VolumeDriverConfig.Options")
def test_a_volume_is_made_as_asked(api: Api, room: Path, volume: Callable[[str], Path]) -> None:
    volume("fields-bound")
    (room / "word").write_text("device\n")
    driver = {"Name": "local", "Options": {"type": "none", "o": "bind", "device": str(room)}}
    options = {"Labels": {"colour": "blue"}, "DriverConfig": driver}
    entry = mount("volume", "/v", "fields-bound", VolumeOptions=options)
    assert api.sh("cat /v/word", host={"Mounts": [entry]}) == "device\n"
    shown = api.ok("GET", "/volumes/fields-bound")
    assert shown["Labels"] == {"colour": "blue"}
    assert shown["Options"] == driver["Options"]
    unknown = {"DriverConfig": {"Name": "no-such-driver"}}
    entry = mount("volume", "/v", "fields-none", VolumeOptions=unknown)
    answer = api.create({"Image": "busybox", "HostConfig": {"Mounts": [entry]}})
    assert answer.status in (400, 404)
    assert "no-such-driver" in answer.message


@shows("HostConfig.VolumeDriver")
def test_the_volume_driver(api: Api, volume: Callable[[str], Path]) -> None:
    volume("fields-driver")
    host = {"Binds": ["fields-driver:/v"], "VolumeDriver": "local"}
    with api.made("true", host=host) as box:
        assert box.inspect()["Mounts"][0]["Driver"] == "local"
    answer = api.create({"Image": "busybox", "HostConfig": host | {"VolumeDriver": "no-such-one",
                         "Binds": ["fields-other:/v"]}})  # fmt: skip
    assert answer.status in (400, 404)
    assert "no-such-one" in answer.message


@shows("VolumeOptions.NoCopy")
def test_a_new_volume_is_filled_unless_told_not_to(api: Api, volume: Callable[[str], Path]) -> None:
    volume("fields-full")
    volume("fields-empty")
    full = mount("volume", "/etc", "fields-full")
    empty = mount("volume", "/bin2", "fields-empty", VolumeOptions={"NoCopy": True})
    out = api.sh("wc -l </etc/passwd; ls /bin2 | wc -l", host={"Mounts": [full, empty]})
    assert out.split() == ["4", "0"]
    script = "ls /etc | grep -c passwd"
    for entry in (
        mount("volume", "/etc", "fields-empty", VolumeOptions={"NoCopy": True}),
        "fields-empty:/etc:nocopy",
    ):
        host = {"Binds": [entry]} if isinstance(entry, str) else {"Mounts": [entry]}
        assert api.sh(script, host=host) == "0\n"


@shows("VolumeOptions.Subpath")
def test_a_part_of_a_volume(api: Api, volume: Callable[[str], Path]) -> None:
    data = volume("fields-part")
    host = {"Binds": ["fields-part:/v"]}
    api.sh("mkdir -p /v/a/b; echo deep >/v/a/b/word; ln -s a/b /v/in; ln -s / /v/out", host=host)
    api.sh("ln -s ../../.. /v/a/up", host=host)

    def part(subpath: str) -> Box:
        entry = mount("volume", "/p", "fields-part", VolumeOptions={"Subpath": subpath})
        return api.made("cat", "/p/word", host={"Mounts": [entry]})

    for inside in ("a/b", "in"):
        with part(inside) as box:
            box.start()
            assert box.wait() == 0
            assert b"deep" in box.logs().body
    for outside in ("out", "out/etc", "a/up", "missing"):
        with part(outside) as box:
            answer = api.call("POST", f"/containers/{box.id}/start")
            assert answer.status >= 400, outside
            assert outside in answer.message
    for wrong in ("/etc", "../x", "a/../../x"):
        entry = mount("volume", "/p", "fields-part", VolumeOptions={"Subpath": wrong})
        assert "subpath" in api.refused(host={"Mounts": [entry]})
    assert data.is_dir()


def test_a_part_that_is_swapped_for_a_link_meanwhile(
    api: Api, volume: Callable[[str], Path], room: Path
) -> None:
    """A container that flips a folder and a link out of the volume never gets the other there."""
    data = volume("fields-race")
    (room / "word").write_text("secret\n")
    api.sh("mkdir /v/real; echo mine >/v/real/word", host={"Binds": ["fields-race:/v"]})
    os.symlink(room, data / "link")
    flip = (
        "import os,sys\nos.chdir(sys.argv[1])\nos.mkdir('spare')\n"
        "open('spare/word','w').write('mine\\n')\n"
        "import ctypes\nlibc=ctypes.CDLL(None)\n"
        "while True: libc.renameat2(-100,b'real',-100,b'link',2)\n"
    )
    import sys

    racer = subprocess.Popen([sys.executable, "-c", flip, str(data)])
    try:
        entry = mount("volume", "/p", "fields-race", VolumeOptions={"Subpath": "real"})
        with api.made("cat", "/p/word", host={"Mounts": [entry]}) as box:
            started = 0
            for _ in range(40):
                answer = api.call("POST", f"/containers/{box.id}/start")
                if answer.status == 204:
                    started += 1
                    box.wait()
            assert b"secret" not in box.logs().body
            assert started, "the folder was there now and then"
    finally:
        racer.kill()
        racer.wait()


@shows("HostConfig.VolumesFrom")
def test_volumes_from(api: Api, tree: Path, volume: Callable[[str], Path]) -> None:
    volume("fields-lent")
    host = {"Binds": ["fields-lent:/v", f"{tree}:/b"]}
    with api.made("sh", "-c", "echo lent >/v/word", host=host, config={"Volumes": {"/anon": {}}},
                  name="fields-lender") as first:  # fmt: skip
        first.start()
        first.wait()
        with api.living(host={"VolumesFrom": ["fields-lender"]}) as box:
            assert box.sh("cat /v/word /b/file") == "lent\nhost\n"
            assert table(box, "/anon")
            assert "ok" in box.sh("touch /v/x && echo ok")
        with api.living(host={"VolumesFrom": [f"{first.id}:ro"]}) as box:
            assert "Read-only" in box.sh("touch /v/x")
            assert "Read-only" in box.sh("touch /anon/x")
        names = {point["Destination"]: point["Name"] for point in first.inspect()["Mounts"]
                 if point["Type"] == "volume"}  # fmt: skip
        assert api.call("GET", f"/volumes/{names['/anon']}").status == 200, "lent, not owned"
    answer = api.create({"Image": "busybox", "HostConfig": {"VolumesFrom": ["no-such"]}})
    assert answer.status in (400, 404)
    assert "no-such" in answer.message
    assert "invalid mode" in api.refused(host={"VolumesFrom": ["x:nonsense"]})


@shows("ContainerConfig.Volumes")
def test_anonymous_volumes(api: Api, image: str) -> None:
    """Of the image and of the request, seeded with owners and modes, gone with the container."""
    prepare = {"Image": image, "Volumes": {"/etc": {}}}
    with api.living(config=prepare) as box:
        points = {point["Destination"]: point for point in box.inspect()["Mounts"]}
        assert set(points) == {"/etc", "/home"}
        assert all(len(point["Name"]) == 64 for point in points.values())
        assert box.sh("wc -l </etc/passwd; stat -c '%a %u' /etc /home").split() == [
            *("4", "755", "0", "755", "0")
        ]
        names = [point["Name"] for point in points.values()]
        assert all(api.call("GET", f"/volumes/{name}").status == 200 for name in names)
    assert all(api.call("GET", f"/volumes/{name}").status == 404 for name in names)


def test_seeding_keeps_owners_modes_and_links(
    api: Api, engine: Engine, volume: Callable[[str], Path]
) -> None:
    import io
    import tarfile

    buffer = io.BytesIO(busybox_tar())
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        for name, kind, mode, uid, link in (
            ("seed", tarfile.DIRTYPE, 0o2750, 1000, ""),
            ("seed/file", tarfile.REGTYPE, 0o640, 1001, ""),
            ("seed/link", tarfile.SYMTYPE, 0o777, 0, "file"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.uid, member.gid = kind, mode, uid, 29
            member.linkname = link
            archive.addfile(member)
    headers = {"Content-Type": "application/x-tar"}
    where = "/images/create?fromSrc=-&repo=fields-seed&tag=1"
    assert engine.api("POST", where, buffer.getvalue(), headers=headers).status == 200
    try:
        volume("fields-seeded")
        host = {"Binds": ["fields-seeded:/seed"]}
        script = "cd /seed; stat -c '%a %u %g' . file; readlink link"
        out = api.sh(script, host=host, config={"Image": "fields-seed:1"})
        assert out.splitlines() == ["2750 1000 29", "640 1001 29", "file"]
        again = api.sh(f"touch new; {script}; ls /seed", host=host)
        assert "640 1001 29" in again, "a volume that has something in it is left alone"
    finally:
        engine.api("DELETE", "/images/fields-seed:1?force=1")


@shows("HostConfig.StorageOpt")
def test_storage_options(api: Api) -> None:
    """A size needs a driver with quotas; what is not known is refused by its name."""
    answer = api.create({"Image": "busybox", "HostConfig": {"StorageOpt": {"size": "10m"}}})
    if answer.status == 201:
        api.remove(answer.json()["Id"])
        out = api.sh("dd if=/dev/zero of=/f bs=1M count=20", host={"StorageOpt": {"size": "10m"}})
        assert "space" in out or "quota" in out
    else:
        assert answer.status in (400, 501)
        assert "StorageOpt: size" in answer.message
    assert "nonsense" in api.refused(host={"StorageOpt": {"nonsense": "1"}})


def test_a_restart_of_the_daemon_does_not_keep_volumes(make_engine: Callable[..., Engine]) -> None:
    """Those of containers that do not run are in nobody's use when these go."""
    engine = make_engine()
    api = Api(engine)
    config = {"Volumes": {"/anon": {}}}
    try:
        with api.living(config=config) as running, api.made("true", config=config) as over:
            over.start()
            over.wait()
            names = [box.inspect()["Mounts"][0]["Name"] for box in (running, over)]
            api.reconnect()
            engine.restart()
            answer = api.call("DELETE", f"/volumes/{names[0]}")
            assert answer.status == 409, answer.body
        assert [api.call("GET", f"/volumes/{name}").status for name in names] == [404, 404]
    finally:
        api.connection.close()
