"""A picture of field points on their scene: where they agree with it, and their spectra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pixelssr_geo.pairing import SUSPICIOUS_Z
from pixelssr_geo.report.quicklook import (
    FALSE_COLOUR_NM,
    TRUE_COLOUR_NM,
    band_rgb,
    name_font,
    save_figure,
)

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from pixelssr_geo.points import PointSpectra
    from pixelssr_geo.quality import PointQuality, PointsQuality

MAP_PIXELS = 1000
"""Longest side of the map; larger scenes are thinned out."""

_MARGIN = 0.15
"""What is shown around the points, of their extent."""
_LEAST_SHOWN = 40
"""Pixels of the scene that are shown at least, along each side."""
_NAMED = 24
"""Points whose names are written, the worst ones."""
_BLUE_NM = 530.0
"""A scene with a band below is shown in true colours."""
_CLASSES = (
    (1.0, "#0072b2", "agrees (z up to 1)"),
    (2.0, "#56b4e9", "z 1-2"),
    (SUSPICIOUS_Z, "#f0e442", f"z 2-{SUSPICIOUS_Z:g}"),
    (np.inf, "#d55e00", f"disagrees (z > {SUSPICIOUS_Z:g})"),
)
_UNJUDGED = ("#ffffff", "not judged")
_DROPPED = ("#cc79a7", "dropped")
_FLAGGED_COLOURS = ("#d55e00", "#cc79a7", "#009e73", "#e69f00", "#56b4e9", "#0072b2")
_ARROW_SHARE = 0.05
"""Length of the arrow for a pixel's width of the map divided by its number of pixels, at least."""


def write_points_picture(
    path: str | Path,
    points: PointSpectra,
    quality: PointsQuality,
    scene: xr.DataArray | None = None,
) -> None:
    """Write a PNG of points on a scene, coloured by agreement, and their spectra beside it.

    Points with a warning or a fault are named, the worst first where there are many; an arrow
    points to where a point would agree better. Below the spectra: what the bands measure over what
    they should, with the line that is common to all points.

    Parameters
    ----------
    path
        The PNG file; an existing one is replaced when the new one is complete.
    points
        Field spectra.
    quality
        What :func:`pixelssr_geo.quality.assess_points` says about them.
    scene
        Reflectance, dims ``(band, y, x)``, with a ``wavelength`` coordinate; read around the
        points alone, thinned out where that is large. None leaves the map out.

    Raises
    ------
    OutputError
        If the picture cannot be written.
    """
    save_figure(_draw(points, quality, scene), path)


def _draw(points: PointSpectra, quality: PointsQuality, scene: xr.DataArray | None) -> Figure:
    from matplotlib.figure import Figure

    worst = [point for point in quality.worst_first() if point.flagged][:_NAMED]
    if scene is None:
        figure = Figure((8, 4.2), layout="constrained")
        _draw_spectra(figure.subplots(), points, quality, worst)
        return figure
    figure = Figure((14, 7), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(7.4, 6.6)).ravel()
    _draw_map(left.subplots(), quality, scene, worst)
    beside = right.subplots(2, 1, squeeze=False, height_ratios=(1.15, 1)).ravel()
    _draw_spectra(beside[0], points, quality, worst)
    _draw_bands(beside[1], quality)
    return figure


def _draw_map(
    axes: Axes, quality: PointsQuality, scene: xr.DataArray, worst: list[PointQuality]
) -> None:
    rows, cols = _shown(quality, (scene.sizes["y"], scene.sizes["x"]))
    step = max(1, -(-max(rows.stop - rows.start, cols.stop - cols.start) // MAP_PIXELS))
    centres = np.asarray(scene["wavelength"].values, "f8")
    true = centres.min() < _BLUE_NM
    wanted = TRUE_COLOUR_NM if true else FALSE_COLOUR_NM
    nearest = [int(np.abs(centres - nm).argmin()) for nm in wanted]
    thin = scene.isel(
        band=nearest, y=slice(rows.start, rows.stop, step), x=slice(cols.start, cols.stop, step)
    )
    image = band_rgb(np.asarray(thin.transpose("band", "y", "x").values), centres[nearest], wanted)
    extent = (cols.start - 0.5, cols.stop - 0.5, rows.stop - 0.5, rows.start - 0.5)
    axes.imshow(image, extent=extent, interpolation="nearest")
    for colour, label, marker, members in _classes(quality):
        axes.plot(
            [p.place.col for p in members if p.place],
            [p.place.row for p in members if p.place],
            ls="",
            marker=marker,
            ms=7,
            mfc=colour,
            mec="black",
            mew=0.9,
            label=f"{label}: {len(members)}",
        )
    stretch = _draw_arrows(axes, quality, cols.stop - cols.start)
    _write_names(axes, worst, rows, cols)
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:])
    axes.set_xlabel("column")
    axes.set_ylabel("row")
    axes.tick_params(labelsize=8)
    title = f"{'True' if true else 'False'} colour, points by agreement with the scene"
    if stretch:
        title += "\narrows: where a point agrees better"
        title += f" ({stretch:.0f} x as long)" if stretch > 1 else ""
    axes.set_title(title, fontsize=10)
    if axes.get_legend_handles_labels()[0]:
        axes.figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)


