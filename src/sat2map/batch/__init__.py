"""Many scenes into maps: the list of them, the manifest, workers that may die, and their engine."""
