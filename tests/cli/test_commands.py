import json
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch

from pixelssr_geo.cli.main import COMMANDS
from pixelssr_geo.nets.scan import chosen_backend
from pixelssr_geo.points import read_points, write_points
from pixelssr_geo.scene import open_cube, open_scene
from pixelssr_geo.testing import make_points
from pixelssr_geo.training import pixel

RECONSTRUCT_KEYS = {
    "output",
    "uncertainty",
    "coverage",
    "units",
    "shape",
    "wavelengths_nm",
    "points_used",
    "points_dropped",
    "cross_validation",
    "msi_residual_rmse",
    "method",
    "blend",
    "net",
    "weights",
    "device",
    "scan_backend",
    "tiles",
    "seconds",
    "peak_rss_mb",
    "seed",
    "version",
}
EVALUATE_KEYS = {"rmse", "psnr", "mpsnr", "ssim", "sam", "sam_band", "bands", "pixels"}
RIDGE = ("--method", "ridge", "--sensor", "GF6-PMS")


def one_object(text):
    """The only JSON object in a text."""
    assert text.count("\n") == 1
    return json.loads(text)


class TestReconstruct:
    def test_the_default_output_lies_beside_the_scene(self, run, inputs):
        ended = run("reconstruct", inputs.scene, "--points", inputs.points, *RIDGE)
        assert ended.code == 0
        output = inputs.scene.with_name("scene_hsi.tif")
        assert str(output) in ended.out
        cube = open_cube(output)
        assert cube.shape == (61, 40, 50)
        error = np.sqrt(np.mean((cube.values - open_cube(inputs.cube).values) ** 2))
        assert error < 0.003
        names = {path.name for path in inputs.scene.parent.iterdir()}
        assert names == {"scene.tif", "field.gpkg", "cube.tif", "scene_hsi.tif"}

    def test_json_is_one_object_with_the_promised_keys(self, run, inputs):
        ended = run("reconstruct", inputs.scene, "--points", inputs.points, *RIDGE, "--json")
        told = one_object(ended.out)
        assert told.keys() >= RECONSTRUCT_KEYS
        assert told["shape"] == [61, 40, 50]
        assert told["points_used"] == 12
        assert told["method"] == "ridge"
        assert told["net"] is None
        assert told["blend"] is None
        assert set(told["cross_validation"]) == {"rmse", "sam", "n", "spread"}
        assert set(told["seconds"]) == {"fit", "reconstruct", "write", "total"}
        assert told["msi_residual_rmse"] < 1e-5

    def test_counts_are_calibrated_and_wrong_points_rejected(self, run, inputs, tmp_path):
        import rasterio

        with rasterio.open(inputs.scene, "r+") as dataset:
            dataset.write(4000 * dataset.read() + 150)
        asked = ("--points", inputs.points, *RIDGE)
        output = tmp_path / "new.tif"
        cured = ("--calibrate", "gain-offset", "--reject-outliers", "--scale", "1", "-o", output)
        told = one_object(run("reconstruct", inputs.scene, *asked, *cured, "--json").out)
        assert told["calibration"]["Green"]["gain"] == pytest.approx(4000, rel=0.01)
        assert told["calibration"]["Green"]["offset"] == pytest.approx(150, abs=5)
        error = open_cube(output).values - open_cube(inputs.cube).values
        assert np.sqrt(np.mean(error**2)) < 0.005
        ended = run("reconstruct", inputs.scene, *asked, *cured, "--overwrite")
        assert "calibrated  Blue: scene = " in ended.out

    @pytest.mark.parametrize("command", ["reconstruct", "batch"])
    def test_a_calibrated_cube_is_given_in_the_scenes_units(self, run, inputs, tmp_path, command):
        import rasterio

        with rasterio.open(inputs.scene, "r+") as dataset:
            dataset.write(4000 * dataset.read() + 150)
        asked = ("--points", inputs.points, *RIDGE, "--calibrate", "gain", "--units", "scene")
        output = tmp_path / f"{inputs.scene.stem}_hsi.tif"
        place = output if command == "reconstruct" else tmp_path
        told = one_object(run(command, inputs.scene, *asked, "-o", place, "--json").out)
        summary = told if command == "reconstruct" else told["scenes"][0]["summary"]
        assert summary["units"] == "scene"
        assert open_cube(output).values.mean() > 100

    def test_uncertainty_is_written_beside_the_cube(self, run, inputs, tmp_path):
        asked = ("--points", inputs.points, *RIDGE, "-o", tmp_path / "new.tif")
        error = tmp_path / "sd.zarr"
        told = one_object(
            run("reconstruct", inputs.scene, *asked, "--uncertainty", error, "--json").out
        )
        assert told["uncertainty"] == str(error)
        assert set(told["coverage"]) == {"68", "95", "n"}
        assert open_cube(error).sizes == open_cube(tmp_path / "new.tif").sizes
        ended = run("reconstruct", inputs.scene, *asked, "--uncertainty", error, "-q")
        assert (ended.code, ended.err.count("\n")) == (1, 1)
        anew = ("--uncertainty", error, "--overwrite", "--dtype", "uint16")
        ended = run("reconstruct", inputs.scene, *asked, *anew)
        assert f"uncertainty {error}" in ended.out

    def test_calibration_without_points_is_one_line(self, run, inputs):
        ended = run("reconstruct", inputs.scene, "--sensor", "GF6-PMS", "--calibrate", "gain", "-q")
        assert ended.code == 1
        assert ended.err.count("\n") == 1
        assert "give more --points" in ended.err

    def test_an_envi_file_is_written_where_its_ending_asks_for_it(self, run, inputs, tmp_path):
        output = tmp_path / "new.bsq"
        asked = ("--points", inputs.points, *RIDGE, "-o")
        assert run("reconstruct", inputs.scene, *asked, output).code == 0
        written = {path.name for path in tmp_path.iterdir() if "new" in path.name}
        assert written == {"new.bsq", "new.hdr"}
        assert run("reconstruct", inputs.scene, *asked, tmp_path / "new.tif").code == 0
        np.testing.assert_array_equal(
            open_cube(output).values, open_cube(tmp_path / "new.tif").values
        )

    def test_a_file_of_settings_serves_where_the_command_line_is_silent(
        self, run, inputs, tmp_path
    ):
        config = tmp_path / "run.toml"
        config.write_text('method = "ridge"\nwavelengths = "450:900:50"\nseed = 4\n')
        asked = ("--points", inputs.points, "--config", config, "--json", "-o", tmp_path / "c.tif")
        told = one_object(run("reconstruct", inputs.scene, *asked, "--seed", "5").out)
        assert (told["method"], told["shape"], told["seed"]) == ("ridge", [10, 40, 50], 5)

    def test_a_file_with_an_unknown_setting_is_refused(self, run, inputs, tmp_path):
        config = tmp_path / "run.toml"
        config.write_text("colour = 3\n")
        ended = run("reconstruct", inputs.scene, "--config", config)
        assert ended.code == 1
        assert "option 'colour'" in ended.err

    def test_progress_goes_to_stderr_alone(self, run, inputs):
        ended = run("reconstruct", inputs.scene, "--method", "library", "--json")
        assert "reading the scene: 1/1" in ended.err
        assert "reconstructing: 1/1" in ended.err
        one_object(ended.out)

    def test_quiet_says_nothing_but_the_result(self, run, inputs):
        ended = run("reconstruct", inputs.scene, "--method", "library", "-q", "--json")
        assert ended.err == ""
        one_object(ended.out)

    def test_output_dtype_channels_and_picture_are_as_asked(self, run, inputs, tmp_path):
        output, picture = tmp_path / "out.zarr", tmp_path / "look.png"
        asked = ("--wavelengths", "450:900:25", "--dtype", "uint16", "--quicklook", picture)
        ended = run("reconstruct", inputs.scene, "--method", "library", "-o", output, *asked)
        assert ended.code == 0
        cube = open_cube(output)
        np.testing.assert_allclose(cube["wavelength"], np.arange(450, 901, 25))
        np.testing.assert_allclose(cube * 1e4, np.rint(cube * 1e4), atol=2e-3)
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

    def test_wavelengths_like_another_cube(self, run, inputs, tmp_path):
        output = tmp_path / "out.tif"
        asked = ("--wavelengths", f"like:{inputs.cube}", "-o", output, *RIDGE)
        assert run("reconstruct", inputs.scene, "--points", inputs.points, *asked).code == 0
        scores = one_object(run("evaluate", output, inputs.cube, "--json").out)
        assert scores["psnr"] > 50

    def test_dropped_points_are_listed(self, run, inputs):
        points = make_points()
        points.x[3] += 1e5
        write_points(points, inputs.points)
        ended = run("reconstruct", inputs.scene, "--points", inputs.points, *RIDGE)
        assert "11 used, 1 dropped" in ended.out
        assert "p4 dropped: outside" in ended.out

    def test_pixels_that_are_not_finite_are_handled(self, run, inputs, tmp_path):
        import rasterio

        with rasterio.open(inputs.scene, "r+") as dataset:
            values = dataset.read()
            values[0, 3, 4], values[1, 5, 6] = np.inf, np.nan
            dataset.write(values)
        ended = run("reconstruct", inputs.scene, "--points", inputs.points, *RIDGE)
        assert ended.code == 0
        missing = np.isnan(open_cube(tmp_path / "scene_hsi.tif").values).all(0)
        assert np.argwhere(missing).tolist() == [[3, 4], [5, 6]]

    def test_integers_without_scale_warn_in_one_line(self, run, inputs, tmp_path):
        import rasterio

        with rasterio.open(inputs.scene) as dataset:
            profile = {**dataset.profile, "dtype": "uint16", "nodata": 0, "predictor": 2}
            values = np.rint(dataset.read() * 1e4).astype("u2")
        path = tmp_path / "counts.tif"
        with rasterio.open(path, "w", **profile) as dataset:
            dataset.write(values)
        ended = run("reconstruct", path, "--sensor", "gf6-pms", "--method", "library", "-q")
        assert ended.code == 0
        assert ended.err.startswith("Warning: ")
        assert ended.err.count("\n") == 1
        assert "--scale" in ended.err

    def test_the_papers_method_trains_and_its_weights_serve_again(
        self, run, inputs, tmp_path, monkeypatch
    ):
        # Patches as small as the network allows: what is learnt does not matter here.
        monkeypatch.setattr(pixel, "PixelPlan", partial(pixel.PixelPlan, patch=16, unlabelled=1))
        weights, small = tmp_path / "net.safetensors", ("--wavelengths", "450:850:50")
        write_points(make_points(3), inputs.points)
        asked = ("--points", inputs.points, *small, "--steps", "1", "--device", "cpu")
        ended = run("train", inputs.scene, *asked, "-o", weights)
        assert ended.code == 0
        assert ended.out.startswith(f"weights     {weights}")
        output = tmp_path / "out.tif"
        asked = ("--method", "paper", "--weights", weights, *small, "--device", "cpu")
        asked = (*asked, "--tile", "64", "--overlap", "8", "-o", output, "--json")
        told = one_object(run("reconstruct", inputs.scene, *asked).out)
        assert told["net"] == "dypro-mamba"
        assert len(told["weights"]) == 16
        assert told["scan_backend"]
        assert np.isfinite(open_cube(output).values).all()


