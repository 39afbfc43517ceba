"""The image the tests run: Debian's static busybox with a name for each applet."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from functools import cache
from pathlib import Path

from tests.support.needs import need, need_program

FOLDERS = ("bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr", "usr/bin", "var")
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
    "daemon:x:1:1:daemon:/:/bin/false\n"
    "user:x:1000:1000:user:/home:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\ndaemon:x:1:\naudio:x:29:user\nuser:x:1000:\nnogroup:x:65534:\n",
}


def _add(archive: tarfile.TarFile, name: str, kind: bytes, mode: int, **more: object) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode = kind, mode
    data = more.pop("data", b"")
    assert isinstance(data, bytes)
    member.size = len(data)
    for key, value in more.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(data))


@cache
def busybox_tar() -> bytes:
    """Return the tar of the image's file system: the same bytes each time."""
    program = Path(need_program("busybox"))
    static = subprocess.run(["ldd", program], capture_output=True, check=False).returncode != 0
    need(static, "a static busybox (Debian's busybox-static)")
    applets = subprocess.run(
        [program, "--list"], capture_output=True, text=True, check=True
    ).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for folder in FOLDERS:
            mode = 0o1777 if folder == "tmp" else 0o755
            _add(archive, folder, tarfile.DIRTYPE, mode)
        for name, text in FILES.items():
            _add(archive, name, tarfile.REGTYPE, 0o644, data=text.encode())
        data = Path(os.path.realpath(program)).read_bytes()
        _add(archive, "bin/busybox", tarfile.REGTYPE, 0o755, data=data)
        for applet in applets:
            if applet != "busybox":
                _add(archive, f"bin/{applet}", tarfile.SYMTYPE, 0o777, linkname="busybox")
    return buffer.getvalue()
