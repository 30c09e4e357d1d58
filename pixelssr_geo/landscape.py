"""A synthetic landscape of measured library spectra, with texture that a neighbourhood can read.

For trying, teaching and testing without a hyperspectral sensor. Fields in parcels, meadows, bare
soil, clumpy forest, a river, a town and roads are laid out at random. Each land cover mixes
several spectra of :func:`~pixelssr_geo.estimator.library.load_library` by smooth random fields;
a point spread of half a pixel mixes the covers, terrain and single pixels change the
illumination, and a little noise is added. Spectra of green plants are simulated (PROSAIL), as
the library says; all others are measured. The library has no water: :func:`water_spectrum`
models it.

What only a neighbourhood can read
----------------------------------
Crops, meadows and forest carry a *texture*: rows or clumps, 2 to 4 pixels apart, that make
pixels brighter and darker by 2 to 14 % (standard deviation over mean) in all channels alike.
How strong it is differs from parcel to parcel and across a forest, whatever the plants are, and
it says the canopy's architecture: widely spaced rows and old forest with deep shadows between the
crowns have a strong contrast, broadcast crops and young plantations a weak one. Architecture
decides about the hidden trait. An open canopy lights its lower, chlorophyll-rich and well watered
leaves: the red edge lies at longer wavelengths and the leaf-water absorption beyond 930 nm is
deeper. A closed one shows its thin young top leaves: the opposite. So the spectrum changes by

    (open - closed) * :func:`trait_spectrum`,

which is *linear in the contrast* and has one spectral direction. It is confined to wavelengths
between and beyond the usual blue, green, red and near-infrared bands (690-765 nm and from
920 nm): the red and near-infrared plateaus, which leaf area and structure set, are alike. The
four bands of a pixel hardly tell it; their standard deviation over the pixel's neighbours does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.estimator.library import load_library
from pixelssr_geo.spectra import ChannelGrid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Map = NDArray[np.float32]
    """A value per pixel, ``(y, x)``, or several, ``(..., y, x)``."""

COVER_NAMES = ("water", "crop", "meadow", "bare soil", "forest", "garden", "building", "road")
"""Land-cover classes; their position is the value in :attr:`Landscape.cover`."""
TEXTURED = ("crop", "meadow", "forest")
"""Classes whose texture tells the hidden trait."""

PIXEL_SIZE_M = 8.0
"""As GF-6 PMS sees multispectral scenes."""
_WATER, _CROP, _MEADOW, _SOIL, _FOREST, _GARDEN, _BUILDING, _ROAD = range(len(COVER_NAMES))
_SMALLEST = 16
_CORNER = (500_000.0, 4_400_000.0)
"""Easting and northing of the upper left corner, m: the middle of UTM zone 50, near Beijing."""
_POINT_SPREAD_PX = 0.55
"""Standard deviation of the point spread between covers."""
_CONTRAST = (0.02, 0.14)
"""Least and largest contrast of a texture: standard deviation over mean."""
_TRAIT = 0.055
"""Reflectance by which the most open and the closed canopy differ from the middle at 728 nm."""
_NOISE = 0.0008
"""Standard deviation of the noise in every channel, reflectance."""
_PARCEL_PX = (18.0, 40.0)
"""Shortest and longest side of a parcel."""
_CROP_TYPES = 6


@dataclass(frozen=True, slots=True, eq=False)
class Landscape:
    """A hyperspectral cube of known contents."""

    cube: NDArray[np.float32]
    """Reflectance 0-1, ``(channel, y, x)``, without gaps."""
    channels: ChannelGrid
    """The cube's channels."""
    cover: NDArray[np.int8]
    """Land cover that fills most of each pixel, ``(y, x)``: an index into ``cover_names``."""
    cover_names: tuple[str, ...]
    """Names of the land covers."""
    trait: NDArray[np.float32]
    """The hidden trait, ``(y, x)``: -1 closed to 1 open canopy, times the covered fraction."""
    transform: tuple[float, float, float, float, float, float]
    """Affine a, b, c, d, e, f from (column, row) corners to (x, y), m."""
    crs: str
    """Coordinate reference system."""

    def is_cover(self, *names: str) -> NDArray[np.bool_]:
        """Which pixels are mostly of one of these land covers, ``(y, x)``."""
        return np.isin(self.cover, [self.cover_names.index(name) for name in names])


