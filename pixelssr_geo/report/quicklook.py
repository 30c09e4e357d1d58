"""Pictures of a cube for a first look: colours, error map and spectra in one PNG."""

from __future__ import annotations

import io
import textwrap
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelssr_geo.errors import OutputError, SettingsError, WavelengthGridError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import ArrayLike, NDArray

    Point = tuple[str, int, int, ArrayLike | None]
    """Name, row, column and field spectrum ``(channel,)``, if there is one."""

TRUE_COLOUR_NM = (660.0, 560.0, 480.0)
"""Wavelengths shown as red, green and blue."""
FALSE_COLOUR_NM = (830.0, 660.0, 560.0)
"""Near infrared, red and green shown as red, green and blue: plants are red."""

_STRETCH = (2, 98)
"""Percentiles that become black and full colour."""
_SPECTRA = 5
_WIDTH_IN = 13.0
_TALLEST_IN = 4.6
"""Height of a map, at most."""
_SLIMMEST = 8
"""Ratio of the sides up to which maps keep square pixels."""
_BAR_IN = 0.9
"""What a colour bar with its labels takes beside a map."""
_DPI = 110
_CHINESE_FONTS = (
    "Noto Sans CJK SC",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "WenQuanYi Micro Hei",
)
_NO_DATA = "#e6e6e6"
_STYLES: dict[str, dict[str, Any]] = {
    "reference": {"color": "#999999", "lw": 3.2},
    "field point": {
        "color": "#0072b2",
        "lw": 0,
        "marker": "o",
        "ms": 3.6,
        "mfc": "none",
        "mew": 0.9,
    },
    "reconstructed": {"color": "#d55e00", "lw": 1.3},
}


def band_rgb(
    cube: NDArray[np.floating],
    wavelengths_nm: ArrayLike,
    rgb_nm: tuple[float, float, float] = TRUE_COLOUR_NM,
) -> NDArray[np.float32]:
    """Colour image ``(y, x, 3)``, 0-1, of the channels nearest to three wavelengths.

    Parameters
    ----------
    cube
        Reflectance in any scale, ``(channel, y, x)``; NaN where there is no data.
    wavelengths_nm
        Centre of every channel, nm.
    rgb_nm
        Wavelengths shown as red, green and blue.

    Returns
    -------
    numpy.ndarray
        Each colour from its 2nd to its 98th percentile; white where one of the three channels
        has no data, middle grey in a colour that is the same everywhere.

    Raises
    ------
    WavelengthGridError
        If the cube does not have the three axes, or not one channel per wavelength.
    """
    wavelengths = _checked(cube, wavelengths_nm)
    image = np.stack([cube[_nearest(wavelengths, nm)] for nm in rgb_nm], axis=-1, dtype=np.float32)
    valid = np.asarray(np.isfinite(image).all(axis=-1))
    if not valid.any():
        return np.ones_like(image)
    low, high = np.percentile(image[valid], _STRETCH, axis=0)
    flat = high <= low
    stretched = (image - low) / np.where(flat, 1, high - low)
    stretched = np.where(flat, 0.5, stretched.clip(0, 1))
    return np.where(valid[..., None], stretched, 1).astype(np.float32)


def true_colour(cube: NDArray[np.floating], wavelengths_nm: ArrayLike) -> NDArray[np.float32]:
    """Colours about as the eye sees them, ``(y, x, 3)``; see :func:`band_rgb`."""
    return band_rgb(cube, wavelengths_nm, TRUE_COLOUR_NM)


def false_colour(cube: NDArray[np.floating], wavelengths_nm: ArrayLike) -> NDArray[np.float32]:
    """Near infrared, red and green as red, green and blue; see :func:`band_rgb`."""
    return band_rgb(cube, wavelengths_nm, FALSE_COLOUR_NM)


