from __future__ import annotations

import cv2
import numpy as np
import pytest

from depth_refiner_ros.folders import COLOR_FRAME, Folder
from depth_refiner_ros.tum import EPOCH_NS, is_listed, read_listing

T_S = 1_305_031_102
IDENTITY = '0 0 0 0 0 0 1'


@pytest.fixture
def listed(tmp_path):
    """Write lists by name, and empty files for the images they name."""

    def write(**lists):
        for name, text in lists.items():
            (tmp_path / f'{name}.txt').write_text(text)
            for word in text.replace(',', ' ').split():
                if word.endswith('.png'):
                    (tmp_path / word).parent.mkdir(exist_ok=True)
                    (tmp_path / word).touch()
        return tmp_path

    return write


def images(stamps, folder='depth', divider=' '):
    return ''.join(f'{stamp}{divider}{folder}/{i}.png\n' for i, stamp in enumerate(stamps))


def stamps_of(path, rate_hz=30.0):
    return [row.stamp_ns for row in read_listing(path, rate_hz=rate_hz).rows]


# ------------------------------------------------------------------------------- stamps


@pytest.mark.parametrize(
    ('text', 'stamp_ns'),
    [
        ('1305031102.160407', 1_305_031_102_160_407_000),
        ('1.305031102160407000e+09', 1_305_031_102_160_407_000),
        ('1.305031102099999905e+09', 1_305_031_102_099_999_905),  # numpy.savetxt
        ('1305031102', T_S * 10**9),
        ('1305031102160', 1_305_031_102_160_000_000),
        ('1305031102160.5', 1_305_031_102_160_500_000),
        ('1305031102160407', 1_305_031_102_160_407_000),
        ('1305031102160407123', 1_305_031_102_160_407_123),  # EuRoC
        ('1.305031102160407123e18', 1_305_031_102_160_407_123),
        ('0.5', 500_000_000),
    ],
)
def test_a_stamp_is_exact_whatever_its_form(listed, text, stamp_ns):
    assert stamps_of(listed(depth=f'{text} depth/0.png\n')) == [stamp_ns]


@pytest.mark.parametrize(
    ('stamps', 'expected_ns', 'words'),
    [
        ([0, 1, 2], [EPOCH_NS, EPOCH_NS + 10**8, EPOCH_NS + 2 * 10**8], 'frame numbers at 10 Hz'),
        ([5, 10, 15], [EPOCH_NS + n * 10**8 for n in (5, 10, 15)], 'frame numbers'),
        ([0, 33, 67], [0, 33_000_000, 67_000_000], 'milliseconds'),
        ([0, 33_333, 66_667], [0, 33_333_000, 66_667_000], 'microseconds'),
        ([0, 33_333_333, 66_666_667], [0, 33_333_333, 66_666_667], 'nanoseconds'),
    ],
)
def test_whole_numbers_from_the_start_are_read_by_their_step(listed, stamps, expected_ns, words):
    listing = read_listing(listed(depth=images(stamps)), rate_hz=10)
    assert [row.stamp_ns for row in listing.rows] == expected_ns
    assert words in listing.notes[0]


def test_poses_of_the_same_clock_are_read_alike(listed):
    poses = ''.join(f'{5 * i} {i} 0 0 0 0 0 1\n' for i in range(20))
    listing = read_listing(listed(depth=images([0, 33, 67]), groundtruth=poses), rate_hz=30)
    # 33 ms lies nearest to 35, 67 to 65
    assert [row.world_from_camera[0, 3] for row in listing.rows] == [0, 7, 13]


@pytest.mark.parametrize('text', ['nan', 'inf', '-1', '1e30', '1e999999', '4000000000', '4e18'])
def test_stamps_that_are_no_time_are_refused(listed, text):
    with pytest.raises(ValueError, match=r'depth\.txt, line 1'):
        read_listing(listed(depth=f'{text} depth/0.png\n'), rate_hz=30)


def test_rows_come_in_the_order_of_time(listed):
    path = listed(depth='1.5 depth/b.png\n0.5 depth/a.png\n1e0 depth/c.png\n')
    rows = read_listing(path, rate_hz=30).rows
    assert [row.depth.name for row in rows] == ['a.png', 'c.png', 'b.png']


def test_rows_that_repeat_a_stamp_are_told(listed):
    path = listed(
        depth=images([T_S, T_S, T_S, T_S + 1]),
        groundtruth=f'{T_S} 1 0 0 0 0 0 1\n{T_S} 2 0 0 0 0 0 1\n',
    )
    listing = read_listing(path, rate_hz=30)
    assert [row.depth.name for row in listing.rows] == ['0.png', '3.png']
    assert listing.rows[0].world_from_camera[0, 3] == 1
    text = '\n'.join(listing.notes)
    assert '2 of 4 rows of depth.txt repeat a stamp' in text
    assert 'the first of them line 2' in text
    assert '1 of 2 rows of groundtruth.txt repeat a stamp' in text
    assert '1 of 2 frames have no pose within 20 ms' in text


