from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from depth_refiner_ros.folders import COLOR_FRAME, DEPTH_FRAME, WORLD_FRAME, Folder

WIDTH, HEIGHT = 8, 6
CAMERA = {
    'width': WIDTH,
    'height': HEIGHT,
    'fx': 10.0,
    'fy': 11.0,
    'cx': 3.5,
    'cy': 2.5,
    'depth_unit_m': 0.001,
    'color_aligned_to_depth': True,
}


def png(path, array):
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), array)


@pytest.fixture
def folder(tmp_path):
    """Write the project's layout; `changes` to camera.json, None to drop a key."""

    def write(count=2, *, color=None, reference=False, poses=False, **changes):
        info = {k: v for k, v in (CAMERA | changes).items() if v is not None}
        (tmp_path / 'camera.json').write_text(json.dumps(info))
        for i in range(count):
            depth = np.full((HEIGHT, WIDTH), 1000 + i, np.uint16)
            depth[0, 0] = 0
            png(tmp_path / f'depth/{i:03}.png', depth)
            if color:
                png(tmp_path / f'color/{i:03}.png', np.full(color, (i, 20, 30), np.uint8))
            if reference:
                png(tmp_path / f'reference/{i:03}.png', depth + 5)
            if poses:
                (tmp_path / 'poses').mkdir(exist_ok=True)
                pose = np.eye(4)
                pose[:3, 3] = i, 2, 3
                np.savetxt(tmp_path / f'poses/{i:03}.txt', pose)
        return tmp_path

    return write


def test_depth_alone(folder):
    recording = Folder(folder(3), rate_hz=10)
    frames = list(recording)

    assert len(recording) == len(frames) == 3
    assert recording.color_from_depth is None
    stamps = [f.depth.header.stamp_ns for f in frames]
    assert np.diff(stamps).tolist() == [100_000_000] * 2
    for i, frame in enumerate(frames):
        assert frame.depth.encoding == '16UC1'
        assert frame.depth.depth_m[1, 1] == np.float32((1000 + i) / 1000)
        assert np.isnan(frame.depth.depth_m[0, 0])
        assert (frame.camera.fx, frame.camera.fy) == (10, 11)
        assert frame.depth.header == frame.camera.header
        assert frame.color is frame.color_camera is frame.reference is None
        assert frame.world_from_camera is None


def test_everything(folder):
    path = folder(color=(HEIGHT, WIDTH, 3), reference=True, poses=True)
    _, frame = Folder(path)

    assert frame.color.rgb[0, 0].tolist() == [30, 20, 1]  # OpenCV wrote blue first
    assert frame.color.header.frame_id == DEPTH_FRAME
    assert (frame.color_camera.fx, frame.color_camera.cx) == (10, 3.5)
    assert frame.reference.depth_m[1, 1] == np.float32(1.006)
    pose = frame.world_from_camera
    assert (pose.header.frame_id, pose.child_frame_id) == (WORLD_FRAME, DEPTH_FRAME)
    assert pose.translation_m.tolist() == [1, 2, 3]


def test_aligned_colour_of_twice_the_size(folder):
    (frame,) = Folder(folder(1, color=(2 * HEIGHT, 2 * WIDTH, 3)))
    # pixel centres at whole numbers: (3.5 + 0.5) * 2 - 0.5
    camera = frame.color_camera
    assert (camera.width, camera.fx, camera.cx) == (16, 20, 7.5)


def test_colour_camera_of_its_own(folder):
    path = folder(
        1,
        color=(4, 4, 3),
        color_aligned_to_depth=False,
        color_K=[5, 6, 1.5, 1.6],
        color_from_depth_t_m=[0.025, 0, 0],
    )
    recording = Folder(path)
    (frame,) = recording

    assert frame.color.header.frame_id == COLOR_FRAME
    camera = frame.color_camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (5, 6, 1.5, 1.6)
    assert recording.color_from_depth.translation_m.tolist() == [0.025, 0, 0]
    assert recording.color_from_depth.header.frame_id == COLOR_FRAME


def test_colour_that_is_not_calibrated_has_no_camera(folder):
    (frame,) = Folder(folder(1, color=(4, 4, 3), color_aligned_to_depth=False))
    assert frame.color is not None
    assert frame.color_camera is None


