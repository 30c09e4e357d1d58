"""Make the shipped spectral library from earthlib (MIT): `python make_library.py [FOLDER]`.

FOLDER holds `earthlib_spectra.sli`, its header and its CSV, as in the Python package earthlib 1.1.0.
Kept: 400-1000 nm, reflectance x 10000 as uint16, the material of each spectrum and whether it is a
PROSAIL simulation. The same input gives the same bytes.
"""

import csv
import re
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve()
TARGET = HERE.parents[2] / "pixelssr_geo" / "estimator" / "data" / "earthlib_vnir.npz"


def main(folder: Path) -> None:
    header = (folder / "earthlib_spectra.sli.hdr").read_text()
    listed = re.search(r"wavelength\s*=\s*{([^}]*)}", header)
    assert listed
    wavelengths = np.array([float(value) for value in listed[1].split(",")])
    if wavelengths.max() < 100:
        wavelengths = wavelengths * 1000
    spectra = np.fromfile(folder / "earthlib_spectra.sli", "<f4").reshape(-1, len(wavelengths))
    with (folder / "earthlib_spectra.csv").open() as file:
        rows = list(csv.DictReader(file))
    order = np.argsort(wavelengths)
    order = order[wavelengths[order] <= 1000.5]
    kept = spectra[:, order].astype("f8")
    good = np.isfinite(kept).all(1) & (kept.max(1) < 6.5) & (kept.min(1) > -0.05)
    np.savez_compressed(
        TARGET,
        wavelengths_nm=np.round(wavelengths[order], 1),
        reflectance=np.round(kept[good].clip(0) * 1e4).astype("u2"),
        material=np.array([f"{row['LEVEL_2']}/{row['LEVEL_3']}" for row in rows])[good],
        simulated=np.array([row["SOURCE"] == "prosail" for row in rows])[good],
    )
    print(
        f"{good.sum()} of {len(good)} spectra, {len(order)} channels, {TARGET.stat().st_size} bytes"
    )


if __name__ == "__main__":
    beside = HERE.parents[2].parent / "shared" / "data" / "spectra"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else beside)
