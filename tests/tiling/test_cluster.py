"""Claims about running blocks on a Dask cluster."""

import _thread
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from distributed import Client
from numpy.typing import NDArray

from pixelssr_geo.errors import ClusterError, SceneError, SettingsError
from pixelssr_geo.tiling import cluster
from pixelssr_geo.tiling.cluster import cluster_client, map_blocks_on
from pixelssr_geo.tiling.plan import Window, plan_tiles

BLOCKS = plan_tiles((80, 60), block=10).blocks


@pytest.fixture(scope="module", autouse=True)
def functions_travel_by_value() -> Iterator[None]:
    module = sys.modules[__name__]  # which workers cannot import
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(scope="module")
def clusters() -> Iterator[Callable[[], Client]]:
    """Gives the client of a cluster that has both of its workers.

    Some tests kill workers. On a busy machine a nanny may give up before its new worker is up.
    """
    with ExitStack() as stack:
        started: list[Client] = []

        def whole() -> Client:
            try:
                wait_for(lambda: started and len(started[-1].nthreads()) == 2, 20 if started else 0)
            except AssertionError:
                started.append(stack.enter_context(cluster_client(workers=2)))
            return started[-1]

        yield whole


@pytest.fixture
def client(clusters: Callable[[], Client]) -> Client:
    return clusters()


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def note(folder: Path, name: str) -> None:
    """Leave a mark that other processes see; one more each time."""
    (folder / f"{name}.{os.getpid()}.{time.time_ns()}").touch()


def noted(folder: Path, name: str) -> list[int]:
    """Processes that left a mark of that name, once for each mark."""
    return [int(path.name.split(".")[1]) for path in folder.glob(f"{name}.*")]


class Model:
    """Tells where it was unpickled, set up and used."""

    def __init__(self, folder: Path, seconds: float = 0.0, size: int = 0) -> None:
        self.folder = folder
        self.seconds = seconds
        self.weights = bytes(size)

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        note(self.folder, "unpickled")

    def __call__(self) -> Callable[[Window], int]:
        note(self.folder, "setup")

        def compute(block: Window) -> int:
            note(self.folder, "started")
            time.sleep(self.seconds)
            note(self.folder, "ended")
            return os.getpid()

        return compute


def values_of(block: Window) -> NDArray[np.float64]:
    return np.random.default_rng([block.row, block.col]).random(block.shape)


def runs_on(client: Client) -> list[str]:
    """Names of the runs that some worker still holds."""

    def plugins(dask_worker: object) -> list[str]:
        return [name for name in dask_worker.plugins if "pixelssr" in name]  # type: ignore[attr-defined]

    return [name for names in client.run(plugins).values() for name in names]


def test_every_block_runs_once_and_each_worker_loads_the_model_once(
    client: Client, tmp_path: Path
) -> None:
    done: list[Window] = []
    callers: set[int] = set()

    def on_done(block: Window, result: int) -> None:
        done.append(block)
        callers.add(threading.get_ident())

    model = Model(tmp_path, seconds=0.02, size=20_000_000)
    map_blocks_on(client, BLOCKS, model, on_done=on_done)
    assert sorted(done) == sorted(BLOCKS)
    assert callers == {threading.get_ident()}
    assert len(noted(tmp_path, "ended")) == len(BLOCKS)
    workers = set(noted(tmp_path, "started"))
    assert len(workers) == 2
    assert os.getpid() not in workers
    for event in ("unpickled", "setup"):
        assert sorted(noted(tmp_path, event)) == sorted(workers)
    assert runs_on(client) == []


def test_the_result_does_not_depend_on_the_number_of_workers(
    client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    def cube(client: Client) -> NDArray[np.float64]:
        values = np.full((80, 60), np.nan)
        map_blocks_on(
            client,
            BLOCKS,
            lambda: values_of,
            on_done=lambda block, result: values.__setitem__(block.slices, result),
        )
        return values

    def fail(block: Window) -> None:
        raise ValueError("planted")

    expected = np.block(
        [[values_of(block) for block in BLOCKS[i : i + 6]] for i in range(0, 48, 6)]
    )
    np.testing.assert_array_equal(cube(client), expected)
    with cluster_client(workers=1) as alone:
        np.testing.assert_array_equal(cube(alone), expected)
        with pytest.raises(ValueError, match="planted"):
            map_blocks_on(alone, BLOCKS, lambda: fail)
    assert capfd.readouterr() == ("", "")


def test_nothing_to_do_asks_nothing_of_the_cluster() -> None:
    map_blocks_on(None, [], lambda: values_of)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [SceneError, TimeoutError, KeyboardInterrupt])
