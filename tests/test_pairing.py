from dataclasses import replace

import numpy as np
import pytest
from pyproj import CRS, Transformer

from pixelssr_geo.errors import MissingCRSError, PointsError
from pixelssr_geo.pairing import channels_note, default_channels, pair_points
from pixelssr_geo.scene import pixel_grid
from pixelssr_geo.spectra import ChannelGrid
from pixelssr_geo.testing import make_cube, make_points, make_scene


def reasons(paired):
    return {point.id: point.reason for point in paired.dropped}


def moved(points, **changes):
    """The points with some of their numbers changed: ``x={2: 5.0}``."""
    arrays = {name: getattr(points, name).copy() for name in changes}
    for name, values in changes.items():
        for at, value in values.items():
            arrays[name][at] = value
    return replace(points, **arrays)


def test_labels_are_the_pixels_that_the_points_lie_in():
    points, cube = make_points(12), make_cube()
    paired = pair_points(make_scene(), points)
    labels = paired.labels
    assert paired.ids == points.ids
    assert paired.dropped == ()
    assert paired.suspicious == ()
    expected = cube.values[:, labels.rows, labels.cols].T
    np.testing.assert_allclose(labels.spectra, expected, atol=3e-3)
    np.testing.assert_array_equal(labels.bands, make_scene().values[:, labels.rows, labels.cols].T)


def test_points_of_another_crs_are_moved_to_the_scenes():
    points = make_points(12)
    lon, lat = Transformer.from_crs(points.crs_wkt, 4326, always_xy=True).transform(
        points.x, points.y
    )
    elsewhere = replace(points, x=lon, y=lat, crs_wkt=CRS.from_epsg(4326).to_wkt())
    here, there = pair_points(make_scene(), points), pair_points(make_scene(), elsewhere)
    assert here.labels.rows.tolist() == there.labels.rows.tolist()
    assert here.labels.cols.tolist() == there.labels.cols.tolist()


class TestDropped:
    def test_outside(self):
        points = moved(make_points(6), x={2: 389_999.0}, y={4: np.inf})
        assert reasons(pair_points(make_scene(), points)) == {"p3": "outside", "p5": "outside"}

    def test_places_that_their_crs_cannot_move(self):
        points = make_points(3)
        lost = replace(
            points,
            x=np.array([500.0, 13.4, 13.4]),
            y=np.array([52.4, 95.0, 52.4]),
            crs_wkt=CRS.from_epsg(4326).to_wkt(),
        )
        assert set(reasons(pair_points(make_scene(), lost)).values()) == {"outside"}

    def test_nodata(self):
        points = make_points(6)
        scene = make_scene()
        rows, cols = pixel_grid(scene).to_pixels(points.x, points.y)
        scene.values[1, rows[3], cols[3]] = np.nan  # one band is enough
        assert reasons(pair_points(scene, points)) == {"p4": "nodata"}

    def test_a_band_outside_the_channels_may_lack_data(self):
        scene = make_scene()
        scene.values[3] = np.nan
        channels = ChannelGrid.from_spec("400:750:10")
        paired = pair_points(scene, make_points(6), channels=channels)
        assert paired.dropped == ()
        assert paired.matches.bands.tolist() == [0, 1, 2]
        scene.values[1] = np.nan
        found = reasons(pair_points(scene, make_points(6), channels=channels))
        assert set(found.values()) == {"nodata"}

    def test_too_few_valid_channels(self):
        points = moved(make_points(6), reflectance={2: np.nan})
        points.reflectance[2, 20:] = 0.2
        points.reflectance[4, 30:33] = np.nan
        paired = pair_points(make_scene(), points)
        assert reasons(paired) == {"p3": "too few valid channels"}
        # A small gap is closed.
        assert np.isfinite(paired.labels.spectra).all()

    def test_duplicate_id(self):
        points = make_points(6)
        points = replace(points, ids=("a", "b", "a", "c", "d", "e"))
        paired = pair_points(make_scene(), points)
        assert reasons(paired) == {"a": "duplicate id"}
        assert paired.ids == ("a", "b", "c", "d", "e")

    def test_not_finite(self):
        points = moved(make_points(6), reflectance={2: np.nan})
        points.reflectance[4, 7] = np.inf
        assert reasons(pair_points(make_scene(), points)) == {
            "p3": "not finite",
            "p5": "not finite",
        }

    def test_numbers_beyond_a_thousand_are_no_reflectance(self):
        points = make_points(6)
        points.reflectance[2, 3], points.reflectance[4, 7] = -1.5e3, 2e4
        assert reasons(pair_points(make_scene(), points)) == {
            "p3": "not finite",
            "p5": "not finite",
        }

    def test_all_of_them_leaves_no_label(self):
        points = make_points(3)
        paired = pair_points(make_scene(), replace(points, x=points.x + 1e5))
        assert len(paired.labels) == 0
        assert paired.labels.spectra.shape == (0, 61)
        assert len(paired.dropped) == 3


