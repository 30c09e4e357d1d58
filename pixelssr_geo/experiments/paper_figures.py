"""The paper's figures: what each is drawn from, and the numbers that it shows.

Each is about one scene or dataset, of which the first test image is drawn. Networks are those of the
tables' cells, with the first draw of modelled spectra. What becomes of it on paper is told in
:mod:`pixelssr_geo.experiments.drawing`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.experiments.exams import SPLIT, DatasetSource, load_exam
from pixelssr_geo.experiments.figure_numbers import (
    bin_edges,
    bin_shares,
    correlation,
    edge_strength,
    low_share,
    power_planes,
    radial_profile,
    skewness,
    total_variation,
    wasserstein,
)
from pixelssr_geo.experiments.networks import (
    NO_MODE,
    method_cubes,
    network_cubes,
    trained_network,
)
from pixelssr_geo.experiments.paper_tables import LEAST_RATIO, OURS, TABLES, Row, figures
from pixelssr_geo.experiments.paper_titles import FIGURE_TITLES
from pixelssr_geo.metrics import rmse_per_pixel, sam_per_pixel, score
from pixelssr_geo.report.quicklook import TRUE_COLOUR_NM, band_rgb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from pixelssr_geo.experiments.exams import Exam, Test
    from pixelssr_geo.experiments.networks import NetworkCell, Rows
    from pixelssr_geo.experiments.paper_tables import Asked, Figure, Training
    from pixelssr_geo.experiments.scenes import SceneSource
    from pixelssr_geo.fitting import Progress
    from pixelssr_geo.nets.dypro.drpn import NeckFeatures
    from pixelssr_geo.training.pixel import PixelModel

    Numbers = list[dict[str, Any]]
    """Rows of plain values under the same names."""

QUANTILES = (0.05, 0.25, 0.75, 0.95)
"""Of the spectra in Figure 2."""

BINS = 80
"""Of its histograms."""

CUT = 0.001
"""Share of the values at either end of a histogram that may go to its outermost bins."""

BRIGHTNESS = {"dark": 0.02, "median": 0.5, "bright": 0.98}
"""Quantiles of the brightness of the pixels that Figure 5 looks at."""

BESIDE_NETWORKS = ("estimator",)
"""Per-pixel methods in Figures 1, 6 and 7."""


def _modes(asked: Asked) -> list[Row]:
    some = asked if asked.methods is not None else replace(asked, methods=BESIDE_NETWORKS)
    return TABLES["table2"].rows(some)


def _both_priors(asked: Asked) -> list[Row]:
    return [Row(OURS, "pixel", _ratio(asked), prior) for prior in ("gamma", "gaussian")]


def _ours(asked: Asked) -> list[Row]:
    return [Row(OURS, "pixel", _ratio(asked))]


def _every_network(asked: Asked) -> list[Row]:
    names = (*asked.others(), OURS)
    ratio = _ratio(asked)
    return [
        *(Row(name, "pixel", ratio) for name in names),
        *asked.beside((ratio,), BESIDE_NETWORKS),
    ]


def _ratio(asked: Asked) -> str:
    """The one ratio of labels."""
    (ratio,) = asked.ratios or (LEAST_RATIO,)
    return ratio


@dataclass(frozen=True, slots=True)
class Studio:
    """Where figures get networks and cubes from; trains what is not kept."""

    source: SceneSource | DatasetSource
    """What is drawn."""
    training: Training
    """Of the networks; the first of its seeds counts."""
    ratio: str = LEAST_RATIO
    """Of labels."""
    device: str = "auto"
    """Where networks are trained."""
    keep: Path | None = None
    """Folder of trained networks, see :func:`~pixelssr_geo.experiments.networks.trained_network`."""
    progress: Progress | None = None
    """Called with a network's name, its steps done and all of them."""

    @property
    def seed(self) -> int:
        """Of everything."""
        return self.training.seeds[0]

    @property
    def exam(self) -> Exam:
        """What networks are trained on and judged by."""
        split = isinstance(self.source, DatasetSource)
        protocol = SPLIT if split else self.training.protocol
        return load_exam(self.source, protocol, self.ratio, self.seed)

    @property
    def test(self) -> Test:
        """The image that is drawn."""
        return self.exam.tests[0]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Pixels of the image whose truth is known, ``(y, x)``."""
        return np.asarray(np.isfinite(self.test.truth).all(axis=0))

    @property
    def centres_nm(self) -> NDArray[np.float64]:
        """Of the channels, nm."""
        return self.exam.channels.centres_nm

    @property
    def caption(self) -> str:
        """What the figure is about, one line."""
        split = isinstance(self.source, DatasetSource)
        protocol = "first test image" if split else f"protocol {self.training.protocol}"
        labels = f"{self.ratio} labels ({self.exam.label_count})"
        return (
            f"{self.source.name}, {protocol}, {labels}, {_budget(self.training)}, seed {self.seed}"
        )

    def model(self, cell: NetworkCell) -> PixelModel:
        """The network of a cell, trained now or before."""
        title = _title(cell, prior=True)

        def told(step: int, steps: int, _: float) -> None:
            if self.progress is not None:
                self.progress(title, step, steps)

        device = _device(self.device)
        return trained_network(cell, self.exam, device, self.keep, progress=told).model

    def cube(self, cell: NetworkCell) -> Drawn:
        """What a network or method makes of the image."""
        if cell.mode == NO_MODE:
            cube = next(method_cubes(cell, self.exam))
        else:
            cube = next(network_cubes(self.model(cell), self.exam, _device(self.device)))
        return Drawn(cell, cube, self.test)

    def features(self, cell: NetworkCell) -> dict[str, NDArray[np.float32]]:
        """The neck's features of the image by name, ``(channel, y, x)``; P_spe ``(width, width)``."""
        import torch

        from pixelssr_geo.nets.dypro.net import DyProMamba

        model, device, bands = self.model(cell), _device(self.device), self.test.bands
        assert isinstance(model.net, DyProMamba)
        guide = model.guide((bands.shape[1], bands.shape[2]), 0)
        with torch.inference_mode():
            x = torch.from_numpy(bands[None]).to(device) * model.gain
            found = model.net.neck_features(x, torch.from_numpy(guide[None]).to(device))
        return _arrays(found)


