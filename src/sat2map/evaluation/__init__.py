"""Evaluation: how near a generated image is to the true one, in metrics and in a page.

`image` compares pixels, `edges` lines, `classes` the map's classes, `roads` the network of
roads; `score` puts them together for many images with intervals, `report` shows them,
`perceptual` holds the metrics whose weights must be fetched.
"""
