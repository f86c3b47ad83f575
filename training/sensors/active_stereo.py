"""RealSense D400 and kin: two infrared cameras and a projector that gives them texture.

`ActiveStereo` is fast and models what matching does to disparities. `match_rendered_pair` is slow
and does it: it renders the left and right images with the projected dots and matches them.
"""

from __future__ import annotations

from dataclasses import dataclass
import math

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .matching import match_windows, occluded
from .noise import Span, noise_field, patches, window_max
from .sensor import Sensor
from .view import View, framed, see_through


@dataclass(frozen=True)
class ActiveStereoParameters:
    """Ranges that cameras are drawn from. Pixels are those of the image.

    Sources: [G] Grunnet-Jepsen, Sweetser, Woodfill, Best-Known-Methods for Tuning Intel RealSense
    D400 Depth Cameras; [I] librealsense issue 3904; [D] Intel RealSense D400 datasheet, invalid
    depth band; [K] Keselman et al., Intel RealSense Stereoscopic Depth Cameras, CVPR workshops
    2017; [E] engineering estimate, checked with training.sensors.compare.
    """

    baseline_m: Span = (0.05, 0.055)
    """[D] 50 mm (D435), 55 mm (D415)."""
    subpixel_px: Span = (0.005, 0.1)
    """[G, I] 0.08 px typical, 0.032 px at best: standard deviation of disparity."""
    correlation_px: Span = (0.7, 1.6)
    """[E]"""
    waviness_px: Span = (0.02, 0.25)
    """[E] Slow bumps on flat surfaces, which repeat from frame to frame."""
    waviness_correlation_px: Span = (2.0, 5.0)
    """[E]"""
    repeating_share: Span = (0.2, 0.5)
    """[E] Share of the noise's variance that repeats; [I] 0.032 of 0.08 px is 0.16."""
    disparity_step_px: float = 1 / 32
    """[G]"""
    window_px: tuple[int, ...] = (5, 7, 9)
    """[K] 7x7 aggregation; one is drawn for a batch."""
    lateral_px: Span = (0.7, 2.0)
    """[E] Standard deviation of where an edge is found."""
    foreground_gain: Span = (1.0, 2.0)
    """[E] How much stronger a near surface correlates."""
    least_support: Span = (0.2, 0.5)
    """[E] Share of a window that both cameras must see."""
    ambiguity: Span = (0.0, 0.8)
    """[E] Left-right check: no match where the logarithm of two surfaces' strengths differs by
    less."""
    smearing_share: Span = (0.0, 0.8)
    """[E] Of those, windows that report something in between: smoothness costs are paid."""
    weak_contrast: Span = (0.005, 0.03)
    """[E] Contrast, 1 from white at one metre, at which the noise has doubled."""
    least_contrast: Span = (0.002, 0.015)
    """[E] Contrast below which no match is unique."""
    contrast_scatter: Span = (0.3, 0.8)
    """[E] Standard deviation of the logarithm of what is enough."""
    texture_contrast: Span = (0.0, 0.02)
    """[E] What a surface has without the projector: ambient light on its texture."""
    mismatch_share: Span = (0.0, 0.0005)
    """[E] Patches that match something else."""
    highlight_rad: Span = (0.04, 0.15)
    """[E] Glossy surfaces that face the projector this closely show no dots."""
    glass_share: Span = (0.0, 0.3)
    """[E] Share of glass whose surface is measured."""
    registered_share: float = 0.5
    """[E] Cameras whose images are aligned to the colour camera."""
    color_offset_m: Span = (-0.016, -0.014)
    """[D] The colour camera of a D435 is 15 mm to the left of the left infrared one."""
    registered_margin_px: Span = (0.0, 10.0)
    """[E] Margins of an aligned image."""
    nearest_m: Span = (0.11, 0.3)
    """[D] 0.105 m (D435 at 424x240) to 0.28 m."""
    farthest_m: Span = (6.0, 10.0)
    depth_unit_m: float = 0.001


