"""Where things lie: grids of pixels, web mercator, windows, vector files, and GDAL settings."""
