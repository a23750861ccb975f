"""Write the table of docs/explanation/scale.md: how long a region takes, and what is busy first.

python docs/scale_table.py

A cost model, fed with what was measured on one machine: each step takes what it has to do, divided
by how much of it goes on at once. The longest step is the first bottleneck.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parent / "explanation" / "scale.md"
MARK = "<!-- table: written by docs/scale_table.py -->\n"
END = "<!-- end of the table -->\n"

REGIONS = {
    "a city, 10 Gpx": 10e9,
    "a country at 0.5 m, 10 Tpx": 10e12,
    "all land at 1 m, 150 Tpx": 150e12,
}
MACHINES = (10, 100, 1000)


@dataclass(frozen=True)
class Measured:
    """What was measured; the page says by which commands.

    Attributes:
        pixels_a_second: Of the map, that one core makes with `streets` in int8.
        start_s: Until a worker has opened the model.
        scene_s: Of the worker's processor for a scene, however small it is.
        driver_s: Of the driver's processor for a scene, its lines in the manifest and its item in
            the catalogue among it.
        item_s: Of these, for the item, at the end.
        bytes_in: Of a scene for each pixel.
        bytes_out: Of its map and class map.
    """

    pixels_a_second: float = 4.7e6
    start_s: float = 5.0
    scene_s: float = 0.03
    driver_s: float = 0.0105
    item_s: float = 0.0048
    bytes_in: float = 0.22
    bytes_out: float = 0.83


@dataclass(frozen=True)
class Assumed:
    """What is assumed of scenes and machines.

    Attributes:
        scene: Pixels of a scene.
        cores: Of a machine.
        store: Bytes a second that the common storage reads and writes, for all machines together.
        line: Bytes a second between a machine and the storage.
    """

    scene: float = 100e6
    cores: int = 16
    store: float = 5e9
    line: float = 1.25e9


def steps(pixels: float, machines: int, measured: Measured, assumed: Assumed) -> dict[str, float]:
    """Return the seconds that each step takes, those that go on at the same time side by side."""
    scenes = pixels / assumed.scene
    one = assumed.scene / measured.pixels_a_second + measured.scene_s
    moved = pixels * (measured.bytes_in + measured.bytes_out)
    return {
        "network": scenes * one / (machines * assumed.cores),
        "last scene": measured.start_s + one,
        "storage": moved / assumed.store,
        "line": moved / (machines * assumed.line),
        "driver": scenes * (measured.driver_s - measured.item_s),
        "catalogue": scenes * measured.item_s,
    }


def table(measured: Measured | None = None, assumed: Assumed | None = None) -> str:
    """Return the table as Markdown."""
    measured, assumed = measured or Measured(), assumed or Assumed()
    rows = []
    for region, pixels in REGIONS.items():
        for machines in MACHINES:
            took = steps(pixels, machines, measured, assumed)
            longest = max(took, key=lambda name: took[name])
            cells = [told(seconds) for seconds in took.values()]
            rows.append(f"| {region} | {machines:,} | {' | '.join(cells)} | {longest} |")
    names = " | ".join(steps(1e9, 1, measured, assumed))
    head = f"| | machines | {names} | first bottleneck |"
    return "\n".join([head, "|---" * 9 + "|", *rows, ""])


def told(seconds: float) -> str:
    """Return a time as people say it."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"


def page() -> str:
    """Return the page with the table as it is now."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARK)
    _, _, after = rest.partition(END)
    return f"{before}{MARK}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(table())
