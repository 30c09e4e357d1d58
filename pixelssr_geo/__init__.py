"""Hyperspectral cubes from multispectral satellite scenes and a handful of field spectra."""