class TestEvaluate:
    def test_json_has_the_promised_keys(self, run, inputs):
        told = one_object(run("evaluate", inputs.cube, inputs.cube, "--json").out)
        assert set(told) == EVALUATE_KEYS
        assert told["pixels"] == 2000
        assert told["psnr"] is None, "JSON has no infinity"

    def test_a_line_a_metric_for_people(self, run, inputs):
        ended = run("evaluate", inputs.cube, inputs.cube)
        assert ended.code == 0
        assert {line.split()[0] for line in ended.out.splitlines()} == EVALUATE_KEYS

    def test_variants_are_told_when_asked_for(self, run, inputs):
        told = one_object(run("evaluate", inputs.cube, inputs.cube, "--variants", "--json").out)
        assert set(told) > EVALUATE_KEYS
        assert told["psnr_elementwise"] == pytest.approx(120)
        ended = run("evaluate", inputs.cube, inputs.cube, "--variants")
        lines = dict(line.split(maxsplit=1) for line in ended.out.splitlines())
        assert set(lines) == set(told)
        assert lines["psnr_elementwise"] == "120 dB (eq. 11)"

    def test_points_are_left_out(self, run, inputs):
        asked = ("--exclude-points", inputs.points, "--json")
        assert one_object(run("evaluate", inputs.cube, inputs.cube, *asked).out)["pixels"] == 1988


