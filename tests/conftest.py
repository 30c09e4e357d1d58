"""Fixtures shared by all tests."""

import gc
import os
import signal
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# As the command line does, before torch is imported: see pixelssr_geo.cli.main.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell that runs something in the background may tell it to ignore interrupts, and its children too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scenes, spectra and response functions, if this machine has it."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("PIXELSSR_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}: set PIXELSSR_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def benchmark_data(shared_data: Path) -> Path:
    """The frozen benchmark scenes beside the real data."""
    folder = shared_data.parent / "benchmark"
    if not folder.is_dir():
        pytest.skip(f"benchmark not found at {folder}: set PIXELSSR_DATA to the data beside it")
    return folder


@pytest.fixture(scope="session")
def _known_libraries() -> dict[tuple[object, ...], Any]:
    return {}


@pytest.fixture(scope="module")
def one_library(_known_libraries: dict[tuple[object, ...], Any]) -> Iterator[None]:
    """Fit a library once for each pair of channels and bands: it takes seconds."""
    from pixelssr_geo import fitting

    fit_library = fitting.fit_library

    def remembered(channels: Any, response: Any, **options: Any) -> Any:
        arrays = channels.centres_nm.tobytes(), response.tobytes()
        key = (*arrays, *sorted(options.items()))
        if key not in _known_libraries:
            _known_libraries[key] = fit_library(channels, response, **options)
        return _known_libraries[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "fit_library", remembered)
        yield


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """URL of a bucket on a server of its own, which other processes find by the environment."""
    server_module = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = server_module.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        s3fs.S3FileSystem.clear_instance_cache()
        bucket = f"bucket-{uuid.uuid4().hex}"  # what is on the server outlives it
        s3fs.S3FileSystem().mkdir(bucket)
        yield f"s3://{bucket}"
        # Zarr leaves its connections to the garbage collector, which complains: now, and not when
        # another test is running.
        s3fs.S3FileSystem.clear_instance_cache()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "unclosed|Unclosed", ResourceWarning)
            gc.collect()
    server.stop()