def write_quicklook(
    path: str | os.PathLike[str],
    cube: NDArray[np.floating],
    wavelengths_nm: ArrayLike,
    *,
    reference: NDArray[np.floating] | None = None,
    points: Sequence[Point] = (),
    title: str = "",
    quantity: str = "Reflectance",
) -> None:
    """Write a PNG with colour images of a cube, its error map and spectra at five points.

    Parameters
    ----------
    path
        The PNG file; an existing one is replaced when the new one is complete.
    cube
        Reconstructed reflectance, ``(channel, y, x)``; NaN where there is no data. A large scene
        should be decimated before.
    wavelengths_nm
        Centre of every channel, nm.
    reference
        True reflectance, as the cube; ``None`` leaves out the error map.
    points
        Name, row, column (of this cube) and field spectrum ``(channel,)`` or ``None``. The five
        that lie farthest apart are drawn as spectra, the others as dots on the map. Without
        points, five pixels spread over the cube are drawn.
    title
        Stands above the picture.
    quantity
        What the values are, for the axis of the spectra.

    Raises
    ------
    WavelengthGridError
        If the cube, the reference or a field spectrum does not have one value per wavelength.
    SettingsError
        If the reference has other rows and columns, or a point lies outside the cube.
    OutputError
        If the file cannot be written.
    """
    wavelengths = _checked(cube, wavelengths_nm)
    if reference is not None and reference.shape != cube.shape:
        raise SettingsError(
            f"the reference has shape {reference.shape}, the cube {cube.shape}, expected the same "
            "channels, rows and columns: cut or resample one to the other"
        )
    marks = [_Mark.of(point, cube) for point in points] or _spread_marks(cube)
    shown = _farthest_apart(marks, _SPECTRA)
    others = [mark for mark in marks if not any(mark is one for one in shown)]
    figure = _draw(cube, wavelengths, reference, shown, others, title, quantity)
    save_figure(figure, path)


@dataclass(frozen=True, slots=True, eq=False)
class _Mark:
    """A place whose spectrum may be drawn."""

    name: str
    row: int
    col: int
    field: NDArray[np.float64] | None

    @staticmethod
    def of(point: Point, cube: NDArray[np.floating]) -> _Mark:
        name, row, col, spectrum = point
        channels, height, width = cube.shape
        if not (0 <= row < height and 0 <= col < width):
            raise SettingsError(
                f"point {name!r} is at row {row}, column {col}, the cube has {height} rows and "
                f"{width} columns: leave out points outside, and scale rows and columns as the cube"
            )
        field = None if spectrum is None else np.asarray(spectrum, dtype=np.float64)
        if field is not None and field.shape != (channels,):
            raise WavelengthGridError(
                f"the spectrum of point {name!r} has shape {field.shape}, the cube has {channels} "
                "channels: resample the spectrum to the cube's wavelengths"
            )
        return _Mark(name, int(row), int(col), field)


def _checked(cube: NDArray[np.floating], wavelengths_nm: ArrayLike) -> NDArray[np.float64]:
    wavelengths = np.asarray(wavelengths_nm, dtype=np.float64)
    if cube.ndim != 3 or 0 in cube.shape or wavelengths.shape != cube.shape[:1]:
        raise WavelengthGridError(
            f"a cube of shape {cube.shape} has wavelengths of shape {wavelengths.shape}, expected "
            "(channel, y, x) and one wavelength per channel: transpose the cube or correct the list"
        )
    return wavelengths


def _nearest(wavelengths: NDArray[np.float64], nm: float) -> int:
    return int(np.argmin(np.abs(wavelengths - nm)))


def _spread_marks(cube: NDArray[np.floating]) -> list[_Mark]:
    """Up to five pixels with data: near the middle and the middles of the quarters."""
    valid = np.argwhere(np.isfinite(cube).all(axis=0))
    if not len(valid):
        return []
    low, high = valid.min(axis=0), valid.max(axis=0)
    wanted = low + np.array([[1, 1], [1, 3], [2, 2], [3, 1], [3, 3]]) / 4 * (high - low)
    found = [valid[((valid - place) ** 2).sum(axis=1).argmin()] for place in wanted]
    places = dict.fromkeys((int(row), int(col)) for row, col in found)
    return [_Mark(f"row {row}, column {col}", row, col, None) for row, col in places]


def _farthest_apart(marks: list[_Mark], count: int) -> list[_Mark]:
    """At most ``count`` of the marks: the first, and always the one farthest from those taken."""
    if len(marks) <= count:
        return marks
    places = np.array([(mark.row, mark.col) for mark in marks], dtype=np.float64)
    chosen = [0]
    gap = np.full(len(marks), np.inf)
    while len(chosen) < count:
        gap = np.minimum(gap, ((places - places[chosen[-1]]) ** 2).sum(axis=1))
        gap[chosen] = -1
        chosen.append(int(gap.argmax()))
    return [marks[index] for index in sorted(chosen)]


