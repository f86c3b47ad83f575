"""Tiny datasets of eyes, written as their makers write them."""

import json

import numpy as np
import pytest

from training.datasets import DatasetError, require_shippable
from training.datasets.gaze import cut, open_gaze

HEIGHT, WIDTH = 480, 640


def point(x, y):
    return f'({x:.4f}, {y:.4f}, 8.9000)'


def write_unity(folder, write_image, name, image, **changed):
    """An eye from column 200 to 400 about row 180; rows are counted from below."""
    up = HEIGHT - 1 - 180
    said = {
        'interior_margin_2d': [point(x, up + dy) for x, dy in ((220, 0), (300, 30), (400, -10))],
        'caruncle_2d': [point(198, up), point(202, up)],
        'iris_2d': [point(300, up)],
        'eye_details': {'look_vec': '(0.6000, 0.0000, -0.8000, 0.0000)', 'pupil_size': '0.1'},
        'head_pose': '(0.0000, 180.0000, 0.0000)',
    } | changed
    write_image(folder / f'{name}.jpg', image)
    (folder / f'{name}.json').write_text(json.dumps(said))


@pytest.fixture
def unity(tmp_path, write_image):
    image = np.full((HEIGHT, WIDTH), 200, np.uint8)
    # What is shown in the middle: between the corners, and between the highest and lowest point.
    image[166:175, 296:305] = 20
    write_unity(tmp_path, write_image, '2', image)
    write_unity(
        tmp_path, write_image, '1', image,
        eye_details={'look_vec': '(-0.2000, 0.3000, -0.9000, 0.0000)'},
    )  # fmt: skip
    (tmp_path / 'lost.json').write_text('{"eye_details": {}}')
    return tmp_path


def test_unity_eyes_are_cut_and_turned_to_the_optical_frame(unity):
    data = open_gaze(unity)
    assert data.kind == 'UnityEyes'
    assert data.names == ['1', '2']
    eye = data[1]
    assert eye.grey.shape == (35, 55)
    assert eye.grey.dtype == np.float32
    np.testing.assert_allclose(eye.gaze, (0.6, 0, -0.8))
    up = np.array([-0.2, -0.3, -0.9])
    np.testing.assert_allclose(data[0].gaze, up / np.linalg.norm(up))
    # 1.3 times 200 px are 55: the square of 9 px is 1.9 px wide in the middle.
    assert eye.grey[17, 27] < 0.5
    assert eye.grey[0, 0] == pytest.approx(200 / 255, abs=0.01)
    dark = (200 / 255 - eye.grey).clip(0)
    rows, columns = np.mgrid[:35, :55]
    assert (dark * columns).sum() / dark.sum() == pytest.approx(27, abs=0.1)
    assert (dark * rows).sum() / dark.sum() == pytest.approx(17, abs=0.1)
    assert dark.sum() * (1.3 * 200 / 55) ** 2 == pytest.approx(81 * 180 / 255, rel=0.05)


def test_what_unity_eyes_would_not_write_is_refused(unity):
    (unity / '1.json').write_text('{"eye_details": {"look_vec": "(0.1, 0.2)"}}')
    with pytest.raises(DatasetError, match=r'1\.json is not what UnityEyes writes'):
        open_gaze(unity)[0]
    (unity / '1.jpg').write_bytes(b'not a picture')
    with pytest.raises(DatasetError, match=r'1\.jpg is not a readable image'):
        open_gaze(unity)[0]


