"""Files of field spectrometers, read as they come from the instrument or its software."""

from pixelssr_geo.spectra_files.envi import library_data
from pixelssr_geo.spectra_files.registry import FORMATS, SpectraFormat, read_spectra_file
from pixelssr_geo.spectra_files.spectrum import FieldSpectrum

__all__ = ["FORMATS", "FieldSpectrum", "SpectraFormat", "library_data", "read_spectra_file"]