def make_landscape(
    size: int = 256, *, seed: int = 0, channels: ChannelGrid | None = None
) -> Landscape:
    """Square landscape; the same size, seed and channels give the same one.

    Parameters
    ----------
    size
        Rows and columns, at least 16. Fields are 18 to 40 pixels long whatever the size.
    seed
        Draws another landscape.
    channels
        Channels of the cube; ``None`` takes 400 to 1000 nm every 10 nm.

    Raises
    ------
    SettingsError
        If the size is below 16.
    WavelengthGridError
        If channels lie outside the library's 400 to 1000 nm.

    Examples
    --------
    >>> make_landscape(64).cube.shape
    (61, 64, 64)
    """
    if size < _SMALLEST:
        raise SettingsError(
            f"a landscape of {size} pixels a side is asked, expected at least {_SMALLEST}: "
            "give a larger size"
        )
    channels = ChannelGrid.from_spec("400:1000:10") if channels is None else channels
    draws = np.random.default_rng(seed)
    parcels = _draw_parcels(size, draws)
    lots, cover = _lay_out(size, parcels, draws)
    shares = _blur(cover, _POINT_SPREAD_PX)
    spectra = _Spectra(channels, draws)
    cube = np.zeros((len(channels), size, size), np.float32)
    for share, (weights, members) in zip(
        shares, _materials(size, parcels, lots, spectra, draws), strict=True
    ):
        cube += np.einsum("kyx,kc->cyx", share * weights, members, optimize=True)
    texture, trait = _draw_texture(size, shares, parcels, draws)
    cube += trait * trait_spectrum(channels.centres_nm)[:, None, None].astype("f4")
    cube *= texture * _illumination(size, draws)
    cube += _NOISE * draws.standard_normal(cube.shape, np.float32)
    east, north = _CORNER
    return Landscape(
        cube=cube.clip(0.001, 1),
        channels=channels,
        cover=shares.argmax(axis=0).astype(np.int8),
        cover_names=COVER_NAMES,
        trait=trait,
        transform=(PIXEL_SIZE_M, 0.0, east, 0.0, -PIXEL_SIZE_M, north),
        crs="EPSG:32650",
    )


