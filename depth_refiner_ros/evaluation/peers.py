"""What the pipelines are compared with: the hole filling that users reach for today.

Every peer is a stage, so that peers and pipelines are run and measured by one code path.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
import importlib
from typing import Any, ClassVar

import cv2
import numpy as np

from ..data import ColorImage, DepthImage, Float32Array, PinholeCamera, UInt8Array
from ..geometry import check_camera_fits, fill_nearest, registered
from ..parameters import Parameters, parameter
from ..stage import Capabilities, Input, Stage, Topic

_INPAINT_RADIUS_PX = 3


class Peer(ABC):
    """The ports and the call that all peers share; a peer defines how it fills."""

    capabilities = Capabilities()
    Parameters: ClassVar[Any] = Parameters
    inputs: ClassVar[Mapping[str, Input]] = {
        'depth': Topic(DepthImage, 'depth/image_rect'),
        'camera': Topic(PinholeCamera, 'depth/camera_info', latched=True),
        'color': Topic(ColorImage, 'color/image_rect', optional=True),
        'color_camera': Topic(PinholeCamera, 'color/camera_info', optional=True, latched=True),
    }
    outputs: ClassVar[Mapping[str, Topic]] = {'depth': Topic(DepthImage, 'depth_peer/image_rect')}

    def __init__(self, parameters: Any = None) -> None:
        self.parameters = parameters or self.Parameters()

    def __call__(
        self,
        depth: DepthImage,
        camera: PinholeCamera,
        color: ColorImage | None = None,
        color_camera: PinholeCamera | None = None,
    ) -> dict[str, DepthImage]:
        """Return the peer's depth of one frame.

        Raises:
            ValueError: If the camera has another size than the depth.
        """
        check_camera_fits(depth.depth_m, camera)
        guide = None
        if color is not None and registered(color, depth, color_camera, camera):
            guide = color.rgb
        return {'depth': replace(depth, depth_m=self.fill(depth, camera, guide))}

    @abstractmethod
    def fill(
        self, depth: DepthImage, camera: PinholeCamera, rgb: UInt8Array | None
    ) -> Float32Array:
        """Return depth, (H, W) metres; `rgb` is there where a colour image is registered to it."""


class Raw(Peer):
    """Hands the sensor's depth on as it is."""

    def fill(
        self, depth: DepthImage, camera: PinholeCamera, rgb: UInt8Array | None
    ) -> Float32Array:
        """Return depth, (H, W) metres."""
        return depth.depth_m


class Nearest(Peer):
    """Gives a hole the measurement nearest in the image; measured pixels stay untouched."""

    def fill(
        self, depth: DepthImage, camera: PinholeCamera, rgb: UInt8Array | None
    ) -> Float32Array:
        """Return depth, (H, W) metres."""
        filled_m = fill_nearest(depth.depth_m)
        return depth.depth_m if filled_m is None else filled_m


class NavierStokes(Peer):
    """Fills holes with OpenCV's Navier-Stokes inpainting; measured pixels stay untouched.

    M. Bertalmio, A. L. Bertozzi, G. Sapiro, "Navier-Stokes, fluid dynamics, and image and video
    inpainting", CVPR 2001; `cv2.inpaint` on float32 metres, radius 3. OpenCV 4.8.1 loses holes
    that touch the image's border (1 m of error on a wall at 2 m), 4.14 does not.
    """

    def fill(
        self, depth: DepthImage, camera: PinholeCamera, rgb: UInt8Array | None
    ) -> Float32Array:
        """Return depth, (H, W) metres."""
        hole = np.isnan(depth.depth_m)
        if hole.all() or not hole.any():
            return depth.depth_m
        source = np.where(hole, np.float32(0), depth.depth_m)
        filled_m = cv2.inpaint(source, hole.view(np.uint8), _INPAINT_RADIUS_PX, cv2.INPAINT_NS)
        return np.where(hole, np.asarray(filled_m, np.float32), depth.depth_m)


