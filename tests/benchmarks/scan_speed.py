"""CPU milliseconds of the selective scan's backends, one thread.

    python tests/benchmarks/scan_speed.py [--repeat 5] [--directions 4] [--batch 1] [--width 80]
    python tests/benchmarks/scan_speed.py --errors [--directions 4] [--width 80]

The directions share their parameters, as in the network's trunk. The reference is timed at a
sixteenth of the length and multiplied. Process time is printed, so other jobs on the machine disturb
the figures little; the backends take turns, so what remains falls on all alike. With ``--errors``,
instead, the largest error of each result over its largest value, against the blocked scan in float64
(which a test compares with the recurrence, to 1e-12).
"""

import argparse
import time
from collections.abc import Callable

import torch

from pixelssr_geo.nets.scan import available_backends, selective_scan_2d

SIDE, STATES = 128, 16
REFERENCE_PART = 16
RESULTS = "y", "x", "low", "w_dt", "a", "d", "dt_bias"


def make_arguments(batch: int, rows: int, inner: int) -> list[torch.Tensor]:
    """Inputs, and parameters as Mamba initialises them."""
    torch.manual_seed(0)
    rank = -(-inner // 32)  # the layer around the scan is half as wide
    arguments = [
        torch.randn(batch, rows * SIDE, inner),
        torch.randn(batch, rows * SIDE, 1, rank + 2 * STATES),
        torch.randn(1, inner, rank) * rank**-0.5,
        -torch.arange(1.0, STATES + 1).expand(1, inner, STATES),
        torch.ones(1, inner),
        torch.full((1, inner), -4.6),
    ]
    return [t.clone().requires_grad_() for t in arguments]


def process_ms(function: Callable[[], object]) -> float:
    """Process time of a call, milliseconds."""
    start = time.process_time()
    function()
    return 1e3 * (time.process_time() - start)


class Case:
    """One backend's forward pass, and forward with backward."""

    def __init__(self, backend: str, options: argparse.Namespace) -> None:
        self.factor = REFERENCE_PART if backend == "reference" else 1
        self.rows = SIDE // self.factor
        self.arguments = make_arguments(options.batch, self.rows, options.width)
        self.directions = tuple(range(options.directions))
        self.backend = backend
        self.best = [float("inf")] * 2
        self.turn()  # builds and compiles
        self.best = [float("inf")] * 2

    def scan(self) -> torch.Tensor:
        """The scan of the whole image, or of the reference's part."""
        return selective_scan_2d(
            *self.arguments,
            height=self.rows,
            width=SIDE,
            directions=self.directions,
            backend=self.backend,
        )

    def forward(self) -> None:
        """Forward pass alone."""
        with torch.no_grad():
            self.scan()

    def both(self) -> None:
        """Forward and backward."""
        for t in self.arguments:
            t.grad = None
        self.scan().sum().backward()

    def turn(self) -> None:
        """Time each once; keep the least, at full length."""
        times = [self.factor * process_ms(f) for f in (self.forward, self.both)]
        self.best = [min(pair) for pair in zip(self.best, times, strict=True)]


def results(backend: str, options: argparse.Namespace, dtype: torch.dtype) -> list[torch.Tensor]:
    """The scan and its six gradients for a random gradient, in float64."""
    leaves = [
        t.detach().to(dtype).requires_grad_()
        for t in make_arguments(options.batch, SIDE, options.width)
    ]
    y = selective_scan_2d(
        *leaves,
        height=SIDE,
        width=SIDE,
        directions=tuple(range(options.directions)),
        backend=backend,
    )
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    return [t.detach().double() for t in (y, *torch.autograd.grad(y, leaves, upstream))]


def print_errors(options: argparse.Namespace) -> None:
    """Print each backend's relative errors."""
    expected = results("torch", options, torch.float64)
    print(f"{'':10s}" + "".join(f"{name:>10s}" for name in RESULTS))
    for backend in options.backends:
        if backend != "reference":  # whose graph over all steps does not fit into memory
            found = results(backend, options, torch.float32)
            errors = [
                float((a - b).abs().max() / b.abs().max())
                for a, b in zip(found, expected, strict=True)
            ]
            print(f"{backend:10s}" + "".join(f"{error:10.1e}" for error in errors))


def main() -> None:
    """Print one line a backend, and its ratio to the reference."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--directions", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--width", type=int, default=80, help="channels D that are scanned")
    parser.add_argument("--backends", nargs="*", default=available_backends())
    parser.add_argument("--errors", action="store_true", help="errors instead of times")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"batch {options.batch}, {SIDE} x {SIDE} pixels, D={options.width}, N={STATES}, "
        f"{options.directions} directions, float32, 1 thread"
        + ("" if options.errors else ", CPU ms")
    )
    if options.errors:
        print_errors(options)
        return
    cases = [Case(name, options) for name in options.backends]
    for _ in range(options.repeat):
        for case in cases:
            case.turn()
    slowest = cases[-1].best
    for case in cases:
        forward, both = case.best
        ratio = f"{slowest[0] / forward:6.1f} x / {slowest[1] / both:6.1f} x"
        print(
            f"{case.backend:12s} forward {forward:8.1f}   with backward {both:8.1f}   "
            f"{ratio} {cases[-1].backend}"
        )


if __name__ == "__main__":
    main()
