"""Writing cubes: COG and Zarr."""
