"""``pixelssr-geo train``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from pixelssr_geo.cli.options import (
    agreement_options,
    channel_options,
    json_option,
    network_options,
    overwrite_option,
    point_options,
    progress_bar,
    scene_options,
    settings_options,
    talk_options,
)

if TYPE_CHECKING:
    from pixelssr_geo.cli.options import ProgressDisplay

FOR_CUBES = ("net", "steps", "seed", "device", "net_options", "label_ratio")
"""Settings that a training on cubes looks at; its label ratio in mode pixel alone."""

FOR_SCENES = (
    "points", "layer", "field", "scale", "crs", "wavelengths", "fwhm", "calibrate", "units",
    "reject_outliers", "prior",
)  # fmt: skip
"""Options that a training on cubes has no use for."""


@click.command()
@click.argument("inputs", metavar="SCENE|CUBE...", nargs=-1, required=True, type=click.Path())
@point_options
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    metavar="WEIGHTS",
    help="Weights to write, *.safetensors.",
)
@click.option(
    "--mode",
    type=click.Choice(["supervised", "pixel", "unsupervised"]),
    help="supervised: full cubes; pixel: a scene with points, or cubes of which 1 % of the pixels "
    "are known; unsupervised: a scene alone [default: by what is given].",
)
@click.option(
    "--synthetic",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Train on N further cubes, made of library spectra (with cubes).",
)
@click.option(
    "--terms",
    metavar="TEXT",
    help="Terms of use of the cubes, kept in the weights (with cubes).",
)
@channel_options
@agreement_options
@scene_options
@network_options
@overwrite_option
@talk_options
@json_option
def train(
    inputs: tuple[str, ...],
    points: str | None,
    output: str,
    mode: str | None,
    synthetic: int,
    terms: str | None,
    config: str | None,
    overwrite: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a network on a scene, as the paper does, or on full cubes, and write its weights.

    One SCENE with --points is Pixel-SSR, without them the unsupervised mode; the weights serve
    scenes of the same sensor. Several CUBEs, or --mode supervised, give weights for scenes of any
    sensor, and with --sensor or --response for that one. Use either with reconstruct --weights.
    """
    from pixelssr_geo.writers import check_output

    check_output(output, overwrite=overwrite)
    on_cubes = _on_cubes(inputs, mode, points)
    with progress_bar(quiet=quiet, verbose=verbose) as progress:
        if on_cubes:
            given = {"points": points, **options}
            chosen = _cube_settings(config, given)
            told, line = _train_on_cubes(
                inputs, output, mode or "supervised", synthetic, terms, given, chosen, progress
            )
        else:
            _refuse_for_scene(synthetic, terms)
            told, line = _train_on_scene(inputs[0], points, output, config, options, progress)
    if as_json:
        from importlib.metadata import version

        from pixelssr_geo.training.checkpoint import load_checkpoint
        from pixelssr_geo.weights import weights_hash

        net = load_checkpoint(output)[1]["net"]
        about = {"output": str(output), "net": net, "weights": weights_hash(Path(output))}
        click.echo(json.dumps(about | told | {"version": version("pixelssr-geo")}))
        return
    click.echo(f"weights     {output}")
    if line:
        click.echo(line)


def _on_cubes(inputs: tuple[str, ...], mode: str | None, points: str | None) -> bool:
    """Whether the inputs are cubes.

    Raises
    ------
    SettingsError
        If mode and inputs contradict each other.
    """
    from pixelssr_geo.errors import SettingsError

    if mode == "unsupervised" and (points or len(inputs) > 1):
        found = "--points were" if points else f"{len(inputs)} inputs were"
        raise SettingsError(
            f"{found} given to --mode unsupervised, it takes one scene alone: leave that out, or "
            "use --mode pixel"
        )
    if mode == "supervised":
        return True
    if mode == "pixel":
        return points is None or len(inputs) > 1
    return len(inputs) > 1