@pytest.mark.parametrize('divider', [' ', '\t', ',', ' , ', ';', '  '])
@pytest.mark.parametrize('end', ['\n', '\r\n'])
@pytest.mark.parametrize('mark', ['', '\ufeff'])
def test_forms_of_a_list(tmp_path, divider, end, mark):
    (tmp_path / 'depth').mkdir()
    lines = ['# depth maps', ' # indented', '% of another tool', '', '  ']
    for i in range(2):
        lines.append(f'{T_S + i}.25{divider}depth/{i}.png')
        (tmp_path / f'depth/{i}.png').touch()
    (tmp_path / 'depth.txt').write_bytes((mark + end.join(lines)).encode())
    assert stamps_of(tmp_path) == [(T_S + i) * 10**9 + 250_000_000 for i in range(2)]


# -------------------------------------------------------------------------------- poses


@pytest.mark.parametrize(
    'bad', ['0 0 0 0 0 0 0', 'nan nan nan nan nan nan nan', '0 0 inf 0 0 0 1']
)
def test_poses_that_are_none_are_left_out_and_counted(listed, bad):
    poses = f'{T_S} {bad}\n{T_S + 1} 1 2 3 0 0 0 2\n'
    listing = read_listing(listed(depth=images([T_S, T_S + 1]), groundtruth=poses), rate_hz=30)
    first, second = listing.rows
    assert first.world_from_camera is None
    # a quaternion of any length is a direction
    np.testing.assert_array_equal(second.world_from_camera[:3, :3], np.eye(3))
    assert '1 of 2 poses of groundtruth.txt are no pose' in listing.notes[0]


@pytest.mark.parametrize(
    'header', ['# t x y z qw qx qy qz', '#timestamp, p_x [m], q_RS_w [], q_RS_x [], q_RS_y []']
)
def test_a_header_that_puts_the_scalar_first(listed, header):
    half = 0.5**0.5
    path = listed(depth=images([T_S]), groundtruth=f'{header}\n{T_S} 0 0 0 {half} 0 0 {half}\n')
    (row,) = read_listing(path, rate_hz=30).rows
    # a quarter turn about z
    np.testing.assert_allclose(row.world_from_camera[:3, 0], [0, 1, 0], atol=1e-9)


# ------------------------------------------------------------------------------- images