def field_points(
    landscape: Landscape, count: int = 60, *, seed: int = 0, position_error_m: float = 2.0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Places on land where a field spectrometer was used.

    Every land cover gets places by the square root of its area, each far from those chosen
    before.

    Parameters
    ----------
    landscape
        Where to go.
    count
        Number of places, each in a pixel of its own.
    seed
        Draws others.
    position_error_m
        Standard deviation of the positions that the field crew noted, m, in x and in y.

    Returns
    -------
    x, y
        Noted positions in the landscape's CRS, m, ``(point,)``: the pixels' centres plus errors.
        They may lie in a neighbouring pixel.
    rows, cols
        The pixels that were measured, ``(point,)``.

    Raises
    ------
    SettingsError
        If the count is not between 1 and the number of land pixels, or the error is negative.
    """
    land = np.bincount(landscape.cover.ravel(), minlength=len(landscape.cover_names))
    land[_WATER] = 0
    if not 1 <= count <= land.sum():
        raise SettingsError(
            f"{count} field points are asked, the landscape has {land.sum()} pixels of land: "
            "ask for at least 1 and at most that many"
        )
    if not position_error_m >= 0:
        raise SettingsError(
            f"a position error of {position_error_m:g} m is asked, expected at least 0: correct it"
        )
    draws = np.random.default_rng(seed)
    quotas = _quotas(land, count)
    rows, cols = _spread(landscape.cover, quotas, draws)
    step_x, _, left, _, step_y, top = landscape.transform
    errors = position_error_m * draws.standard_normal((2, count))
    x = left + (cols + 0.5) * step_x + errors[0]
    y = top + (rows + 0.5) * step_y + errors[1]
    return x, y, rows, cols


def water_spectrum(wavelengths_nm: NDArray[np.float64], decay_nm: float) -> NDArray[np.float64]:
    """Reflectance of water that falls exponentially with wavelength, ``(wavelength,)``.

    ``0.005 + 0.06 exp(-(wavelength - 400 nm) / decay)``: the surface's reflection, and what
    comes back from below, which absorption by water takes away towards the infrared. Clear water
    decays within 90 nm, turbid water within 220 nm. Simple, but dark and blue-green as it should.
    """
    spectrum: NDArray[np.float64] = 0.005 + 0.06 * np.exp(-(wavelengths_nm - 400) / decay_nm)
    return spectrum


def trait_spectrum(wavelengths_nm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Change of reflectance with the hidden trait, for a trait of 1, ``(wavelength,)``.

    The red edge of the library's canopies rises by 0.0075 a nm at 725 nm (median), so the dip of
    0.055 around 728 nm is a shift by 7 nm. The dip from 930 nm has the shape that canopies of
    equal band values differ by in the library: leaf water.
    """
    red_edge = np.exp(-(((wavelengths_nm - 728) / 16) ** 2))
    leaf_water = 0.8 / (1 + np.exp(-(wavelengths_nm - 945) / 8))
    change: NDArray[np.float64] = -_TRAIT * (red_edge + leaf_water)
    return change


@dataclass(frozen=True, slots=True, eq=False)
class _Parcels:
    """Fields of the farmland, as numbers per parcel and a map of the parcels."""

    index: NDArray[np.int64]
    """Which parcel a pixel is in, ``(y, x)``."""
    edge: Map
    """How much of a pixel is the strip of grass between parcels, 0-1."""
    along: Map
    """Place across the parcel's rows, pixels."""
    use: NDArray[np.int64]
    """Crop, meadow or bare soil, ``(parcel,)``."""

    @property
    def count(self) -> int:
        return len(self.use)

    def spread(self, values: NDArray[np.floating]) -> Map:
        """Values ``(parcel,)`` or ``(member, parcel)`` as maps."""
        return np.asarray(values[..., self.index], np.float32)


class _Spectra:
    """Random library spectra by material."""

    def __init__(self, channels: ChannelGrid, draws: np.random.Generator) -> None:
        library = load_library()
        self.wavelengths_nm = channels.centres_nm
        self._spectra = library.on_channels(channels)
        self._material = np.array(library.material)
        at = np.searchsorted(library.wavelengths_nm, [660, 830])
        self._red, self._infrared = library.reflectance[:, at].T
        self._draws = draws

    def pick(
        self,
        count: int,
        *materials: str,
        red: tuple[float, float] = (0.0, 1.0),
        infrared: tuple[float, float] = (0.0, 1.0),
    ) -> NDArray[np.float32]:
        """Spectra ``(count, channel)`` of these materials and reflectances at 660 and 830 nm."""
        fits = np.isin(self._material, materials)
        for values, (low, high) in ((self._red, red), (self._infrared, infrared)):
            fits &= (values >= low) & (values <= high)
        chosen = self._draws.choice(np.flatnonzero(fits), count, replace=False)
        return np.asarray(self._spectra[chosen], np.float32)


def _draw_parcels(size: int, draws: np.random.Generator) -> _Parcels:
    """Farmland in districts, each ruled into parcels at its own angle."""
    y, x = _pixels(size)
    district = _nearest(x, y, draws.uniform(0, size, (max(2, round((size / 90) ** 2)), 2)))
    number = np.zeros((size, size), np.int64)
    edge = np.zeros((size, size), np.float32)
    along = np.zeros((size, size), np.float32)
    for k in np.unique(district):
        inside = district == k
        u, v = _turned(x[inside], y[inside], draws.uniform(0, np.pi / 2))
        long, wide = draws.uniform(*_PARCEL_PX, 2)
        column = np.floor(u / long).astype("i8")
        column -= column.min()
        # Neighbouring columns of parcels are shifted against each other, as walls of brick are.
        v += (draws.random(column.max() + 1)[column] * wide).astype("f4")
        row = np.floor(v / wide).astype("i8")
        row -= row.min()
        own = column * (row.max() + 1) + row
        number[inside] = number.max() + 1 + own
        edge[inside] = (0.6 - np.minimum(_to_line(u, long), _to_line(v, wide))).clip(0, 1)
        along[inside] = np.where((draws.random(own.max() + 1) < 0.5)[own], u, v)
    _, index = np.unique(number, return_inverse=True)
    index = index.reshape(size, size)
    use = draws.choice([_CROP, _MEADOW, _SOIL], index.max() + 1, p=[0.62, 0.16, 0.22])
    return _Parcels(index, edge, along, use)


def _lay_out(
    size: int, parcels: _Parcels, draws: np.random.Generator
) -> tuple[NDArray[np.int64], Map]:
    """Numbers of the building lots ``(y, x)``, and the share of every land cover in each pixel.

    Sharp-edged, ``(cover, y, x)``, summing to 1. What comes later lies on top.
    """
    y, x = _pixels(size)
    cover = np.zeros((len(COVER_NAMES), size, size), np.float32)
    for use in (_CROP, _MEADOW, _SOIL):
        cover[use] = parcels.use[parcels.index] == use
    _lay_over(cover, _MEADOW, parcels.edge)
    wooded = smooth_field(size, 16, draws) + 0.35 * smooth_field(size, 3, draws)
    _lay_over(cover, _FOREST, _soft(wooded - np.quantile(wooded, 0.76), 0.15))
    river = _river_distance(size, draws)
    width = draws.uniform(2.5, 4.5)
    centre = _town_centre(size, river, draws)
    lots = _lay_town(size, cover, centre, draws)
    for road in _road_distances(x, y, size, centre, draws):
        _lay_over(cover, _ROAD, (1.25 - road).clip(0, 1))
    bridges = cover[_ROAD].copy()
    _lay_over(cover, _MEADOW, (width + 2.5 - river).clip(0, 1))
    _lay_over(cover, _WATER, (width - river).clip(0, 1))
    _lay_over(cover, _ROAD, bridges * (river < width + 3))
    return lots, cover


def _lay_town(
    size: int, cover: Map, centre: tuple[float, float], draws: np.random.Generator
) -> NDArray[np.int64]:
    """Numbers of the building lots ``(y, x)``; streets, gardens and buildings go into the cover."""
    y, x = _pixels(size)
    town_x, town_y = centre
    reach = np.hypot(x - town_x, y - town_y) / (0.13 * size + 4)
    town = _soft(1 + 0.25 * smooth_field(size, 8, draws) - reach, 0.05)
    u, v = _turned(x - town_x, y - town_y, draws.uniform(0, np.pi / 2))
    lot, depth = 4.0, 4.5
    street = np.minimum(_to_line(u, 4 * lot), _to_line(v, 2 * depth))
    column, row = np.floor(u / lot).astype("i8"), np.floor(v / depth).astype("i8")
    lots = (column - column.min()) * (row.max() - row.min() + 1) + row - row.min()
    built = draws.random(lots.max() + 1) < 0.8
    half = draws.uniform(1.2, 1.9, lots.max() + 1)[lots]
    inside = np.minimum(
        half - np.abs(u - (column + 0.5) * lot), half - np.abs(v - (row + 0.5) * depth)
    )
    _lay_over(cover, _GARDEN, town)
    _lay_over(cover, _BUILDING, town * built[lots] * (inside + 0.5).clip(0, 1))
    _lay_over(cover, _ROAD, town * (1.0 - street).clip(0, 1))
    return np.asarray(lots)


def _materials(
    size: int,
    parcels: _Parcels,
    lots: NDArray[np.int64],
    spectra: _Spectra,
    draws: np.random.Generator,
) -> list[tuple[Map, NDArray[np.float32]]]:
    """Weights ``(member, y, x)`` and spectra ``(member, channel)`` of every land cover, in order."""
    soils = spectra.pick(4, "bare/soil", infrared=(0.25, 0.48))
    dry = spectra.pick(2, "npv/litter", "npv/npv", infrared=(0.2, 0.45))
    crops = spectra.pick(_CROP_TYPES, "vegetation/canopy", red=(0, 0.05), infrared=(0.4, 0.55))
    grass = spectra.pick(3, "vegetation/canopy", red=(0.03, 0.08), infrared=(0.35, 0.5))
    woods = spectra.pick(4, "vegetation/canopy", red=(0, 0.025), infrared=(0.27, 0.37))
    roofs = np.concatenate([
        spectra.pick(3, "built/comp_shingle"),
        spectra.pick(2, "built/tile", "built/other"),
        spectra.pick(2, "built/metal", "built/concrete_tile"),
        spectra.pick(2, "built/parking_lot"),
    ])  # fmt: skip
    water = np.stack([water_spectrum(spectra.wavelengths_nm, decay) for decay in (90, 220)])
    soil = _by_parcel(parcels, 4, draws)
    growth = parcels.spread(draws.uniform(0.65, 0.97, parcels.count))
    growth = (growth + 0.05 * smooth_field(size, 6, draws)).clip(0, 1)
    stubble = parcels.spread(draws.uniform(0, 0.35, parcels.count))
    patches = _soft(smooth_field(size, 2, draws), 2.0)
    return [
        (_blends(size, 2, 15, draws), water.astype("f4")),
        (_stack(growth * _by_parcel(parcels, _CROP_TYPES, draws), (1 - growth) * soil),
         np.concatenate([crops, soils])),
        (_stack(0.85 * _blends(size, 3, 10, draws), 0.15 * _blends(size, 2, 10, draws)),
         np.concatenate([grass, dry])),
        (_stack((1 - stubble) * soil, stubble * _blends(size, 2, 10, draws)),
         np.concatenate([soils, dry])),
        (_stack(0.95 * _blends(size, 4, 8, draws), 0.05 * _blends(size, 1, 8, draws)),
         np.concatenate([woods, spectra.pick(1, "npv/bark")])),
        (_stack(patches * _blends(size, 3, 4, draws), (1 - patches) * _blends(size, 4, 4, draws)),
         np.concatenate([grass, soils])),
        (_one_each(len(roofs), int(lots.max()) + 1, draws)[:, lots], roofs),
        (_blends(size, 3, 6, draws),
         np.concatenate([spectra.pick(2, "built/road"), spectra.pick(1, "built/sidewalk")])),
    ]  # fmt: skip


def _draw_texture(
    size: int, shares: Map, parcels: _Parcels, draws: np.random.Generator
) -> tuple[Map, Map]:
    """Relative brightness and hidden trait, both ``(y, x)``.

    The trait is -1 where the contrast is the least and 1 where it is the largest.
    """
    # Strips of grass are too narrow for a contrast of their own: they share their parcel's.
    farmed = parcels.spread(draws.uniform(0, 1, parcels.count))
    openness = {
        _CROP: farmed,
        _MEADOW: farmed,
        _FOREST: 1 / (1 + np.exp(-1.7 * smooth_field(size, 10, draws))),
    }
    period = parcels.spread(draws.uniform(2.3, 3.9, parcels.count))
    rows = np.float32(np.sqrt(2)) * np.sin(2 * np.pi * parcels.along / period)
    patterns = {_CROP: rows, _MEADOW: _clumps(size, draws), _FOREST: _clumps(size, draws)}
    low, high = _CONTRAST
    brightness = np.ones((size, size), np.float32)
    trait = np.zeros((size, size), np.float32)
    for cover, part in openness.items():
        brightness += shares[cover] * (low + (high - low) * part) * patterns[cover]
        trait += shares[cover] * (2 * part - 1)
    return brightness, trait


def _illumination(size: int, draws: np.random.Generator) -> Map:
    """Relative irradiance ``(y, x)``: slopes towards a morning sun, and each pixel's own."""
    height = smooth_field(size, 28, draws) + 0.25 * smooth_field(size, 10, draws)
    down, right = np.gradient(height)
    slope = (-right - down).astype("f4")
    shading = 1 + 0.06 * slope / max(float(slope.std()), 1e-6)
    own = 1 + 0.008 * draws.standard_normal((size, size), np.float32)
    return np.asarray(shading.clip(0.7, 1.3) * own, np.float32)


def smooth_field(size: int, length_px: float, draws: np.random.Generator) -> Map:
    """Gaussian random field ``(y, x)`` of mean 0 and variance 1, float32.

    Its correlation falls to 1/e over ``2 * length_px``; the field does not wrap around.
    """
    padded = size + int(np.ceil(4 * length_px))
    frequency = _frequency(padded)
    passed = np.exp(-2 * (np.pi * length_px * frequency) ** 2)
    return _filtered(passed, padded, draws)[:size, :size]


def _clumps(size: int, draws: np.random.Generator) -> Map:
    """Random pattern ``(y, x)`` of mean 0 and variance 1 whose clumps lie 2 to 4 pixels apart."""
    frequency = _frequency(size)
    return _filtered(np.exp(-(((frequency - 0.34) / 0.07) ** 2)), size, draws)


def _frequency(size: int) -> NDArray[np.float64]:
    """Spatial frequency of the half-spectrum, cycles a pixel, ``(size, size // 2 + 1)``."""
    return np.asarray(np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)))


