"""Kinect for Xbox 360, Asus Xtion, PrimeSense Carmine: a pattern of dots and one camera.

The dots themselves are not rendered. What matching them does to depth is: windows find edges only
to half their size, need enough lit pattern, and report disparities in eighths of a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
import math

import torch
from torch import Tensor

from depth_refiner_ros.filters.noise import MAX_INCIDENCE_RAD, nguyen_stddev_m

from .matching import match_windows, occluded
from .noise import Span, drifting_field, noise_field, patches, window_max
from .sensor import Sensor
from .view import View, framed, see_through


@dataclass(frozen=True)
class StructuredLightParameters:
    """Ranges that cameras are drawn from. Pixels are those of the sensor's own 640x480 image.

    Sources: [N] Nguyen, Izadi, Lovell, 3DIMPVT 2012; [K] Khoshelham, Elberink, Sensors 12(2),
    2012; [R] ROS kinect_calibration/technical (wiki); [X] measured on a static recording of an
    Asus Xtion; [E] engineering estimate, checked with training.sensors.compare.
    """

    focal_px: Span = (570.0, 590.0)
    """[R] 580, [X] 568 to 585 in the calibrations of seven recordings."""
    baseline_m: Span = (0.075, 0.075)
    """[R, K] Camera to projector, which is on the right."""
    disparity_step_px: float = 1 / 8
    """[R, K]"""
    disparity_offset_px: Span = (0.0, 1 / 8)
    """Where the steps lie: the disparity of infinity is no multiple of the step, [R] about 1090
    steps in all."""
    window_px: tuple[int, ...] = (7, 9)
    """[R] 9x9 or 9x7; one is drawn for a batch."""
    noise_scale: Span = (0.6, 1.7)
    """Times the axial noise of [N]."""
    repeating_share: Span = (0.7, 0.92)
    """[X] Share of the noise's variance that is the same in every frame."""
    repeating_correlation_px: Span = (1.2, 2.8)
    """[X]"""
    frame_correlation_px: Span = (0.6, 1.6)
    """[X]"""
    drifting_share: Span = (0.2, 0.5)
    """[X] Share of what does not repeat that is alike over tens of pixels."""
    lateral_px: Span = (0.4, 1.2)
    """[N] 0.8: standard deviation of where an edge is found."""
    least_support: Span = (0.2, 0.42)
    """[E] Share of a window that must carry one lit surface."""
    foreground_gain: Span = (1.0, 1.5)
    """[E] How much stronger a near surface correlates: its dots are brighter."""
    flying_share: Span = (0.0, 0.1)
    """[E] Of the windows where two surfaces correlate alike, those that report a mixture."""
    faintest_echo: Span = (0.002, 0.012)
    """[E] Light that must come back; 1 from white at one metre, facing the camera."""
    echo_scatter: Span = (0.3, 0.7)
    """[E] Standard deviation of the logarithm of what is enough."""
    speckle_share: Span = (0.0, 0.0005)
    """[E] Windows that match nothing for no visible reason."""
    saturating_echo: Span = (4.0, 10.0)
    """[E] Light that blinds the camera: white closer than about 0.4 m."""
    highlight_rad: Span = (0.04, 0.12)
    """[E] Glossy surfaces that face the camera this closely blind it."""
    glass_share: Span = (0.0, 0.4)
    """[E] Share of glass whose surface is measured; behind the rest is what lies behind."""
    border_px: Span = (8.0, 8.0)
    """[X] Columns without measurements at the right border, the same in every recording."""
    registered_share: float = 0.5
    """[E] Cameras whose images a driver has registered to the colour camera."""
    color_offset_m: Span = (0.023, 0.027)
    """[X] 25 and 26 mm: how far the colour camera is to the right of the infrared one."""
    registered_margin_px: Span = (0.0, 45.0)
    """[E] Margins of a registered image: the colour camera sees more. NYUv2: 20 to 45 px."""
    nearest_m: Span = (0.4, 0.6)
    farthest_m: Span = (4.0, 9.0)
    """Drivers stop at 4 to 10 m."""
    depth_unit_m: float = 0.001


