"""A lock for calls of packages that silence Python's warnings while they work.

`warnings.catch_warnings` changes the filters of the whole process and puts back at its end what it
found at its beginning. Where two threads overlap, the later one finds what the earlier one has put
in for a while, and puts that back for good. So calls that are known to do it take turns.
"""

from __future__ import annotations

import threading

SILENCING = threading.RLock()
"""Held around `shapely.is_valid`, `rasterio.features.rasterize`, pandas and geopandas."""
