"""Field points out of spectrometer files and a table of coordinates."""

from pixelssr_geo.field_import.coordinates import Coordinates, read_coordinates
from pixelssr_geo.field_import.importing import FieldImport, import_spectra
from pixelssr_geo.field_import.left_out import LeftOut

__all__ = ["Coordinates", "FieldImport", "LeftOut", "import_spectra", "read_coordinates"]
