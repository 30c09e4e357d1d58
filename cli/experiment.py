"""``pixelssr-geo experiment``."""

from __future__ import annotations

from typing import Any

import rich_click as click

from pixelssr_geo.cli.options import json_option, progress_bar, talk_options


def _listed(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
    """The values of a text with commas between them."""
    if text is None:
        return None
    return tuple(value.strip() for value in text.split(",") if value.strip())


@click.group()
def experiment() -> None:
    """Run experiments whose results are kept in a table, cell by cell."""


@experiment.command()
@click.option(
    "--data",
    type=click.Path(),
    metavar="ROOT",
    help="Folder of the frozen scenes [default: benchmark beside $PIXELSSR_DATA].",
)
@click.option(
    "--scenes", callback=_listed, metavar="NAME,...", help="Frozen scenes [default: all of them]."
)
@click.option(
    "--scene",
    "cubes",
    multiple=True,
    metavar="[NAME=]CUBE",
    help="Another cube to make a scene from, whose results are kept under NAME [default: that of the "
    "file]; can be given several times. Without --scenes the frozen ones are left out then.",
)
@click.option("--sensor", metavar="NAME", help="Sensor that sees these cubes, such as GF6-PMS.")
@click.option(
    "--response", type=click.Path(), metavar="CSV", help="Its spectral response functions instead."
)
@click.option(
    "--ratios",
    callback=_listed,
    metavar="LIST",
    help="Points, as numbers or shares of the valid pixels [default: 0,2,0.1%,1%,10%].",
)
@click.option(
    "--protocols",
    callback=_listed,
    metavar="LIST",
    help="random: points anywhere, pixels without a point scored; block: points in every other 10 x 10 "
    "block, the other half scored; corner: points in one corner, the rest scored [default: random].",
)
@click.option("--seeds", callback=_listed, metavar="LIST", help="Draws [default: 0,1,2].")
@click.option(
    "--noise",
    "noises",
    callback=_listed,
    metavar="LIST",
    help="Of the scenes, shares of their mean [default: 0.2%].",
)
@click.option(
    "--methods",
    callback=_listed,
    metavar="LIST",
    help="anchors (all per-pixel methods), projected (those of them that are), or names "
    "[default: anchors,estimator,product].",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Run N cells beside each other, in processes of one thread [default: one after the other].",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    default="accuracy.csv",
    show_default=True,
    metavar="CSV",
    help="Finished cells, which are not run again; a line that is taken out is.",
)
@click.option(
    "--table",
    is_flag=True,
    help="Run nothing, show what CSV has; only options that are given count.",
)
@json_option
@talk_options
def accuracy(
    data: str | None,
    scenes: tuple[str, ...] | None,
    cubes: tuple[str, ...],
    sensor: str | None,
    response: str | None,
    ratios: tuple[str, ...] | None,
    protocols: tuple[str, ...] | None,
    seeds: tuple[str, ...] | None,
    noises: tuple[str, ...] | None,
    methods: tuple[str, ...] | None,
    jobs: int | None,
    out: str,
    table: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Measure how good the cubes are, beside regressions that see one pixel at a time.

    Runs every combination of scenes, protocols, points, noise, seeds and methods, and prints tables of
    accuracy, of gains over the best per-pixel method, and of cells that are lost.
    """
    import json
    from pathlib import Path

    from pixelssr_geo.experiments.accuracy import Choice, read_accuracy, run_accuracy
    from pixelssr_geo.experiments.accuracy_tables import accuracy_report, accuracy_tables
    from pixelssr_geo.experiments.scenes import chosen_scenes

    choice = Choice.of(
        scenes=scenes,
        protocols=protocols,
        points=ratios,
        noises=noises,
        seeds=seeds,
        methods=methods,
    )
    left_out: list[str] = []
    if not table:
        sources = chosen_scenes(scenes, cubes, data=data, sensor=sensor, response=response)
        grid = choice.grid()
        choice = Choice.ran(sources, grid)
        with progress_bar(quiet=quiet, verbose=verbose) as progress:
            _, left_out = run_accuracy(sources, grid, Path(out), jobs=jobs, progress=progress)
    rows = choice.rows(read_accuracy(Path(out)))
    if as_json:
        report = accuracy_report(rows, choice.methods)
        click.echo(json.dumps({"out": out, "left_out": left_out, **report}))
        return
    for line in left_out if not quiet else ():
        click.echo(f"left out: {line}", err=True)
    click.echo(accuracy_tables(rows, choice.methods))


@experiment.command()
@click.option(
    "--networks",
    callback=_listed,
    metavar="NAME,...",
    help="Networks to measure, DyPro-Mamba among them in any case [default: all].",
)
@click.option(
    "--bands",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Bands of the scene.",
)
@click.option(
    "--channels",
    type=click.IntRange(min=1),
    default=31,
    show_default=True,
    help="Channels of the cube.",
)
@click.option(
    "--tile",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Side of the tile, pixels.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Passes of each network that are timed.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads on the CPU [default: PyTorch's choice].",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto, cpu, cuda or cuda:<number>; auto takes a GPU where there is one.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    metavar="CSV",
    help="Keep the results there; those of an earlier run are replaced [default: print them only].",
)
@click.option(
    "--table",
    is_flag=True,
    help="Run nothing, show what the CSV of --out has; of the other options --json alone counts.",
)
@json_option
@talk_options
def table10(
    networks: tuple[str, ...] | None,
    bands: int,
    channels: int,
    tile: int,
    rounds: int,
    threads: int | None,
    device: str,
    out: str | None,
    table: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Measure parameters, operations and time of the networks, beside the paper's Table 10.

    All networks are timed in one run, taking turns, and compared with DyPro-Mamba round by round.
    The paper's figures are shown for 3 bands, 31 channels and 128 pixels.
    """
    import json
    from pathlib import Path

    from pixelssr_geo.errors import SettingsError
    from pixelssr_geo.experiments.network_cost_tables import (
        check_costs_output,
        cost_report,
        cost_table,
        read_costs,
        write_costs,
    )

    if table:
        if out is None:
            raise SettingsError(
                "--table was given without --out, expected the CSV that is to be shown: add --out CSV"
            )
        rows = read_costs(Path(out))
    else:
        from pixelssr_geo.experiments.network_costs import (
            TileSize,
            compared_networks,
            run_network_costs,
        )
        from pixelssr_geo.fitting import resolve_device
        from pixelssr_geo.settings import Settings

        names = compared_networks(networks)
        where = resolve_device(Settings.of(device=device).device)
        if out is not None:
            check_costs_output(Path(out))
        with progress_bar(quiet=quiet, verbose=verbose) as progress:
            rows = run_network_costs(
                names,
                TileSize(bands, channels, tile),
                rounds=rounds,
                device=where,
                threads=threads,
                progress=progress,
            )
        if out is not None:
            write_costs(rows, Path(out))
    if as_json:
        click.echo(json.dumps({"out": out, **cost_report(rows)}))
        return
    click.echo(cost_table(rows))
