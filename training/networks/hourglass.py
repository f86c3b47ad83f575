"""The stacked hourglass, which SimGAN's table of hand poses was made with, two stacks of it.

Newell, Yang and Deng, "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..running import averaged_weights

HEATMAP_PX = 64
"""Rows and columns of heatmaps, in the paper."""


class Residual(nn.Module):
    """A bottleneck, its activations before the convolutions (He et al., ECCV 2016).

    Args:
        inputs: Channels in.
        outputs: Channels out.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.layers = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, half, 1),
            nn.BatchNorm2d(half), nn.ReLU(), nn.Conv2d(half, half, 3, padding=1),
            nn.BatchNorm2d(half), nn.ReLU(), nn.Conv2d(half, outputs, 1),
        )  # fmt: skip
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same size."""
        result: Tensor = self.layers(x) + self.skip(x)
        return result


class Hourglass(nn.Module):
    """Halves the resolution `depth` times and comes back, adding what it passed on the way.

    Args:
        depth: How often.
        features: Channels.
    """

    def __init__(self, depth: int, features: int) -> None:
        super().__init__()
        self.across = Residual(features, features)
        self.down = nn.Sequential(nn.MaxPool2d(2), Residual(features, features))
        self.inner = Hourglass(depth - 1, features) if depth > 1 else Residual(features, features)
        self.up = nn.Sequential(Residual(features, features), nn.Upsample(scale_factor=2))

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same size, a multiple of 2 ** depth."""
        result: Tensor = self.across(x) + self.up(self.inner(self.down(x)))
        return result


class StackedHourglass(nn.Module):
    """Heatmaps of joints in a crop of a depth image.

    Args:
        joints: How many.
        stacks: Hourglasses, one after the other; each sees the heatmaps of the one before.
        features: Channels; 256 in the paper.
        heatmap_px: Rows and columns of heatmaps, a multiple of 16; half of them cost a quarter.
    """

    def __init__(
        self,
        joints: int,
        *,
        stacks: int = 2,
        features: int = 256,
        heatmap_px: int = HEATMAP_PX,
    ) -> None:
        super().__init__()
        self.input_px = 4 * heatmap_px
        self.stem = nn.Sequential(
            nn.Conv2d(1, features // 4, 7, 2, 3), nn.BatchNorm2d(features // 4), nn.ReLU(),
            Residual(features // 4, features // 2), nn.MaxPool2d(2),
            Residual(features // 2, features // 2), Residual(features // 2, features),
        )  # fmt: skip
        self.hourglasses = nn.ModuleList(
            nn.Sequential(
                Hourglass(4, features), Residual(features, features),
                nn.Conv2d(features, features, 1), nn.BatchNorm2d(features), nn.ReLU(),
            )
            for _ in range(stacks)
        )  # fmt: skip
        self.heads = nn.ModuleList(nn.Conv2d(features, joints, 1) for _ in range(stacks))
        self.again = nn.ModuleList(nn.Conv2d(features, features, 1) for _ in range(stacks - 1))
        self.seen = nn.ModuleList(nn.Conv2d(joints, features, 1) for _ in range(stacks - 1))
        for head in self.heads:
            assert isinstance(head, nn.Conv2d)
            # As Xiao, Wu and Wei, "Simple baselines for human pose estimation and tracking", ECCV
            # 2018: heatmaps are nearly all 0, and so they are from the first step.
            nn.init.normal_(head.weight, std=0.001)
            assert head.bias is not None
            nn.init.zeros_(head.bias)

    def forward(self, depth: Tensor) -> Tensor:
        """Return the heatmaps of every stack, (B, S, J, h, h); the last are the best.

        Args:
            depth: (B, 1, H, W), brought to four times the heatmaps, 256x256 for those of the paper
                on hourglasses; SimGAN's has 224x224 and does not say how they meet.
        """
        x = self.stem(functional.interpolate(depth, (self.input_px, self.input_px)))
        heatmaps = []
        for number, (hourglass, head) in enumerate(zip(self.hourglasses, self.heads, strict=True)):
            features = hourglass(x)
            heatmaps.append(head(features))
            if number < len(self.again):
                x = x + self.again[number](features) + self.seen[number](heatmaps[-1])
        return torch.stack(heatmaps, 1)


def heatmaps_of(
    joints_px: Tensor, size_px: int, spread_px: float = 1.0, heatmap_px: int = HEATMAP_PX
) -> Tensor:
    """Return what heatmaps should be: a Gaussian at each joint; nothing where it is outside.

    Args:
        joints_px: (B, J, 2) columns and rows in a crop.
        size_px: Rows and columns of the crop.
        spread_px: Standard deviation, pixels of the heatmap.
        heatmap_px: Rows and columns of the heatmaps.

    Returns:
        (B, J, heatmap_px, heatmap_px).
    """
    place = (joints_px + 0.5) * (heatmap_px / size_px) - 0.5
    at = torch.arange(heatmap_px, dtype=torch.float32, device=joints_px.device)
    columns, rows = (
        torch.exp(-0.5 * ((at - place[..., axis, None]) / spread_px) ** 2) for axis in (0, 1)
    )
    inside = ((joints_px >= -0.5) & (joints_px <= size_px - 0.5)).all(2)
    return rows[..., :, None] * columns[..., None, :] * inside[..., None, None]


def joints_of(heatmaps: Tensor, size_px: int) -> Tensor:
    """Return where heatmaps are highest, a quarter pixel towards the higher neighbour.

    Args:
        heatmaps: (B, J, h, h).
        size_px: Rows and columns of the crop.

    Returns:
        (B, J, 2) columns and rows in the crop.
    """
    count = heatmaps.shape[-1]
    padded = functional.pad(heatmaps, (1, 1, 1, 1), value=-torch.inf)
    best = heatmaps.flatten(2).argmax(2)
    row, column = best // count, best % count

    def at(down: int, right: int) -> Tensor:
        index = (row + 1 + down) * (count + 2) + column + 1 + right
        return padded.flatten(2).gather(2, index[..., None])[..., 0]

    across = (at(0, 1) - at(0, -1)).sign()
    down = (at(1, 0) - at(-1, 0)).sign()
    place = torch.stack([column + 0.25 * across, row + 0.25 * down], 2)
    return (place + 0.5) * (size_px / count) - 0.5


def load_hourglass(checkpoint: Path) -> StackedHourglass:
    """Return the hourglass of a checkpoint of `training.synth2real.train_hourglass`, frozen."""
    state = torch.load(checkpoint, map_location='cpu', weights_only=True)
    of = state['settings']
    network = StackedHourglass(of['joints'], stacks=of['stacks'], features=of['features'])
    network.load_state_dict(averaged_weights(state))
    return network.eval()


def heatmap_loss(heatmaps: Tensor, joints_px: Tensor, size_px: int) -> Tensor:
    """Return the squared error of the heatmaps of all stacks, summed over each, a mean a joint.

    Args:
        heatmaps: (B, S, J, h, h).
        joints_px: (B, J, 2), pixels of the crop.
        size_px: Rows and columns of the crop.
    """
    wanted = heatmaps_of(joints_px, size_px, heatmap_px=heatmaps.shape[-1])[:, None]
    return (heatmaps - wanted).square().sum((3, 4)).mean()
