import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest

from pixelssr_geo.errors import ResponseError, UnknownSensorError
from pixelssr_geo.spectra import get_sensor, list_sensors

# Published band limits describe these less well: measured responses of the WorldView NIR2 band
# lean to one side, and GF-6's first red-edge band lies 9.5 nm short of its nominal place, on the
# flank of green spectra.
SHIFTED_NM = {("WorldView-2", "NIR2"): 16.0}
ERRING = {("GF-6 WFV", "RedEdge1"): 0.025}


def benchmark():
    path = Path(__file__).parents[1] / "benchmarks" / "sensor_responses.py"
    spec = importlib.util.spec_from_file_location("sensor_responses", path)
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up by name
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("sensor", list_sensors(), ids=lambda sensor: sensor.name)
def test_every_name_and_alias_finds_its_sensor(sensor):
    for word in (sensor.name, *sensor.aliases):
        for spelled in (word, word.upper(), word.lower().replace("-", "_"), word.replace(" ", "")):
            assert get_sensor(spelled).names == sensor.bands
    assert sensor.source


def test_no_alias_means_two_sensors():
    plain = [
        "".join(letter for letter in word.lower() if letter.isalnum())
        for sensor in list_sensors()
        for word in {sensor.name, *sensor.aliases}
    ]
    assert len(plain) == len(set(plain))


@pytest.mark.parametrize("name", ["GF6-PMS", "gf-6 pms", "GF6_PMS", "Gaofen 6 PMS"])
def test_forgiving_names_of_the_documented_example(name):
    assert get_sensor(name).names == ("Blue", "Green", "Red", "NIR")


@pytest.mark.parametrize(
    ("name", "bands"),
    [
        ("Sentinel-2A", "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B10 B11 B12"),
        ("Landsat 8 OLI", "B1 B2 B3 B4 B5 B6 B7"),
        ("GF-6 WFV", "Blue Green Red NIR RedEdge1 RedEdge2 Purple Yellow"),
        ("WorldView-3", "Coastal Blue Green Yellow Red RedEdge NIR1 NIR2"),
        ("PlanetScope 4-band", "Blue Green Red NIR"),
        ("PlanetScope 8-band", "CoastalBlue Blue Green1 Green Yellow Red RedEdge NIR"),
        ("RGB", "Red Green Blue"),
    ],
)
def test_bands_come_in_the_order_of_the_product(name, bands):
    assert get_sensor(name).names == tuple(bands.split())


def test_bands_behind_a_colon_are_selected():
    response = get_sensor("s2a: B8, b2")
    assert response.names == ("B8", "B2")
    np.testing.assert_allclose(response.centres_nm, [832.8, 492.4], atol=0.01)


def test_a_band_that_the_sensor_lacks_is_refused():
    with pytest.raises(ResponseError, match="B13"):
        get_sensor("S2A:B13")


def test_an_unknown_name_is_answered_with_near_ones_and_all():
    with pytest.raises(UnknownSensorError, match=r"did you mean .*Sentinel-2A") as caught:
        get_sensor("sentinal2a")
    assert all(sensor.name in str(caught.value) for sensor in list_sensors())


@pytest.mark.parametrize("name", ["", "---", ":"])
def test_an_empty_name_is_unknown(name):
    with pytest.raises(UnknownSensorError):
        get_sensor(name)


def test_a_sensor_response_survives_pickling():
    response = pickle.loads(pickle.dumps(get_sensor("RGB")))
    assert response.names == ("Red", "Green", "Blue")


def test_shipped_responses_are_near_measured_ones(shared_data):
    for row in benchmark().compare(shared_data):
        band = (row.sensor, row.band)
        assert abs(row.shift_nm) < SHIFTED_NM.get(band, 10.0), band
        assert row.rms < ERRING.get(band, 0.01), band
        if row.sensor.startswith(("Sentinel", "Landsat")):
            assert abs(row.shift_nm) < 1, band
            assert row.rms < 0.001, band
