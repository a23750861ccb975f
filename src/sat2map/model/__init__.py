"""The model folder, its card, and what is needed to make one of a foreign checkpoint."""
