"""Spectral response functions, channel grids and resampling between them."""

from pixelssr_geo.spectra.channels import ChannelGrid
from pixelssr_geo.spectra.resample import resample_to_bands, resample_to_channels
from pixelssr_geo.spectra.response import SpectralResponse
from pixelssr_geo.spectra.sensors import Sensor, get_sensor, list_sensors

__all__ = [
    "ChannelGrid",
    "Sensor",
    "SpectralResponse",
    "get_sensor",
    "list_sensors",
    "resample_to_bands",
    "resample_to_channels",
]
