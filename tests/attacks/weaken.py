"""Builds of the shim and of the tar extractor that lack one guard, to show that it is the defence.

A guard is taken out by replacing one piece of source text, which must stand there exactly once:
who moves or renames a guard is told, by a failing test, to say here where it went.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from tests.support.needs import need_program
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from boxwood_plugins.registry.docker.transport import DockerTransport

SOURCES = ROOT / "ext" / "c"


class Edit(NamedTuple):
    """One place of a source file, and what stands there instead in the weakened build."""

    file: str
    old: str
    new: str


GUARDS: dict[str, Edit] = {
    # How paths of a container are resolved
    "paths.c: RESOLVE_IN_ROOT": Edit(
        "paths.c",
        "resolve |= RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;",
        "resolve |= RESOLVE_NO_MAGICLINKS;",
    ),
    "paths.c: made by descriptor": Edit(
        "paths.c",
        "int status = create(parent, name, last, make);",
        'int status = create(root, path + strspn(path, "/"), last, make);',
    ),
    "paths.c: bound of a path": Edit(
        "paths.c",
        "    if (length >= sizeof work)\n        return -ENAMETOOLONG;\n",
        "",
    ),
    "mounts.c: no links under proc and sysfs": Edit(
        "mounts.c",
        'int no_links = flags & BXP_F_NO_SYMLINKS || !strcmp(fstype, "proc") || '
        '!strcmp(fstype, "sysfs");',
        "int no_links = 0;",
    ),
    "mounts.c: source beneath its base": Edit(
        "mounts.c",
        "fd = bx_openat2(directory, path, O_PATH, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);",
        "fd = bx_openat2(directory, path, O_PATH, 0, 0);",
    ),
    # What a process of the container can reach of ours
    "payload.c: cwd beneath the root": Edit(
        "payload.c",
        "bx_open_beneath(root, BX_STR(0), O_PATH | O_DIRECTORY, 0);",
        "open(BX_STR(0), O_PATH | O_DIRECTORY | O_CLOEXEC);",
    ),
    "payload.c: cwd is inside": Edit("payload.c", "return inside_root();", "return 0;"),
    "payload.c: close_range": Edit(
        "payload.c", "syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);", ""
    ),
    "message.c: MSG_CMSG_CLOEXEC": Edit(
        "message.c",
        "recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);",
        "recvmsg(fd, &message, MSG_DONTWAIT);",
    ),
    "launch.c: not dumpable": Edit(
        "launch.c",
        "    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);\n    prctl(PR_SET_PDEATHSIG",
        "    prctl(PR_SET_PDEATHSIG",
    ),
    "launch.c: not dumpable before the clone": Edit(
        "launch.c",
        "    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);\n    int pid = clone_child",
        "    int pid = clone_child",
    ),
    "message.c: SO_PEERCRED": Edit(
        "message.c", "return !peer.uid || peer.uid == owner;", "return 1;"
    ),
    # The kernel's own file systems
    "nodes.c: the null device by number": Edit(
        "nodes.c",
        "if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))",
        "if (0)",
    ),
    "nodes.c: the null device without links": Edit(
        "nodes.c",
        'bx_open_beneath(root, "/dev/null", O_PATH, RESOLVE_NO_SYMLINKS);',
        'bx_open_beneath(root, "/dev/null", O_PATH, 0);',
    ),
    "kernel.c: private procfs": Edit(
        "kernel.c",
        "int proc = private_proc(child);",
        'BX_FD proc = bx_open_beneath(bx_root(child), "/proc", O_PATH, 0);',
    ),
    "kernel.c: RESOLVE_NO_XDEV": Edit(
        "kernel.c",
        "resolve |= RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;",
        "resolve |= RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;",
    ),
    "kernel.c: PROC_SUPER_MAGIC": Edit("kernel.c", "if (fs.f_type != PROC_SUPER_MAGIC)", "if (0)"),
    "kernel.c: dots in a sysctl": Edit("kernel.c", 'if (strstr(name, ".."))', "if (0)"),
    "terminal.c: ptmx without links": Edit(
        "terminal.c",
        '"/dev/pts/ptmx", O_RDWR | O_NOCTTY, RESOLVE_NO_SYMLINKS);',
        '"/dev/pts/ptmx", O_RDWR | O_NOCTTY, 0);',
    ),
    "terminal.c: console without links": Edit(
        "terminal.c",
        "{.kind = BX_FILE, .no_links = 1, .mode = 0600}",
        "{.kind = BX_FILE, .mode = 0600}",
    ),
    # Who the process is
    "posture.c: setgroups": Edit(
        "posture.c",
        "return bx_sys(syscall(SYS_setgroups, op->args[0].length / sizeof(gid_t), "
        "op->args[0].data));",
        "return 0;",
    ),
    "posture.c: bound of an id": Edit(
        "posture.c", "return id >= UINT32_MAX ? -EINVAL : 0;", "return 0;"
    ),
    # What an exec may hold
    "shim.h: EXEC_DRAIN": Edit("shim.h", "EXEC_DRAIN = 250,", "EXEC_DRAIN = 86400000,"),
    "shim.c: an exec that is over is freed": Edit(
        "shim.c",
        "        if (task->over && task->name[0] && control_connected())\n"
        "            task_free(task);\n",
        "",
    ),
    "shim_client.c: a client that left is closed": Edit(
        "shim_client.c",
        "    watched_close(&client->fd);\n",
        "",
    ),
    # Archives
    "tar/internal.h: RESOLVE_IN_ROOT": Edit(
        "tar/internal.h",
        "#define BW_IN_ROOT (RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)",
        "#define BW_IN_ROOT (RESOLVE_NO_MAGICLINKS)",
    ),
    "tar/path.c: names that lead upwards": Edit(
        "tar/path.c",
        "        if (length == 2 && name[0] == '.' && name[1] == '.') {",
        "        if (0) {",
    ),
}

# Guards of the engine's Python; the files are relative to the checkout.
PYTHON_GUARDS: dict[str, Edit] = {
    "worker_users: regular files only": Edit(
        "runtime/boxwood/execution/worker_users.py",
        "if not stat.S_ISREG(os.fstat(found).st_mode):",
        "if False:",
    ),
    "worker_users: O_NONBLOCK": Edit(
        "runtime/boxwood/execution/worker_users.py",
        "flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY",
        "flags = os.O_RDONLY | os.O_NOCTTY",
    ),
    "worker_users: FILE_LIMIT": Edit(
        "runtime/boxwood/execution/worker_users.py", "FILE_LIMIT = 1 << 20", "FILE_LIMIT = 1 << 26"
    ),
    "worker_users: beneath the root": Edit(
        "runtime/boxwood/execution/worker_users.py", "os.O_PATH, resolve=IN_ROOT)", "os.O_PATH)"
    ),
    "worker_users: bound of an id": Edit(
        "runtime/boxwood/execution/worker_users.py",
        "    if int(text) > ID_LIMIT:\n        raise InvalidArgument(",
        "    if False:\n        raise InvalidArgument(",
    ),
    "worker_users: whole numbers": Edit(
        "runtime/boxwood/execution/worker_users.py",
        "    if _NUMBER.fullmatch(text) is None:\n        if re",
        "    if _NUMBER.match(text):\n        return int(_NUMBER.match(text)[0])\n"
        "    if _NUMBER.fullmatch(text) is None:\n        if re",
    ),
    "worker_init: O_NOFOLLOW": Edit(
        "runtime/boxwood/execution/worker_init.py",
        "os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC",
        "os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC",
    ),
    "worker_init: looks at the link": Edit(
        "runtime/boxwood/execution/worker_init.py",
        "mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode",
        "mode = os.stat(name, dir_fd=parent).st_mode",
    ),
    "worker_trees: a volume's seed beneath the root": Edit(
        "runtime/boxwood/execution/worker_trees.py",
        'fds[0], relative(arguments["path"]), os.O_RDONLY | os.O_DIRECTORY, resolve=IN_ROOT',
        'fds[0], relative(arguments["path"]), os.O_RDONLY | os.O_DIRECTORY',
    ),
    "worker_trees: only an empty volume": Edit(
        "runtime/boxwood/execution/worker_trees.py", "if os.listdir(target):", "if False:"
    ),
    **{
        f"registry/{name}": Edit(f"plugins/boxwood_plugins/registry/docker/{file}.py", old, new)
        for name, file, old, new in (
            (
                "names of this machine",
                "addresses",
                "if self._strict or host in self.outside:",
                "if False:",
            ),
            (
                "names behind a proxy",
                "client",
                'await self._proxied.check(parts.hostname or "")',
                "pass",
            ),
            (
                "a name stays another machine's",
                "addresses",
                "if len(outside) == len(found):",
                "if False:",
            ),
            (
                "addresses of this machine",
                "addresses",
                "    if inside and named != own:",
                "    if False:",
            ),
            (
                "where token servers are",
                "tokens",
                "url, strict = led(request.base, request.base, realm, self._client.resolver)",
                "url, strict = realm, False",
            ),
            (
                "whom a password is shown to",
                "auth",
                "if credentials and not same_party(url.hostname, home):",
                "if False:",
            ),
            (
                "whom an authorization is shown to",
                "client",
                "if self._authorization and self._own(url):",
                "if self._authorization:",
            ),
            (
                "paths stay on their host",
                "client",
                "url = self.base + self.path",
                'url = "http:" + self.path if self.path[:2] == "//" else self.base + self.path',
            ),
            (
                "bound of an answer",
                "answers",
                "                    if len(data) > limit:",
                "                    if False:",
            ),
            (
                "bound of a blob",
                "transport",
                "            if len(piece) > left:",
                "            if False:",
            ),
            (
                "least rate",
                "answers",
                "                if got < LEAST:",
                "                if False:",
            ),
            ("bound of redirects", "client", "REDIRECTS = 5", "REDIRECTS = 10_000"),
        )
    },
    "volume/local: names are checked": Edit(
        "plugins/boxwood_plugins/volume/local.py",
        "    if NAME.match(name) is None or len(name) > 255:",
        "    if False:",
    ),
}


class NotTheGuard(AssertionError):
    """The text of a guard does not stand exactly once where the table says."""


def weakened_text(text: str, edit: Edit) -> str:
    """Return the source without the guard; raises NotTheGuard."""
    found = text.count(edit.old)
    if found != 1:
        raise NotTheGuard(f"{edit.file}: {edit.old!r} stands there {found} times")
    return text.replace(edit.old, edit.new)


def spoil(folder: Path, names: tuple[str, ...], guards: dict[str, Edit]) -> set[str]:
    """Take these guards out of a copy of the sources; return the files that changed."""
    for name in names:
        file = folder / guards[name].file
        file.write_text(weakened_text(file.read_text(), guards[name]))
    return {guards[name].file for name in names}


class Builds:
    """Weakened builds, each made once; what an edit does not touch is compiled once for all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[tuple[str, ...], Path] = {}
        self._objects: dict[str, Path] = {}

    def _compile(self, sources: Path, names: list[str], out: Path) -> dict[str, Path]:
        compiler = need_program(os.environ.get("CC", "gcc"))
        include = SOURCES / "generated"
        command = [compiler, "-c", "-std=gnu11", "-O1", "-w", "-D_GNU_SOURCE",
                   f"-I{sources}", f"-I{include}"]  # fmt: skip
        subprocess.run([*command, *(sources / name for name in names)], check=True, cwd=out)
        return {name: out / f"{Path(name).stem}.o" for name in names}

    def _unchanged(self) -> dict[str, Path]:
        if not self._objects:
            out = self.folder / "objects"
            out.mkdir()
            names = sorted(path.name for path in SOURCES.glob("*.c"))
            self._objects = self._compile(SOURCES, names, out)
        return self._objects

    def shim(self, *names: str) -> Path:
        """Return a shim without these guards of GUARDS."""
        if names not in self._made:
            room = Path(tempfile.mkdtemp(dir=self.folder))
            sources = Path(shutil.copytree(SOURCES, room / "c"))
            changed = spoil(sources, names, GUARDS)
            objects = dict(self._unchanged())
            if any(name.endswith(".h") for name in changed):
                changed = set(objects)
            objects |= self._compile(sources, sorted(changed), room)
            program = room / "boxwood-shim"
            compiler = need_program(os.environ.get("CC", "gcc"))
            subprocess.run([compiler, "-static", "-o", program, *objects.values()], check=True)
            self._made[names] = program
        return self._made[names]

    def tar(self, *names: str) -> ModuleType:
        """Return boxwood_ext.tar, compiled without these guards."""
        room = Path(tempfile.mkdtemp(dir=self.folder))
        sources = Path(shutil.copytree(SOURCES, room / "ext" / "c"))
        spoil(sources, names, GUARDS)
        translated = room / "tar.c"
        cython = [sys.executable, "-m", "cython", "-3", "-o", str(translated)]
        subprocess.run([*cython, str(ROOT / "ext/boxwood_ext/tar.pyx")], check=True)
        made = room / f"tar{sysconfig.get_config_var('EXT_SUFFIX')}"
        compiler = need_program(os.environ.get("CC", "gcc"))
        # The same parts as the real one: its first line names them.
        line = (ROOT / "ext/boxwood_ext/tar.pyx").read_text().splitlines()[0]
        parts = [str(room / part) for part in line.partition("=")[2].split()]
        command = [compiler, "-shared", "-fPIC", "-std=gnu11", "-O0", "-w", "-D_GNU_SOURCE",
                   f"-I{sources}", f"-I{sysconfig.get_path('include')}", "-o", str(made),
                   str(translated), *parts]  # fmt: skip
        subprocess.run(command, check=True)
        return _load("weakened.tar", importlib.machinery.ExtensionFileLoader, made)

    def python(self, *names: str) -> ModuleType:
        """Return a module of the engine without these guards of PYTHON_GUARDS.

        It is another module than the engine's: nothing of what runs is changed.
        """
        room = Path(tempfile.mkdtemp(dir=self.folder))
        files = {PYTHON_GUARDS[name].file for name in names}
        assert len(files) == 1, files
        file = files.pop()
        (room / file).parent.mkdir(parents=True)
        shutil.copy(ROOT / file, room / file)
        spoil(room, names, PYTHON_GUARDS)
        name = f"weakened_{Path(file).stem}"
        return _load(name, importlib.machinery.SourceFileLoader, room / file)

    def registry(self, *names: str) -> type[DockerTransport]:
        """Return the docker transport without these guards, in a package of its own."""
        room = Path(tempfile.mkdtemp(dir=self.folder))
        name = f"weakened_{room.name}"
        source = "plugins/boxwood_plugins/registry/docker"
        shutil.copytree(ROOT / source, room / source)
        spoil(room, names, PYTHON_GUARDS)
        for file in (room / source).glob("*.py"):
            file.write_text(file.read_text().replace("boxwood_plugins.registry.docker", name))
        (room / source).rename(room / name)
        sys.path.insert(0, str(room))
        try:
            found: type[DockerTransport] = importlib.import_module(
                f"{name}.transport"
            ).DockerTransport
        finally:
            sys.path.remove(str(room))
        return found


def _load(name: str, how: type, path: Path) -> ModuleType:
    loader = how(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
