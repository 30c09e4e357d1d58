"""Everything that decides what a reconstruction gives, as one frozen value."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pixelssr_geo.errors import SettingsError

Method = Literal["product", "estimator", "dypro", "paper", "ridge", "library"]
PriorKind = Literal["gamma", "gamma-correlated", "gaussian"]


class Settings(BaseModel):
    """Settings of a reconstruction; two runs with equal settings and inputs give equal cubes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = "product"
    """``product`` (estimator, and a gated network from 50 points on), ``estimator`` (no network),
    ``dypro`` (the network without the gate), ``paper`` (Pixel-SSR as published), ``ridge`` (points
    alone) or ``library`` (no points)."""
    wavelengths: str | None = None
    """Channels of the cube: ``start:stop:step`` in nm, a text file, or ``like:CUBE``; by default
    400:1000:10 cut to the range of the points."""
    fwhm: float | None = Field(default=None, gt=0)
    """Width of every channel in nm; by default the spacing, or what the file says."""
    prior: PriorKind = "gamma"
    """Distribution of the modelled point spectra (method ``paper``)."""
    weights: str | None = None
    """Trained weights to use instead of training (method ``paper``)."""
    steps: int | None = Field(default=None, ge=1)
    """Training steps of a network; by default 50 for a correction and 200 for ``paper``."""
    folds: int = Field(default=3, ge=2, le=20)
    """Groups of spatial blocks that are withheld in turn to set the gate."""
    tile: int = Field(default=128, ge=8)
    """Rows and columns of a tile that a network sees."""
    overlap: int = Field(default=32, ge=0)
    """Pixels that neighbouring tiles share."""
    batch_size: int = Field(default=1, ge=1)
    """Tiles in one forward pass."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``."""
    seed: int = Field(default=0, ge=0)
    """Of every random draw."""

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        if self.overlap >= self.tile:
            raise ValueError(f"overlap {self.overlap} must be smaller than tile {self.tile}")
        if self.weights is not None and self.method != "paper":
            raise ValueError(f"weights need method 'paper', not '{self.method}'")
        return self

    @staticmethod
    def of(**options: Any) -> Settings:
        """Settings from options, the rest at their defaults.

        Raises
        ------
        SettingsError
            If an option is unknown, out of range or does not go with another.
        """
        try:
            return Settings(**options)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"])) or "settings"
            found = "" if first["loc"] == () else f" is {first['input']!r}:"
            reason = first["msg"].removeprefix("Value error, ")
            raise SettingsError(f"option '{name}'{found} {reason}; see --help") from error

    def fingerprint(self) -> str:
        """Hash of all settings, 16 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]
