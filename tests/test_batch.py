"""Claims about many scenes with the same settings."""

import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pixelssr_geo import batch, reconstruction
from pixelssr_geo.batch import BatchItem, BatchOutcome, batch_items, run_batch, scene_labels
from pixelssr_geo.errors import ClusterError, OutputError, SettingsError
from pixelssr_geo.fitting import FittedModel
from pixelssr_geo.nets import create_net
from pixelssr_geo.points import write_points
from pixelssr_geo.scene import open_cube, pixel_grid
from pixelssr_geo.settings import Settings
from pixelssr_geo.spectra import get_sensor
from pixelssr_geo.testing import make_points, make_scene
from pixelssr_geo.tiling import cluster
from pixelssr_geo.training import correction
from pixelssr_geo.writers import write_scene

NAMES = ("north", "south", "east")
SHAPE = (40, 60)  # four blocks
RIDGE = Settings.of(method="ridge", wavelengths="400:1000:50")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    for seed, name in enumerate(NAMES):
        scene = make_scene(shape=SHAPE, seed=seed)
        parts = [(0, 0, scene.values)]
        write_scene(folder / f"{name}.tif", parts, pixel_grid(scene), get_sensor("GF-6 PMS"))
        write_points(make_points(8 + seed, SHAPE, seed=seed), folder / f"{name}.gpkg")
    return folder


@pytest.fixture
def folder(originals: Path, tmp_path: Path) -> Path:
    """Three scenes, each with points of its own, and a folder for the cubes."""
    shutil.copytree(originals, tmp_path, dirs_exist_ok=True)
    (tmp_path / "cubes").mkdir()
    return tmp_path


@pytest.fixture
def items(folder: Path) -> list[BatchItem]:
    scenes = [folder / f"{name}.tif" for name in NAMES]
    points = folder / "{stem}.gpkg"
    return batch_items(scenes, points=points, folder=folder / "cubes", format="zarr")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruction, "BLOCK", 32)
    monkeypatch.setattr(reconstruction, "CHUNK", 32)
    monkeypatch.setattr(correction, "create_net", partial(create_net, width=8))


