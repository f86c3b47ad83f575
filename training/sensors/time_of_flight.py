"""Kinect v2, Azure Kinect and kin: distance from the phase of modulated light."""

from __future__ import annotations

from dataclasses import dataclass
import math

import torch
from torch import Tensor
from torch.nn import functional

from .noise import Span, noise_field
from .sensor import Sensor
from .view import View, channels

_LIGHT_M_S = 299_792_458.0
_PATCHES = 18


@dataclass(frozen=True)
class TimeOfFlightParameters:
    """Ranges that cameras are drawn from. Pixels are those of the image.

    Amplitudes are relative to a white surface that faces the camera at one metre.

    Sources: [L] Lange, Seitz, Solid-state time-of-flight range camera, IEEE J. Quantum
    Electronics 37(3), 2001; [F] Fankhauser et al., Kinect v2 for Mobile Robot Navigation, ICAR
    2015; [J] Jaremo Lawin, Forssen, Ovren, Efficient Multi-Frequency Phase Unwrapping using Kernel
    Density Estimation, ECCV 2016; [A] Azure Kinect DK hardware specification; [E] engineering
    estimate, checked with training.sensors.compare.
    """

    modulation_hz: Span = (80e6, 200e6)
    """[J] Kinect v2 measures at 16, 80 and 120 MHz, [A] about 200 MHz: the highest decides."""
    ambiguity_m: Span = (8.0, 18.75)
    """[J] Where the phases of all frequencies repeat together."""
    noise_m: Span = (0.0002, 0.0013)
    """[F] 1.3 mm: standard deviation at amplitude 1 in the dark."""
    ambient: Span = (0.02, 0.2)
    """[L] Light that only adds shot noise."""
    faintest_amplitude: Span = (0.004, 0.03)
    """[E] No return below."""
    mixing: Span = (0.03, 0.2)
    """[E] Share of a pixel's light that belongs to each of its neighbours."""
    mixed_spread_m: Span = (0.02, 0.15)
    """[E] No return where the mixed distances have a larger standard deviation."""
    spread_scatter: Span = (0.3, 1.0)
    """[E] Standard deviation of the logarithm of that limit."""
    bounce: Span = (0.3, 1.0)
    """[E] Share of the light of one diffuse bounce that is seen."""
    wiggling_m: Span = (0.0, 0.003)
    """[E] Amplitude of the error that repeats with a quarter of the wavelength, [L]."""
    vignette: Span = (1.0, 10.0)
    """[E] Illumination falls with this power of the cosine from the axis."""
    field_of_view: Span = (1.0, 1.5)
    """[E] Radius of what is lit, in half diagonals: below 1 corners are missing."""
    smoothing_px: Span = (0.5, 2.2)
    """[E] Correlation of the noise: the drivers filter."""
    nearest_m: Span = (0.3, 0.5)
    """[A, F] 0.5 m."""
    farthest_m: Span = (4.5, 9.0)
    """Drivers stop at 4.5 m (Kinect for Windows SDK) to about 9 m."""
    depth_unit_m: float = 0.001


