"""Style files of the MapLibre specification: read, compiled, and drawn on a grid of pixels."""
