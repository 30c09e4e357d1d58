"""Hyperspectral cubes from multispectral satellite scenes and a handful of field spectra.

Importing the package registers the accessor ``da.pixelssr`` and nothing else: the public names
below are imported when they are first used, so that torch, GDAL and geopandas stay out until then.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from pixelssr_geo.errors import PixelSSRError as PixelSSRError

try:
    from pixelssr_geo.accessor import PixelSSRAccessor as PixelSSRAccessor
except ModuleNotFoundError as error:  # networks and their training do without xarray
    if error.name != "xarray":
        raise

if TYPE_CHECKING:
    from pixelssr_geo.evaluation import evaluate as evaluate
    from pixelssr_geo.fitting import train as train
    from pixelssr_geo.nets import create_net as create_net
    from pixelssr_geo.nets import list_nets as list_nets
    from pixelssr_geo.pairing import pair_points as pair_points
    from pixelssr_geo.points import read_points as read_points
    from pixelssr_geo.points import write_points as write_points
    from pixelssr_geo.reconstruction import reconstruct as reconstruct
    from pixelssr_geo.reconstruction import reconstruct_to_file as reconstruct_to_file
    from pixelssr_geo.scene import open_cube as open_cube
    from pixelssr_geo.scene import open_scene as open_scene
    from pixelssr_geo.simulation import simulate as simulate
    from pixelssr_geo.spectra import SpectralResponse as SpectralResponse
    from pixelssr_geo.tiling.plan import plan_tiles as plan_tiles
    from pixelssr_geo.writers import write_cog as write_cog
    from pixelssr_geo.writers import write_zarr as write_zarr

_HOME = {
    "PixelSSRError": "pixelssr_geo.errors",
    "SpectralResponse": "pixelssr_geo.spectra",
    "create_net": "pixelssr_geo.nets",
    "evaluate": "pixelssr_geo.evaluation",
    "list_nets": "pixelssr_geo.nets",
    "open_cube": "pixelssr_geo.scene",
    "open_scene": "pixelssr_geo.scene",
    "pair_points": "pixelssr_geo.pairing",
    "plan_tiles": "pixelssr_geo.tiling.plan",
    "read_points": "pixelssr_geo.points",
    "reconstruct": "pixelssr_geo.reconstruction",
    "reconstruct_to_file": "pixelssr_geo.reconstruction",
    "simulate": "pixelssr_geo.simulation",
    "train": "pixelssr_geo.fitting",
    "write_cog": "pixelssr_geo.writers",
    "write_points": "pixelssr_geo.points",
    "write_zarr": "pixelssr_geo.writers",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
