"""Pixel-SSR: training a network on a scene and a few point spectra (eqs. 3, 14 and 15).

Gamma-modelled spectra go *in*, in training and use alike; the measured spectra appear only in the
loss. Without points L_rep and L_SSIM alone remain, the unsupervised mode. Any registered network
can be trained so: by itself without points, and behind DyPro-Mamba's neck with them, where it sees
the modelled spectra and has all four losses.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pixelssr_geo.errors import WeightsError
from pixelssr_geo.losses import (
    LossTerms,
    LossWeights,
    adjacent_ssim_loss,
    overall_loss,
    pixel_to_image_loss,
    point_loss,
    projection_loss,
)
from pixelssr_geo.nets import SpectralNet, create_net, create_pixel_net
from pixelssr_geo.nets.contract import NeckedNet
from pixelssr_geo.nets.dypro.net import PixelToImage
from pixelssr_geo.prior import GammaPrior, GaussianPrior, PointPrior, modelled_points
from pixelssr_geo.training.loop import Schedule, TrainingRecord, train, warm_up_steps
from pixelssr_geo.training.patches import Batch, WindowReader, cut_patches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from pixelssr_geo.labels import Labels

HELD_OUT = 0.2
"""Share of the labels that early stopping looks at, from five labels on."""

TRAINING_STREAM = 1 << 32
"""First counter of the noise drawn in training; tiles count from zero."""

HELD_OUT_STREAM = 1 << 31
"""First counter, after that, of the noise at held-out labels: the same at every look."""


@dataclass(frozen=True, slots=True)
class PixelPlan:
    """How a network is trained on points."""

    steps: int = 200
    """Optimiser steps at the most."""
    patch: int = 32
    """Rows and columns of a training patch."""
    batch: int = 4
    """Patches in a step, half of them around labels where there are any."""
    unlabelled: int = 32
    """Patches without regard to labels, for the losses that need none."""
    learning_rate: float = 2e-3
    """Ten times the paper's 2e-4, for some hundred steps instead of 200 epochs."""
    label_ratio: float = 0.01
    """Share omega of the pixels that carry a modelled spectrum (eq. 2)."""
    removed: bool = False
    """Whether these pixels are the ones without a modelled spectrum (eq. 2 by the letter)."""
    redraw: bool = True
    """Whether modelled spectra are drawn anew in every step, or once for each patch."""
    point_loss_everywhere: bool = False
    """Whether L_pHSI takes zero for the truth where there is no label (eq. 14 by the letter)."""
    net_options: dict[str, Any] = field(default_factory=dict)
    """Options of the network."""
    seed: int = 0
    """Of the initial weights, the patches, the noise and the order."""


@dataclass(frozen=True, slots=True, eq=False)
class PixelModel:
    """A trained network with all that its use needs."""

    net: SpectralNet
    """In evaluation mode."""
    gain: float
    """Reflectance is multiplied by this on the way in and divided on the way out, so that the
    scene fills the range 0-1 that the paper's images have."""
    prior: PointPrior
    """Of the modelled spectra, in the network's units."""
    label_ratio: float
    """Share of the pixels that carry a modelled spectrum."""
    removed: bool
    """Whether these pixels are the ones without."""
    seed: int
    """Of the modelled spectra."""
    band_centres_nm: tuple[float, ...]
    """Bands that the network was trained on."""
    channel_centres_nm: tuple[float, ...]
    """Channels that it gives."""

    def to(self, device: torch.device) -> PixelModel:
        """The same model with its network on a device."""
        # A copy: moving a module changes it, for whoever else holds it too.
        return replace(self, net=copy.deepcopy(self.net).to(device))

    def guide(self, shape: tuple[int, int], stream: int) -> NDArray[np.float32]:
        """Modelled spectra of one tile, ``(channel, y, x)``, by its global index."""
        return modelled_points(
            self.prior,
            shape,
            self.label_ratio,
            seed=self.seed,
            stream=stream,
            removed=self.removed,
        )

    def __call__(
        self, stack: NDArray[np.float32], tiles: NDArray[np.int64], device: torch.device
    ) -> NDArray[np.float32]:
        """Cubes ``(n, channel, y, x)`` for tiles ``(n, band, y, x)``."""
        rows, cols = stack.shape[-2:]
        guide = np.stack([self.guide((rows, cols), int(tile)) for tile in tiles])
        with torch.inference_mode():
            x = torch.from_numpy(stack).to(device) * self.gain
            y = self.net(x, torch.from_numpy(guide).to(device)) / self.gain
        return np.asarray(y.cpu().numpy())


@dataclass(frozen=True, slots=True, eq=False)
class PixelFit:
    """A trained model and how it went."""

    model: PixelModel
    """The model."""
    record: TrainingRecord
    """Steps and losses."""
    held: NDArray[np.int64]
    """Labels that were held out."""
    held_errors: NDArray[np.float64]
    """Truth minus reconstruction there, reflectance, ``(held, channel)``."""