def _rmse(cube: NDArray[np.floating], reference: NDArray[np.floating]) -> NDArray[np.floating]:
    """Root mean square difference over the channels (first axis) that both have, else NaN."""
    squares = (cube - reference) ** 2
    both = np.isfinite(squares)
    count = both.sum(axis=0)
    total = np.where(both, squares, 0).sum(axis=0)
    return np.asarray(np.sqrt(np.where(count > 0, total, np.nan) / np.maximum(count, 1)))


def _draw(
    cube: NDArray[np.floating],
    wavelengths: NDArray[np.float64],
    reference: NDArray[np.floating] | None,
    shown: list[_Mark],
    others: list[_Mark],
    title: str,
    quantity: str = "Reflectance",
) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    maps = 2 if reference is None else 3
    height, width = cube.shape[1:]
    wide = (_WIDTH_IN - (0 if reference is None else _BAR_IN)) / maps - 0.2
    high = min(max(wide * height / width, 0.8), _TALLEST_IN)
    # A scene of a few rows or columns would be a hair line: its pixels are drawn oblong.
    oblong = not 1 / _SLIMMEST <= height / width <= _SLIMMEST
    map_in = high + 0.4
    spectra_in = 2.9 if shown else 0.0
    figure = Figure((_WIDTH_IN, map_in + spectra_in + (0.35 if title else 0)), layout=layout)
    if title:
        figure.suptitle(_short(title, 110), fontsize=13, fontweight="bold", **name_font())
    if not shown:
        upper: Figure | SubFigure = figure
    else:
        upper, lower = figure.subfigures(
            2, 1, squeeze=False, height_ratios=(map_in, spectra_in)
        ).ravel()
        _draw_spectra(lower, cube, wavelengths, reference, shown, quantity)
    axes = upper.subplots(1, maps)
    _draw_colours(axes[0], "True colour", cube, wavelengths, TRUE_COLOUR_NM)
    _draw_colours(axes[1], "False colour", cube, wavelengths, FALSE_COLOUR_NM)
    if reference is not None:
        _draw_error(
            axes[2], cube, reference, bar_width=0.16 / (wide if oblong else high * width / height)
        )
    _draw_marks(axes[0], shown, others, cube.shape[1:])
    if oblong:
        for map_axes in axes:
            map_axes.set_aspect("auto")
    return figure


def _draw_colours(
    axes: Axes,
    title: str,
    cube: NDArray[np.floating],
    wavelengths: NDArray[np.float64],
    rgb_nm: tuple[float, float, float],
) -> None:
    taken = ", ".join(f"{wavelengths[_nearest(wavelengths, nm)]:.0f}" for nm in rgb_nm)
    axes.imshow(band_rgb(cube, wavelengths, rgb_nm), interpolation="nearest")
    _finish_map(axes, f"{title} ({taken} nm)")