def test_images_that_are_not_there(listed):
    path = listed(depth=images([1.5, 2.5]), rgb=images([1.5, 2.5], 'rgb'))
    (path / 'rgb/1.png').unlink()
    listing = read_listing(path, rate_hz=30)
    assert [row.color is None for row in listing.rows] == [False, True]
    assert '1 listed colour images are not there' in listing.notes[0]
    (path / 'depth/0.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'lists 1 depth images .*depth/0\.png'):
        read_listing(path, rate_hz=30)


@pytest.mark.parametrize('swapped', [False, True])
def test_associations_in_place_of_lists(listed, swapped):
    line = '{0} rgb/{0}.png {0} depth/{0}.png' if swapped else '{0} depth/{0}.png {0} rgb/{0}.png'
    path = listed(associations='\n'.join(line.format(i) for i in range(3)))
    assert is_listed(path)
    rows = read_listing(path, rate_hz=30).rows
    assert [row.depth.parent.name for row in rows] == ['depth'] * 3
    assert [row.color.parent.name for row in rows] == ['rgb'] * 3


def test_associations_that_do_not_say_which_is_depth(listed):
    with pytest.raises(ValueError, match='neither or both'):
        read_listing(listed(associations='0 a/0.png 0 b/0.png'), rate_hz=30)


# -------------------------------------------------------------------------- calibration


def with_image(path, shape=(480, 640), counts=5000):
    for image in path.glob('*/*.png'):
        cv2.imwrite(str(image), np.full(shape, counts, np.uint16))
    return path


def test_what_is_assumed_is_said(listed):
    folder = Folder(with_image(listed(depth=images([1.5]))))
    text = '\n'.join(folder.remarks)
    assert 'fx 525 fy 525 cx 319.5 cy 239.5 px: assumed' in text
    assert '--camera fx,fy,cx,cy' in text
    assert '0.0002 m a count (5000 counts a metre): assumed' in text
    assert '--depth-unit-m' in text


def test_what_is_given_is_not_assumed(listed):
    folder = Folder(
        with_image(listed(depth=images([1.5])), (30, 40)),
        depth_unit_m=0.001,
        intrinsics=(50, 51, 20, 15),
    )
    (frame,) = folder
    assert folder.remarks == []
    assert (frame.camera.width, frame.camera.fx, frame.camera.fy) == (40, 50, 51)
    assert (frame.depth.depth_m == 5).all()


def test_a_size_that_is_not_tums_needs_a_camera(listed):
    with pytest.raises(ValueError, match=r'40x30, .*--camera fx,fy,cx,cy'):
        Folder(with_image(listed(depth=images([1.5])), (30, 40)))


@pytest.mark.parametrize(
    'text',
    [
        '726.25 727.5 354.5 186.5\n',
        '# fx fy cx cy\n726.25,727.5,354.5,186.5\r\n',
        '726.25 0 354.5\n0 727.5 186.5\n0 0 1\n',
    ],
)
def test_calibration_as_eth3d_has_it(listed, text):
    path = with_image(listed(depth=images([1.5]), calibration=text), (458, 739))
    folder = Folder(path)
    (frame,) = folder
    camera = frame.camera
    assert (camera.width, camera.height) == (739, 458)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (726.25, 727.5, 354.5, 186.5)
    assert 'from calibration.txt' in folder.remarks[0]


@pytest.mark.parametrize('text', ['', '1 2 3', 'fx 1', '1 2 3 nan', '1 2 3 4 5 6 7 8 9'])
def test_calibration_that_is_none(listed, text):
    with pytest.raises(ValueError, match=r'calibration\.txt: expected fx fy cx cy'):
        Folder(with_image(listed(depth=images([1.5]), calibration=text)))


def test_icl_nuim(listed):
    path = with_image(
        listed(associations='1 depth/1.png 1 rgb/1.png\n2 depth/2.png 2 rgb/2.png\n')
    )
    half = 0.5**0.5
    (path / 'livingRoom2.gt.freiburg').write_text(f'1 1 2 3 {half} 0 0 {half}\n2 0 0 0 0 0 0 1\n')
    folder = Folder(path)
    first, second = folder
    assert (first.camera.fx, first.camera.fy) == (481.2, 480)
    assert second.depth.header.stamp_ns - first.depth.header.stamp_ns == 33_333_334
    assert first.depth.depth_m[0, 0] == 1
    # Its y axis points up, so that a turn about x goes the other way round and y changes sign.
    pose = first.world_from_camera
    assert pose.translation_m.tolist() == [1, -2, 3]
    np.testing.assert_allclose(pose.rotation @ [0, 1, 0], [0, 0, -1], atol=1e-9)
    assert "ICL-NUIM's" in '\n'.join(folder.remarks)


SENSORS = """%YAML:1.0
d400_color_optical_frame:
   sensor_type: camera
   width: 848
   height: 480
   intrinsics: !!opencv-matrix
      rows: 1
      cols: 4
      dt: d
      data: [ 6.115e+02, 4.3325e+02, 6.1125e+02, 2.495e+02 ]
d400_depth_optical_frame:
   intrinsics: !!opencv-matrix
      rows: 1
      cols: 4
      dt: d
      data: [ 4.275e+02, 4.25e+02, 4.2775e+02, 2.375e+02 ]
"""
MOUNTED = """%YAML:1.0
trans_matrix:
   -
      parent_frame: base_link
      child_frame: d400_color_optical_frame
      matrix: !!opencv-matrix
         rows: 4
         cols: 4
         dt: d
         data: [ 0., 0., 1., 0.5, -1., 0., 0., 0., 0., -1., 0., 1., 0., 0., 0., 1. ]
   -
      parent_frame: d400_color_optical_frame
      child_frame: d400_depth_optical_frame
      matrix: !!opencv-matrix
         rows: 4
         cols: 4
         dt: d
         data: [ 1., 0., 0., -0.015, 0., 1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1. ]
"""


def test_openloris(listed):
    path = listed(
        aligned_depth=images([1.5], 'aligned_depth'),
        color=images([1.5], 'color'),
        groundtruth='1.5 10 20 0 0 0 0 1\n',
    )
    (path / 'sensors.yaml').write_text(SENSORS)
    with_image(path, (480, 848), 2000)
    folder = Folder(path)
    (frame,) = folder
    # nothing says where the camera sits in base_link, whose poses these are
    assert frame.world_from_camera is None
    assert 'the poses were left out' in '\n'.join(folder.remarks)
    camera = frame.camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (611.5, 611.25, 433.25, 249.5)
    assert (frame.depth.depth_m == 2).all()

    (path / 'trans_matrix.yaml').write_text(MOUNTED)
    (frame,) = Folder(path)
    pose = frame.world_from_camera
    assert pose.translation_m.tolist() == [10.5, 20, 1]
    assert (pose.rotation @ [0, 0, 1]).tolist() == [1, 0, 0]  # it looks ahead


def test_openloris_without_aligned_depth_keeps_two_cameras(listed):
    path = listed(depth=images([1.5]), color=images([1.5], 'color'))
    (path / 'sensors.yaml').write_text(SENSORS)
    (path / 'trans_matrix.yaml').write_text(MOUNTED)
    folder = Folder(with_image(path, (480, 848)))
    (frame,) = folder
    assert (frame.camera.fx, frame.camera.cx) == (427.5, 425)
    assert (frame.color_camera.fx, frame.color_camera.cx) == (611.5, 433.25)
    assert frame.color.header.frame_id == COLOR_FRAME
    assert folder.color_from_depth.translation_m.tolist() == [-0.015, 0, 0]


def test_intrinsics_in_another_order_are_refused(listed):
    path = listed(depth=images([1.5]))
    (path / 'sensors.yaml').write_text(SENSORS.replace('4.25e+02, 4.2775e+02', '4.2775e+02, 1.'))
    with pytest.raises(ValueError, match='must be fx cx fy cy'):
        Folder(with_image(path))
