"""Depth from colour alone: a compact encoder and decoder that knows the camera.

What a picture tells is how large things appear, in pixels. Depth divided by the focal length
follows from that without knowing the lens, so that is what the network says, and multiplying by
the focal length carries metres from one camera to another (the canonical camera of Yin et al.,
Metric3D, ICCV 2023). Rays go in beside colours, because what lies level with the horizon or below
it is encoded as directions (Facil et al., CAM-Convs, CVPR 2019).

Two heads add up: one predicts the logarithm of depth up to a constant, affine-invariant in inverse
depth as far as the loss is concerned (Ranftl et al., MiDaS, TPAMI 2020), the other that constant.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..networks.blocks import Residual, convolution

REDUCTION = 5
"""Factor by which pictures are reduced first: a room is recognised by its large shapes, and
training on small pictures sees many more of them."""
STRIDE_PX = 16
"""Sizes of reduced pictures are multiples of it."""
FOCAL_PX = 130.0
"""Focal length of the camera in which the network thinks, of reduced pictures."""

WIDTHS = {'small': (24, 48, 96, 160), 'base': (32, 64, 128, 224)}
"""Channels at strides of 2, 4, 8 and 16 reduced pixels."""


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


class Attention(nn.Module):
    """A transformer block over the cells of an image: the layout of a room is seen as a whole."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.mix = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.feed = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, 2 * channels),
            nn.GELU(),
            nn.Linear(2 * channels, channels),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, N, C) of the same shape."""
        batch, count, channels = tokens.shape
        mixed = self.mix(self.norm(tokens)).reshape(batch, count, 3, self.heads, -1)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        # A few dozen tokens: the fused kernel's backward pass costs three times as much on a CPU.
        share = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1)
        found = share @ value
        tokens = tokens + self.out(found.transpose(1, 2).reshape(batch, count, channels))
        return tokens + cast('Tensor', self.feed(tokens))


class Decoding(nn.Module):
    """Doubles the resolution, beside features of that resolution."""

    def __init__(self, inputs: int, beside: int, outputs: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(inputs, outputs, 1)
        self.beside = nn.Conv2d(beside, outputs, 1)
        self.mix = convolution(outputs, outputs)
        self.residual = Residual(outputs)

    def forward(self, values: Tensor, beside: Tensor) -> Tensor:
        """Return features in the resolution of `beside`."""
        grown = functional.interpolate(self.reduce(values), scale_factor=2.0, mode='nearest')
        mixed: Tensor = self.residual(self.mix(grown + self.beside(beside)))
        return mixed


class MonocularDepth(nn.Module):
    """Says depth from colour and intrinsics.

    Args:
        size: A key of `WIDTHS`.
        mixed: Compute in bfloat16 where that is precise enough.
    """

    def __init__(self, size: str = 'base', *, mixed: bool = False) -> None:
        super().__init__()
        a, b, c, d = WIDTHS[size]
        self.mixed = mixed
        self.stem = convolution(3 * 4 + 2, a)
        self.to_b = nn.Sequential(convolution(a, b, 2), Residual(b), Residual(b))
        self.to_c = nn.Sequential(convolution(b, c, 2), *(Residual(c) for _ in range(3)))
        self.to_d = nn.Sequential(convolution(c, d, 2), Residual(d), Residual(d))
        self.rays = nn.Linear(2, d)
        self.layout = nn.ModuleList(Attention(d, d // 32) for _ in range(2))
        self.from_d = Decoding(d, c, c)
        self.from_c = Decoding(c, b, b)
        self.from_b = Decoding(b, a, a)
        self.head = nn.Conv2d(a, 4 + 1, 3, padding=1)
        # A flat picture to start with: noise would have to be unlearned first.
        nn.init.zeros_(self.head.weight)
        self.scale = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 64), nn.GELU(), nn.Linear(64, 1))

    def forward(self, color: Tensor, intrinsics: Tensor) -> Guess:
        """Return depth of reduced pictures.

        Args:
            color: (B, 3, H, W), 0 to 1, already reduced; multiples of `STRIDE_PX`.
            intrinsics: (B, 4) fx, fy, cx, cy of these pictures, px.
        """
        rays = ray_directions(intrinsics, color.shape[2], color.shape[3])
        with torch.autocast(color.device.type, torch.bfloat16, enabled=self.mixed):
            given = torch.cat(
                [functional.pixel_unshuffle(2 * color - 1, 2), functional.avg_pool2d(rays, 2)], 1
            )
            a = self.stem(given)
            b = self.to_b(a)
            c = self.to_c(b)
            d = self.to_d(c)
            where = functional.avg_pool2d(rays, STRIDE_PX).flatten(2).transpose(1, 2)
            tokens = d.flatten(2).transpose(1, 2) + self.rays(where)
            for block in self.layout:
                tokens = block(tokens)
            d = tokens.transpose(1, 2).reshape(d.shape)
            finest = self.from_b(self.from_c(self.from_d(d, c), b), a)
            found = self.head(finest)
            scale = self.scale(tokens.mean(1))
        found, scale = found.float(), scale.float()
        log_relative = functional.pixel_shuffle(found[:, :4], 2)
        spread = functional.interpolate(found[:, 4:], scale_factor=2.0, mode='nearest')
        focal_px = (intrinsics[:, :1] * intrinsics[:, 1:2]).sqrt()
        shift = scale + 0.7 + torch.log(focal_px / FOCAL_PX)
        return Guess(
            log_relative, log_relative + shift[:, :, None, None], (spread - 2).clamp(-5.0, 1.0)
        )


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
