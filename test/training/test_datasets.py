import json
import struct

import cv2
import numpy as np
import pytest

from training.datasets import DatasetError, open_dataset

RGB = np.zeros((6, 8, 3), np.uint8)
RGB[0, 0] = (10, 20, 30)


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def counts(**values):
    """Counts of 1234 but for the pixels given as r_c."""
    image = np.full((6, 8), 1234, np.uint16)
    for place, value in values.items():
        row, column = map(int, place[1:].split('_'))
        image[row, column] = value
    return image


def exr(path, depth_m):
    library = pytest.importorskip('OpenEXR', reason="pip install '.[train]'")
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {'compression': library.ZIP_COMPRESSION, 'type': library.scanlineimage}
    library.File(header, {'R': depth_m.astype(np.float32)}).write(str(path))


def test_nyu_labeled(tmp_path):
    h5py = pytest.importorskip('h5py', reason="pip install '.[train]'")
    path = tmp_path / 'nyu_depth_v2_labeled.mat'
    raw_m = np.full((2, 8, 6), 1.5, np.float32)  # frames, columns, rows: MATLAB's order reversed
    raw_m[1, 7, 2] = 0
    raw_m[1, 3, 0] = 2.25
    images = np.zeros((2, 3, 8, 6), np.uint8)
    images[1, :, 3, 0] = (1, 2, 3)
    with h5py.File(path, 'w') as file:
        file['images'], file['rawDepths'], file['depths'] = images, raw_m, raw_m + 0.5
    frame = open_dataset(path)[1]
    assert frame.depth_m.shape == (6, 8)
    assert np.isnan(frame.depth_m[2, 7])
    assert frame.depth_m[0, 3] == 2.25
    assert frame.rgb[0, 3].tolist() == [1, 2, 3]
    assert frame.reference_m[0, 3] == 2.75
    assert frame.intrinsics[0, 0] == pytest.approx(518.857901)


def test_nyu_labeled_cut_short(tmp_path):
    pytest.importorskip('h5py', reason="pip install '.[train]'")
    path = tmp_path / 'nyu.mat'
    path.write_bytes(b'\x89HDF\r\n\x1a\n cut')
    with pytest.raises(DatasetError, match=r'nyu.mat is no HDF5 file or is cut short'):
        open_dataset(path)


def test_nyu_raw_takes_the_colour_nearest_in_time(tmp_path):
    relative = np.full((6, 8), 800, np.uint16)
    relative[0, 1], relative[0, 2], relative[0, 3] = 2047, 0, 1080
    body = b''.join(struct.pack('<H', int(v)) for v in relative.ravel())  # swapped, as they are
    (tmp_path / 'd-100.50-1.pgm').write_bytes(b'P5\n8 6\n65535\n' + body)
    for stamp, level in (('100.30', 10), ('100.60', 20), ('101.00', 30)):
        write(tmp_path / f'r-{stamp}-7.ppm', np.full((6, 8, 3), level, np.uint8))
    frame = open_dataset(tmp_path)[0]
    assert frame.depth_m[3, 3] == pytest.approx(351.3 / (1092.5 - 800))
    assert np.isnan(frame.depth_m[0, 1:4]).all()  # nothing, 0, and 28 m
    assert frame.rgb[0, 0, 0] == 20
    assert not frame.registered


def test_seven_scenes(tmp_path):
    write(tmp_path / 'frame-000000.depth.png', counts(p0_1=65535, p0_2=0))
    write(tmp_path / 'frame-000000.color.png', RGB[..., ::-1])
    frame = open_dataset(tmp_path)[0]
    assert frame.depth_m[3, 3] == np.float32(1.234)
    assert np.isnan(frame.depth_m[0, 1:3]).all()
    assert frame.rgb[0, 0].tolist() == [10, 20, 30]
    assert frame.intrinsics[:2].tolist() == [[585, 0, 320], [0, 585, 240]]


def test_sun_rgbd_rotates_the_bits(tmp_path):
    scene = tmp_path / 'kv2' / 'kinect2data' / '000002'
    # 1234 mm are stored shifted up by three; what falls off comes in below.
    write(scene / 'depth' / 'a.png', counts(p0_1=0) << 3 | counts(p0_1=0) >> 13)
    write(scene / 'image' / 'a.jpg', RGB[..., ::-1])
    (scene / 'intrinsics.txt').write_text('529.5 0 365\n0 529.5 265\n0 0 1\n')
    data = open_dataset(tmp_path)
    assert data[0].depth_m[3, 3] == np.float32(1.234)
    assert np.isnan(data[0].depth_m[0, 1])
    assert data[0].intrinsics[0].tolist() == [529.5, 0, 365]
    assert not data.licence.allows_shipping
    (scene / 'intrinsics.txt').write_text('529.5 0')
    with pytest.raises(DatasetError, match='nine numbers'):
        data[0]


def test_diml(tmp_path):
    write(tmp_path / 'LR' / '01' / 'color' / 'in_k_c.png', RGB[..., ::-1])
    write(tmp_path / 'LR' / '01' / 'depth_filled' / 'in_k_depth_filled.png', counts())
    frame = open_dataset(tmp_path)[0]
    assert frame.depth_m[0, 0] == np.float32(1.234)
    assert frame.rgb[0, 0].tolist() == [10, 20, 30]


