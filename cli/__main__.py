"""``python -m pixelssr_geo.cli``."""

from pixelssr_geo.cli.main import main

main()