def train_pixel(
    labels: Labels | None,
    read: WindowReader,
    response: NDArray[np.float64],
    prior: PointPrior,
    plan: PixelPlan,
    *,
    gain: float,
    band_centres_nm: tuple[float, ...],
    channel_centres_nm: tuple[float, ...],
    net: str = "dypro-mamba",
    weights: LossWeights | None = None,
    device: torch.device,
    progress: Callable[[int, int, float], None] | None = None,
) -> PixelFit:
    """Train a network with the paper's four losses, or its two label-free ones without labels.

    With labels another network than DyPro-Mamba stands behind the latter's neck.

    From five labels on, a fifth is held out: training stops early by the error there, and the best
    weights are kept.

    Parameters
    ----------
    labels
        Labelled pixels, usable bands only; None or empty for the unsupervised mode.
    read
        Reads windows of the scene, usable bands only.
    response
        Response matrix S of these bands, ``(band, channel)``.
    prior
        Of the modelled spectra, fitted in the network's units (reflectance times ``gain``).
    plan
        Steps, patches, rate, ratio, seed.
    gain
        Factor from reflectance to the network's units.
    band_centres_nm, channel_centres_nm
        What the network is trained on, kept in the model.
    net
        Registered name of the network.
    weights
        Of the losses; the paper's 1, 1, 0.3 and 0.3 by default.
    device
        Where to train.
    progress
        Called after each step with the step, the number of steps and the loss.
    """
    weights = weights or LossWeights()
    bands, channels = response.shape
    labels = labels if labels is not None else _no_labels(bands, channels)
    trained = fresh_network(
        net,
        response.shape,
        necked=bool(len(labels)),
        options=plan.net_options,
        seed=plan.seed,
        device=device,
    )
    model = PixelModel(
        net=trained.net,
        gain=gain,
        prior=prior,
        label_ratio=plan.label_ratio,
        removed=plan.removed,
        seed=plan.seed,
        band_centres_nm=band_centres_nm,
        channel_centres_nm=channel_centres_nm,
    )
    if not len(labels):
        weights = replace(weights, point=0, image=0)
    shuffled = np.random.default_rng(plan.seed).permutation(len(labels))
    held = shuffled[: int(HELD_OUT * len(labels))]
    used = shuffled[len(held) :]
    patches = cut_patches(read, labels, size=plan.patch, extra=plan.unlabelled, seed=plan.seed)
    anywhere = np.arange(len(labels), len(patches))
    matrix = torch.from_numpy(response.astype("f4")).to(device)
    order = np.random.default_rng(plan.seed + 1)
    target = labels.spectra * gain

    def guides(streams: Iterable[int]) -> torch.Tensor:
        shape = plan.patch, plan.patch
        drawn = [model.guide(shape, TRAINING_STREAM + stream) for stream in streams]
        return torch.from_numpy(np.stack(drawn)).to(device)

    def step_loss(step: int) -> torch.Tensor:
        around = min(plan.batch // 2, len(used))
        elsewhere = min(plan.batch - around, len(anywhere))
        chosen = np.concatenate(
            [
                order.choice(used, around, replace=False),
                order.choice(anywhere, elsewhere, replace=False),
            ]
        ).astype("i8")
        batch = patches.batch(chosen, labels.take(used), target[used], device)
        drawn = range(step * plan.batch, step * plan.batch + len(chosen))
        guide = guides(drawn if plan.redraw else chosen.tolist())
        if plan.point_loss_everywhere:
            batch = replace(batch, labelled=batch.valid)
        return batch_loss(trained, replace(batch, bands=batch.bands * gain), guide, matrix, weights)

    def held_errors() -> NDArray[np.float64]:
        """Truth minus reconstruction at the held-out labels, reflectance, ``(label, channel)``."""
        errors = np.empty((len(held), channels))
        for k, index in enumerate(held):
            batch = patches.batch(np.array([index]), labels, target, device)
            y, _ = trained(batch.bands * gain, guides([HELD_OUT_STREAM + k]))
            row = labels.rows[index] - patches.origins[index, 0]
            col = labels.cols[index] - patches.origins[index, 1]
            errors[k] = labels.spectra[index] - y[0, :, row, col].cpu().numpy() / gain
        return errors

    record = train(
        trained,
        step_loss,
        Schedule(
            plan.steps,
            plan.learning_rate,
            warm_up_steps(plan.steps),
            validate_every=max(1, plan.steps // 10),
        ),
        validate=(lambda: float(np.abs(held_errors()).mean())) if len(held) else None,
        progress=progress,
    )
    with torch.inference_mode():
        return PixelFit(model, record, held, held_errors())


class WithImageHead(torch.nn.Module):
    """The network and, where it has the paper's neck, the mapping of L_P2I beside it.

    Parameters
    ----------
    net
        The network.
    """

    def __init__(self, net: SpectralNet) -> None:
        super().__init__()
        self.net = net
        self.image = PixelToImage(net.neck_width, net.bands) if isinstance(net, NeckedNet) else None

    def forward(
        self, x: torch.Tensor, guide: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The cube of bands and guide, and the bands that Y3 maps to, None without a neck."""
        if not isinstance(self.net, NeckedNet) or self.image is None:
            return self.net(x, guide), None
        y, y3 = self.net.forward_with_neck(x, guide)
        return y, self.image(y3)


def fresh_network(
    name: str,
    shape: tuple[int, int],
    *,
    necked: bool,
    options: Mapping[str, Any],
    seed: int,
    device: torch.device,
) -> WithImageHead:
    """A network that has learnt nothing yet, with all that its losses need, on its device.

    It starts by returning zeros, see :meth:`~pixelssr_geo.nets.contract.SpectralNet.zero_output`.

    Parameters
    ----------
    name
        Registered name of the network.
    shape
        Bands and channels.
    necked
        Whether it stands behind the paper's neck; DyPro-Mamba has one in any case.
    options
        Of the network.
    seed
        Of the weights.
    device
        Where it goes.
    """
    bands, channels = shape
    create = create_pixel_net if necked else create_net
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        net = create(name, bands=bands, channels=channels, **options)
        net.zero_output()
        return WithImageHead(net).to(device)


def batch_loss(
    net: WithImageHead,
    batch: Batch,
    guide: torch.Tensor,
    response: torch.Tensor,
    weights: LossWeights,
) -> torch.Tensor:
    """The overall loss of a batch (eq. 15), a scalar.

    Parameters
    ----------
    net
        What is trained.
    batch
        Patches in the network's units; L_pHSI is taken at ``labelled``.
    guide
        What goes in beside the bands, ``(patch, channel, y, x)``.
    response
        Response matrix S, ``(band, channel)``.
    weights
        Of the losses; without a neck there is no L_P2I.
    """
    y, mapped = net(batch.bands, guide)
    terms = LossTerms(
        point=point_loss(y, batch.target, batch.labelled),
        projection=projection_loss(batch.bands, y, response, batch.valid),
        ssim=adjacent_ssim_loss(y),
        image=y.new_zeros(())
        if mapped is None
        else pixel_to_image_loss(batch.bands, mapped, batch.valid),
    )
    return overall_loss(terms, weights)


def _no_labels(bands: int, channels: int) -> Labels:
    from pixelssr_geo.labels import Labels

    none = np.empty(0, "i8")
    return Labels(none, none, np.empty((0, bands)), np.empty((0, channels)))


def save_pixel_model(
    path: str | Path, model: PixelModel, *, net: str, mode: str, **more: Any
) -> None:
    """Write a trained model, and ``more`` (JSON types) that is to be known about it.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    from pixelssr_geo.training.checkpoint import save_checkpoint  # needs safetensors

    description: dict[str, Any] = {
        "net": net,
        "mode": mode,
        # what runs the scans is up to whoever uses the weights
        "options": {k: v for k, v in model.net.options.items() if k != "scan_backend"},
        "gain": model.gain,
        "prior": _prior_to_dict(model.prior),
        "label_ratio": model.label_ratio,
        "removed": model.removed,
        "seed": model.seed,
        "band_centres_nm": list(model.band_centres_nm),
        "channel_centres_nm": list(model.channel_centres_nm),
        **more,
    }
    save_checkpoint(path, model.net.state_dict(), description)


def load_pixel_model(
    path: str | Path, *, device: torch.device, scan_backend: str = "auto"
) -> tuple[PixelModel, dict[str, Any]]:
    """A model written by :func:`save_pixel_model`, on ``device``, and its description.

    Raises
    ------
    WeightsError
        If the file is broken or holds something else.
    """
    from pixelssr_geo.training.checkpoint import load_checkpoint

    state, about = load_checkpoint(path)
    try:
        options = dict(about["options"])
        if scan_backend != "auto":
            options["scan_backend"] = scan_backend
        # Only a network that was trained behind a neck has options of one.
        create = create_pixel_net if "neck" in options else create_net
        net = create(
            about["net"],
            bands=len(about["band_centres_nm"]),
            channels=len(about["channel_centres_nm"]),
            **options,
        )
        net.load_state_dict(state)
        model = PixelModel(
            net=net.to(device).eval(),
            gain=float(about["gain"]),
            prior=_prior_from_dict(about["prior"]),
            label_ratio=float(about["label_ratio"]),
            removed=bool(about["removed"]),
            seed=int(about["seed"]),
            band_centres_nm=tuple(about["band_centres_nm"]),
            channel_centres_nm=tuple(about["channel_centres_nm"]),
        )
        return model, about
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"'{path}' does not describe a usable network ({type(error).__name__}: {reason}): use "
            "weights made by this version of `pixelssr-geo train`"
        ) from error


def _prior_to_dict(prior: PointPrior) -> dict[str, Any]:
    if isinstance(prior, GammaPrior):
        return {
            "kind": "gamma",
            "shape": prior.shape.tolist(),
            "scale": prior.scale.tolist(),
            "correlation": prior.correlation,
        }
    return {"kind": "gaussian", "mean": prior.mean.tolist(), "std": prior.std.tolist()}


def _prior_from_dict(about: dict[str, Any]) -> PointPrior:
    if about["kind"] == "gamma":
        return GammaPrior(
            np.array(about["shape"]), np.array(about["scale"]), float(about["correlation"])
        )
    return GaussianPrior(np.array(about["mean"]), np.array(about["std"]))
