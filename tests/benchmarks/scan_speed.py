"""CPU milliseconds of the selective scan's backends, one thread, one direction.

    python tests/benchmarks/scan_speed.py [--repeat 5]

The reference is timed at a sixteenth of the length and multiplied. Process time is printed, so other
jobs on the machine disturb the figures little.
"""

import argparse
import time
from collections.abc import Callable

import torch

from pixelssr_geo.nets.scan import available_backends, selective_scan_2d

SIDE, INNER, STATES, RANK = 128, 80, 16, 3
REFERENCE_PART = 16


def make_arguments(rows: int) -> list[torch.Tensor]:
    """Inputs and parameters of one direction, as Mamba initialises them."""
    torch.manual_seed(0)
    arguments = [
        torch.randn(1, rows * SIDE, INNER),
        torch.randn(1, rows * SIDE, 1, RANK + 2 * STATES),
        torch.randn(1, INNER, RANK) * RANK**-0.5,
        -torch.arange(1.0, STATES + 1).expand(1, INNER, STATES),
        torch.ones(1, INNER),
        torch.full((1, INNER), -4.6),
    ]
    return [t.clone().requires_grad_() for t in arguments]


def best_ms(function: Callable[[], object], repeat: int) -> float:
    """Least process time of ``repeat`` calls, milliseconds."""
    times = []
    for _ in range(repeat):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def measure(backend: str, repeat: int) -> tuple[float, float]:
    """Forward, and forward with backward, in milliseconds of CPU at 128 x 128 pixels."""
    factor = REFERENCE_PART if backend == "reference" else 1
    rows = SIDE // factor
    arguments = make_arguments(rows)

    def scan() -> torch.Tensor:
        return selective_scan_2d(
            *arguments, height=rows, width=SIDE, directions=(0,), backend=backend
        )

    def forward() -> None:
        with torch.no_grad():
            scan()

    forward()
    return factor * best_ms(forward, repeat), factor * best_ms(
        lambda: scan().sum().backward(), repeat
    )


def main() -> None:
    """Print one line a backend, and its ratio to the reference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    torch.set_num_threads(1)
    print(f"{SIDE} x {SIDE} pixels, D={INNER}, N={STATES}, float32, 1 thread, CPU ms")
    figures = {name: measure(name, repeat) for name in available_backends()}
    slowest = figures["reference"]
    for name, (forward, both) in figures.items():
        ratio = f"{slowest[0] / forward:6.1f} x / {slowest[1] / both:6.1f} x the reference"
        print(f"{name:12s} forward {forward:8.1f}   with backward {both:8.1f}   {ratio}")


if __name__ == "__main__":
    main()
