"""Rasters of any size, in flat memory: what they are made of, reading and writing."""
