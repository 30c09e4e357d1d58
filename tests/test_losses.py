"""The losses have the values of hand cases, and gradients that flow."""

import pytest
import torch

from pixelssr_geo.losses import (
    LossTerms,
    LossWeights,
    adjacent_ssim_loss,
    overall_loss,
    pixel_to_image_loss,
    point_loss,
    projection_loss,
)

RESPONSE = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])


def cube(*values: float) -> torch.Tensor:
    """A cube of 4 x 5 pixels, constant in every channel."""
    return torch.tensor(values).view(1, -1, 1, 1).repeat(1, 1, 4, 5).requires_grad_()


def test_consistent_cube_has_no_projection_loss() -> None:
    loss = projection_loss(cube(0.2, 0.5), cube(0.1, 0.3, 0.5), RESPONSE)
    assert loss.item() == pytest.approx(0)


def test_projection_loss_is_the_mean_difference_of_bands() -> None:
    loss = projection_loss(cube(0.3, 0.4), cube(0.1, 0.3, 0.5), RESPONSE)
    assert loss.item() == pytest.approx((0.1 + 0.1) / 2)


def test_pixels_without_data_do_not_count() -> None:
    x = cube(0.3, 0.4).detach().clone()
    x[:, :, 0] = float("nan")
    valid = torch.ones(1, 1, 4, 5, dtype=torch.bool)
    valid[:, :, 0] = False
    y, mapped = cube(0.1, 0.3, 0.5), cube(0.3, 0.2)
    loss = projection_loss(x, y, RESPONSE, valid) + pixel_to_image_loss(x, mapped, valid)
    assert loss.item() == pytest.approx(0.1 + 0.1)
    loss.backward()
    for tensor in (y, mapped):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
        assert not tensor.grad[:, :, 0].any()


def test_point_loss_looks_at_labelled_pixels_alone() -> None:
    y = cube(0.1, 0.2)
    labels = torch.full((1, 2, 4, 5), float("nan"))
    mask = torch.zeros(1, 1, 4, 5, dtype=torch.bool)
    for row, column, value in ((0, 0, 0.3), (3, 2, 0.1)):
        labels[0, :, row, column], mask[0, 0, row, column] = value, True
    loss = point_loss(y, labels, mask)
    assert loss.item() == pytest.approx((0.2 + 0.1 + 0.0 + 0.1) / 4)
    loss.backward()
    assert y.grad is not None
    assert bool((y.grad != 0).any(1, keepdim=True).logical_and(~mask).any()) is False


def test_no_label_means_no_loss_and_no_gradient() -> None:
    y = cube(0.1, 0.2)
    loss = point_loss(y, torch.zeros_like(y), torch.zeros(1, 1, 4, 5, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert y.grad is not None
    assert not y.grad.any()


def test_equal_channels_have_no_ssim_loss() -> None:
    channel = torch.rand(2, 1, 16, 13)
    assert adjacent_ssim_loss(channel.expand(-1, 4, -1, -1)).item() == pytest.approx(0, abs=1e-5)


def test_ssim_of_constant_channels_is_its_luminance_term() -> None:
    a, b = 0.2, 0.6
    luminance = (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)
    y = cube(a, b).repeat(1, 1, 4, 4)
    assert adjacent_ssim_loss(y).item() == pytest.approx(1 - luminance, abs=1e-4)


def test_ssim_is_that_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    y = torch.rand(1, 3, 40, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    means = []
    for a, b in zip(y[0, :-1], y[0, 1:], strict=True):
        _, image = metrics.structural_similarity(
            a.numpy(),
            b.numpy(),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        means.append(image[5:-5, 5:-5].mean())
    assert adjacent_ssim_loss(y).item() == pytest.approx(1 - sum(means) / 2, abs=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 8), (2, 3), (10, 12), (40, 11)], ids=str)
def test_ssim_gradient_flows_at_every_size(size: tuple[int, int]) -> None:
    y = torch.rand(2, 3, *size, requires_grad=True)
    loss = adjacent_ssim_loss(y)
    loss.backward()
    assert y.grad is not None
    assert torch.isfinite(y.grad).all()
    assert y.grad.any()


def test_one_channel_has_no_neighbour() -> None:
    y = torch.rand(1, 1, 8, 8, requires_grad=True)
    loss = adjacent_ssim_loss(y)
    loss.backward()
    assert loss.item() == 0


def test_sum_takes_the_papers_weights() -> None:
    terms = LossTerms(*(torch.tensor(v) for v in (1.0, 10.0, 100.0, 1000.0)))
    assert overall_loss(terms, LossWeights()).item() == pytest.approx(1 + 10 + 30 + 300)


def test_weight_zero_switches_a_loss_off() -> None:
    terms = LossTerms(*(torch.tensor(v) for v in (1.0, 2.0, float("nan"), 3.0)))
    assert overall_loss(terms, LossWeights(ssim=0.0, image=0.0)).item() == pytest.approx(3)
