"""Everything that decides what a reconstruction gives, as one frozen value."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pixelssr_geo.errors import SettingsError

Method = Literal["product", "estimator", "dypro", "paper", "ridge", "library"]
PriorKind = Literal["gamma", "gamma-correlated", "gaussian"]
Units = Literal["reflectance", "scene"]

PAPER_ONLY = (
    "net", "prior", "prior_parameters", "label_ratio", "mask", "redraw", "point_loss", "loss_weights",
)  # fmt: skip
"""Settings of Pixel-SSR's training, which nothing but method ``paper`` looks at."""


class Settings(BaseModel):
    """Settings of a reconstruction; two runs with equal settings and inputs give equal cubes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Method = "product"
    """``product`` (estimator, and a gated network from 50 points on), ``estimator`` (no network),
    ``dypro`` (the network without the gate), ``paper`` (Pixel-SSR as published), ``ridge`` (points
    alone) or ``library`` (no points)."""
    net: str = "dypro-mamba"
    """Network that method ``paper`` trains, by its name in ``pixelssr-geo nets``. Another than
    DyPro-Mamba stands behind the latter's neck where there are points ("the dotted box in (a) can
    be replaced", Figure 3), and by itself where there are none; weights bring their own."""
    wavelengths: str | None = None
    """Channels of the cube: ``start:stop:step`` in nm, a text file, or ``like:CUBE``; by default
    400:1000:10 cut to the range of the points."""
    fwhm: float | None = Field(default=None, gt=0)
    """Width of every channel in nm; by default the spacing, or what the file says."""
    prior: PriorKind = "gamma"
    """Distribution of the modelled point spectra (method ``paper``). "Y_g ~ Gamma(alpha, beta)"
    (Section 3.1) leaves open whether channels and pixels are independent: ``gamma`` reads the
    equation, ``gamma-correlated`` the "positive correlation" of the text before it, ``gaussian`` is
    the ablation of Table 3."""
    prior_parameters: tuple[float, float] | None = None
    """Shape alpha and scale beta of every channel (reflectance; mean and standard deviation for
    ``gaussian``). Not given in the paper; None: fitted to the points' mean and variance, channel by
    channel."""
    label_ratio: float = Field(default=0.01, gt=0, le=1)
    """Share omega of the pixels that carry a modelled spectrum (eq. 2): ``max(1, floor(omega H W))``
    pixels of a tile, since 0.01 % of 128 x 128 pixels is "1" in the paper."""
    mask: Literal["kept", "removed"] = "kept"
    """What happens to the selected pixels. Eq. 2 starts the mask at True and sets them to False,
    which would blank them; the prose, "adjust the ratio of point spectra", wants them kept."""
    redraw: bool = True
    """Whether training draws the modelled spectra anew in every step, or once for each patch. The
    paper does not say; that its results hardly vary over ten draws speaks for the first."""
    point_loss: Literal["labelled", "everywhere"] = "labelled"
    """Pixels that L_pHSI looks at. "||Y^r - Y^p||_1" (eq. 14) has no mask, and would pull the cube
    to zero wherever there is no label."""
    loss_weights: tuple[float, float, float, float] = (1.0, 1.0, 0.3, 0.3)
    """Of L_pHSI, L_rep, L_SSIM and L_P2I (eq. 15; "1, 0.3, and 0.3"); 0 leaves one out."""
    net_options: dict[str, Any] = {}
    """Options of the network, such as ``{"directions": [4, 5, 6, 7]}``: how the paper's text on the
    network is read. For DyPro-Mamba the fields of
    :class:`~pixelssr_geo.nets.dypro.config.DyProConfig`, which for the neck in front of another
    network go into a table ``neck``."""
    calibrate: Literal["none", "gain", "gain-offset"] = "none"
    """Line of every band between the scene's values and the reflectance that the points have there,
    for scenes that are no surface reflectance; see :mod:`pixelssr_geo.calibration`."""
    units: Units = "reflectance"
    """Of the cube where the scene is calibrated: ``reflectance``, which the points have, or
    ``scene``, in which the calibration is undone and the cube re-simulates the scene as it was
    given."""
    reject_outliers: bool = False
    """Leave out points that disagree strongly with the scene, after calibration."""
    weights: str | None = None
    """Trained weights, a file, or ``builtin`` for those that ship: with method ``paper`` the network
    that gives the cube, instead of training one; with ``product``, ``estimator`` and ``dypro`` one
    more prior mean of the estimator."""
    steps: int | None = Field(default=None, ge=1)
    """Training steps of a network; by default 50 for a correction and 200 for ``paper``."""
    folds: int = Field(default=3, ge=2, le=20)
    """Groups of spatial blocks that are withheld in turn to set the gate."""
    tile: int = Field(default=128, ge=8)
    """Rows and columns of a tile that a network sees."""
    overlap: int = Field(default=32, ge=0)
    """Pixels that neighbouring tiles share."""
    batch_size: int | None = Field(default=None, ge=1)
    """Tiles in one forward pass on a CUDA device, by default 16; on a CPU it is always one."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``. With ``auto`` a GPU is looked for where a
    network may take part, and serves the estimator beside it; one that is named serves the estimator
    of ``product``, ``estimator`` and ``dypro`` with any number of points."""
    precision: Literal["float32", "tf32"] = "float32"
    """Of a network's products on a CUDA device: ``tf32`` rounds their inputs to 10 bits. Then the
    estimator computes in float64 there, as the setting holds for all of torch."""
    seed: int = Field(default=0, ge=0)
    """Of every random draw."""

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        if self.overlap >= self.tile:
            raise ValueError(f"overlap {self.overlap} must be smaller than tile {self.tile}")
        if self.weights is not None and self.method in ("ridge", "library"):
            raise ValueError(
                "weights need method 'product', 'estimator', 'dypro' or 'paper', "
                f"'{self.method}' has no place for a network"
            )
        if self.method != "paper":
            self._refuse(PAPER_ONLY, f"needs method 'paper', not '{self.method}'")
        if self.method not in ("product", "dypro", "paper") and self.weights is None:
            self._refuse(("net_options",), f"needs a network, method '{self.method}' has none")
        if self.weights is not None and self.method == "paper":
            self._refuse((*PAPER_ONLY, "steps"), "does not go with weights, which bring their own")
        # What the product trains beside them takes options.
        brought = self.weights is not None and self.method in ("paper", "estimator")
        if brought and self.net_options.keys() - {"scan_backend"}:
            raise ValueError("net_options do not go with weights, which bring their own")
        if self.units == "scene" and self.calibrate == "none":
            raise ValueError(
                "units 'scene' undoes a calibration and there is none, the cube has the scene's "
                "units already: give calibrate, or leave units out"
            )
        if self.prior_parameters is not None and self.prior == "gamma-correlated":
            raise ValueError("prior_parameters do not go with prior 'gamma-correlated'")
        if any(weight < 0 for weight in self.loss_weights):
            raise ValueError(f"loss_weights {self.loss_weights} must not be negative")
        return self

    def _refuse(self, names: tuple[str, ...], why: str) -> None:
        """Raise ValueError if one of these is not at its default."""
        for name in names:
            field = Settings.model_fields[name]
            if getattr(self, name) != field.get_default():
                raise ValueError(f"{name} {why}")

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
            name = ".".join(map(str, first["loc"]))
            found = f"option '{name}' is {first['input']!r}: " if name else ""
            reason = first["msg"].removeprefix("Value error, ")
            raise SettingsError(f"{found}{reason}; see --help") from error

    @staticmethod
    def read(path: str | Path) -> dict[str, Any]:
        """Options from a TOML file, for :meth:`of`.

        Raises
        ------
        SettingsError
            If the file cannot be read or is not TOML.
        """
        try:
            with Path(path).open("rb") as file:
                return tomllib.load(file)
        except OSError as error:
            raise SettingsError(
                f"'{path}' cannot be read ({error.strerror}), a TOML file of settings was expected: "
                "check --config"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"'{path}' is not TOML ({error}), lines like `label_ratio = 0.01` were expected"
            ) from error

    def fingerprint(self) -> str:
        """Hash of all settings, 16 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]
