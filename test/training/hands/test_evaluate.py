import json

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
pytest.importorskip('onnxruntime', reason='the shipped models run on it: pip install onnxruntime')

from depth_refiner_ros.data import Hands, Header, PinholeCamera
from depth_refiner_ros.filters.hands import projected
from training.hands.evaluate import (
    SENSORS,
    Settings,
    main,
    posed_depth,
    rendered,
    returned,
    skeletons,
)
from training.render import hand_skeleton

CAMERA = PinholeCamera(Header(0, ''), 64, 48, 60.0, 60.0, 31.5, 23.5)


def flat_hand():
    """A straight hand half a metre away, across the view."""
    straight = torch.zeros(1, hand_skeleton.ANGLES)
    shape = hand_skeleton.Shape.reference()
    posed = hand_skeleton.pose(shape, straight, torch.eye(3)[None], torch.zeros(1, 3))
    points_m = posed.joints_m[0].numpy().astype(np.float32)
    points_m += np.float32([0, 0, 0.5]) - points_m[9]
    return Hands(
        Header(0, ''),
        points_m[None],
        projected(points_m, CAMERA)[None],
        np.ones((1, 21), np.float32),
        np.ones(1, np.float32),
        np.zeros(1, np.int32),
    )


def test_only_joints_that_were_measured_count():
    intrinsics = torch.tensor([[[10.0, 0, 4.5], [0, 10, 4.5], [0, 0, 1]]])
    # Columns 4, 6 and 8 of row 4, and one far out of view.
    joints_m = torch.tensor([[[-0.05, -0.05, 1], [0.15, -0.05, 1], [0.35, -0.05, 1], [9, 0, 1]]])
    depth_m = torch.full((1, 1, 10, 10), torch.nan)
    depth_m[..., 4, 4:8] = 0.98
    visible = torch.ones(1, 4, dtype=torch.bool)
    assert returned(joints_m, visible, intrinsics, depth_m) == 2
    depth_m[..., 4, 4] = 0.9  # something else before it
    assert returned(joints_m, visible, intrinsics, depth_m) == 1
    assert returned(joints_m, ~visible, intrinsics, depth_m) == 0


def test_a_posed_hand_lies_under_its_skin():
    hands = flat_hand()
    depth_m = posed_depth(hands, CAMERA)
    assert depth_m.shape == (48, 64)
    for (u, v), (_, _, z_m) in zip(hands.pixels_px[0], hands.points_m[0], strict=True):
        skin_m = depth_m[round(float(v)), round(float(u))]
        assert z_m - 0.03 < skin_m < z_m
    assert np.isnan(depth_m[0, 0])


def test_skeletons_are_drawn_where_hands_are():
    hands = flat_hand()
    picture = skeletons(np.full((48, 64), 1, np.float32), hands)
    colored = (picture.max(2) - picture.min(2)) > 20
    rows, columns = np.nonzero(colored)
    u, v = hands.pixels_px[0].T
    assert abs(columns.min() - u.min()) < 4
    assert abs(rows.max() - v.max()) < 4


def test_rendered_hands_repeat():
    settings = Settings(frames=2)
    (first, camera, joints_m), *_ = rendered('kinect_v2', settings, None, empty=False)
    (again, _, same_m), *_ = rendered('kinect_v2', settings, None, empty=False)
    np.testing.assert_array_equal(first.depth_m, again.depth_m)
    np.testing.assert_array_equal(joints_m, same_m)
    assert (camera.width, camera.fx) == (640, 455.0)
    pixels = projected(joints_m, camera)
    assert ((pixels > -100) & (pixels < 740)).all()
    (empty, _, none), *_ = rendered('kinect_v2', settings, None, empty=True)
    assert none is None
    assert np.isfinite(empty.depth_m).mean() > 0.3


def test_everything_is_kept_as_json(tmp_path, capsys):
    main(Settings(output=tmp_path, frames=1))
    figures = json.loads((tmp_path / 'figures.json').read_text())
    assert set(figures) == set(SENSORS)
    assert all(0 <= each['found'] <= 1 and each['frames'] <= 1 for each in figures.values())
    assert str(tmp_path / 'figures.json') in capsys.readouterr().out
