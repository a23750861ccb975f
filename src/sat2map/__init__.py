"""sat2map: satellite and aerial images into maps with Pix2Pix."""

__version__ = "0.1.0"