def _cube_settings(config: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """The settings that a training on cubes looks at.

    Raises
    ------
    SettingsError
        If one is given that it has no use for.
    """
    from click.core import ParameterSource

    from pixelssr_geo.errors import SettingsError
    from pixelssr_geo.settings import Settings

    source = click.get_current_context().get_parameter_source  # type: ignore[union-attr]
    asked = [name for name in FOR_SCENES if source(name) is ParameterSource.COMMANDLINE]
    from_file = Settings.read(config) if config else {}
    if useless := [*asked, *sorted(from_file.keys() - set(FOR_CUBES))]:
        name = useless[0].replace("_", "-")
        raise SettingsError(
            f"option '{name}' was given with cubes to train on, only a scene has a use for it: "
            "leave it out"
        )
    chosen = settings_options(
        config, {name: given[name] for name in ("net", "steps", "seed", "device")}
    )
    Settings.of(**{**chosen, "method": "paper"})
    return chosen


def _refuse_for_scene(synthetic: int, terms: str | None) -> None:
    from pixelssr_geo.errors import SettingsError

    if synthetic or terms:
        name = "synthetic" if synthetic else "terms"
        raise SettingsError(
            f"option '{name}' was given with a scene to train on, it goes with cubes: leave it "
            "out, or give --mode supervised and cubes"
        )


def _train_on_cubes(
    inputs: tuple[str, ...],
    output: str,
    mode: str,
    synthetic: int,
    terms: str | None,
    given: dict[str, Any],
    chosen: dict[str, Any],
    progress: ProgressDisplay,
) -> tuple[dict[str, Any], str]:
    """Train, and return what ``--json`` tells of it and what the summary does."""
    from pixelssr_geo.pretraining import NETWORK, pretrain
    from pixelssr_geo.spectra import SpectralResponse, get_sensor
    from pixelssr_geo.training.cubes import CubePlan

    sensors = []
    if given["response"]:
        sensors = [SpectralResponse.from_file(given["response"])]
    elif given["sensor"]:
        sensors = [get_sensor(given["sensor"])]
    device, net = chosen.pop("device"), chosen.pop("net", None)
    plan = CubePlan(
        mode=mode,  # type: ignore[arg-type]
        **{name: value for name, value in chosen.items() if value is not None},
    )
    fit = pretrain(
        inputs,
        output,
        plan,
        net=net or NETWORK,
        sensors=sensors,
        synthetic=synthetic,
        terms=terms,
        device=device,
        progress=progress,
    )
    told = {
        "mode": mode,
        "cubes": list(inputs),
        "synthetic": synthetic,
        "steps": fit.record.steps,
        "relative_error": fit.relative_error,
    }
    line = (
        f"training    {fit.record.steps} steps on {len(inputs) + synthetic} cubes, their error "
        f"{fit.relative_error:.2f} of the estimates' before"
    )
    return told, line


def _train_on_scene(
    scene: str,
    points: str | None,
    output: str,
    config: str | None,
    options: dict[str, Any],
    progress: ProgressDisplay,
) -> tuple[dict[str, Any], str]:
    """Train, and return what ``--json`` tells of it and what the summary does."""
    from pixelssr_geo.fitting import train as run
    from pixelssr_geo.points import read_points
    from pixelssr_geo.scene import open_scene

    opening = {name: options.pop(name) for name in ("sensor", "response", "scale", "crs")}
    reading = {name: options.pop(name) for name in ("layer", "field")}
    chosen = settings_options(config, options)
    opened = open_scene(scene, **opening)
    field_points = read_points(points, **reading) if points else None
    validation = run(opened, field_points, output, progress=progress, **chosen)
    told: dict[str, Any] = {
        "mode": "unsupervised" if points is None else "pixel",
        "scene": scene,
        "points": points,
        "held_out": None,
    }
    if validation is None:
        return told, ""
    told["held_out"] = {"rmse": validation.rmse, "sam": validation.sam, "n": validation.n}
    line = (
        f"held out    RMSE {validation.rmse:.4f}, SAM {validation.sam:.2f} degrees at "
        f"{validation.n} points"
    )
    return told, line
