"""The table of networks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pixelssr_geo.errors import SettingsError, UnknownNetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from _typeshed import DataclassInstance

    from pixelssr_geo.nets.contract import SpectralNet


@dataclass(frozen=True, slots=True)
class NetSpec:
    """One network: where it is and where it comes from."""

    name: str
    """Name in options and tables, lower case."""
    target: str
    """``module:Class`` of a :class:`~pixelssr_geo.nets.contract.SpectralNet`."""
    paper: str
    """Who described it, under what title, where and when."""
    licence: str
    """Licence of this implementation."""
    aliases: tuple[str, ...] = ()
    """Other names that mean it."""
    uses_guide: bool = False
    """Whether the guide changes the result."""


_BASELINES = "pixelssr_geo.nets.baselines"

_SPECS: tuple[NetSpec, ...] = (
    NetSpec(
        name="dypro-mamba",
        target="pixelssr_geo.nets.dypro.net:DyProMamba",
        paper="Leng et al., From Image- to Pixel-level: Label-efficient Hyperspectral Image "
        "Reconstruction, 2025",
        licence="Apache-2.0",
        aliases=("dypro",),
        uses_guide=True,
    ),
    NetSpec(
        name="mst++",
        target=f"{_BASELINES}.mst_plus_plus:MSTPlusPlus",
        paper="Cai et al., MST++: Multi-stage Spectral-wise Transformer for Efficient Spectral "
        "Reconstruction, CVPR Workshops 2022",
        licence="Apache-2.0",
        aliases=("mstpp", "mst-plus-plus"),
    ),
    NetSpec(
        name="restormer",
        target=f"{_BASELINES}.restormer:Restormer",
        paper="Zamir et al., Restormer: Efficient Transformer for High-Resolution Image "
        "Restoration, CVPR 2022",
        licence="Apache-2.0",
    ),
    NetSpec(
        name="saunet",
        target=f"{_BASELINES}.saunet:SAUNet",
        paper="Wang et al., A Simple Adaptive Unfolding Network for Hyperspectral Image "
        "Reconstruction, arXiv:2301.10208, 2023",
        licence="Apache-2.0",
    ),
    NetSpec(
        name="specat",
        target=f"{_BASELINES}.specat:SPECAT",
        paper="Yao et al., SPECAT: Spatial-spectral Cumulative-Attention Transformer for "
        "High-Resolution Hyperspectral Image Reconstruction, CVPR 2024",
        licence="Apache-2.0",
    ),
    NetSpec(
        name="retinex-mamba",
        target=f"{_BASELINES}.retinex_mamba:RetinexMamba",
        paper="Bai et al., RetinexMamba: Retinex-based Mamba for Low-light Image Enhancement, "
        "arXiv:2405.03349, 2024",
        licence="Apache-2.0",
        aliases=("retinexmamba", "rtxmamba"),
    ),
    NetSpec(
        name="msfn",
        target=f"{_BASELINES}.msfn:MSFN",
        paper="Wu et al., Multistage Spatial-Spectral Fusion Network for Spectral "
        "Super-Resolution, IEEE TNNLS 2024",
        licence="Apache-2.0",
        aliases=("mfsn",),
    ),
    NetSpec(
        name="unssr",
        target=f"{_BASELINES}.unssr:UnSSR",
        paper="Leng et al., Uncertainty-guided Discriminative Priors Mining for Flexible "
        "Unsupervised Spectral Reconstruction, IEEE TNNLS 2025",
        licence="Apache-2.0",
    ),
)


def _by_name(specs: Iterable[NetSpec]) -> dict[str, NetSpec]:
    """Return every name and alias with its network.

    Raises
    ------
    ValueError
        If two networks claim one name: a mistake in the table.
    """
    table: dict[str, NetSpec] = {}
    for spec in specs:
        for name in (spec.name, *spec.aliases):
            if table.setdefault(name, spec) is not spec:
                raise ValueError(f"networks '{table[name].name}' and '{spec.name}' share '{name}'")
    return table


_TABLE = _by_name(_SPECS)


def list_nets() -> tuple[NetSpec, ...]:
    """Return the registered networks in the table's order; imports none of them."""
    return _SPECS


def find_net(name: str) -> NetSpec:
    """Return the network of that name or alias; case, spaces and underscores do not matter.

    Raises
    ------
    UnknownNetError
        If there is none; the message names the nearest, and all.
    """
    plain = name.strip().lower().replace("_", "-").replace(" ", "-")
    if plain in _TABLE:
        return _TABLE[plain]
    near = [f"'{match}'" for match in get_close_matches(plain, _TABLE, n=3)]
    known = ", ".join(spec.name for spec in _SPECS)
    hint = f"; did you mean {' or '.join(near)}?" if near else ": choose one of them"
    raise UnknownNetError(f"network '{name}' was asked for, expected one of {known}{hint}")


def create_net(
    name: str, *, bands: int, channels: int, guide_channels: int | None = None, **options: Any
) -> SpectralNet:
    """Return a freshly initialised network ``forward(x, guide=None)``.

    Parameters
    ----------
    name
        A registered name or alias, see :func:`list_nets`.
    bands
        Bands of the scene.
    channels
        Channels of the cube.
    guide_channels
        Channels of the guide, by default as many as the cube has.
    **options
        Settings of that network: the fields of its ``config_type``. ``scan_backend`` goes to any;
        a network without scans has no use for it.

    Raises
    ------
    UnknownNetError
        If the name is not registered.
    SettingsError
        If an option is not one of the network's, or a number is out of range.

    Examples
    --------
    >>> import torch
    >>> net = create_net("dypro-mamba", bands=4, channels=10, width=8)
    >>> net(torch.zeros(1, 4, 5, 7)).shape
    torch.Size([1, 10, 5, 7])
    """
    net = _net_class(name)(bands, channels, guide_channels, net_config(name, options))
    net.name = find_net(name).name
    return net


def net_config(name: str, options: Mapping[str, Any]) -> DataclassInstance:
    """Return the settings of a network that ``options`` stand for; nothing is built.

    Raises
    ------
    UnknownNetError
        If the name is not registered.
    SettingsError
        If an option is not one of the network's, or of another type or range.
    """
    config_type = _net_class(name).config_type
    known = {field.name for field in fields(config_type)}
    options = {k: v for k, v in options.items() if k in known or k != "scan_backend"}
    for option in options:
        if option not in known:
            raise SettingsError(
                f"option '{option}' was given to network '{find_net(name).name}', expected one of: "
                f"{', '.join(sorted(known)) or 'none'}"
            )
    config: DataclassInstance = config_type(**options)
    return config


def _net_class(name: str) -> type[SpectralNet]:
    module, class_name = find_net(name).target.split(":")
    found: type[SpectralNet] = getattr(import_module(module), class_name)
    return found
