"""Live maps: tiles of photos and of what models make of them, over HTTP."""
