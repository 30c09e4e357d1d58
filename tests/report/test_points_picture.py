from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from pixelssr_geo.errors import OutputError
from pixelssr_geo.quality import assess_points
from pixelssr_geo.report.points import _draw, _shown, write_points_picture
from pixelssr_geo.scene import pixel_grid
from pixelssr_geo.testing import make_points, make_scene


@pytest.fixture
def faulty():
    """Points of which one disagrees, one is scaled and one lies outside."""
    points = make_points(30)
    points.reflectance[3] *= 100
    points.x[5] += 1e6
    points.x[7] += 24
    return points


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def drawn(points, scene):
    return _draw(points, assess_points(points, scene), scene)


def test_flagged_points_are_named_on_the_map_and_beside_the_spectra(faulty):
    told = texts(drawn(faulty, make_scene()))
    assert told.count("p4") == 1
    assert any(text.startswith("p4: units (drawn / 100") for text in told)
    assert any(text.startswith("p6: outside") for text in told)
    assert "p1" not in told


def test_a_suggested_place_is_an_arrow_and_its_stretch_is_told(faulty):
    quality = assess_points(faulty, make_scene())
    assert any(point.place.shift for point in quality.points)
    told = " ".join(texts(_draw(faulty, quality, make_scene())))
    assert "arrows: where a point agrees better" in told


def test_without_faults_there_are_no_names_and_no_arrows():
    told = " ".join(texts(drawn(make_points(12), make_scene())))
    assert "arrows" not in told
    assert "12 spectra, 0 with a warning" in told


def test_without_a_scene_there_are_spectra_alone(faulty, tmp_path):
    write_points_picture(tmp_path / "points.png", faulty, assess_points(faulty))
    assert imread(tmp_path / "points.png").ndim == 3
    assert len(drawn(faulty, None).axes) == 1


@pytest.mark.parametrize("count", [1, 2, 12])
def test_any_number_of_points_makes_a_picture(count, tmp_path):
    points = make_points(count)
    quality = assess_points(points, make_scene())
    write_points_picture(tmp_path / "points.png", points, quality, make_scene())
    assert imread(tmp_path / "points.png").shape[1] > 1000


@pytest.mark.parametrize("bands", [3, 4, 8])
def test_scenes_of_few_and_many_bands(bands, tmp_path):
    scene = make_scene(bands)
    points = make_points(12)
    quality = assess_points(points, scene)
    write_points_picture(tmp_path / "points.png", points, quality, scene)


def test_points_that_are_all_outside_or_without_values_leave_the_scene(tmp_path):
    points = make_points(4)
    points.reflectance[0] = np.nan
    lost = replace(points, x=points.x + 1e6)
    quality = assess_points(lost, make_scene())
    write_points_picture(tmp_path / "points.png", lost, quality, make_scene())


def test_names_are_taken_as_they_stand(tmp_path):
    points = make_points(6)
    points.reflectance[2] *= 100
    points = replace(points, ids=("a", "b", "$x^2_{", "d", "田间", "f"))
    quality = assess_points(points, make_scene())
    write_points_picture(tmp_path / "points.png", points, quality, make_scene())


def test_of_a_large_scene_what_lies_around_the_points_is_read():
    scene = make_scene(shape=(400, 300))
    points = make_points(6)
    x, y = pixel_grid(scene).to_world(np.arange(100, 106), np.full(6, 250))
    quality = assess_points(replace(points, x=x, y=y), scene)
    rows, cols = _shown(quality, (400, 300))
    assert rows.stop - rows.start == cols.stop - cols.start == 40
    assert rows.start <= 100
    assert rows.stop > 105
    assert cols.start <= 250 < cols.stop <= 300


def test_a_folder_that_is_missing_is_said(faulty, tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        write_points_picture(tmp_path / "none" / "p.png", faulty, assess_points(faulty))
