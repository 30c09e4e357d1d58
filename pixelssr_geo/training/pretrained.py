"""A network trained on full cubes of other scenes, as a prior mean for a new scene of any sensor.

The network knows neither the sensor nor the unit. Its channels are the 61 of :data:`COMMON`; a
library regression for the sensor's response turns the scene's bands into a spectrum there, and the
network gives what is to be added to it. All that goes in is divided by the scene's mean brightness,
and what comes out is multiplied by it. On the cube's channels the change is projected to the null
space of the response, so that the result re-simulates the scene whatever the network says.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from pixelssr_geo.errors import SceneError, SettingsError, WeightsError
from pixelssr_geo.estimator.library import load_library, random_mixtures
from pixelssr_geo.estimator.projection import Projection
from pixelssr_geo.estimator.ridge import fit_ridge, standardised
from pixelssr_geo.nets import SpectralNet, create_net, create_pixel_net
from pixelssr_geo.nets.prompted import check_pixel_options
from pixelssr_geo.nets.registry import find_net, net_config
from pixelssr_geo.prior import GammaPrior, modelled_points
from pixelssr_geo.spectra import ChannelGrid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

COMMON = ChannelGrid.from_spec("400:1000:10")
"""Channels that the network works on, whatever those of the cube."""

PSEUDO_BANDS_NM = ((450, 520), (520, 600), (630, 690), (770, 890))
"""First and last wavelength of the boxes that the network sees as its scene: the usual blue,
green, red and near infrared, whatever bands the sensor has."""

DARKEST = 0.05
"""Least brightness that a pixel's spectrum is divided by, as a share of the scene's: noise in the
darkest pixels would be all that is left of them."""

SHAPES = 8
"""Components of the spectrum's shape that the network sees."""

OUTPUT_SCALE = 0.1
"""Size of the network's output as a share of the pixel's brightness: about what library regressions
miss."""

_MIXTURES = 8000
_STRENGTHS = (1e-4, 1e-2, 1.0, 100.0)
_FARTHEST = 6.0  # deviations from the library's mean that a component may show
_TAIL = 0.001  # share of the mixtures at either end that a regression does not extrapolate beyond
_KIND = "cubes"


