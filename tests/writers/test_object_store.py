"""Claims about cubes on object stores, in memory and behind a local server that speaks S3."""

import pickle
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ProcessPoolExecutor
from contextlib import AbstractContextManager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import dask
import fsspec
import numpy as np
import pytest
import xarray as xr
from fsspec.implementations.memory import MemoryFileSystem

from pixelssr_geo.errors import OutputError, ResumeError, SceneReadError
from pixelssr_geo.place import place, place_name, place_suffix, shown
from pixelssr_geo.scene import open_cube
from pixelssr_geo.testing import make_cube
from pixelssr_geo.writers import (
    CubeTemplate,
    check_output,
    create_store,
    new_output,
    publish_store,
    staged_output,
    staging_folder,
    write_region,
    write_zarr,
)

URL = "memory://folder/cube.zarr"
SHAPE = (64, 48)


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty memory:// and an empty working directory."""
    monkeypatch.chdir(tmp_path)
    MemoryFileSystem.store.clear()
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(scope="module")
def processes(s3: str) -> Iterator[ProcessPoolExecutor]:
    """Two other processes, which know nothing but the environment."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.fixture
def cube() -> xr.DataArray:
    return make_cube(SHAPE, wavelengths="400:700:100", nodata_hole=(slice(0, 3), slice(0, 5)))


def template_of(cube: xr.DataArray) -> CubeTemplate:
    return CubeTemplate.from_cube(cube)


def objects(url: str = "memory://folder") -> set[str]:
    """Keys of all objects below a URL."""
    system, path = fsspec.core.url_to_fs(url)
    system.invalidate_cache()
    return {name.removeprefix(path) for name in system.find(path)}


def half(url: str, cube: xr.DataArray, dtype: Any = "float32") -> None:
    """Create a store and write the upper half of the cube to it."""
    create_store(url, template_of(cube), chunk=32, dtype=dtype)
    write_region(url, cube.values[:, :32], 0, 0)


def other_half(url: str, cube: xr.DataArray) -> None:
    write_region(url, cube.values[:, 32:], 32, 0)


def fail(
    output: AbstractContextManager[Any],
    error: BaseException,
    work: Callable[[Any], object] = lambda _: None,
) -> None:
    """Begin an output, work on it, and fail."""
    with output as given:
        work(given)
        raise error


def interrupted(cube: xr.DataArray, url: str = URL) -> KeyboardInterrupt:
    """Leave an unfinished run, and return what ended it."""

    def work(staging: Any) -> None:
        half(staging.result, cube)
        (staging.folder / "blocks.jsonl").write_text("half")
        staging.keep = True

    with pytest.raises(KeyboardInterrupt) as caught:
        fail(staged_output(url, overwrite=False, resume=False), KeyboardInterrupt(), work)
    return caught.value


class TestPlaces:
    @pytest.mark.parametrize(
        ("where", "found", "name", "suffix"),
        [
            ("s3://bucket/a/cube.zarr/", "s3://bucket/a/cube.zarr", "cube.zarr", ".zarr"),
            ("memory://Cube.ZARR", "memory://Cube.ZARR", "Cube.ZARR", ".zarr"),
            ("https://host/a.zarr?x=1/2.3", "https://host/a.zarr?x=1/2.3", "a.zarr", ".zarr"),
            ("file:///data/cube.zarr", Path("/data/cube.zarr"), "cube.zarr", ".zarr"),
            ("out/cube.tif", Path("out/cube.tif"), "cube.tif", ".tif"),
            (Path("cube.bsq"), Path("cube.bsq"), "cube.bsq", ".bsq"),
            ("memory://", "memory://", "", ""),
        ],
    )
    def test_urls_stay_text_and_all_else_is_a_path(
        self, where: str | Path, found: str | Path, name: str, suffix: str
    ) -> None:
        assert place(where) == found
        assert type(place(where)) is type(found) or isinstance(found, Path)
        assert place(place(where)) == found
        assert (place_name(where), place_suffix(where)) == (name, suffix)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("sftp://me:se/cret@host", "sftp://me:se/cret@host"),  # no password but a path
            ("'sftp://me:s@cr'et@host/c.zarr'", "'sftp://me:***@host/c.zarr'"),
            ("sftp://:secret@host:22/c.zarr", "sftp://:***@host:22/c.zarr"),
            ("https://host:80/a@b.zarr", "https://host:80/a@b.zarr"),
            ("abfs://box@account.net/c.zarr", "abfs://box@account.net/c.zarr"),
            ("https://h/c.zarr?sig=secret: 404", "https://h/c.zarr?*** 404"),
            ("is it s3://b/c.zarr? yes", "is it s3://b/c.zarr? yes"),
            (Path("a/b?c"), "a/b?c"),
        ],
    )
    def test_what_is_told_holds_no_password(self, text: object, told: str) -> None:
        assert shown(text) == told


class TestChecks:
    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("memory://cube.tif", r"only a Zarr store .*write it locally and copy it"),
            ("memory://cube.bsq", r"only a Zarr store .*write it locally and copy it"),
            ("memory://folder", r"only a Zarr store"),
            ("nowhere://cube.zarr", r"Protocol not known: nowhere.*check the URL"),
            ("simplecache::memory://cube.zarr", r"several protocols"),
            ("https://me:secret@host/cube.zarr?sig=secret", r"query"),
            ("memory://a/cube[1].zarr", r"wildcards"),
        ],
    )
    def test_urls_that_can_hold_no_store_are_refused(self, url: str, message: str) -> None:
        with pytest.raises(OutputError, match=message) as caught:
            check_output(url)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert check_output("memory://free.zarr") is None

    def test_a_whole_bucket_is_refused(self) -> None:
        pytest.importorskip("s3fs", reason="s3fs is not installed")
        with pytest.raises(OutputError, match=r"'cubes\.zarr' is a whole bucket"):
            check_output("s3://cubes.zarr", overwrite=True)

    @pytest.mark.parametrize(
        ("protocol", "cure"),
        [("s3", r'pip install "pixelssr-geo\[s3\]"'), ("strange", "pip install no_such_package")],
    )
    def test_a_missing_package_is_named_with_its_cure(
        self, protocol: str, cure: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from fsspec.registry import _registry, known_implementations

        unknown = {"class": "no_such_package.System", "err": "Install it"}
        monkeypatch.setitem(known_implementations, "strange", unknown)
        monkeypatch.setitem(sys.modules, "s3fs", None)  # type: ignore[arg-type]
        monkeypatch.delitem(_registry, "s3", raising=False)
        with pytest.raises(OutputError, match=cure):
            check_output(f"{protocol}://bucket/cube.zarr")
        with pytest.raises(SceneReadError, match=cure):
            open_cube(f"{protocol}://bucket/cube.zarr")

    def test_a_store_is_replaced_only_on_demand(self, cube: xr.DataArray) -> None:
        assert write_zarr(cube, URL) == URL
        for write in (check_output, lambda url: write_zarr(cube, url)):
            with pytest.raises(OutputError, match=r"exists.*overwrite=True"):
                write(URL)
        check_output(URL, overwrite=True)

    def test_the_objects_of_others_are_never_touched(self, cube: xr.DataArray) -> None:
        fsspec.filesystem("memory").pipe_file("/folder/cube.zarr/photo.jpg", b"1")
        for write in (check_output, lambda url, **flags: write_zarr(cube, url, **flags)):
            with pytest.raises(OutputError, match="no Zarr store"):
                write(URL, overwrite=True)
        with pytest.raises(OutputError, match="no Zarr store"):
            create_store(URL, template_of(cube))
        assert objects() == {"/cube.zarr/photo.jpg"}

    def test_the_placeholder_of_an_empty_folder_is_nothing(
        self, cube: xr.DataArray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        entry = {"name": "/folder/cube.zarr/", "size": 0, "type": "directory"}
        monkeypatch.setattr(MemoryFileSystem, "ls", lambda *_, **__: [entry])
        check_output(URL)

    def test_no_permission_is_one_line_and_leaves_nothing(
        self, cube: xr.DataArray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError("Access Denied\nfor you")

        monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
        message = "^cannot write 'memory://.*Access Denied for you.*credentials and what they"
        with (
            pytest.raises(OutputError, match=message),
            staged_output(URL, overwrite=False, resume=False),
        ):
            raise AssertionError("not reached")
        with pytest.raises(OutputError, match=message):
            write_zarr(cube, URL)
        assert not objects()
        assert not list(Path().iterdir())


class TestVisibility:
    def test_a_store_is_seen_when_it_is_published_and_not_before(self, cube: xr.DataArray) -> None:
        half(URL, cube)
        assert "/cube.zarr/zarr.json" not in objects()
        with pytest.raises(SceneReadError, match="cannot be opened as a Zarr store"):
            open_cube(URL)
        other_half(URL, cube)
        publish_store(URL)
        np.testing.assert_array_equal(open_cube(URL).values, cube.values)
        assert not any("unfinished" in name for name in objects())

    def test_a_store_is_the_one_on_disk(self, cube: xr.DataArray, tmp_path: Path) -> None:
        cube.attrs["config"] = "abc"
        write_zarr(cube, URL, dtype="uint16", chunk=32)
        write_zarr(cube, tmp_path / "c.zarr", dtype="uint16", chunk=32)
        on_disk = {
            f"/cube.zarr/{path.relative_to(tmp_path / 'c.zarr')}": path.read_bytes()
            for path in (tmp_path / "c.zarr").rglob("*")
            if path.is_file()
        }
        assert objects() == set(on_disk)
        system = fsspec.filesystem("memory")
        assert {name: system.cat_file(f"/folder{name}") for name in on_disk} == on_disk

    def test_a_lazy_cube_is_written_through_the_accessor(self, cube: xr.DataArray) -> None:
        import pixelssr_geo  # noqa: F401  (registers .pixelssr)

        cube.chunk(y=32, x=32).pixelssr.to_zarr(URL, chunk=16)
        xr.testing.assert_identical(open_cube(URL).load().drop_attrs(), cube.drop_attrs())

    def test_what_was_never_created_is_not_published(self) -> None:
        with pytest.raises(OutputError, match="no store that could be published"):
            publish_store(URL)
        with (
            pytest.raises(OutputError, match="no store that could be published"),
            new_output(URL, overwrite=False),
        ):
            pass
        assert not objects()

    def test_publishing_a_store_on_disk_changes_nothing(
        self, cube: xr.DataArray, tmp_path: Path
    ) -> None:
        create_store(tmp_path / "c.zarr", template_of(cube))
        publish_store(tmp_path / "c.zarr")
        assert open_cube(tmp_path / "c.zarr").shape == cube.shape

    @pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()])
    def test_a_failure_leaves_no_object(self, cube: xr.DataArray, error: BaseException) -> None:
        with pytest.raises(type(error)):
            fail(new_output(URL, overwrite=False), error, lambda url: half(url, cube))
        assert not objects()

    def test_what_cannot_be_removed_is_told(
        self, cube: xr.DataArray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def gone(*_: object, **__: object) -> None:
            raise ConnectionError("the network is down")

        def work(url: str) -> None:
            half(url, cube)
            monkeypatch.setattr(MemoryFileSystem, "rm", gone)

        with pytest.raises(RuntimeError, match=r"^no") as caught:
            fail(new_output(URL, overwrite=False), RuntimeError("no"), work)
        (note,) = caught.value.__notes__
        assert "the network is down" in note
        assert URL in note

    def test_the_old_store_stays_until_the_new_one_is_created(self, cube: xr.DataArray) -> None:
        write_zarr(cube, URL)
        before = objects()
        seen: list[xr.DataArray] = []
        with pytest.raises(RuntimeError):
            fail(
                new_output(URL, overwrite=True),
                RuntimeError(),
                lambda url: seen.append(open_cube(url).load()),
            )
        np.testing.assert_array_equal(seen[0].values, cube.values)
        assert objects() == before
        with new_output(URL, overwrite=True) as url:
            half(str(url), cube)
            assert "/cube.zarr/zarr.json" not in objects()
        with pytest.raises(RuntimeError):
            fail(new_output(URL, overwrite=True), RuntimeError(), lambda url: half(url, cube))
        assert not objects()

    def test_nothing_of_an_old_store_remains(self, cube: xr.DataArray) -> None:
        write_zarr(cube, URL, chunk=16)
        fsspec.filesystem("memory").pipe_file("/folder/cube.zarr/old/zarr.json", b"{}")
        brighter = cube + np.float32(1)
        write_zarr(brighter, URL, chunk=32, overwrite=True)
        np.testing.assert_array_equal(open_cube(URL).values, brighter.values)
        assert len([name for name in objects() if "/c/" in name and "reflectance" in name]) == 4
        assert "/cube.zarr/old/zarr.json" not in objects()

    def test_a_store_that_cannot_be_created_leaves_nothing(
        self, cube: xr.DataArray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError("quota exceeded")

        monkeypatch.setattr(MemoryFileSystem, "pipe", full)
        with pytest.raises(OutputError, match="quota exceeded"):
            create_store(URL, template_of(cube))
        assert not objects()


class TestStaging:
    def test_a_run_ends_with_the_store_and_nothing_else(self, cube: xr.DataArray) -> None:
        with staged_output(URL, overwrite=False, resume=False) as staging:
            assert staging.result == URL
            assert staging.folder == staging_folder(URL)
            assert staging.folder.is_dir()
            half(URL, cube)
            other_half(URL, cube)
        np.testing.assert_array_equal(open_cube(URL).values, cube.values)
        assert not list(Path().iterdir())

    def test_on_disk_the_result_is_left_in_the_folder(self, tmp_path: Path) -> None:
        with staged_output(tmp_path / "a.txt", overwrite=False, resume=False) as staging:
            assert staging.result == tmp_path / ".a.txt.part" / "a.txt"
            Path(staging.result).write_text("done")
        assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]

    def test_urls_of_one_name_have_folders_of_their_own_and_no_passwords(self) -> None:
        folders = {staging_folder(f"s3://{bucket}/cube.zarr") for bucket in "ab"}
        assert len(folders) == 2
        assert {folder.parent for folder in folders} == {Path.cwd()}
        assert all(folder.name.startswith(".cube.zarr-") for folder in folders)
        one, two = (staging_folder(f"sftp://me:{word}@h/cube.zarr") for word in ("one", "two"))
        assert one == two

    def test_a_failure_leaves_nothing(self, cube: xr.DataArray) -> None:
        def work(staging: Any) -> None:
            half(staging.result, cube)
            staging.keep = True

        with pytest.raises(RuntimeError):
            fail(staged_output(URL, overwrite=False, resume=False), RuntimeError(), work)
        assert not objects()
        assert not list(Path().iterdir())

    def test_an_interrupted_run_is_kept_and_resumed(self, cube: xr.DataArray) -> None:
        (note,) = interrupted(cube).__notes__
        assert "--resume goes on with it" in note
        assert URL in note
        assert "/cube.zarr/zarr.json" not in objects()
        with staged_output(URL, overwrite=False, resume=True) as staging:
            assert (staging.folder / "blocks.jsonl").read_text() == "half"
            other_half(URL, cube)
        np.testing.assert_array_equal(open_cube(URL).values, cube.values)
        assert not list(Path().iterdir())

    def test_a_run_that_was_given_up_is_kept(self, cube: xr.DataArray) -> None:
        def work(staging: Any) -> None:
            half(staging.result, cube)
            staging.keep = True

        with pytest.raises(CancelledError) as caught:
            fail(staged_output(URL, overwrite=False, resume=False), CancelledError(), work)
        assert "--resume goes on" in caught.value.__notes__[0]
        with staged_output(URL, overwrite=False, resume=True):
            other_half(URL, cube)
        np.testing.assert_array_equal(open_cube(URL).values, cube.values)

    def test_an_interrupt_before_anything_is_done_leaves_nothing(self, cube: xr.DataArray) -> None:
        output = staged_output(URL, overwrite=False, resume=False)
        with pytest.raises(KeyboardInterrupt):
            fail(output, KeyboardInterrupt(), lambda _: half(URL, cube))
        assert not objects()
        assert not list(Path().iterdir())

    def test_an_unfinished_run_is_not_lost_by_accident(self, cube: xr.DataArray) -> None:
        interrupted(cube)
        before = objects()
        with (
            pytest.raises(OutputError, match="--resume to go on with it, or --overwrite"),
            staged_output(URL, overwrite=False, resume=False),
        ):
            raise AssertionError("not reached")
        with pytest.raises(OutputError, match="overwrite=True"):
            write_zarr(cube, URL)
        with (
            pytest.raises(ResumeError),
            staged_output(URL, overwrite=False, resume=True),
        ):
            raise ResumeError("of another run")
        assert objects() == before
        with staged_output(URL, overwrite=False, resume=True):
            other_half(URL, cube)

    @pytest.mark.parametrize("resume", [False, True])
    def test_from_another_folder_a_run_is_neither_resumed_nor_lost(
        self, cube: xr.DataArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool
    ) -> None:
        interrupted(cube)
        before = objects()
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        with (
            pytest.raises(OutputError, match="begun in another folder"),
            staged_output(URL, overwrite=False, resume=resume),
        ):
            raise AssertionError("not reached")
        assert objects() == before

    def test_an_unfinished_run_can_be_started_anew(self, cube: xr.DataArray) -> None:
        interrupted(cube)
        with staged_output(URL, overwrite=True, resume=False) as staging:
            assert not (staging.folder / "blocks.jsonl").exists()
            create_store(URL, template_of(cube), chunk=64)
            assert not any("/c/0/0/0" in name for name in objects())
            write_region(URL, cube.values, 0, 0)
        np.testing.assert_array_equal(open_cube(URL).values, cube.values)

    def test_nothing_to_go_on_with_is_a_fresh_run(self, cube: xr.DataArray) -> None:
        interrupted(cube)
        MemoryFileSystem.store.clear()
        with staged_output(URL, overwrite=False, resume=True) as staging:
            assert not (staging.folder / "blocks.jsonl").exists()
            half(URL, cube)
        assert np.isnan(open_cube(URL).values[:, 32:]).all()

    def test_an_overwriting_run_that_ends_before_its_store_keeps_the_old_one(
        self, cube: xr.DataArray
    ) -> None:
        write_zarr(cube, URL)
        before = objects()
        with pytest.raises(RuntimeError):
            fail(staged_output(URL, overwrite=True, resume=False), RuntimeError())
        assert objects() == before

        def train(staging: Any) -> None:
            (staging.folder / "trained").write_text("weights")
            staging.keep = True

        with pytest.raises(KeyboardInterrupt):
            fail(staged_output(URL, overwrite=True, resume=False), KeyboardInterrupt(), train)
        np.testing.assert_array_equal(open_cube(URL).values, cube.values)
        with staged_output(URL, overwrite=True, resume=True) as staging:
            assert (staging.folder / "trained").read_text() == "weights"
            write = cube + np.float32(1)
            half(URL, write)
            other_half(URL, write)
        np.testing.assert_array_equal(open_cube(URL).values, cube.values + np.float32(1))

    def test_a_folder_that_refuses_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "mkdir", refuse)
        with (
            pytest.raises(OutputError, match=r"\.cube\.zarr-\w+\.part': Permission denied"),
            staged_output(URL, overwrite=False, resume=False),
        ):
            raise AssertionError("not reached")
        assert not objects()


class TestS3:
    def test_processes_write_and_read_a_store_that_is_seen_at_its_end(
        self, s3: str, processes: ProcessPoolExecutor, cube: xr.DataArray
    ) -> None:
        url = f"{s3}/deep/inside/cube.zarr"
        with staged_output(url, overwrite=False, resume=False):
            create_store(url, template_of(cube), chunk=32, dtype="float32")
            parts = [(row, col) for row in (0, 32) for col in (0, 32)]
            done = [
                processes.submit(
                    write_region, url, cube.values[:, row : row + 32, col : col + 32], row, col
                )
                for row, col in parts
            ]
            for future in done:
                future.result(timeout=120)
            assert "/zarr.json" not in objects(url)
            with pytest.raises(SceneReadError, match="check the URL, the network"):
                open_cube(url)
        read = open_cube(url)
        np.testing.assert_array_equal(read.values, cube.values)
        assert not any("unfinished" in name for name in objects(url))
        assert not list(Path().iterdir())
        with dask.config.set(pool=processes, scheduler="processes"):
            np.testing.assert_array_equal(read.compute().values, cube.values)
        assert pickle.loads(pickle.dumps(read)).shape == read.shape

    def test_a_failure_leaves_no_object(self, s3: str, cube: xr.DataArray) -> None:
        url = f"{s3}/failing.zarr"
        written: set[str] = set()

        def work(_: object) -> None:
            half(url, cube)
            written.update(objects(url))

        with pytest.raises(RuntimeError):
            fail(staged_output(url, overwrite=False, resume=False), RuntimeError(), work)
        assert len(written) > 5
        assert not objects(url)

    def test_an_interrupted_run_is_resumed(self, s3: str, cube: xr.DataArray) -> None:
        url = f"{s3}/interrupted.zarr"
        interrupted(cube, url)
        with staged_output(url, overwrite=False, resume=True) as staging:
            assert (staging.folder / "blocks.jsonl").exists()
            other_half(url, cube)
        np.testing.assert_array_equal(open_cube(url).values, cube.values)

    def test_a_replaced_store_is_read_anew(self, s3: str, cube: xr.DataArray) -> None:
        url = f"{s3}/replaced.zarr"
        write_zarr(cube, url)
        with pytest.raises(OutputError, match="exists"):
            check_output(url)
        np.testing.assert_array_equal(open_cube(url).values, cube.values)
        rotated = cube.drop_vars(["x", "y"])
        rotated = rotated.rio.write_transform(type(cube.rio.transform())(1, 2, 0, 3, 4, 0))
        write_zarr(rotated, url, overwrite=True)
        assert "x" not in open_cube(url).coords

    def test_the_objects_of_others_are_never_touched(self, s3: str, cube: xr.DataArray) -> None:
        fsspec.filesystem("s3").pipe_file(f"{s3}/others.zarr/photo.jpg", b"1")
        with pytest.raises(OutputError, match="no Zarr store"):
            write_zarr(cube, f"{s3}/others.zarr", overwrite=True)
        assert objects(f"{s3}/others.zarr") == {"/photo.jpg"}

    def test_a_missing_bucket_is_one_line(self, s3: str, cube: xr.DataArray) -> None:
        for write in (check_output, lambda url: write_zarr(cube, url)):
            with pytest.raises(OutputError, match=r"bucket does not exist.*bucket's name$"):
                write("s3://no-such-bucket/cube.zarr")
        with pytest.raises(SceneReadError, match="check the URL"):
            open_cube("s3://no-such-bucket/cube.zarr")

    def test_a_server_out_of_reach_is_one_line(
        self, s3: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.socket() as taken:  # a port on which nobody listens
            taken.bind(("127.0.0.1", 0))
            nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
            once = {"retries": {"max_attempts": 1}, "connect_timeout": 5}
            options = {"endpoint_url": nobody, "config_kwargs": once}
            monkeypatch.setitem(fsspec.config.conf, "s3", options)
            with pytest.raises(OutputError, match=r"Could not connect.*the network") as caught:
                check_output(f"{s3}/cube.zarr")
        assert "\n" not in str(caught.value)