def _shown(quality: PointsQuality, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns around the points, or all where that is most of the scene."""
    places = [(p.place.row, p.place.col) for p in quality.points if p.place and p.place.inside]
    if not places:
        return slice(0, shape[0]), slice(0, shape[1])
    found = np.array(places)
    # A square, so that points in a row are seen with what is beside them.
    side = max(float(np.ptp(found, axis=0).max()) * (1 + 2 * _MARGIN), _LEAST_SHOWN)
    if side > 0.6 * max(shape):
        return slice(0, shape[0]), slice(0, shape[1])
    middle = (found.min(0) + found.max(0)) / 2
    slices = []
    for centre, size in zip(middle, shape, strict=True):
        start = int(np.clip(round(centre - side / 2), 0, max(size - round(side), 0)))
        slices.append(slice(start, min(size, start + round(side))))
    return slices[0], slices[1]


def _classes(
    quality: PointsQuality,
) -> list[tuple[str, str, str, list[PointQuality]]]:
    """Colour, name, marker and points of every class that has points on the scene."""
    placed = [point for point in quality.points if point.place and point.place.inside]
    z = np.array([point.place.z if point.place else np.nan for point in placed])
    used = np.array([point.used for point in placed], bool)
    found = []
    low = -np.inf
    for high, colour, label in _CLASSES:
        chosen = used & (z > low) & (z <= high)
        found.append((colour, label, "o", [placed[i] for i in np.flatnonzero(chosen)]))
        low = high
    unjudged = used & np.isnan(z)
    found.append((*_UNJUDGED, "o", [placed[i] for i in np.flatnonzero(unjudged)]))
    found.append((*_DROPPED, "X", [placed[i] for i in np.flatnonzero(~used)]))
    return [one for one in found if one[3]]


def _draw_arrows(axes: Axes, quality: PointsQuality, width: int) -> float:
    """Draw the suggested shifts and return how much longer than true they are, 0 without any."""
    moved = [p.place for p in quality.points if p.place and p.place.shift and p.used]
    if not moved:
        return 0.0
    from matplotlib.patheffects import withStroke

    stretch = float(max(1, round(_ARROW_SHARE * width / 3)))
    for place in moved:
        assert place.shift is not None
        axes.annotate(
            "",
            xy=(place.col + stretch * place.shift.cols, place.row + stretch * place.shift.rows),
            xytext=(place.col, place.row),
            arrowprops={
                "arrowstyle": "-|>",
                "color": "white",
                "lw": 1.6,
                "mutation_scale": 11,
                "path_effects": [withStroke(linewidth=3, foreground="black")],
            },
        )
    return stretch


def _write_names(axes: Axes, worst: list[PointQuality], rows: slice, cols: slice) -> None:
    from matplotlib.patheffects import withStroke

    for point in worst:
        place = point.place
        if place is None or not place.inside:
            continue
        # Towards the inside, so that no name is cut off at an edge.
        right = 1 if place.col < cols.start + 0.85 * (cols.stop - cols.start) else -1
        up = 1 if place.row > rows.start + 0.08 * (rows.stop - rows.start) else -1
        axes.annotate(
            point.id,
            (place.col, place.row),
            xytext=(6 * right, 6 * up),
            textcoords="offset points",
            ha="left" if right > 0 else "right",
            va="center",
            fontsize=8,
            color="white",
            path_effects=[withStroke(linewidth=2, foreground="black")],
            **name_font(),
        )


def _draw_spectra(
    axes: Axes, points: PointSpectra, quality: PointsQuality, worst: list[PointQuality]
) -> None:
    low, high = quality.channels.range_nm
    within = (points.wavelengths_nm >= low) & (points.wavelengths_nm <= high)
    nm, values = points.wavelengths_nm[within], points.reflectance[:, within]
    flagged = np.array([point.flagged for point in quality.points], bool)
    top = _top(values[~flagged] if not flagged.all() else values)
    for row in np.flatnonzero(~flagged):
        axes.plot(*_finite(nm, values[row]), color="#b0b0b0", lw=0.7, zorder=1)
    told = {id(point): row for row, point in enumerate(quality.points)}
    drawn = 0
    for point in worst:
        x, y = _finite(nm, values[told[id(point)]])
        if not y.size:
            continue
        factor = _brought_down(y, top)
        label = f"{point.id}: {point.findings[0].kind}"
        label += f" (drawn / {factor:g})" if factor > 1 else ""
        colour = _FLAGGED_COLOURS[drawn % len(_FLAGGED_COLOURS)]
        style = ("-", "--", ":", "-.")[drawn // len(_FLAGGED_COLOURS) % 4]
        axes.plot(x, y / factor, color=colour, ls=style, lw=1.4, label=label, zorder=2)
        drawn += 1
    axes.set_xlim(low, high)
    axes.set_ylim(min(0.0, 1.1 * _bottom(values[~flagged])), 1.25 * top)
    axes.set_xlabel("wavelength (nm)", fontsize=9)
    axes.set_ylabel("reflectance", fontsize=9)
    title = f"{len(points)} spectra, {int(flagged.sum())} with a warning"
    title += f", the worst {drawn} in colour" if flagged.sum() > drawn else ""
    axes.set_title(title, fontsize=10)
    if drawn:
        legend = axes.legend(
            fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.02), ncols=1
        )
        for text in legend.get_texts():
            text.set(**name_font())
    _finish(axes)


def _finite(
    nm: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = np.isfinite(values)
    return nm[known], values[known]


def _top(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    top = float(np.percentile(finite, 99.5)) if finite.size else 1.0
    return top if top > 0 else 1.0


def _bottom(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.min()) if finite.size else 0.0


def _brought_down(values: NDArray[np.float64], top: float) -> float:
    """Power of ten by which a spectrum far above the others is divided to be seen beside them."""
    above = float(np.median(values)) / top
    return float(10 ** np.ceil(np.log10(above))) if above > 2 else 1.0


def _draw_bands(axes: Axes, quality: PointsQuality) -> None:
    from matplotlib import colormaps

    assert quality.paired is not None
    matches, agreement = quality.paired.matches, quality.paired.agreement
    suspicious = np.array([point.suspicious for point in quality.points], bool)
    fine = (matches.labels >= 0) & ~suspicious
    colours = colormaps["turbo"](np.linspace(0.12, 0.88, max(len(quality.bands), 1)))
    limit = _top(matches.simulated[fine])
    across = np.array([0.0, 1.1 * limit])
    for band, (name, colour) in enumerate(zip(quality.bands, colours, strict=True)):
        x, y = matches.simulated[:, band], matches.measured[:, band]
        label = name
        if agreement is not None:
            line = agreement.calibration
            axes.plot(across, line.gain[band] * across + line.offset[band], color=colour, lw=0.9)
            label += f": gain {line.gain[band]:.3g}"
            label += f", offset {line.offset[band]:+.2g}" if line.kind == "gain-offset" else ""
            label += f", spread {line.spread[band]:.2g}"
        axes.plot(x[fine], y[fine], ls="", marker=".", ms=4, color=colour, label=label)
        style: dict[str, Any] = {"ls": "", "marker": "o", "ms": 5, "mfc": "none", "mec": colour}
        axes.plot(x[suspicious], y[suspicious], **style)
    axes.set_xlim(0, 1.1 * limit)
    axes.set_ylim(0, 1.15 * _top(matches.measured[fine]))
    axes.set_xlabel("reflectance of the points, seen through the bands", fontsize=9)
    axes.set_ylabel("scene", fontsize=9)
    axes.set_title("Bands, circles: points that disagree", fontsize=10)
    if quality.bands:
        legend = axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1.02))
        for text in legend.get_texts():
            text.set(**name_font())
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.tick_params(labelsize=8)
    axes.grid(color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