def _device(name: str) -> torch.device:
    from pixelssr_geo.fitting import resolve_device

    return resolve_device(name)


def _arrays(found: NeckFeatures) -> dict[str, NDArray[np.float32]]:
    named = {
        "F1": found.f1,
        "P_spa": found.spatial,
        "P_hf": found.edges,
        "Y3": found.y3,
        "P_spe": None if found.spectral is None else found.spectral[:, 0],
    }
    return {
        name: np.asarray(image[0].cpu().numpy())
        for name, image in named.items()
        if image is not None
    }


def _title(cell: NetworkCell, *, prior: bool = False) -> str:
    """What a picture calls a network or method."""
    if prior and cell.mode == "pixel":
        return f"{cell.method}, {cell.prior}"
    return cell.method


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A cube of the drawn image."""

    cell: NetworkCell
    """Whose."""
    cube: NDArray[np.float32]
    """``(channel, y, x)``."""
    test: Test
    """What it is held against."""

    @property
    def numbers(self) -> dict[str, Any]:
        """How good it is where the image is scored."""
        found = score(self.cube, self.test.truth, self.test.scored)
        kept = {"rmse": found["rmse"], "psnr": found["psnr"], "sam": found["sam"]}
        return {"method": self.cell.method, **kept}


@dataclass(frozen=True, slots=True, eq=False)
class ModeScores:
    """Figure 1: the PSNR of every network in every mode."""

    found: list[Figure]
    """Rows of Table 2 on one scene."""
    caption: str
    """What they are of."""

    @property
    def numbers(self) -> Numbers:
        """A row for each network and mode."""
        return [
            {
                **{name: getattr(one.row, name) for name in ("method", "mode", "labels")},
                "psnr": one.mean["psnr"],
                "sam": one.mean["sam"],
                "parameters": one.parameters,
            }
            for one in self.found
        ]


def mode_scores(finished: Rows, rows: Sequence[Row], training: Training) -> ModeScores:
    """Figure 1 from finished cells.

    Parameters
    ----------
    finished
        All of them; those of other trainings are left out.
    rows
        Rows of Table 2.
    training
        Whose cells count.

    Raises
    ------
    SettingsError
        If there is none, or they are of several scenes.
    """
    found = figures(finished, rows, training)
    scenes = list(dict.fromkeys(one.scene for one in found))
    check_single(scenes)
    several = max(one.seeds for one in found)
    seeds = f"mean of {several} seeds" if several > 1 else f"seed {training.seeds[0]}"
    parts = scenes[0], f"protocol {found[0].protocol}", _budget(training), seeds
    return ModeScores(found, ", ".join(parts))


def _budget(training: Training) -> str:
    return f"{training.steps} step{'s' * (training.steps > 1)} of {training.windows} pixels"


def check_single(names: Sequence[str]) -> None:
    """Refuse anything but one scene or dataset.

    Raises
    ------
    SettingsError
        If there is another number of names.
    """
    if len(names) != 1:
        told = f"{len(names)} scenes ({', '.join(names)}) are" if names else "no finished cell is"
        raise SettingsError(
            f"{told} there for the figure, it is drawn of one scene or dataset: choose it by "
            "--scenes NAME, --scene CUBE or --dataset NAME:ROOT"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """A cube's values where the image is scored."""

    name: str
    """Whose."""
    shares: NDArray[np.float64]
    """Of the values in each bin."""
    numbers: dict[str, Any]
    """What is printed."""


