"""``pixelssr-geo experiment``."""

from __future__ import annotations

from typing import Any

import rich_click as click

from pixelssr_geo.cli.options import json_option, overwrite_option, progress_bar, talk_options


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


_SOURCE_OPTIONS = (
    click.option(
        "--data",
        type=click.Path(),
        metavar="ROOT",
        help="Folder of the frozen scenes [default: benchmark beside $PIXELSSR_DATA].",
    ),
    click.option(
        "--scenes",
        callback=_listed,
        metavar="NAME,...",
        help="Frozen scenes [default: all of them].",
    ),
    click.option(
        "--scene",
        "cubes",
        multiple=True,
        metavar="[NAME=]CUBE",
        help="Another cube to make a scene from; can be given several times. Without --scenes the "
        "frozen ones are left out then.",
    ),
    click.option(
        "--dataset",
        "datasets",
        multiple=True,
        metavar="NAME:ROOT",
        help="arad-1k, cave or rasters and their folder: train on one part, score another; can be "
        "given several times. Without --scenes the frozen scenes are left out then.",
    ),
    click.option(
        "--sensor", metavar="NAME", help="Sensor that sees cubes and datasets, such as RGB."
    ),
    click.option(
        "--response",
        type=click.Path(),
        metavar="CSV",
        help="Its spectral response functions instead.",
    ),
    click.option(
        "--patches",
        "patch_counts",
        type=(click.IntRange(min=1), click.IntRange(min=1)),
        metavar="TRAIN TEST",
        help="Patches of 128 pixels that are taken of a dataset at the most [default: 256 64].",
    ),
    click.option(
        "--protocol",
        default="block",
        show_default=True,
        metavar="NAME",
        help="Where labels lie in a scene and what is scored: block, corner or random.",
    ),
)

_COMPARED_OPTIONS = (
    click.option(
        "--networks",
        callback=_listed,
        metavar="LIST",
        help="Networks beside DyPro-Mamba, where there are others [default: all seven].",
    ),
    click.option(
        "--methods",
        callback=_listed,
        metavar="LIST",
        help="Methods beside them: anchors (all per-pixel methods), projected (those of them that "
        "are), names, or none [default: the estimator, in tables some projected ones, too].",
    ),
)

_TRAINING_OPTIONS = (
    click.option(
        "--steps",
        type=click.IntRange(min=1),
        default=800,
        show_default=True,
        help="Optimiser steps of a training.",
    ),
    click.option(
        "--windows",
        default="4x16",
        show_default=True,
        metavar="NxSIDE",
        help="Windows in a step, and their side in pixels; the paper's side is 128.",
    ),
    click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="NAME",
        help="auto, cpu, cuda or cuda:N, where networks are trained.",
    ),
    click.option(
        "--keep",
        type=click.Path(file_okay=False),
        metavar="FOLDER",
        help="Keep trained networks there, and use those that are there.",
    ),
)

_CELL_OPTIONS = (
    click.option(
        "--jobs",
        type=click.IntRange(min=1),
        metavar="N",
        help="Run N cells beside each other, in processes of one thread each [default: one after "
        "the other].",
    ),
    click.option(
        "--out",
        type=click.Path(dir_okay=False),
        default="networks.csv",
        show_default=True,
        metavar="CSV",
        help="Finished cells of all tables, which are not run again; a line that is taken out is.",
    ),
    click.option("--table", is_flag=True, help="Run nothing, show what CSV has."),
)

_TABLE_OPTIONS = (
    *_SOURCE_OPTIONS,
    *_COMPARED_OPTIONS,
    click.option(
        "--ratios",
        callback=_listed,
        metavar="LIST",
        help="Labelled shares of the pixels [default: the paper's for the table].",
    ),
    click.option(
        "--seeds", callback=_listed, default="0", show_default=True, metavar="LIST", help="Draws."
    ),
    *_TRAINING_OPTIONS,
    *_CELL_OPTIONS,
    json_option,
    talk_options,
)


def _paper_table(name: str, title: str) -> click.Command:
    """The command of one of the paper's tables."""

    def run(**options: Any) -> None:
        _run_paper_table(name, **options)

    run.__doc__ = (
        f"The paper's {name.replace('table', 'Table ')}: {title}.\n\nTrains what the table consists of "
        "on scenes or datasets whose cubes are known, and prints it in Markdown with the paper's own "
        "figures beside."
    )
    for option in reversed(_TABLE_OPTIONS):
        run = option(run)
    return click.command(name)(run)


