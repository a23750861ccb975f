"""Data sets on disk: images, pairs, class masks, and what was decoded of them."""
