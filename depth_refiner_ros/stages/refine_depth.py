"""Removes sensor noise from depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
import math
from typing import Any, ClassVar

import numpy as np

from ..data import (
    CameraOdometry,
    DepthImage,
    Header,
    PinholeCamera,
    Provenance,
    ProvenanceImage,
    RigidTransform,
    StddevImage,
    check_companions_fit,
    deviations_m,
    origins,
    trusted,
)
from ..filters.denoise import smooth
from ..filters.flying_pixels import flying_pixels
from ..filters.motion import STANDING_STILL, EgoMotion, Motion
from ..filters.noise import SENSORS
from ..filters.temporal import TemporalFilter
from ..geometry import check_camera_fits
from ..kernels import ByteRowOut, FloatRow, FloatRowOut, kernel
from ..parameters import Parameters, parameter
from ..stage import Capabilities, Input, PoseLookup, Topic

_INVALID, _MEASURED = np.uint8(Provenance.INVALID), np.uint8(Provenance.MEASURED)
_REFINED, _INPAINTED = np.uint8(Provenance.REFINED), np.uint8(Provenance.INPAINTED)
_NAN = np.float32(np.nan)


ODOMETRY_FRAME = 'depth_odom'
"""Where the camera started, with its optical axes."""
_TF_OFF_M = 0.01
"""Motions of one frame that differ by less agree."""


@dataclass(frozen=True, kw_only=True)
class RefineDepthParameters(Parameters):
    """Parameters of `RefineDepth`."""

    sensor: str = parameter(
        'kinect_v1',
        'Camera whose published noise model weighs every filter. A standard deviation that comes '
        'in is used instead.',
        choices=tuple(SENSORS),
    )
    flying_pixel_filter: bool = parameter(
        True, 'Remove pixels that float between a foreground and its background.'
    )
    spatial_filter: bool = parameter(
        True, 'Average neighbours that the noise model cannot tell apart.'
    )
    spatial_strength: float = parameter(
        1.0, 'Strength of the spatial filter; 0 leaves the image as it is.', range=(0, 1)
    )
    spatial_scales: int = parameter(
        2, 'Reach of the spatial filter: 1, 2 and 3 average over 1, 4 and 13 pixels.', range=(1, 3)
    )
    keep_quantization: bool = parameter(
        True,
        'Keep the steps of the disparity that the sensor rounds to while the camera stands still. '
        'false smooths them: better planes, but values that the sensor never reports. Where the '
        'camera is known to move they are always smoothed.',
    )
    temporal_filter: bool = parameter(
        True, 'Average frames where nothing moved; what moved starts anew at once.'
    )
    motion: str = parameter(
        'auto',
        'How the filter over time follows the camera. auto: by what the camera sees, starting '
        'from tf where fixed_frame is set; tf: by tf alone, where it agrees with what the camera '
        'sees; none: not at all, as on a tripod.',
        choices=('auto', 'tf', 'none'),
    )
    fixed_frame: str = parameter(
        '',
        'Frame of tf that does not move and does not jump, as odom; empty: tf is not asked.',
        live=False,
    )
    odometry: bool = parameter(
        False,
        'Publish how the camera moved, in the frame where it started; nothing where that is not '
        'known. It is what the filter needs, not a replacement for odometry of wheels.',
    )
    temporal_memory: float = parameter(
        30.0, 'Frames that a static pixel is averaged over.', unit='frames', range=(1, 100)
    )
    temporal_bridge: int = parameter(
        0,
        'Frames that a pixel keeps its depth for when it loses its return; it is marked '
        'inpainted then.',
        unit='frames',
        range=(0, 5),
    )


class RefineDepth:
    """Removes sensor noise from depth and keeps its edges and its metric scale.

    The noise is modelled, not guessed: the sensor's published standard deviation decides what is
    noise and what is structure. What an earlier stage invented has no noise of a sensor: it takes
    no part and goes out as it came.
    """

    capabilities = Capabilities(remembers=True)
    Parameters: ClassVar[Any] = RefineDepthParameters
    inputs: ClassVar[Mapping[str, Input]] = {
        'depth': Topic(DepthImage, 'depth/image_rect'),
        'camera': Topic(PinholeCamera, 'depth/camera_info', latched=True),
        'stddev': Topic(StddevImage, 'depth/stddev', optional=True),
        'provenance': Topic(ProvenanceImage, 'depth/provenance', optional=True),
        'fixed_from_camera': PoseLookup(source='depth', parameter='fixed_frame'),
    }
    outputs: ClassVar[Mapping[str, Topic]] = {
        'depth': Topic(DepthImage, 'depth_refined/image_rect'),
        'camera': Topic(PinholeCamera, 'depth_refined/camera_info'),
        'stddev': Topic(StddevImage, 'depth_refined/stddev'),
        'provenance': Topic(ProvenanceImage, 'depth_refined/provenance'),
        'odometry': Topic(CameraOdometry, 'depth_odometry'),
    }

    def __init__(self, parameters: RefineDepthParameters | None = None) -> None:
        self.parameters = parameters or RefineDepthParameters()
        self._temporal, self._ego_motion = TemporalFilter(), EgoMotion()
        self._motion = STANDING_STILL

    @property
    def status(self) -> dict[str, str]:
        """How the filter over time followed the camera in the last frame."""
        if not (self.parameters.temporal_filter and self.parameters.motion != 'none'):
            return {}
        return {'motion': _described(self._motion, self._ego_motion)}

    def _odometry(self, header: Header) -> dict[str, Any]:
        ego = self._ego_motion
        if self._motion.trouble or not self.status:
            return {}
        pose = RigidTransform(
            Header(header.stamp_ns, ODOMETRY_FRAME),
            header.frame_id,
            ego.pose[:3, :3],
            ego.pose[:3, 3],
        )
        made = CameraOdometry(pose, ego.covariance, ego.velocity, ego.velocity_covariance)
        return {'odometry': made}

    def __call__(
        self,
        depth: DepthImage,
        camera: PinholeCamera,
        stddev: StddevImage | None = None,
        provenance: ProvenanceImage | None = None,
        fixed_from_camera: RigidTransform | None = None,
    ) -> dict[str, Any]:
        """Return the refined frame.

        `fixed_from_camera` is where tf has the camera in `fixed_frame` at the time of the frame.

        Raises:
            ValueError: If camera, stddev or provenance have another size than the depth.
        """
        check_camera_fits(depth.depth_m, camera)
        check_companions_fit(depth, stddev, provenance)
        p = self.parameters
        noise = SENSORS[p.sensor]
        depth_m = depth.depth_m
        stddev_m = noise.stddev_m(depth_m, camera.fx)
        if stddev is not None:
            stddev_m = deviations_m(depth, stddev, stddev_m)
        came = stated_m = None
        if provenance is not None:
            came, stated_m = origins(depth, provenance), stddev_m
            seen = trusted(came)
            depth_m = np.where(seen, depth_m, np.float32(np.nan))
            stddev_m = np.where(seen, stddev_m, np.float32(np.nan))
        floor_m = noise.floor_m(depth_m, camera.fx)
        quantization_m = noise.quantization_m(depth_m, camera.fx)
        if p.flying_pixel_filter:
            flying = flying_pixels(depth_m, stddev_m)
            depth_m = depth_m.copy()
            np.copyto(depth_m, np.float32(np.nan), where=flying)
        motion = STANDING_STILL
        if p.temporal_filter and p.motion != 'none':
            motion = self._ego_motion(
                depth_m,
                camera,
                noise,
                depth.header.stamp_ns,
                fixed_from_camera=None
                if fixed_from_camera is None
                else fixed_from_camera.matrix(),
                follow_fixed=p.motion == 'tf',
            )
        else:
            self._ego_motion.reset()
        self._motion = motion
        moves = motion is not STANDING_STILL and not motion.trouble
        if p.spatial_filter and p.spatial_strength > 0:
            depth_m, stddev_m = smooth(
                depth_m,
                stddev_m,
                strength=p.spatial_strength,
                scales=p.spatial_scales,
                correlation_px=noise.correlation_px,
                floor_m=floor_m,
                quantization_m=quantization_m if p.keep_quantization and not moves else None,
            )
        if p.temporal_filter:
            self._temporal.memory_frames = p.temporal_memory
            self._temporal.bridge_frames = p.temporal_bridge
            depth_m, stddev_m = self._temporal(
                depth_m,
                stddev_m,
                depth.header.stamp_ns,
                floor_m=floor_m,
                quantization_m=quantization_m,
                motion=motion,
                camera=camera,
            )
        else:
            self._temporal.reset()
        marks = np.empty(depth_m.shape, np.uint8)
        _mark(depth.depth_m.ravel(), depth_m.ravel(), stddev_m.ravel(), marks.ravel())
        if came is not None and stated_m is not None:
            invented = ~trusted(came) & (came != Provenance.INVALID)
            for image, held in ((depth_m, depth.depth_m), (stddev_m, stated_m), (marks, came)):
                np.copyto(image, held, where=invented)
            marks[(marks == Provenance.MEASURED) & (came == Provenance.REFINED)] = (
                Provenance.REFINED
            )
        header = depth.header
        made = self._odometry(header) if p.odometry else {}
        return made | {
            'depth': replace(depth, depth_m=depth_m),
            'camera': replace(camera, header=header),
            'stddev': StddevImage(header, stddev_m),
            'provenance': ProvenanceImage(header, marks),
        }


@kernel
def _mark(
    raw_m: FloatRow, refined_m: FloatRow, stddev_m: FloatRowOut, provenance: ByteRowOut
) -> None:
    for x in range(len(raw_m)):
        known = refined_m[x] == refined_m[x]  # not NaN
        stddev_m[x] = stddev_m[x] if known else _NAN
        origin = _MEASURED if raw_m[x] == refined_m[x] else _REFINED
        # Bridged: what was seen in frames before is not seen in this one.
        origin = origin if raw_m[x] == raw_m[x] else _INPAINTED
        provenance[x] = origin if known else _INVALID


def _described(motion: Motion, ego: EgoMotion) -> str:
    """Say in one sentence how the camera was followed."""
    lost = f'; not known {ego.lost} times so far, last: {ego.last_trouble}' if ego.lost else ''
    if motion.trouble:
        return f'not known ({motion.trouble}): averaging starts anew{lost}'
    if motion is STANDING_STILL:
        return f'the camera stands still{lost}'
    moved_mm = 1000 * float(np.linalg.norm(motion.translation_m))
    cosine = (float(np.trace(motion.rotation)) - 1) / 2
    turned_deg = math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
    open_ = f', {motion.undetermined} of 6 directions unknown' if motion.undetermined else ''
    if ego.tf_off_m > _TF_OFF_M:
        open_ += f', tf says {1000 * ego.tf_off_m:.0f} mm away'
    return f'by {motion.source}: {moved_mm:.1f} mm, {turned_deg:.2f} degrees{open_}{lost}'
