"""Two small networks: where hands are in a depth image, and where their joints are.

Joints are voted for: every cell of a coarse grid says where each joint is from it, in three
dimensions, and how much it should be listened to (A2J, Xiong et al., ICCV 2019, with the cells as
anchors). Unlike heatmaps this reaches joints that are hidden or outside of the picture.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..networks.blocks import Residual, convolution

JOINTS = 21
WINDOW_PX = 96
"""Rows and columns of what the joints network looks at."""
WINDOW_M = 0.145
"""Half its edge at the distance of its centre, and half its depth."""
CELL_PX = 4
"""Pixels of a cell of votes."""
DETECTOR_FOCAL_PX = 140.0
"""Focal length of the images that the detector looks at: a hand has the same size in pixels at the
same distance whatever camera saw it."""
DETECTOR_CELL_PX = 4
FARTHEST_M = 3.0
"""The detector does not look beyond."""


class Pyramid(nn.Module):
    """Features of an image at strides of 2 to 16 px, brought back to 4 px.

    Args:
        inputs: Channels of the image.
        widths: Channels at strides of 2, 4, 8 and 16 px.
        size: Rows and columns of the first convolution.
    """

    def __init__(self, inputs: int, widths: tuple[int, int, int, int], size: int = 3) -> None:
        super().__init__()
        a, b, c, d = widths
        self.to_a = nn.Sequential(convolution(inputs, a, 2, size), Residual(a))
        self.to_b = nn.Sequential(convolution(a, b, 2), Residual(b), Residual(b))
        self.to_c = nn.Sequential(convolution(b, c, 2), Residual(c), Residual(c))
        self.to_d = nn.Sequential(convolution(c, d, 2), Residual(d), Residual(d))
        self.from_d = nn.Conv2d(d, c, 1)
        self.mix_c = convolution(c, c)
        self.from_c = nn.Conv2d(c, b, 1)

    def features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return features at strides of 4 px, which know the coarser ones, and of 16 px."""
        b = self.to_b(self.to_a(image))
        c = self.to_c(b)
        d = self.to_d(c)
        c = self.mix_c(c + functional.interpolate(self.from_d(d), scale_factor=2.0))
        return b + functional.interpolate(self.from_c(c), scale_factor=2.0), d


class Joints(NamedTuple):
    """Outputs for windows.

    Attributes:
        place: (B, 21, 3) column, row and depth, each -1 to 1 across the window.
        log_spread: (B, 21) logarithm of the Laplace spread of `place`, in half windows.
        hand: (B,) logit of there being a hand.
        right: (B,) logit of its being a right one.
    """

    place: Tensor
    log_spread: Tensor
    hand: Tensor
    right: Tensor


class HandJoints(Pyramid):
    """Finds the joints of the hand in a window.

    Args:
        width: Channels of the finest layer.
        mixed: Compute in bfloat16 where that is precise enough.
    """

    def __init__(self, width: int = 32, *, mixed: bool = False) -> None:
        b, c, d = 2 * width, 4 * width, 5 * width
        super().__init__(1, (width, b, c, d), 5)
        self.mixed = mixed
        self.mix_b = nn.Sequential(convolution(b, b), convolution(b, c))
        self.votes = nn.Conv2d(c, 5 * JOINTS, 1)
        self.kind = nn.Linear(d, 2)

    def forward(self, window: Tensor) -> Joints:
        """Return joints.

        Args:
            window: (B, 1, 96, 96), depth from the centre of the window in half windows, -1 to 1;
                1 where nothing is or nothing was measured.
        """
        with torch.autocast(window.device.type, torch.bfloat16, enabled=self.mixed):
            fine, coarse = self.features(window)
            votes = self.votes(self.mix_b(fine))
            kind = self.kind(coarse.mean((2, 3)))
        votes, kind = votes.float(), kind.float()
        batch, _, rows, columns = votes.shape
        votes = votes.reshape(batch, JOINTS, 5, rows * columns)
        weight = votes[:, :, 0].softmax(2)
        across = (torch.arange(columns, device=votes.device) + 0.5) * (2 / columns) - 1
        down = (torch.arange(rows, device=votes.device) + 0.5) * (2 / rows) - 1
        x = across.expand(rows, columns).flatten() + votes[:, :, 1]
        y = down[:, None].expand(rows, columns).flatten() + votes[:, :, 2]
        output = torch.stack([x, y, votes[:, :, 3], votes[:, :, 4]], 2)
        mean = (output * weight[:, :, None]).sum(3)
        return Joints(mean[..., :3], (mean[..., 3] - 2.5).clamp(-5.0, 0.5), kind[:, 0], kind[:, 1])