class Telea(Peer):
    """Fills holes with OpenCV's fast marching inpainting; measured pixels stay untouched.

    A. Telea, "An image inpainting technique based on the fast marching method", Journal of
    Graphics Tools 9(1), 2004; `cv2.inpaint`, radius 3, on 16-bit counts that span the frame's
    own range. OpenCV adds to each filled pixel its normalised gradient, up to sqrt(2) *counts*
    whatever a count is worth (opencv issue 25404). On float32 metres that is 1.4 m (kitchen holes:
    900 mm of mean error, 103 mm here); on 8 bits a count of a 4 m frame is 16 mm.
    """

    def fill(
        self, depth: DepthImage, camera: PinholeCamera, rgb: UInt8Array | None
    ) -> Float32Array:
        """Return depth, (H, W) metres."""
        hole = np.isnan(depth.depth_m)
        if hole.all() or not hole.any():
            return depth.depth_m
        source_m = np.where(hole, np.float32(0), depth.depth_m)
        count_m = source_m.max() / np.float32(65535)
        counts = np.rint(source_m / count_m).astype(np.uint16)
        filled = cv2.inpaint(counts, hole.view(np.uint8), _INPAINT_RADIUS_PX, cv2.INPAINT_TELEA)
        return np.where(hole, np.asarray(filled, np.float32) * count_m, depth.depth_m)


@dataclass(frozen=True, kw_only=True)
class IPBasicParameters(Parameters):
    """Parameters of `IPBasic`."""

    max_distance_m: float = parameter(
        20.0, 'Depth is turned upside down here; what is beyond counts as no return.',
        unit='m', range=(1, 1000),
    )  # fmt: skip


_EMPTY_M = np.float32(0.1)
_DIAMOND = (np.abs(np.mgrid[-2:3, -2:3]).sum(axis=0) <= 2).astype(np.uint8)


def _dilated(inverted_m: Float32Array, size_px: int) -> Float32Array:
    return np.asarray(cv2.dilate(inverted_m, np.ones((size_px, size_px), np.uint8)), np.float32)


class IPBasic(Peer):
    """Completes depth by morphology, nearer surfaces growing over farther ones.

    J. Ku, A. Harakeh, S. L. Waslander, "In Defense of Classical Image Processing: Fast Depth
    Completion on the CPU", CRV 2018: the fast variant with the Gaussian blur, as published for
    sparse lidar. Its first dilation and its blur change measured pixels as well. What is farther
    than the last dilation reaches from any measurement stays empty.
    """

    Parameters: ClassVar[Any] = IPBasicParameters

    def fill(
        self, depth: DepthImage, camera: PinholeCamera, rgb: UInt8Array | None
    ) -> Float32Array:
        """Return depth, (H, W) metres."""
        max_m = np.float32(self.parameters.max_distance_m)
        # Upside down, a dilation (a maximum) lets the nearer surface win, and 0 is empty.
        inverted_m = max_m - depth.depth_m
        measured = (depth.depth_m > _EMPTY_M) & (inverted_m > _EMPTY_M)
        if not measured.any():
            return np.full_like(depth.depth_m, np.nan)
        inverted_m = np.where(measured, inverted_m, np.float32(0))
        inverted_m = self.grown(inverted_m)
        inverted_m = np.asarray(
            cv2.morphologyEx(inverted_m, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)), np.float32
        )
        inverted_m = np.where(inverted_m < _EMPTY_M, _dilated(inverted_m, 7), inverted_m)
        inverted_m = self.extended(inverted_m)
        inverted_m = np.asarray(cv2.medianBlur(inverted_m, 5), np.float32)
        blurred_m = np.asarray(cv2.GaussianBlur(inverted_m, (5, 5), 0), np.float32)
        inverted_m = np.where(inverted_m > _EMPTY_M, blurred_m, inverted_m)
        filled_m = np.where(inverted_m > _EMPTY_M, max_m - inverted_m, np.float32(np.nan))
        return np.asarray(filled_m, np.float32)

    def grown(self, inverted_m: Float32Array) -> Float32Array:
        """Return inverted depth after the first, 5x5 diamond dilation."""
        return np.asarray(cv2.dilate(inverted_m, _DIAMOND), np.float32)

    def extended(self, inverted_m: Float32Array) -> Float32Array:
        """Return inverted depth with each column's top value drawn upwards and large holes filled.

        The sky over a car has no lidar return; hence upwards.
        """
        first_row = np.argmax(inverted_m > _EMPTY_M, axis=0)
        above = np.arange(inverted_m.shape[0])[:, None] < first_row
        top_m = inverted_m[first_row, np.arange(inverted_m.shape[1])]
        inverted_m = np.where(above, top_m, inverted_m)
        return np.where(inverted_m < _EMPTY_M, _dilated(inverted_m, 31), inverted_m)