def test_points_in_one_pixel_are_averaged():
    points = make_points(6)
    points = moved(points, x={3: points.x[0] + 1}, y={3: points.y[0] - 2})
    paired = pair_points(make_scene(), points)
    assert paired.ids == ("p1+p4", "p2", "p3", "p5", "p6")
    alone = pair_points(make_scene(), points.take(np.array([0]))).labels.spectra[0]
    other = pair_points(make_scene(), points.take(np.array([3]))).labels.spectra[0]
    np.testing.assert_allclose(paired.labels.spectra[0], (alone + other) / 2)


class TestSuspicious:
    @pytest.fixture
    def planted(self):
        """Twenty good points and one whose spectrum is that of a far pixel."""
        points = make_points(20)
        rough = np.random.default_rng(0).normal(0, 0.003, points.reflectance.shape[0])
        points = replace(points, reflectance=points.reflectance + rough[:, None])
        brightness = points.reflectance.mean(1)
        points.reflectance[brightness.argmin()] = points.reflectance[brightness.argmax()]
        return points, f"p{brightness.argmin() + 1}"

    def test_a_planted_point_is_named(self, planted):
        points, name = planted
        paired = pair_points(make_scene(), points)
        assert paired.suspicious == (name,)
        assert name in paired.ids  # reported, not dropped

    def test_few_points_cannot_tell(self, planted):
        points, _ = planted
        paired = pair_points(make_scene(), points.take(np.arange(2)))
        assert np.isnan(paired.disagreement).all()
        assert paired.suspicious == ()


class TestRejecting:
    @pytest.fixture
    def wrong(self):
        """Twelve points, the first scaled by 100, the second with another's spectrum."""
        points = make_points(12)
        points.reflectance[0] *= 100
        brightness = points.reflectance[1:].mean(1)
        far = 1 + np.abs(brightness - brightness[0]).argmax()
        points.reflectance[1] = points.reflectance[far]
        return points

    def test_points_that_disagree_are_dropped_with_their_score(self, wrong):
        paired = pair_points(make_scene(), wrong, reject_outliers=True)
        assert paired.ids == tuple(f"p{n}" for n in range(3, 13))
        assert set(reasons(paired)) == {"p1", "p2"}
        z = paired.matches.scores.z
        assert reasons(paired)["p1"] == f"disagrees with the scene (z = {z[0]:.1f})"
        assert paired.suspicious == ()
        np.testing.assert_array_equal(paired.matches.labels, [-1, -1, *range(10)])

    def test_by_default_nothing_is_rejected(self, wrong):
        paired = pair_points(make_scene(), wrong)
        assert len(paired.labels) == 12
        assert paired.suspicious == ("p1", "p2")

    def test_places_are_never_moved(self, wrong):
        kept = pair_points(make_scene(), wrong, reject_outliers=True).labels
        every = pair_points(make_scene(), wrong).labels
        np.testing.assert_array_equal(kept.rows, every.rows[2:])
        np.testing.assert_array_equal(kept.cols, every.cols[2:])

    def test_of_several_in_a_pixel_those_that_agree_are_averaged(self, wrong):
        beside = moved(wrong, x={0: wrong.x[2] + 1}, y={0: wrong.y[2] - 1})
        paired = pair_points(make_scene(), beside, reject_outliers=True)
        assert "p3" in paired.ids
        alone = pair_points(make_scene(), wrong).labels.spectra[2]
        np.testing.assert_allclose(paired.labels.spectra[paired.ids.index("p3")], alone)

    def test_of_a_mixed_pixel_the_points_agree_together(self):
        points = moved(make_points(12), x={}, y={})
        extended = replace(
            points,
            ids=(*points.ids, "other"),
            x=np.append(points.x, points.x[0]),
            y=np.append(points.y, points.y[0]),
            reflectance=np.vstack([points.reflectance, 0.4 * points.reflectance[0]]),
        )
        extended.reflectance[0] *= 1.6
        paired = pair_points(make_scene(), extended, reject_outliers=True)
        assert paired.ids[0] == "p1+other"
        assert (paired.matches.scores.z[[0, 12]] > 4).all()
        assert paired.disagreement[0] < 1

    def test_too_few_points_lose_none(self, wrong):
        paired = pair_points(make_scene(), wrong.take(np.arange(2)), reject_outliers=True)
        assert len(paired.labels) == 2
        assert paired.agreement is None

    def test_bands_outside_the_channels_are_not_compared(self, wrong):
        channels = ChannelGrid.from_spec("400:750:10")
        paired = pair_points(make_scene(), wrong, channels=channels)
        assert paired.matches.bands.tolist() == [0, 1, 2]
        assert paired.matches.simulated.shape == (12, 3)