def _run_paper_table(
    name: str,
    *,
    data: str | None,
    scenes: tuple[str, ...] | None,
    cubes: tuple[str, ...],
    datasets: tuple[str, ...],
    sensor: str | None,
    response: str | None,
    patch_counts: tuple[int, int] | None,
    protocol: str,
    networks: tuple[str, ...] | None,
    ratios: tuple[str, ...] | None,
    methods: tuple[str, ...] | None,
    seeds: tuple[str, ...],
    steps: int,
    windows: str,
    device: str,
    jobs: int | None,
    keep: str | None,
    out: str,
    table: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    import json
    from pathlib import Path

    from pixelssr_geo.experiments.networks import read_networks, run_networks
    from pixelssr_geo.experiments.paper_tables import (
        TABLES,
        Asked,
        Training,
        figures,
        plan_table,
        table_report,
        table_text,
    )
    from pixelssr_geo.experiments.scenes import parse_seed

    paper = TABLES[name]
    chosen = None if methods is None else tuple(m for m in methods if m != "none")
    rows = paper.rows(Asked.of(networks=networks, ratios=ratios, methods=chosen))
    training = Training(protocol, tuple(map(parse_seed, seeds)), steps, windows)
    left_out: list[str] = []
    if table:
        finished = read_networks(Path(out))
        if scenes is not None:
            finished = {cell: one for cell, one in finished.items() if cell.scene in scenes}
    else:
        sources = _sources(data, scenes, cubes, datasets, sensor, response, patch_counts)
        cells, left_out = plan_table(rows, sources, training)
        with progress_bar(quiet=quiet, verbose=verbose) as progress:
            finished = run_networks(
                cells,
                sources,
                Path(out),
                device=device,
                keep=None if keep is None else Path(keep),
                jobs=jobs,
                progress=progress,
            )
    found = figures(finished, rows, training)
    if as_json:
        told = {"out": out, "left_out": left_out, "figures": table_report(paper, found)}
        click.echo(json.dumps(told))
        return
    for line in left_out if not quiet else ():
        click.echo(f"left out: {line}", err=True)
    click.echo(table_text(paper, found, training))


def _sources(
    data: str | None,
    scenes: tuple[str, ...] | None,
    cubes: tuple[str, ...],
    datasets: tuple[str, ...],
    sensor: str | None,
    response: str | None,
    patch_counts: tuple[int, int] | None,
) -> list[Any]:
    """Scenes and datasets; all frozen scenes where nothing is named."""
    from pixelssr_geo.errors import SettingsError
    from pixelssr_geo.experiments.exams import DatasetSource
    from pixelssr_geo.experiments.scenes import chosen_scenes

    if patch_counts is not None and not datasets:
        raise SettingsError(
            f"{patch_counts[0]} and {patch_counts[1]} patches are asked for without a dataset, only of "
            "one are patches taken: give --dataset NAME:ROOT, or leave --patches out"
        )
    counts = (
        {} if patch_counts is None else dict(zip(("training", "tests"), patch_counts, strict=True))
    )
    sources: list[Any] = [
        DatasetSource.of(text, response=response, sensor=sensor, **counts) for text in datasets
    ]
    if scenes is not None or cubes or not datasets:
        seen_by = {"sensor": sensor, "response": response} if cubes or not datasets else {}
        sources = [*chosen_scenes(scenes, cubes, data=data, **seen_by), *sources]
    return sources


def _figure_options(name: str) -> tuple[Any, ...]:
    """The options of a figure: most look at one training of DyPro-Mamba alone."""
    one_seed = click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of every draw."
    )
    seeds = click.option(
        "--seeds", callback=_listed, default="0", show_default=True, metavar="LIST", help="Draws."
    )
    from_table = name == "figure1"
    return (
        *_SOURCE_OPTIONS,
        *(_COMPARED_OPTIONS if name in ("figure1", "figure6", "figure7") else ()),
        click.option(
            "--ratio",
            default="0.01%",
            show_default=True,
            metavar="SHARE",
            help="Labelled share of the pixels in mode pixel.",
        ),
        seeds if from_table else one_seed,
        *_TRAINING_OPTIONS,
        *(_CELL_OPTIONS if from_table else ()),
        click.option(
            "-o",
            "--output",
            type=click.Path(),
            default=f"{name}.png",
            show_default=True,
            metavar="PNG",
            help="The picture.",
        ),
        overwrite_option,
        json_option,
        talk_options,
    )


