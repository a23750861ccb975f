"""How long `sat2map vectors` takes from a photo to a GeoPackage, in km2 an hour.

    python photo_speed.py SCENE SIDE WORK

SCENE is a photo, such as that of a drawn town at 1 m; it is mirrored until it fills SIDE x SIDE
pixels. Everything lies in the folder WORK. Printed are the clock, the processor's time and the most
memory of the whole command.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rasterio


def main(scene: str, side: str, work: str) -> None:
    """Make the large photo, and time the command."""
    size, folder = int(side), Path(work)
    photo, vectors = folder / "photo.tif", folder / "town.gpkg"
    with rasterio.open(scene) as file:
        pixels, facts, pixel_m = file.read(), file.profile, file.res[0]
    wide = np.concatenate([pixels, pixels[:, :, ::-1]], 2)
    block = np.concatenate([wide, wide[:, ::-1]], 1)
    times = -(-size // block.shape[1])
    facts |= {"height": size, "width": size, "tiled": True, "blockxsize": 256, "blockysize": 256}
    with rasterio.open(photo, "w", **facts) as file:
        file.write(np.tile(block, (1, times, times))[:, :size, :size])
    begun = time.perf_counter()
    command = [sys.executable, "-m", "sat2map", "vectors", photo, vectors, "--quiet"]
    running = subprocess.Popen(command)
    _, status, used = os.wait4(running.pid, 0)
    clock, processor = time.perf_counter() - begun, used.ru_utime + used.ru_stime
    area = (size * pixel_m / 1000) ** 2
    print(
        f"{area:.1f} km2, exit {os.waitstatus_to_exitcode(status)}: {clock:.1f} s, "
        f"{area / clock * 3600:,.0f} km2 an hour; processor {processor:.1f} s; "
        f"{used.ru_maxrss / 1024:.0f} MB"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