@dataclass(frozen=True, slots=True, eq=False)
class Distributions:
    """Figure 2: how reflectance is distributed in the truth and in reconstructed cubes."""

    centres_nm: NDArray[np.float64]
    """Of the channels."""
    mean: NDArray[np.float64]
    """Of the true spectra, ``(channel,)``."""
    quantiles: NDArray[np.float64]
    """Of the true spectra, ``(quantile, channel)``, see :data:`QUANTILES`."""
    skewness: NDArray[np.float64]
    """Of the truth in each channel."""
    edges: NDArray[np.float64]
    """Of the bins, reflectance."""
    each: tuple[Distribution, ...]
    """The truth, and the cubes."""
    caption: str
    """What they are of."""

    @property
    def numbers(self) -> Numbers:
        """A row for the truth and each cube."""
        return [one.numbers for one in self.each]


def distributions(studio: Studio, cells: Sequence[NetworkCell]) -> Distributions:
    """Figure 2 from networks with Gamma- and Gaussian-modelled spectra."""
    test = studio.test
    truth = test.truth[:, test.scored]
    cubes = {"truth": truth}
    for cell in cells:
        cubes[cell.prior] = studio.cube(cell).cube[:, test.scored]
    edges = bin_edges(truth, list(cubes.values()), bins=BINS, cut=CUT)
    reference = bin_shares(truth, edges)
    found = []
    for name, values in cubes.items():
        shares = bin_shares(values, edges)
        numbers = {
            "cube": name,
            "mean": float(values.mean(dtype="f8")),
            "deviation": float(values.std(dtype="f8")),
            "skewness": float(skewness(values)),
            "wasserstein": wasserstein(values, truth),
            "total_variation": total_variation(shares, reference),
            "below_zero": float((values < 0).mean()),
        }
        found.append(Distribution(name, shares, numbers))
    return Distributions(
        centres_nm=studio.centres_nm,
        mean=truth.mean(axis=1, dtype="f8"),
        quantiles=np.quantile(truth.astype("f8"), QUANTILES, axis=1),
        skewness=skewness(truth, axis=1),
        edges=edges,
        each=tuple(found),
        caption=studio.caption,
    )


