"""Data: pictures, pairs, downloads, augmentation and procedural towns."""
