"""A function called in a process of its own, since a package that it needs changes the process.

Not by `multiprocessing`, which runs the caller's script once more where nothing guards it.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.spawn import get_executable
from typing import Any

from sat2map.errors import ModelError

_BEGIN = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from sat2map.export.child_process import serve; serve()"
)


def call_apart(
    function: Callable[..., Any],
    *arguments: Any,
    progress: Callable[[int, int], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Return what `function(*arguments, progress)` returns in another process, or raise its error.

    What it prints to stdout is dropped.

    Args:
        function: One that can be imported; its arguments and its result can be pickled.
        arguments: What it is called with.
        progress: Called with what the function calls its last argument with.
        environment: What the other process's environment has beside this one's.

    Raises:
        ModelError: The other process was killed.
    """
    process = subprocess.Popen(
        [os.fsdecode(get_executable()), "-c", _BEGIN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        for message in (sys.path, (function, arguments)):
            pickle.dump(message, process.stdin)
        process.stdin.flush()
        while True:
            kind, content = pickle.load(process.stdout)
            if kind == "done":
                process.wait()
                return content
            if kind == "error":
                raise content
            if progress is not None:
                progress(*content)
    except (EOFError, BrokenPipeError) as error:
        raise ModelError(
            "the process that works on the model was killed, probably for want of memory",
            remedy="Close other programs, or calibrate with fewer or smaller images.",
        ) from error
    finally:
        process.kill()  # an interrupt leaves nothing running
        process.communicate()


def serve() -> None:
    """Answer one call of `call_apart`, in the process that it starts."""
    # Ctrl-C is the first process's affair, and this one is ours.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # noqa: TID251
    with os.fdopen(os.dup(1), "wb") as channel:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)

        def tell(kind: str, content: object) -> None:
            channel.write(pickle.dumps((kind, content)))
            channel.flush()

        function, arguments = pickle.load(sys.stdin.buffer)
        try:
            done = function(*arguments, lambda *counts: tell("progress", counts))
        except Exception as error:
            error.add_note(traceback.format_exc())
            tell("error", error)
        else:
            tell("done", done)
