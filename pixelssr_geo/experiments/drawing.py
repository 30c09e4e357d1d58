"""Pictures of what :mod:`~pixelssr_geo.experiments.paper_figures` has computed, with matplotlib.

Colours are those of Okabe and Ito, which colour-blind eyes tell apart.
"""

from __future__ import annotations

from math import ceil, log10
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelssr_geo.errors import OutputError
from pixelssr_geo.experiments.exams import NO_LABELS
from pixelssr_geo.experiments.figure_numbers import NYQUIST, QUARTER
from pixelssr_geo.experiments.networks import NO_MODE
from pixelssr_geo.experiments.paper_figures import (
    QUANTILES,
    ChannelErrors,
    Distributions,
    ErrorMaps,
    FeatureMaps,
    Frequencies,
    ModeScores,
    SpectralCurves,
)
from pixelssr_geo.experiments.paper_tables import OURS
from pixelssr_geo.report.quicklook import name_font, save_figure
from pixelssr_geo.writers import check_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from pixelssr_geo.experiments.paper_figures import Colours, Content, Distribution, PaperFigure
    from pixelssr_geo.experiments.paper_tables import Figure as Scored

DPI = 150
"""Pixels per inch."""

_BLUE, _ORANGE, _GREEN, _RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
_MODES = {"unsupervised": _BLUE, "pixel": _ORANGE, "supervised": _GREEN}
_BESIDE = {"unsupervised": -0.2, "pixel": 0.0, "supervised": 0.2}
"""Where a mode's marker is beside its network's place."""
_CUBES = {"truth": "#666666", "gamma": _RED, "gaussian": _BLUE}
_CUBE_TITLES = {"truth": "truth", "gamma": "Gamma-modelled", "gaussian": "Gaussian-modelled"}
_LINES = (_BLUE, _ORANGE, _GREEN, "#cc79a7", "#56b4e9", "#8a6d00", "#5b3a8c")
_DASHES: tuple[Any, ...] = (
    (0, (5, 3)),
    (0, (1, 2)),
    "-.",
    "-",
    (0, (9, 3)),
    (0, (3, 1, 1, 1, 1, 1)),
)
_FEATURES = {"scene": "#666666", "F1": _ORANGE, "P_spa": _BLUE, "P_hf": _RED, "Y3": _GREEN}
_SYMBOLS = {
    "scene": "scene",
    "F1": "$F_1$",
    "P_spa": r"$\mathcal{P}_{spa}$",
    "P_hf": r"$\mathcal{P}_{hf}$",
    "Y3": "$Y^3$",
}
_NO_DATA = "#e6e6e6"
_SHOWN = (5, 95)
"""Percentiles of a feature that are black and white; the edges of the image are beyond."""
_LARGEST, _SMALLEST = 420.0, 45.0
"""Areas of markers, points squared."""