class TestChannels:
    def test_by_default_those_that_the_points_cover(self):
        channels = default_channels(make_points(3, wavelengths="450:900:5"))
        assert channels.centres_nm[[0, -1]].tolist() == [450, 900]
        assert np.diff(channels.centres_nm).tolist() == pytest.approx([10] * 45)

    def test_one_spectrum_that_goes_further_does_not_set_the_range(self):
        points = make_points(30)
        points.reflectance[1:, points.wavelengths_nm > 900] = np.nan
        channels = default_channels(points)
        assert channels.centres_nm[[0, -1]].tolist() == [400, 900]
        assert pair_points(make_scene(), points).dropped == ()
        told = channels_note(points, channels)
        assert told.startswith("1 of 30 spectra go beyond the channels, which end at 400 and 900")

    def test_one_short_spectrum_does_not_set_the_range(self):
        points = make_points(6)
        points.reflectance[2, points.wavelengths_nm < 600] = np.nan
        channels = default_channels(points)
        assert channels.centres_nm[0] == 400
        assert channels_note(points, channels) is None

    def test_spectra_without_a_common_range_leave_the_one_of_all(self):
        points = make_points(6)
        points.reflectance[::2, points.wavelengths_nm < 700] = np.nan
        points.reflectance[1::2, points.wavelengths_nm > 650] = np.nan
        assert default_channels(points).centres_nm[[0, -1]].tolist() == [400, 1000]

    def test_wavelengths_that_no_spectrum_has_do_not_count(self):
        points = make_points(3)
        points.reflectance[:, :10] = np.nan
        assert default_channels(points).centres_nm[0] == 500

    def test_points_beyond_the_cube_are_refused(self):
        points = replace(make_points(3), wavelengths_nm=np.linspace(1500, 2400, 61))
        with pytest.raises(PointsError, match="cover 1500-2400 nm, the cube 400-1000 nm"):
            default_channels(points)

    def test_channels_asked_that_no_spectrum_covers_are_refused(self):
        channels = ChannelGrid.from_spec("400:500:10")
        with pytest.raises(PointsError, match="do not overlap"):
            pair_points(make_scene(), make_points(3, wavelengths="600:900:10"), channels=channels)


class TestCRS:
    def test_a_scene_without_one_is_refused_with_the_cure(self):
        with pytest.raises(MissingCRSError, match=r"'made scene' carries no .*--crs EPSG"):
            pair_points(make_scene(crs=None), make_points())

    def test_points_without_one_are_refused(self):
        with pytest.raises(MissingCRSError, match="'made points' carry no"):
            pair_points(make_scene(), make_points(crs=None))

    def test_systems_that_cannot_be_brought_together_are_refused(self):
        local = 'ENGCRS["site",EDATUM["site"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'
        with pytest.raises(MissingCRSError, match="cannot be moved"):
            pair_points(make_scene(), replace(make_points(), crs_wkt=local))


def test_only_the_pixels_under_points_are_read(tmp_path):
    scene = make_scene(shape=(64, 64)).chunk(y=8, x=8)
    touched = []
    watched = scene.copy(
        data=scene.data.map_blocks(
            lambda block: touched.append(1) or block, dtype="f4", meta=scene.data._meta
        )
    )
    watched.attrs["sensor"] = "GF-6 PMS"
    pair_points(watched, make_points(3, shape=(64, 64)))
    assert len(touched) <= 4
