"""Tiny datasets of hands, written as their makers write them."""

import numpy as np
import pytest

from training.datasets import DatasetError, open_hands, require_shippable
from training.datasets.hand_joints import (
    HANDS2017_TO_21,
    ICVL_16,
    MEDIAPIPE_21,
    MSRA_TO_21,
    NYU_14,
    NYU_14_OF_36,
)
from training.datasets.hands import HANDS2017_CAMERA, MSRA_CAMERA, NYU_CAMERA, read_packed_depth


@pytest.fixture
def nyu(tmp_path, write_image):
    """Three labelled frames of which the second was lost."""
    scipy_io = pytest.importorskip('scipy.io', reason='NYU labels need scipy: pip install scipy')
    rng = np.random.default_rng(0)
    uvd = np.zeros((3, 3, 36, 3))
    uvd[..., 0] = rng.uniform(250, 390, (3, 3, 36))
    uvd[..., 1] = rng.uniform(170, 310, (3, 3, 36))
    uvd[..., 2] = rng.uniform(600, 800, (3, 3, 36))
    scipy_io.savemat(tmp_path / 'joint_data.mat', {'joint_uvd': uvd})
    for number in (1, 3):
        packed = np.zeros((480, 640, 3), np.uint8)
        packed[100, 200] = 0xA5, 0x02, 77  # blue, green, red; 0x02A5 is 677
        write_image(tmp_path / f'depth_1_{number:07d}.png', packed)
    model = np.zeros((480, 640, 3), np.uint8)
    model[100, 200] = 0xA0, 0x02, 0
    write_image(tmp_path / 'synthdepth_1_0000003.png', model)
    return tmp_path, uvd


def test_nyu_unpacks_depth_and_labels(nyu):
    folder, uvd = nyu
    data = open_hands(folder)
    assert data.names == ['depth_1_0000001', 'depth_1_0000003']
    sample = data.hand(1)
    assert sample.depth_m.shape == (480, 640)
    assert sample.depth_m[100, 200] == pytest.approx(0.677)
    assert np.isnan(sample.depth_m).sum() == 480 * 640 - 1
    assert sample.rendered_m[100, 200] == pytest.approx(0.672)
    assert data.hand(0).rendered_m is None
    expected = uvd[0, 2, list(NYU_14_OF_36)]
    np.testing.assert_allclose(sample.joints_px, expected[:, :2])
    np.testing.assert_allclose(sample.joints_m[:, 2], 1e-3 * expected[:, 2])
    # By hand, the first joint: (u - 320) d / 588.03, (v - 240) d / 587.07.
    u, v, d = expected[0]
    by_hand = [(u - 320) * d / 588.03, (v - 240) * d / 587.07, d]
    np.testing.assert_allclose(sample.joints_m[0], np.array(by_hand) / 1000)
    assert sample.intrinsics is NYU_CAMERA


def test_nyu_with_other_labels_is_refused(tmp_path):
    scipy_io = pytest.importorskip('scipy.io', reason='NYU labels need scipy: pip install scipy')
    scipy_io.savemat(tmp_path / 'joint_data.mat', {'joint_uvd': np.zeros((3, 2, 14, 3))})
    with pytest.raises(DatasetError, match=r'joint_uvd is \(3, 2, 14, 3\), not \(3, N, 36, 3\)'):
        open_hands(tmp_path)
    scipy_io.savemat(tmp_path / 'joint_data.mat', {'joint_xyz': np.zeros(3)})
    with pytest.raises(DatasetError, match="has no 'joint_uvd'"):
        open_hands(tmp_path)
    (tmp_path / 'joint_data.mat').write_bytes(b'not a matrix')
    with pytest.raises(DatasetError, match=r'joint_data\.mat is no MATLAB 5 file'):
        open_hands(tmp_path)


def test_packed_depth_of_another_kind_is_refused(tmp_path, write_image):
    path = write_image(tmp_path / 'a.png', np.ones((4, 4), np.uint16))
    with pytest.raises(DatasetError, match='three channels of 8 bits, got uint16'):
        read_packed_depth(path)


def test_icvl(tmp_path, write_image):
    uvd = np.tile([160.0, 120, 400], (16, 1))
    uvd[3] = 200, 60, 350
    image = np.full((240, 320), 400, np.uint16)
    image[0, 0], image[0, 1] = 32001, 0
    write_image(tmp_path / 'Depth/2014/image_0000.png', image)
    line = ' '.join(f'{value:.2f}' for value in uvd.ravel())
    lines = [f'2014/image_0000.png {line} ', f'2014/lost.png {line}', '']
    (tmp_path / 'labels.txt').write_text('\n'.join(lines))
    data = open_hands(tmp_path)
    assert data.names == ['2014/image_0000.png']
    sample = data.hand(0)
    assert sample.depth_m[5, 5] == pytest.approx(0.4)
    assert np.isnan(sample.depth_m[0, :2]).all()
    np.testing.assert_allclose(sample.joints_m[0], [0, 0, 0.4])
    by_hand = [40 * 0.35 / 241.42, -60 * 0.35 / 241.42, 0.35]
    np.testing.assert_allclose(sample.joints_m[3], by_hand)
    np.testing.assert_allclose(sample.joints_px[3], [200, 60])
    assert data.scheme.names[3] == 'thumb_tip'