def _paper_figure(name: str, title: str) -> click.Command:
    """The command of one of the paper's figures."""

    def run(**options: Any) -> None:
        _run_paper_figure(name, **options)

    where = "what --out lacks" if name == "figure1" else "networks that --keep does not hold"
    run.__doc__ = (
        f"The paper's {name.replace('figure', 'Figure ')}: {title}.\n\nDraws it of one scene or "
        "dataset (its first test image) whose cubes are known, which --scenes, --scene or --dataset "
        f"has to name; trains {where}. Prints the figure's numbers in Markdown."
    )
    for option in reversed(_figure_options(name)):
        run = option(run)
    return click.command(name)(run)


def _run_paper_figure(
    name: str,
    *,
    data: str | None,
    scenes: tuple[str, ...] | None,
    cubes: tuple[str, ...],
    datasets: tuple[str, ...],
    sensor: str | None,
    response: str | None,
    patch_counts: tuple[int, int] | None,
    protocol: str,
    ratio: str,
    steps: int,
    windows: str,
    device: str,
    keep: str | None,
    output: str,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    networks: tuple[str, ...] | None = None,
    methods: tuple[str, ...] | None = None,
    seed: int = 0,
    seeds: tuple[str, ...] | None = None,
    jobs: int | None = None,
    out: str = "",
    table: bool = False,
) -> None:
    import json
    from pathlib import Path

    from pixelssr_geo.experiments.drawing import check_picture, write_paper_figure
    from pixelssr_geo.experiments.networks import read_networks, run_networks
    from pixelssr_geo.experiments.paper_figures import (
        FIGURES,
        Content,
        Studio,
        check_single,
        json_numbers,
        mode_scores,
        numbers_text,
    )
    from pixelssr_geo.experiments.paper_tables import Asked, Training, plan_table
    from pixelssr_geo.experiments.scenes import parse_seed

    picture = Path(output)
    check_picture(picture, overwrite=overwrite)
    paper = FIGURES[name]
    chosen = None if methods is None else tuple(m for m in methods if m != "none")
    asked = Asked.of(networks=networks, ratios=(ratio,), methods=chosen)
    rows = paper.rows(asked)
    drawn = (seed,) if seeds is None else tuple(map(parse_seed, seeds))
    training = Training(protocol, drawn, steps, windows)
    kept = None if keep is None else Path(keep)
    left_out: list[str] = []
    content: Content
    if table:
        finished = read_networks(Path(out))
        if scenes is not None:
            finished = {cell: one for cell, one in finished.items() if cell.scene in scenes}
        content = mode_scores(finished, rows, training)
    else:
        sources = _sources(data, scenes, cubes, datasets, sensor, response, patch_counts)
        check_single([source.name for source in sources])
        cells, left_out = plan_table(rows, sources, training)
        with progress_bar(quiet=quiet, verbose=verbose) as progress:
            if paper.content is None:
                finished = run_networks(
                    cells,
                    sources,
                    Path(out),
                    device=device,
                    keep=kept,
                    jobs=jobs,
                    progress=progress,
                )
                content = mode_scores(finished, rows, training)
            else:
                (ratio,) = asked.ratios or ()
                studio = Studio(sources[0], training, ratio, device, kept, progress)
                content = paper.content(studio, cells)
    write_paper_figure(paper, content, picture)
    numbers = content.numbers
    if as_json:
        told = {
            "figure": name,
            "output": output,
            "about": content.caption,
            "left_out": left_out,
            "numbers": json_numbers(numbers),
        }
        click.echo(json.dumps(told))
        return
    for line in left_out if not quiet else ():
        click.echo(f"left out: {line}", err=True)
    click.echo(f"{paper.heading}: {content.caption}.\n\n{numbers_text(numbers)}\n\n{output}")


def _add_paper() -> None:
    """Add a command for each table and figure; the library knows no command line."""
    from pixelssr_geo.experiments.paper_titles import FIGURE_TITLES, TITLES

    for name, title in TITLES.items():
        experiment.add_command(_paper_table(name, title))
    for name, title in FIGURE_TITLES.items():
        experiment.add_command(_paper_figure(name, title))


_add_paper()


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