def test_hypersim_turns_distance_into_depth(tmp_path):
    h5py = pytest.importorskip('h5py', reason="pip install '.[train]'")
    folder = tmp_path / 'ai_001_001' / 'images' / 'scene_cam_00_geometry_hdf5'
    folder.mkdir(parents=True)
    distance_m = np.full((3, 1025), 2.0, np.float32)
    distance_m[1, 0] = np.nan
    with h5py.File(folder / 'frame.0000.depth_meters.hdf5', 'w') as file:
        file['dataset'] = distance_m
    depth_m = open_dataset(tmp_path)[0].depth_m
    assert depth_m[1, 512] == 2.0
    # 512 px off the axis at 886.81 px (times 1025 / 1024): 2 m along the ray are 1.733 m ahead.
    assert depth_m[1, 1024] == pytest.approx(2 / np.hypot(1, 512 / (886.81 * 1025 / 1024)))
    assert np.isnan(depth_m[1, 0])


def test_clear_grasp(tmp_path):
    measured_m, painted_m = np.full((6, 8), 0.7), np.full((6, 8), 0.6)
    measured_m[2, 2] = 0
    exr(tmp_path / 'd435' / '000000001-transparent-depth-img.exr', measured_m)
    exr(tmp_path / 'd435' / '000000001-opaque-depth-img.exr', painted_m)
    write(tmp_path / 'd435' / '000000001-transparent-rgb-img.jpg', RGB)
    frame = open_dataset(tmp_path)[0]
    assert frame.depth_m[0, 0] == np.float32(0.7)
    assert np.isnan(frame.depth_m[2, 2])
    assert frame.reference_m[2, 2] == np.float32(0.6)


@pytest.mark.parametrize('suffix', ['.exr', '.png'])
def test_record3d_scales_colour_and_its_camera_to_the_depth(tmp_path, suffix):
    if suffix == '.exr':
        exr(tmp_path / 'depth' / '0.exr', np.full((6, 8), 1.234))
    else:
        write(tmp_path / 'depth' / '0.png', counts())
    write(tmp_path / 'rgb' / '0.jpg', np.zeros((12, 16, 3), np.uint8))
    told = {'K': [20, 0, 0, 0, 22, 0, 7.5, 5.5, 1]}
    (tmp_path / 'metadata.json').write_text(json.dumps(told))
    frame = open_dataset(tmp_path)[0]
    assert frame.depth_m[0, 0] == np.float32(1.234)
    assert frame.rgb.shape == (6, 8, 3)
    # The middle of 16x12 pixels is (7.5, 5.5), that of 8x6 is (3.5, 2.5).
    assert frame.intrinsics[:2].tolist() == [[10, 0, 3.5], [0, 11, 2.5]]
    (tmp_path / 'metadata.json').write_text('{}')
    with pytest.raises(DatasetError, match='does not say K'):
        open_dataset(tmp_path)


def test_tum(tmp_path):
    image = np.full((480, 640), 1234, np.uint16)
    image[0, 1] = 0
    write(tmp_path / 'depth' / '1.0.png', image)
    write(tmp_path / 'rgb' / '1.0.png', np.zeros((480, 640, 3), np.uint8))
    (tmp_path / 'depth.txt').write_text('# depth\n1.0 depth/1.0.png\n')
    (tmp_path / 'rgb.txt').write_text('# rgb\n1.01 rgb/1.0.png\n')
    data = open_dataset(tmp_path)
    assert data.kind == 'TUM RGB-D'
    assert data[0].depth_m[3, 3] == np.float32(1234 / 5000)
    assert np.isnan(data[0].depth_m[0, 1])


def test_own_layout(tmp_path):
    write(tmp_path / 'depth' / '000.png', counts())
    camera = {
        'width': 8, 'height': 6, 'fx': 10, 'fy': 11, 'cx': 3, 'cy': 2, 'depth_unit_m': 0.001,
        'color_aligned_to_depth': True,
    }  # fmt: skip
    (tmp_path / 'camera.json').write_text(json.dumps(camera))
    data = open_dataset(tmp_path)
    assert len(data) == 1
    assert data[-1].depth_m[0, 0] == np.float32(1.234)
    assert data[0].intrinsics.tolist() == [[10, 0, 3], [0, 11, 2], [0, 0, 1]]
    with pytest.raises(IndexError):
        data[1]
    (tmp_path / 'depth' / '000.png').write_bytes(b'\x89PNG cut')
    with pytest.raises(DatasetError, match=r'000.png is not a readable image'):
        data[0]


def test_what_is_unknown_is_told_what_was_looked_for(tmp_path):
    with pytest.raises(DatasetError, match=r'NYUv2 raw: d-\*\.pgm and r-\*\.ppm'):
        open_dataset(tmp_path)
    with pytest.raises(DatasetError, match='there is no'):
        open_dataset(tmp_path / 'nowhere')


def test_a_dataset_goes_into_a_data_loader(tmp_path):
    torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
    for i in range(3):
        write(tmp_path / f'frame-00000{i}.depth.png', counts())
    loader = torch.utils.data.DataLoader(
        open_dataset(tmp_path), 2, collate_fn=lambda frames: [f.name for f in frames]
    )
    assert list(loader) == [['frame-000000', 'frame-000001'], ['frame-000002']]
