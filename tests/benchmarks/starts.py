"""How a training begins, and what comes out: a last layer of zero, a warm-up, or neither.

    python tests/benchmarks/starts.py [--scene muufl] [--networks dypro-mamba mst++] [--seeds 0 1 2]
        [--labels 10%] [--steps 800] [--windows 4x16] [--data ROOT]
    python tests/benchmarks/starts.py --method-paper --protocol random [--scene muufl] [--labels 0.1%]

Trains networks in mode `pixel` on a frozen scene, as `experiment table1` does, or method `paper`, as
`experiment accuracy` does, and prints PSNR and SAM where no label was. How trainings begin was chosen
on MUUFL and Indian Pines, which the tables of the paper are not measured on.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from unittest.mock import patch

import torch

from pixelssr_geo.experiments.accuracy import AccuracyCell, AccuracyWork
from pixelssr_geo.experiments.networks import NetworkCell, NetworkWork
from pixelssr_geo.experiments.scenes import chosen_scenes
from pixelssr_geo.nets.contract import SpectralNet
from pixelssr_geo.training import loop

STARTS = {
    "zero and warm-up": (True, True),
    "zero": (True, False),
    "warm-up": (False, True),
    "neither": (False, False),
}
"""Whether the last layer starts at zero, and whether the rate warms up."""


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scene", default="muufl")
    parser.add_argument("--networks", nargs="+", default=["dypro-mamba"])
    parser.add_argument("--method-paper", action="store_true", help="instead of networks")
    parser.add_argument("--protocol", choices=["block", "random"], default="block")
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--labels", default="10%")
    parser.add_argument("--steps", type=int, default=800, help="of networks")
    parser.add_argument("--windows", default="4x16", help="of networks")
    parser.add_argument("--data")
    options = parser.parse_args()
    torch.set_num_threads(1)  # as the cells of a table are run
    (source,) = chosen_scenes([options.scene], data=options.data)
    networks = NetworkWork({source.name: source}, "cpu")
    methods = AccuracyWork({source.name: source})

    def network(name: str, seed: int) -> tuple[float, float]:
        result = networks(
            NetworkCell(
                options.scene, options.protocol, name, "pixel", options.labels, "gamma", "whole",
                options.steps, options.windows, seed,
            )
        )  # fmt: skip
        return result.psnr, result.sam

    def method(name: str, seed: int) -> tuple[float, float]:
        cell = AccuracyCell(options.scene, options.protocol, options.labels, "0.2%", seed, name)
        result = methods(cell)
        return result.psnr, result.sam

    score = method if options.method_paper else network
    told = " | ".join(f"seed {seed}" for seed in options.seeds)
    print(f"| trained | last layer and rate | {told} |\n|---|---|{'---|' * len(options.seeds)}")
    for name in ["paper"] if options.method_paper else options.networks:
        for start in options.starts:
            zero, warm = STARTS[start]
            found = []
            for seed in options.seeds:
                with ExitStack() as changed:
                    if not zero:
                        changed.enter_context(patch.object(SpectralNet, "zero_output"))
                    if not warm:
                        changed.enter_context(patch.object(loop, "WARM_UP", 0))
                    found.append("{:.1f} / {:.1f}".format(*score(name, seed)))
            print(f"| {name} | {start} | {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
