"""What a sensor model is given: what a perfect camera would see, and of what."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .noise import patches


@dataclass(frozen=True, eq=False)
class View:
    """A batch of scenes as perfect infrared cameras see them.

    All but the first two may be missing: a sensor then falls back on what depth alone tells.

    Attributes:
        depth_m: (B, 1, H, W) exact depth along the optical axis, metres. What is not finite and
            positive is nothing.
        intrinsics: (B, 3, 3) pixels.
        normals: (B, 3, H, W) unit surface normals in the camera's frame, of either sign.
        reflectance: (B, 1, H, W) share of infrared light that a surface scatters, 0 to 1.
        gloss: (B, 1, H, W) share of the light that it mirrors, 0 to 1.
        glass: (B, 1, H, W) bool, what light passes through.
        mirror: (B, 1, H, W) bool, what only mirrors.
        behind_m: (B, 1, H, W) depth of what glass lets see and a mirror shows, metres.
        lit: (B, 1, H, W) bool, what the projector reaches.
    """

    depth_m: Tensor
    intrinsics: Tensor
    normals: Tensor | None = None
    reflectance: Tensor | None = None
    gloss: Tensor | None = None
    glass: Tensor | None = None
    mirror: Tensor | None = None
    behind_m: Tensor | None = None
    lit: Tensor | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where a shape does not fit the depth."""
        batch, one, height, width = self.depth_m.shape
        if one != 1:
            raise ValueError(f'depth_m is (B, 1, H, W), not {tuple(self.depth_m.shape)}.')
        if self.intrinsics.shape != (batch, 3, 3):
            raise ValueError(f'intrinsics is ({batch}, 3, 3), not {tuple(self.intrinsics.shape)}.')
        for name, channels in _CHANNELS.items():
            value = getattr(self, name)
            if value is not None and value.shape != (batch, channels, height, width):
                expected = (batch, channels, height, width)
                raise ValueError(f'{name} is {expected}, not {tuple(value.shape)}.')

    @property
    def shape(self) -> torch.Size:
        """(B, 1, H, W)."""
        return self.depth_m.shape

    @property
    def focal_px(self) -> Tensor:
        """(B, 1, 1, 1), the horizontal focal length."""
        return self.intrinsics[:, 0, 0].reshape(-1, 1, 1, 1)

    def to(self, device: torch.device | str) -> View:
        """Return the view with all its tensors on a device."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return View(**{name: value.to(device) for name, value in given.items()})

    def rays(self) -> Tensor:
        """(B, 2, H, W), where each pixel's ray meets the plane one metre ahead."""
        height, width = self.shape[2:]
        k = self.intrinsics.reshape(-1, 9, 1, 1)
        columns = torch.arange(width, dtype=torch.float32, device=k.device)
        rows = torch.arange(height, dtype=torch.float32, device=k.device)[:, None]
        x = ((columns - k[:, 2]) / k[:, 0]).expand(-1, height, width)
        y = ((rows - k[:, 5]) / k[:, 4]).expand(-1, height, width)
        return torch.stack([x, y], 1)

    def inverse_depth(self) -> Tensor:
        """(B, 1, H, W) per metre, 0 where there is nothing."""
        inverse = self.depth_m.reciprocal()
        return inverse.masked_fill_(~((inverse > 0) & (inverse < torch.inf)), 0.0)

    def facing(self) -> Tensor:
        """(B, 1, H, W) cosine between the normal and the direction of view, 0 to 1."""
        x, y = channels(self.rays())
        length = (x * x + y * y + 1).sqrt_()
        if self.normals is not None:
            nx, ny, nz = channels(self.normals)
            cosine = (nx * x + ny * y + nz).abs_() / length
        else:
            # 1 / z of a plane is linear in the image: a x + b y + c, with normal (a, b, c).
            inverse = self.inverse_depth()
            a = _slope(inverse, 3) * self.intrinsics[:, 0, 0].reshape(-1, 1, 1, 1)
            b = _slope(inverse, 2) * self.intrinsics[:, 1, 1].reshape(-1, 1, 1, 1)
            c = inverse - a * x - b * y
            normal = (a * a + b * b + c * c).sqrt_().clamp_min_(1e-12)
            cosine = inverse / (normal * length)
        cosine = cosine.nan_to_num_(0.0, 0.0, 0.0)
        return cosine.clamp_(0.0, 1.0)


_CHANNELS = {
    'normals': 3,
    'reflectance': 1,
    'gloss': 1,
    'glass': 1,
    'mirror': 1,
    'behind_m': 1,
    'lit': 1,
}


def channels(image: Tensor) -> list[Tensor]:
    """Return views of the channels, (B, 1, H, W) each."""
    return [image[:, number : number + 1] for number in range(image.shape[1])]


def _slope(image: Tensor, axis: int) -> Tensor:
    """The smaller of both one-sided differences: of two surfaces a pixel lies on one."""
    step = image.diff(dim=axis)
    pad = (1, 0, 0, 0) if axis == 3 else (0, 0, 1, 0)
    # The outermost pixels have a neighbour on one side only.
    before = functional.pad(step, pad, value=torch.inf)
    after = functional.pad(step, pad[1::-1] + pad[:1:-1], value=torch.inf)
    slope = torch.where(before.abs() < after.abs(), before, after)
    return slope.masked_fill_(slope.isinf(), 0.0)


def see_through(
    view: View, inverse: Tensor, field: Tensor, share: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the inverse depth light comes back from, and whether any does.

    Args:
        view: The scene.
        inverse: (B, 1, H, W) inverse depth of the first surface, per metre.
        field: (B, 1, H, W) Gaussian noise that picks the patches.
        share: (B, 1, 1, 1) share of the glass that is measured itself.
    """
    surface = inverse > 0
    clear = torch.zeros_like(surface)
    if view.glass is not None:
        clear |= view.glass & ~patches(field, share)
    if view.mirror is not None:
        clear |= view.mirror
    if view.behind_m is None:
        return inverse, surface & ~clear
    behind = view.behind_m.reciprocal()
    behind = behind.masked_fill_(~((behind > 0) & (behind < torch.inf)), 0.0)
    inverse = torch.where(clear, behind, inverse)
    return inverse, inverse > 0


def framed(shape: tuple[int, ...], margins_px: Tensor) -> Tensor:
    """Return what lies inside the margins of the image.

    Args:
        shape: (B, 1, H, W).
        margins_px: (B, 4, 1, 1), left, top, right, bottom.

    Returns:
        (B, 1, H, W) bool.
    """
    height, width = shape[2:]
    columns = torch.arange(width, dtype=torch.float32, device=margins_px.device)
    rows = torch.arange(height, dtype=torch.float32, device=margins_px.device)[:, None]
    left, top, right, bottom = channels(margins_px)
    across: Tensor = (columns >= left) & (columns < width - right)
    return across & (rows >= top) & (rows < height - bottom)
