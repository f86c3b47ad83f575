"""Networks that make depth of a hand from its joints, and a discriminator that finds the joints.

W. He, Z. Xie, Y. Li, X. Wang, W. Cai, "Synthesizing depth hand images with GANs and style transfer
for hand pose estimation", Sensors 19(13):2919, 2019. What its networks do is theirs: 14 joints in,
128x128 depth out, and a discriminator whose second head is the posterior of the joints. The layers
are DCGAN's (Radford et al., ICLR 2016), as every generator of such pictures has them. Two things
are ours: whether there is a hand is predicted apart from how far it is, and joints are not only
numbers to the generator, but also drawn into what it makes of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..datasets.hands import BACKGROUND_M
from ..networks.cyclegan import HAND_CODE, Coded
from .posed_hands import HALF_M

JOINTS = 14
_SMALLEST_PX = 4
_DRAWN = 0.12
"""Standard deviation of a drawn joint, in units of joints: 18 mm, about a finger."""


def drawn(joints: Tensor, size_px: int) -> Tensor:
    """Return joints as pictures: a Gaussian at each, and the same times its depth.

    Args:
        joints: (B, J, 3), see `training.synth2real.posed_hands.Posed`.
        size_px: Rows and columns.

    Returns:
        (B, 2 J, size_px, size_px).
    """
    at = (torch.arange(size_px, device=joints.device) + 0.5) * (2 / size_px) - 1
    columns, rows = (
        torch.exp(-0.5 * ((at - joints[..., axis, None]) / _DRAWN) ** 2) for axis in (0, 1)
    )
    spots = rows[..., :, None] * columns[..., None, :]
    return torch.cat([spots, spots * joints[..., 2, None, None]], 1)


class PoseGenerator(nn.Module):
    """Depth of a hand of its joints: a fully connected layer, then five that double the size.

    Args:
        width: Channels at half of the size; at each halving twice that, eightfold at most.
        size_px: Rows and columns of the depth, 4 times a power of 2.
        pictures: Whether joints are drawn into the features of every size, too.
    """

    def __init__(self, *, width: int = 64, size_px: int = 128, pictures: bool = True) -> None:
        super().__init__()
        doublings = (size_px // _SMALLEST_PX).bit_length() - 1
        if size_px != _SMALLEST_PX << doublings or doublings < 1:
            raise ValueError(f'{size_px} px is not 4 times a power of 2')
        self.pictures, self.size_px = pictures, size_px
        widths = [width * min(2**level, 8) for level in range(doublings)][::-1]
        self.first = nn.Linear(3 * JOINTS, widths[0] * _SMALLEST_PX**2)
        more = 2 * JOINTS if pictures else 0
        self.ups = nn.ModuleList()
        for given, made in zip(widths, [*widths[1:], width], strict=True):
            self.ups.append(
                nn.Sequential(
                    nn.BatchNorm2d(given + more), nn.ReLU(),
                    nn.ConvTranspose2d(given + more, made, 4, 2, 1),
                )
            )  # fmt: skip
        self.last = nn.Sequential(
            nn.BatchNorm2d(width + more), nn.ReLU(), nn.Conv2d(width + more, 2, 3, padding=1)
        )

    def forward(self, joints: Tensor) -> Coded:
        """Return coded depth (B, 1, H, W) of joints (B, 14, 3); its 0 is the hand's middle."""
        x = self.first(joints.flatten(1)).unflatten(1, (-1, _SMALLEST_PX, _SMALLEST_PX))
        for up in self.ups:
            x = up(self._with_joints(x, joints))
        output = self.last(self._with_joints(x, joints))
        value, logit = output[:, :1].tanh(), output[:, 1:]
        share = logit.sigmoid()
        kept = (logit > 0).to(share.dtype) + (share - share.detach())
        return Coded(value, kept, logit)

    def _with_joints(self, x: Tensor, joints: Tensor) -> Tensor:
        if not self.pictures:
            return x
        return torch.cat([x, drawn(joints, x.shape[-1]).to(x.dtype)], 1)


class Judgement(NamedTuple):
    """Output of a discriminator.

    Attributes:
        logit: (B, 1) of being real.
        joints: (B, 14, 3) that it finds.
    """

    logit: Tensor
    joints: Tensor


class PoseDiscriminator(nn.Module):
    """Discriminators depth of hands and finds their joints, with two heads on the same features.

    Args:
        width: Channels after the first layer; after each other twice that, eightfold at most.
        size_px: Rows and columns of the depth, 4 times a power of 2.
    """

    def __init__(self, *, width: int = 64, size_px: int = 128) -> None:
        super().__init__()
        halvings = (size_px // _SMALLEST_PX).bit_length() - 1
        modules: list[nn.Module] = []
        inputs = 3
        for level in range(halvings):
            outputs = width * min(2**level, 8)
            modules.append(nn.Conv2d(inputs, outputs, 4, 2, 1))
            # Statistics of each image alone: real and made ones come in batches of their own.
            if level:
                modules.append(nn.GroupNorm(1, outputs))
            modules.append(nn.LeakyReLU(0.2))
            inputs = outputs
        self.layers = nn.Sequential(*modules, nn.Flatten())
        self.logit = nn.Linear(inputs * _SMALLEST_PX**2, 1)
        self.joints = nn.Sequential(
            nn.Linear(inputs * _SMALLEST_PX**2, 8 * width), nn.LeakyReLU(0.2),
            nn.Linear(8 * width, 3 * JOINTS), nn.Unflatten(1, (JOINTS, 3)),
        )  # fmt: skip

    def forward(self, seen: Tensor) -> Judgement:
        """Judge depth as `Code.seen` shows it, (B, 3, H, W)."""
        features = self.layers(seen)
        return Judgement(self.logit(features), self.joints(features))


def coded_around(depth: Tensor, distance_m: Tensor) -> Coded:
    """Return crops coded around the middle of the hand, not around the mean of its pixels.

    Args:
        depth: (B, 1, H, W), see `training.synth2real.posed_hands.Posed`.
        distance_m: (B,) of the middle.
    """
    kept = (depth != 0).to(depth.dtype)
    middle = distance_m[:, None, None, None] - BACKGROUND_M
    return Coded((depth - middle) / HAND_CODE.unit * kept, kept, kept)


class DeployedPoseGenerator(nn.Module):
    """A generator as it is exported: metres in, metres out.

    Args:
        network: Makes coded depth.
    """

    def __init__(self, network: PoseGenerator) -> None:
        super().__init__()
        self.network = network

    def forward(self, joints_m: Tensor, distance_m: Tensor) -> Tensor:
        """Return crops (B, 1, H, W), metres nearer than 2 m, exactly 0 beside the hand.

        Args:
            joints_m: (B, 14, 3) right, down and behind the middle of the hand, at its distance.
            distance_m: (B,) of the middle.
        """
        made = self.network(joints_m / HALF_M)
        depth = distance_m[:, None, None, None] - BACKGROUND_M + HAND_CODE.unit * made.value
        return torch.where(made.logit > 0, depth, 0.0)