@pytest.mark.parametrize(
    ('unit_m', 'encoding', 'metres'),
    [(0.001, '16UC1', 1.0), (0.0001, '32FC1', 0.1), (0.0003, '32FC1', 0.3)],
)
def test_units_keep_their_resolution_and_scale(folder, unit_m, encoding, metres):
    (frame,) = Folder(folder(1, depth_unit_m=unit_m))
    assert frame.depth.encoding == encoding
    assert frame.depth.depth_m[1, 1] == np.float32(metres)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'fx': None}, "has no 'fx'"),
        ({'depth_unit_m': None}, "has no 'depth_unit_m'"),
        ({'depth_unit_m': 0}, 'millimetres are 0.001'),
        ({'depth_unit_m': -0.001}, 'millimetres are 0.001'),
        ({'depth_unit_m': 1000}, 'millimetres are 0.001'),
        ({'depth_unit_m': 'mm'}, "'mm'"),
        ({'fx': 0}, 'focal length must be positive'),
        ({'fx': '40'}, "fx must be a number, got '40'"),
        ({'width': 8.5}, 'width must be a whole number, got 8.5'),
        ({'color_from_depth_t_m': ['a', 0, 0]}, 'color_from_depth_t_m[0] must be a number'),
        ({'width': 'wide'}, 'camera.json'),
        ({'color_K': [1, 2, 3]}, 'fx fy cx cy'),
        ({'color_K': 7}, 'camera.json'),
        ({'color_K': [0, 0, 0, 0]}, 'focal length must be positive'),
        ({'color_from_depth_t_m': [1, 2]}, 'x y z'),
    ],
)
def test_incomplete_calibration(folder, changes, words):
    with pytest.raises(ValueError, match=r'camera\.json') as caught:
        Folder(folder(1, **changes))
    assert words in str(caught.value)


@pytest.mark.parametrize('content', ['', '{', '[1, 2]', 'words', '{"width": '])
def test_camera_json_that_is_not_json(folder, content):
    path = folder(1)
    (path / 'camera.json').write_text(content)
    with pytest.raises(ValueError, match=r'camera\.json'):
        Folder(path)


def test_camera_json_that_is_no_text(folder):
    path = folder(1)
    (path / 'camera.json').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(ValueError, match='not JSON'):
        Folder(path)


def test_what_is_no_recording(tmp_path):
    with pytest.raises(FileNotFoundError, match='no folder'):
        Folder(tmp_path / 'nowhere')
    with pytest.raises(ValueError, match=r'neither camera\.json'):
        Folder(tmp_path)
    (tmp_path / 'camera.json').write_text(json.dumps(CAMERA))
    with pytest.raises(ValueError, match='no depth images'):
        Folder(tmp_path)


@pytest.mark.parametrize(
    ('array', 'words'),
    [
        (np.zeros((HEIGHT, WIDTH), np.uint8), '16-bit grey'),
        (np.zeros((HEIGHT, WIDTH, 3), np.uint16), '16-bit grey'),
        (np.zeros((3, 4), np.uint16), 'is 4x3, but its camera 8x6'),
    ],
)
def test_depth_of_another_kind_or_size(folder, array, words):
    path = folder(1)
    png(path / 'depth/000.png', array)
    with pytest.raises(ValueError, match=r'000\.png') as caught:
        list(Folder(path))
    assert words in str(caught.value)


@pytest.mark.parametrize('kind', ['depth', 'color', 'reference'])
@pytest.mark.parametrize('octets', [b'', b'no image'])
def test_unreadable_images_are_named_once(folder, capfd, kind, octets):
    path = folder(1, color=(HEIGHT, WIDTH, 3), reference=True)
    (path / kind / '000.png').write_bytes(octets)
    with pytest.raises(ValueError, match=rf'{kind}/000\.png is not a readable image'):
        list(Folder(path))
    assert capfd.readouterr().err == ''


@pytest.mark.parametrize('content', ['', '1 2 3', 'a b', '1 ' * 15 + 'x', '1 ' * 17])
def test_poses_that_are_none(folder, content):
    path = folder(1, poses=True)
    (path / 'poses/000.txt').write_text(content)
    with pytest.raises(ValueError, match='4x4'):
        Folder(path)


@pytest.mark.parametrize(
    'bad',
    [
        np.full((4, 4), np.nan),
        np.full((4, 4), -np.inf),  # as ScanNet writes a lost pose
        np.zeros((4, 4)),
        np.diag([2.0, 1, 1, 1]),
        np.diag([-1.0, 1, 1, 1]),
    ],
)
def test_poses_that_are_lost_are_left_out_and_counted(folder, bad):
    path = folder(3, poses=True)
    np.savetxt(path / 'poses/001.txt', bad)
    recording = Folder(path)
    assert [f.world_from_camera is None for f in recording] == [False, True, False]
    (remark,) = recording.remarks
    assert remark.startswith('1 of 3 poses are no pose')


@pytest.mark.parametrize(
    ('names', 'order'),
    [
        (['0', '1', '10', '11', '2'], ['0', '1', '2', '10', '11']),
        (['f-9', 'f-10', 'f-08'], ['f-08', 'f-9', 'f-10']),
        # stamps: decimals, not versions
        (['1.5', '1.25', '0.75'], ['0.75', '1.25', '1.5']),
        (['a2b10', 'a2b9', 'a10b1', 'b'], ['a2b9', 'a2b10', 'a10b1', 'b']),
    ],
)
def test_frames_come_in_the_order_of_their_numbers(folder, names, order):
    path = folder(0)
    for name in names:
        png(path / f'depth/{name}.png', np.ones((HEIGHT, WIDTH), np.uint16))
    (path / 'depth/._0.png').write_bytes(b'left by a Mac')
    assert Folder(path).names == order


