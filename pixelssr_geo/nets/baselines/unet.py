"""U-nets of 4 x 4 convolutions down and transposed 2 x 2 ones up, whatever their blocks are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets.baselines.resampling import conv1x1, double, halve
from pixelssr_geo.nets.layers import conv3x3

if TYPE_CHECKING:
    from collections.abc import Callable


def check_blocks(blocks: tuple[int, ...]) -> None:
    """Raise SettingsError unless there is a level, and a block at each."""
    if not blocks or min(blocks) < 1:
        raise SettingsError(
            f"blocks is {blocks}, expected at least one level with at least 1 block each"
        )


class UNet(nn.Module):
    """A U-net; each level down has half the size and twice the channels of the one above.

    Parameters
    ----------
    width
        Channels in and out.
    blocks
        Blocks at each level, the bottleneck last.
    make_block
        Makes the block of a level: takes its channels, and its number from 0 at full size.
    residual
        Whether the image is added to the result.
    """

    def __init__(
        self,
        width: int,
        blocks: tuple[int, ...],
        make_block: Callable[[int, int], nn.Module],
        *,
        residual: bool,
    ) -> None:
        super().__init__()
        *levels, bottom = range(len(blocks))

        def level(n: int) -> nn.Sequential:
            return nn.Sequential(*(make_block(width * 2**n, n) for _ in range(blocks[n])))

        self.embed = conv3x3(width, width, bias=False)
        self.encoders = nn.ModuleList(level(n) for n in levels)
        self.downs = nn.ModuleList(halve(width * 2**n, width * 2 ** (n + 1)) for n in levels)
        self.bottleneck = level(bottom)
        self.ups = nn.ModuleList(double(width * 2 ** (n + 1), width * 2**n) for n in levels)
        self.fuses = nn.ModuleList(conv1x1(width * 2 ** (n + 1), width * 2**n) for n in levels)
        self.decoders = nn.ModuleList(level(n) for n in levels)
        self.leave = conv3x3(width, width, bias=False)
        self.residual = residual

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input, whose sides halve at every level."""
        features, skips = self.embed(image), []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            skips.append(encoder(features))
            features = down(skips[-1])
        features = self.bottleneck(features)
        for up, fuse, decoder in zip(
            reversed(self.ups), reversed(self.fuses), reversed(self.decoders), strict=True
        ):
            features = decoder(fuse(torch.cat([up(features), skips.pop()], dim=1)))
        left: Tensor = self.leave(features)
        return left + image if self.residual else left


class GuidedUNet(nn.Module):
    """The trunk of a U-net whose blocks look at a second image, of the level's size and channels.

    What embeds the images and what turns the features into the result is the caller's.

    Parameters
    ----------
    width, blocks
        See :class:`UNet`.
    make_block
        Makes the block of a level, which takes the features and the guide: takes its channels, its
        number from 0 at full size, and whether it lies on the way up.
    decoder_blocks
        Blocks at each level on the way up, the bottleneck left out; None: as many as on the way
        down.
    """

    def __init__(
        self,
        width: int,
        blocks: tuple[int, ...],
        make_block: Callable[[int, int, bool], nn.Module],
        *,
        decoder_blocks: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        *levels, bottom = range(len(blocks))
        ups = blocks[:-1] if decoder_blocks is None else decoder_blocks

        def level(n: int, count: int, *, up: bool = False) -> nn.ModuleList:
            return nn.ModuleList(make_block(width * 2**n, n, up) for _ in range(count))

        def downs() -> nn.ModuleList:
            return nn.ModuleList(halve(width * 2**n, width * 2 ** (n + 1)) for n in levels)

        self.encoders = nn.ModuleList(level(n, blocks[n]) for n in levels)
        self.downs = downs()
        self.guide_downs = downs()
        self.bottleneck = level(bottom, blocks[bottom])
        self.ups = nn.ModuleList(double(width * 2 ** (n + 1), width * 2**n) for n in levels)
        self.fuses = nn.ModuleList(conv1x1(width * 2 ** (n + 1), width * 2**n) for n in levels)
        self.decoders = nn.ModuleList(level(n, ups[n], up=True) for n in levels)

    def forward(self, features: Tensor, guide: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as both inputs, whose sides halve at every level."""
        skips = []
        for level, down, guide_down in zip(
            self.encoders, self.downs, self.guide_downs, strict=True
        ):
            features = _through(level, features, guide)
            skips.append((features, guide))
            features, guide = down(features), guide_down(guide)
        features = _through(self.bottleneck, features, guide)
        for up, fuse, level in zip(
            reversed(self.ups), reversed(self.fuses), reversed(self.decoders), strict=True
        ):
            skip, guide = skips.pop()
            features = _through(level, fuse(torch.cat([up(features), skip], dim=1)), guide)
        return features


def _through(level: nn.Module, features: Tensor, guide: Tensor) -> Tensor:
    """Return the features behind all blocks of a level."""
    for block in level.children():
        features = block(features, guide)
    return features
