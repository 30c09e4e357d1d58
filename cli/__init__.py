"""The command line, installed as ``pixelssr_geo.cli``."""

if __name__ != "pixelssr_geo.cli":
    raise ImportError("import pixelssr_geo.cli: the folder cli/ is installed under pixelssr_geo")
