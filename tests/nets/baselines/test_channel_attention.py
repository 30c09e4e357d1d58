"""Attention between channels and the layers around it are what their equations say."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelssr_geo.nets.baselines.channel_attention import (
    GatedFeedForward,
    TransposedAttention,
    attend_channels,
)
from pixelssr_geo.nets.baselines.mst_blocks import SpectralSelfAttention
from pixelssr_geo.nets.baselines.restormer import RestormerBlock
from pixelssr_geo.nets.baselines.retinex_mamba import (
    IlluminationAttention,
    IlluminationEstimator,
    IlluminationFusion,
    RetinexBlock,
)
from pixelssr_geo.nets.baselines.specat import CumulativeBlock
from pixelssr_geo.nets.layers import ChannelNorm

Randomised = Callable[[nn.Module], nn.Module]
Image = Callable[..., Tensor]


def plain(rows: Tensor, columns: Tensor, value: Tensor, heads: int, scale: Tensor) -> Tensor:
    """softmax(scale cos) value for one image (channel, y, x), channel by channel."""
    size = len(rows) // heads
    result = torch.zeros_like(value)
    for i in range(len(rows)):
        mates = range(i // size * size, (i // size + 1) * size)
        cosines = [(rows[i] * columns[j]).sum() / rows[i].norm() / columns[j].norm() for j in mates]
        weights = torch.softmax(scale[i // size, 0, 0] * torch.stack(cosines), dim=0)
        result[i] = sum(w * value[j] for w, j in zip(weights, mates, strict=True))
    return result


def test_attention_is_the_plain_one(image: Image) -> None:
    rows, columns, value = (image(2, 6, 3, 5, seed=seed) for seed in (1, 2, 3))
    scale = torch.tensor([1.5, -0.5], dtype=torch.float64).reshape(2, 1, 1)
    expected = [plain(r, c, v, 2, scale) for r, c, v in zip(rows, columns, value, strict=True)]
    found = attend_channels(rows, columns, value, 2, scale)
    torch.testing.assert_close(found, torch.stack(expected))


def test_black_images_have_finite_gradients() -> None:
    layer = TransposedAttention(4, 2)
    x = torch.zeros(1, 4, 3, 3, requires_grad=True)
    layer(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_transposed_attention_has_queries_for_rows(randomised: Randomised, image: Image) -> None:
    layer = randomised(TransposedAttention(6, 2))
    x = image(1, 6, 4, 5)
    query, key, value = layer.enter(x)[0].split(6)
    attended = plain(query, key, value, 2, layer.temperature)
    torch.testing.assert_close(layer(x), layer.project(attended[None]))


def test_the_first_half_gates_the_second(randomised: Randomised, image: Image) -> None:
    layer = randomised(GatedFeedForward(4, expansion=2.66))
    x = image(1, 4, 3, 3)
    both = layer.enter(x)
    assert both.shape[1] == 2 * int(2.66 * 4)
    gate, value = both[:, :10], both[:, 10:]
    torch.testing.assert_close(layer(x), layer.leave(functional.gelu(gate) * value))


def test_a_norm_of_channels_is_one_at_each_pixel(image: Image) -> None:
    x = image(2, 5, 3, 4)
    found = ChannelNorm(5).double()(x)
    mean, deviation = x.mean(1, keepdim=True), x.std(1, correction=0, keepdim=True)
    torch.testing.assert_close(found, (x - mean) / (deviation.square() + 1e-5).sqrt())


def test_a_restormer_block_adds_twice(randomised: Randomised, image: Image) -> None:
    block = randomised(RestormerBlock(4, 2, 2.0))
    x = image(1, 4, 4, 4)
    norm, attend = block.attention
    middle = x + attend(norm(x))
    norm, feed = block.feed_forward
    torch.testing.assert_close(block(x), middle + feed(norm(middle)))


class TestSPECAT:
    def test_a_weight_multiplies_what_is_attended_alone(
        self, randomised: Randomised, image: Image
    ) -> None:
        layer = randomised(SpectralSelfAttention(6, 2))
        x, weight = image(1, 6, 4, 4), image(1, 6, 4, 4, seed=9)
        value = layer.value(x)
        attended = plain(layer.key(x)[0], layer.query(x)[0], (value * weight)[0], 2, layer.sigma)
        expected = layer.project(attended[None]) + layer.position(value)
        torch.testing.assert_close(layer(x, weight), expected)

    def test_a_block_multiplies_by_the_guide(self, randomised: Randomised, image: Image) -> None:
        block = randomised(CumulativeBlock(4, 2, 1))
        x, guide = image(1, 4, 8, 8), image(1, 4, 8, 8, seed=7)
        spatial = block.spatial(x) * (guide + block.spatial_guide(guide))
        weight = guide + guide * torch.sigmoid(block.spectral_guide(guide))
        middle = x + block.spectral(spatial, weight)
        torch.testing.assert_close(block(x, guide), middle + block.feed_forward(middle))


class TestRetinexMamba:
    def test_queries_are_the_illuminations(self, randomised: Randomised, image: Image) -> None:
        layer = randomised(IlluminationAttention(6, 2))
        x, light = image(1, 6, 4, 4), image(1, 6, 4, 4, seed=7)
        key, value = layer.key_value(x)[0].split(6)
        attended = plain(layer.query(light)[0], key, value, 2, layer.temperature)
        torch.testing.assert_close(layer(x, light), layer.project(attended[None]))

    def test_one_norm_serves_image_and_illumination(
        self, randomised: Randomised, image: Image
    ) -> None:
        fusion = randomised(IlluminationFusion(4, 1))
        x, light = image(1, 4, 4, 4), image(1, 4, 4, 4, seed=7)
        middle = x + fusion.attention(fusion.norm(x), fusion.norm(fusion.illumination(light)))
        expected = middle + fusion.feed_forward(fusion.feed_norm(middle))
        torch.testing.assert_close(fusion(x, light), expected)

    def test_the_scan_is_added_to_the_blocks_input(self, image: Image) -> None:
        block = RetinexBlock(4, 1, 2, "reference").double()
        x, light = image(1, 4, 4, 4), image(1, 4, 4, 4, seed=7)
        middle = x + block.scan(block.fusion(x, light))
        torch.testing.assert_close(block(x, light), middle + block.feed_forward(middle))

    def test_the_illumination_sees_bands_and_their_mean(
        self, randomised: Randomised, image: Image
    ) -> None:
        layer = randomised(IlluminationEstimator(3, 8))
        assert layer.spread.groups == 4
        assert IlluminationEstimator(5, 8).spread.groups == 2  # six inputs do not divide eight
        x = image(1, 3, 5, 5)
        inputs = torch.cat([x, x.mean(1, keepdim=True)], dim=1)
        features, factor = layer(x)
        torch.testing.assert_close(features, layer.spread(layer.enter(inputs)))
        torch.testing.assert_close(factor, layer.leave(features))
