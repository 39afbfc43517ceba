"""The flags of `create` become the body that the real client sends, or its refusal."""

from __future__ import annotations

import os
import shlex
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from boxwood.cli.errors import UsageError
from boxwood.cli.opts import OptError, build_create_body
from boxwood.cli.parser import FlagParser
from boxwood.cli.runflags import CREATE_FLAGS
from tests.integration.cli_opts import cases
from tests.integration.cli_opts.recorder import Recorder

WORKERS = 2  # clients side by side
ALLOWED = Path(__file__).with_name("allowed-differences.toml")


def ours(line: str) -> Any:
    """Our body for a command line, or the words of our refusal."""
    values: dict[str, Any] = {
        flag.dest: [] if flag.repeated else flag.default for flag in CREATE_FLAGS
    }
    parser = FlagParser(CREATE_FLAGS, values, interspersed=False)
    try:
        image, *command = parser.parse(shlex.split(line))
        flags = values | {"given": parser.given}
        return normal(build_create_body(flags, image, command).body)
    except (OptError, UsageError) as error:
        return str(error).strip()


def theirs(recorder: Recorder, line: str) -> Any:
    """Docker's body for a command line, or the words of its refusal."""
    body, stderr = recorder.create(shlex.split(line), cases.ENVIRONMENT)
    if body is not None:
        return normal(body)
    words = stderr.partition("\n\nUsage")[0].partition("\n\nRun")[0]
    return words.removeprefix("docker: ").strip()


def normal(body: Any) -> Any:
    """The body with its environment sorted: Docker's order of single settings is random."""
    body["Env"] = sorted(body["Env"]) if body["Env"] else None
    return body


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """What Docker makes of each case, asked two at a time."""
    recorders: SimpleQueue[Recorder] = SimpleQueue()
    made = [Recorder() for _ in range(WORKERS)]
    for recorder in made:
        for name, text in cases.FILES.items():
            (recorder.work / name).write_text(text, errors="surrogateescape")
        recorders.put(recorder)

    def ask(line: str) -> Any:
        recorder = recorders.get()
        try:
            answer = theirs(recorder, line)
            return replaced(answer, str(recorder.work), "WORK", str(recorder.folder), "FOLDER")
        finally:
            recorders.put(recorder)

    try:
        with ThreadPoolExecutor(WORKERS) as pool:
            return dict(zip(cases.CASES, pool.map(ask, cases.CASES), strict=True))
    finally:
        for recorder in made:
            recorder.__exit__()


def replaced(value: Any, *pairs: str) -> Any:
    """`value` with texts replaced everywhere in it: old, new, old, new."""
    if isinstance(value, dict):
        return {key: replaced(item, *pairs) for key, item in value.items()}
    if isinstance(value, list):
        return [replaced(item, *pairs) for item in value]
    if isinstance(value, str):
        for old, new in zip(pairs[::2], pairs[1::2], strict=True):
            value = value.replace(old, new)
    return value


def differences(docker: Any, boxwood: Any, at: str = "") -> list[str]:
    """Where two bodies differ, a line each."""
    if isinstance(docker, dict) and isinstance(boxwood, dict):
        found = []
        for key in docker.keys() | boxwood.keys():
            missing = "absent"
            one, two = docker.get(key, missing), boxwood.get(key, missing)
            found += differences(one, two, f"{at}.{key}")
        return found
    return [] if docker == boxwood else [f"{at}: docker {docker!r}, boxwood {boxwood!r}"]


@pytest.mark.timeout(300)
def test_bodies_are_dockers(
    expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "FOLDER" / "WORK"
    work.mkdir(parents=True)
    for name, text in cases.FILES.items():
        (work / name).write_text(text, errors="surrogateescape")
    monkeypatch.chdir(work)
    for name in os.environ:
        monkeypatch.delenv(name)
    for name, value in cases.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    allowed = {entry["case"] for entry in tomllib.loads(ALLOWED.read_text())["difference"]}
    wrong = []
    for line, docker in expected.items():
        boxwood = replaced(ours(line), str(work), "WORK", str(work.parent), "FOLDER")
        found = differences(docker, boxwood)
        if found and line not in allowed:
            wrong += [line, *found]
        if not found and line in allowed:
            wrong.append(f"{line}: allowed to differ, but does not")
    assert not wrong, "\n  ".join(wrong)
    assert len(expected) >= 150
    assert allowed <= expected.keys()