class TimeOfFlight(Sensor[TimeOfFlightParameters]):
    """A batch of time-of-flight cameras."""

    def measure(self, view: View, generator: torch.Generator) -> Tensor:
        """Measure a batch of scenes; see `Sensor`."""
        p = self.drawn
        inverse = view.inverse_depth()
        there = inverse > 0
        x, y = channels(view.rays())
        length = (x * x + y * y + 1).sqrt_()
        distance_m = torch.where(there, length / inverse, 0.0)

        facing = view.facing()
        amplitude = facing * (inverse / length).square_() * length ** (-p['vignette'])
        if view.reflectance is not None:
            amplitude *= view.reflectance
        if view.gloss is not None:
            # What is mirrored returns only from where the surface faces the camera.
            amplitude *= 1 - view.gloss + 4 * view.gloss * facing**60
        if view.mirror is not None:
            amplitude *= ~view.mirror
        if view.glass is not None:
            amplitude *= torch.where(view.glass, 0.1, 1.0)
            if view.behind_m is not None:
                # The little that glass returns mixes with what comes back from behind it.
                behind_m = view.behind_m.nan_to_num(0.0, 0.0, 0.0) * length
                back = 0.6 * torch.where(view.glass & (behind_m > 0), 1.0, 0.0)
                back = back / behind_m.square().clamp_min(0.01)
                sum_m = amplitude * distance_m + back * behind_m
                amplitude = amplitude + back
                distance_m = torch.where(view.glass, sum_m / amplitude.clamp_min(1e-9), distance_m)

        reach = torch.where(amplitude < 0.25 * p['faintest_amplitude'], 0.0, amplitude)
        bias_m = self._multipath_m(view, facing, distance_m, inverse > 0)
        direct_m = distance_m + bias_m
        share = p['mixing']
        weight = _spread(reach, share).clamp_min_(1e-9)
        mixed_m = _spread(reach * direct_m, share) / weight
        # About the pixel's own distance, where float32 is exact enough to subtract squares.
        deviation = _spread(reach * direct_m.square(), share) / weight - mixed_m.square()
        spread_m = deviation.clamp_min_(0).sqrt_()

        wave_m = _LIGHT_M_S / (2 * p['modulation_hz'])
        measured_m = mixed_m + p['wiggling_m'] * torch.sin(4 * (2 * math.pi) * mixed_m / wave_m)
        stddev_m = p['noise_m'] * ((weight + p['ambient']) / (1 + p['ambient'])).sqrt_() / weight
        noise = noise_field(self.shape, p['smoothing_px'], generator)
        measured_m = measured_m + noise * stddev_m
        # Beyond the ambiguity the phase begins anew.
        measured_m = torch.remainder(measured_m, p['ambiguity_m'])

        depth_m = measured_m / length
        unit_m = self.parameters.depth_unit_m
        depth_m = (depth_m / unit_m).round_() * unit_m
        uneven = torch.randn(self.shape, generator=generator, device=generator.device)
        limit_m = p['mixed_spread_m'] * torch.exp(p['spread_scatter'] * uneven)
        # The amplitude is measured with noise of its own.
        seen = weight + noise.roll(1, 3) * 0.3 * p['faintest_amplitude']
        lost = (spread_m > limit_m) | (seen < p['faintest_amplitude']) | ~there
        lost |= ~((depth_m >= p['nearest_m']) & (depth_m <= p['farthest_m']))
        height, width = self.shape[2:]
        corner = (x * view.focal_px).square() + (y * view.focal_px).square()
        lost |= corner > (p['field_of_view'] / 2).square() * (height**2 + width**2)
        return depth_m.masked_fill_(lost, torch.nan)

    def _multipath_m(
        self, view: View, facing: Tensor, distance_m: Tensor, there: Tensor
    ) -> Tensor:
        """How much too long the light of one diffuse bounce makes distances seem.

        The scene is cut into patches; every patch that is lit lights every other. The sum of the
        phasors that arrive, relative to the direct light, varies slowly over a surface, and is
        interpolated between patches: its strength, and the detour that light takes.
        """
        batch, _, height, width = self.shape
        stride = max(1, math.ceil(max(height, width) / _PATCHES))
        start = stride // 2
        ray = view.rays()[:, :, start::stride, start::stride]
        rows, columns = ray.shape[2:]
        ray = functional.pad(ray, (0, 0, 0, 0, 0, 1), value=1.0).reshape(batch, 3, -1)
        ray = ray / ray.norm(dim=1, keepdim=True)

        def patch(image: Tensor) -> Tensor:
            return image[:, :, start::stride, start::stride].reshape(batch, 1, -1)

        valid, far_m, cosine = patch(there), patch(distance_m), patch(facing)
        points_m = ray * far_m  # (B, 3, N)
        normals = self._patch_normals(view, ray, start, stride)
        strength = cosine / far_m.square().clamp_min(0.01) * valid
        albedo = 0.5 if view.reflectance is None else patch(view.reflectance)
        focal_px = view.focal_px.reshape(-1, 1, 1)
        area_m2 = (stride * far_m / focal_px).square() / cosine.clamp_min(0.1)

        between = points_m[:, :, None, :] - points_m[:, :, :, None]  # from i, to j
        square = between.square().sum(1)  # (B, N, N)
        apart_m = square.sqrt()
        leaving = (normals[:, :, :, None] * between).sum(1)
        arriving = -(normals[:, :, None, :] * between).sum(1)
        form = leaving.clamp_min_(0) * arriving.clamp_min_(0)
        form /= math.pi * square.square().clamp_min(1e-8)
        # A patch cannot light more of another than half the sphere above it.
        form = (form * area_m2).clamp_max_(0.3) * (albedo * strength)
        relative = form / strength.clamp_min(1e-4).mT
        detour_m = (far_m + apart_m - far_m.mT).clamp_min_(0) / 2
        phase = detour_m * (4 * math.pi / _LIGHT_M_S) * self.drawn['modulation_hz'][..., 0]
        relative *= self.drawn['bounce'][..., 0] * valid.mT
        real = (relative * phase.cos()).sum(2)
        imaginary = (relative * phase.sin()).sum(2)
        angle = torch.atan2(imaginary, 1 + real.clamp_min_(-0.5)).clamp_(-0.5, 0.5)
        angle = angle.reshape(batch, 1, rows, columns)
        full = functional.interpolate(angle, (height, width), mode='bilinear')
        return full * (_LIGHT_M_S / (4 * math.pi)) / self.drawn['modulation_hz']

    def _patch_normals(self, view: View, ray: Tensor, start: int, stride: int) -> Tensor:
        """(B, 3, N), towards the camera."""
        if view.normals is not None:
            normals = view.normals[:, :, start::stride, start::stride].flatten(2)
        else:
            inverse = view.inverse_depth()[:, :, start - 1 :, start - 1 :]
            x, y = channels(view.rays()[:, :, start::stride, start::stride])
            here = inverse[:, :, 1::stride, 1::stride]
            rows, columns = here.shape[2:]
            right = inverse[:, :, 1::stride, 2::stride][..., :columns]
            below = inverse[:, :, 2::stride, 1::stride][..., :rows, :]
            right = functional.pad(right, (0, columns - right.shape[3]))
            below = functional.pad(below, (0, 0, 0, rows - below.shape[2]))
            a = (right - here) * view.focal_px
            b = (below - here) * view.intrinsics[:, 1, 1].reshape(-1, 1, 1, 1)
            normals = torch.cat([a, b, here - a * x - b * y], 1).flatten(2)
        normals = functional.normalize(normals.nan_to_num(0.0, 0.0, 0.0), dim=1)
        return normals * -torch.sign((normals * ray).sum(1, keepdim=True))


def _spread(image: Tensor, share: Tensor) -> Tensor:
    """Give each pixel's neighbours in a row and in a column a share of its light."""
    for pad, axis in (((1, 1, 0, 0), 3), ((0, 0, 1, 1), 2)):
        padded = functional.pad(image, pad, mode='replicate')
        length = image.shape[axis]
        sides = padded.narrow(axis, 0, length) + padded.narrow(axis, 2, length)
        image = (1 - 2 * share) * image + share * sides
    return image
