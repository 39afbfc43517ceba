"""What the daemon and a shim say to each other over their SOCK_SEQPACKET socket.

One message is one packet: a header, then one item of :mod:`boxwood_ext.wire`; descriptors travel
beside it (SCM_RIGHTS). The C side (``ext/c/shim_*.c``) is generated from the same table.

Terms:
    task: what the shim supervises. ``""`` is the container's own process, any other name an exec.
    request: a number of the daemon's choice; exactly one ``reply`` carries it.

Life: ``configure`` comes first, once. A task is made (``configure`` makes ``""``, ``task`` an
exec), clients are attached to it, and ``start`` launches it; its reply comes when the payload
runs, or with the operation that failed. When a task has ended and its output is drained the shim
says ``exited`` and holds the clients' connections open until ``acknowledge``, or for two seconds,
so that who reads the end of the stream finds the status recorded.
"""

from __future__ import annotations

from typing import Final

from boxwood_ext.wire import Messages, c_messages, operation

VERSION: Final = 1
MAX_MESSAGE: Final = 48 << 10
"""Bytes of one packet; programs travel in a memfd. The kernel's default buffer holds four."""
MAX_PREREAD: Final = 32 << 10
"""Bytes already read of a client that travel with it."""
MAX_CLIENTS: Final = 128
"""Attached at once, to all tasks of one shim."""
MAX_TASKS: Final = 256
"""Execs at once, with those whose end is not acknowledged yet."""

# Flags of `attach`.
CLIENT_STDIN: Final = 1
CLIENT_STDOUT: Final = 2
CLIENT_STDERR: Final = 4
CLIENT_FRAMED: Final = 8
"""Each piece of output has Docker's 8-byte header (stream, length)."""
CLIENT_HELD: Final = 16
"""Output waits in a queue until a byte comes out of a second descriptor, a pipe's; its end without
one drops the client. The daemon writes what the log has first."""

# States of `state`.
TASK_CREATED: Final = 0
TASK_STARTING: Final = 1
TASK_RUNNING: Final = 2
TASK_EXITED: Final = 3

TABLE: Final = (
    operation(1, "configure", "request:u64 id:str directory:str exit_file:str log_path:str "
              "log_attrs:bytes log_max_size:u64 log_max_files:u64 tty:u64 open_stdin:u64 "
              "stdin_once:u64 durable:u64",
              "First message. directory: where shim.sock is made. log_path empty: no log; "
              "log_attrs: a JSON object for every line, or empty; durable=1: fdatasync the exit "
              "file."),
    operation(2, "task", "request:u64 task:str tty:u64 open_stdin:u64", "Make an exec."),
    operation(3, "attach", "request:u64 task:str flags:u64 preread:bytes detach_keys:bytes",
              "One descriptor: a client's connection, the shim's from now on. With CLIENT_HELD a "
              "second, and the reply's value is the moment (ns since the epoch) before which the "
              "log has everything, and after which the client gets it."),
    operation(4, "start", "request:u64 task:str", "Descriptors: the program (a memfd), then its "
              "slots. The reply's value is the pid."),
    operation(5, "resize", "request:u64 task:str rows:u64 columns:u64", "Size of the terminal."),
    operation(6, "signal", "request:u64 task:str signal:u64", "Send a signal to the process."),
    operation(7, "acknowledge", "task:str", "The end of this task is recorded. No reply."),
    operation(8, "finish", "request:u64 task:str text:bytes", "Forget a task that does not run. "
              "With text its clients get that, as standard error, and the end; without, the daemon "
        "has more to say on their connections."),
    operation(9, "quit", "request:u64", "End when no task runs: the shim refuses otherwise."),
    operation(32, "reply", "request:u64 error:i64 operation:str object:str value:u64",
              "error: 0 or a positive errno."),
    operation(33, "exited", "task:str code:u64 signal:u64 finished:u64",
              "code: 128 + signal when a signal ended it; finished: nanoseconds since the epoch."),
    operation(34, "detached", "task:str", "A client left by its detach keys."),
    operation(35, "state", "task:str state:u64 pid:u64 code:u64 signal:u64 finished:u64",
              "One for each task to a daemon that connects; `ready` ends them."),
    operation(36, "ready", "id:str exit_file:str", "The state is told."),
)  # fmt: skip

_MESSAGES: Final = Messages(TABLE, VERSION, MAX_MESSAGE)
BY_NAME: Final = _MESSAGES.by_name
BY_CODE: Final = _MESSAGES.by_code
encode = _MESSAGES.encode
decode = _MESSAGES.decode


def c_header() -> str:
    """The table as a C header: ``ext/c/generated/shim_messages.h``."""
    words = ("VERSION", "MAX_", "CLIENT_", "TASK_")
    return c_messages("protocol", "BXM", globals(), words, TABLE)
