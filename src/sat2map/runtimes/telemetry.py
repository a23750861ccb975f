"""Keeps OpenVINO from telling of its use, in processes of our own."""

from __future__ import annotations

import sys


def tell_nobody() -> None:
    """Have OpenVINO not find what would report each of its imports.

    It would do so by a fork of this process, which may outlive it, waits for ever for its stdin,
    and keeps open the pipes by whose end others notice that this process has died.

    It changes the whole process, so only the entry points of our own processes call it.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