def _draw_error(
    axes: Axes, cube: NDArray[np.floating], reference: NDArray[np.floating], bar_width: float
) -> None:
    """Draw the error map and, as high as the map and ``bar_width`` of its width, a colour bar."""
    error = _rmse(cube, reference)
    known = error[np.isfinite(error)]
    top = float(np.percentile(known, 98)) if known.size else 1.0
    top = top if top > 0 else 1.0
    axes.set_facecolor(_NO_DATA)
    image = axes.imshow(error, cmap="viridis", vmin=0, vmax=top, interpolation="nearest")
    beside = axes.inset_axes((1 + 0.6 * bar_width, 0, bar_width, 1))
    bar = axes.figure.colorbar(image, cax=beside, extend="max", extendfrac=0.03)
    bar.set_label("RMSE", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    whole = f"{np.sqrt((known**2).mean()):.4f}" if known.size else "no data"
    _finish_map(axes, f"Error per pixel, reflectance (all: {whole})")


def _finish_map(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_color("#999999")


def _draw_marks(
    axes: Axes, shown: list[_Mark], others: list[_Mark], shape: tuple[int, ...]
) -> None:
    from matplotlib.patheffects import withStroke

    dot: dict[str, Any] = {"ls": "", "marker": "o", "mec": "black", "mfc": "white"}
    axes.plot([m.col for m in others], [m.row for m in others], ms=2.6, mew=0.5, **dot)
    axes.plot([m.col for m in shown], [m.row for m in shown], ms=5, mew=1, **dot)
    for number, mark in enumerate(shown, start=1):
        # Towards the inside, so that no number is cut off at an edge.
        right = 1 if mark.col < 0.9 * shape[1] else -1
        up = 1 if mark.row > 0.1 * shape[0] else -1
        axes.annotate(
            str(number),
            (mark.col, mark.row),
            xytext=(7 * right, 7 * up),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=10,
            fontweight="bold",
            color="white",
            path_effects=[withStroke(linewidth=2.2, foreground="black")],
        )
    axes.set_xlim(-0.5, shape[1] - 0.5)
    axes.set_ylim(shape[0] - 0.5, -0.5)


def _draw_spectra(
    figure: Figure | SubFigure,
    cube: NDArray[np.floating],
    wavelengths: NDArray[np.float64],
    reference: NDArray[np.floating] | None,
    shown: list[_Mark],
    quantity: str,
) -> None:
    row = figure.subplots(1, _SPECTRA, sharex=True, sharey=True, squeeze=False)[0]
    for axes in row[len(shown) :]:
        axes.set_axis_off()
    handles: dict[str, Any] = {}
    for number, (axes, mark) in enumerate(zip(row, shown, strict=False), start=1):
        own = cube[:, mark.row, mark.col]
        truth = None if reference is None else reference[:, mark.row, mark.col]
        for (label, style), values in zip(_STYLES.items(), (truth, mark.field, own), strict=True):
            if values is not None:
                (handles[label],) = axes.plot(wavelengths, values, label=label, **style)
        compared = mark.field if truth is None else truth
        _finish_spectra(axes, f"{number}  {_short(mark.name, 24)}", own, compared)
    row[0].set_ylabel(quantity, fontsize=9)
    top = _top(line for axes in row[: len(shown)] for line in axes.lines)
    row[0].set_ylim(0, 1.2 * top)
    span = max(float(np.ptp(wavelengths)), 1.0)
    row[0].set_xlim(wavelengths.min() - 0.04 * span, wavelengths.max() + 0.04 * span)
    ordered = [handles[label] for label in _STYLES if label in handles]
    figure.legend(handles=ordered, loc="outside lower center", ncols=3, fontsize=9, frameon=False)


def _finish_spectra(
    axes: Axes,
    title: str,
    own: NDArray[np.floating],
    compared: NDArray[np.floating] | None,
) -> None:
    note = "" if compared is None else f"RMSE {_rmse(own, compared):.4f}"
    if not np.isfinite(own).any():
        note = "no data"
    axes.set_title(title, fontsize=9, loc="left", **name_font())
    axes.text(0.04, 0.95, note, transform=axes.transAxes, va="top", fontsize=8, color="#444444")
    axes.set_xlabel("Wavelength (nm)", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _top(lines: Iterable[Any]) -> float:
    """Largest finite value of the lines, 1 if there is none above 0."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in lines])
    top = float(values.max(initial=0, where=np.isfinite(values)))
    return top if top > 0 else 1.0


def name_font() -> dict[str, Any]:
    """How texts from outside are set: as they stand, in fonts that also know Chinese, if any."""
    from matplotlib.font_manager import get_font_names

    known = set(get_font_names())
    return {
        "parse_math": False,
        "fontfamily": ["DejaVu Sans", *(name for name in _CHINESE_FONTS if name in known)],
    }


def _short(text: str, width: int) -> str:
    return textwrap.shorten(text, width, placeholder="…") if len(text) > width else text


def save_figure(figure: Figure, path: str | os.PathLike[str], *, dpi: int = _DPI) -> None:
    """Write a figure as a PNG that appears under its name when it is complete.

    Parameters
    ----------
    figure
        What is written.
    path
        The PNG file.
    dpi
        Pixels per inch.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    path = Path(path)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; that is no reason to stop.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="png", dpi=dpi)
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_bytes(buffer.getvalue())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(
            f"the picture cannot be written to {path} ({error.strerror}), expected a writable "
            "folder: create it or name another"
        ) from error
