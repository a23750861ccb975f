"""Translation: from a source array, file or scene to the map that a model makes of it."""
