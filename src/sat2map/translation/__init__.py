"""Translation: from a source array or file to the picture that a model makes of it."""
