"""Vectors and a style to maps, and with imagery to training pairs."""
