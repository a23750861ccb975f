"""Georeferenced scenes of any size: windows in, windows out, in flat memory."""