class IPBasicDense(IPBasic):
    """IP-Basic adapted to dense depth: grows into holes only, until none is left.

    The published order gives up two pixels at every edge and draws columns upwards, which serves
    64 lidar lines and costs a depth camera accuracy. Without both, it is the stronger peer here.
    """

    def grown(self, inverted_m: Float32Array) -> Float32Array:
        """Return inverted depth, holes dilated by the 5x5 diamond."""
        return np.where(inverted_m < _EMPTY_M, super().grown(inverted_m), inverted_m)

    def extended(self, inverted_m: Float32Array) -> Float32Array:
        """Return inverted depth, large holes filled by dilation until none is left."""
        while (empty := inverted_m < _EMPTY_M).any():
            inverted_m = np.where(empty, _dilated(inverted_m, 31), inverted_m)
        return inverted_m


@dataclass(frozen=True, kw_only=True)
class JointBilateralParameters(Parameters):
    """Parameters of `JointBilateral`."""

    radius_px: int = parameter(2, 'Half the width of the window.', unit='px', range=(1, 10))
    sigma_px: float = parameter(
        1.0, 'Distance at which a neighbour weighs 0.6.', unit='px', range=(0.1, 10)
    )
    sigma_color: float = parameter(
        15.0, 'Difference in RGB, of 255, at which a neighbour weighs 0.6.', range=(1, 500)
    )


class JointBilateral(Peer):
    """Fills holes from the rim inwards with neighbours alike in colour; measured pixels stay.

    The joint bilateral weights of J. Kopf, M. F. Cohen, D. Lischinski, M. Uyttendaele, "Joint
    Bilateral Upsampling", SIGGRAPH 2007, over what is known so far. Every round moves the rim by a
    pixel, so colour decides between the surfaces in one window, not across a wide hole. Without a
    colour image registered to the depth only distance weighs, and `guided` says so.

    Attributes:
        guided: Whether colour guided the last frame; None before the first.
    """

    Parameters: ClassVar[Any] = JointBilateralParameters

    def __init__(self, parameters: JointBilateralParameters | None = None) -> None:
        super().__init__(parameters)
        self.guided: bool | None = None

    def fill(
        self, depth: DepthImage, camera: PinholeCamera, rgb: UInt8Array | None
    ) -> Float32Array:
        """Return depth, (H, W) metres."""
        p = self.parameters
        self.guided = rgb is not None
        pad = p.radius_px
        depth_m = np.pad(np.nan_to_num(depth.depth_m), pad)
        known = np.pad((~np.isnan(depth.depth_m)).view(np.uint8), pad)
        inside = np.pad(np.ones(depth.depth_m.shape, np.bool_), pad)
        color = None if rgb is None else np.pad(rgb, ((pad, pad), (pad, pad), (0, 0)))
        flat_m, flat_known = depth_m.ravel(), known.ravel()
        flat_color = None if color is None else color.reshape(-1, 3).astype(np.float32)

        dy, dx = np.mgrid[-pad : pad + 1, -pad : pad + 1].reshape(2, -1)
        step = dy * depth_m.shape[1] + dx
        closeness = np.exp(-(dx**2 + dy**2) / (2 * p.sigma_px**2)).astype(np.float32)
        while True:
            rim = np.flatnonzero((cv2.dilate(known, np.ones((3, 3))) > known) & inside)
            if rim.size == 0:
                break
            near = rim[:, None] + step
            weight = closeness * flat_known[near]
            if flat_color is not None:
                unlike = flat_color[near] - flat_color[rim][:, None]
                square = np.einsum('nkc,nkc->nk', unlike, unlike)
                # The floor keeps a colour that nothing around shares from dividing by zero.
                weight *= np.exp(-square / np.float32(2 * p.sigma_color**2)) + np.float32(1e-6)
            flat_m[rim] = (weight * flat_m[near]).sum(axis=1) / weight.sum(axis=1)
            flat_known[rim] = 1
        filled_m = np.where(known > 0, depth_m, np.float32(np.nan))[pad:-pad, pad:-pad]
        return np.asarray(filled_m, np.float32)


