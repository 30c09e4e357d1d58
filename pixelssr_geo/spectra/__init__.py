"""Spectral response functions and resampling."""
