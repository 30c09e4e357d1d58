"""Cutting a scene into tiles and putting results together; knows arrays and Dask, never torch."""

if __name__ != "pixelssr_geo.tiling":
    raise ImportError(
        "import pixelssr_geo.tiling: the folder tiling/ is installed under pixelssr_geo"
    )
