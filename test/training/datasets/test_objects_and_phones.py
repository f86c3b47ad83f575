import json

import numpy as np
import pytest

from training.datasets import DatasetError, open_dataset


def test_clear_grasp_real(tmp_path, write_exr, write_image, bgr):
    glass_m = np.full((6, 8), 0.7)
    glass_m[2, 2], glass_m[2, 3] = 0, np.nan
    folder = tmp_path / 'real-known' / 'd435'
    write_exr(folder / '000000001-transparent-depth-img.exr', glass_m)
    write_exr(folder / '000000001-opaque-depth-img.exr', np.full((6, 8), 0.6))
    write_image(folder / '000000001-transparent-rgb-img.jpg', bgr)
    sample = open_dataset(tmp_path)[0]
    assert sample.depth_m[0, 0] == np.float32(0.7)
    assert np.argwhere(np.isnan(sample.depth_m)).tolist() == [[2, 2], [2, 3]]
    assert sample.reference_m[2, 2] == np.float32(0.6)
    assert sample.intrinsics is None


def test_clear_grasp_synthetic_has_the_readmes_camera(tmp_path, write_exr):
    folder = tmp_path / 'cup-with-waves' / 'depth-imgs-rectified'
    write_exr(folder / '000000000-depth-rectified.exr', np.full((288, 512), 0.5))
    data = open_dataset(tmp_path)
    assert data.kind == 'ClearGrasp synthetic'
    # "369.71 = 370 pixels" at 512x288.
    assert data[0].intrinsics[[0, 1], [0, 1]] == pytest.approx([369.71, 369.72], abs=0.02)
    assert data[0].intrinsics[:2, 2].tolist() == [255.5, 143.5]


def test_exr_cut_short(tmp_path, write_exr):
    path = write_exr(tmp_path / '1-transparent-depth-img.exr', np.ones((6, 8)))
    data = open_dataset(tmp_path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DatasetError, match=r'depth-img\.exr is no EXR file or is cut short'):
        data[0]


def record(path, **more):
    told = {'K': [20, 0, 0, 0, 22, 0, 7.5, 5.5, 1], 'w': 16, 'h': 12} | more
    (path / 'metadata.json').write_text(json.dumps(told))


@pytest.mark.parametrize('colour', [(12, 16), (24, 32), None])
def test_record3d_scales_camera_and_colour_to_the_depth(tmp_path, write_image, counts, colour):
    write_image(tmp_path / 'depth' / '0.png', counts)
    if colour:
        write_image(tmp_path / 'rgb' / '0.jpg', np.full((*colour, 3), 70, np.uint8))
    record(tmp_path)
    sample = open_dataset(tmp_path)[0]
    assert sample.depth_m[3, 3] == np.float32(1.234)
    assert np.isnan(sample.depth_m[0, 1])
    # The middle of 16x12 pixels is (7.5, 5.5), that of 8x6 is (3.5, 2.5), whatever the JPG's size.
    assert sample.intrinsics.tolist() == [[10, 0, 3.5], [0, 11, 2.5], [0, 0, 1]]
    assert (sample.rgb is None) if colour is None else (sample.rgb == 70).all()


def test_record3d_takes_the_camera_of_each_frame(tmp_path, write_image, counts):
    for number in (0, 2, 10):
        write_image(tmp_path / 'depth' / f'{number}.png', counts)
    record(tmp_path, perFrameIntrinsicCoeffs=[[40 + i, 44, 7.5, 5.5] for i in range(3)])
    data = open_dataset(tmp_path)
    assert data.names == ['0', '2', '10']
    assert [s.intrinsics[0, 0] for s in data] == [20, 21, 10]  # the last has none of its own


def test_record3d_exr_is_metres(tmp_path, write_exr):
    depth_m = np.full((6, 8), 1.234)
    depth_m[0, 0] = np.nan
    write_exr(tmp_path / 'depth' / '0.exr', depth_m)
    record(tmp_path)
    sample = open_dataset(tmp_path)[0]
    assert sample.depth_m[3, 3] == np.float32(1.234)
    assert np.isnan(sample.depth_m[0, 0])