@dataclass(frozen=True, kw_only=True)
class LibrealsenseParameters(Parameters):
    """Parameters of `Librealsense`."""

    depth_unit_m: float = parameter(
        0.0, 'Depth of one 16-bit count; 0: 1 mm for 16UC1 depth, 0.1 mm for 32FC1.',
        unit='m', range=(0, 0.1),
    )  # fmt: skip
    baseline_mm: float = parameter(
        50.0, 'Stereo baseline behind the disparity; a D435 has 50 mm.',
        unit='mm', range=(1, 1000),
    )  # fmt: skip


_FRAME_MS = 2000


class _FilterChain:
    """One camera's librealsense filters behind a software device, with their state."""

    def __init__(
        self,
        rs: Any,
        camera: PinholeCamera,
        unit_m: float,
        baseline_mm: float,
        hole_filling: int | None,
        temporal: bool,
    ) -> None:
        self.rs = rs
        self.unit_m = unit_m
        self.frames = 0

        intrinsics = rs.intrinsics()
        intrinsics.width, intrinsics.height = camera.width, camera.height
        intrinsics.fx, intrinsics.fy = camera.fx, camera.fy
        intrinsics.ppx, intrinsics.ppy = camera.cx, camera.cy
        intrinsics.model = rs.distortion.none
        stream = rs.video_stream()
        stream.type, stream.fmt, stream.fps, stream.bpp = rs.stream.depth, rs.format.z16, 30, 2
        stream.width, stream.height, stream.intrinsics = camera.width, camera.height, intrinsics

        self.device = rs.software_device()
        self.sensor = self.device.add_sensor('Stereo Module')
        self.profile = self.sensor.add_video_stream(stream).as_video_stream_profile()
        self.sensor.add_read_only_option(rs.option.depth_units, unit_m)
        # Without a baseline the disparity transform silently does nothing.
        self.sensor.add_read_only_option(rs.option.stereo_baseline, baseline_mm)
        self.queue = rs.frame_queue(1)
        self.sensor.open(self.profile)
        self.sensor.start(self.queue)

        self.filters = [rs.disparity_transform(True), rs.spatial_filter()]
        if temporal:
            self.filters.append(rs.temporal_filter())
        self.filters.append(rs.disparity_transform(False))
        if hole_filling is not None:
            self.filters.append(rs.hole_filling_filter(hole_filling))

    def __call__(self, depth: DepthImage) -> Float32Array:
        counts = np.rint(np.nan_to_num(depth.depth_m) / np.float32(self.unit_m))
        pixels = np.where(counts <= 65535, counts, 0).astype(np.uint16)
        self.frames += 1
        sent = self.rs.software_video_frame()
        sent.pixels, sent.bpp, sent.stride = pixels, 2, 2 * pixels.shape[1]
        sent.timestamp = depth.header.stamp_ns * 1e-6
        sent.domain = self.rs.timestamp_domain.system_time
        sent.frame_number, sent.profile, sent.depth_units = self.frames, self.profile, self.unit_m
        # The device hands the frame on in this very call; the wait is for when it does not.
        self.sensor.on_video_frame(sent)
        try:
            frame = self.queue.wait_for_frame(_FRAME_MS)
        except RuntimeError as error:
            raise TimeoutError(
                f'librealsense did not hand the frame on within {_FRAME_MS} ms: {error}'
            ) from error
        for block in self.filters:
            frame = block.process(frame)
        received = np.asarray(frame.get_data(), np.float32)
        depth_m = np.where(received > 0, received * np.float32(self.unit_m), np.float32(np.nan))
        return np.asarray(depth_m, np.float32)


