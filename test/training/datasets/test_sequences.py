import numpy as np
import pytest

from training.datasets import DatasetError, open_dataset
from training.datasets.tum import associate


def test_associate_pairs_nearest_first_and_each_once():
    # 1.010 is nearest to 1.012, which leaves 1.000 for 0.990; 2.0 has none within 20 ms.
    assert associate([1.0, 1.010, 2.0], [0.990, 1.012, 2.02001]) == [(1.0, 0.99), (1.01, 1.012)]
    assert associate([1.0, 1.010], [1.009]) == [(1.010, 1.009)]


@pytest.fixture
def tum(tmp_path, write_image):
    image = np.full((480, 640), 6170, np.uint16)
    image[0, 1] = 0
    for stamp in ('1.000', '1.033', '1.066'):
        write_image(tmp_path / 'depth' / f'{stamp}.png', image)
    write_image(tmp_path / 'rgb' / '1.010.png', np.zeros((480, 640, 3), np.uint8))
    (tmp_path / 'depth.txt').write_text(
        '# depth maps\n1.000 depth/1.000.png\n1.033 depth/1.033.png\n1.066 depth/1.066.png\n'
    )
    (tmp_path / 'rgb.txt').write_text('# color images\n1.010 rgb/1.010.png\n')
    return tmp_path


def test_tum(tum):
    data = open_dataset(tum)
    assert data.kind == 'TUM RGB-D'
    assert data.names == ['1.000']  # the others have no colour within 20 ms
    assert data[0].depth_m[3, 3] == np.float32(1.234)  # 6170 / 5000
    assert np.isnan(data[0].depth_m[0, 1])
    assert data[0].rgb.shape == (480, 640, 3)
    assert data[0].intrinsics[:2].tolist() == [[525, 0, 319.5], [0, 525, 239.5]]
    assert data.licence.allows_shipping


def test_tum_without_colour_has_all_depth(tum):
    (tum / 'rgb.txt').unlink()
    data = open_dataset(tum)
    assert len(data) == 3
    assert data[2].rgb is None


def test_tum_says_what_is_wrong(tum):
    (tum / 'rgb.txt').write_text('5.0 rgb/1.010.png\n')
    with pytest.raises(DatasetError, match=r'rgb\.txt and depth\.txt have no stamps within'):
        open_dataset(tum)
    (tum / 'rgb.txt').write_text('# color\nsoon rgb/1.010.png\n')
    with pytest.raises(DatasetError, match=r"rgb\.txt, line 2: .* got 'soon rgb/1.010.png'"):
        open_dataset(tum)
    (tum / 'rgb.txt').write_text('1.010 rgb/gone.png\n')
    with pytest.raises(DatasetError, match=r'gone\.png cannot be read .*unpack'):
        open_dataset(tum)[0]


def test_tum_of_another_size_has_no_known_camera(tum, write_image):
    write_image(tum / 'depth' / '1.000.png', np.ones((6, 8), np.uint16))
    with pytest.raises(DatasetError, match=r'1\.000\.png is 8x6, but TUM RGB-D is 640x480'):
        open_dataset(tum)[0]


def test_seven_scenes(tmp_path, write_image, counts, bgr):
    stem = tmp_path / 'chess' / 'seq-01' / 'frame-000000'
    write_image(stem.with_name('frame-000000.depth.png'), counts)
    write_image(stem.with_name('frame-000000.color.png'), bgr)
    pose = stem.with_name('frame-000000.pose.txt')
    pose.write_text('1 0 0 0.5\n0 1 0 0\n0 0 1 2\n0 0 0 1\n')
    data = open_dataset(tmp_path)
    assert data.names == ['chess/seq-01/frame-000000']
    sample = data[0]
    assert sample.depth_m[3, 3] == np.float32(1.234)
    assert sample.depth_m[5, 7] == np.float32(0.04)
    assert np.argwhere(np.isnan(sample.depth_m)).tolist() == [[0, 1], [0, 2]]
    assert sample.rgb[0, 0].tolist() == [10, 20, 30]
    assert sample.world_from_camera[:3, 3].tolist() == [0.5, 0, 2]
    assert sample.intrinsics[:2].tolist() == [[585, 0, 320], [0, 585, 240]]
    assert not sample.registered
    pose.write_text('1 0 0')
    with pytest.raises(DatasetError, match=r'pose\.txt does not hold sixteen numbers'):
        data[0]
