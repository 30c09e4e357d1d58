"""The fractional Fourier transform keeps its algebra."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelssr_geo.nets.dypro.frft import FractionalFourier, frft2, frft_matrix

LENGTHS = (1, 2, 3, 4, 5, 8, 9, 12, 31, 32, 64)
orders = st.floats(-4, 4)
lengths = st.integers(1, 40)


def matrix(length: int, order: float) -> torch.Tensor:
    return torch.complex(*frft_matrix(length, torch.tensor(order, dtype=torch.float64)))


def assert_close(a: torch.Tensor, b: torch.Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


@settings(deadline=None)  # the first draw of a length finds its eigenvectors
@given(lengths, orders)
def test_transform_is_unitary(length: int, order: float) -> None:
    f = matrix(length, order)
    assert_close(f @ f.conj().T, torch.eye(length, dtype=f.dtype))


@settings(deadline=None)  # the first draw of a length finds its eigenvectors
@given(lengths, orders, orders)
def test_orders_add_up(length: int, a: float, b: float) -> None:
    assert_close(matrix(length, a) @ matrix(length, b), matrix(length, a + b))


@pytest.mark.parametrize("length", LENGTHS)
def test_order_zero_is_the_identity(length: int) -> None:
    assert_close(matrix(length, 0.0), torch.eye(length, dtype=torch.complex128))


@pytest.mark.parametrize("length", LENGTHS)
def test_order_one_is_the_centred_unitary_dft(length: int) -> None:
    eye = torch.eye(length, dtype=torch.complex128)
    dft = torch.fft.fft(torch.fft.ifftshift(eye, dim=0), dim=0, norm="ortho")
    assert_close(matrix(length, 1.0), torch.fft.fftshift(dft, dim=0))


@pytest.mark.parametrize("length", [8, 9, 32, 33])
def test_matrix_is_that_of_torch_frft_with_centred_rows(length: int) -> None:
    oracle = pytest.importorskip("torch_frft.dfrft_module")
    uncentred = matrix(length, 0.6).roll((-(length // 2),) * 2, dims=(0, 1))
    expected = oracle.dfrftmtx(length, 0.6).to(torch.complex128)
    assert_close(uncentred, expected, atol=1e-4)  # the oracle computes in float32


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (7, 12), (16, 16)])
def test_inverse_gives_the_image_back(size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size, dtype=torch.float64)
    transform = FractionalFourier(0.37).double()
    assert_close(transform.invert(*transform(image))[0], image)


def test_images_are_transformed_along_both_axes() -> None:
    real, imag = torch.rand(2, 2, 5, 8, dtype=torch.float64)
    order = torch.tensor(0.7, dtype=torch.float64)
    found = torch.complex(*frft2(real, imag, order))
    assert_close(found, matrix(5, 0.7) @ torch.complex(real, imag) @ matrix(8, 0.7).T)


def test_gradient_of_the_order_passes_gradcheck() -> None:
    image = torch.rand(1, 4, 6, dtype=torch.float64, requires_grad=True)
    order = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, a: frft2(x, None, a), (image, order))


def test_basis_made_in_inference_serves_training() -> None:
    transform = FractionalFourier(0.5)
    image = torch.rand(1, 1, 37, 37)
    with torch.inference_mode():
        transform(image)
    transform(image)[0].sum().backward()
    assert transform.order.grad is not None


def test_order_is_a_parameter_only_if_learnt() -> None:
    assert len(list(FractionalFourier(0.5).parameters())) == 1
    assert not list(FractionalFourier(1.0, learnable=False).parameters())
