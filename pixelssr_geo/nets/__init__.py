"""Networks: tensors in, tensors out.

Nothing is imported before it is used, so that a list of the networks costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixelssr_geo.nets.contract import SpectralNet as SpectralNet
    from pixelssr_geo.nets.prompted import create_pixel_net as create_pixel_net
    from pixelssr_geo.nets.registry import NetSpec as NetSpec
    from pixelssr_geo.nets.registry import create_net as create_net
    from pixelssr_geo.nets.registry import find_net as find_net
    from pixelssr_geo.nets.registry import list_nets as list_nets

_HOME = {
    "NetSpec": "pixelssr_geo.nets.registry",
    "SpectralNet": "pixelssr_geo.nets.contract",
    "create_net": "pixelssr_geo.nets.registry",
    "create_pixel_net": "pixelssr_geo.nets.prompted",
    "find_net": "pixelssr_geo.nets.registry",
    "list_nets": "pixelssr_geo.nets.registry",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
