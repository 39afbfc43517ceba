"""DNS from strangers: the helper's reader in C, under the sanitizers, beside a slow one in Python.

`--fuzz-seconds` says how long it is tried.
"""

from __future__ import annotations

import random
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from boxwood.execution.names import encode_records
from tests.support import dns
from tests.support.needs import need_program

pytestmark = pytest.mark.property

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BATCH = 2000
NAMES = ["web", "a.b.c", "x" * 63, ".".join(["y" * 60] * 4), "", "1.0.17.172.in-addr.arpa",
         "0." * 32 + "ip6.arpa", "WEB.Front", "é"]  # fmt: skip


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader, compiled with sanitizers."""
    need_program("gcc")
    target = tmp_path_factory.mktemp("reader") / "reader"
    c = ROOT / "ext/c"
    command = ["gcc", "-std=gnu11", "-O1", "-g", "-fsanitize=address,undefined",
               "-fno-sanitize-recover=all", "-D_GNU_SOURCE", f"-I{c}", "-o", target,
               HERE / "dns_reader.c", c / "helper/dns.c", c / "helper/zones.c"]  # fmt: skip
    subprocess.run(command, check=True)
    return target


@dataclass
class Question:
    """What the slow reader found."""

    rcode: int
    kind: int = 0
    end: int = 0
    labels: tuple[bytes, ...] = ()
    limit: int = 512

    def line(self) -> str:
        if self.rcode:
            return str(self.rcode)
        plain = not any(b"." in label or b"\0" in label for label in self.labels)
        name = b".".join(self.labels).lower().hex() if plain else ""
        return f"0 {self.kind} {self.end} {len(self.labels)} {self.limit} {name}"


class Broken(Exception):
    """The message ends too early, or says what it must not."""


class Walk:
    """Takes pieces off the front of a message."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise Broken
        self.at += count
        return self.data[self.at - count : self.at]

    def u16(self) -> int:
        return struct.unpack(">H", self.take(2))[0]

    def name(self) -> tuple[bytes, ...]:
        labels: list[bytes] = []
        while length := self.take(1)[0]:
            if length > 63:
                raise Broken
            labels.append(self.take(length))
            if sum(len(label) + 1 for label in labels) > 255:
                raise Broken
        return tuple(labels)

    def skip_name(self) -> None:
        while length := self.take(1)[0]:
            if length & 0xC0 == 0xC0:
                self.take(1)
                return
            if length > 63:
                raise Broken
            self.take(length)


def slow(message: bytes) -> Question:
    """Read a question as RFC 1035 and 6891 say."""
    if not 12 <= len(message) <= 65535 or message[2] & 0x80:
        return Question(-1)
    if message[2] & 0x78:
        return Question(dns.NOTIMP)
    counts = struct.unpack_from(">4H", message, 4)
    walk = Walk(message)
    walk.at = 12
    try:
        if counts[0] != 1:
            raise Broken
        found = Question(0, labels=walk.name())
        found.kind, _ = walk.u16(), walk.u16()
        found.end = walk.at
        if sum(counts[1:]) > 16:
            raise Broken
        for _ in range(sum(counts[1:])):
            walk.skip_name()
            kind, size = walk.u16(), walk.u16()
            walk.take(4)
            walk.take(walk.u16())
            if kind == 41:
                found.limit = min(max(size, 512), 4096)
    except Broken:
        return Question(dns.FORMERR)
    return found


def judge(reader: Path, inputs: list[tuple[bytes, ...]]) -> list[str]:
    """``(kind, bytes...)`` each."""
    parts = []
    for kind, *pieces in inputs:
        parts.append(kind)
        parts += [struct.pack("<I", len(piece)) + piece for piece in pieces]
    done = subprocess.run([reader], input=b"".join(parts), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


def mutate(source: random.Random, data: bytes) -> bytes:
    piece = bytearray(data)
    for _ in range(source.randint(0, 3)):
        at = source.randrange(len(piece) + 1)
        match source.randrange(5):
            case 0 if at < len(piece):
                piece[at] = source.choice((0, 1, 3, 0x2E, 0x3F, 0x40, 0x80, 0xC0, 0xFF, 41))
            case 1 if at < len(piece):
                piece[at] ^= 1 << source.randrange(8)
            case 2:
                del piece[at : at + source.choice((1, 2, 8))]
            case 3:
                piece[at:at] = source.randbytes(source.choice((1, 2, 8)))
            case 4:
                piece = piece[:at]
    return bytes(piece)


def some_query(source: random.Random) -> bytes:
    name = source.choice(NAMES).encode().decode("latin-1")
    kind = source.choice((dns.A, dns.AAAA, dns.PTR, dns.MX))
    message = dns.query("x", kind, edns=source.choice((0, 0, 100, 1232, 60000)))
    labels = [label.encode("latin-1") for label in name.split(".") if label]
    wire = b"".join(bytes([len(label)]) + label for label in labels)
    return message[:12] + wire + message[14:]


def some_zone(source: random.Random) -> bytes:
    return encode_records(
        {
            f"c{n}": tuple(
                source.choice((f"10.0.{n % 7}.{k}", f"fd00::{n % 7:x}:{k + 1}"))
                for k in range(source.randrange(4))
            )
            for n in range(source.randrange(20))
        }
    )


def test_questions_are_read_alike(
    reader: Path, fuzz_random: random.Random, fuzz_seconds: float
) -> None:
    end = time.monotonic() + fuzz_seconds
    while True:
        inputs = [mutate(fuzz_random, some_query(fuzz_random)) for _ in range(BATCH)]
        lines = judge(reader, [(b"q", message) for message in inputs])
        for message, line in zip(inputs, lines, strict=True):
            assert line.split(" ")[:6] == slow(message).line().split(" "), message.hex()
        assert sum(line.startswith("0 ") for line in lines) > BATCH // 10
        if time.monotonic() > end:
            return


def test_answers_and_tables(reader: Path, fuzz_random: random.Random, fuzz_seconds: float) -> None:
    """Only what has the question counts; a table is whole, or refused."""
    end = time.monotonic() + fuzz_seconds
    while True:
        query = dns.query("a.example")
        good = [
            dns.answer(query, "1.2.3.4", "5.6.7.8"),
            dns.aliased(query, "b.example", "c.example", "1.2.3.4"),
            dns.answer(query, "fd00::1"),
        ]
        assert judge(reader, [(b"a", query, one) for one in good]) == ["1 2", "1 1", "1 0"]
        answers = [mutate(fuzz_random, fuzz_random.choice(good)) for _ in range(BATCH)]
        lines = judge(reader, [(b"a", query, answer) for answer in answers])
        for answer, line in zip(answers, lines, strict=True):
            head = len(answer) >= 12 and answer[2] & 0xF8 == 0x80
            same = head and answer[12:27].lower() == query[12:27] and answer[4:6] == b"\0\1"
            bare = head and len(answer) == 12 and answer[4:6] == b"\0\0" and answer[3] & 15
            assert line[0] == str(int(bool(same or bare))), answer.hex()
        zones = [mutate(fuzz_random, some_zone(fuzz_random)) for _ in range(BATCH)]
        for line in judge(reader, [(b"z", zone) for zone in zones]):
            status, *counts = map(int, line.split())
            assert status <= 0
            if not status:
                assert counts[0] == counts[1]
        if time.monotonic() > end:
            return
