"""What comes over the network: data sets, OpenStreetMap, imagery of tile services."""
