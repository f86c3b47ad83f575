"""The U-Net that gives the depth network its context."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

_LEAK = 0.1
"""Slope of activations below 0. With plain ReLUs whole levels of the U-Net died in training: their
output was 0 for every input, so that they had no gradient."""


class Block(nn.Module):
    """Two 3x3 convolutions around which the features are led past, and nothing cuts these.

    Nothing is normalised: statistics of a batch would differ between one process and several, and
    those of an image with the share of it that is hole.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        inner = functional.leaky_relu(self.first(functional.leaky_relu(x, _LEAK)), _LEAK)
        return x + cast('Tensor', self.second(inner))


@dataclass(frozen=True)
class Size:
    """Channels of the U-Net at 4, 8, 16 and 32 pixels, and blocks of each."""

    channels: tuple[int, int, int, int]
    blocks: int


SIZES = {
    'nano': Size((24, 32, 48, 64), 1),
    'small': Size((48, 64, 96, 128), 1),
    'base': Size((64, 96, 128, 192), 2),
}


class UNet(nn.Module):
    """Context: an encoder to 32 pixels a feature, and back, with sums instead of copies."""

    def __init__(self, inputs: int, size: Size) -> None:
        super().__init__()
        widths = size.channels

        def blocks(channels: int) -> nn.Sequential:
            return nn.Sequential(*(Block(channels) for _ in range(size.blocks)))

        self.stem = nn.Sequential(nn.Conv2d(inputs, widths[0], 3, padding=1), nn.LeakyReLU(_LEAK))
        self.encode = nn.ModuleList(blocks(channels) for channels in widths)
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(fine, coarse, 3, 2, 1), nn.LeakyReLU(_LEAK))
            for fine, coarse in pairwise(widths)
        )
        up = [nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(widths)]
        # What is seen from farther away comes in as it is learned.
        nn.init.zeros_(up[0].weight)
        self.up = nn.ModuleList(up)
        self.decode = nn.ModuleList(blocks(channels) for channels in widths[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return features at the input's resolution."""
        x = self.encode[0](self.stem(x))
        skips = []
        for down, encode in zip(self.down, list(self.encode)[1:], strict=True):
            skips.append(x)
            x = encode(down(x))
        for up, decode, skip in reversed(list(zip(self.up, self.decode, skips, strict=True))):
            x = decode(skip + functional.interpolate(up(x), scale_factor=2.0, mode='nearest'))
        return x
