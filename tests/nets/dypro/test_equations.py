"""Parts of DyPro-Mamba against the paper's equations, written out slowly in NumPy, float64."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelssr_geo.nets.dypro.block import SS2D
from pixelssr_geo.nets.dypro.config import DyProConfig
from pixelssr_geo.nets.dypro.drpn import EdgePrompt, SpatialPrompt, SpectralPrompt
from pixelssr_geo.nets.dypro.frft import frft_matrix
from pixelssr_geo.nets.dypro.net import DyProMamba
from pixelssr_geo.nets.dypro.prompt_ssm import PromptedAttention

Array = NDArray[np.float64]
ROWS, COLUMNS, WIDTH = 5, 6, 4
CONFIG = DyProConfig(width=WIDTH, state=3, prompt_inner=6)


def image(channels: int, seed: int = 0, rows: int = ROWS, columns: int = COLUMNS) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(1, channels, rows, columns, generator=rng, dtype=torch.float64)


def made(layer: nn.Module) -> nn.Module:
    """The layer in float64, all parameters random, so that none hides behind its initial value."""
    rng = torch.Generator().manual_seed(1)
    layer = layer.double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng, dtype=torch.float64))
    return layer


def array(tensor: Tensor) -> Array:
    return tensor.detach().numpy()


def convolve(x: Array, layer: nn.Conv2d) -> Array:
    """M_3x3 with zeros around, ``(channel, y, x)``, pixel by pixel."""
    weight = array(layer.weight)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    outputs, per_group = weight.shape[:2]
    out = np.zeros((outputs, *x.shape[1:]))
    for o in range(outputs):
        first = o // (outputs // layer.groups) * per_group
        for i in range(x.shape[1]):
            for j in range(x.shape[2]):
                window = padded[first : first + per_group, i : i + 3, j : j + 3]
                out[o, i, j] = (window * weight[o]).sum()
    return out if layer.bias is None else out + array(layer.bias)[:, None, None]


def norm(x: Array, layer: nn.LayerNorm) -> Array:
    """LayerNorm over the channels of ``(channel, y, x)``."""
    centred = x - x.mean(0)
    normed = centred / np.sqrt((centred**2).mean(0) + layer.eps)
    return normed * array(layer.weight)[:, None, None] + array(layer.bias)[:, None, None]


def linear(x: Array, layer: nn.Linear) -> Array:
    return np.einsum("oc,cyx->oyx", array(layer.weight), x)


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def gelu(x: Array) -> Array:
    return array(nn.functional.gelu(torch.from_numpy(x)))


def softmax_rows(x: Array) -> Array:
    e = np.exp(x)
    return e / e.sum(1, keepdims=True)


def attention_map(q: Array, k: Array, temperature: Array) -> Array:
    """M_sft(K^T Q) of one head; q and k ``(channel, pixel)``, unit length over pixels."""
    channels = len(q)
    product = np.zeros((channels, channels))
    for i in range(channels):
        for j in range(channels):
            cosine = (k[i] * q[j]).sum() / np.linalg.norm(k[i]) / np.linalg.norm(q[j])
            product[i, j] = temperature.item() * cosine
    return softmax_rows(product)


WALKS = {  # pixels (y, x) in the order of the visit
    0: [(i, j) for i in range(ROWS) for j in range(COLUMNS)],
    2: [(i, j) for j in range(COLUMNS) for i in range(ROWS)],
    4: [(i, s - i) for s in range(ROWS + COLUMNS) for i in range(ROWS) if 0 <= s - i < COLUMNS],
    6: [(i, i - s) for s in range(-COLUMNS, ROWS) for i in range(ROWS) if 0 <= i - s < COLUMNS],
}
WALKS |= {number + 1: walk[::-1] for number, walk in WALKS.items()}


def scan_block(x: Array, layer: SS2D) -> Array:
    """M_scan: norm, two projections, convolution, the recurrences of all walks, gate, residual."""
    parameters = layer.scan
    project, w_dt, a_log, d, bias = (
        array(getattr(parameters, name)) for name in ("project", "w_dt", "a_log", "d", "dt_bias")
    )
    rank, states = w_dt.shape[2], a_log.shape[2]
    normed = norm(x, layer.norm)
    u = silu(convolve(linear(normed, layer.enter), layer.conv))
    total = np.zeros_like(u)
    for number, direction in enumerate(parameters.directions):
        k = number % len(project)
        h = np.zeros((len(u), states))
        for i, j in WALKS[direction]:
            low = project[k] @ u[:, i, j]
            dt = np.log1p(np.exp(w_dt[k] @ low[:rank] + bias[k]))
            b, c = low[rank : rank + states], low[rank + states :]
            h = np.exp(-np.exp(a_log[k]) * dt[:, None]) * h + np.outer(dt * u[:, i, j], b)
            total[:, i, j] += h @ c + d[k] * u[:, i, j]
    gated = norm(total, layer.scan_norm) * silu(linear(normed, layer.gate))
    return x + linear(gated, layer.leave)


@pytest.mark.parametrize("directions", [(0, 1, 2, 3), (4, 5, 6, 7), (2,)], ids=str)
@pytest.mark.parametrize("share", [True, False], ids=["shared", "a set each"])
def test_scan_block_is_the_recurrence_along_each_walk(
    directions: tuple[int, ...], share: bool
) -> None:
    config = DyProConfig(width=WIDTH, state=3, directions=directions)
    layer = made(SS2D(WIDTH, config, expand=2, share=share))
    x = image(WIDTH)
    np.testing.assert_allclose(array(layer(x))[0], scan_block(array(x)[0], layer), atol=1e-12)


def test_spatial_prompt_is_equation_4() -> None:
    layer = made(SpatialPrompt(CONFIG))
    f1 = image(3)
    x = array(f1)[0]
    rows, columns = (fractional_matrix(n, layer.transform.order.item()) for n in (ROWS, COLUMNS))
    transformed = np.stack([rows @ channel @ columns.T for channel in x])
    scanned = scan_block(np.concatenate([transformed.real, transformed.imag]), layer.scan_transform)
    back = scanned[:3] + 1j * scanned[3:]
    f_frft = np.stack([rows.conj().T @ channel @ columns.conj() for channel in back]).real
    f_spa = scan_block(x, layer.scan_space)
    expected = convolve(np.concatenate([f_spa, f_frft]), layer.fuse) * silu(x)
    np.testing.assert_allclose(array(layer(f1))[0], expected, atol=1e-11)


def fractional_matrix(length: int, order: float) -> NDArray[np.complex128]:
    """F_a of one axis; test_frft.py says what it is."""
    real, imag = frft_matrix(length, torch.tensor(order, dtype=torch.float64))
    return array(real) + 1j * array(imag)


def test_edge_prompt_is_equation_5() -> None:
    layer = made(EdgePrompt(CONFIG))
    f1 = image(3, rows=6, columns=8)
    x = array(f1)[0]
    pooled = x.reshape(3, 3, 2, 4, 2).mean((2, 4))
    up = np.stack([interpolate(interpolate(channel).T).T for channel in pooled])
    first, _, second = layer.convolve
    expected = convolve(gelu(convolve(x - up, first)), second)
    np.testing.assert_allclose(array(layer(f1))[0], expected, atol=1e-12)


def interpolate(x: Array) -> Array:
    """Twice the rows, linearly between the centres of pixels, the ends repeated."""
    padded = np.concatenate([x[:1], x, x[-1:]])
    places = (np.arange(2 * len(x)) + 0.5) / 2 - 0.5 + 1
    below = np.floor(places).astype(int)
    share = (places - below)[:, None]
    return (1 - share) * padded[below] + share * padded[below + 1]


def test_spectral_prompt_is_an_attention_map_between_channels() -> None:
    layer = made(SpectralPrompt(CONFIG))
    y3 = image(WIDTH)
    normed = norm(array(y3)[0], layer.norm)
    q = convolve(normed, layer.query).reshape(WIDTH, -1)
    k = convolve(normed, layer.key).reshape(WIDTH, -1)
    expected = attention_map(q, k, array(layer.attention.temperature))
    np.testing.assert_allclose(array(layer(y3))[0, 0], expected, atol=1e-12)
    np.testing.assert_allclose(expected.sum(1), 1)


@pytest.mark.parametrize("heads", [1, 2])
def test_prompted_attention_is_equation_9(heads: int) -> None:
    channels = heads * WIDTH
    layer = made(PromptedAttention(channels, CONFIG))
    x = image(channels)
    prompt = torch.rand(1, 1, WIDTH, WIDTH, dtype=torch.float64)
    tokens = linear(norm(array(x)[0], layer.norm), layer.mix)
    query, key, value = (
        convolve(tokens, part).reshape(channels, -1)
        for part in (layer.query, layer.key, layer.value)
    )
    expected = array(x)[0].copy()
    for head in range(heads):
        own = slice(head * WIDTH, (head + 1) * WIDTH)
        a = attention_map(query[own], key[own], array(layer.attention.temperature)[head])
        f3 = value[own].T @ (array(prompt)[0, 0] @ a)  # (pixel, channel)
        expected[own] += f3.T.reshape(WIDTH, ROWS, COLUMNS)
    np.testing.assert_allclose(array(layer(x, prompt))[0], expected, atol=1e-12)


def test_neck_is_equations_6_and_7() -> None:
    net = DyProMamba(3, 5, config=CONFIG)
    neck = made(net.neck)
    x, guide = image(3, rows=6), image(5, seed=2, rows=6)
    f1 = neck.embed(x)
    mean = array(x)[0].mean(0, keepdims=True)
    first, _, second = neck.shallow
    y1 = convolve(gelu(convolve(np.concatenate([array(guide)[0], mean]), first)), second)
    y2 = convolve(np.concatenate([y1, array(neck.spatial(f1))[0]]), neck.refine_space)
    y3 = convolve(np.concatenate([y2, array(neck.edges(f1))[0]]), neck.refine_edges)
    np.testing.assert_allclose(array(neck(x, guide).y3)[0], y3, atol=1e-12)


def test_trunk_is_equation_8() -> None:
    net = made(DyProMamba(3, 5, config=CONFIG))
    x, guide = image(3, rows=6), image(5, seed=2, rows=6)
    y3, prompt = net.neck(x, guide)
    y4 = convolve(np.concatenate([convolve(array(x)[0], net.embed), array(y3)[0]]), net.fuse)
    first = net.first(torch.from_numpy(y4)[None], prompt)
    unshuffled = array(first)[0].reshape(WIDTH, 3, 2, 3, 2).transpose(0, 2, 4, 1, 3)
    down = convolve(unshuffled.reshape(4 * WIDTH, 3, 3), net.down[1])
    middle = array(net.middle(torch.from_numpy(down)[None], prompt))[0]
    up = convolve(middle, net.up[0]).reshape(WIDTH, 2, 2, 3, 3).transpose(0, 3, 1, 4, 2)
    last = net.last(torch.from_numpy(np.ascontiguousarray(up.reshape(1, WIDTH, 6, 6))), prompt)
    expected = convolve(array(last)[0], net.head)
    np.testing.assert_allclose(array(net(x, guide))[0], expected, atol=1e-11)
