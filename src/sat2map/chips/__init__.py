"""Chips: training pairs cut out of imagery and vectors that are drawn in a style."""
