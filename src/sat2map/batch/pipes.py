"""A process of our own that speaks with the one that started it by pickles, through its pipes.

    first process                             the other
    tell    ========= its stdin ==========>   thread of `listen`; the pipe's end ends it at once
    hear    <======== its stdout ==========   `answer_by_stdout`; what packages print is dropped

A pipe ends when the process at its other end has ended in any way at all, so nobody is left over.
As for `export/child_process.py`, it is not `multiprocessing`, which runs the caller's script once
more where nothing guards it.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.spawn import get_executable
from typing import Any

from sat2map.runtimes.telemetry import tell_nobody

Tell = Callable[[str, object], None]
"""Sends a kind of message, and its content, to the process that started this one."""


def start_process(
    serve: Callable[[], None],
    environment: Mapping[str, str] | None = None,
    paths: Sequence[str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process that calls a function.

    Args:
        serve: One that can be imported; it has no arguments.
        environment: What the other process's environment has, where nobody set it otherwise.
        paths: Where it imports from; None is as in this one.
    """
    begin = (
        "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
        f"from {serve.__module__} import {serve.__name__}; {serve.__name__}()"
    )
    process = subprocess.Popen(
        [os.fsdecode(get_executable()), "-P", "-c", begin],  # nothing of the folder that it is in
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**(environment or {}), **os.environ},
    )
    tell(process, sys.path if paths is None else list(paths))
    return process


def tell(process: subprocess.Popen[bytes], message: object) -> None:
    """Send a message to a process, unless it has died, as `hear` tells."""
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.write(pickle.dumps(message))
        process.stdin.flush()


def hear(process: subprocess.Popen[bytes], heard: Callable[[Any], object]) -> None:
    """Pass on what a process says, in a thread: (kind, content), and None when it has ended."""

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as channel, suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                heard(pickle.load(channel))
        heard(None)

    threading.Thread(target=read, name=f"sat2map-{process.pid}", daemon=True).start()


def bury(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process that ends, and return with what."""
    code = process.wait()
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.close()
    return code


def answer_by_stdout() -> Tell:
    """Return what answers the first process, in one that `start_process` started."""
    # Ctrl-C is the first process's affair, and this process is ours.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # noqa: TID251
    tell_nobody()
    channel = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # what packages print would be taken for answers
    os.close(nowhere)
    lock = threading.Lock()

    def answer(kind: str, content: object) -> None:
        message = pickle.dumps((kind, content))
        with lock, suppress(BrokenPipeError):  # `listen` ends this process
            channel.write(message)
            channel.flush()

    return answer


def listen(heard: Callable[[Any], object]) -> None:
    """Pass on what the first process says, in a thread, and end this process with that one."""

    def read() -> None:
        with suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                heard(pickle.load(sys.stdin.buffer))
        os._exit(1)

    threading.Thread(target=read, name="sat2map-listen", daemon=True).start()