def test_calibration_from_outside_replaces_that_of_the_folder(folder):
    path = folder(1, depth_unit_m=None, fx=None, color=(HEIGHT, WIDTH, 3))
    (frame,) = Folder(path, depth_unit_m=0.0001, intrinsics=(20, 21, 3, 2))
    camera = frame.camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (20, 21, 3, 2)
    assert frame.color_camera.fx == 20
    assert frame.depth.depth_m[1, 1] == np.float32(0.1)


# ------------------------------------------------------------------------------ TUM RGB-D


@pytest.fixture
def tum(tmp_path):
    depth = np.full((480, 640), 5000, np.uint16)
    depth[0] = 0
    png(tmp_path / 'depth/1.png', depth)
    png(tmp_path / 'rgb/1.png', np.full((480, 640, 3), (1, 2, 3), np.uint8))
    (tmp_path / 'depth.txt').write_text(
        '# depth maps\n# timestamp filename\n'
        '1305031102.160407 depth/1.png\n1305031102.194330 depth/1.png\n'
        '1305031103.5 depth/1.png\n'
    )
    (tmp_path / 'rgb.txt').write_text(
        '1305031102.175304 rgb/1.png\n1305031102.211214 rgb/1.png\n1305031104.0 rgb/1.png\n'
    )
    (tmp_path / 'groundtruth.txt').write_text(
        '# timestamp tx ty tz qx qy qz qw\n'
        '1305031102.1600 1 2 3 0 0 0.70710678 0.70710678\n1305031102.1950 4 5 6 0 0 0 1\n'
    )
    return tmp_path


def test_tum(tum):
    first, second, third = Folder(tum)

    assert first.depth.header.stamp_ns == 1_305_031_102_160_407_000
    assert first.depth.encoding == '32FC1'
    assert first.depth.depth_m[1, 0] == 1  # TUM: 5000 counts a metre
    assert np.isnan(first.depth.depth_m[0, 0])
    assert (first.camera.fx, first.camera.cx) == (525.0, 319.5)
    assert first.color.rgb[0, 0].tolist() == [3, 2, 1]
    assert first.color.header.frame_id == DEPTH_FRAME
    pose = first.world_from_camera
    assert pose.translation_m.tolist() == [1, 2, 3]
    # a quarter turn about z sends x to y
    np.testing.assert_allclose(pose.rotation @ [1, 0, 0], [0, 1, 0], atol=1e-7)
    assert second.world_from_camera.translation_m.tolist() == [4, 5, 6]
    # within 20 ms of neither colour nor pose
    assert third.color is None
    assert third.world_from_camera is None


def test_tum_without_colour_and_poses(tum):
    (tum / 'rgb.txt').unlink()
    (tum / 'groundtruth.txt').unlink()
    first, *_ = Folder(tum)
    assert first.color is first.world_from_camera is None


@pytest.mark.parametrize(
    ('name', 'line', 'words'),
    [
        ('depth.txt', 'now depth/1.png', 'line 1: expected a timestamp and file name'),
        ('depth.txt', '1.5', 'line 1: expected a timestamp and file name'),
        ('rgb.txt', '1.x rgb/1.png', 'line 1'),
        ('groundtruth.txt', '1305031102.16 1 2 3', 'expected a timestamp and tx ty tz'),
        ('groundtruth.txt', '1305031102.16 1 2 3 a b c d', 'expected a timestamp and tx ty tz'),
    ],
)
def test_tum_lists_with_a_bad_line(tum, name, line, words):
    (tum / name).write_text(f'{line}\n')
    with pytest.raises(ValueError, match=name) as caught:
        Folder(tum)
    assert words in str(caught.value)


def test_tum_list_without_rows(tum):
    (tum / 'depth.txt').write_text('# nothing\n')
    with pytest.raises(ValueError, match='no depth images'):
        Folder(tum)


def test_tum_image_that_is_not_there(tum):
    (tum / 'depth/1.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'1\.png'):
        list(Folder(tum))


def test_a_long_trajectory_is_paired_as_by_search(tum):
    rng = np.random.default_rng(3)
    gt = np.sort(rng.integers(0, 10_000_000, 3000)) * 1000
    depth = np.sort(rng.integers(0, 10_000_000, 200)) * 1000

    def text(ns, rest):
        return ''.join(f'{n // 10**9}.{n % 10**9:09} {rest(n)}\n' for n in ns)

    (tum / 'depth.txt').write_text(text(depth, lambda n: 'depth/1.png'))
    (tum / 'groundtruth.txt').write_text(text(gt, lambda n: f'{n} 0 0 0 0 0 1'))
    for entry in Folder(tum)._entries:
        nearest = gt[np.abs(gt - entry.stamp_ns).argmin()]
        if abs(int(nearest) - entry.stamp_ns) > 20_000_000:
            assert entry.pose is None
        else:
            assert abs(entry.pose[0, 3] - entry.stamp_ns) == abs(nearest - entry.stamp_ns)


def test_real_recordings_open(recordings):
    for path in sorted(recordings.glob('*/camera.json')):
        frame = next(iter(Folder(path.parent)))
        assert np.isfinite(frame.depth.depth_m).any()