@dataclass(frozen=True, slots=True, eq=False)
class FeaturePower:
    """How an image's variance is spread over frequencies."""

    plane: NDArray[np.float64]
    """Mean over the channels of the logarithm (base 10) of the share at each frequency, ``(y, x)``."""
    frequencies: NDArray[np.float64]
    """Of the rings, cycles per pixel."""
    profile: NDArray[np.float64]
    """Mean share on each ring."""
    low: float
    """Share below a quarter of the Nyquist frequency."""

    @staticmethod
    def of(images: NDArray[np.float32], valid: NDArray[np.bool_]) -> FeaturePower:
        """That of ``(channel, y, x)``."""
        planes = power_planes(images, valid)
        least = np.finfo("f4").tiny
        plane = np.log10(planes.clip(least)).mean(axis=0)
        return FeaturePower(plane, *radial_profile(planes), low_share(planes))


@dataclass(frozen=True, slots=True, eq=False)
class Frequencies:
    """Figure 4: the frequencies that the neck's prompts hold, and P_spe."""

    each: dict[str, FeaturePower]
    """Of the scene's bands and the neck's features, by name."""
    prompt: NDArray[np.float32]
    """P_spe, ``(width, width)``."""
    caption: str
    """What they are of."""

    @property
    def numbers(self) -> Numbers:
        """Shares of the variance by feature."""
        return [
            {"feature": name, "below_quarter": one.low, "above_quarter": 1 - one.low}
            for name, one in self.each.items()
        ]