class Librealsense(Peer):
    """Runs librealsense's own post-processing at its defaults, on a software device.

    Disparity, spatial filter, [temporal filter], depth, [hole filling]: the order that its
    doc/post-processing-filters.md recommends, without the decimation, which changes the size.
    Measured pixels change: that is what the filters are for. Depth is rounded to `depth_unit_m`;
    65535 of them are the farthest there is. Hole filling is one pass over the rows, in place, and
    leaves out the first column and, in modes 1 and 2, the first and the last row.

    Attributes:
        hole_filling: librealsense's mode, None for none.

    Raises:
        ValueError: If pyrealsense2 cannot be imported.
        TimeoutError: If librealsense does not hand a frame on.
    """

    Parameters: ClassVar[Any] = LibrealsenseParameters
    hole_filling: ClassVar[int | None] = None

    def __init__(self, parameters: LibrealsenseParameters | None = None) -> None:
        super().__init__(parameters)
        try:
            self._rs = importlib.import_module('pyrealsense2')
        except ImportError as error:
            raise ValueError(
                f'the librealsense peers need pyrealsense2 ({error}); '
                "pip install 'depth_refiner_ros[realsense]'"
            ) from error
        self._chain: _FilterChain | None = None
        self._made_for: Any = None

    def fill(
        self, depth: DepthImage, camera: PinholeCamera, rgb: UInt8Array | None
    ) -> Float32Array:
        """Return depth, (H, W) metres."""
        intrinsics = (camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy)
        p = self.parameters
        unit_m = p.depth_unit_m or (0.001 if depth.encoding == '16UC1' else 0.0001)
        made_for = (intrinsics, unit_m, p.baseline_mm)
        if self._chain is None or self._made_for != made_for:
            self._chain = _FilterChain(
                self._rs,
                camera,
                unit_m,
                p.baseline_mm,
                self.hole_filling,
                self.capabilities.remembers,
            )
            self._made_for = made_for
        return self._chain(depth)


class LibrealsenseLeft(Librealsense):
    """librealsense, holes taking the value to their left (mode 0)."""

    hole_filling: ClassVar[int | None] = 0


class LibrealsenseFarthest(Librealsense):
    """librealsense, holes taking the farthest neighbour's depth (mode 1, its default)."""

    hole_filling: ClassVar[int | None] = 1


class LibrealsenseNearest(Librealsense):
    """librealsense, holes taking the nearest neighbour's depth (mode 2).

    A pixel stays empty where the one above it is: librealsense takes that for the nearest.
    """

    hole_filling: ClassVar[int | None] = 2


class LibrealsenseTemporal(LibrealsenseFarthest):
    """librealsense with its temporal filter, and its default hole filling behind it."""

    capabilities = Capabilities(remembers=True)  # by its temporal filter


PEERS: Mapping[str, type[Stage]] = {
    'raw': Raw,
    'nearest': Nearest,
    'navier_stokes': NavierStokes,
    'telea': Telea,
    'ip_basic': IPBasic,
    'ip_basic_dense': IPBasicDense,
    'joint_bilateral': JointBilateral,
    'librealsense_unfilled': Librealsense,
    'librealsense_left': LibrealsenseLeft,
    'librealsense_farthest': LibrealsenseFarthest,
    'librealsense_nearest': LibrealsenseNearest,
    'librealsense_temporal': LibrealsenseTemporal,
}
"""Every peer by the name that the evaluation and its report use."""
