"""How far the shipped sensor responses are from measured ones.

For every sensor with a measured response among the test data, prints per band the difference of
centre and width, and the root mean square difference of band values over library spectra (three
quarters measured soils, built surfaces and dry matter, one quarter simulated green canopies), also
relative to their mean. The measured files are only read here; nothing of them ships.

Usage: python tests/benchmarks/sensor_responses.py [--data FOLDER] [--spectra N]
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelssr_geo.spectra import SpectralResponse, get_sensor, resample_to_bands

MEASURED = {
    "GF-1 PMS": "GF1D_PMS",
    "GF-1 WFV": "GF1_WFV1",
    "GF-6 PMS": "GF6_PMS",
    "GF-6 WFV": "GF6_WFV",
    "Sentinel-2A": "S2A_MSI",
    "Sentinel-2B": "S2B_MSI",
    "Landsat 8 OLI": "L8_OLI",
    "Landsat 9 OLI": "L9_OLI",
    "WorldView-2": "WorldView2",
    "WorldView-3": "WorldView3",
    "PlanetScope 4-band": "PlanetScope_22",
    "PlanetScope 8-band": "PlanetScope_SD8",
}
SIMULATED = "prosail"
"""The library's source of simulated canopies."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """Shipped minus measured, for one band."""

    sensor: str
    band: str
    centre_nm: float
    shift_nm: float
    widening_nm: float
    rms: float
    """Of the band values, reflectance."""
    mean: float
    """Mean band value, reflectance."""


def compare(data: Path, count: int = 200) -> list[Deviation]:
    """The deviations of all bands of all sensors with a measured response."""
    spectra, wavelengths = read_spectra(data, count)
    deviations = []
    for sensor, stem in MEASURED.items():
        shipped = get_sensor(sensor)
        measured = SpectralResponse.from_file(data / "srf" / "acolite_rsr" / f"{stem}.txt")
        measured = measured.select(np.arange(len(shipped)))
        ours = resample_to_bands(spectra, wavelengths, shipped)
        theirs = resample_to_bands(spectra, wavelengths, measured)
        known = np.isfinite(ours) & np.isfinite(theirs)
        for at, band in enumerate(shipped.names):
            seen = known[:, at]
            error = ours[seen, at] - theirs[seen, at]
            deviations.append(
                Deviation(
                    sensor,
                    band,
                    float(shipped.centres_nm[at]),
                    float(shipped.centres_nm[at] - measured.centres_nm[at]),
                    float(shipped.fwhm_nm[at] - measured.fwhm_nm[at]),
                    float(np.sqrt(np.mean(error**2))) if seen.any() else float("nan"),
                    float(theirs[seen, at].mean()) if seen.any() else float("nan"),
                )
            )
    return deviations


def read_spectra(data: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Library spectra ``(count, wavelength)``, a quarter of them simulated, and wavelengths in nm."""
    folder = data / "spectra"
    lines = (folder / "earthlib_spectra.csv").read_text(encoding="utf-8").splitlines()
    titles = lines[0].split(",")
    source = np.array([line.split(",")[titles.index("SOURCE")] for line in lines[1:]])
    table = np.fromfile(folder / "earthlib_spectra.sli", dtype="<f4").reshape(len(source), -1)
    header = (folder / "earthlib_spectra.sli.hdr").read_text(encoding="utf-8")
    words = header.split("wavelength = {")[1].split("}")[0].split(",")
    wavelengths = 1000 * np.array([float(word) for word in words])
    measured = np.flatnonzero(np.char.lower(source) != SIMULATED)
    simulated = np.flatnonzero(np.char.lower(source) == SIMULATED)
    # The library's measured spectra hold hardly any green canopy, where band edges matter most;
    # a quarter of simulated canopies stands in for it.
    draw = np.random.default_rng(0)
    chosen = np.concatenate(
        [draw.choice(measured, count - count // 4), draw.choice(simulated, count // 4)]
    )
    return table[chosen].astype(np.float64), wavelengths


def main() -> None:
    """Print the table."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    parser = argparse.ArgumentParser(description="Shipped against measured sensor responses.")
    parser.add_argument("--data", type=Path, default=os.environ.get("PIXELSSR_DATA", beside))
    parser.add_argument("--spectra", type=int, default=200, help="library spectra (default 200)")
    arguments = parser.parse_args()
    lines = ["| sensor | band | centre nm | shift nm | wider nm | RMS | of mean |"]
    lines.append("|---|---|---|---|---|---|---|")
    lines += [
        f"| {row.sensor} | {row.band} | {row.centre_nm:.1f} | {row.shift_nm:+.1f} | "
        f"{row.widening_nm:+.1f} | {row.rms:.4f} | {row.rms / row.mean:.1%} |"
        for row in compare(Path(arguments.data), arguments.spectra)
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
