import numpy as np
import pytest

from training.datasets import DatasetError, open_dataset
from training.datasets.nyu import metres_from_kinect


@pytest.fixture
def labeled():
    # Written as MATLAB does: its (rows, columns, frames), axes reversed.
    rows_columns_frames = np.full((6, 8, 2), 1.5, np.float32)
    rows_columns_frames[2, 7, 1] = 0
    rows_columns_frames[0, 3, 1] = 2.25
    images = np.zeros((6, 8, 3, 2), np.uint8)
    images[0, 3, :, 1] = 1, 2, 3
    return {
        'rawDepths': rows_columns_frames.transpose(),
        'depths': (rows_columns_frames + np.float32(0.5)).transpose(),
        'images': images.transpose(),
    }


def test_labeled_turns_matlabs_axes_back(tmp_path, write_hdf5, labeled):
    data = open_dataset(write_hdf5(tmp_path / 'nyu_depth_v2_labeled.mat', **labeled))
    assert len(data) == 2
    sample = data[1]
    assert sample.depth_m.shape == (6, 8)
    assert sample.depth_m.dtype == np.float32
    assert np.isnan(sample.depth_m[2, 7])
    assert np.isnan(sample.depth_m).sum() == 1
    assert sample.depth_m[0, 3] == 2.25
    assert sample.reference_m[2, 7] == 0.5
    assert sample.rgb[0, 3].tolist() == [1, 2, 3]
    assert sample.registered
    assert sample.intrinsics[0, 0] == pytest.approx(518.8579)
    assert len(open_dataset(tmp_path)) == 2  # the folder it lies in does too


def test_labeled_with_other_axes_is_refused(tmp_path, write_hdf5, labeled):
    path = write_hdf5(tmp_path / 'a.mat', **labeled | {'images': labeled['images'].transpose()})
    with pytest.raises(DatasetError, match=r"a\.mat: images are .* not MATLAB's reversed"):
        open_dataset(path)


def test_another_mat_file_is_refused(tmp_path, write_hdf5):
    path = write_hdf5(tmp_path / 'splits.mat', trainNdxs=np.zeros(3))
    with pytest.raises(DatasetError, match=r'splits\.mat has no images, rawDepths, depths'):
        open_dataset(path)


def test_labeled_cut_short_or_no_hdf5(tmp_path, write_hdf5, labeled):
    path = write_hdf5(tmp_path / 'a.mat', **labeled)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r'a\.mat is no HDF5 file or is cut short .*download'):
        open_dataset(path)
    path.write_bytes(b'MATLAB 5.0 MAT-file')
    with pytest.raises(DatasetError, match='is no HDF5 file'):
        open_dataset(path)


def test_metres_from_kinect():
    disparity = np.array([[0, 741, 1057, 1058, 1092, 1093, 2047]], np.uint16)
    depth_m = metres_from_kinect(disparity)
    # 351.3 / 351.5 and 351.3 / 35.5 m; 351.3 / 34.5 is beyond 10 m; then none and behind.
    assert depth_m[0, 1:3] == pytest.approx([0.999431, 9.895775], abs=1e-6)
    assert np.isnan(depth_m[0, [0, 3, 4, 5, 6]]).all()


@pytest.fixture
def scene(tmp_path, write_image):
    def write(name):
        folder = tmp_path / name
        folder.mkdir()
        octets = np.full((6, 8), 741, '<u2').tobytes()  # PGM is big-endian; these files are not
        for stamp in ('100.50', '100.62', '103.00'):
            (folder / f'd-{stamp}-1.pgm').write_bytes(b'P5\n8 6\n65535\n' + octets)
        for stamp, level in (('100.25', 10), ('100.75', 20), ('101.00', 30)):
            write_image(folder / f'r-{stamp}-7.ppm', np.full((6, 8, 3), level, np.uint8))
        (folder / 'a-100.5-1.dump').write_bytes(b'')
        return folder

    return write


def test_raw_swaps_octets_and_takes_the_colour_nearest_in_time(tmp_path, scene):
    scene('basement_0001a')
    scene('cafe_0001')
    data = open_dataset(tmp_path)
    assert len(data) == 6
    assert data[0].depth_m[3, 3] == pytest.approx(0.999431, abs=1e-6)
    # 0.50 lies in the middle of 0.25 and 0.75 and takes the later; a colour may serve twice; the
    # last is 2 s off, which the toolbox does not mind.
    assert [s.rgb[0, 0, 0] for s in data[:3]] == [20, 20, 30]
    assert not data[0].registered
    assert data.names[3].startswith('cafe_0001')


def test_raw_frame_cut_short(tmp_path, scene):
    path = scene('a') / 'd-100.50-1.pgm'
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DatasetError, match=r'd-100\.50-1\.pgm is not a readable image'):
        open_dataset(tmp_path)[0]