def test_a_failure_cancels_the_rest_and_waits_for_running_blocks(
    client: Client, tmp_path: Path, error: type[BaseException]
) -> None:
    def setup() -> Callable[[Window], None]:
        def compute(block: Window) -> None:
            note(tmp_path, "started")
            if error is not KeyboardInterrupt and block == BLOCKS[4]:
                note(tmp_path, "ended")
                raise error("scene is broken: mend it")
            time.sleep(0.05)
            note(tmp_path, "ended")

        return compute

    def on_done(block: Window, result: None) -> None:
        if error is KeyboardInterrupt and len(noted(tmp_path, "ended")) > 4:
            raise error("scene is broken: mend it")

    with pytest.raises(error, match=r"^scene is broken: mend it$"):
        map_blocks_on(client, BLOCKS, setup, on_done=on_done)
    started = len(noted(tmp_path, "started"))
    assert started == len(noted(tmp_path, "ended"))
    assert 3 <= started < 20
    time.sleep(0.3)
    assert len(noted(tmp_path, "started")) == started
    assert runs_on(client) == []


def test_control_c_ends_the_wait(client: Client, tmp_path: Path) -> None:
    timer = threading.Timer(0.5, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        map_blocks_on(client, BLOCKS, Model(tmp_path, seconds=1.0))
    timer.join()
    assert 1 <= len(noted(tmp_path, "started")) == len(noted(tmp_path, "ended")) <= 4


def test_a_stop_ends_the_run(client: Client, tmp_path: Path) -> None:
    stop = threading.Event()
    with pytest.raises(CancelledError, match="the run was stopped"):
        map_blocks_on(
            client,
            BLOCKS,
            Model(tmp_path, seconds=0.05),
            on_done=lambda block, result: stop.set(),
            stop=stop,
        )
    assert len(noted(tmp_path, "started")) == len(noted(tmp_path, "ended")) < 12


def test_blocks_are_started_in_order_and_only_a_few_ahead(client: Client, tmp_path: Path) -> None:
    def setup() -> Callable[[Window], None]:
        def compute(block: Window) -> None:
            (tmp_path / f"{block.row:02}-{block.col:02}").touch()
            time.sleep(0.01)

        return compute

    done: list[Window] = []

    def on_done(block: Window, result: None) -> None:
        time.sleep(0.03)  # slower than the workers, which thus do all that they were given
        done.append(block)
        last = max(tuple(map(int, path.name.split("-"))) for path in tmp_path.iterdir())
        place = [(one.row, one.col) for one in BLOCKS].index(last)  # type: ignore[arg-type]
        assert place < len(done) + cluster.AHEAD * 2

    map_blocks_on(client, BLOCKS, setup, on_done=on_done)
    assert len(done) == len(BLOCKS)


def test_a_setup_that_fails_ends_the_run(client: Client) -> None:
    def setup() -> Callable[[Window], None]:
        raise SceneError("scene has moved: open it again")

    with pytest.raises(SceneError, match=r"^scene has moved: open it again$"):
        map_blocks_on(client, BLOCKS, setup)


def test_two_runs_at_a_time_do_not_disturb_each_other(client: Client) -> None:
    results: dict[str, list[str]] = {"first": [], "second": []}

    def start(name: str) -> threading.Thread:
        def setup() -> Callable[[Window], str]:
            return lambda block: (time.sleep(0.02), name)[1]

        def run() -> None:
            blocks = BLOCKS if name == "first" else BLOCKS[:10]
            map_blocks_on(
                client, blocks, setup, on_done=lambda block, result: results[name].append(result)
            )

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    for thread in [start("first"), start("second")]:
        thread.join()
    assert results == {"first": ["first"] * len(BLOCKS), "second": ["second"] * 10}
    assert runs_on(client) == []


def test_blocks_of_a_worker_that_dies_are_computed_again(client: Client, tmp_path: Path) -> None:
    def setup() -> Callable[[Window], NDArray[np.float64]]:
        def compute(block: Window) -> NDArray[np.float64]:
            if block == BLOCKS[9] and not noted(tmp_path, "killed"):
                note(tmp_path, "killed")
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.01)
            return values_of(block)

        return compute

    done: dict[Window, NDArray[np.float64]] = {}
    map_blocks_on(client, BLOCKS, setup, on_done=done.__setitem__)
    assert len(noted(tmp_path, "killed")) == 1
    assert sorted(done) == sorted(BLOCKS)
    for block, values in done.items():
        np.testing.assert_array_equal(values, values_of(block))


