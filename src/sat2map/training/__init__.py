"""Training: the loop, its state on disk, and what can be watched of it."""