def frequencies(studio: Studio, cells: Sequence[NetworkCell]) -> Frequencies:
    """Figure 4 from the whole DyPro-Mamba."""
    (cell,) = cells
    images = studio.features(cell)
    prompt = images.pop("P_spe")
    found = {
        name: FeaturePower.of(image, studio.known)
        for name, image in {"scene": studio.test.bands, **images}.items()
    }
    return Frequencies(found, prompt, studio.caption)


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A pixel and its spectra."""

    name: str
    """What it is called."""
    row: int
    """In the image."""
    col: int
    """In the image."""
    spectra: dict[str, NDArray[np.float32]]
    """The truth and those of cubes, ``(channel,)`` each."""

    @staticmethod
    def of(name: str, row: int, col: int, studio: Studio, drawn: dict[str, Drawn]) -> Place:
        """A pixel of the image and what cubes have there."""
        spectra = {"truth": studio.test.truth[:, row, col]}
        spectra |= {title: one.cube[:, row, col] for title, one in drawn.items()}
        return Place(name, int(row), int(col), spectra)

    @property
    def numbers(self) -> Numbers:
        """How far each spectrum is from the truth."""
        truth = self.spectra["truth"][:, None]
        return [
            {
                "pixel": f"{self.name} (row {self.row}, column {self.col})",
                "method": name,
                "rmse": float(rmse_per_pixel(spectrum[:, None], truth)[0]),
                "sam": float(sam_per_pixel(spectrum[:, None], truth)[0]),
            }
            for name, spectrum in self.spectra.items()
            if name != "truth"
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Colours:
    """A colour image of the truth."""

    image: NDArray[np.float32]
    """``(y, x, 3)``."""
    title: str
    """Its channels."""

    @staticmethod
    def of(studio: Studio) -> Colours:
        """The channels nearest to true colours."""
        centres = studio.centres_nm
        taken = [f"{centres[np.abs(centres - nm).argmin()]:.0f}" for nm in TRUE_COLOUR_NM]
        return Colours(band_rgb(studio.test.truth, centres), f"{', '.join(taken)} nm")


@dataclass(frozen=True, slots=True, eq=False)
class SpectralCurves:
    """Figure 5: spectra at three pixels."""

    centres_nm: NDArray[np.float64]
    """Of the channels."""
    colours: Colours
    """Of the truth."""
    places: tuple[Place, ...]
    """The pixels."""
    caption: str
    """What they are of."""

    @property
    def numbers(self) -> Numbers:
        """A row for each pixel and cube."""
        return [row for place in self.places for row in place.numbers]


def spectral_curves(studio: Studio, cells: Sequence[NetworkCell]) -> SpectralCurves:
    """Figure 5: a dark, a middling and a bright pixel among those that are scored."""
    drawn = {cell.prior: studio.cube(cell) for cell in cells}
    places = []
    for name, row, col in bright_places(studio.test):
        places.append(Place.of(name, row, col, studio, drawn))
    return SpectralCurves(studio.centres_nm, Colours.of(studio), tuple(places), studio.caption)


def bright_places(test: Test) -> list[tuple[str, int, int]]:
    """Name, row and column of the scored pixels at the quantiles :data:`BRIGHTNESS`."""
    at = np.argwhere(test.scored)
    order = test.truth[:, test.scored].mean(axis=0, dtype="f8").argsort(kind="stable")
    found = []
    for name, quantile in BRIGHTNESS.items():
        row, col = at[order[round(quantile * (len(order) - 1))]]
        found.append((name, int(row), int(col)))
    return found


@dataclass(frozen=True, slots=True, eq=False)
class ErrorMaps:
    """Figure 6: where networks and methods are wrong, and their spectra at one pixel."""

    centres_nm: NDArray[np.float64]
    """Of the channels."""
    colours: Colours
    """Of the truth."""
    drawn: dict[str, Drawn]
    """Cubes by title."""
    maps: dict[str, NDArray[np.float64]]
    """RMSE over the channels by title, reflectance, ``(y, x)``, NaN where not known."""
    place: Place
    """A scored pixel, by the seed."""
    caption: str
    """What they are of."""

    @property
    def numbers(self) -> Numbers:
        """A row for each cube, with its error at the pixel."""
        at = {row["method"]: row for row in self.place.numbers}
        return [
            {
                **one.numbers,
                "rmse_at_pixel": at[title]["rmse"],
                "sam_at_pixel": at[title]["sam"],
            }
            for title, one in self.drawn.items()
        ]


def error_maps(studio: Studio, cells: Sequence[NetworkCell]) -> ErrorMaps:
    """Figure 6 from all networks, and methods."""
    drawn = {_title(cell): studio.cube(cell) for cell in cells}
    truth = studio.test.truth
    maps = {title: rmse_per_pixel(one.cube, truth) for title, one in drawn.items()}
    row, col = np.random.default_rng([studio.seed, 6]).choice(np.argwhere(studio.test.scored))
    place = Place.of("marked", row, col, studio, drawn)
    colours = Colours.of(studio)
    return ErrorMaps(studio.centres_nm, colours, drawn, maps, place, studio.caption)


@dataclass(frozen=True, slots=True, eq=False)
class ChannelErrors:
    """Figure 7: where networks and methods are wrong in three channels."""

    centres_nm: NDArray[np.float64]
    """Of the three channels."""
    truth: NDArray[np.float32]
    """``(3, y, x)``, reflectance."""
    maps: dict[str, NDArray[np.float32]]
    """Absolute error by title, reflectance, ``(3, y, x)``, NaN where not known."""
    scored: NDArray[np.bool_]
    """Pixels that count in the numbers, ``(y, x)``."""
    caption: str
    """What they are of."""

    @property
    def numbers(self) -> Numbers:
        """A row for each cube: the mean error in each channel."""
        means = {title: one[:, self.scored].mean(axis=1) for title, one in self.maps.items()}
        return [
            {
                "method": title,
                **{
                    f"mae_{nm:.0f}nm": float(error)
                    for nm, error in zip(self.centres_nm, mean, strict=True)
                },
            }
            for title, mean in means.items()
        ]


def channel_errors(studio: Studio, cells: Sequence[NetworkCell]) -> ChannelErrors:
    """Figure 7: the channels a sixth, half and five sixths through the cube."""
    test, count = studio.test, len(studio.centres_nm)
    taken = np.array([count // 6, count // 2, 5 * count // 6])
    truth = np.where(studio.known, test.truth[taken], np.nan)
    maps = {_title(cell): np.abs(studio.cube(cell).cube[taken] - truth) for cell in cells}
    return ChannelErrors(studio.centres_nm[taken], truth, maps, test.scored, studio.caption)


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMaps:
    """Figure 8: what the neck makes of the image."""

    colours: Colours
    """Of the truth."""
    known: NDArray[np.bool_]
    """Pixels with data, ``(y, x)``."""
    bands: NDArray[np.float32]
    """Of the scene, ``(band, y, x)``."""
    features: dict[str, NDArray[np.float32]]
    """By name, ``(channel, y, x)``."""
    prompt: NDArray[np.float32]
    """P_spe, ``(width, width)``."""
    caption: str
    """What they are of."""

    @property
    def numbers(self) -> Numbers:
        """A row for each feature: its values, and how much it is like the scene and its edges."""
        bright = self.bands.mean(axis=0)
        edges = edge_strength(bright)[self.known]
        rows: Numbers = []
        for name, images in self.features.items():
            inside = images[:, self.known]
            centred = np.abs(inside - inside.mean(axis=1, keepdims=True))
            rows.append(
                {
                    "feature": name,
                    "channels": len(images),
                    "mean": float(inside.mean(dtype="f8")),
                    "deviation": float(inside.std(axis=1, dtype="f8").mean()),
                    "like_brightness": _likeness(inside, bright[self.known]),
                    "like_edges": _likeness(centred, edges),
                }
            )
        return rows


def _likeness(images: NDArray[np.float32], image: NDArray[np.floating]) -> float:
    """Mean over the channels of the size of the correlation with an image."""
    found = [abs(correlation(one, image)) for one in images]
    return float(np.mean(found))


def feature_maps(studio: Studio, cells: Sequence[NetworkCell]) -> FeatureMaps:
    """Figure 8 from the whole DyPro-Mamba."""
    (cell,) = cells
    features = studio.features(cell)
    prompt = features.pop("P_spe")
    return FeatureMaps(
        Colours.of(studio), studio.known, studio.test.bands, features, prompt, studio.caption
    )


Content: TypeAlias = (
    ModeScores
    | Distributions
    | Frequencies
    | SpectralCurves
    | ErrorMaps
    | ChannelErrors
    | FeatureMaps
)
"""What a figure shows."""


@dataclass(frozen=True, slots=True)
class PaperFigure:
    """One of the paper's figures."""

    name: str
    """What the command calls it."""
    title: str
    """What it is about."""
    rows: Callable[[Asked], list[Row]]
    """What it is drawn from."""
    content: Callable[[Studio, Sequence[NetworkCell]], Content] | None
    """Makes what it shows; None of the one that is drawn from finished cells."""

    @property
    def heading(self) -> str:
        """Number and title."""
        return f"{self.name.replace('figure', 'Figure ')}, {self.title}"


