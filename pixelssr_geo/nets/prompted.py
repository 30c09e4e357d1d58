"""Any network behind the paper's neck: its "universal paradigm" (Figure 3, Section 4.3).

"The dotted box in (a) can be replaced with various leading methods, sharing the same DRPN and loss
constraints with Ours." What the box takes is not said. Read: what DyPro-Mamba's trunk takes, Y4, the
neck's Y3 convolved together with features of the scene; to the network it is an image of 40 bands. The
prompt P_spe enters attention inside DyPro-Mamba's own blocks and has no place in another network.
"""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets.contract import NeckedNet
from pixelssr_geo.nets.dypro.config import DyProConfig
from pixelssr_geo.nets.dypro.drpn import DynamicReceptivePromptNeck
from pixelssr_geo.nets.dypro.net import even_sided
from pixelssr_geo.nets.layers import concatenate, conv3x3
from pixelssr_geo.nets.registry import create_net, find_net, net_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn


class PromptedNet(NeckedNet):
    """The neck of DyPro-Mamba and another network: scene and guide in, cube out.

    Parameters
    ----------
    name
        Registered name of the network behind the neck.
    bands, channels, guide_channels
        See :class:`~pixelssr_geo.nets.contract.SpectralNet`.
    neck
        Settings of the neck; those of DyPro-Mamba's trunk have no say.
    **options
        Settings of the network.
    """

    config_type: ClassVar[type] = DyProConfig

    def __init__(
        self,
        name: str,
        bands: int,
        channels: int,
        guide_channels: int | None = None,
        neck: DyProConfig | None = None,
        **options: Any,
    ) -> None:
        neck = replace(DyProConfig() if neck is None else neck, spe=False)
        super().__init__(bands, channels, guide_channels, neck)
        width = neck.width
        self.neck = DynamicReceptivePromptNeck(bands, self.guide_channels, neck)
        self.embed = conv3x3(bands, width)
        self.fuse = conv3x3(2 * width, width)
        self.inside = create_net(name, bands=width, channels=channels, **options)
        self.name = self.inside.name
        self.neck_width = width
        backend = {"scan_backend": neck.scan_backend}
        self.options = {**self.inside.options, **backend, "neck": _without_backend(neck)}

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """See :class:`~pixelssr_geo.nets.contract.SpectralNet`."""
        return self.inside.output_layers

    def forward_with_neck(self, x: Tensor, guide: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the cube and the neck's Y3, ``(batch, width, y, x)``, which L_P2I is about."""
        guide = self.checked_guide(x, guide)
        rows, columns = x.shape[2:]
        x, guide = even_sided(x), even_sided(guide)
        y3, _ = self.neck(x, guide)
        y4 = self.fuse(concatenate(self.embed(x), y3))[..., :rows, :columns]
        return self.inside(y4), y3[..., :rows, :columns]


def create_pixel_net(
    name: str, *, bands: int, channels: int, guide_channels: int | None = None, **options: Any
) -> NeckedNet:
    """Return a fresh network of the Pixel-SSR mode: one that looks at its guide by a neck.

    DyPro-Mamba has one; any other network gets one in front.

    Parameters
    ----------
    name, bands, channels, guide_channels
        See :func:`~pixelssr_geo.nets.registry.create_net`.
    **options
        Settings of that network, ``scan_backend``, and in front of another than DyPro-Mamba
        ``neck``, the neck's own (fields of :class:`~pixelssr_geo.nets.dypro.config.DyProConfig`).

    Raises
    ------
    UnknownNetError
        If the name is not registered.
    SettingsError
        If an option is not known or has a value that does not fit.

    Examples
    --------
    >>> import torch
    >>> net = create_pixel_net("mst++", bands=4, channels=10, stages=1, neck={"width": 8})
    >>> net(torch.zeros(1, 4, 5, 7), torch.zeros(1, 10, 5, 7)).shape
    torch.Size([1, 10, 5, 7])
    """
    if find_net(name).uses_guide:
        net = create_net(
            name, bands=bands, channels=channels, guide_channels=guide_channels, **options
        )
        assert isinstance(net, NeckedNet)
        return net
    neck, inside = _split(options)
    return PromptedNet(name, bands, channels, guide_channels, neck, **inside)


def check_pixel_options(name: str, options: Mapping[str, Any]) -> None:
    """Check what :func:`create_pixel_net` would be given; nothing is built.

    Raises
    ------
    UnknownNetError
        If the name is not registered.
    SettingsError
        If an option is not known or has a value that does not fit.
    """
    if find_net(name).uses_guide:
        net_config(name, options)
    else:
        net_config(name, _split(options)[1])


def _split(options: Mapping[str, Any]) -> tuple[DyProConfig, dict[str, Any]]:
    """Return the settings of the neck, and those of the network behind it.

    Raises
    ------
    SettingsError
        If the neck's are no table, or name what a neck does not have.
    """
    inside = dict(options)
    given = inside.pop("neck", {})
    if not isinstance(given, dict):
        raise SettingsError(
            f"option 'neck' of the network is {given!r}, expected a table of the neck's options"
        )
    known = {field.name for field in fields(DyProConfig)}
    if unknown := sorted(map(str, given.keys() - known)):
        raise SettingsError(
            f"option '{unknown[0]}' was given to the neck, expected one of: "
            f"{', '.join(sorted(known))}"
        )
    backend = {"scan_backend": inside["scan_backend"]} if "scan_backend" in inside else {}
    return DyProConfig(**{**given, **backend}), inside


def _without_backend(neck: DyProConfig) -> dict[str, Any]:
    """Return the neck's settings but for what runs its scans, which the network's options name."""
    return {name: value for name, value in asdict(neck).items() if name != "scan_backend"}