@pytest.fixture
def mpii(tmp_path):
    scipy_io = pytest.importorskip('scipy.io', reason='MPIIGaze needs scipy: pip install scipy')
    rng = np.random.default_rng(0)
    written = {}
    for person, day, count in (('p00', 'day01', 3), ('p03', 'day02', 2)):
        eyes = {}
        for side in ('left', 'right'):
            gaze = rng.normal(size=(count, 3)) * 0.2 - (0, 0, 1)
            eyes[side] = {
                'gaze': gaze / np.linalg.norm(gaze, axis=1, keepdims=True),
                'image': rng.integers(0, 256, (count, 36, 60), np.uint8),
                'pose': np.zeros((count, 3)),
            }
        names = np.array([[f'{n:04d}.jpg'] for n in range(count)], object)
        path = tmp_path / person / f'{day}.mat'
        path.parent.mkdir()
        scipy_io.savemat(path, {'data': eyes, 'filenames': names}, do_compression=True)
        written[person] = eyes
    return tmp_path, written


def test_mpii_gaze_shows_right_eyes_as_left_ones(mpii):
    folder, written = mpii
    data = open_gaze(folder)
    assert data.kind == 'MPIIGaze'
    assert len(data) == 2 * (3 + 2)
    assert data.names[:4] == [
        'p00/day01/left/0', 'p00/day01/left/1', 'p00/day01/left/2', 'p00/day01/right/0',
    ]  # fmt: skip
    left, right = data[1], data[9]
    np.testing.assert_allclose(left.gaze, written['p00']['left']['gaze'][1])
    wanted = written['p03']['right']['gaze'][1] * (-1, 1, 1)
    np.testing.assert_allclose(right.gaze, wanted)
    # 36 rows become 35: of the middle row halves of two; of 60 columns 56.57 are shown.
    image = written['p03']['right']['image'][1][:, ::-1] / 255
    middle = (image[17, 29] + image[17, 30] + image[18, 29] + image[18, 30]) / 4
    assert right.grey[17, 27] == pytest.approx(middle, abs=1e-3)
    assert len(open_gaze(folder / 'p03')) == 4
    assert [eye.name for eye in data[8:]] == ['p03/day02/right/0', 'p03/day02/right/1']


def test_damaged_mpii_gaze_is_refused(mpii):
    scipy_io = pytest.importorskip('scipy.io', reason='MPIIGaze needs scipy: pip install scipy')
    folder, _ = mpii
    names = np.array([['a.jpg']], object)
    scipy_io.savemat(folder / 'p00' / 'day01.mat', {'data': {'left': 1.0}, 'filenames': names})
    with pytest.raises(DatasetError, match=r'day01\.mat has no data\.left'):
        open_gaze(folder)[0]
    flat = {'left': {'gaze': np.zeros((2, 3)), 'image': np.zeros((1, 36, 60), np.uint8)}}
    scipy_io.savemat(folder / 'p00' / 'day03.mat', {'data': flat, 'filenames': names})
    with pytest.raises(DatasetError, match=r'images \(1, 36, 60\) and gaze \(2, 3\)'):
        open_gaze(folder)[2]
    (folder / 'p00' / 'day01.mat').write_bytes(b'nothing of the kind')
    with pytest.raises(DatasetError, match=r'day01\.mat is not what MPIIGaze has'):
        open_gaze(folder)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(DatasetError, match='looks like no dataset of eyes'):
        open_gaze(tmp_path)
    with pytest.raises(DatasetError, match='there is no'):
        open_gaze(tmp_path / 'absent')


def test_weights_from_eyes_may_not_be_shipped(unity):
    data = open_gaze(unity)
    with pytest.raises(DatasetError, match='UnityEyes, for research'):
        require_shippable([data])
    require_shippable([data], research=True)
    with pytest.raises(IndexError, match='2 eyes, so none at 2'):
        data[2]


def test_cuts_go_on_with_the_edge():
    image = np.zeros((40, 60), np.uint8)
    image[:, 30:] = 255
    whole = cut(image, np.array([29.5, 19.5]), 55)
    np.testing.assert_array_equal(whole[:, :27], 0)
    np.testing.assert_array_equal(whole[:, 28:], 1)
    np.testing.assert_allclose(whole[:, 27], 0.5, atol=1e-3)
    beyond = cut(image, np.array([80.0, 19.5]), 55)
    np.testing.assert_array_equal(beyond, 1)
