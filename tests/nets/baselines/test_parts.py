"""The parts of SAUNet, MSFN, UnSSR and the U-nets do what their descriptions say."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets import create_net
from pixelssr_geo.nets.baselines.msfn import ChannelWeights, FusionUNet, PixelWeights, SkipFusion
from pixelssr_geo.nets.baselines.saunet import ConvolutionalModulation, ModulationBlock
from pixelssr_geo.nets.baselines.unet import GuidedUNet
from pixelssr_geo.nets.baselines.unssr import (
    ChannelLayer,
    GlobalFilter,
    LocalFlow,
    LowRankModule,
    TwoFlowBlock,
    convolution_pair,
)

Randomised = Callable[[nn.Module], nn.Module]
Image = Callable[..., Tensor]


class TestSAUNet:
    def test_a_wide_convolution_weighs_the_values(
        self, randomised: Randomised, image: Image
    ) -> None:
        layer = randomised(ConvolutionalModulation(3))
        x = image(1, 3, 8, 8)
        normed = functional.layer_norm(x.movedim(1, -1), (3,), eps=1e-6)
        normed = (normed * layer.norm.weight + layer.norm.bias).movedim(-1, 1)
        enter, _, spread = layer.weight
        hidden = functional.gelu(enter(normed))
        weight = functional.conv2d(hidden, spread.weight, spread.bias, padding=3, groups=3)
        torch.testing.assert_close(layer(x), layer.project(weight * layer.value(normed)))

    def test_a_block_adds_twice(self, randomised: Randomised, image: Image) -> None:
        block = randomised(ModulationBlock(3))
        x = image(1, 3, 4, 4)
        middle = x + block.modulation(x)
        torch.testing.assert_close(block(x), middle + block.feed_forward(middle))

    def test_stages_follow_each_other_without_sums(self) -> None:
        net = create_net("saunet", bands=3, channels=4, stages=2, blocks=(1, 1)).eval()
        for parameter in net.stages[1].leave.parameters():
            nn.init.zeros_(parameter)
        with torch.no_grad():
            assert not net(torch.rand(1, 3, 8, 8)).any()


class TestMSFN:
    def test_channels_are_weighed_by_mean_and_maximum(
        self, randomised: Randomised, image: Image
    ) -> None:
        layer = randomised(ChannelWeights(3))
        x = image(2, 3, 4, 5)
        for one, found in zip(x, layer(x), strict=True):
            means, maxima = one.flatten(1).mean(1), one.flatten(1).max(1).values
            weight = torch.sigmoid((layer.mean(means) + layer.maximum(maxima)) / 2)
            torch.testing.assert_close(found, one * weight[:, None, None])

    def test_pixels_are_weighed_by_mean_and_maximum(
        self, randomised: Randomised, image: Image
    ) -> None:
        layer = randomised(PixelWeights(3))
        x = image(1, 3, 4, 5)
        mean, maximum = x.mean(1, keepdim=True), x.max(1, keepdim=True).values
        weight = torch.sigmoid((layer.mean(mean) + layer.maximum(maximum)) / 2)
        torch.testing.assert_close(layer(x), x * weight)

    @pytest.mark.parametrize("spatial", [False, True])
    def test_a_fusion_mixes_both_features_and_both_weighed(
        self, spatial: bool, randomised: Randomised, image: Image
    ) -> None:
        fusion = randomised(SkipFusion(3, spatial=spatial))
        e, d = image(1, 3, 4, 4), image(1, 3, 4, 4, seed=8)
        parts = torch.cat([e, d, fusion.encoded(e), fusion.decoded(d)], dim=1)
        torch.testing.assert_close(fusion(e, d), fusion.mix(parts))

    def test_the_spatial_net_takes_every_level_of_the_spectral_one(
        self, randomised: Randomised, image: Image
    ) -> None:
        spectral = randomised(FusionUNet(2, (1, 1, 1), spatial=False))
        spatial = randomised(FusionUNet(2, (1, 1, 1), spatial=True))
        given = spectral(image(1, 2, 32, 32))
        assert [tuple(one.shape[1:]) for one in given] == [(2, 32, 32), (4, 16, 16), (8, 8, 8)]
        whole = spatial(given[0], given)[0]
        assert whole.shape == given[0].shape
        for level in (1, 2):
            changed = [one.clone() for one in given]
            changed[level] += 1
            assert not torch.allclose(spatial(given[0], changed)[0], whole)


class TestUnSSR:
    def test_a_pair_mirrors_the_edges(self, randomised: Randomised, image: Image) -> None:
        pair = randomised(convolution_pair(2, 3))
        x = image(1, 2, 4, 4)
        first, slope, second = pair

        def convolved(x: Tensor, layer: nn.Module) -> Tensor:
            return functional.conv2d(functional.pad(x, (1, 1, 1, 1), "reflect"), layer.weight)

        hidden = functional.prelu(convolved(x, first), slope.weight)
        torch.testing.assert_close(pair(x), convolved(hidden, second))

    def test_wider_branches_are_rebuilt_from_narrower(
        self, randomised: Randomised, image: Image
    ) -> None:
        module = randomised(LowRankModule(6))
        x = image(1, 6, 4, 4)
        wide, middle, narrow = (branch(x)[0].flatten(1) for branch in module.branches)
        assert [len(one) for one in (wide, middle, narrow)] == [6, 3, 2]

        def rebuilt(one: Tensor, other: Tensor) -> Tensor:
            lengths = one.norm(dim=1)[:, None] * other.norm(dim=1)
            return one + (one @ other.T / lengths) @ other

        both = torch.cat([rebuilt(wide, middle), rebuilt(middle, narrow)]).reshape(1, 9, 4, 4)
        torch.testing.assert_close(module(x), module.fuse(both) + x)

    def test_the_global_filter_multiplies_by_a_weighted_mean(
        self, randomised: Randomised, image: Image
    ) -> None:
        layer = randomised(GlobalFilter(3))
        x = image(1, 3, 4, 5)
        mixed = layer.mix(x)
        share = torch.softmax(layer.score(mixed).flatten(), 0).reshape(4, 5)
        mean = (mixed * share).sum((2, 3), keepdim=True)
        torch.testing.assert_close(layer(x), mixed * mean)

    def test_a_layer_adds_attention_and_perceptron(
        self, randomised: Randomised, image: Image
    ) -> None:
        layer = randomised(ChannelLayer(6))
        x = image(1, 6, 3, 4)
        tokens = x[0].movedim(0, -1)
        query, key, value = layer.enter(layer.norm(tokens)).flatten(0, 1).T.split(6)
        attended = torch.zeros_like(value)
        for head in range(3):
            part = slice(2 * head, 2 * head + 2)
            cosine = functional.normalize(key[part]) @ functional.normalize(query[part]).T
            attended[part] = torch.softmax(layer.sigma[head] * cosine, -1) @ value[part]
        tokens = tokens + layer.project(attended.T.reshape(3, 4, 6))
        expected = (tokens + layer.perceptron(tokens)).movedim(-1, 0)[None]
        torch.testing.assert_close(layer(x), expected)

    def test_flows_run_side_by_side(self, randomised: Randomised, image: Image) -> None:
        block = randomised(TwoFlowBlock(6))
        x = image(1, 6, 4, 4)
        both = torch.cat([block.local(x), block.everywhere(x)], dim=1)
        torch.testing.assert_close(block(x), block.join(both) + x)

    def test_the_local_flow_adds_branch_low_rank_and_input(
        self, randomised: Randomised, image: Image
    ) -> None:
        flow = randomised(LocalFlow(6))
        x = image(1, 6, 4, 4)
        entered = flow.enter(x)
        together = flow.local(entered) + flow.low_rank(entered) + entered
        torch.testing.assert_close(flow(x), flow.leave(together) + x)


def test_guides_halve_beside_the_features_of_a_guided_unet(image: Image) -> None:
    seen: list[tuple[int, bool, torch.Size]] = []

    class Spy(nn.Module):
        def __init__(self, width: int, level: int, up: bool) -> None:
            super().__init__()
            self.width, self.level, self.up = width, level, up

        def forward(self, features: Tensor, guide: Tensor) -> Tensor:
            assert features.shape == guide.shape
            assert features.shape[1] == self.width
            seen.append((self.level, self.up, features.shape[1:]))
            return features

    net = GuidedUNet(2, (2, 1, 1), Spy, decoder_blocks=(1, 2)).double()
    assert net(image(1, 2, 8, 8), image(1, 2, 8, 8)).shape == (1, 2, 8, 8)
    sizes = {0: (2, 8, 8), 1: (4, 4, 4), 2: (8, 2, 2)}
    order = [(0, False), (0, False), (1, False), (2, False), (1, True), (1, True), (0, True)]
    assert seen == [(n, up, torch.Size(sizes[n])) for n, up in order]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("restormer", {"blocks": (2,)}),
        ("restormer", {"width": 7}),
        ("restormer", {"refinement": -1}),
        ("restormer", {"expansion": 0.0}),
        ("saunet", {"stages": 0}),
        ("saunet", {"blocks": (1, 0)}),
        ("specat", {"width": 9}),
        ("specat", {"heads": 0}),
        ("retinex-mamba", {"states": (4, 4)}),
        ("retinex-mamba", {"width": 0}),
        ("msfn", {"stages": 0}),
        ("unssr", {"width": 8}),
        ("unssr", {"blocks": 0}),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="expected"):
        create_net(name, bands=3, channels=4, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("restormer", {"width": 4, "blocks": [1, 1], "refinement": 0, "expansion": 1}),
        ("saunet", {"stages": 1, "blocks": [1]}),
        ("specat", {"width": 4, "blocks": [1, 1, 1], "heads": 1}),
        ("retinex-mamba", {"width": 4, "blocks": [1, 1], "states": [2, 3]}),
        ("msfn", {"stages": 1, "blocks": [1, 1]}),
        ("unssr", {"width": 6, "blocks": 1}),
    ],
    ids=str,
)
def test_sizes_are_settings(name: str, options: dict[str, object]) -> None:
    net = create_net(name, bands=3, channels=4, **options)
    small = sum(p.numel() for p in net.parameters())
    assert small < sum(p.numel() for p in create_net(name, bands=3, channels=4).parameters()) / 2
    assert net(torch.rand(1, 3, 5, 6)).shape == (1, 4, 5, 6)
