import numpy as np
import pytest

from training.datasets import DatasetError, open_dataset
from training.datasets.hypersim import depth_from_distance


@pytest.fixture
def sun(tmp_path, write_image, bgr):
    place = tmp_path / 'kv1' / 'b3dodata' / 'img_0063'
    # 1234 is 0b10011010010: shifted up by three it is 9872. A set lowest bit, the largest that
    # fits (8000 mm), one above, and none.
    stored = np.full((6, 8), 9872, np.uint16)
    stored[0, :4] = 9872 | 1, 64000, 64008, 0
    write_image(place / 'depth' / 'a.png', stored)
    write_image(place / 'depth_bfx' / 'a.png', np.full((6, 8), 8000, np.uint16))
    write_image(place / 'image' / 'a.png', bgr)
    (place / 'intrinsics.txt').write_text('529.5 0 365 0 529.5 265 0 0 1 \n')
    return tmp_path


def test_sun_rgbd_rotates_the_bits(sun):
    data = open_dataset(sun)
    assert data.names == ['kv1/b3dodata/img_0063']
    sample = data[0]
    assert sample.depth_m[3, 3] == np.float32(1.234)
    # 1234 | 1 << 13 would be 9.426 m: no measurement, an index in the lowest bits.
    assert np.isnan(sample.depth_m[0, [0, 2, 3]]).all()
    assert sample.depth_m[0, 1] == 8.0
    assert (sample.reference_m == 1.0).all()
    assert sample.intrinsics.tolist() == [[529.5, 0, 365], [0, 529.5, 265], [0, 0, 1]]
    assert sample.rgb[0, 0].tolist() == [10, 20, 30]


def test_sun_rgbd_damaged(sun):
    place = sun / 'kv1' / 'b3dodata' / 'img_0063'
    (place / 'intrinsics.txt').write_text('529.5 0')
    with pytest.raises(DatasetError, match=r'intrinsics\.txt does not hold nine numbers'):
        open_dataset(sun)[0]
    (place / 'depth' / 'a.png').unlink()
    with pytest.raises(DatasetError, match='depth is empty; unpack'):
        open_dataset(sun)[0]


def test_eight_bits_are_no_depth(sun, write_image):
    write_image(sun / 'kv1/b3dodata/img_0063/depth/a.png', np.ones((6, 8), np.uint8))
    with pytest.raises(DatasetError, match=r'a\.png must have one channel of 16 bits, got uint8'):
        open_dataset(sun)[0]


def test_diml(tmp_path, write_image, counts, bgr):
    write_image(tmp_path / 'LR' / '01' / 'color' / 'in_k_c.png', bgr)
    data = open_dataset(tmp_path)
    with pytest.raises(DatasetError, match=r'in_k_depth_filled\.png cannot be read'):
        data[0]
    write_image(tmp_path / 'LR' / '01' / 'depth_filled' / 'in_k_depth_filled.png', counts)
    assert data[0].depth_m[3, 3] == np.float32(1.234)
    assert np.isnan(data[0].depth_m[0, 1])
    assert data[0].rgb[0, 0].tolist() == [10, 20, 30]
    assert data[0].intrinsics is None
    assert data.depth_origin == 'filled'


@pytest.fixture
def hypersim(tmp_path, write_hdf5, write_image):
    images = tmp_path / 'ai_001_001' / 'images'
    distance_m = np.full((3, 5), 2.0, np.float16)
    distance_m[1, 0] = np.nan
    write_hdf5(
        images / 'scene_cam_00_geometry_hdf5' / 'frame.0000.depth_meters.hdf5', dataset=distance_m
    )
    write_image(
        images / 'scene_cam_00_final_preview' / 'frame.0000.tonemap.jpg',
        np.full((3, 5, 3), 70, np.uint8),
    )
    return tmp_path


