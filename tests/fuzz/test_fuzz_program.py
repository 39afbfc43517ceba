"""Launch programs from strangers: the reader in C, under the sanitizers, beside the one in Python.

The kept corpus is `corpus/program/*.bin`; `--fuzz-seconds` says how long more is tried.
"""

from __future__ import annotations

import random
import struct
import subprocess
import time
from pathlib import Path

import pytest

from boxwood_ext import program, wire
from tests.support.needs import need_program

pytestmark = pytest.mark.property

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CORPUS = sorted((HERE / "corpus/program").glob("*.bin"))
BATCH = 3000
INTERESTING = (0, 1, 7, 8, 0x7F, 0x80, 0xFF, 0xFFFF, 0x1FFFF, 0x20000, 0x7FFFFFFF, 0xFFFFFFFF)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader, compiled with sanitizers."""
    need_program("gcc")
    target = tmp_path_factory.mktemp("reader") / "reader"
    c = ROOT / "ext/c"
    command = ["gcc", "-std=gnu11", "-O1", "-g", "-fsanitize=address,undefined",
               "-fno-sanitize-recover=all", "-D_GNU_SOURCE", f"-I{c}", f"-I{c}/generated",
               "-o", target, HERE / "program_reader.c", c / "decode.c"]  # fmt: skip
    subprocess.run(command, check=True)
    return target


def expected(data: bytes) -> bool:
    """The verdict of the oracle, and the order that a launch asks for."""
    try:
        ops = program.decode(data)
    except program.ProgramError:
        return False
    names = [op.name for op in ops]
    parents = [program.BY_NAME[name].parent for name in names]
    return (
        names.count("exec") == 1
        and names[-1] == "exec"
        and parents == sorted(parents, reverse=True)
    )


def mutate(source: random.Random, data: bytes) -> bytes:
    piece = bytearray(data)
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(piece) + 1)
        match source.randrange(5):
            case 0 if at < len(piece):
                piece[at] = source.randrange(256)
            case 1 if at + 4 <= len(piece):
                at &= ~3
                piece[at : at + 4] = struct.pack("<I", source.choice(INTERESTING))
            case 2:
                del piece[at : at + source.choice((1, 8, 16))]
            case 3:
                piece[at:at] = source.randbytes(source.choice((1, 8, 16)))
            case 4 if at + 8 <= len(piece):
                start = source.randrange(len(piece))
                piece[at : at + 8] = piece[start : start + 8]
    if source.random() < 0.7 and len(piece) >= 16:
        piece[12:16] = struct.pack("<I", len(piece))  # past the first check
    return bytes(piece)


def judge(reader: Path, inputs: list[bytes]) -> list[bool]:
    stream = b"".join(struct.pack("<I", len(data)) + data for data in inputs)
    done = subprocess.run([reader], input=stream, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return [char == ord("1") for char in done.stdout]


def test_corpus(reader: Path) -> None:
    inputs = [path.read_bytes() for path in CORPUS]
    assert inputs
    assert judge(reader, inputs) == [expected(data) for data in inputs]
    good = [path for path in CORPUS if path.name.startswith("good")]
    assert all(expected(path.read_bytes()) for path in good)


def test_mutations_are_judged_alike(
    reader: Path, fuzz_random: random.Random, fuzz_seconds: float
) -> None:
    corpus = [path.read_bytes() for path in CORPUS]
    end = time.monotonic() + fuzz_seconds
    while True:
        inputs = [mutate(fuzz_random, fuzz_random.choice(corpus)) for _ in range(BATCH)]
        verdicts = judge(reader, inputs)
        told = zip(inputs, verdicts, strict=True)
        wrong = [data for data, verdict in told if verdict != expected(data)]
        assert not wrong, wrong[0].hex()
        assert any(verdicts), "every input was refused: the mutations reach nothing"
        if time.monotonic() > end:
            return


def test_limits_in_c_are_those_in_python() -> None:
    header = program.c_header()
    assert f"#define BXP_MAX_STRING {wire.MAX_STRING:#x}u" in header
    assert f"#define BXP_MAX_SLOTS {wire.MAX_SLOTS:#x}u" in header
