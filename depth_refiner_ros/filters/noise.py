"""Published noise models of depth cameras.

Every model answers three questions about a pixel: how far a single reading scatters (`stddev_m`),
what averaging cannot remove (`floor_m`), and how far apart two pixels must be before their errors
are independent (`correlation_px`). Where no publication gives a number the source says
'engineering estimate'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import math
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import numpy as np

from ..data import Float32Array
from ..kernels import FloatRow, FloatRowOut, kernel

# What a camera may report; everything else is no return.
NEAREST_M, FARTHEST_M = 1e-3, 1e3

KINECT_V1_FOCAL_PX = 580.0
KINECT_V1_BASELINE_M = 0.075
KINECT_V1_DISPARITY_STEPS_PER_PX = 8

# Incidence terms diverge at 90 degrees; the publications measured up to about 80.
MAX_INCIDENCE_RAD = np.deg2rad(80.0)


_Depth = TypeVar('_Depth', bound=Any)


def nguyen_stddev_m(depth_m: _Depth) -> _Depth:
    """Return the axial noise of a Kinect v1 whose surfaces face it: 0.0012 + 0.0019 (z - 0.4)^2.

    C. V. Nguyen, S. Izadi, D. Lovell, Modeling Kinect Sensor Noise for Improved 3D Reconstruction
    and Tracking, 3DIMPVT 2012; surfaces tilted by less than 60 degrees.

    Args:
        depth_m: Depth, metres: an array of NumPy or of PyTorch.
    """
    stddev_m: _Depth = depth_m - 0.4
    stddev_m *= stddev_m
    stddev_m *= 0.0019
    stddev_m += 0.0012
    return stddev_m


class SensorNoise(Protocol):
    """What the filters need to know about a depth camera."""

    @property
    def source(self) -> str:
        """Publication of the figures, or 'engineering estimate'."""

    @property
    def correlation_px(self) -> float:
        """Distance at which the noise of two pixels has lost 1 - 1/e of its correlation."""

    def stddev_m(
        self, depth_m: Float32Array, fx: float, incidence_rad: Float32Array | None = None
    ) -> Float32Array:
        """Standard deviation of one reading along the optical axis.

        Args:
            depth_m: (H, W) depth in metres, NaN where there is no return.
            fx: Focal length in pixels of the image that `depth_m` is.
            incidence_rad: (H, W) angle between surface normal and viewing ray; 0 where omitted.

        Returns:
            (H, W) float32 metres, NaN where the depth is NaN.
        """

    def floor_m(self, depth_m: Float32Array, fx: float) -> Float32Array:
        """Standard deviation that remains after averaging any number of readings, in metres."""

    def quantization_m(self, depth_m: Float32Array, fx: float) -> Float32Array:
        """Distance between two depths that the camera can report, in metres."""


@dataclass(frozen=True)
class StructuredLightNoise:
    """Noise of the PrimeSense reference design.

    The scatter is the published fit to readings of planes, so it contains the quantisation. The
    step between two depths follows from the disparity, which the chip reports in eighths of a
    pixel of its 640x480 mode: z^2 / (f b 8).
    """

    focal_px: float = KINECT_V1_FOCAL_PX
    baseline_m: float = KINECT_V1_BASELINE_M
    # Measured on a static recording of an Xtion: lags of 1, 2, 4 and 8 px correlate with
    # 0.55, 0.36, 0.21 and 0.02.
    correlation_px: float = 2.2
    source: str = (
        'Nguyen, Izadi, Lovell: Modeling Kinect Sensor Noise for Improved 3D Reconstruction and '
        'Tracking, 3DIMPVT 2012'
    )

    def stddev_m(
        self, depth_m: Float32Array, fx: float, incidence_rad: Float32Array | None = None
    ) -> Float32Array:
        """`nguyen_stddev_m` + 0.0001 / sqrt(z) * (angle / (pi/2 - angle))^2."""
        stddev = nguyen_stddev_m(depth_m)
        if incidence_rad is not None:
            stddev += np.float32(0.0001) / np.sqrt(depth_m) * _grazing(incidence_rad) ** 2
        return stddev

    def floor_m(self, depth_m: Float32Array, fx: float) -> Float32Array:
        """Error of rounding to the disparity step: uniform, so step / sqrt(12)."""
        return _quadratic(depth_m, self._step_per_m() * 12**-0.5)

    def quantization_m(self, depth_m: Float32Array, fx: float) -> Float32Array:
        """z^2 / (f b 8): 2.9 mm at 1 m, 72 mm at 5 m. `fx` has no part in it.

        The chip matches at its own resolution, whatever the driver resamples to.
        """
        return _quadratic(depth_m, self._step_per_m())

    def _step_per_m(self) -> float:
        return 1 / (self.focal_px * self.baseline_m * KINECT_V1_DISPARITY_STEPS_PER_PX)


@dataclass(frozen=True)
class StereoNoise:
    """Noise of a stereo camera: z^2 * disparity error / (focal length * baseline)."""

    baseline_m: float
    disparity_stddev_px: float
    # What a perfectly textured target still shows, and what repeats from frame to frame.
    disparity_floor_px: float
    disparity_step_px: float
    depth_unit_m: float
    correlation_px: float
    source: str

    def stddev_m(
        self, depth_m: Float32Array, fx: float, incidence_rad: Float32Array | None = None
    ) -> Float32Array:
        """z^2 * disparity_stddev_px / (fx * baseline_m), and rounding to the depth unit.

        The incidence has no published part in it.
        """
        return self._depth_error_m(depth_m, fx, self.disparity_stddev_px)

    def floor_m(self, depth_m: Float32Array, fx: float) -> Float32Array:
        """z^2 * disparity_floor_px / (fx * baseline_m), and rounding to the depth unit."""
        return self._depth_error_m(depth_m, fx, self.disparity_floor_px)

    def quantization_m(self, depth_m: Float32Array, fx: float) -> Float32Array:
        """Depth between two disparities, at least one depth unit."""
        per_m = self.disparity_step_px / (fx * self.baseline_m)
        return _quadratic(depth_m, per_m, least=self.depth_unit_m)

    def _depth_error_m(
        self, depth_m: Float32Array, fx: float, disparity_px: float
    ) -> Float32Array:
        per_m = disparity_px / (fx * self.baseline_m)
        return _quadratic(depth_m, per_m, variance=self.depth_unit_m**2 / 12)


@dataclass(frozen=True)
class TimeOfFlightNoise:
    """Noise of a time-of-flight camera: a + b z + c z^2 and a term for grazing surfaces."""

    constant_m: float
    linear: float
    quadratic_per_m: float
    grazing: float
    # Wiggling and multipath repeat from frame to frame: this share of the scatter stays.
    floor_share: float
    depth_unit_m: float
    correlation_px: float
    source: str

    def stddev_m(
        self, depth_m: Float32Array, fx: float, incidence_rad: Float32Array | None = None
    ) -> Float32Array:
        """A + b z + c z^2 + grazing * z^1.5 * (angle / (pi/2 - angle))^2."""
        stddev = _quadratic(depth_m, self.quadratic_per_m, self.linear, self.constant_m)
        if incidence_rad is not None and self.grazing:
            stddev += np.float32(self.grazing) * depth_m**1.5 * _grazing(incidence_rad) ** 2
        return stddev

    def floor_m(self, depth_m: Float32Array, fx: float) -> Float32Array:
        """`floor_share` of the scatter of one reading."""
        floor = self.stddev_m(depth_m, fx)
        floor *= np.float32(self.floor_share)
        return floor

    def quantization_m(self, depth_m: Float32Array, fx: float) -> Float32Array:
        """One depth unit."""
        step = np.full(depth_m.shape, self.depth_unit_m, np.float32)
        step[np.isnan(depth_m)] = np.nan
        return step


def _quadratic(
    depth_m: Float32Array,
    quadratic: float,
    linear: float = 0.0,
    constant: float = 0.0,
    *,
    variance: float = 0.0,
    least: float = 0.0,
) -> Float32Array:
    """Evaluate a polynomial of the depth, with a variance of its own added and a least value."""
    error_m = np.empty(depth_m.shape, np.float32)
    coefficients = quadratic, linear, constant, variance, least
    _evaluate(depth_m.ravel(), *coefficients, error_m.ravel())
    return error_m


@kernel
def _evaluate(
    depth_m: FloatRow,
    quadratic: np.float32,
    linear: np.float32,
    constant: np.float32,
    variance: np.float32,
    least: np.float32,
    error_m: FloatRowOut,
) -> None:
    for x in range(len(depth_m)):
        z_m = depth_m[x]
        error = z_m * z_m * quadratic + linear * z_m + constant
        error = np.float32(math.sqrt(error * error + variance))
        error_m[x] = least if error < least else error


def _grazing(incidence_rad: Float32Array) -> Float32Array:
    angle = np.clip(incidence_rad, 0.0, MAX_INCIDENCE_RAD)
    return np.asarray(angle / (np.pi / 2 - angle), dtype=np.float32)


SENSORS: Mapping[str, SensorNoise] = MappingProxyType(
    {
        # Kinect for Xbox 360, Asus Xtion, PrimeSense Carmine.
        'kinect_v1': StructuredLightNoise(),
        'kinect_v2': TimeOfFlightNoise(
            constant_m=0.0015,
            linear=-0.0005,
            quadratic_per_m=0.0003,
            grazing=0.0001,
            floor_share=0.25,
            depth_unit_m=0.001,
            correlation_px=0.0,
            source=(
                'Fankhauser et al.: Kinect v2 for Mobile Robot Navigation: Evaluation and '
                'Modeling, ICAR 2015 (scatter); floor: engineering estimate'
            ),
        ),
        # Orbbec Femto Bolt and Mega carry the same imager. The specification bounds the scatter
        # at the end of the range (17 mm, 3.86 m, NFOV unbinned); the curve below it is ours.
        'azure_kinect': TimeOfFlightNoise(
            constant_m=0.001,
            linear=0.0,
            quadratic_per_m=0.016 / 3.86**2,
            grazing=0.0,
            floor_share=0.25,
            depth_unit_m=0.001,
            correlation_px=0.0,
            source=(
                'Azure Kinect DK hardware specification (random error <= 17 mm), confirmed by '
                'Tölgyessy et al., Sensors 21(2):413, 2021; quadratic growth and floor: '
                'engineering estimate'
            ),
        ),
        'realsense_d400': StereoNoise(
            baseline_m=0.050,
            disparity_stddev_px=0.08,
            disparity_floor_px=0.032,
            disparity_step_px=1 / 32,
            depth_unit_m=0.001,
            correlation_px=2.0,
            source=(
                'Grunnet-Jepsen, Sweetser, Woodfill: Tuning depth cameras for best performance '
                '(formula); Grunnet-Jepsen, librealsense issue 3904 (0.08 px typical, 0.032 px '
                'at best); baseline of a D435; correlation: engineering estimate'
            ),
        ),
        'oak_d': StereoNoise(
            baseline_m=0.075,
            disparity_stddev_px=0.2,
            disparity_floor_px=0.08,
            disparity_step_px=1 / 8,
            depth_unit_m=0.001,
            correlation_px=2.0,
            source=(
                'Luxonis depth documentation (75 mm baseline, 3 subpixel bits by default); '
                'disparity scatter, floor and correlation: engineering estimates'
            ),
        ),
    }
)
