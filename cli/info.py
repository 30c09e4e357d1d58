"""``pixelssr-geo info``."""

from __future__ import annotations

from typing import Any

import rich_click as click

from pixelssr_geo.cli.options import json_option


@click.command()
@click.option(
    "--sensors",
    is_flag=True,
    help="List every known sensor's bands with centre and FWHM, its other names and the source.",
)
@json_option
def info(sensors: bool, as_json: bool) -> None:
    """Show versions, devices, scan backends (and why one is not there), weights, known sensors."""
    import json
    import platform
    from importlib.metadata import version

    import rasterio
    import torch

    from pixelssr_geo.errors import DeviceError
    from pixelssr_geo.nets.scan import chosen_backend, scan_backends
    from pixelssr_geo.spectra import SpectralResponse, get_sensor, list_sensors
    from pixelssr_geo.training.checkpoint import load_checkpoint
    from pixelssr_geo.weights import BUILTIN, weights_hash, weights_path

    def bands_of(response: SpectralResponse) -> list[dict[str, Any]]:
        rows = zip(response.names, response.centres_nm, response.fwhm_nm, strict=True)
        return [
            {"band": name, "centre_nm": round(float(centre), 1), "fwhm_nm": round(float(width), 1)}
            for name, centre, width in rows
        ]

    devices = ["cpu"] + [
        f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())
    ]
    kinds = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    reasons = {kind: scan_backends(kind) for kind in kinds}

    def state(name: str) -> str:
        there = [kind for kind in kinds if reasons[kind][name] is None]
        return f"available on {' and '.join(there)}" if there else str(reasons[kinds[-1]][name])

    def taken(kind: str) -> str:
        try:
            return chosen_backend(device=kind)
        except DeviceError as error:  # one is named in the environment that is not there
            return f"none: {error}"

    card = load_checkpoint(weights_path(BUILTIN))[1]["card"]
    packages = ("pixelssr-geo", "torch", "rasterio", "xarray", "dask", "zarr", "geopandas")
    about: dict[str, Any] = {
        "versions": {name: version(name) for name in packages}
        | {"python": platform.python_version(), "gdal": rasterio.__gdal_version__},
        "devices": devices,
        "scan_backends": {name: state(name) for name in reasons["cpu"]},
        "scan_backend": {kind: taken(kind) for kind in kinds},
        "weights": {BUILTIN: {"hash": weights_hash(BUILTIN), **card}},
        "sensors": {sensor.name: bands_of(get_sensor(sensor.name)) for sensor in list_sensors()},
        "sensor_names": {sensor.name: list(sensor.aliases) for sensor in list_sensors()},
        "sensor_sources": {sensor.name: sensor.source for sensor in list_sensors()},
    }
    if as_json:
        click.echo(json.dumps(about))
        return
    click.echo("versions   " + ", ".join(f"{k} {v}" for k, v in about["versions"].items()))
    click.echo("devices    " + ", ".join(devices))
    for name, there in about["scan_backends"].items():
        click.echo(f"scan       {name}: {there}")
    for kind, name in about["scan_backend"].items():
        click.echo(f"scan       on {kind}: {name}")
    for name, told in about["weights"].items():
        click.echo(
            f"weights    {name}: {told['steps']} steps on {len(told['data'])} cubes "
            f"({', '.join(told['data'])})"
        )
    for name, bands in about["sensors"].items():
        click.echo(f"sensor     {name}: {len(bands)} bands")
        if not sensors:
            continue
        click.echo(f"             also       {', '.join(about['sensor_names'][name])}")
        click.echo(f"             source     {about['sensor_sources'][name]}")
        for band in bands:
            click.echo(
                f"             {band['band']:<12} centre {band['centre_nm']:>6} nm, "
                f"FWHM {band['fwhm_nm']:>5} nm"
            )
