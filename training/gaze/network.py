"""SimGAN's network of gaze: from grey pictures of eyes, 35x55 px, to where they look.

Shrivastava et al., "Learning from Simulated and Unsupervised Images through Adversarial Training",
CVPR 2017. The paper lists Conv3x3 of 32, 32 and 64 maps, MaxPool3x3 with stride 2, Conv3x3 of 80
and 192, MaxPool2x2 with stride 2, FC9600, FC1000, FC3 and a Euclidean loss. Without padding 192
maps of 5x10 are left of 35x55 px, which are 9600 numbers: FC9600 is read as these, not as 92
million more weights. The paper does not name the activation: here ReLU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

ROWS_PX, COLUMNS_PX = 35, 55


class GazeNetwork(nn.Module):
    """From (B, 1, 35, 55) greys, 0 to 1, to gaze (B, 3), of about unit length.

    Args:
        maps: Channels of the five convolutions.
        hidden: Numbers between the two last layers.
    """

    def __init__(
        self, maps: tuple[int, int, int, int, int] = (32, 32, 64, 80, 192), hidden: int = 1000
    ) -> None:
        super().__init__()
        first, second, third, fourth, fifth = maps
        self.layers = nn.Sequential(
            nn.Conv2d(1, first, 3), nn.ReLU(),  # (B, 32, 33, 53)
            nn.Conv2d(first, second, 3), nn.ReLU(),  # (B, 32, 31, 51)
            nn.Conv2d(second, third, 3), nn.ReLU(),  # (B, 64, 29, 49)
            nn.MaxPool2d(3, 2),  # (B, 64, 14, 24)
            nn.Conv2d(third, fourth, 3), nn.ReLU(),  # (B, 80, 12, 22)
            nn.Conv2d(fourth, fifth, 3), nn.ReLU(),  # (B, 192, 10, 20)
            nn.MaxPool2d(2, 2),  # (B, 192, 5, 10)
            nn.Flatten(),
            nn.Linear(50 * fifth, hidden), nn.ReLU(),
            nn.Linear(hidden, 3),
        )  # fmt: skip

    def forward(self, grey: Tensor) -> Tensor:
        """Return gaze: x right, y down, z forward of the camera."""
        gaze: Tensor = self.layers(2 * grey - 1)
        return gaze


class UnitGaze(nn.Module):
    """A network as it is exported: its output has unit length."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, grey: Tensor) -> Tensor:
        """Return unit vectors (B, 3) of greys (B, 1, 35, 55)."""
        return functional.normalize(self.network(grey), dim=1)


def euclidean_loss(output: Tensor, gaze: Tensor) -> Tensor:
    """Return half the squared distance of vectors (B, 3), a mean over eyes, as Caffe's is."""
    return 0.5 * (output - gaze).square().sum(1).mean()


def degrees_between(output: Tensor, gaze: Tensor) -> Tensor:
    """Return the angles (B,) between vectors (B, 3) of any length, degrees."""
    # Not from the cosine alone, of which single precision loses angles below a fiftieth degree.
    across = torch.linalg.cross(output, gaze).norm(dim=1)
    return torch.rad2deg(torch.atan2(across, (output * gaze).sum(1)))