def test_icvl_with_a_line_too_short(tmp_path, write_image):
    write_image(tmp_path / 'Depth/a.png', np.ones((240, 320), np.uint16))
    (tmp_path / 'test_seq_1.txt').write_text('a.png 1 2 3\n')
    with pytest.raises(DatasetError, match=r'test_seq_1.txt, line 1, does not hold 48 numbers'):
        open_hands(tmp_path)


def test_msra(tmp_path):
    folder = tmp_path / 'P0/TIP'
    folder.mkdir(parents=True)
    joints = np.zeros((2, 21, 3))
    joints[..., 2] = -300  # z backwards
    joints[1, 20] = 30, 40, -350  # the thumb's tip is last; y up
    text = '\n'.join(' '.join(map(str, frame.ravel())) for frame in joints)
    (folder / 'joint.txt').write_text(f'2\n{text}\n')
    box = np.array([[300, 0], [310, 320], [330, 340]], np.float32)
    header = np.array([320, 240, 100, 50, 102, 53], np.uint32)
    for number in range(2):
        (folder / f'00000{number}_depth.bin').write_bytes(header.tobytes() + box.tobytes())
    data = open_hands(tmp_path)
    assert len(data) == 2
    sample = data.hand(1)
    assert sample.depth_m.shape == (240, 320)
    assert sample.depth_m[52, 101] == pytest.approx(0.34)
    assert np.isfinite(sample.depth_m).sum() == 5
    tip = MEDIAPIPE_21.index('thumb_tip')
    np.testing.assert_allclose(sample.joints_m[tip], [0.03, -0.04, 0.35])
    expected = [160 + 241.42 * 30 / 350, 120 - 241.42 * 40 / 350]
    np.testing.assert_allclose(sample.joints_px[tip], expected)
    assert sample.intrinsics is MSRA_CAMERA
    (folder / '000001_depth.bin').write_bytes(header.tobytes() + box.tobytes()[:-1])
    with pytest.raises(DatasetError, match=r'000001_depth\.bin is cut short'):
        data.hand(1)


def test_hands2017(tmp_path, write_image):
    points = np.zeros((21, 3))
    points[:, 2] = 500
    points[8] = 10, 20, 450  # TTIP, the ninth: wrist, five bases, TPIP, TDIP, TTIP
    lines = []
    for number in (1, 2):
        name = f'image_D{number:08d}.png'
        write_image(tmp_path / 'images' / name, np.full((480, 640), 400 + number, np.uint16))
        lines.append(name + '\t' + '\t'.join(f'{v + number - 1:.4f}' for v in points.ravel()))
    (tmp_path / 'Training_Annotation.txt').write_text('\n'.join(lines) + '\n')
    data = open_hands(tmp_path)
    assert len(data) == 2
    first, second = data.hand(0), data.hand(1)
    tip = MEDIAPIPE_21.index('thumb_tip')
    np.testing.assert_allclose(first.joints_m[tip], [0.01, 0.02, 0.45])
    np.testing.assert_allclose(second.joints_m[tip], [0.011, 0.021, 0.451])
    assert second.depth_m[0, 0] == pytest.approx(0.402)
    expected = HANDS2017_CAMERA[0, 2] + HANDS2017_CAMERA[0, 0] * 10 / 450
    assert first.joints_px[tip, 0] == pytest.approx(expected)


def test_research_data_is_refused(nyu):
    data = open_hands(nyu[0])
    with pytest.raises(DatasetError, match=r'NYU hands.*may not be shipped'):
        require_shippable([data])
    require_shippable([data], research=True)


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r'no dataset of hands\. Looked for NYU hands'):
        open_hands(tmp_path)


def test_orders_name_every_joint_once():
    assert sorted(MSRA_TO_21) == sorted(HANDS2017_TO_21) == list(range(21))
    msra = ['wrist', *(f'{f}_{j}' for f in ('index', 'middle', 'ring', 'pinky', 'thumb')
                       for j in (('mcp', 'pip', 'dip', 'tip') if f != 'thumb'
                                 else ('cmc', 'mcp', 'ip', 'tip')))]  # fmt: skip
    assert [msra[n] for n in MSRA_TO_21] == list(MEDIAPIPE_21)


@pytest.mark.parametrize('scheme', [NYU_14, ICVL_16])
def test_schemes_move_with_the_hand(scheme):
    np.testing.assert_allclose(scheme.weights.sum(1), 1)
    joints = np.random.default_rng(0).normal(size=(4, 21, 3))
    shift = np.array([0.1, -0.2, 0.5])
    np.testing.assert_allclose(scheme.of(joints + shift), scheme.of(joints) + shift, atol=1e-12)
    middle = scheme.names.index('index_pip' if scheme is NYU_14 else 'index_mid')
    np.testing.assert_allclose(scheme.of(joints)[:, middle], joints[:, 6])


def test_the_synthetic_hand_has_about_nyus_proportions():
    """Medians of distances between published NYU test labels, in millimetres.

    Of two people; ours is a mean one.
    """
    torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
    from training.render.hand_skeleton import Shape, frames

    place = frames(Shape.reference(), torch.zeros(1, 24))[1][0, :21].numpy()
    joints = 1e3 * NYU_14.of(place)
    pairs = {(0, 1): 35, (2, 3): 43, (4, 5): 47, (6, 7): 44, (8, 9): 20, (8, 10): 58,
             (11, 12): 29, (13, 3): 63, (13, 5): 68, (13, 7): 68}  # fmt: skip
    for (a, b), expected in pairs.items():
        assert np.linalg.norm(joints[a] - joints[b]) == pytest.approx(expected, rel=0.15), (a, b)