class StructuredLight(Sensor[StructuredLightParameters]):
    """A batch of structured-light cameras, each with a fixed pattern of its own."""

    def __init__(
        self,
        parameters: StructuredLightParameters,
        shape: tuple[int, ...],
        generator: torch.Generator,
    ) -> None:
        super().__init__(parameters, shape, generator)
        choice = torch.randint(
            len(parameters.window_px), (), generator=generator, device=generator.device
        )
        # Colour cameras sit between the infrared camera and the projector.
        chance = torch.rand((shape[0], 5, 1, 1), generator=generator, device=generator.device)
        registered = (chance[:, :1] < parameters.registered_share).float()
        self._offset_m = registered * self.drawn['color_offset_m']
        low, high = parameters.registered_margin_px
        border = (
            self.drawn['border_px']
            * torch.tensor([0.0, 0.0, 1.0, 0.0], device=chance.device)[:, None, None]
        )
        self._margins_px = torch.where(registered > 0, low + (high - low) * chance[:, 1:], border)
        self._window_px = parameters.window_px[int(choice)]
        # Drawn at the first call, which brings the focal length and with it the pixel's size.
        self._seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        self._fixed: list[Tensor] = []

    def measure(self, view: View, generator: torch.Generator) -> Tensor:
        """Measure a batch of scenes; see `Sensor`."""
        p = self.drawn
        scale = view.focal_px / p['focal_px']
        window_px = max(3, 2 * round((self._window_px * float(scale.mean()) - 1) / 2) + 1)
        noise, faint, edge = self._fields(scale, window_px, generator)

        inverse = view.inverse_depth()
        facing = view.facing()
        inverse, surface = see_through(view, inverse, faint, p['glass_share'])
        disparity_px = inverse * (view.focal_px * p['baseline_m'])
        # Seen from the colour camera, the projector is that much closer.
        shifted = self._offset_m / p['baseline_m']
        lit = ~occluded(disparity_px * (1 - shifted)) if view.lit is None else view.lit

        echo = facing * inverse.square()
        if view.reflectance is not None:
            echo = echo * view.reflectance
        enough = (echo > p['faintest_echo'] * torch.exp(p['echo_scatter'] * faint)) & surface
        enough &= lit & (echo < p['saturating_echo'])
        if view.gloss is not None:
            # A broad highlight for a strong gloss, none for a matt surface.
            reach = torch.cos(p['highlight_rad'] * (view.gloss * 5).clamp(max=1.0))
            enough &= ~((facing > reach) & (view.gloss > 0.02))

        match = match_windows(disparity_px, enough.float(), window_px)
        # At an edge one pixel of a window is worth 4 / size of the strengths' logarithm.
        raggedness = p['lateral_px'] * (4 * scale / window_px)
        advantage = match.advantage(p['foreground_gain']) + edge * raggedness
        near = advantage > 0
        seen_px = torch.where(near, match.near_px, match.far_px)
        # What is support enough flickers as what is bright enough.
        support = p['least_support'] * torch.exp(0.25 * p['echo_scatter'] * faint)
        lost = torch.where(near, match.near_share, match.far_share) < support
        flying = (advantage.abs() < 0.5) & patches(faint, p['flying_share'])
        mixed_px = match.far_px + (match.near_px - match.far_px) * torch.sigmoid(4 * advantage)
        seen_px = torch.where(flying, mixed_px, seen_px)

        if float(shifted.max()) > 0:
            lost |= occluded(-seen_px.masked_fill(lost, 0.0) * shifted)
        # From here in disparities of the sensor's own pixels.
        seen_px = seen_px / scale
        depth_disparity_m_px = p['focal_px'] * p['baseline_m']
        stddev_px = self._noise_px(depth_disparity_m_px / seen_px, depth_disparity_m_px, facing)
        seen_px = seen_px + noise * stddev_px
        step_px = self.parameters.disparity_step_px
        offset_px = p['disparity_offset_px']
        seen_px = ((seen_px - offset_px) / step_px).round_() * step_px + offset_px

        depth_m = depth_disparity_m_px / seen_px
        unit_m = self.parameters.depth_unit_m
        depth_m = (depth_m / unit_m).round_() * unit_m
        lost |= ~framed(self.shape, self._margins_px * scale)
        lost |= ~((depth_m >= p['nearest_m']) & (depth_m <= p['farthest_m']))
        lost |= self._speckles(scale, window_px, generator)
        return depth_m.masked_fill_(lost, torch.nan)

    def _fields(
        self, scale: Tensor, window_px: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Noise of disparity, of what is bright enough, and of where edges are: fixed + new."""
        p = self.drawn
        sizes: tuple[tuple[Tensor | float, Tensor | float], ...] = (
            (p['repeating_correlation_px'] * scale, p['frame_correlation_px'] * scale),
            (window_px / 3, window_px / 4),
            (window_px / 6, window_px / 6),
        )
        if not self._fixed:
            fixed = torch.Generator(generator.device).manual_seed(self._seed)
            self._fixed = [noise_field(self.shape, size, fixed) for size, _ in sizes]
        noise, faint, edge = (noise_field(self.shape, size, generator) for _, size in sizes)
        drift = drifting_field(self.shape, max(2, round(12 * float(scale.mean()))), generator)
        share = p['drifting_share']
        noise = (1 - share).sqrt() * noise + share.sqrt() * drift
        share = p['repeating_share']
        noise, faint, edge = (
            share.sqrt() * old + (1 - share).sqrt() * new
            for old, new in zip(self._fixed, (noise, faint, edge), strict=True)
        )
        return noise, faint, edge

    def _noise_px(self, depth_m: Tensor, disparity_m_px: Tensor, facing: Tensor) -> Tensor:
        """Axial noise of [N] as disparity, less what quantisation adds."""
        angle = facing.acos().clamp_(max=float(MAX_INCIDENCE_RAD))
        stddev_m = nguyen_stddev_m(depth_m)
        stddev_m += 0.0001 / depth_m.sqrt() * (angle / (math.pi / 2 - angle)).square_()
        stddev_px = stddev_m * self.drawn['noise_scale'] * disparity_m_px / depth_m.square()
        rounding = self.parameters.disparity_step_px**2 / 12
        return (stddev_px.square_() - rounding).clamp_min_(0).sqrt_()

    def _speckles(self, scale: Tensor, window_px: int, generator: torch.Generator) -> Tensor:
        """Small blobs that match nothing."""
        share = self.drawn['speckle_share']
        blob_px = max(1, window_px // 2)
        seed = torch.rand(self.shape, generator=generator, device=generator.device)
        return window_max((seed < share / blob_px**2).float(), blob_px) > 0