class Detections(NamedTuple):
    """Outputs for images, for cells of 4x4 pixels.

    Attributes:
        hand: (B, 1, h, w) logit of a hand whose centre is there.
        offset: (B, 2, h, w) columns and rows from the centre of the cell, in cells.
        behind_m: (B, 1, h, w) how far behind the nearest surface in the cell the centre is.
    """

    hand: Tensor
    offset: Tensor
    behind_m: Tensor


class HandDetector(Pyramid):
    """Finds hands in small whole images.

    Args:
        width: Channels of the finest layer.
        mixed: Compute in bfloat16 where that is precise enough.
    """

    def __init__(self, width: int = 16, *, mixed: bool = False) -> None:
        b = 2 * width
        super().__init__(2, (width, b, 4 * width, 6 * width))
        self.mixed = mixed
        self.mix_b = convolution(b, b)
        self.head = nn.Conv2d(b, 4, 1)

    def forward(self, depth_m: Tensor) -> Detections:
        """Return hands.

        Args:
            depth_m: (B, 1, H, W), 0 where nothing was measured; multiples of 16 px.
        """
        known = (depth_m > 0) & (depth_m < FARTHEST_M)
        log_m = torch.where(known, torch.log(depth_m.clamp_min(0.1) / 0.7), 1.5)
        with torch.autocast(depth_m.device.type, torch.bfloat16, enabled=self.mixed):
            fine, _ = self.features(torch.cat([log_m, known.float()], 1))
            found = self.head(self.mix_b(fine))
        found = found.float()
        return Detections(found[:, :1] - 4.0, found[:, 1:3], 0.1 * found[:, 3:])


class DeployedJoints(nn.Module):
    """The joints network as it is exported.

    Args:
        network: What it runs.
    """

    def __init__(self, network: HandJoints) -> None:
        super().__init__()
        self.network = network

    def forward(self, window: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return places (N, 21, 3), their spreads (N, 21), and (N, 2) probabilities.

        Args:
            window: (N, 96, 96) float32; see `HandJoints.forward`.
        """
        found = self.network(window[:, None])
        kind = torch.sigmoid(torch.stack([found.hand, found.right], 1))
        return found.place, torch.exp(found.log_spread), kind


class DeployedDetector(nn.Module):
    """The detector as it is exported.

    Args:
        network: What it runs.
    """

    def __init__(self, network: HandDetector) -> None:
        super().__init__()
        self.network = network

    def forward(self, depth_m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (h, w) probabilities of hands, (2, h, w) offsets in cells, (h, w) metres behind.

        Args:
            depth_m: (H, W) float32 metres at a focal length of 140 px, NaN where there is no
                return; multiples of 16 px.
        """
        known = torch.where(torch.isfinite(depth_m), depth_m, 0.0)
        found = self.network(known[None, None])
        return torch.sigmoid(found.hand[0, 0]), found.offset[0], found.behind_m[0, 0]


def make_network(
    name: Literal['joints', 'detector'], width: int, *, mixed: bool = False
) -> HandJoints | HandDetector:
    """Return a network as settings name it."""
    kind = HandJoints if name == 'joints' else HandDetector
    return kind(**({'width': width} if width else {}), mixed=mixed)