def check_picture(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a place where no picture can be written.

    Raises
    ------
    OutputError
        If it does not end in ``.png``, or as of :func:`~pixelssr_geo.writers.check_output`.
    """
    if path.suffix.lower() != ".png":
        raise OutputError(
            f"cannot write '{path}': a picture is a PNG file, expected a name that ends in .png: "
            "choose another"
        )
    check_output(path, overwrite=overwrite)


def write_paper_figure(paper: PaperFigure, content: Content, path: Path) -> None:
    """Write one of the paper's figures as a PNG.

    Parameters
    ----------
    paper
        Which one.
    content
        What it shows.
    path
        The file; it is there when it is complete.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    figure = draw(content)
    figure.suptitle(f"{paper.heading}\n{content.caption}", fontsize=10.5, **name_font())
    save_figure(figure, path, dpi=DPI)


def draw(content: Content) -> Figure:
    """The figure of a content, without its title."""
    return _DRAWINGS[type(content)](content)


def _mode_scores(content: ModeScores) -> Figure:
    figure = _figure(9.5, 5.4)
    axes = figure.subplots()
    networks = [one for one in content.found if one.row.mode != NO_MODE]
    names = list(dict.fromkeys(one.row.method for one in networks))
    most = max((one.parameters or 1 for one in networks), default=1)
    for one in networks:
        ours = one.row.method == OURS
        axes.scatter(
            names.index(one.row.method) + _BESIDE[one.row.mode],
            one.mean["psnr"],
            s=_area(one.parameters or 1, most) * (1.6 if ours else 1),
            marker="*" if ours else "o",
            color=_MODES[one.row.mode],
            edgecolor="black",
            linewidth=0.7,
            alpha=0.9,
            zorder=3,
        )
    lines = _draw_methods(axes, [one for one in content.found if one.row.mode == NO_MODE])
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylabel("PSNR (dB)")
    _plain(axes)
    figure.legend(
        handles=[*_mode_handles(content), *lines, *_size_handles(most)],
        loc="outside right center",
        frameon=False,
        fontsize=9,
        labelspacing=1.1,
    )
    return figure


def _area(parameters: int, most: int) -> float:
    return float(_SMALLEST + (_LARGEST - _SMALLEST) * parameters / most)


def _draw_methods(axes: Axes, found: Sequence[Scored]) -> list[Any]:
    """Draw per-pixel methods as lines through the whole figure; what the legend shows of them."""
    names = list(dict.fromkeys(one.row.method for one in found))
    lines = []
    for one in found:
        free = one.row.labels == NO_LABELS
        label = f"{one.row.method}, {'no label' if free else f'{one.row.labels} labels'}"
        style = _DASHES[names.index(one.row.method) % len(_DASHES)]
        colour = _MODES["unsupervised" if free else "pixel"]
        psnr = one.mean["psnr"]
        lines.append(axes.axhline(psnr, color=colour, lw=1.5, ls=style, zorder=1, label=label))
    return lines


def _mode_handles(content: ModeScores) -> list[Any]:
    from matplotlib.lines import Line2D

    labels = {one.row.mode: one.row.labels for one in content.found}
    titles = {
        "unsupervised": "unsupervised",
        "pixel": f"Pixel-SSR, {labels.get('pixel', '')} labels",
        "supervised": "supervised, all labels",
    }
    dot: dict[str, Any] = {"ls": "", "mec": "black", "mew": 0.7}
    handles = [
        Line2D([], [], marker="o", ms=9, mfc=_MODES[mode], label=title, **dot)
        for mode, title in titles.items()
        if mode in labels
    ]
    return [*handles, Line2D([], [], marker="*", ms=13, mfc="white", label=OURS, **dot)]


def _size_handles(most: int) -> list[Any]:
    """Markers of round numbers of parameters."""
    from matplotlib.lines import Line2D

    top = 10 ** int(log10(most))
    rounds = [top // 10, top, *([most] if most > 2 * top else [])]
    return [
        Line2D(
            [],
            [],
            ls="",
            marker="o",
            mfc="white",
            mec="black",
            mew=0.7,
            ms=_area(count, most) ** 0.5,
            label=f"{count / 1e6:.2g} M parameters",
        )
        for count in rounds
        if count
    ]


def _distributions(content: Distributions) -> Figure:
    figure = _figure(10.5, 7.4)
    (spectra, *rest), below = figure.subplots(2, 2)
    _draw_skewed_spectra(spectra, content)
    truth = content.each[0]
    centres, width = _bars(content.edges)
    top = 1.05 * max(float(one.shares.max()) for one in content.each)
    for letter, axes, one in zip("bcd", (*rest, *below), content.each, strict=False):
        axes.bar(centres, 100 * one.shares, width, color=_CUBES[one.name], alpha=0.75)
        if one is not truth:
            axes.stairs(100 * truth.shares, content.edges, color="black", lw=1, label="truth")
            axes.legend(frameon=False, loc="upper right", fontsize=9)
        axes.set_title(_told(letter, one, truth), loc="left", fontsize=9.5)
        axes.set_xlabel("Reflectance (outermost bins: all beyond)")
        axes.set_ylabel("Values (%)")
        axes.set_ylim(0, 100 * top)
        _plain(axes)
    return figure


def _told(letter: str, one: Distribution, truth: Distribution) -> str:
    """The title of a histogram, with what there is to say of it."""
    title = f"({letter}) {_CUBE_TITLES[one.name]}: skewness {one.numbers['skewness']:.2f}"
    if one is truth:
        return title
    far, moved = one.numbers["wasserstein"], one.numbers["total_variation"]
    return f"{title}\nWasserstein distance to truth {far:.4f}, total variation {moved:.3f}"


def _draw_skewed_spectra(axes: Axes, content: Distributions) -> None:
    outer, inner, *_ = content.quantiles
    *_, upper, highest = content.quantiles
    low, quarter, three_quarters, high = (f"{100 * share:.0f}" for share in QUANTILES)
    axes.fill_between(
        content.centres_nm, outer, highest, color=_BLUE, alpha=0.15, lw=0, label=f"{low}-{high} %"
    )
    axes.fill_between(
        content.centres_nm,
        inner,
        upper,
        color=_BLUE,
        alpha=0.3,
        lw=0,
        label=f"{quarter}-{three_quarters} %",
    )
    axes.plot(content.centres_nm, content.mean, color=_BLUE, lw=1.8, label="mean")
    beside = axes.twinx()
    (line,) = beside.plot(
        content.centres_nm, content.skewness, color=_RED, lw=1.3, ls="--", label="skewness (right)"
    )
    beside.set_ylabel("Skewness", color=_RED)
    _room_above(beside, [content.skewness], least=float(content.skewness.min()))
    beside.spines["top"].set_visible(False)
    axes.set_title("(a) spectra of the truth", loc="left", fontsize=10)
    axes.set_xlabel("Wavelength (nm)")
    axes.set_ylabel("Reflectance")
    handles, _ = axes.get_legend_handles_labels()
    axes.legend(handles=[*handles, line], frameon=False, loc="upper left", fontsize=8.5, ncols=2)
    _room_above(axes, [outer, highest])
    _plain(axes)


def _bars(edges: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    return (edges[:-1] + edges[1:]) / 2, float(edges[1] - edges[0])


def _frequencies(content: Frequencies) -> Figure:
    figure = _figure(13.0, 4.0)
    spa, hf, profile, prompt = figure.subplots(1, 4, width_ratios=(1, 1, 1.25, 1))
    shown = {name: content.each[name].plane for name in ("P_spa", "P_hf")}
    together = np.concatenate([plane.ravel() for plane in shown.values()])
    low, high = np.percentile(together, (1, 100))
    for axes, (name, plane) in zip((spa, hf), shown.items(), strict=True):
        image = axes.imshow(
            plane,
            cmap="viridis",
            vmin=low,
            vmax=high,
            extent=(-NYQUIST, NYQUIST, NYQUIST, -NYQUIST),
            aspect="equal",
        )
        circle = _circle(QUARTER)
        axes.add_patch(circle)
        below = f"{100 * content.each[name].low:.1f} % inside the circle"
        axes.set_title(f"{_SYMBOLS[name]}: {below}", fontsize=10)
        axes.set_xlabel("Cycles per pixel (x)")
    spa.set_ylabel("Cycles per pixel (y)")
    bar = figure.colorbar(image, ax=[spa, hf], shrink=0.8, pad=0.02)
    bar.set_label("Share of the variance (log$_{10}$)", fontsize=9)
    _draw_profiles(profile, content)
    _draw_prompt(figure, prompt, content.prompt)
    return figure


def _circle(radius: float) -> Any:
    from matplotlib.patches import Circle

    return Circle((0, 0), radius, fill=False, color="white", lw=1.2, ls="--")


def _draw_profiles(axes: Axes, content: Frequencies) -> None:
    for name, one in content.each.items():
        thick = name in ("P_spa", "P_hf")
        axes.semilogy(
            one.frequencies,
            one.profile,
            color=_FEATURES[name],
            lw=2 if thick else 1.1,
            ls="-" if thick else "--",
            label=_SYMBOLS[name],
        )
    axes.axvline(QUARTER, color="#999999", lw=1, ls=":")
    axes.set_xlabel("Cycles per pixel (dotted: Nyquist / 4)")
    axes.set_ylabel("Share of the variance, mean on a ring")
    axes.legend(frameon=False, fontsize=9, ncols=2)
    _plain(axes)


def _draw_prompt(figure: Figure, axes: Axes, prompt: NDArray[np.float32]) -> None:
    image = axes.imshow(prompt, cmap="magma", vmin=0, interpolation="nearest")
    axes.set_title(r"$\mathcal{P}_{spe}$ (rows sum to 1)", fontsize=10)
    axes.set_xlabel("Channel of $Y^3$")
    axes.set_ylabel("Channel of $Y^3$")
    figure.colorbar(image, ax=axes, shrink=0.8, pad=0.03)


def _spectral_curves(content: SpectralCurves) -> Figure:
    figure = _figure(13.0, 3.9)
    colours, *rest = figure.subplots(1, 4, width_ratios=(0.9, 1, 1, 1))
    _draw_colours(colours, content.colours)
    for number, (axes, place) in enumerate(zip(rest, content.places, strict=True), start=1):
        _mark(colours, place.row, place.col, str(number))
        errors = {row["method"]: row for row in place.numbers}
        for name, spectrum in place.spectra.items():
            note = f" (RMSE {errors[name]['rmse']:.4f})" if name in errors else ""
            axes.plot(
                content.centres_nm,
                spectrum,
                color=_CUBES[name],
                lw=3 if name == "truth" else 1.5,
                alpha=0.6 if name == "truth" else 1,
                ls="--" if name == "gaussian" else "-",
                label=_CUBE_TITLES[name] + note,
            )
        where = f"row {place.row}, column {place.col}"
        axes.set_title(f"{number}  {place.name}: {where}", loc="left", fontsize=10)
        axes.set_xlabel("Wavelength (nm)")
        _room_above(axes, place.spectra.values())
        axes.legend(frameon=False, fontsize=8.5, loc="upper left")
        _plain(axes)
    rest[0].set_ylabel("Reflectance")
    return figure


def _room_above(axes: Axes, lines: Iterable[NDArray[np.floating]], *, least: float = 0.0) -> None:
    """Leave room for a legend over lines; the axis shows ``least`` as well."""
    values = np.concatenate([one.ravel() for one in lines])
    values = values[np.isfinite(values)]
    low, high = float(values.min(initial=least)), float(values.max(initial=least))
    span = max(high - low, 1e-6)
    axes.set_ylim(low - 0.03 * span, high + 0.35 * span)


def _error_maps(content: ErrorMaps) -> Figure:
    panels, columns = 1 + len(content.maps), 5
    rows = ceil(panels / columns)
    height, width = content.colours.image.shape[:2]
    high = min(2.4 * height / width, 3.6) + 0.35
    figure = _figure(13.0, rows * high + 3.9)
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=(rows * high, 3.2))
    upper, lower = parts.ravel()
    grid = list(np.ravel(upper.subplots(rows, columns, squeeze=False)))
    _draw_colours(grid[0], content.colours)
    _mark(grid[0], content.place.row, content.place.col)
    top = _common_top(content.maps.values())
    for axes, (title, error) in zip(grid[1:], content.maps.items(), strict=False):
        image = _draw_error(axes, error, top)
        psnr = content.drawn[title].numbers["psnr"]
        axes.set_title(f"{title}, {psnr:.2f} dB", fontsize=9.5)
        _mark(axes, content.place.row, content.place.col)
    for axes in grid[panels:]:
        axes.set_axis_off()
    bar = upper.colorbar(image, ax=grid, extend="max", shrink=0.85, pad=0.01)
    bar.set_label("RMSE over the channels (reflectance)", fontsize=9)
    _draw_pixel(lower.subplots(), content)
    return figure


def _draw_pixel(axes: Axes, content: ErrorMaps) -> None:
    """Draw the spectra at the marked pixel, the truth and DyPro-Mamba over the others."""
    others = iter(_LINES)
    for name, spectrum in content.place.spectra.items():
        style: dict[str, Any]
        if name == "truth":
            style = {"color": "black", "lw": 4, "alpha": 0.35, "zorder": 1}
        elif name == OURS:
            style = {"color": _RED, "lw": 2.2, "zorder": 4}
        elif content.drawn[name].cell.mode == NO_MODE:
            style = {"color": "black", "lw": 1.4, "ls": "--", "zorder": 3}
        else:
            style = {"color": next(others, "#999999"), "lw": 1.1, "zorder": 2}
        axes.plot(content.centres_nm, spectrum, label=name, **style)
    place = content.place
    axes.set_title(
        f"spectra at the marked pixel (row {place.row}, column {place.col})",
        loc="left",
        fontsize=10,
    )
    axes.set_xlabel("Wavelength (nm)")
    axes.set_ylabel("Reflectance")
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
    _plain(axes)


def _channel_errors(content: ChannelErrors) -> Figure:
    titles = list(content.maps)
    height, width = content.truth.shape[1:]
    wide = 1.5
    high = min(wide * height / width, 2.6)
    figure = _figure(wide * (1 + len(titles)) + 1.6, 3 * (high + 0.25) + 1.1)
    grid = figure.subplots(3, 1 + len(titles), squeeze=False)
    means = {row.pop("method"): list(row.values()) for row in content.numbers}
    for at, (nm, row) in enumerate(zip(content.centres_nm, grid, strict=True)):
        first, *others = row
        finite = np.where(np.isfinite(content.truth[at]), content.truth[at], np.nan)
        first.set_facecolor(_NO_DATA)
        first.imshow(finite, cmap="gray", interpolation="nearest")
        _bare(first)
        first.set_ylabel(f"{nm:.0f} nm", fontsize=10)
        top = _common_top(one[at] for one in content.maps.values())
        for axes, title in zip(others, titles, strict=True):
            image = _draw_error(axes, content.maps[title][at], top)
            axes.set_xlabel(f"mean {means[title][at]:.4f}", fontsize=8, labelpad=2)
            if not at:
                axes.set_title(title, fontsize=9)
        bar = figure.colorbar(image, ax=list(row), extend="max", pad=0.008, aspect=12)
        bar.set_label("Absolute error\n(reflectance)", fontsize=8)
        bar.ax.tick_params(labelsize=8)
    grid[0][0].set_title("truth", fontsize=9)
    return figure


def _feature_maps(content: FeatureMaps) -> Figure:
    shown = 3
    height, width = content.known.shape
    high = min(1.9 * height / width, 3.0) + 0.3
    figure = _figure(11.0, len(content.features) * high + 0.7)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(3, 1.9)).ravel()
    grid = left.subplots(len(content.features), shown, squeeze=False)
    for (name, images), row in zip(content.features.items(), grid, strict=True):
        spread = np.ptp(np.percentile(images[:, content.known], _SHOWN, axis=1), axis=0)
        taken = np.sort(np.argsort(-spread, kind="stable")[:shown])
        for axes in row[len(taken) :]:
            axes.set_axis_off()
        for axes, channel in zip(row, taken, strict=False):
            _draw_feature(axes, images[channel], content.known)
            limits = "{:.2g} to {:.2g}".format(*_limits(images[channel], content.known))
            axes.set_title(f"channel {channel + 1} ({limits})", fontsize=8.5)
        row[0].set_ylabel(_SYMBOLS[name], fontsize=12)
    upper, lower = right.subplots(2, 1)
    _draw_colours(upper, content.colours)
    _draw_prompt(figure, lower, content.prompt)
    return figure


def _limits(image: NDArray[np.floating], known: NDArray[np.bool_]) -> tuple[float, float]:
    low, high = np.percentile(image[known], _SHOWN)
    return float(low), float(high)


def _draw_feature(axes: Axes, image: NDArray[np.floating], known: NDArray[np.bool_]) -> None:
    low, high = _limits(image, known)
    axes.set_facecolor(_NO_DATA)
    axes.imshow(
        np.where(known, image, np.nan), cmap="gray", vmin=low, vmax=high, interpolation="nearest"
    )
    _bare(axes)


def _draw_colours(axes: Axes, colours: Colours) -> None:
    axes.imshow(colours.image, interpolation="nearest")
    axes.set_title(f"truth ({colours.title})", fontsize=9.5)
    _bare(axes)


def _draw_error(axes: Axes, error: NDArray[np.floating], top: float) -> Any:
    axes.set_facecolor(_NO_DATA)
    _bare(axes)
    return axes.imshow(error, cmap="viridis", vmin=0, vmax=top, interpolation="nearest")


def _common_top(maps: Iterable[NDArray[np.floating]]) -> float:
    """The 98th percentile of several maps together, above zero."""
    values = np.concatenate([one[np.isfinite(one)] for one in maps])
    top = float(np.percentile(values, 98)) if values.size else 0.0
    return top if top > 0 else 1.0


def _mark(axes: Axes, row: int, col: int, text: str = "") -> None:
    from matplotlib.patheffects import withStroke

    axes.plot(col, row, "o", ms=8, mfc="none", mec="black", mew=2.6)
    axes.plot(col, row, "o", ms=8, mfc="none", mec="#ff3b30", mew=1.4)
    if text:
        # Towards the inside, so that nothing is cut off at an edge.
        right = 1 if col < 0.85 * float(axes.get_xlim()[1]) else -1
        axes.annotate(
            text,
            (col, row),
            xytext=(10 * right, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=10,
            fontweight="bold",
            color="white",
            path_effects=[withStroke(linewidth=2.2, foreground="black")],
        )


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_color("#999999")


def _plain(axes: Axes) -> None:
    axes.grid(color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure((width, height), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))


_DRAWINGS: dict[type, Callable[[Any], Figure]] = {
    ModeScores: _mode_scores,
    Distributions: _distributions,
    Frequencies: _frequencies,
    SpectralCurves: _spectral_curves,
    ErrorMaps: _error_maps,
    ChannelErrors: _channel_errors,
    FeatureMaps: _feature_maps,
}
