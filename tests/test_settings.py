import pytest
from pydantic import ValidationError

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.settings import PAPER_ONLY, Settings


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


PAPER = [
    {"net": "mst++"},
    {"prior": "gaussian"},
    {"prior_parameters": (2.0, 0.1)},
    {"label_ratio": 0.001},
    {"mask": "removed"},
    {"redraw": False},
    {"point_loss": "everywhere"},
    {"loss_weights": (1.0, 1.0, 0.0, 0.0)},
]


def test_every_training_setting_is_tried():
    assert {name for option in PAPER for name in option} == set(PAPER_ONLY)


@pytest.mark.parametrize("option", PAPER, ids=str)
def test_training_settings_belong_to_the_papers_method(option):
    with pytest.raises(SettingsError, match=f"{next(iter(option))} needs method 'paper'"):
        Settings.of(**option)
    assert Settings.of(method="paper", **option).fingerprint() != Settings().fingerprint()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"method": "ridge", "net_options": {"width": 8}}, "method 'ridge' has none"),
        ({"method": "paper", "weights": "w", "net_options": {"width": 8}}, "bring their own"),
        ({"method": "estimator", "weights": "w", "net_options": {"width": 8}}, "bring their own"),
        ({"method": "paper", "weights": "w", "label_ratio": 0.5}, "label_ratio does not go with"),
        ({"method": "paper", "weights": "w", "steps": 3}, "steps does not go with"),
        ({"method": "paper", "loss_weights": (float("nan"), 1, 1, 1)}, "finite number"),
        (
            {"method": "paper", "prior": "gamma-correlated", "prior_parameters": (1, 1)},
            "gamma-correlated",
        ),
        ({"method": "paper", "loss_weights": (1, -1, 0, 0)}, "must not be negative"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(options, told):
    with pytest.raises(SettingsError, match=told):
        Settings.of(**options)


def test_a_file_gives_what_the_same_options_give(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(
        'method = "paper"\nloss_weights = [1, 1, 0, 0]\n[net_options]\ndirections = [4, 5]\n'
    )
    options = {"loss_weights": (1, 1, 0, 0), "net_options": {"directions": [4, 5]}}
    assert Settings.of(**Settings.read(path)) == Settings.of(method="paper", **options)


@pytest.mark.parametrize("content", [b"method = paper", b"\xff\xfe", None])
def test_a_file_that_is_not_toml_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"run\.toml") as caught:
        Settings.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["ridge", "library"])
def test_weights_need_a_method_with_a_place_for_a_network(method):
    with pytest.raises(SettingsError, match=f"'{method}' has no place for a network"):
        Settings.of(method=method, weights="net.safetensors")


@pytest.mark.parametrize("method", ["product", "estimator", "dypro", "paper"])
def test_weights_go_with_a_scan_backend(method):
    options = {"weights": "net.safetensors", "net_options": {"scan_backend": "torch"}}
    assert Settings.of(method=method, **options).weights == "net.safetensors"


@pytest.mark.parametrize("method", ["product", "dypro"])
def test_what_is_trained_beside_weights_takes_options(method):
    options = {"weights": "net.safetensors", "net_options": {"width": 8}, "steps": 3}
    assert Settings.of(method=method, **options).steps == 3


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