def _filtered(passed: NDArray[np.float64], size: int, draws: np.random.Generator) -> Map:
    """White noise ``(size, size)`` through a filter of unit variance in the mean."""
    # The half-spectrum's inner columns stand for two frequencies each.
    both = np.full(passed.shape[1], 2.0)
    both[0] = 1.0
    if size % 2 == 0:
        both[-1] = 1.0
    gain = np.sqrt(size**2 / (both * passed**2).sum())
    noise = np.fft.rfft2(draws.standard_normal((size, size)))
    return np.fft.irfft2(gain * passed * noise, (size, size)).astype(np.float32)


def _blur(cover: Map, spread_px: float) -> Map:
    """Shares ``(cover, y, x)`` as the sensor's point spread mixes them; they still sum to 1."""
    offsets = np.arange(-2, 3)
    kernel = np.exp(-0.5 * (offsets / spread_px) ** 2).astype("f4")
    kernel /= kernel.sum()
    size = cover.shape[1]
    for axis in (1, 2):
        pads = [(0, 0), (0, 0), (0, 0)]
        pads[axis] = (2, 2)
        padded = np.pad(cover, pads, mode="edge")
        parts = [np.take(padded, np.arange(k, k + size), axis) for k in range(len(kernel))]
        cover = np.einsum("k,kcyx->cyx", kernel, np.stack(parts), optimize=True)
    return cover


