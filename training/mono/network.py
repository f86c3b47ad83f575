"""Depth from colour alone: an encoder that has seen photographs, a decoder that knows the camera.

What a picture tells is how large things appear, in pixels. Depth divided by the focal length
follows from that without knowing the lens, so that is what the network says, and multiplying by
the focal length carries metres from one camera to another (the canonical camera of Yin et al.,
Metric3D, ICCV 2023). Rays go in beside features, because what lies level with the horizon or below
it is encoded as directions (Facil et al., CAM-Convs, CVPR 2019). The encoder learned on ImageNet
what things look like, which rendered rooms alone do not teach (Ranftl et al., MiDaS, TPAMI 2020).

Two heads add up: one predicts the logarithm of depth up to a constant, affine-invariant in inverse
depth as far as the loss is concerned, the other that constant.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..networks.blocks import Residual, convolution
from ..networks.efficientnet_lite import CHANNELS, EfficientNetLite0, initialize

REDUCTION = 5
"""Factor by which pictures are reduced first: a room is recognised by its large shapes, and
training on small pictures sees many more of them."""
STRIDE_PX = 32
"""Sizes of reduced pictures are multiples of it."""
FOCAL_PX = 130.0
"""Focal length of the camera in which the network thinks, of reduced pictures."""

WIDTHS = (24, 32, 48, 64, 96)
"""Channels of the decoder at strides of 2, 4, 8, 16 and 32 reduced pixels."""


class Guess(NamedTuple):
    """What the network predicts, (B, 1, H, W) of reduced pictures.

    Attributes:
        log_relative: Logarithm of depth but for a constant of each picture.
        log_depth: Logarithm of depth in metres.
        log_spread: Logarithm of the Laplace spread of `log_depth`.
    """

    log_relative: Tensor
    log_depth: Tensor
    log_spread: Tensor


class Decoding(nn.Module):
    """Doubles the resolution, beside features and rays of that resolution."""

    def __init__(self, inputs: int, beside: int, outputs: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(inputs, outputs, 1)
        self.beside = nn.Conv2d(beside + 2, outputs, 1)
        self.mix = convolution(outputs, outputs)
        self.residual = Residual(outputs)

    def forward(self, values: Tensor, beside: Tensor, rays: Tensor) -> Tensor:
        """Return features in the resolution of `beside`."""
        grown = functional.interpolate(self.reduce(values), scale_factor=2.0, mode='nearest')
        mixed: Tensor = self.residual(self.mix(grown + self.beside(torch.cat([beside, rays], 1))))
        return mixed


class MonocularDepth(nn.Module):
    """Estimates depth from colour and intrinsics.

    Args:
        mixed: Compute in bfloat16 where that is precise enough.
    """

    def __init__(self, *, mixed: bool = False) -> None:
        super().__init__()
        self.mixed = mixed
        self.encoder = EfficientNetLite0()
        initialize(self.encoder)
        deepest = WIDTHS[-1]
        self.deepest = nn.Sequential(
            nn.Conv2d(CHANNELS[-1] + 2, deepest, 1), nn.ReLU(inplace=True), Residual(deepest)
        )
        self.decoder = nn.ModuleList(
            Decoding(inputs, beside, outputs)
            for inputs, beside, outputs in zip(
                WIDTHS[:0:-1], CHANNELS[-2::-1], WIDTHS[-2::-1], strict=True
            )
        )
        self.head = nn.Conv2d(WIDTHS[0], 4 + 1, 3, padding=1)
        # A flat picture to start with: noise would have to be unlearned first.
        nn.init.zeros_(self.head.weight)
        self.scale = nn.Sequential(nn.Conv2d(deepest, 64, 1), nn.ReLU(), nn.Conv2d(64, 1, 1))

    def forward(self, color: Tensor, intrinsics: Tensor) -> Guess:
        """Return depth of reduced pictures.

        Args:
            color: (B, 3, H, W), 0 to 1, already reduced; multiples of `STRIDE_PX`.
            intrinsics: (B, 4) fx, fy, cx, cy of these pictures, px.
        """
        rays = ray_directions(intrinsics, color.shape[2], color.shape[3])
        with torch.autocast(color.device.type, torch.bfloat16, enabled=self.mixed):
            features = self.encoder(color)
            where = [functional.avg_pool2d(rays, 2 << level) for level in range(len(features))]
            deepest = self.deepest(torch.cat([features[-1], where[-1]], 1))
            found = deepest
            for number, stage in enumerate(self.decoder):
                found = cast('Tensor', stage(found, features[-2 - number], where[-2 - number]))
            found = self.head(found)
            scale = self.scale(deepest.mean((2, 3), keepdim=True))
        found, scale = found.float(), scale.float()
        log_relative = functional.pixel_shuffle(found[:, :4], 2)
        spread = functional.interpolate(found[:, 4:], scale_factor=2.0, mode='nearest')
        focal_px = (intrinsics[:, :1] * intrinsics[:, 1:2]).sqrt()
        shift = scale + 0.7 + torch.log(focal_px / FOCAL_PX)[:, :, None, None]
        return Guess(log_relative, log_relative + shift, (spread - 2).clamp(-5.0, 1.0))


def ray_directions(intrinsics: Tensor, height: int, width: int) -> Tensor:
    """Return x / z and y / z of every pixel, (B, 2, H, W).

    Args:
        intrinsics: (B, 4) fx, fy, cx, cy, px.
        height: Rows.
        width: Columns.
    """
    fx, fy, cx, cy = (value[:, None, None] for value in intrinsics.unbind(1))
    columns = torch.arange(width, device=intrinsics.device, dtype=torch.float32)[None, None]
    rows = torch.arange(height, device=intrinsics.device, dtype=torch.float32)[None, :, None]
    x, y = (columns - cx) / fx, (rows - cy) / fy
    return torch.stack([x + 0 * y, y + 0 * x], 1)


class Deployed(nn.Module):
    """The network as it is exported: one picture of any size, reduced and padded inside.

    Args:
        network: What it runs.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, color: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
        """Return depth and its standard deviation in metres, (H, W) each.

        Args:
            color: (H, W, 3) uint8 RGB.
            intrinsics: (4,) fx, fy, cx, cy in px, float32.
        """
        height, width = color.shape[0], color.shape[1]
        whole = REDUCTION * STRIDE_PX
        pad = (0, (-width) % whole, 0, (-height) % whole)
        picture = color.permute(2, 0, 1)[None].float() / 255
        # Repeated borders: black ones would look like the end of a room.
        picture = functional.avg_pool2d(functional.pad(picture, pad, mode='replicate'), REDUCTION)
        fx, fy, cx, cy = intrinsics.unbind(0)
        # Pixel centres are at whole numbers, so it is edges that scale.
        reduced = torch.stack([fx, fy, cx + 0.5, cy + 0.5]) / REDUCTION
        reduced = reduced - torch.tensor([0.0, 0.0, 0.5, 0.5], device=reduced.device)
        guess = self.network(picture, reduced[None])
        depth_m = enlarged(torch.exp(guess.log_depth), REDUCTION)[0, 0, :height, :width]
        spread = functional.interpolate(
            guess.log_spread, scale_factor=float(REDUCTION), mode='nearest'
        )
        # The spread is that of a Laplace distribution; its standard deviation is sqrt(2) greater.
        share = 2**0.5 * torch.exp(spread[0, 0, :height, :width])
        return depth_m, depth_m * share


def enlarged(depth_m: Tensor, factor: int, step: float = 0.03) -> Tensor:
    """Return depth (B, 1, H, W) in a larger size, smooth on surfaces and sharp at edges.

    Args:
        depth_m: Metres.
        factor: By how much larger.
        step: Values that differ from the nearest by more than this share mix two surfaces.
    """
    scale = float(factor)
    nearest = functional.interpolate(depth_m, scale_factor=scale, mode='nearest')
    smooth = functional.interpolate(
        depth_m, scale_factor=scale, mode='bilinear', align_corners=False
    )
    return torch.where((smooth - nearest).abs() > step * nearest, nearest, smooth)