def test_a_block_that_kills_every_worker_is_named(client: Client) -> None:
    def setup() -> Callable[[Window], None]:
        return lambda block: os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ClusterError, match=r"8 workers died .* with Window\(row=0, col=0, .*logs"):
        map_blocks_on(client, BLOCKS[:1], setup)


def test_another_version_on_a_worker_is_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "version", lambda name: "0.0.1")
    with pytest.raises(ClusterError, match=r"has pixelssr-geo \S+, expected pixelssr-geo 0\.0\.1:"):
        map_blocks_on(client, BLOCKS, lambda: values_of)


@contextmanager
def processes() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """A function that starts Dask's own commands, and their end."""
    with ExitStack() as stack:

        def start(command: str, *arguments: str) -> subprocess.Popen[bytes]:
            words = [sys.executable, "-m", f"distributed.cli.{command}", *arguments]
            process = subprocess.Popen(
                [*words, "--no-dashboard"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield start


def start_scheduler(
    start: Callable[..., subprocess.Popen[bytes]], folder: Path
) -> tuple[subprocess.Popen[bytes], Path, str]:
    file = folder / "scheduler.json"
    process = start(
        "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)
    )
    wait_for(lambda: file.exists() and file.read_text().endswith("}"))
    return process, file, json.loads(file.read_text())["address"]


def test_a_running_cluster_is_joined_and_gpus_are_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "WORKER_SECONDS", 1.0)
    monkeypatch.setattr(cluster, "RESOURCE_SECONDS", 1.0)
    gpu = {"GPU": 1}
    with processes() as start:
        scheduler, file, address = start_scheduler(start, tmp_path)

        def add_worker(*arguments: str) -> subprocess.Popen[bytes]:
            # Without a nanny, the process started here is the worker.
            return start(
                "dask_worker", address, "--nthreads", "1", "--no-nanny",
                "--local-directory", str(tmp_path), *arguments,
            )  # fmt: skip

        def run(name: str, client: Client, on_done: Callable[[Window, int], object]) -> set[int]:
            folder = tmp_path / name
            folder.mkdir()
            model = Model(folder, seconds=0.05)
            map_blocks_on(client, BLOCKS, model, on_done=on_done, resources=gpu)
            workers = set(noted(folder, "started"))
            for event in ("unpickled", "setup"):
                assert sorted(noted(folder, event)) == sorted(workers)
            return workers

        with cluster_client(scheduler=str(file)) as client:
            assert client.scheduler.address == address
            with pytest.raises(ClusterError, match=r"has 0 workers .* `dask worker ADDRESS`"):
                map_blocks_on(client, BLOCKS, lambda: values_of)

            add_worker()
            client.wait_for_workers(1, timeout=30)
            with pytest.raises(ClusterError, match=r"1 workers .* offer no resources, .* GPU=1"):
                map_blocks_on(client, BLOCKS, lambda: values_of, resources=gpu)
            (worker,) = client.scheduler_info()["workers"]
            with pytest.raises(ClusterError, match="is a Dask Worker, expected a scheduler"):
                cluster_client(scheduler=worker).__enter__()

            with_gpu = [add_worker("--resources", "GPU=1") for _ in range(2)]
            client.wait_for_workers(3, timeout=30)
            assert run("gpus", client, lambda *_: None) == {one.pid for one in with_gpu}

        # One dies without a nanny to replace it, another comes late.
        monkeypatch.setattr(cluster, "WORKER_SECONDS", 60.0)
        with cluster_client(scheduler=address) as client:
            results: list[int] = []

            def exchange(block: Window, pid: int) -> None:
                results.append(pid)
                if len(results) == 5:
                    for one in with_gpu:
                        one.kill()
                    with_gpu.append(add_worker("--resources", "GPU=1"))

            pids = run("late", client, exchange)
            assert pids == {one.pid for one in with_gpu}
            assert len(results) == len(BLOCKS)

            def end(block: Window, pid: int) -> None:
                scheduler.kill()

            with pytest.raises(ClusterError, match=f"{address} was lost or restarted"):
                map_blocks_on(client, BLOCKS, Model(tmp_path, 0.05), on_done=end)


def test_an_interrupt_at_a_terminal_leaves_local_workers_to_this_process(client: Client) -> None:
    before = client.run(os.getpid)
    for pid in before.values():
        os.kill(pid, signal.SIGINT)
    done: list[Window] = []
    map_blocks_on(client, BLOCKS, lambda: values_of, on_done=lambda block, _: done.append(block))
    assert sorted(done) == sorted(BLOCKS)
    assert client.run(os.getpid) == before


KILLED = """
import os, signal, sys
from distributed import Client
from pixelssr_geo.tiling import cluster
client = Client(sys.argv[1], set_as_default=False)
run = cluster._loaded(client, lambda: None)
run.__enter__()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_client_has_left_is_dropped(client: Client) -> None:
    def known(dask_scheduler: Any) -> tuple[list[str], list[str]]:
        names = [name for name in dask_scheduler.worker_plugins if "pixelssr" in name]
        return names, [name for name in dask_scheduler.clients if name.startswith("Client")]

    subprocess.run([sys.executable, "-c", KILLED, client.scheduler.address], check=False)
    assert len(client.run_on_scheduler(known)[0]) == 1
    wait_for(lambda: len(client.run_on_scheduler(known)[1]) == 1)
    map_blocks_on(client, BLOCKS[:2], lambda: values_of)
    assert client.run_on_scheduler(known)[0] == []


def test_workers_of_a_scheduler_that_is_gone_are_not_asked_for() -> None:
    class Gone:
        """A client as Dask leaves it behind."""

        scheduler = None

        def scheduler_info(self, n_workers: int) -> dict[str, object]:
            return {}

    with pytest.raises(ClusterError, match="was lost or restarted"):
        cluster.cluster_workers(Gone())  # type: ignore[arg-type]


def test_other_versions_stay_quiet_and_another_python_is_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import versions

    address = client.scheduler.address
    ours = versions.get_versions()
    packages = {"packages": ours["packages"] | {"toolz": "0.0.1"}}
    monkeypatch.setattr(versions, "get_versions", lambda **_: ours | packages)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with cluster_client(scheduler=address):
            pass
    assert caught == []
    host = {"host": ours["host"] | {"python": "3.99.0.final.0"}}
    monkeypatch.setattr(versions, "get_versions", lambda **_: ours | host)
    with (
        pytest.raises(ClusterError, match=r"scheduler of .* Python 3\.\d+, expected 3\.99 as here"),
        cluster_client(scheduler=address),
    ):
        pass


def test_a_scheduler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        for address, reason in {
            f"tcp://127.0.0.1:{port}": r"no answer within 0\.5 s",
            "tcp://127.0.0.1": "missing port number",
            "pigeon://127.0.0.1:8786": "unknown address scheme",
        }.items():
            with (
                pytest.raises(ClusterError, match=f"{address} cannot be reached .*{reason}"),
                cluster_client(scheduler=address),
            ):
                pass


@pytest.mark.parametrize(
    ("text", "reason"),
    [(None, "No such file"), ("tcp", "not JSON"), ("{}", "no address"), ("[1]", "no address")],
)
def test_a_file_that_is_no_schedulers_is_named(
    tmp_path: Path, text: str | None, reason: str
) -> None:
    file = tmp_path / "scheduler.json"
    if text is not None:
        file.write_text(text)
    with (
        pytest.raises(ClusterError, match=rf"scheduler\.json' cannot be .*{reason}.*, expected"),
        cluster_client(scheduler=str(file)),
    ):
        pass


@pytest.mark.parametrize(
    "options", [{}, {"workers": 1, "scheduler": "tcp://127.0.0.1:1"}, {"workers": 0}]
)
def test_one_of_workers_and_scheduler_is_asked_for(options: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="expected"), cluster_client(**options):  # type: ignore[arg-type]
        pass


def test_the_module_imports_neither_distributed_nor_torch() -> None:
    code = (
        "import sys, pixelssr_geo.tiling.cluster; print({'distributed', 'torch'} & {*sys.modules})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_the_documented_jobqueue_file_asks_for_one_gpu_a_worker() -> None:
    import dask
    import yaml

    root = Path(__file__).resolve().parents[2]
    if not (root / "docs").is_dir():
        pytest.skip("the tests run beside an installed package")
    (file,) = dask.config.collect_yaml([str(root / "docs" / "cluster" / "jobqueue.yaml")])
    page = (root / "docs" / "pages" / "cluster.md").read_text()
    assert yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0]) == file
    with dask.config.set(file):
        slurm = dask.config.get("jobqueue.slurm")
    assert slurm["processes"] == 1
    assert "--gres=gpu:1" in slurm["job-extra-directives"]
    assert "--resources GPU=1" in slurm["worker-extra-args"]
    # The arguments in Python are the same words.
    call = page.partition("SLURMCluster(\n")[2].partition("\n)\n")[0]
    for key in ("cores", "processes", "memory", "walltime"):
        value = slurm[key]
        assert f'{key}="{value}"' in call or f"{key}={value}," in call
    for word in slurm["job-extra-directives"] + slurm["worker-extra-args"]:
        assert f'"{word}"' in call