def _lay_over(cover: Map, upper: int, share: Map) -> None:
    """Put one land cover on top of all others, where it takes this share of each pixel."""
    cover *= 1 - share
    cover[upper] += share


def _pixels(size: int) -> tuple[Map, Map]:
    """Row and column of every pixel, ``(y, x)``."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    return y, x


def _turned(x: Map, y: Map, angle: float) -> tuple[Map, Map]:
    """Coordinates in a frame turned by the angle."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def _nearest(x: Map, y: Map, places: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which of the places ``(place, 2)`` each pixel is nearest to, ``(y, x)``."""
    nearest = np.zeros(x.shape, np.int64)
    least = np.full(x.shape, np.inf)
    for k, (place_x, place_y) in enumerate(places):
        distance = np.hypot(x - place_x, y - place_y)
        nearest[distance < least] = k
        least = np.minimum(least, distance)
    return nearest


def _soft(value: Map, width: float) -> Map:
    """0 where the value is well below 0, 1 where it is well above, a ramp ``width`` wide between."""
    return np.asarray((value / width + 0.5).clip(0, 1), np.float32)


def _to_line(coordinate: Map, period: float) -> Map:
    """Distance to the nearest of evenly spaced lines."""
    return np.abs(coordinate - np.round(coordinate / period) * period)


