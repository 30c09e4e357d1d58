"""What every network promises: bands (and perhaps a guide) in, channels out, same pixels."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from pixelssr_geo.errors import SettingsError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class SpectralNet(nn.Module):
    """A network from a scene's bands to a cube's channels.

    Subclasses work at every image size from 1 x 1 on, in float32 and float64, depend on nothing but
    their input in ``eval()`` mode, reach all their parameters with gradients (unless a subclass
    says otherwise), pickle, and are rebuilt from ``(bands, channels, guide_channels, options)``.

    Parameters
    ----------
    bands
        Bands of the scene, at least 1.
    channels
        Channels of the cube, at least 1.
    guide_channels
        Channels of the guide; None means as many as the cube has.
    config
        The network's own settings, an instance of ``config_type``.
    """

    config_type: ClassVar[type]
    """Frozen dataclass of the network's settings; its fields are the options of ``create_net``."""
    name: str = ""
    """Registered name, empty unless ``create_net`` made it."""

    def __init__(
        self, bands: int, channels: int, guide_channels: int | None, config: DataclassInstance
    ) -> None:
        super().__init__()
        self.bands = bands
        self.channels = channels
        self.guide_channels = channels if guide_channels is None else guide_channels
        self.options: dict[str, Any] = asdict(config)
        for name in ("bands", "channels", "guide_channels"):
            if getattr(self, name) < 1:
                raise SettingsError(
                    f"a network with {getattr(self, name)} {name} was asked for, expected at "
                    "least 1: check the scene's bands and the wavelengths"
                )

    @abstractmethod
    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the cube's channels, ``(batch, channel, y, x)``.

        Parameters
        ----------
        x
            The scene's bands, ``(batch, band, y, x)``, reflectance, finite.
        guide
            What is known or drawn of the cube beforehand, ``(batch, guide_channel, y, x)``; None
            means zeros.
        """

    @property
    @abstractmethod
    def output_layers(self) -> tuple[nn.Module, ...]:
        """Layers that make the cube's channels; zeros if all their parameters are zero."""

    @torch.no_grad()
    def zero_output(self) -> None:
        """Let a fresh network return zeros: set its output layers to zero.

        Drawn at random, they make neighbouring channels differ by more than any spectrum does, which
        the bands of a scene do not see: a short training leaves the differences there.
        """
        for layer in self.output_layers:
            for parameter in layer.parameters():
                parameter.zero_()

    def checked_guide(self, x: Tensor, guide: Tensor | None) -> Tensor:
        """Return the guide, zeros if there is none, once both inputs fit this network.

        Raises
        ------
        SettingsError
            If the number of bands, of guide channels or the sizes do not fit.
        """
        if x.ndim != 4 or x.shape[1] != self.bands or 0 in x.shape:
            raise SettingsError(
                f"input of shape {tuple(x.shape)} was given, the network expects (batch, "
                f"{self.bands}, y, x): use a scene with {self.bands} bands or another network"
            )
        expected = (x.shape[0], self.guide_channels, *x.shape[2:])
        if guide is None:
            return x.new_zeros(expected)
        if tuple(guide.shape) != expected:
            raise SettingsError(
                f"a guide of shape {tuple(guide.shape)} was given, the network expects {expected}: "
                "create it with the matching guide_channels"
            )
        return guide


class NeckedNet(SpectralNet):
    """A network with the paper's neck, whose preliminary cube Y3 the loss L_P2I is about."""

    neck_width: int
    """Channels of Y3."""

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the cube, ``(batch, channel, y, x)``; see :class:`SpectralNet` for the inputs."""
        return self.forward_with_neck(x, guide)[0]

    @abstractmethod
    def forward_with_neck(self, x: Tensor, guide: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the cube and the neck's Y3, ``(batch, neck width, y, x)``."""
