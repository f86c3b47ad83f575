"""A RealSense without a RealSense: the SDK's software device, and recordings made of it."""

from __future__ import annotations

from pathlib import Path
import threading
import time

import numpy as np
import pytest

rs = pytest.importorskip('pyrealsense2', reason="pip install 'depth_refiner_ros[realsense]'")

from depth_refiner_ros.hosts import realsense  # noqa: E402
from depth_refiner_ros.hosts.realsense import (  # noqa: E402
    CameraLostError,
    RealSense,
    RealSenseParameters,
)

WIDTH, HEIGHT = 64, 48
START_MS, PERIOD_MS = 1_700_000_000_000.0, 33.0
# Made by `recorded` with pyrealsense2 2.55, the last that writes .bag, at four frames a second.
BAG = Path(__file__).parent / 'realsense.bag'


def lens(width, height, f_px):
    made = rs.intrinsics()
    made.width, made.height, made.fx, made.fy = width, height, f_px, f_px
    made.ppx, made.ppy = width / 2 - 0.5, height / 2 - 0.5
    made.model, made.coeffs = rs.distortion.brown_conrady, [0.0] * 5
    return made


def stream(kind, uid, width, height, layout, octets, f_px):
    made = rs.video_stream()
    made.type, made.index, made.uid, made.fps = kind, 0, uid, 30
    made.width, made.height, made.bpp, made.fmt = width, height, octets, layout
    made.intrinsics = lens(width, height, f_px)
    return made


class Software:
    """A camera whose depth tells its frame's number, with colour of twice the size beside it."""

    def __init__(self, unit_m=0.001, baseline_m=0.0, color_format=rs.format.rgb8):
        self.unit_m = unit_m
        self.device = rs.software_device()
        self.device.register_info(rs.camera_info.name, 'software')
        self.device.register_info(rs.camera_info.serial_number, '0123')
        self.depth = self.device.add_sensor('Stereo Module')
        self.color = self.device.add_sensor('RGB Camera')
        of_depth = stream(rs.stream.depth, 1, WIDTH, HEIGHT, rs.format.z16, 2, 60.0)
        of_color = stream(rs.stream.color, 2, 2 * WIDTH, 2 * HEIGHT, color_format, 3, 120.0)
        self.of_depth = self.depth.add_video_stream(of_depth, True)
        self.of_color = self.color.add_video_stream(of_color, True)
        self.depth.add_read_only_option(rs.option.depth_units, unit_m)
        placed = rs.extrinsics()
        placed.rotation = [1, 0, 0, 0, 1, 0, 0, 0, 1]
        placed.translation = [baseline_m, 0, 0]
        self.of_depth.register_extrinsics_to(self.of_color, placed)
        self.device.create_matcher(rs.matchers.default)

    def send(self, i, depth, color=None):
        """Inject a frame, depth last: the SDK hands a pair on once it is complete."""
        items = [(self.depth, self.of_depth, depth)]
        if color is not None:
            items.insert(0, (self.color, self.of_color, color))
        for sensor, profile, pixels in items:
            frame = rs.software_video_frame()
            frame.pixels = pixels
            frame.bpp = pixels.strides[1]
            frame.stride = pixels.strides[0]
            frame.timestamp, frame.frame_number = START_MS + i * PERIOD_MS, i
            frame.domain = rs.timestamp_domain.system_time
            frame.profile = profile.as_video_stream_profile()
            if sensor is self.depth:
                frame.depth_units = self.unit_m
            sensor.on_video_frame(frame)


def depth_counts(i, base=1500):
    counts = np.full((HEIGHT, WIDTH), base + i, np.uint16)
    counts[:8, :8] = 0
    return counts


def red_left_of(column):
    color = np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8)
    color[:, :column] = (250, 20, 30)
    return color


RED = red_left_of(WIDTH)


def taken(camera, software, count, color=RED):
    """The frames a camera gives, while a thread injects more than are asked for."""
    stop = threading.Event()

    def inject():
        for i in range(10 * count):
            software.send(i, depth_counts(i), color)
            if stop.wait(0.01):
                return

    thread = threading.Thread(target=inject)
    thread.start()
    try:
        found = []
        for frame in camera:
            if color is None or 'color' in frame:  # the first frames of two sensors come alone
                found.append(frame)
            if len(found) == count:
                return found
    finally:
        stop.set()
        thread.join()
    raise AssertionError('the camera ended')


def test_depth_intrinsics_stamp_and_unit_are_the_devices():
    software = Software()
    parameters = RealSenseParameters(frame_id='head')
    with RealSense(parameters, software.device) as camera:
        (frame,) = taken(camera, software, 1)
    depth = frame['depth']
    number = round(float(np.nanmax(depth.depth_m)) * 1000) - 1500
    expected_m = (depth_counts(number) / 1000).astype(np.float32)
    expected_m[:8, :8] = np.nan
    np.testing.assert_array_equal(depth.depth_m, expected_m)
    assert depth.encoding == '16UC1'
    assert depth.header.stamp_ns == round((START_MS + number * PERIOD_MS) * 1e6)
    assert depth.header.frame_id == 'head'
    lens_px = frame['camera']
    assert (lens_px.width, lens_px.height) == (WIDTH, HEIGHT)
    assert (lens_px.fx, lens_px.fy, lens_px.cx, lens_px.cy) == (60.0, 60.0, 31.5, 23.5)
    assert frame['color'].header == lens_px.header == depth.header


