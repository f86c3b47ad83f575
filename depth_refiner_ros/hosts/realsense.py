"""Takes frames from a RealSense camera, or from a recording of one, without ROS drivers.

Sensors are opened one by one rather than through the SDK's pipeline, which cannot run a software
device: cameras, recordings and tests go the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
import importlib
from pathlib import Path
import time
from types import TracebackType
from typing import Any

import numpy as np

from ..counts import metres_from_counts
from ..data import ColorImage, DepthImage, Header, PinholeCamera
from ..folders import DEPTH_FRAME
from ..parameters import Parameters, parameter

PORTS = ('depth', 'camera', 'color', 'color_camera')
"""What a frame can hold."""

PRESET = {f'{stage}.sensor': 'realsense_d400' for stage in ('refine_depth', 'inpaint_depth')}
"""Parameters of the stages that fit this camera."""

_POLL_MS = 100
_SILENT_S = 5.0  # without a frame for so long, a camera counts as lost


class CameraLostError(OSError):
    """A camera that is not there, or that sends no more."""


@dataclass(frozen=True, kw_only=True)
class RealSenseParameters(Parameters):
    """Which camera, and which of its streams."""

    file: str = parameter(
        '', 'Recording of the RealSense SDK (.bag, .db3) to play in place of a camera.', live=False
    )
    serial: str = parameter('', 'Serial number of the camera; empty: the first.', live=False)
    width: int = parameter(
        0, "Columns of depth; 0: the camera's default.", unit='px', range=(0, 10000), live=False
    )
    height: int = parameter(
        0, "Rows of depth; 0: the camera's default.", unit='px', range=(0, 10000), live=False
    )
    rate_hz: int = parameter(
        0, "Frames a second; 0: the camera's default.", unit='Hz', range=(0, 300), live=False
    )
    color: bool = parameter(True, 'Take colour too, registered to the depth.', live=False)
    frame_id: str = parameter(DEPTH_FRAME, 'Optical frame of the depth camera.', live=False)


def sdk() -> Any:
    """Import pyrealsense2.

    Raises:
        ValueError: If it cannot be.
    """
    try:
        return importlib.import_module('pyrealsense2')
    except ImportError as error:
        raise ValueError(
            f"a RealSense needs pyrealsense2 ({error}): pip install 'depth_refiner_ros[realsense]'"
        ) from None


class RealSense(AbstractContextManager['RealSense']):
    """A camera; iterate to get its frames as they come, or those of a recording at their pace.

    A frame is a depth image, its camera and, where the SDK paired one with it, a colour image
    registered to the depth, all under the depth's header: depth is never resampled. Intrinsics,
    extrinsics and the unit of depth are the device's. The depth of a D400 is free of distortion;
    that of older cameras is taken as if it were.

    Args:
        parameters: Which camera, and which of its streams.
        device: A device of the SDK, instead of looking for one.
        depth_unit_m: Metres of one count of depth; 0: what the device says.

    Raises:
        CameraLostError: If there is no such camera, or it has no such stream.
        ValueError: If pyrealsense2 is missing, or the file is no recording of its SDK.
    """

    def __init__(
        self, parameters: RealSenseParameters, device: Any = None, *, depth_unit_m: float = 0.0
    ) -> None:
        self._rs = rs = sdk()
        self._parameters = parameters
        self._depth_unit_m = depth_unit_m
        self._context = rs.context()
        self._device = device if device is not None else self._found()
        self._playback = self._device.as_playback() if self._device.is_playback() else None
        self._align = rs.align(rs.stream.depth)
        self._frames = rs.syncer()
        self._open: list[Any] = []
        try:
            self._start()
        except RuntimeError as error:
            self.close()
            raise CameraLostError(f'cannot open {self}: {error}') from None
        except CameraLostError:
            self.close()
            raise

    def __str__(self) -> str:
        if self._parameters.file:
            return self._parameters.file
        serial = self._parameters.serial
        return f'the RealSense {serial}' if serial else 'a RealSense'

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the camera."""
        for sensor in self._open:
            with suppress(RuntimeError):  # an unplugged camera cannot be stopped
                sensor.stop()
                sensor.close()
        self._open.clear()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield frames until a recording ends.

        Raises:
            CameraLostError: If a camera is unplugged or falls silent.
        """
        last_s = time.monotonic()
        while True:
            arrived, frames = self._frames.try_wait_for_frames(_POLL_MS)
            if not arrived:
                if self._playback is not None:
                    if self._playback.current_status() == self._rs.playback_status.stopped:
                        return
                elif time.monotonic() - last_s > _SILENT_S:
                    raise CameraLostError(f'{self} has sent nothing for {_SILENT_S:g} s')
                continue
            last_s = time.monotonic()
            if frame := self._decoded(frames):
                yield frame

    # -- the device

    def _found(self) -> Any:
        parameters = self._parameters
        if parameters.file:
            path = Path(parameters.file)
            if not path.is_file():
                raise ValueError(f'{path} does not exist')
            try:
                return self._context.load_device(str(path))
            except RuntimeError as error:
                raise ValueError(f'{path} is no recording of a RealSense: {error}') from None
        info = self._rs.camera_info.serial_number
        devices = list(self._context.query_devices())
        for device in devices:
            if parameters.serial in ('', device.get_info(info)):
                return device
        there = ', '.join(device.get_info(info) for device in devices) or 'none'
        raise CameraLostError(f'{self} is not connected; connected: {there}')

    def _start(self) -> None:
        rs, parameters = self._rs, self._parameters
        wanted = [rs.stream.depth, *([rs.stream.color] if parameters.color else [])]
        for sensor in self._device.query_sensors():
            chosen = [found for stream in wanted if (found := self._profile(sensor, stream))]
            wanted = [w for w in wanted if w not in [p.stream_type() for p in chosen]]
            if chosen:
                sensor.open(chosen)
                self._open.append(sensor)
        if rs.stream.depth in wanted:
            p = parameters
            mode = f'width {p.width}, height {p.height}, rate_hz {p.rate_hz}'
            raise CameraLostError(f'{self} has no depth with {mode}')
        for sensor in self._open:
            sensor.start(self._frames)

    def _profile(self, sensor: Any, stream: Any) -> Any:
        """Return the profile of a stream that fits the parameters, the device's default first."""
        rs, parameters = self._rs, self._parameters
        of_depth = stream == rs.stream.depth
        formats = [rs.format.z16] if of_depth else [rs.format.rgb8, rs.format.bgr8]
        size = (parameters.width, parameters.height) if of_depth else (0, 0)
        fitting = [
            profile
            for profile in sensor.get_stream_profiles()
            if profile.stream_type() == stream
            and profile.format() in formats
            and parameters.rate_hz in (0, profile.fps())
            and size[0] in (0, profile.as_video_stream_profile().width())
            and size[1] in (0, profile.as_video_stream_profile().height())
        ]
        return min(fitting, key=lambda profile: not profile.is_default(), default=None)

    # -- frames

    def _decoded(self, frames: Any) -> dict[str, Any]:
        if not (depth := frames.get_depth_frame()):
            return {}
        header = Header(self._stamp_ns(depth), self._parameters.frame_id)
        lens = depth.profile.as_video_stream_profile().get_intrinsics()
        # The device has a float32: in six digits it is 0.001 again.
        unit_m = self._depth_unit_m or float(f'{depth.get_units():.6g}')
        frame: dict[str, Any] = {
            'depth': DepthImage(
                header,
                metres_from_counts(np.asanyarray(depth.get_data()), unit_m),
                # Whole millimetres stay 16UC1; finer units would be rounded by it.
                '16UC1' if unit_m == 0.001 else '32FC1',
            ),
            'camera': PinholeCamera(
                header, lens.width, lens.height, lens.fx, lens.fy, lens.ppx, lens.ppy
            ),
        }
        if frames.get_color_frame():
            color = self._align.process(frames).get_color_frame()
            pixels = np.asanyarray(color.get_data())
            if color.profile.format() == self._rs.format.bgr8:
                pixels = pixels[..., ::-1]
            # The SDK takes its memory back once the frame is gone.
            frame['color'] = ColorImage(header, np.array(pixels, order='C'))
            frame['color_camera'] = frame['camera']
        return frame

    def _stamp_ns(self, frame: Any) -> int:
        """Return when a frame was taken; when it came, where the camera's clock is its own."""
        if frame.get_frame_timestamp_domain() == self._rs.timestamp_domain.hardware_clock and (
            self._playback is None
        ):
            return time.time_ns()
        return round(float(frame.get_timestamp()) * 1e6)