class NoCluster:
    """Stands for a cluster: blocks run on threads here, and what it is asked is counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client = SimpleNamespace(status="running", wait_for_workers=lambda *_, **__: None)
        self.started = 0
        self.ran: list[str] = []
        self.original = batch.reconstruct_to_file
        monkeypatch.setattr(batch, "run_cluster", self.start)
        monkeypatch.setattr(batch, "reconstruct_to_file", self.run)

    @contextmanager
    def start(self, settings: Settings, **_: object) -> Iterator[Any]:
        self.started += 1
        yield self.client

    def run(self, scene: Any, points: Any, output: str, *rest: Any, **options: Any) -> Any:
        assert options.pop("client") in (None, self.client)
        self.ran.append(Path(output).stem.removesuffix("_hsi"))
        return self.original(scene, points, output, *rest, **options)


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> NoCluster:
    return NoCluster(monkeypatch)


def statuses(outcomes: list[BatchOutcome]) -> dict[str, str]:
    return {outcome.item.stem: outcome.status for outcome in outcomes}


def errors(outcomes: list[BatchOutcome]) -> list[str]:
    return [outcome.error for outcome in outcomes if outcome.error is not None]


def cubes(folder: Path) -> set[str]:
    return {path.name for path in (folder / "cubes").iterdir()}


class TestNames:
    def test_cubes_lie_beside_their_scenes_or_in_the_folder(self, tmp_path: Path) -> None:
        north, south = batch_items(["a/north.tif", "/b/south.zarr/"])
        assert (north.output, south.output) == ("a/north_hsi.tif", "/b/south_hsi.tif")
        (item,) = batch_items(["a/north.img"], folder=tmp_path, format="zarr")
        assert item.output == str(tmp_path / "north_hsi.zarr")

    def test_urls_stay_text(self) -> None:
        (item,) = batch_items(["a/north.tif"], folder="s3://bucket/cubes/", format="zarr")
        assert item.output == "s3://bucket/cubes/north_hsi.zarr"
        (item,) = batch_items(["s3://bucket/scenes/south.zarr"], format="zarr")
        assert (item.stem, item.output) == ("south", "s3://bucket/scenes/south_hsi.zarr")

    def test_the_stem_stands_in_the_name_of_the_points(self) -> None:
        items = batch_items(["a/n.v2.tif", "a/{0}.tif"], points="f/{stem}/{x}-{stem}.gpkg")
        assert [item.points for item in items] == ["f/n.v2/{x}-n.v2.gpkg", "f/{0}/{x}-{0}.gpkg"]

    def test_scenes_of_one_stem_are_told_apart(self) -> None:
        labels = scene_labels(batch_items(["a/north.tif", "b/north.tif", "south.tif"]))
        assert list(labels.values()) == ["a/north.tif", "b/north.tif", "south"]

    def test_a_folder_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match=r"there is no folder .*none"):
            batch_items(["a.tif"], folder=tmp_path / "none")


class TestRefused:
    @pytest.mark.parametrize(
        ("scenes", "told"),
        [
            (("north.tif", "../{here}/north.tif"), "north.tif' is given twice"),
            (("north.tif", "north.img"), "would both be .*north_hsi.tif"),
            (("north.tif", "north_hsi.tif"), "north_hsi.tif' is one of the scenes and would be"),
        ],
    )
    def test_scenes_in_each_others_way(
        self, scenes: tuple[str, ...], told: str, folder: Path
    ) -> None:
        paths = [folder / name.format(here=folder.name) for name in scenes]
        with pytest.raises((OutputError, SettingsError), match=told):
            run_batch(batch_items(paths), RIDGE)
        assert not list(folder.glob("*_hsi*"))

    def test_what_is_told_of_a_url_keeps_its_password(self) -> None:
        items = batch_items(["ftp://me:secret@host/a.zarr"] * 2)
        with pytest.raises(SettingsError, match=r"'ftp://me:\*\*\*@host/a.zarr' is given twice"):
            run_batch(items, RIDGE)

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"at_a_time": 0}, "at least 1"),
            ({"at_a_time": 2}, "on threads 1 is expected"),
            ({"workers": 2, "scheduler": "tcp://127.0.0.1:1"}, "expected one of the two"),
        ],
    )
    def test_options_that_do_not_go_together(
        self, options: dict[str, Any], told: str, items: list[BatchItem]
    ) -> None:
        with pytest.raises(SettingsError, match=told):
            run_batch(items, RIDGE, **options)


class TestOnThreads:
    def test_one_that_fails_does_not_stop_the_others(
        self, items: list[BatchItem], folder: Path
    ) -> None:
        (folder / "south.tif").write_text("no raster")
        seen: list[BatchOutcome] = []
        outcomes = run_batch(items, RIDGE, on_outcome=seen.append)
        assert statuses(outcomes) == {"north": "done", "south": "failed", "east": "done"}
        assert seen == outcomes
        assert errors(outcomes)[0].startswith(f"'{folder / 'south.tif'}' cannot be opened")
        assert cubes(folder) == {"north_hsi.zarr", "east_hsi.zarr"}
        north, south, east = outcomes
        assert south.summary is None
        assert north.summary is not None
        assert east.summary is not None
        assert (north.summary.points_used, east.summary.points_used) == (8, 10)
        assert north.seconds >= north.summary.seconds["total"] > 0

    def test_a_missing_point_file_fails_its_scene_alone(
        self, items: list[BatchItem], folder: Path
    ) -> None:
        (folder / "north.gpkg").unlink()
        outcomes = run_batch(items, RIDGE)
        assert statuses(outcomes) == {"north": "failed", "south": "done", "east": "done"}
        assert "north.gpkg" in errors(outcomes)[0]

    def test_any_other_error_is_told_with_its_name_and_logged(
        self,
        items: list[BatchItem],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        original = batch.open_scene

        def odd(path: str, **options: Any) -> Any:
            if "south" in path:
                raise ZeroDivisionError("by\nzero")
            return original(path, **options)

        monkeypatch.setattr(batch, "open_scene", odd)
        with caplog.at_level("DEBUG", "pixelssr_geo.batch"):
            outcomes = run_batch(items, RIDGE)
        assert statuses(outcomes) == {"north": "done", "south": "failed", "east": "done"}
        assert errors(outcomes) == ["ZeroDivisionError: by zero"]
        assert "Traceback" in caplog.text

    def test_a_cube_that_is_there_fails_its_scene_before_the_fit(
        self, items: list[BatchItem], folder: Path
    ) -> None:
        (folder / "cubes" / "south_hsi.zarr").write_text("precious")
        stages: list[str] = []
        outcomes = run_batch(items, RIDGE, progress=lambda stage, *_: stages.append(stage))
        assert statuses(outcomes) == {"north": "done", "south": "failed", "east": "done"}
        assert "exists" in errors(outcomes)[0]
        assert (folder / "cubes" / "south_hsi.zarr").read_text() == "precious"
        assert {stage.partition(":")[0] for stage in stages} == {"scenes", "north", "east"}

    def test_resume_skips_what_is_there_and_overwrite_replaces_it(
        self, items: list[BatchItem], folder: Path
    ) -> None:
        run_batch(items[:1], RIDGE)
        north, south, _ = (item.output for item in items)
        shutil.copytree(north, south)
        outcomes = run_batch(items, RIDGE, resume=True)
        assert statuses(outcomes) == {"north": "skipped", "south": "skipped", "east": "done"}
        np.testing.assert_array_equal(open_cube(south), open_cube(north))
        outcomes = run_batch(items, RIDGE, resume=True, overwrite=True)
        assert statuses(outcomes) == dict.fromkeys(NAMES, "done")
        assert np.any(open_cube(south).values != open_cube(north).values)

    def test_progress_names_the_scene_and_counts_them(self, items: list[BatchItem]) -> None:
        told: list[tuple[str, int, int]] = []
        run_batch(items[:2], RIDGE, progress=lambda *now: told.append(now))
        assert [now for now in told if now[0] == "scenes"] == [
            ("scenes", 0, 2), ("scenes", 1, 2), ("scenes", 2, 2),
        ]  # fmt: skip
        assert ("north: reconstructing", 4, 4) in told
        assert ("south: reading the scene", 1, 1) in told

    def test_an_interrupt_ends_them_all_and_a_resumed_batch_does_the_rest(
        self, items: list[BatchItem], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        left, seen, original = 6, list[BatchOutcome](), FittedModel.block

        def block(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(FittedModel, "block", block)
            with pytest.raises(KeyboardInterrupt) as caught:
                run_batch(items, RIDGE, on_outcome=seen.append)
        assert statuses(seen) == {"north": "done"}
        assert [".south_hsi.zarr.part" in note for note in caught.value.__notes__] == [True]
        assert cubes(folder) == {"north_hsi.zarr", ".south_hsi.zarr.part"}
        outcomes = run_batch(items, RIDGE, resume=True)
        assert statuses(outcomes) == {"north": "skipped", "south": "done", "east": "done"}
        assert cubes(folder) == {f"{name}_hsi.zarr" for name in NAMES}


class TestSideBySide:
    def test_two_run_at_a_time_and_one_of_them_is_fitted(
        self, items: list[BatchItem], no_cluster: NoCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fits = computes = most_fits = 0
        together = threading.Event()
        fit, block = reconstruction.fit, FittedModel.block

        def slow_fit(*arguments: Any, **options: Any) -> Any:
            nonlocal fits, most_fits
            fits += 1
            most_fits = max(most_fits, fits)
            if computes:
                together.set()
            try:
                return fit(*arguments, **options)
            finally:
                fits -= 1

        def slow_block(*arguments: Any) -> Any:
            nonlocal computes
            computes += 1
            together.wait(10)  # the first scene's blocks wait for the second one's fit
            return block(*arguments)

        monkeypatch.setattr(reconstruction, "fit", slow_fit)
        monkeypatch.setattr(FittedModel, "block", slow_block)
        outcomes = run_batch(items, RIDGE, workers=2)
        assert statuses(outcomes) == dict.fromkeys(NAMES, "done")
        assert together.is_set()
        assert most_fits == 1
        assert no_cluster.started == 1

    def test_outcomes_come_as_they_are_ready_and_return_in_the_order_given(
        self, items: list[BatchItem], no_cluster: NoCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        others = threading.Event()
        block = FittedModel.block

        def slow(model: FittedModel, *rest: Any) -> Any:
            if model.paired is not None and len(model.paired.labels) == 8:  # north
                others.wait(20)
            return block(model, *rest)

        monkeypatch.setattr(FittedModel, "block", slow)
        seen: list[str] = []
        callers: set[int] = set()

        def note(outcome: BatchOutcome) -> None:
            seen.append(outcome.item.stem)
            callers.add(threading.get_ident())
            if len(seen) == 2:
                others.set()

        outcomes = run_batch(items, RIDGE, workers=2, on_outcome=note)
        assert seen == ["south", "east", "north"]
        assert [outcome.item for outcome in outcomes] == items
        assert callers == {threading.get_ident()}

    def test_a_network_has_the_bits_that_it_has_alone(
        self, items: list[BatchItem], folder: Path, no_cluster: NoCluster
    ) -> None:
        options = {"steps": 1, "folds": 2, "tile": 32, "overlap": 8, "device": "cpu"}
        settings = Settings.of(method="dypro", wavelengths="400:1000:100", **options)
        run_batch(items[:2], settings, workers=2)
        (folder / "alone").mkdir()
        for item in items[:2]:
            alone = folder / "alone" / Path(item.output).name
            (outcome,) = run_batch([BatchItem(item.scene, str(alone), item.points)], settings)
            assert outcome.status == "done"
            np.testing.assert_array_equal(
                open_cube(alone).values.view("u4"), open_cube(item.output).values.view("u4")
            )

    def test_a_store_at_a_url_is_skipped_when_it_is_finished(self, no_cluster: NoCluster) -> None:
        import fsspec

        memory = fsspec.filesystem("memory")
        items = batch_items(["none/a.tif", "none/b.tif"], folder="memory://cubes", format="zarr")
        memory.pipe_file("/cubes/a_hsi.zarr/zarr.json", b"{}")
        memory.pipe_file("/cubes/b_hsi.zarr/other", b"{}")
        try:
            outcomes = run_batch(items, RIDGE, workers=2, resume=True)
        finally:
            memory.rm("/cubes", recursive=True)
        assert statuses(outcomes) == {"a": "skipped", "b": "failed"}

    def test_nothing_to_do_starts_no_cluster(
        self, items: list[BatchItem], no_cluster: NoCluster
    ) -> None:
        for item in items:
            Path(item.output).touch()
        outcomes = run_batch(items, RIDGE, workers=2, resume=True)
        assert statuses(outcomes) == dict.fromkeys(NAMES, "skipped")
        assert no_cluster.started == 0

    def test_an_interrupt_reaches_the_scenes_in_their_threads(
        self,
        items: list[BatchItem],
        folder: Path,
        no_cluster: NoCluster,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        block, main = FittedModel.block, threading.main_thread().ident
        assert main is not None
        seen: list[BatchOutcome] = []

        def slow(model: FittedModel, plan: Any, window: Any, *rest: Any) -> Any:
            if seen:
                time.sleep(0.3)
            return block(model, plan, window, *rest)

        def progress(stage: str, done: int, total: int) -> None:
            if "reconstructing" in stage and done and seen and not sent.is_set():
                sent.set()
                signal.pthread_kill(main, signal.SIGINT)

        sent = threading.Event()
        monkeypatch.setattr(FittedModel, "block", slow)
        with pytest.raises(KeyboardInterrupt) as caught:
            run_batch(items, RIDGE, workers=2, progress=progress, on_outcome=seen.append)
        done = {f"{outcome.item.stem}_hsi.zarr" for outcome in seen}
        assert len(done) < 3
        assert sent.is_set()
        kept = cubes(folder) - done
        assert kept
        assert {name[-5:] for name in kept} == {".part"}
        assert [any(name in note for name in kept) for note in caught.value.__notes__] == [
            True
        ] * len(kept)
        outcomes = run_batch(items, RIDGE, resume=True)
        assert {outcome.status for outcome in outcomes} <= {"done", "skipped"}
        assert cubes(folder) == {f"{name}_hsi.zarr" for name in NAMES}

    def test_one_that_waits_for_its_fit_is_stopped_too(
        self, items: list[BatchItem], no_cluster: NoCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def endless(*_: Any, stop: threading.Event, **__: Any) -> Any:
            no_cluster.ran.append("one")
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # type: ignore[arg-type]
            assert stop.wait(10)
            raise CancelledError

        monkeypatch.setattr(batch, "reconstruct_to_file", endless)
        with pytest.raises(KeyboardInterrupt):
            run_batch(items, RIDGE, workers=2)
        assert no_cluster.ran == ["one"]

    def test_an_error_of_the_caller_ends_the_batch(
        self, items: list[BatchItem], no_cluster: NoCluster
    ) -> None:
        def refuse(outcome: BatchOutcome) -> None:
            raise LookupError(outcome.item.stem)

        with pytest.raises(LookupError):
            run_batch(items, RIDGE, workers=2, on_outcome=refuse)

    @pytest.mark.parametrize("at_a_time", [1, 2])
    @pytest.mark.parametrize(
        ("failure", "told"),
        [
            (ClusterError("the scheduler was lost"), "the scheduler was lost"),
            (KeyError("workers"), "the cluster was lost (KeyError: 'workers'), expected"),
        ],
    )
    def test_the_loss_of_the_cluster_fails_all_that_are_left(
        self,
        at_a_time: int,
        failure: Exception,
        told: str,
        items: list[BatchItem],
        no_cluster: NoCluster,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def lose(*_: object, **__: object) -> None:
            no_cluster.ran.append("one")
            no_cluster.client.status = "closed"
            raise failure

        monkeypatch.setattr(batch, "reconstruct_to_file", lose)
        outcomes = run_batch(items, RIDGE, workers=2, at_a_time=at_a_time)
        assert len(errors(outcomes)) == 3
        assert len(set(errors(outcomes))) == 1
        assert errors(outcomes)[0].startswith(told)
        assert no_cluster.ran == ["one"]

    def test_a_cluster_without_workers_is_lost_and_one_that_answers_is_not(
        self, items: list[BatchItem], no_cluster: NoCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            no_cluster.ran.append("one")
            raise ClusterError("4 workers died one after another")

        def wait(*_: object, **__: object) -> None:
            raise TimeoutError

        monkeypatch.setattr(batch, "reconstruct_to_file", fail)
        run_batch(items, RIDGE, workers=2)
        assert len(no_cluster.ran) == 3
        no_cluster.client.wait_for_workers = wait
        run_batch(items, RIDGE, workers=2)
        assert len(no_cluster.ran) == 3 + 1


def test_one_cluster_serves_all_scenes(
    items: list[BatchItem], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    original = cluster._local_cluster

    def local_cluster(workers: int, *rest: Any) -> Any:
        started.append(workers)
        return original(workers, *rest)

    monkeypatch.setattr(cluster, "_local_cluster", local_cluster)
    (folder / "south.tif").write_text("no raster")
    outcomes = run_batch(items, RIDGE, workers=2)
    assert statuses(outcomes) == {"north": "done", "south": "failed", "east": "done"}
    assert started == [2]
    (folder / "alone").mkdir()
    alone = folder / "alone" / "north.tif"
    run_batch([BatchItem(items[0].scene, str(alone), items[0].points)], RIDGE)
    np.testing.assert_array_equal(
        open_cube(alone).values.view("u4"), open_cube(items[0].output).values.view("u4")
    )
