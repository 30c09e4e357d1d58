"""MST++ computes what its papers' equations say, at the published size and counts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets import create_net
from pixelssr_geo.nets.baselines.mst_blocks import FeedForward, SpectralSelfAttention
from pixelssr_geo.nets.baselines.mst_plus_plus import SpectralUNet
from pixelssr_geo.nets.baselines.resampling import pad_to_multiple
from pixelssr_geo.nets.cost import measure_cost


def matrix(layer: torch.nn.Conv2d) -> Tensor:
    """The matrix of a 1 x 1 convolution."""
    return layer.weight[:, :, 0, 0]


def plain_attention(layer: SpectralSelfAttention, image: Tensor) -> Tensor:
    """S-MSA as its equations say: head by head, channel by channel, for one image (channel, y, x)."""
    width, rows, columns = image.shape
    tokens = image.reshape(width, -1)
    query, key, value = (matrix(m) @ tokens for m in (layer.query, layer.key, layer.value))
    head_width = width // layer.heads
    attended = torch.zeros_like(value)
    for head in range(layer.heads):
        channels = range(head * head_width, (head + 1) * head_width)
        for i in channels:
            unit = key[i] / key[i].norm()
            scores = torch.stack([unit @ (query[j] / query[j].norm()) for j in channels])
            weights = torch.softmax(layer.sigma[head, 0, 0] * scores, dim=0)
            attended[i] = sum(w * value[j] for w, j in zip(weights, channels, strict=True))
    projected = matrix(layer.project) @ attended + layer.project.bias[:, None]
    position = value.reshape(1, width, rows, columns)
    position = functional.conv2d(position, layer.position[0].weight, padding=1, groups=width)
    position = functional.conv2d(
        functional.gelu(position), layer.position[2].weight, padding=1, groups=width
    )
    return projected.reshape(width, rows, columns) + position[0]


def randomised(layer: torch.nn.Module) -> torch.nn.Module:
    """The layer in float64 with parameters large enough to tell an error in any of them."""
    generator = torch.Generator().manual_seed(3)
    layer = layer.double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return layer


def image(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


class TestSpectralSelfAttention:
    @settings(max_examples=20, deadline=None)
    @given(
        heads=st.integers(1, 3),
        head_width=st.integers(1, 4),
        rows=st.integers(1, 6),
        columns=st.integers(1, 6),
        last=st.booleans(),
    )
    def test_it_is_the_plain_one(
        self, heads: int, head_width: int, rows: int, columns: int, last: bool
    ) -> None:
        layer = randomised(SpectralSelfAttention(heads * head_width, heads))
        x = image(2, heads * head_width, rows, columns)
        order = torch.channels_last if last else torch.contiguous_format
        expected = torch.stack([plain_attention(layer, one) for one in x])
        torch.testing.assert_close(layer(x.contiguous(memory_format=order)), expected)

    def test_gradients_are_those_of_the_plain_one(self) -> None:
        layer = randomised(SpectralSelfAttention(6, 2))
        x = image(1, 6, 4, 5).requires_grad_()
        wanted = [x, *layer.parameters()]
        weights = image(6, 4, 5)
        found = torch.autograd.grad((layer(x)[0] * weights).sum(), wanted)
        expected = torch.autograd.grad((plain_attention(layer, x[0]) * weights).sum(), wanted)
        torch.testing.assert_close(found, expected)

    def test_black_images_have_finite_gradients(self) -> None:
        layer = SpectralSelfAttention(4, 2)
        x = torch.zeros(1, 4, 3, 3, requires_grad=True)
        layer(x).sum().backward()
        assert torch.isfinite(x.grad).all()
        assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


def test_feed_forward_is_its_description() -> None:
    layer = randomised(FeedForward(5))
    x = image(2, 5, 4, 3)
    enter, spread, leave = layer.layers[0], layer.layers[2], layer.layers[4]
    tokens = x.permute(0, 2, 3, 1)
    tokens = (tokens - tokens.mean(-1, keepdim=True)) / (
        tokens.var(-1, correction=0, keepdim=True) + 1e-5
    ).sqrt()
    tokens = functional.gelu((tokens * layer.norm.weight + layer.norm.bias) @ matrix(enter).t())
    hidden = functional.conv2d(tokens.permute(0, 3, 1, 2), spread.weight, padding=1, groups=20)
    expected = functional.gelu(hidden).permute(0, 2, 3, 1) @ matrix(leave).t()
    torch.testing.assert_close(layer(x), expected.permute(0, 3, 1, 2))


def test_a_unet_with_nothing_to_add_leaves_the_image() -> None:
    unet = randomised(SpectralUNet(3, (1, 1, 1)))
    torch.nn.init.zeros_(unet.leave.weight)
    x = image(1, 3, 8, 8)
    torch.testing.assert_close(unet(x), x)


def test_every_level_and_skip_matters() -> None:
    unet = randomised(SpectralUNet(2, (1, 2, 1)))
    x = image(1, 2, 8, 8)
    whole = unet(x)
    for part in (*unet.encoders, *unet.downs, unet.bottleneck, *unet.fuses, *unet.decoders):
        state = {name: value.clone() for name, value in part.state_dict().items()}
        with torch.no_grad():
            for parameter in part.parameters():
                parameter.mul_(1.5)
        assert not torch.allclose(unet(x), whole)
        part.load_state_dict(state)
    torch.testing.assert_close(unet(x), whole)


class TestPadding:
    @pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17])
    def test_sides_grow_to_the_multiple_behind_the_image(self, side: int) -> None:
        x = image(1, 2, side, 8)
        padded = pad_to_multiple(x, 8)
        assert padded.shape == (1, 2, side + -side % 8, 8)
        assert torch.equal(padded[:, :, :side], x)

    def test_the_image_is_mirrored_where_it_is_long_enough(self) -> None:
        padded = pad_to_multiple(torch.arange(5.0).reshape(1, 1, 1, 5), 8)
        assert padded[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]

    def test_the_last_pixel_is_repeated_where_it_is_not(self) -> None:
        padded = pad_to_multiple(torch.arange(3.0).reshape(1, 1, 1, 3), 8)
        assert padded[0, 0, 0].tolist() == [0, 1, 2, 2, 2, 2, 2, 2]

    def test_a_cropped_cube_is_that_of_the_padded_scene(self) -> None:
        net = create_net("mst++", bands=3, channels=5).eval()
        x = torch.rand(1, 3, 13, 21)
        with torch.no_grad():
            expected = net(pad_to_multiple(x, 8))[..., :13, :21]
            torch.testing.assert_close(net(x), expected)


# The counts that the published configuration has, and the paper's Table 10 prints (1.62 M, 5.83 G).
@pytest.mark.parametrize(
    ("bands", "channels", "parameters", "macs"),
    [(3, 31, 1.6196e6, 5.828e9), (4, 60, 5.970e6, 21.30e9)],
)
class TestCosts:
    def test_published_counts_are_met(
        self, bands: int, channels: int, parameters: float, macs: float
    ) -> None:
        cost = measure_cost(create_net("mst++", bands=bands, channels=channels), 128, 128)
        assert cost.parameters == pytest.approx(parameters, rel=5e-5)
        assert cost.profiled_macs == pytest.approx(macs, rel=5e-4)

    def test_all_products_are_those_that_torch_counts(
        self, bands: int, channels: int, parameters: float, macs: float
    ) -> None:
        net = create_net("mst++", bands=bands, channels=channels).eval()
        cost = measure_cost(net, 32, 32)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(torch.zeros(1, bands, 32, 32))
        kinds = {row.kind: 0 for row in cost.rows}
        for row in cost.rows:
            kinds[row.kind] += row.macs
        # Ours also has the norms, and thop's count of a transposed convolution: four times too much.
        ours = cost.macs - kinds["LayerNorm"] - kinds["ConvTranspose2d"] * 3 // 4
        assert 2 * ours == counter.get_total_flops()


def test_stages_and_blocks_are_settings() -> None:
    net = create_net("mst++", bands=3, channels=4, stages=1, blocks=(2, 1)).eval()
    assert len(net.stages) == 1
    with torch.no_grad():
        assert net(torch.rand(1, 3, 5, 6)).shape == (1, 4, 5, 6)


@pytest.mark.parametrize("options", [{"stages": 0}, {"blocks": ()}, {"blocks": (1, 0)}], ids=str)
def test_impossible_settings_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="expected at least"):
        create_net("mst++", bands=3, channels=4, **options)


def test_float64_and_a_batch_keep_each_image_apart() -> None:
    net = create_net("mst++", bands=3, channels=4).double().eval()
    x = image(3, 3, 8, 16)
    with torch.no_grad():
        torch.testing.assert_close(net(x), torch.cat([net(one[None]) for one in x]))
