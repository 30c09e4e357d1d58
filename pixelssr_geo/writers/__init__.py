"""Cubes on disk, as Cloud-Optimized GeoTIFF, Zarr and ENVI, and on object stores, as Zarr."""

from pixelssr_geo.place import place as place
from pixelssr_geo.place import place_name as place_name
from pixelssr_geo.place import place_suffix as place_suffix
from pixelssr_geo.place import shown as shown
from pixelssr_geo.writers.cog import write_cog as write_cog
from pixelssr_geo.writers.encoding import CubeDtype as CubeDtype
from pixelssr_geo.writers.encoding import check_dtype as check_dtype
from pixelssr_geo.writers.envi import check_envi_grid as check_envi_grid
from pixelssr_geo.writers.envi import write_envi as write_envi
from pixelssr_geo.writers.output import Staging as Staging
from pixelssr_geo.writers.output import check_output as check_output
from pixelssr_geo.writers.output import disk_needed as disk_needed
from pixelssr_geo.writers.output import new_output as new_output
from pixelssr_geo.writers.output import staged_output as staged_output
from pixelssr_geo.writers.output import staging_folder as staging_folder
from pixelssr_geo.writers.output import writing as writing
from pixelssr_geo.writers.scene_tif import write_scene as write_scene
from pixelssr_geo.writers.template import QUANTITIES as QUANTITIES
from pixelssr_geo.writers.template import REFLECTANCE as REFLECTANCE
from pixelssr_geo.writers.template import SCENE_VALUE as SCENE_VALUE
from pixelssr_geo.writers.template import CubeTemplate as CubeTemplate
from pixelssr_geo.writers.zarr_cube import create_store as create_store
from pixelssr_geo.writers.zarr_cube import publish_store as publish_store
from pixelssr_geo.writers.zarr_cube import write_region as write_region
from pixelssr_geo.writers.zarr_cube import write_zarr as write_zarr
