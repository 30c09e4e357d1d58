"""Parameters and multiply-accumulates of DyPro-Mamba and its ablations beside the paper's tables.

    python tests/benchmarks/ablation_costs.py

3 bands to 31 channels, 128 x 128 pixels. "Layers" are the multiply-accumulates that the profiler
thop prints, the paper's convention (Table 10); "all" has transforms, attention and scans as well.
"""

import argparse
from typing import Any

from pixelssr_geo.nets import create_net
from pixelssr_geo.nets.cost import measure_cost

# name, options, the paper's parameters (Tables 4 and 12) in millions and operations in G
ROWS: tuple[tuple[str, dict[str, Any], str, str], ...] = (
    ("whole", {}, "0.61", "4.65"),
    ("without P_spa", {"spa": False}, "0.61", "4.6"),
    ("without P_hf", {"hf": False}, "0.61", "4.63"),
    ("without P_spe", {"spe": False}, "0.57", "4.24"),
    ("without DRPN", {"drpn": False}, "0.56", "4.18"),
    ("without PromptSSM: the last block", {"prompt_ssm": "no-last"}, "0.56 / 0.57", "3.92"),
    (
        "without PromptSSM: attention everywhere",
        {"prompt_ssm": "no-attention"},
        "0.56 / 0.57",
        "3.92",
    ),
    ("P_spa with FFT", {"transform": "fft"}, "", ""),
    ("P_spa without a transform", {"transform": "none"}, "", ""),
    ("diagonal walks", {"directions": (4, 5, 6, 7)}, "", ""),
    ("a set of scan parameters for each walk", {"share_directions": False}, "", ""),
    ("full convolutions for Q, K, V", {"projections": "full"}, "", ""),
)


def main() -> None:
    """Print the table in Markdown."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print("| network | parameters M | paper | layers G | paper | all G |")
    print("|---|---|---|---|---|---|")
    for name, options, parameters, operations in ROWS:
        net = create_net("dypro-mamba", bands=3, channels=31, **options)
        cost = measure_cost(net, 128, 128)
        print(
            f"| {name} | {cost.parameters / 1e6:.4f} | {parameters} "
            f"| {cost.profiled_macs / 1e9:.3f} | {operations} | {cost.macs / 1e9:.3f} |"
        )


if __name__ == "__main__":
    main()