_PARTS: dict[str, tuple[Any, Any]] = {
    "figure1": (_modes, None),
    "figure2": (_both_priors, distributions),
    "figure4": (_ours, frequencies),
    "figure5": (_both_priors, spectral_curves),
    "figure6": (_every_network, error_maps),
    "figure7": (_every_network, channel_errors),
    "figure8": (_ours, feature_maps),
}

FIGURES: dict[str, PaperFigure] = {
    name: PaperFigure(name, title, *_PARTS[name]) for name, title in FIGURE_TITLES.items()
}
"""The paper's figures that show results, by name."""

_HEADS = {
    "rmse": "RMSE",
    "psnr": "PSNR dB",
    "sam": "SAM degrees",
    "wasserstein": "Wasserstein",
    "total_variation": "total variation",
    "below_zero": "below 0",
    "below_quarter": "below Nyquist / 4",
    "above_quarter": "above Nyquist / 4",
    "rmse_at_pixel": "RMSE at the pixel",
    "sam_at_pixel": "SAM at the pixel",
    "like_brightness": "like the scene",
    "like_edges": "like its edges",
}
"""Of columns whose name does not say it."""


def numbers_text(numbers: Numbers) -> str:
    """A figure's numbers as a table in Markdown."""
    names = list(numbers[0])
    head = [_HEADS.get(name, name.replace("_", " ").replace("mae ", "MAE at ")) for name in names]
    rows = [head, *([_cell_text(row[name]) for name in names] for row in numbers)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def json_numbers(numbers: Numbers) -> Numbers:
    """A figure's numbers as JSON has them: what is not finite is None."""
    return [
        {name: None if _is_missing(value) else value for name, value in row.items()}
        for row in numbers
    ]


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not np.isfinite(value))


def _cell_text(value: Any) -> str:
    if _is_missing(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