class TestSimulate:
    def test_scene_points_and_reference_are_written(self, run, inputs, tmp_path):
        folder = tmp_path / "made"
        asked = ("--sensor", "GF6-PMS", "--points", "7", "-o", folder, "--json")
        told = one_object(run("simulate", inputs.cube, *asked).out)
        assert open_scene(told["scene"]).shape == (4, 40, 50)
        assert len(read_points(told["points"])) == 7
        assert open_cube(told["reference"]).shape == (61, 40, 50)
        assert told["noise"] > 0

    def test_people_are_told_where(self, run, inputs, tmp_path):
        asked = ("--sensor", "GF6-PMS", "--points", "7", "--snr", "0", "-o", tmp_path / "made")
        ended = run("simulate", inputs.cube, *asked)
        assert [line.split()[0] for line in ended.out.splitlines()] == [
            "scene",
            "points",
            "reference",
        ]


class TestPoints:
    def test_inspect_says_what_was_recognised(self, run, inputs):
        ended = run("points", "inspect", inputs.points)
        assert ended.code == 0
        assert "12 points, 61 wavelengths 400-1000 nm" in ended.out
        assert "reflectance 0-1" in ended.out

    def test_inspect_on_a_scene_says_what_becomes_of_each(self, run, inputs):
        asked = ("--scene", inputs.scene, "--json")
        told = one_object(run("points", "inspect", inputs.points, *asked).out)
        assert [point["id"] for point in told["used"]] == [f"p{n}" for n in range(1, 13)]
        assert told["dropped"] == []
        ended = run("points", "inspect", inputs.points, "--scene", inputs.scene)
        assert "12 used, 0 dropped" in ended.out


