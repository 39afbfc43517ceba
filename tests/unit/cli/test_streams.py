"""The relay between three streams and a socket, against pipes and socket pairs."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwood.cli.errors import CliError
from boxwood.cli.streams import Demultiplexer, Detached, Relay, Verbatim, write_all
from boxwood.cli.terminal import EscapeScanner, parse_detach_keys
from boxwood.client.duplex import Duplex
from boxwood.client.errors import ProtocolError


class FakeConnection:
    """What `Duplex` takes from a connection."""

    def __init__(self, sock: socket.socket, early: bytes = b"") -> None:
        self.sock = sock
        self.buffer = bytearray(early)


def frame(kind: int, data: bytes) -> bytes:
    return bytes((kind, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


class Pipe:
    """A pipe whose whole content is read at the end."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()

    def content(self) -> bytes:
        os.close(self.write)
        with os.fdopen(self.read, "rb") as file:
            return file.read()


FRAMES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=12)


@pytest.mark.property
@given(FRAMES, st.integers(1, 30))
def test_frames_are_split_wherever_reads_cut_them(
    frames: list[tuple[int, bytes]], step: int
) -> None:
    out, err = Pipe(), Pipe()
    sink = Demultiplexer(out.write, err.write)
    stream = b"".join(frame(kind, data) for kind, data in frames)
    for at in range(0, len(stream), step):
        sink.feed(memoryview(stream[at : at + step]))
    sink.finish()
    assert out.content() == b"".join(data for kind, data in frames if kind == 1)
    assert err.content() == b"".join(data for kind, data in frames if kind == 2)


def test_a_stream_that_is_not_wanted_is_dropped() -> None:
    out = Pipe()
    sink = Demultiplexer(out.write, None)
    sink.feed(memoryview(frame(2, b"no") + frame(1, b"yes") + frame(0, b"!")))
    assert out.content() == b"yes!"


@pytest.mark.parametrize("cut", [1, 7, 8, 10])
def test_an_end_inside_a_frame_is_an_error(cut: int) -> None:
    sink = Demultiplexer(None, None)
    sink.feed(memoryview(frame(1, b"hello")[:cut]))
    with pytest.raises(ProtocolError):
        sink.finish()


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ProtocolError):
        Demultiplexer(None, None).feed(memoryview(frame(9, b"x")))


def test_the_engines_own_error_ends_the_stream() -> None:
    with pytest.raises(CliError, match="disk full"):
        Demultiplexer(None, None).feed(memoryview(frame(3, b"disk full")))


def test_an_error_text_without_end_is_refused() -> None:
    with pytest.raises(ProtocolError):
        Demultiplexer(None, None).feed(memoryview(b"\x03\0\0\0\x7f\xff\xff\xff"))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def run_engine(theirs: socket.socket) -> threading.Thread:
    """Sends back, framed, all that comes, until the other side is closed."""

    def echo() -> None:
        while data := theirs.recv(65536):
            theirs.sendall(frame(1, data))
        theirs.sendall(frame(2, b"end"))
        theirs.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=echo)
    thread.start()
    return thread


def test_input_ends_with_a_half_close_and_output_goes_on(
    pair: tuple[socket.socket, socket.socket], tmp_path: object
) -> None:
    data = os.urandom(3_000_000)
    ours, theirs = pair
    thread = run_engine(theirs)
    source, sink_out, sink_err = os.memfd_create("in"), os.memfd_create("out"), Pipe()
    os.write(source, data)
    os.lseek(source, 0, os.SEEK_SET)
    early = frame(2, b"early ")
    wire = Duplex(FakeConnection(ours, early))  # type: ignore[arg-type]
    Relay(wire, Demultiplexer(sink_out, sink_err.write), stdin=source).run()
    thread.join()
    os.lseek(sink_out, 0, os.SEEK_SET)
    assert os.read(sink_out, len(data) + 1) == data
    assert sink_err.content() == b"early end"
    os.close(source)
    os.close(sink_out)


def test_without_input_the_sending_side_stays_open(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    out = Pipe()
    theirs.sendall(b"raw output")
    theirs.setblocking(False)
    wire = Duplex(FakeConnection(ours))  # type: ignore[arg-type]
    thread = threading.Timer(0.1, lambda: theirs.shutdown(socket.SHUT_WR))
    thread.start()
    Relay(wire, Verbatim(out.write)).run()
    thread.join()
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    assert out.content() == b"raw output"


def test_an_engine_that_takes_no_more_input_still_has_output(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    theirs.sendall(b"bye")
    theirs.close()
    source, out = os.memfd_create("in"), Pipe()
    os.write(source, b"x" * 100_000)
    os.lseek(source, 0, os.SEEK_SET)
    wire = Duplex(FakeConnection(ours))  # type: ignore[arg-type]
    Relay(wire, Verbatim(out.write), stdin=source).run()
    os.close(source)
    assert out.content() == b"bye"


def test_the_keys_detach_and_what_came_before_is_sent(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    read, write = os.pipe()
    os.write(write, b"ls\r")
    wire = Duplex(FakeConnection(ours))  # type: ignore[arg-type]
    relay = Relay(wire, Verbatim(None), stdin=read, detach_keys=b"\x10\x11")
    typing = threading.Timer(0.1, lambda: os.write(write, b"\x10\x11"))
    typing.start()
    with pytest.raises(Detached):
        relay.run()
    typing.join()
    assert theirs.recv(100) == b"ls\r"
    os.close(read)
    os.close(write)


def test_writing_waits_for_a_reader_that_does_not_block() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    data = os.urandom(300_000)
    found = bytearray()

    def drain() -> None:
        with os.fdopen(read, "rb") as file:
            found.extend(file.read())

    thread = threading.Thread(target=drain)
    thread.start()
    write_all(write, memoryview(data))
    os.close(write)
    thread.join()
    assert bytes(found) == data


def reference(keys: bytes, data: bytes) -> tuple[bytes, bool]:
    """Where the keys come first, found the slow way; keys do not overlap themselves."""
    at = data.find(keys)
    return (data, False) if at < 0 else (data[:at], True)


@pytest.mark.property
@given(st.lists(st.sampled_from([b"\x10", b"\x11", b"a", b"bc"]), max_size=12), st.integers(1, 5))
def test_the_scanner_finds_the_keys_however_they_are_cut(parts: list[bytes], step: int) -> None:
    keys, data = b"\x10\x11", b"".join(parts)
    scanner, passed = EscapeScanner(keys), b""
    for at in range(0, len(data), step):
        passed += scanner.feed(data[at : at + step])
        if scanner.found:
            break
    expected, found = reference(keys, data)
    assert scanner.found == found
    held = b"" if found or not data.endswith(keys[:1]) else keys[:1]
    assert passed + held == expected


def test_no_keys_pass_everything() -> None:
    scanner = EscapeScanner(b"")
    assert scanner.feed(b"\x10\x11") == b"\x10\x11"
    assert not scanner.found


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a,b", b"ab"),
        ("ctrl-@", b"\0"),
        ("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x1b\x1c\x1d\x1e\x1f"),
        ("", b""),
    ],
)
def test_detach_keys(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-1", "ctrl-", "ab", "ctrl-p,", "é"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(CliError):
        parse_detach_keys(text)
