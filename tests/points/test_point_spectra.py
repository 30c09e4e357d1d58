"""What points are."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from pixelssr_geo.errors import PointsError
from pixelssr_geo.points import PointSpectra
from pixelssr_geo.testing import make_points


def test_names_places_and_spectra_must_be_as_many():
    with pytest.raises(PointsError, match="2 names, 3 places"):
        PointSpectra(("a", "b"), np.zeros(3), np.zeros(3), None, np.arange(4.0), np.zeros((3, 4)))


def test_attributes_must_be_as_many():
    with pytest.raises(PointsError, match="2 values of 'class', expected 3"):
        replace(make_points(3), attributes={"class": ("a", "b")})


def test_the_spread_must_fit():
    with pytest.raises(PointsError, match=r"spread of shape \(3, 2\), expected \(3, 61\)"):
        replace(make_points(3), spread=np.zeros((3, 2)))


def test_taking_some_keeps_their_order_and_all_that_is_known():
    whole = replace(
        make_points(6), attributes={"n": tuple(range(6))}, spread=make_points(6).reflectance / 9
    )
    taken = whole.take(np.array([4, 1]))
    assert taken.ids == ("p5", "p2")
    np.testing.assert_array_equal(taken.reflectance, whole.reflectance[[4, 1]])
    np.testing.assert_array_equal(taken.spread, whole.spread[[4, 1]])
    np.testing.assert_array_equal(taken.x, whole.x[[4, 1]])
    assert taken.attributes == {"n": (4, 1)}
    assert (taken.crs_wkt, taken.source, taken.notes) == (whole.crs_wkt, whole.source, whole.notes)
    assert whole.take(np.array([True] + [False] * 5)).ids == ("p1",)


def test_points_travel_between_processes():
    whole = replace(make_points(2), attributes={"class": ("a", None)})
    assert pickle.loads(pickle.dumps(whole)).attributes == whole.attributes
