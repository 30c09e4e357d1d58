"""Attention in windows is what Swin Transformer's equations say, pixel by pixel."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pixelssr_geo.nets.baselines.windows import WINDOW, WindowAttention, WindowBlock

WIDTH, HEADS = 4, 2


def plain(layer: WindowAttention, image: Tensor) -> Tensor:
    """The layer's result for one image (channel, y, x), each pixel by itself."""
    _, rows, columns = image.shape
    tokens = layer.norm(image.permute(1, 2, 0))
    query, key, value = layer.enter(tokens).chunk(3, dim=-1)
    size = WIDTH // HEADS
    result = torch.zeros(rows, columns, WIDTH, dtype=image.dtype)
    for y in range(rows):
        for x in range(columns):
            # where the pixel and its window lie once the image is shifted
            sy, sx = (y - layer.shift) % rows, (x - layer.shift) % columns
            top, left = sy // WINDOW * WINDOW, sx // WINDOW * WINDOW
            mates = []
            for wy in range(top, top + WINDOW):
                for wx in range(left, left + WINDOW):
                    oy, ox = (wy + layer.shift) % rows, (wx + layer.shift) % columns
                    wrapped = (wy >= rows - layer.shift) != (sy >= rows - layer.shift) or (
                        wx >= columns - layer.shift
                    ) != (sx >= columns - layer.shift)
                    if not (layer.masked and wrapped):
                        mates.append((oy, ox, sy - wy, sx - wx))
            for head in range(HEADS):
                part = slice(head * size, (head + 1) * size)
                scores = torch.stack(
                    [
                        query[y, x, part] @ key[oy, ox, part] / size**0.5
                        + layer.position[
                            (dy + WINDOW - 1) * (2 * WINDOW - 1) + dx + WINDOW - 1, head
                        ]
                        for oy, ox, dy, dx in mates
                    ]
                )
                values = torch.stack([value[oy, ox, part] for oy, ox, _, _ in mates])
                result[y, x, part] = torch.softmax(scores, dim=0) @ values
    return layer.project(result).permute(2, 0, 1)


@pytest.mark.parametrize(
    ("shift", "masked"), [(0, True), (WINDOW // 2, True), (WINDOW // 2, False)]
)
def test_attention_is_the_plain_one(
    shift: int,
    masked: bool,
    randomised: Callable[[nn.Module], nn.Module],
    image: Callable[..., Tensor],
) -> None:
    layer = randomised(WindowAttention(WIDTH, HEADS, shift=shift, masked=masked))
    x = image(2, WIDTH, WINDOW, 2 * WINDOW)
    with torch.no_grad():
        expected = torch.stack([plain(layer, one) for one in x])
        torch.testing.assert_close(layer(x), expected)


def test_what_a_block_adds_is_attention_twice_and_the_feed_forward(
    randomised: Callable[[nn.Module], nn.Module], image: Callable[..., Tensor]
) -> None:
    block = randomised(WindowBlock(WIDTH, HEADS))
    x = image(1, WIDTH, WINDOW, WINDOW)
    first = x + block.windows(x)
    second = first + block.shifted(first)
    torch.testing.assert_close(block(x), second + block.feed_forward(second))
    assert (block.windows.shift, block.shifted.shift) == (0, WINDOW // 2)
