"""Positions as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelssr_geo.spectra_files.positions import degrees_of


@pytest.mark.parametrize(
    ("text", "degrees"),
    [
        ("53°30'35.5\"N", 53 + 30 / 60 + 35.5 / 3600), ("53 30.5 N", 53 + 30.5 / 60),
        ("S 33° 52' 10\"", -(33 + 52 / 60 + 10 / 3600)), ("12,5", 12.5), ("12.5°", 12.5),
        ("53\u00b030\u203235,5\u2033 N", 53 + 30 / 60 + 35.5 / 3600), ("W 0 30", -0.5),
        ("53°30.5'", 53 + 30.5 / 60), ("-12 30", -12.5), ("e12,25", 12.25), ("12.5 W", -12.5),
        ("-92.5W", -92.5), ("12,5, 12,6", 12.6), ("5330.6000,N", 53.51), ("12.5, E", 12.5),
    ],
)  # fmt: skip
def test_degrees_minutes_and_seconds(text, degrees):
    assert degrees_of(text) == pytest.approx(degrees, abs=1e-9)


@pytest.mark.parametrize(
    "text",
    ["", "n/a", "plot 12", "12.5 m", "53°70'", "53 30 61 N", "53.5 30 N", "N 53 S", "-12 E",
     "91 N", "181", "12.5 13.5 14.5", "9570.0 N", "1 2 3 4"],
)  # fmt: skip
def test_other_texts_are_no_position(text):
    assert degrees_of(text) is None


@given(st.integers(0, 179), st.integers(0, 59), st.integers(0, 5999), st.sampled_from("EW"))
def test_what_is_written_is_read_back(degrees, minutes, hundredths, side):
    seconds = hundredths / 100
    wanted = (degrees + minutes / 60 + seconds / 3600) * (1 if side == "E" else -1)
    for mark in (".", ","):
        second = f"{seconds:.2f}".replace(".", mark)
        for text in (
            f"{degrees}°{minutes:02d}'{second}\"{side}",
            f"{side} {degrees} {minutes} {second}",
        ):
            assert degrees_of(text) == pytest.approx(wanted, abs=1e-8)
