"""The networks of a small cascade: coarse depth, its gradients, and depth made fine with both.

Each is a stack of eight 3x3 convolutions of 50, 80, 120, 120, 80, 50, 25 and few channels, batch
normalised but for the last, with ReLU. The second halves the resolution and a transposed
convolution before the seventh restores it. What the description of the cascade leaves open (the
seventh width, where the resolution is halved, the two directions of a gradient) is chosen here.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (50, 80, 120, 120, 80, 50, 25)

# I. Sobel and G. Feldman, 1968, per pixel of distance: a ramp of 1 a pixel has a gradient of 1.
_SOBEL = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8


def gradients(depth: Tensor) -> Tensor:
    """Return the derivatives of (B, 1, H, W) along x and y by Sobel's operator, (B, 2, H, W)."""
    kernels = torch.stack([_SOBEL, _SOBEL.T])[:, None].to(depth)
    return functional.conv2d(functional.pad(depth, (1, 1, 1, 1), 'replicate'), kernels)


def gradients_known(known: Tensor) -> Tensor:
    """Return where all pixels that a derivative uses are known, (B, 1, H, W) bool."""
    around = functional.pad(known.float(), (1, 1, 1, 1), 'replicate')
    return -functional.max_pool2d(-around, 3, 1) > 0


class Stack(nn.Module):
    """One network of the cascade.

    Args:
        channels: Channels of its input.
        outputs: Channels of its output.
        joining: Channels that come in at the second convolution.
    """

    def __init__(self, channels: int, outputs: int, joining: int = 0) -> None:
        super().__init__()
        self.first = _layer(channels, WIDTHS[0])
        self.second = _layer(WIDTHS[0] + joining, WIDTHS[1], stride=2)
        self.middle = nn.Sequential(*(_layer(*widths) for widths in pairwise(WIDTHS[1:6])))
        self.enlarge = nn.Sequential(
            nn.ConvTranspose2d(WIDTHS[5], WIDTHS[5], 4, 2, 1),
            nn.BatchNorm2d(WIDTHS[5]),
            nn.ReLU(),
        )
        self.seventh = _layer(WIDTHS[5], WIDTHS[6])
        self.last = nn.Conv2d(WIDTHS[6], outputs, 3, padding=1)

    def forward(self, image: Tensor, joining: Tensor | None = None) -> Tensor:
        """Return (B, outputs, H, W) of (B, channels, H, W); H and W are even."""
        x = self.first(image)
        if joining is not None:
            x = torch.cat([x, joining], 1)
        return self.last(self.seventh(self.enlarge(self.middle(self.second(x)))))  # type: ignore[no-any-return]


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Cascade(nn.Module):
    """The three networks; each is trained when those before it are."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse = Stack(3, 1)
        self.gradient = Stack(3, 2)
        self.fine = Stack(4, 1, joining=2)

    def forward(self, color: Tensor) -> Tensor:
        """Return depth as it is coded, (B, 1, H, W), of colour (B, 3, H, W), 0 to 1."""
        coarse, gradient = self.coarse(color), self.gradient(color)
        return self.fine(torch.cat([color, coarse], 1), gradient)  # type: ignore[no-any-return]
