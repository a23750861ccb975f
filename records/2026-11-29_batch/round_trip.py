"""How long an engine takes to hand a scene to a worker and to hear of it, where nothing is done.

    PYTHONPATH=records/2026-11-29_batch ray start --head --num-cpus=2
    python records/2026-11-29_batch/round_trip.py

Prints, for local workers and for Ray, the seconds until two workers are ready and milliseconds of
the clock: the median and the ninth decile of 200 round trips.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from pathlib import Path

import round_trip  # workers import it by this name

from sat2map.batch.engine import Engine
from sat2map.batch.item import Item, Outcome, Work
from sat2map.batch.local import LocalWorkers
from sat2map.batch.ray_process import Plan
from sat2map.batch.ray_workers import RayWorkers


def open_nothing(worker: str) -> Work:
    """Return what does nothing with scenes."""

    def work(item: Item, stop: threading.Event) -> Outcome:
        return Outcome("failed")

    return work


def measure(name: str, engine: Engine, began: float) -> None:
    """Print how fast an engine is, whose start began at a moment."""
    while len(engine.free()) < 2:
        engine.wait(0.5)
    ready = time.monotonic() - began
    worker, spent = engine.free()[0], []
    for _ in range(200):
        start = time.perf_counter()
        engine.send(worker, Item("a.tif", "a.tif"))
        while not engine.wait(0.5):
            pass
        spent.append(1e3 * (time.perf_counter() - start))
    ninth = statistics.quantiles(spent, n=10)[-1]
    print(f"{name}: ready after {ready:.1f} s; {statistics.median(spent):.2f} ms, {ninth:.2f}")
    engine.close()


if __name__ == "__main__":
    began = time.monotonic()
    measure("local", LocalWorkers(round_trip.open_nothing, 2), began)
    began = time.monotonic()
    cluster = RayWorkers("auto")
    scratch = Path(tempfile.gettempdir()) / "sat2map-round-trip"
    cluster.start(round_trip.open_nothing, 2, Plan(1, 1_000_000_000, 0.0, scratch))
    measure("Ray", cluster, began)
