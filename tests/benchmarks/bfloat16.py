"""What bfloat16 would gain and cost on a CPU: DyPro-Mamba, one tile, 4 bands to 60 channels.

    python tests/benchmarks/bfloat16.py

Prints the largest difference from float32 over the largest value, and the core time of both, which
take turns. Weights are random.
"""

from pixelssr_geo.process import prepare_process

prepare_process()  # as the command line does, before torch is imported

import time

import torch

from pixelssr_geo.nets import create_net

ROUNDS = 10


def main() -> None:
    """Print error and times."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = create_net("dypro-mamba", bands=4, channels=60).eval()
    x, guide = torch.rand(1, 4, 128, 128), 0.1 * torch.rand(1, 60, 128, 128)
    best = {False: float("inf"), True: float("inf")}
    cubes = {}
    with torch.inference_mode():
        for _ in range(ROUNDS):
            for half, before in best.items():
                start = time.process_time()
                with torch.autocast("cpu", torch.bfloat16, enabled=half):
                    cubes[half] = net(x, guide).float()
                best[half] = min(before, time.process_time() - start)
    error = (cubes[True] - cubes[False]).abs().max() / cubes[False].abs().max()
    print(
        f"error {error:.1e}; float32 {1e3 * best[False]:.0f} ms, bfloat16 {1e3 * best[True]:.0f} ms"
    )


if __name__ == "__main__":
    main()
