import inspect
import json
import subprocess
import sys

import pytest

import pixelssr_geo

HEAVY = ("torch", "distributed", "geopandas", "rasterio", "matplotlib")


def loaded_after(code):
    """Which heavy libraries a fresh process has loaded after the code."""
    ask = f"import json, sys; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{ask}"], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_the_package_imports_nothing_heavy():
    assert loaded_after("import pixelssr_geo, xarray; xarray.DataArray([1]).pixelssr") == []


def test_help_imports_nothing_heavy():
    code = (
        "from pixelssr_geo.cli.main import main\n"
        "for name in ('', 'reconstruct', 'train', 'experiment accuracy'):\n"
        "    try: main([*name.split(), '--help'])\n"
        "    except SystemExit as end: assert end.code == 0, end.code\n"
    )
    assert loaded_after(code) == []


@pytest.mark.parametrize("name", pixelssr_geo.__all__)
def test_a_public_name_is_the_same_callable_every_time(name):
    # A module of the same name would take its place at the second access.
    first, second = getattr(pixelssr_geo, name), getattr(pixelssr_geo, name)
    assert callable(first)
    assert not inspect.ismodule(first)
    assert first is second
    assert first.__doc__


def test_dir_lists_the_public_names():
    assert set(pixelssr_geo.__all__) <= set(dir(pixelssr_geo))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'reconstrukt'"):
        _ = pixelssr_geo.reconstrukt


def test_every_error_is_a_pixelssr_error_and_survives_pickling():
    import pickle

    from pixelssr_geo import errors

    found = [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, Exception)
    ]
    assert len(found) > 10
    for kind in found:
        assert issubclass(kind, (errors.PixelSSRError, Warning))
        again = pickle.loads(pickle.dumps(kind("found, expected, cure")))
        assert type(again) is kind
        assert str(again) == "found, expected, cure"
