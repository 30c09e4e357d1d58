"""Parameters and multiply-accumulates of all networks beside the paper's Table 10.

    python tests/benchmarks/network_costs.py

128 x 128 pixels. "Profiled" is what the profiler thop prints, the paper's convention: the layers
that it knows, and neither attention products nor scans; "all" has these as well. "Behind the neck"
is the network with DyPro-Mamba's neck in front, as the Pixel-SSR mode trains it.
"""

import argparse

import torch

from pixelssr_geo.experiments.network_costs import paper_table10
from pixelssr_geo.nets import create_net, create_pixel_net, list_nets
from pixelssr_geo.nets.cost import measure_cost


def main() -> None:
    """Print the table in Markdown."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(
        "| network | parameters M | profiled M | paper | profiled G | paper | all G "
        "| 4 to 60: parameters M | profiled G | behind the neck: parameters M | profiled G |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    torch.set_default_device("meta")  # shapes are all that is counted
    for spec in list_nets():
        cost = measure_cost(create_net(spec.name, bands=3, channels=31), 128, 128)
        wide = measure_cost(create_net(spec.name, bands=4, channels=60), 128, 128)
        necked = measure_cost(create_pixel_net(spec.name, bands=3, channels=31), 128, 128)
        paper = paper_table10()[spec.name]
        print(
            f"| `{spec.name}` | {cost.parameters / 1e6:.3f} "
            f"| {cost.profiled_parameters / 1e6:.3f} | {paper.parameters_m:g} "
            f"| {cost.profiled_macs / 1e9:.3f} | {paper.flops_g:g} | {cost.macs / 1e9:.2f} "
            f"| {wide.parameters / 1e6:.3f} | {wide.profiled_macs / 1e9:.2f} "
            f"| {necked.parameters / 1e6:.3f} | {necked.profiled_macs / 1e9:.2f} |"
        )


if __name__ == "__main__":
    main()