class ActiveStereo(Sensor[ActiveStereoParameters]):
    """A batch of active stereo cameras; the image is the left one's."""

    def __init__(
        self,
        parameters: ActiveStereoParameters,
        shape: tuple[int, ...],
        generator: torch.Generator,
    ) -> None:
        super().__init__(parameters, shape, generator)
        p = self.drawn
        choice = torch.randint(
            len(parameters.window_px), (), generator=generator, device=generator.device
        )
        chance = torch.rand((shape[0], 5, 1, 1), generator=generator, device=generator.device)
        registered = (chance[:, :1] < parameters.registered_share).float()
        self._offset_m = registered * p['color_offset_m']
        low, high = parameters.registered_margin_px
        self._margins_px = registered * (low + (high - low) * chance[:, 1:])
        self._window_px = parameters.window_px[int(choice)]
        dots_px = self._window_px / 4
        self._waves = noise_field(self.shape, p['waviness_correlation_px'], generator)
        self._fixed = [
            noise_field(self.shape, size, generator)
            for size in (p['correlation_px'], dots_px, dots_px)
        ]

    def measure(self, view: View, generator: torch.Generator) -> Tensor:
        """Measure a batch of scenes; see `Sensor`."""
        p, window_px = self.drawn, self._window_px
        noise, faint, edge = self._fields(generator)

        inverse, facing = view.inverse_depth(), view.facing()
        inverse, matchable = see_through(view, inverse, faint, p['glass_share'])
        disparity_m_px = view.focal_px * p['baseline_m']
        disparity_px = inverse * disparity_m_px
        contrast = facing * inverse.square()
        if view.reflectance is not None:
            contrast = contrast * view.reflectance
        if view.gloss is not None:
            reach = torch.cos(p['highlight_rad'] * (view.gloss * 5).clamp(max=1.0))
            contrast = contrast * ~((facing > reach) & (view.gloss > 0.02))
        contrast = contrast + p['texture_contrast']
        # Neither eye needs to be where the image is taken from.
        left_px = -disparity_px * (self._offset_m / p['baseline_m'])
        right_px = left_px + disparity_px
        columns = torch.arange(self.shape[3], dtype=torch.float32, device=inverse.device)
        seen = matchable & ~occluded(right_px)
        # A colour camera sees less than both others, and none of the band.
        seen &= (columns >= right_px) | (self._offset_m != 0)
        seen &= contrast > p['least_contrast'] * torch.exp(p['contrast_scatter'] * faint)

        match = match_windows(disparity_px, seen.float(), window_px)
        advantage = match.advantage(p['foreground_gain']) + edge * (
            4 * p['lateral_px'] / window_px
        )
        near = advantage > 0
        seen_px = torch.where(near, match.near_px, match.far_px)
        lost = torch.where(near, match.near_share, match.far_share) < p['least_support']
        close = (match.far_share > 0) & (advantage.abs() < p['ambiguity'])
        smeared = close & patches(faint, p['smearing_share'])
        mixed_px = match.far_px + (match.near_px - match.far_px) * torch.sigmoid(4 * advantage)
        seen_px = torch.where(smeared, mixed_px, seen_px)
        # Small steps are no rivals.
        lost |= close & ~smeared & (match.near_px - match.far_px > 3)
        if bool((self._offset_m != 0).any()):
            left_px = seen_px.masked_fill(lost, 0.0) * (-self._offset_m / p['baseline_m'])
            lost |= occluded(left_px)

        stddev_px = p['subpixel_px'] * (1 + p['weak_contrast'] / contrast.clamp_min(1e-4))
        seen_px = seen_px + noise * stddev_px.clamp_max_(1.0) + self._waves * p['waviness_px']
        seen_px = self._mismatch(seen_px, generator)
        step_px = self.parameters.disparity_step_px
        seen_px = (seen_px / step_px).round_() * step_px
        depth_m = disparity_m_px / seen_px
        unit_m = self.parameters.depth_unit_m
        depth_m = (depth_m / unit_m).round_() * unit_m
        lost |= ~((depth_m >= p['nearest_m']) & (depth_m <= p['farthest_m']))
        lost |= ~framed(self.shape, self._margins_px)
        return depth_m.masked_fill_(lost, torch.nan)

    def _fields(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Noise of disparity, of what has contrast enough, and of where edges are: fixed + new."""
        dots_px = self._window_px / 4
        repeated = self.drawn['repeating_share'].sqrt()
        fresh = (1 - self.drawn['repeating_share']).sqrt()
        sizes: tuple[Tensor | float, ...] = (self.drawn['correlation_px'], dots_px, dots_px)
        noise, faint, edge = (
            repeated * old + fresh * noise_field(self.shape, size, generator)
            for old, size in zip(self._fixed, sizes, strict=True)
        )
        return noise, faint, edge

    def _mismatch(self, seen_px: Tensor, generator: torch.Generator) -> Tensor:
        """Patches that repetitive or missing texture matches with something else."""
        size_px = self._window_px // 2
        seed = torch.rand(self.shape, generator=generator, device=generator.device)
        seed = (seed < self.drawn['mismatch_share'] / size_px**2).float()
        jump = torch.rand(self.shape, generator=generator, device=generator.device)
        jump = window_max(seed * (0.25 + 1.5 * jump), size_px)
        return torch.where(jump > 0, seen_px * jump, seen_px)


def match_rendered_pair(
    view: View,
    generator: torch.Generator,
    *,
    baseline_m: float = 0.05,
    dots_share: float = 0.15,
    ambient: float = 0.1,
    camera_noise: float = 0.01,
    window_px: int = 5,
    uniqueness_percent: int = 8,
) -> Tensor:
    """Render what both infrared cameras see, and match the images semi-globally.

    The slow mode, on the CPU, that shows what `ActiveStereo` approximates. The right image is made
    of the surfaces that the left camera sees; what only the right one sees continues the farther
    surface beside it. OpenCV reports sixteenths of a pixel, half as finely as a D400.

    Args:
        view: The scenes.
        generator: Draws the dots, the texture of surfaces and the noise of the cameras.
        baseline_m: Left to right camera; the projector is half way.
        dots_share: Share of the pattern that is lit.
        ambient: Light besides the projector's, which shows texture; 1 from white at one metre.
        camera_noise: Standard deviation, in the same unit.
        window_px: Side of the blocks that are compared, odd.
        uniqueness_percent: By how much the best match must beat the second.

    Returns:
        (B, 1, H, W) metres, NaN where there is no return.
    """
    scale_m_px = view.focal_px * baseline_m
    disparity_px = view.inverse_depth() * scale_m_px
    reflectance = torch.full_like(disparity_px, 0.5)
    if view.reflectance is not None:
        reflectance = view.reflectance
    echo = view.facing() * view.inverse_depth().square() * reflectance
    draw = torch.rand(view.shape, generator=generator, device=generator.device)
    dots = (draw < dots_share).float() / dots_share
    texture = noise_field(view.shape, 1.0, generator).mul_(0.3).add_(1).clamp_min_(0) * reflectance

    columns = torch.arange(view.shape[3], dtype=torch.float32, device=disparity_px.device)
    right_px = seen_from_the_right(disparity_px)
    source = columns + right_px  # the left camera's columns that the right camera's pixels show
    # The projector has a point half its disparity to the left of where the left camera has it,
    # and as far to the right of where the right camera has it.
    left = echo * _along_rows(dots, columns - 0.5 * disparity_px) * ~occluded(0.5 * disparity_px)
    right = _along_rows(echo, source) * _along_rows(dots, columns + 0.5 * right_px)
    right = right * ~occluded(-0.5 * right_px)
    left = left + ambient * texture
    right = right + ambient * _along_rows(texture, source)

    images = []
    for image in (left, right):
        noise = torch.randn(view.shape, generator=generator, device=generator.device)
        images.append(image + camera_noise * noise)
    # As automatic exposure does it: a percent of the pixels saturates.
    exposure = [255 / float(image.flatten()[::7].quantile(0.99)) for image in images[0]]
    found_px = torch.full(view.shape, torch.nan)
    for number, gain in enumerate(exposure):
        pair = [(image[number, 0] * gain).clamp(0, 255).byte().cpu().numpy() for image in images]
        reach_px = float(disparity_px[number].max())
        found = _match_semi_globally(pair[0], pair[1], reach_px, window_px, uniqueness_percent)
        found_px[number, 0] = torch.from_numpy(found)
    found_px = found_px.to(disparity_px.device)
    return scale_m_px / found_px


def seen_from_the_right(disparity_px: Tensor) -> Tensor:
    """Return the disparities that the right camera sees, (B, 1, H, W).

    Where the left camera sees nothing of them, the farther surface beside them goes on.
    """
    width = disparity_px.shape[-1]
    columns = torch.arange(width, dtype=torch.float32, device=disparity_px.device)
    target = columns - disparity_px
    result = disparity_px.new_full((*disparity_px.shape[:3], width + 2), -1.0)
    for cell in (target.floor(), target.ceil()):
        # The last two columns take what falls beside the image.
        inside = (cell >= 0) & (cell < width)
        index = torch.where(inside, cell, width).long()
        result.scatter_reduce_(3, index, disparity_px, 'amax')
    result = result[..., :width]
    # A gap lies to the right of a near surface's shadow: what is on its right is behind it.
    at = torch.where(result >= 0, columns, torch.inf).flip(3).cummin(3).values.flip(3)
    gap = at.isinf()
    filled = result.gather(3, at.masked_fill(gap, 0.0).long())
    return torch.where(gap, disparity_px, filled)


def _along_rows(image: Tensor, columns: Tensor) -> Tensor:
    """Sample (B, 1, H, W) at fractional columns of the same rows; borders are repeated."""
    columns = columns.clamp(0, image.shape[3] - 1)
    first = columns.floor()
    index = first.long()
    share = columns - first
    after = (index + 1).clamp_max_(image.shape[3] - 1)
    return image.gather(3, index) * (1 - share) + image.gather(3, after) * share


def _match_semi_globally(
    left: npt.NDArray[np.uint8],
    right: npt.NDArray[np.uint8],
    reach_px: float,
    window_px: int,
    uniqueness_percent: int,
) -> npt.NDArray[np.float32]:
    """Return the left image's disparities, NaN where there is no match."""
    count = 16 * math.ceil((reach_px + 2) / 16)
    matcher = cv2.StereoSGBM.create(
        minDisparity=0,
        numDisparities=count,
        blockSize=window_px,
        P1=4 * window_px**2,
        P2=24 * window_px**2,
        disp12MaxDiff=1,
        uniquenessRatio=uniqueness_percent,
        speckleWindowSize=60,
        speckleRange=2,
        mode=cv2.StereoSGBM_MODE_SGBM_3WAY,
    )
    # OpenCV leaves the first `count` columns out; padding gives back those that can be matched.
    pair = [cv2.copyMakeBorder(i, 0, 0, count, 0, cv2.BORDER_CONSTANT) for i in (left, right)]
    found = matcher.compute(*pair)[:, count:].astype(np.float32) / 16
    columns = np.arange(left.shape[1])
    return np.where((found > 0) & (columns >= found), found, np.nan).astype(np.float32)