@pytest.mark.parametrize(
    ('array', 'expected_m'),
    [(np.array([[1234, 0]], np.uint16), 1.234), (np.array([[0.5, np.nan]], np.float32), 0.5)],
)
def test_phone_depth_as_npy(tmp_path, array, expected_m):
    (tmp_path / 'depth').mkdir()
    np.save(tmp_path / 'depth' / '0.npy', array)
    record(tmp_path)
    depth_m = open_dataset(tmp_path)[0].depth_m
    assert depth_m[0, 0] == np.float32(expected_m)
    assert np.isnan(depth_m[0, 1])
    (tmp_path / 'depth' / '0.npy').write_bytes(b'\x93NUMPY cut')
    with pytest.raises(DatasetError, match=r'0\.npy is no array or is cut short'):
        open_dataset(tmp_path)[0]


def test_record3d_says_what_is_wrong(tmp_path, write_image, counts):
    write_image(tmp_path / 'depth' / '0.png', counts)
    write_image(tmp_path / 'rgb' / '0.jpg', np.zeros((16, 12, 3), np.uint8))
    record(tmp_path)
    with pytest.raises(DatasetError, match=r'0\.jpg is 12x16, but .*0\.png 8x6'):
        open_dataset(tmp_path)[0]
    for text in ('{}', '{"K": [1, 2]}', '[]', '{'):
        (tmp_path / 'metadata.json').write_text(text)
        with pytest.raises(DatasetError, match=r'metadata\.json does not say K as nine numbers'):
            open_dataset(tmp_path)


def test_a_packed_recording_is_to_be_exported(tmp_path):
    (tmp_path / 'a.r3d').write_bytes(b'PK')
    with pytest.raises(DatasetError, match='export the recording as "EXR \\+ JPG"'):
        open_dataset(tmp_path / 'a.r3d')


@pytest.fixture
def own(tmp_path, write_image, counts, bgr):
    write_image(tmp_path / 'depth' / '000.png', counts)
    write_image(tmp_path / 'reference' / '000.png', counts)
    write_image(tmp_path / 'color' / '000.png', np.repeat(np.repeat(bgr, 2, 0), 2, 1))
    (tmp_path / 'poses').mkdir()
    (tmp_path / 'poses' / '000.txt').write_text('1 0 0 0.5 0 1 0 0 0 0 1 2 0 0 0 1')
    camera = {
        'width': 8, 'height': 6, 'fx': 10, 'fy': 11, 'cx': 3, 'cy': 2, 'depth_unit_m': 0.001,
        'color_aligned_to_depth': True,
    }  # fmt: skip
    (tmp_path / 'camera.json').write_text(json.dumps(camera))
    return tmp_path


def test_own_layout(own):
    sample = open_dataset(own)[-1]
    assert sample.depth_m[3, 3] == np.float32(1.234)
    assert sample.reference_m[3, 3] == np.float32(1.234)
    assert sample.rgb.shape == (6, 8, 3)  # aligned, twice as fine
    assert sample.rgb[0, 0].tolist() == [10, 20, 30]
    assert sample.world_from_camera[:3, 3].tolist() == [0.5, 0, 2]
    assert sample.intrinsics.tolist() == [[10, 0, 3], [0, 11, 2], [0, 0, 1]]
    assert sample.registered


def test_own_layout_with_a_colour_camera_of_its_own(own):
    camera = json.loads((own / 'camera.json').read_text()) | {'color_aligned_to_depth': False}
    (own / 'camera.json').write_text(json.dumps(camera))
    sample = open_dataset(own)[0]
    assert not sample.registered
    assert sample.rgb.shape == (12, 16, 3)
    (own / 'camera.json').write_text('{}')
    with pytest.raises(DatasetError, match=r"camera\.json has no 'width'"):
        open_dataset(own)


@pytest.mark.parametrize(
    ('licence', 'allowed'),
    [
        ('own', True),
        ('CC BY 4.0', True),
        ('CC BY-SA 4.0', False),
        ('research, non-commercial', False),
        ('MIT (code)', False),
        ('none stated', False),
        (None, False),
    ],
)
def test_own_layout_ships_only_what_says_so(own, licence, allowed):
    camera = json.loads((own / 'camera.json').read_text())
    (own / 'camera.json').write_text(json.dumps(camera | {'licence': licence}))
    data = open_dataset(own)
    assert data.licence.allows_shipping is allowed
    assert data[0].licence is data.licence