def test_finer_units_are_not_rounded_to_millimetres():
    software = Software(unit_m=0.0001)
    with RealSense(RealSenseParameters(color=False), software.device) as camera:
        (frame,) = taken(camera, software, 1, color=None)
    assert frame['depth'].encoding == '32FC1'
    counts = np.nanmax(frame['depth'].depth_m) * 1e4
    assert counts == pytest.approx(round(counts), abs=1e-3)
    assert 0.15 <= np.nanmax(frame['depth'].depth_m) < 0.151


@pytest.mark.parametrize('layout', [rs.format.rgb8, rs.format.bgr8])
def test_colour_is_registered_to_the_depth(layout):
    """The colour camera sits so that 1.5 m away everything moves by 4 columns of depth."""
    software = Software(baseline_m=4 * 1.5 / 60, color_format=layout)
    # Depth column u shows colour column 2 (u + 4): red ends at 2 x 36 where u is 32.
    color = red_left_of(72)
    pixels = color if layout == rs.format.rgb8 else np.ascontiguousarray(color[..., ::-1])
    with RealSense(RealSenseParameters(), software.device) as camera:
        (frame,) = taken(camera, software, 1, pixels)
    rgb = frame['color'].rgb
    assert rgb.shape == (HEIGHT, WIDTH, 3)
    row = rgb[24].astype(int)
    assert (row[1:31] == (250, 20, 30)).all()
    assert (row[34:58] == 0).all()


def test_a_frame_outlives_the_camera():
    software = Software()
    with RealSense(RealSenseParameters(), software.device) as camera:
        frames = taken(camera, software, 5)
    for frame in frames:
        assert (frame['color'].rgb[24, 10] == (250, 20, 30)).all()
    stamps = [frame['depth'].header.stamp_ns for frame in frames]
    assert stamps == sorted(set(stamps))


def recorded(path, count, gap_s=0.01):
    software = Software()
    recorder = rs.recorder(str(path), software.device)
    sensors = recorder.query_sensors()
    queue = rs.frame_queue(count, True)
    for sensor in sensors:
        sensor.open(sensor.get_stream_profiles())
        sensor.start(queue)
    for i in range(count):
        software.send(i, depth_counts(i), RED)
        time.sleep(gap_s)
    for sensor in sensors:
        sensor.stop()
        sensor.close()
    return path


def check_recording(path, count):
    with RealSense(RealSenseParameters(file=str(path))) as camera:
        frames = list(camera)
    assert 'color' in frames[-1]
    depths = {frame['depth'].header.stamp_ns: frame['depth'].depth_m for frame in frames}
    # Played at its pace: a busy machine may lose any.
    assert 0 < len(depths) <= count
    for stamp_ns, depth_m in depths.items():
        number = round((stamp_ns / 1e6 - START_MS) / PERIOD_MS)
        assert depth_m[24, 24] == np.float32((1500 + number) / 1000)
        assert np.isnan(depth_m[:8, :8]).all()
    assert frames[-1]['camera'].fx == 60.0


def test_plays_a_recording_to_its_end(tmp_path):
    check_recording(recorded(tmp_path / 'k.db3', 10), 10)


def test_plays_a_bag_of_an_older_sdk():
    check_recording(BAG, 8)


# ------------------------------------------------------------------------------ what goes wrong


def test_a_camera_that_is_not_there():
    with pytest.raises(CameraLostError, match='a RealSense is not connected; connected: none'):
        RealSense(RealSenseParameters())
    with pytest.raises(CameraLostError, match='the RealSense 42 is not connected'):
        RealSense(RealSenseParameters(serial='42'))


def test_a_stream_that_the_camera_does_not_have():
    software = Software()
    with pytest.raises(CameraLostError, match='has no depth with width 640, height 0, rate_hz 0'):
        RealSense(RealSenseParameters(width=640), software.device)


def test_a_silent_camera_is_lost(monkeypatch):
    monkeypatch.setattr(realsense, '_SILENT_S', 0.2)
    software = Software()
    with (
        RealSense(RealSenseParameters(), software.device) as camera,
        pytest.raises(CameraLostError, match=r'has sent nothing for 0\.2 s'),
    ):
        next(iter(camera))


def test_files_that_are_no_recordings(tmp_path):
    with pytest.raises(ValueError, match=r'absent\.bag does not exist'):
        RealSense(RealSenseParameters(file=str(tmp_path / 'absent.bag')))
    broken = tmp_path / 'broken.bag'
    broken.write_bytes(b'#ROSBAG V2.0\n' + bytes(99))
    with pytest.raises(ValueError, match=r'broken\.bag is no recording of a RealSense'):
        RealSense(RealSenseParameters(file=str(broken)))


def test_without_the_sdk(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'pyrealsense2', None)
    with pytest.raises(ValueError, match=r"pip install 'depth_refiner_ros\[realsense\]'"):
        RealSense(RealSenseParameters())
