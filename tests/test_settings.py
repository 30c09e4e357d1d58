import pytest
from pydantic import ValidationError

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.settings import Settings


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"method": "magic"}, "method"),
        ({"prior": "beta"}, "prior"),
        ({"fwhm": 0}, "fwhm"),
        ({"steps": 0}, "steps"),
        ({"folds": 1}, "folds"),
        ({"tile": 4}, "tile"),
        ({"overlap": -1}, "overlap"),
        ({"batch_size": 0}, "batch_size"),
        ({"device": "gpu"}, "device"),
        ({"seed": -1}, "seed"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_out_of_range_or_unknown_is_named_in_one_line(options, name):
    with pytest.raises(SettingsError, match=f"option '{name}'") as caught:
        Settings.of(**options)
    assert "\n" not in str(caught.value)


def test_tiles_must_be_larger_than_their_overlap():
    with pytest.raises(SettingsError, match="overlap 32 must be smaller than tile 32"):
        Settings.of(tile=32, overlap=32)


@pytest.mark.parametrize("method", ["product", "estimator", "ridge", "library", "dypro"])
def test_weights_belong_to_the_papers_method(method):
    with pytest.raises(SettingsError, match=f"weights need method 'paper', not '{method}'"):
        Settings.of(method=method, weights="net.safetensors")
    assert Settings.of(method="paper", weights="net.safetensors").weights == "net.safetensors"


def test_settings_do_not_change():
    with pytest.raises(ValidationError):
        Settings.of().seed = 3


def test_the_fingerprint_tells_settings_apart():
    assert Settings.of().fingerprint() == Settings.of(seed=0).fingerprint()
    others = [
        Settings.of(seed=1),
        Settings.of(method="ridge"),
        Settings.of(wavelengths="400:900:5"),
    ]
    assert len({settings.fingerprint() for settings in (Settings.of(), *others)}) == 4
    assert len(Settings.of().fingerprint()) == 16