def _curve_distance(
    along: Map, across: Map, amplitude: float, wavelength: float, draws: np.random.Generator
) -> Map:
    """Distance of every pixel from a winding line, ``(y, x)``; exact to first order."""
    offset = np.zeros_like(along)
    steepness = np.zeros_like(along)
    for part in (1.0, 0.55, 0.35):
        number = np.float32(2 * np.pi / (part * wavelength))
        phase = np.float32(draws.uniform(0, 2 * np.pi))
        height = np.float32(part * amplitude * draws.uniform(0.4, 1))
        offset += height * np.sin(number * along + phase)
        steepness += height * number * np.cos(number * along + phase)
    return np.asarray(np.abs(across - offset) / np.sqrt(1 + steepness**2))


def _river_distance(size: int, draws: np.random.Generator) -> Map:
    y, x = _pixels(size)
    through = draws.uniform(0.3, 0.7, 2) * size
    along, across = _turned(x - through[0], y - through[1], draws.uniform(0, np.pi))
    return _curve_distance(along, across, 0.05 * size, 0.7 * size, draws)


def _town_centre(size: int, river: Map, draws: np.random.Generator) -> tuple[float, float]:
    """Column and row of a place near the river, but not in it."""
    places = (draws.uniform(0.22, 0.78, (60, 2)) * size).astype("i8")
    wanted = 0.16 * size + 4
    best = np.argmin(np.abs(river[places[:, 1], places[:, 0]] - wanted))
    return float(places[best, 0]), float(places[best, 1])