class TestOthers:
    def test_info_is_one_object(self, run):
        told = one_object(run("info", "--json").out)
        assert {"versions", "devices", "scan_backends", "weights", "sensors"} <= set(told)
        assert {"hash", "data", "terms", "measured"} <= set(told["weights"]["builtin"])
        assert told["versions"]["torch"] == torch.__version__
        assert len(told["sensors"]["GF-6 PMS"]) == 4

    def test_info_says_of_every_scan_backend_whether_it_is_there_and_why_not(
        self, run, monkeypatch
    ):
        monkeypatch.delenv("PIXELSSR_SCAN_BACKEND", raising=False)
        told = one_object(run("info", "--json").out)
        assert list(told["scan_backends"]) == [
            "mamba-ssm", "triton", "cpp", "numba", "torch", "reference",
        ]  # fmt: skip
        assert "available on cpu" in told["scan_backends"]["torch"]
        if not torch.cuda.is_available():
            assert told["scan_backends"]["mamba-ssm"] == "needs a CUDA device"
        assert told["scan_backend"]["cpu"] == chosen_backend()
        monkeypatch.setenv("PIXELSSR_SCAN_BACKEND", "warp")
        assert "scan       on cpu: none: scan backend 'warp' is not known" in run("info").out

    def test_a_scan_backend_that_is_not_there_is_refused_in_one_line(
        self, run, inputs, monkeypatch
    ):
        monkeypatch.setenv("PIXELSSR_SCAN_BACKEND", "mamba-ssm")
        asked = ("--method", "paper", "--steps", "1", "--device", "cpu", "-q")
        ended = run("reconstruct", inputs.scene, "--points", inputs.points, *asked)
        assert ended.code == 1
        assert ended.err.count("\n") == 1
        assert "scan backend 'mamba-ssm'" in ended.err
        assert "needs a CUDA device" in ended.err

    def test_info_lists_bands_when_asked(self, run):
        assert "Blue" not in run("info").out
        listed = run("info", "--sensors").out
        assert "Blue         centre  485.0 nm, FWHM  70.0 nm" in listed
        assert "CRESDA band table of GF-6" in listed
        assert "Gaofen-6 PMS" in listed

    def test_info_tells_names_and_sources_of_sensors(self, run):
        told = one_object(run("info", "--json").out)
        assert (
            told["sensors"].keys() == told["sensor_names"].keys() == told["sensor_sources"].keys()
        )
        assert "S2A" in told["sensor_names"]["Sentinel-2A"]
        assert told["sensor_sources"]["Sentinel-2A"].startswith("ESA Sentinel-2")

    def test_nets_tells_parameters_and_cost(self, run):
        rows = one_object(run("nets", "--tile", "8", "--json").out)
        dypro = next(row for row in rows if row["net"] == "dypro-mamba")
        assert dypro["parameters"] == pytest.approx(0.606e6, rel=0.01)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_has_help(self, run, command):
        ended = run(command, "--help")
        assert ended.code == 0
        assert command in ended.out
        assert ended.err == ""

    def test_the_version_is_told(self, run):
        from importlib.metadata import version

        assert version("pixelssr-geo") in run("--version").out