class SensorView(nn.Module):
    """What a sensor's bands say of spectra by the library: scale-free, on any channels.

    The regression of :func:`~pixelssr_geo.estimator.fit_library` with one difference: spectra and
    bands are divided by the mean of the pixel's bands first. So a scene in any unit, times any
    factor, gives the same spectrum times that factor.

    Parameters
    ----------
    channels
        Of the cube.
    response
        Response matrix S of the usable bands, ``(band, channel)``.
    mixtures
        Library mixtures that the regression learns from.

    Raises
    ------
    WavelengthGridError
        If channels lie outside the library.
    """

    centre: torch.Tensor
    scale: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    pairs: torch.Tensor
    coefficients: torch.Tensor
    intercept: torch.Tensor
    deviation: torch.Tensor
    response: torch.Tensor
    inverse: torch.Tensor
    to_common: torch.Tensor
    to_cube: torch.Tensor

    def __init__(
        self, channels: ChannelGrid, response: NDArray[np.float64], *, mixtures: int = _MIXTURES
    ) -> None:
        super().__init__()
        spectra = random_mixtures(load_library(), channels, count=mixtures)
        common = random_mixtures(load_library(), COMMON, count=mixtures)
        bands = spectra @ response.T
        brightness = np.maximum(bands.mean(1, keepdims=True), 1e-4)
        ratios = bands / brightness
        fitted = fit_ridge(
            ratios,
            np.concatenate([common, spectra], axis=1) / brightness,
            standardised(ratios, degree=2),
            strengths=_STRENGTHS,
        )
        missed = Projection.of(response).null_part(fitted.residuals[:, len(COMMON) :])
        low, high = np.quantile(ratios, [_TAIL, 1 - _TAIL], axis=0)
        self._constant("centre", fitted.features.centre)
        self._constant("scale", fitted.features.scale)
        self._constant("low", low)
        self._constant("high", high)
        # In the order of Features, so that its coefficients fit.
        self.register_buffer("pairs", torch.triu_indices(len(response), len(response)))
        self._constant("coefficients", fitted.coefficients)
        self._constant("intercept", fitted.intercept - fitted.offset @ fitted.coefficients)
        self._constant("deviation", missed.std(0))
        self._constant("response", response)
        self._constant("inverse", np.linalg.pinv(response))
        self._constant("to_common", interpolation(channels.centres_nm, COMMON.centres_nm))
        self._constant("to_cube", interpolation(COMMON.centres_nm, channels.centres_nm))

    def _constant(self, name: str, value: NDArray[np.floating]) -> None:
        self.register_buffer(name, torch.from_numpy(np.asarray(value, "f4")))

    @property
    def bands(self) -> int:
        """Bands of the sensor."""
        return len(self.response)

    @property
    def channels(self) -> int:
        """Channels of the cube."""
        return self.response.shape[1]

    def spectra(self, x: torch.Tensor, darkest: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Library estimates on the common channels and on the cube's, not projected.

        Parameters
        ----------
        x
            Bands, ``(n, band, y, x)``.
        darkest
            Least brightness to divide by, in the unit of ``x``.
        """
        brightness = x.mean(1, keepdim=True).clamp_min(darkest)
        ratios = (x / brightness).movedim(1, -1)
        z = (ratios.clamp(self.low, self.high) - self.centre) / self.scale
        features = torch.cat([z, z[..., self.pairs[0]] * z[..., self.pairs[1]]], dim=-1)
        both = (features @ self.coefficients + self.intercept).movedim(-1, 1) * brightness
        return both[:, : len(COMMON)], both[:, len(COMMON) :]

    def projected(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """``Y + S^+ (X - S Y)`` for cubes ``(n, channel, y, x)``."""
        return y + along(self.inverse, x - along(self.response, y))

    def unseen(self, y: torch.Tensor) -> torch.Tensor:
        """The part of cubes ``(n, channel, y, x)`` that no band sees."""
        return y - along(self.inverse, along(self.response, y))

    def guide(
        self,
        x: torch.Tensor,
        darkest: float,
        given: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> Guide:
        """What the network is told of a scene, and what its answer is added to.

        Parameters
        ----------
        x
            Bands, ``(n, band, y, x)``.
        darkest
            Least brightness to divide by.
        given
            Another estimate of the cube and its standard deviation, ``(n, channel, y, x)`` each,
            in the unit of ``x``; None takes the library's.
        """
        common, cube = self.spectra(x, darkest)
        if given is None:
            mean = self.projected(cube, x)
            brightness = x.mean(1, keepdim=True).clamp_min(darkest)
            deviation = self.deviation[:, None, None] * brightness
        else:
            mean, deviation = given
        # Beyond the cube's channels the library's shape is all that is known.
        moved = common + along(self.to_common, mean - cube)
        return Guide(mean, moved, along(self.to_common, deviation))


@dataclass(frozen=True, slots=True, eq=False)
class Guide:
    """An estimate of tiles on both sets of channels."""

    mean: torch.Tensor
    """On the cube's channels, agreeing with the scene, ``(n, channel, y, x)``."""
    common: torch.Tensor
    """On the common channels, ``(n, 61, y, x)``."""
    deviation: torch.Tensor
    """Its standard deviation there, ``(n, 61, y, x)``."""


def along(matrix: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """A matrix ``(out, in)`` applied to the channels of images ``(n, in, y, x)``."""
    # The einsum of torch is not typed.
    result: torch.Tensor = torch.einsum("oc,ncyx->noyx", matrix, image)
    return result


def interpolation(
    known_nm: NDArray[np.float64], wanted_nm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Matrix ``(wanted, known)`` of linear interpolation, the end values held beyond the ends."""
    identity = np.eye(len(known_nm))
    return np.stack([np.interp(wanted_nm, known_nm, row) for row in identity], axis=1)


class ResidualNet(nn.Module):
    """The network with the scaling around it: from a guide to what is to be added to it.

    Spectra of different places differ mostly in brightness, and those of one brightness little. So
    that a few hundred steps suffice, the network sees the shape of the spectrum, in
    :data:`SHAPES` components of unit variance over library mixtures, the logarithm of the pixel's
    brightness, the standard deviation as a share of the brightness, and the logarithms of the
    pseudo-bands; what it says is a share of the pixel's brightness, too.

    Parameters
    ----------
    net
        Takes the pseudo-bands and a guide of :func:`guide_channels`, gives 61 channels. One that
        has no place for a guide takes all of it as bands.
    prior
        Distribution of the modelled spectra that go in, in units of the scene's brightness; None
        for a network that takes none.
    label_ratio
        Share of the pixels that carry a modelled spectrum.
    corrects
        Whether it was trained on estimates that were fitted on points, too. A network that was not
        ruins them: their standard deviation is smaller than any that it has seen.
    """

    boxes: torch.Tensor
    centre: torch.Tensor
    shapes: torch.Tensor

    def __init__(
        self,
        net: SpectralNet,
        *,
        prior: GammaPrior | None = None,
        label_ratio: float = 0.01,
        corrects: bool = False,
    ) -> None:
        super().__init__()
        self.net = net
        # A network that cannot start at zero itself gets a last layer that does.
        self.head = None
        if "zero_head" not in net.options:
            self.head = nn.Conv2d(len(COMMON), len(COMMON), 1)
            for parameter in self.head.parameters():
                nn.init.zeros_(parameter)
        self.prior = prior
        self.label_ratio = label_ratio
        self.corrects = corrects
        centre, shapes = _library_shapes()
        self.register_buffer("boxes", torch.from_numpy(_boxes()), persistent=False)
        # In the file, as weights go with the library that they were trained with; copies, as
        # loading a file writes into them.
        self.register_buffer("centre", torch.tensor(centre[:, None, None]))
        self.register_buffer("shapes", torch.tensor(shapes))

    @property
    def name(self) -> str:
        """Registered name of the network inside."""
        return self.net.name

    @property
    def options(self) -> dict[str, Any]:
        """Options of the network inside."""
        return self.net.options

    def forward(
        self,
        common: torch.Tensor,
        deviation: torch.Tensor,
        modelled: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What is to be added to an estimate, ``(n, 61, y, x)``, all in units of the brightness.

        Parameters
        ----------
        common, deviation
            Estimate and its standard deviation, ``(n, 61, y, x)``.
        modelled
            Modelled point spectra, zero elsewhere, ``(n, 61, y, x)``, for a network that takes
            them.
        """
        brightness = common.mean(1, keepdim=True).clamp_min(DARKEST)
        shape = along(self.shapes, common / brightness - self.centre)
        parts = [
            shape.clamp(-_FARTHEST, _FARTHEST),
            brightness.log(),
            deviation / (brightness * OUTPUT_SCALE),
        ]
        if modelled is not None:
            parts.append(modelled)
        bands = along(self.boxes, common).clamp_min(DARKEST).log()
        guide = torch.cat(parts, dim=1)
        if self.net.bands > len(PSEUDO_BANDS_NM):
            found: torch.Tensor = self.net(torch.cat([bands, guide], dim=1))
        else:
            found = self.net(bands, guide)
        if self.head is not None:
            found = self.head(found)
        return found * OUTPUT_SCALE * brightness

    def modelled(
        self, size: tuple[int, int], streams: Sequence[int], seed: int
    ) -> torch.Tensor | None:
        """Modelled spectra of tiles by their global index, ``(n, 61, y, x)``, or None."""
        prior = self.prior
        if prior is None:
            return None
        drawn = [
            modelled_points(prior, size, self.label_ratio, seed=seed, stream=int(stream))
            for stream in streams
        ]
        return torch.from_numpy(np.stack(drawn)).to(self.boxes.device)


def guide_channels(*, modelled: bool) -> int:
    """Channels of the network's guide, with modelled spectra or without."""
    return SHAPES + 1 + len(COMMON) * (2 if modelled else 1)


@cache
def _library_shapes() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean of library mixtures of brightness 1, ``(61,)``, and their components, ``(k, 61)``.

    A component applied to a spectrum less the mean has unit variance over the mixtures.
    """
    mixtures = random_mixtures(load_library(), COMMON, count=_MIXTURES)
    shapes = mixtures / np.maximum(mixtures.mean(1, keepdims=True), 0.01)
    centre = shapes.mean(0)
    _, sizes, components = np.linalg.svd(shapes - centre, full_matrices=False)
    deviations = sizes[:SHAPES, None] / np.sqrt(len(shapes))
    return centre.astype("f4"), (components[:SHAPES] / deviations).astype("f4")


def _boxes() -> NDArray[np.float32]:
    """The pseudo-bands as means of common channels, ``(band, 61)``."""
    centres = COMMON.centres_nm
    inside = [(centres >= low) & (centres <= high) for low, high in PSEUDO_BANDS_NM]
    return np.stack([box / box.sum() for box in inside]).astype("f4")


def create_residual_net(
    name: str,
    *,
    seed: int,
    prior: GammaPrior | None = None,
    label_ratio: float = 0.01,
    corrects: bool = False,
    **options: Any,
) -> ResidualNet:
    """A fresh network whose weights depend on the seed alone and that adds nothing yet.

    DyPro-Mamba takes the guide as it is. Another network takes it behind DyPro-Mamba's neck where
    there are modelled spectra in it, as in the paper's Pixel-SSR mode, and otherwise as further
    bands.

    Parameters
    ----------
    name
        Registered name of the network.
    seed
        Of the weights.
    prior, label_ratio, corrects
        See :class:`ResidualNet`.
    **options
        Settings of that network.
    """
    bands, guide = len(PSEUDO_BANDS_NM), guide_channels(modelled=prior is not None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if find_net(name).uses_guide:
            options = {"zero_head": True, **options}
        elif prior is None:
            bands += guide
        create = create_net if prior is None else create_pixel_net
        net = create(name, bands=bands, channels=len(COMMON), guide_channels=guide, **options)
    return ResidualNet(net, prior=prior, label_ratio=label_ratio, corrects=corrects)


def check_residual_options(name: str, options: Mapping[str, Any], *, modelled: bool) -> None:
    """Check what :func:`create_residual_net` would be given; nothing is built.

    Parameters
    ----------
    name, options
        Of the network.
    modelled
        Whether modelled spectra go in.

    Raises
    ------
    UnknownNetError
        If the name is not registered.
    SettingsError
        If an option is not known or has a value that does not fit.
    """
    check = check_pixel_options if modelled else net_config
    check(name, options)


@dataclass(frozen=True, slots=True, eq=False)
class PretrainedMean:
    """A prior mean for one scene: tiles of its bands to tiles of its cube."""

    net: ResidualNet
    """In evaluation mode."""
    view: SensorView
    """The sensor and the cube's channels."""
    brightness: float
    """Mean of the scene's mean spectrum by the library, in the scene's unit."""
    darkest: float
    """Least brightness of a pixel's bands that is divided by, in units of :attr:`brightness`."""
    seed: int = 0
    """Of the modelled spectra, where the network takes them."""

    @classmethod
    def of(
        cls,
        net: ResidualNet,
        channels: ChannelGrid,
        response: NDArray[np.float64],
        scene_mean: NDArray[np.float64],
        *,
        seed: int = 0,
    ) -> PretrainedMean:
        """The prior mean of a scene.

        Parameters
        ----------
        net
            As :func:`load_residual_net` gives it; stays where it is.
        channels
            Of the cube; any inside the library's range.
        response
            Response matrix of the usable bands, ``(band, channel)``.
        scene_mean
            Mean of the usable bands over the scene, ``(band,)``, in any unit.
        seed
            Of the modelled spectra, where the network takes them.

        Raises
        ------
        WavelengthGridError
            If channels lie outside the library.
        SceneError
            If the scene's mean is not positive.
        """
        view = SensorView(channels, response).to(net.boxes.device)
        mean = torch.as_tensor(scene_mean, dtype=torch.float32, device=net.boxes.device)
        middle = float(mean.mean())
        if not (np.isfinite(middle) and middle > 0):
            raise SceneError(
                f"the scene's bands have a mean of {middle:g}, a trained network needs a positive "
                "one: check the nodata value and --scale"
            )
        common, _ = view.spectra(mean[None, :, None, None], DARKEST * middle)
        brightness = max(float(common.mean()), DARKEST * middle)
        return cls(net.eval(), view, brightness, DARKEST * middle / brightness, seed)

    def to(self, device: torch.device) -> PretrainedMean:
        """The same prior mean with its tensors on a device."""
        # Copies: moving a module changes it, for whoever else holds it too.
        net, view = copy.deepcopy(self.net).to(device), copy.deepcopy(self.view).to(device)
        return replace(self, net=net, view=view)

    def __call__(
        self, stack: NDArray[np.float32], tiles: NDArray[np.int64], device: torch.device
    ) -> NDArray[np.float32]:
        """:meth:`tiles`, called as other models of whole tiles are; it runs where :meth:`to` put it."""
        return self.tiles(stack, numbers=tiles)

    def tiles(
        self,
        stack: NDArray[np.float32],
        *,
        mean: NDArray[np.float32] | None = None,
        deviation: NDArray[np.float32] | None = None,
        numbers: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """Cubes of tiles, ``(n, channel, y, x)``, which agree with the scene.

        Parameters
        ----------
        stack
            Bands without gaps, ``(n, band, y, x)``.
        mean, deviation
            An estimate of the cubes and its standard deviation, ``(n, channel, y, x)`` each, that
            the network is to correct; None takes the library's.
        numbers
            Global indices of the tiles, by which modelled spectra are drawn; by default 0, 1, ...

        Raises
        ------
        SettingsError
            If the number of bands is another, of mean and deviation only one is given, or the
            network was not trained to correct estimates.
        """
        guide, change = self._run(stack, mean, deviation, numbers)
        x = torch.from_numpy(stack).to(change.device)
        # Once more in the scene's unit, so that rounding does not part the cube from the scene.
        return _to_numpy(self.view.projected(guide.mean + change, x))

    def changes(
        self,
        stack: NDArray[np.float32],
        *,
        mean: NDArray[np.float32] | None = None,
        deviation: NDArray[np.float32] | None = None,
        numbers: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """What :meth:`tiles` adds to the estimate, which no band sees, ``(n, channel, y, x)``."""
        return _to_numpy(self._run(stack, mean, deviation, numbers)[1])

    def library(self, stack: NDArray[np.float32]) -> NDArray[np.float32]:
        """The library's estimate that the network starts from, ``(n, channel, y, x)``."""
        with torch.inference_mode():
            x = torch.from_numpy(stack).to(self.net.boxes.device)
            return _to_numpy(self.view.guide(x, self.darkest * self.brightness).mean)

    def _run(
        self,
        stack: NDArray[np.float32],
        mean: NDArray[np.float32] | None,
        deviation: NDArray[np.float32] | None,
        numbers: Sequence[int] | NDArray[np.int64] | None,
    ) -> tuple[Guide, torch.Tensor]:
        """The guide and the change, both in the scene's unit."""
        if stack.ndim != 4 or stack.shape[1] != self.view.bands:
            raise SettingsError(
                f"tiles of shape {stack.shape} were given, expected (n, {self.view.bands}, y, x): "
                "give the bands that the response describes"
            )
        if (mean is None) != (deviation is None):
            raise SettingsError(
                "of an estimate's mean and deviation only one was given, both are needed: give both"
            )
        if mean is not None and not self.net.corrects:
            raise SettingsError(
                "an estimate was given to a network that was trained on the library's alone, one "
                "trained with CubePlan(estimates=...) above 0 is needed: leave the estimate out"
            )
        device, unit = self.net.boxes.device, self.brightness
        if numbers is None:
            numbers = range(len(stack))
        with torch.inference_mode():
            x = torch.from_numpy(stack).to(device)
            given = None
            if mean is not None and deviation is not None:
                given = torch.from_numpy(mean).to(device), torch.from_numpy(deviation).to(device)
            guide = self.view.guide(x, self.darkest * unit, given)
            modelled = self.net.modelled((x.shape[2], x.shape[3]), list(numbers), self.seed)
            found = self.net(guide.common / unit, guide.deviation / unit, modelled) * unit
            return guide, self.view.unseen(along(self.view.to_cube, found))


def _to_numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.cpu().numpy())


def save_residual_net(
    path: str | Path, model: ResidualNet, *, net: str, card: dict[str, Any]
) -> None:
    """Write a network with a card that says what it was made of.

    Parameters
    ----------
    path
        The file, ``*.safetensors``.
    model
        The network.
    net
        Its registered name.
    card
        Data, terms, steps, seed, figures: JSON types only.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    from pixelssr_geo.training.checkpoint import save_checkpoint  # needs safetensors

    prior = model.prior
    description: dict[str, Any] = {
        "kind": _KIND,
        "net": net,
        # what runs the scans is up to whoever uses the weights
        "options": {k: v for k, v in model.net.options.items() if k != "scan_backend"},
        "channel_centres_nm": COMMON.centres_nm.tolist(),
        "prior": None
        if prior is None
        else {
            "shape": prior.shape.tolist(),
            "scale": prior.scale.tolist(),
            "correlation": prior.correlation,
        },
        "label_ratio": model.label_ratio,
        "corrects": model.corrects,
        "card": card,
    }
    save_checkpoint(path, model.state_dict(), description)


def holds_cubes(description: dict[str, Any]) -> bool:
    """Whether a weights file's description is of a network that :func:`save_residual_net` wrote."""
    return description.get("kind") == _KIND


def load_residual_net(
    path: str | Path, *, device: torch.device, scan_backend: str = "auto"
) -> tuple[ResidualNet, dict[str, Any]]:
    """A network written by :func:`save_residual_net`, on ``device``, and its card.

    Raises
    ------
    WeightsError
        If the file is broken or holds something else, such as weights for one scene.
    """
    from pixelssr_geo.training.checkpoint import load_checkpoint

    state, about = load_checkpoint(path)
    if not holds_cubes(about):
        raise WeightsError(
            f"'{path}' holds no network that was trained on cubes for any sensor: make one by "
            "`pixelssr-geo train CUBE... --mode supervised`"
        )
    try:
        options = dict(about["options"])
        if scan_backend != "auto":
            options["scan_backend"] = scan_backend
        given = about["prior"]
        prior = None
        if given is not None:
            prior = GammaPrior(
                np.array(given["shape"]), np.array(given["scale"]), float(given["correlation"])
            )
        model = create_residual_net(
            about["net"],
            seed=0,
            prior=prior,
            label_ratio=float(about["label_ratio"]),
            corrects=bool(about["corrects"]),
            **options,
        )
        model.load_state_dict(state)
        return model.to(device).eval(), dict(about["card"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"'{path}' does not describe a usable network ({type(error).__name__}: {reason}): use "
            "weights made by this version of `pixelssr-geo train`"
        ) from error