def lenses(path, matrix):
    names = [f'M_cam_from_uv_{i}{j}' for i in range(3) for j in range(3)]
    values = [f'{v:.17g}' for v in np.ravel(matrix)]
    (path / 'metadata_camera_parameters.csv').write_text(
        f'scene_name,{",".join(names)}\nai_001_001,{",".join(values)}\n'
    )


def test_hypersim_turns_distance_into_depth(hypersim):
    sample = open_dataset(hypersim)[0]
    # 5 px across 60 degrees: 2.5 / tan 30 = 4.330127 px; the corner pixel lies 2 right, 1 down.
    assert sample.intrinsics[0, 0] == pytest.approx(4.330127)
    assert sample.intrinsics[:2, 2] == pytest.approx([2, 1])
    assert sample.depth_m[1, 2] == 2.0
    corner_m = 2 / np.sqrt(1 + (2**2 + 1**2) / 4.330127**2)  # 1.776943
    assert sample.depth_m[[0, 0, 2, 2], [0, 4, 0, 4]] == pytest.approx([corner_m] * 4)
    assert np.argwhere(np.isnan(sample.depth_m)).tolist() == [[1, 0]]
    assert sample.rgb[0, 0].tolist() == [70, 70, 70]


def test_hypersims_usual_lens_has_the_published_focal_length(hypersim, write_hdf5):
    path = next(hypersim.rglob('*.hdf5'))
    write_hdf5(path, dataset=np.ones((768, 1024), np.float16))
    next(hypersim.rglob('*.jpg')).unlink()
    intrinsics = open_dataset(hypersim)[0].intrinsics
    assert intrinsics[:2] == pytest.approx(np.array([[886.81, 0, 511.5], [0, 886.81, 383.5]]))


def test_hypersim_with_a_shifted_lens(hypersim):
    # One more pixel to the right in all rays: 2 / 5 of u, scaled by tan 30.
    tan = np.tan(np.pi / 6)
    lenses(hypersim, [[tan, 0, 0.4 * tan], [0, tan * 3 / 5, 0], [0, 0, -1]])
    sample = open_dataset(hypersim)[0]
    assert sample.intrinsics[:2] == pytest.approx(
        np.array([[4.330127, 0, 1], [0, 4.330127, 1]]), abs=1e-6
    )
    assert sample.depth_m[1, 1] == 2.0
    assert sample.depth_m[1, 4] == pytest.approx(2 / np.hypot(1, 3 / 4.330127))


def test_hypersim_with_a_tilted_lens_has_no_pinhole(hypersim):
    tan = np.tan(np.pi / 6)
    lenses(hypersim, [[tan, 0, 0], [0, tan * 3 / 5, 0], [0, 0.1, -1]])
    assert open_dataset(hypersim)[0].intrinsics is None


def test_hypersim_without_its_scene_in_the_table(hypersim):
    lenses(hypersim, np.diag([1, 1, -1]))
    (hypersim / 'ai_001_001').rename(hypersim / 'ai_002_002')
    with pytest.raises(DatasetError, match="has no scene 'ai_002_002'"):
        open_dataset(hypersim)[0]
    (hypersim / 'metadata_camera_parameters.csv').write_text('scene_name\nai_002_002\n')
    with pytest.raises(DatasetError, match='does not give M_cam_from_uv_00'):
        open_dataset(hypersim)


@pytest.mark.parametrize('tilt', [0.0, 0.2])
def test_depth_from_distance_of_a_fronto_parallel_wall(tilt):
    # A wall 3 m ahead: walk from depth to distance by an explicit loop, and back.
    lens = np.array([[0.8, 0, 0], [0, 0.6, 0], [0, tilt, -1]])
    distance_m = np.empty((4, 6))
    for row in range(4):
        for column in range(6):
            u, v = (column + 0.5) / 3 - 1, 1 - (row + 0.5) / 2
            ahead = 1 - tilt * v
            distance_m[row, column] = 3 * np.linalg.norm([0.8 * u, 0.6 * v, ahead]) / ahead
    assert depth_from_distance(distance_m, lens) == pytest.approx(np.full((4, 6), 3.0))