class TestUsage:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("reconstrukt",),
            ("reconstruct",),
            ("reconstruct", "scene.tif", "--method", "magic"),
            ("reconstruct", "scene.tif", "--steps", "none"),
            ("reconstruct", "scene.tif", "--colour", "red"),
            ("simulate", "cube.tif", "--sensor", "RGB", "-o", "made"),
            ("demo", "made", "--size", "8"),
        ],
        ids=" ".join,
    )
    def test_usage_errors_exit_with_2(self, run, arguments, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        ended = run(*arguments)
        assert ended.code == 2
        assert ended.out == ""
        assert "Usage" in ended.err
        assert list(tmp_path.iterdir()) == []

    def test_an_interrupt_exits_with_130_and_leaves_nothing(self, run, inputs, monkeypatch):
        from pixelssr_geo import reconstruction

        def interrupt(*arguments, **options):
            raise KeyboardInterrupt

        monkeypatch.setattr(reconstruction, "write_region", interrupt)
        before = sorted(inputs.scene.parent.rglob("*"))
        ended = run("reconstruct", inputs.scene, "--method", "library", "-q")
        assert ended.code == 130
        assert ended.err.strip() == "Interrupted: no unfinished file is left"
        assert sorted(inputs.scene.parent.rglob("*")) == before


class TestProcess:
    """The same through the shell, once each way."""

    def command(self, *arguments):
        return subprocess.run(
            [sys.executable, "-m", "pixelssr_geo.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONWARNINGS": "default"},
        )

    def test_a_result_on_stdout_and_nothing_stray_on_stderr(self, inputs):
        ended = self.command("reconstruct", inputs.scene, "--method", "library", "-q", "--json")
        assert ended.returncode == 0
        assert ended.stderr == ""
        one_object(ended.stdout)

    def test_an_error_is_one_line(self, inputs):
        inputs.scene.write_bytes(inputs.scene.read_bytes()[:9000])
        ended = self.command("reconstruct", inputs.scene, "--sensor", "GF6-PMS", "-q")
        assert ended.returncode == 1
        assert ended.stdout == ""
        assert ended.stderr.startswith("Error: ")
        assert ended.stderr.count("\n") == 1