def _road_distances(
    x: Map, y: Map, size: int, centre: tuple[float, float], draws: np.random.Generator
) -> list[Map]:
    """Distance from each road: two cross in the town, one passes it."""
    first = draws.uniform(0, np.pi)
    bypass = draws.uniform(0.1, 0.9, 2) * size
    distances = []
    for place, angle in (
        (centre, first),
        (centre, first + draws.uniform(1.1, 2.0)),
        (bypass, draws.uniform(0, np.pi)),
    ):
        along, across = _turned(x - np.float32(place[0]), y - np.float32(place[1]), angle)
        distances.append(_curve_distance(along, across, 0.01 * size, 0.9 * size, draws))
    return distances


def _blends(size: int, members: int, length_px: float, draws: np.random.Generator) -> Map:
    """Weights ``(member, y, x)`` that sum to 1 and drift over the land."""
    fields = [np.exp(1.2 * smooth_field(size, length_px, draws)) for _ in range(members)]
    weights = np.stack(fields)
    return np.asarray(weights / weights.sum(axis=0), np.float32)


def _by_parcel(parcels: _Parcels, members: int, draws: np.random.Generator) -> Map:
    """Weights ``(member, y, x)`` that sum to 1: a mixture per parcel that drifts a little."""
    mixtures = draws.dirichlet([0.3] * members, parcels.count).T + 0.01
    drift = _blends(parcels.index.shape[0], members, 6, draws) ** np.float32(0.4)
    weights = parcels.spread(mixtures) * drift
    return np.asarray(weights / weights.sum(axis=0), np.float32)


def _one_each(members: int, count: int, draws: np.random.Generator) -> NDArray[np.float32]:
    """Weights ``(member, count)``: 1 for one member drawn at random, 0 for the others."""
    return np.eye(members, dtype=np.float32)[draws.integers(0, members, count)].T


def _stack(*weights: Map) -> Map:
    return np.concatenate(weights).astype(np.float32)


def _quotas(area: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """How many of ``count`` points each land cover gets: by the square root of its area."""
    wanted = count * np.sqrt(area) / np.sqrt(area).sum()
    quotas = np.minimum(wanted.astype("i8"), area)
    while (missing := count - int(quotas.sum())) > 0:
        open_ones = np.flatnonzero(quotas < area)
        order = open_ones[np.argsort(quotas[open_ones] - wanted[open_ones], kind="stable")]
        quotas[order[:missing]] += 1
    return np.asarray(quotas)


def _spread(
    cover: NDArray[np.int8], quotas: NDArray[np.int64], draws: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of different pixels, as many per land cover as the quotas say.

    Each is the farthest from all earlier ones among a dozen random candidates (Mitchell's
    best-candidate sampling).
    """
    chosen = np.empty((int(quotas.sum()), 2))
    done = 0
    for cover_class in np.argsort(quotas, kind="stable"):
        places = np.argwhere(cover == cover_class)
        for k in range(quotas[cover_class]):
            candidates = draws.integers(k, len(places), 12)
            gaps = ((places[candidates, None] - chosen[:done]) ** 2).sum(axis=2)
            best = candidates[gaps.min(axis=1, initial=np.inf).argmax()]
            places[[k, best]] = places[[best, k]]  # what is chosen goes to the front
            chosen[done] = places[k]
            done += 1
    rows, cols = chosen.astype("i8")[draws.permutation(done)].T
    return rows, cols
