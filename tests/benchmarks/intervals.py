"""Do the intervals of ``--uncertainty`` hold the truth as often as they say? On the frozen scenes.

    python tests/benchmarks/intervals.py --out intervals.csv
    python tests/benchmarks/intervals.py --table tests/benchmarks/results/intervals.csv

Scenes, protocols, points and draws are those of ``pixelssr-geo experiment accuracy``. `68 %` and `95 %`
are the shares of all true values of the scored pixels, every channel counted, that lie within 1 and
1.96 standard deviations of the cube; with calibrated normal errors they would be 0.68 and 0.95.
`error` is the cube's root mean square error in units of 1e-3, and `told` what the points withheld in
blocks say of it. Means of the seeds, in parentheses the lowest and the highest. Finished runs of an
existing CSV are not run again.
"""

from pixelssr_geo.process import prepare_process

prepare_process()  # as the command line does

import argparse
import csv
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pixelssr_geo.experiments.methods import trial_settings
from pixelssr_geo.experiments.scenes import (
    PROTOCOLS,
    Protocol,
    Ratio,
    SceneSource,
    chosen_scenes,
    load_trial,
)
from pixelssr_geo.fitting import fit
from pixelssr_geo.process import products_on_one_thread
from pixelssr_geo.tiling.plan import Window

RATIOS = ("2", "0.1%", "1%")
FIELDS = ("scene", "protocol", "points", "seed", "labels", "c68", "c95", "error", "told")
Row = dict[str, str]


def run(source: SceneSource, protocol: Protocol, points: str, seed: int) -> Row:
    """Coverage and errors of one cube."""
    trial = load_trial(source, protocol, Ratio.parse(points), 0.002, seed)
    assert trial.points is not None
    assert trial.labels is not None
    with tempfile.TemporaryDirectory() as folder:
        settings = trial_settings("estimator", trial, seed, Path(folder))
        model = fit(trial.scene, trial.points, settings, response=trial.ground.response)
    assert model.estimator is not None
    with products_on_one_thread():
        view = model.reader.view(Window(0, 0, *model.reader.shape), model.estimator.halo)
        found = model.estimator.predict(view)
    error = (found.mean - trial.ground.cube.values)[:, trial.scored]
    units = np.abs(error) / found.deviation[:, trial.scored]
    told = None if model.cross_validation is None else model.cross_validation.rmse
    values = {
        "labels": len(trial.labels),
        "c68": round(float((units < 1).mean()), 4),
        "c95": round(float((units < 1.96).mean()), 4),
        "error": round(float(np.sqrt((error**2).mean())), 6),
        "told": "" if told is None else round(told, 6),
    }
    keys = {"scene": source.name, "protocol": protocol, "points": points, "seed": seed}
    return {name: str(value) for name, value in (keys | values).items()}


def run_all(path: Path, scenes: Sequence[str] | None, seeds: Sequence[int]) -> None:
    """Run what a file lacks."""
    done = set()
    if path.exists():
        done = {key_of(row) for row in read(path)}
    else:
        path.write_text(",".join(FIELDS) + "\n")
    for source in chosen_scenes(scenes):
        for protocol in PROTOCOLS:
            for points in RATIOS:
                for seed in seeds:
                    if (source.name, protocol, points, str(seed)) in done:
                        continue
                    row = run(source, protocol, points, seed)
                    with path.open("a", newline="") as file:
                        csv.DictWriter(file, FIELDS, lineterminator="\n").writerow(row)
                    print(*row.values(), flush=True)


def read(path: Path) -> list[Row]:
    """The rows of a file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def key_of(row: Row) -> tuple[str, ...]:
    """What was run."""
    return tuple(row[name] for name in FIELDS[:4])


def table(rows: Sequence[Row]) -> str:
    """Markdown, a line for each scene, protocol and number of points."""
    lines = [
        "| protocol | scene | points | 68 % | 95 % | error | told |",
        "|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["protocol"], row["scene"], row["points"]), []).append(row)
    order = {name: number for number, name in enumerate((*PROTOCOLS, *RATIOS))}
    for protocol, scene, points in sorted(
        groups, key=lambda key: (order[key[0]], key[1], order[key[2]])
    ):
        some = groups[protocol, scene, points]
        cells = [
            mean(some, "c68", "{:.2f}".format),
            mean(some, "c95", "{:.2f}".format),
            mean(some, "error", in_thousandths),
            mean(some, "told", in_thousandths),
        ]
        lines.append(f"| {protocol} | {scene} | {some[0]['labels']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def in_thousandths(value: float) -> str:
    """A reflectance in units of 1e-3."""
    return f"{1e3 * value:.1f}"


def mean(rows: Sequence[Row], name: str, shown: Callable[[float], str]) -> str:
    """The mean with the lowest and highest; nothing where a row has none."""
    if not all(row[name] for row in rows):
        return ""
    values = [float(row[name]) for row in rows]
    return f"{shown(sum(values) / len(values))} ({shown(min(values))} to {shown(max(values))})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("intervals.csv"))
    parser.add_argument("--table", type=Path, help="show what a file has, run nothing")
    parser.add_argument("--scenes", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    if options.table is not None:
        print(table(read(options.table)))
        return
    run_all(options.out, options.scenes, options.seeds)
    print(table(read(options.out)))


if __name__ == "__main__":
    main()
