"""PromptSSM: prompted spectral attention, spatial scan, feed-forward (Section 3.2.2, eq. 9)."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from torch import Tensor, nn

from pixelssr_geo.nets.dypro.block import SS2D, SpectralAttention, layer_norm, projection3x3
from pixelssr_geo.nets.layers import GELU, conv3x3, split_heads, to_first, to_last

if TYPE_CHECKING:
    from pixelssr_geo.nets.dypro.config import DyProConfig


class PromptedAttention(nn.Module):
    """Spectral attention steered by P_spe: ``F3 = V (P_spe softmax(K^T Q))`` (eq. 9).

    Heads keep the width of P_spe at every level, so that the product is defined where a level has
    more channels; each head takes the same prompt.
    """

    def __init__(self, width: int, config: DyProConfig) -> None:
        super().__init__()
        self.norm = layer_norm(width, config)
        self.mix = nn.Linear(width, width, bias=False)
        self.query = projection3x3(width, config)
        self.key = projection3x3(width, config)
        self.value = projection3x3(width, config)
        self.attention = SpectralAttention(width // config.width, config)
        self.residual = config.residuals

    def forward(self, image: Tensor, prompt: Tensor | None) -> Tensor:
        """Return F3, ``(batch, channel, y, x)`` as the input.

        Parameters
        ----------
        image
            ``(batch, channel, y, x)``.
        prompt
            P_spe, ``(batch, 1, head width, head width)``; None leaves it out of the product.
        """
        mixed = to_first(self.mix(self.norm(to_last(image))))
        weights = self.attention(self.query(mixed), self.key(mixed))
        if prompt is not None:
            weights = prompt @ weights
        attended = split_heads(self.value(mixed), self.attention.heads) @ weights
        batch, width, rows, columns = image.shape
        tokens = attended.transpose(1, 2).reshape(batch, rows, columns, width)
        return image + to_first(tokens) if self.residual else to_first(tokens)

    def own_macs(
        self, image: tuple[int, ...], prompt: tuple[int, ...] | None = None
    ) -> dict[str, int]:
        """Return the multiply-accumulates of P_spe A and V (P_spe A) for inputs of these shapes."""
        heads = self.attention.heads
        head_width = image[1] // heads
        prompted = image[0] * heads * head_width**3 if prompt is not None else 0
        return {"attention": prompted + prod(image) * head_width}


class PromptSSM(nn.Module):
    """One block of the trunk; sizes and channels stay.

    Parameters
    ----------
    width
        Channels of this level.
    config
        The network's settings.
    """

    def __init__(self, width: int, config: DyProConfig) -> None:
        super().__init__()
        self.attention = (
            PromptedAttention(width, config) if config.prompt_ssm != "no-attention" else None
        )
        self.scan = SS2D(width, config, expand=config.expand, share=config.share_directions)
        layers: list[nn.Module] = [conv3x3(width, width)]
        for _ in range(1, config.feed_forward_convs):
            layers += [GELU(), conv3x3(width, width)]
        self.feed_forward = nn.Sequential(*layers)
        self.residual = config.residuals

    def forward(self, image: Tensor, prompt: Tensor | None) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input; for the prompt see the attention."""
        if self.attention is not None:
            image = self.attention(image, prompt)
        image = self.scan(image)
        fed: Tensor = self.feed_forward(image)
        return image + fed if self.residual else fed
