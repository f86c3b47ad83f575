import math

import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
pytest.importorskip('onnx', reason="export needs onnx: pip install '.[train]'")

from training.synth2real.score_denoiser import (
    compare,
    frame_pairs,
    hand_pairs,
    median,
    nearest,
    score,
)


def image(*rows):
    return torch.tensor(rows)[None, None]


def test_scores_by_hand():
    truth = image([-1.5, -1.5, -1.5, 0.0], [-1.5, -1.5, -1.5, 0.0])
    measured = image([-1.4, -1.5, 0.0, 0.0], [-1.5, -1.5, 0.0, 0.0])
    made = image([-1.48, 0.0, -1.47, -1.5], [-1.5, -1.5, 0.0, 0.0])
    found = score(made, measured, truth)
    # 20 mm, 0 and 0 where there was a measurement; one of four of those is lost.
    assert found['values_mm'] == pytest.approx(20 / 3, rel=1e-4)
    assert found['lost'] == 0.25
    # One of two holes is filled, 30 mm off; one of two places with nothing has something.
    assert found['holes_mm'] == pytest.approx(30, rel=1e-4)
    assert found['filled'] == 0.5
    assert found['invented'] == 0.5
    assert math.isnan(score(measured, measured, truth)['holes_mm'])


def test_median_and_nearest():
    depth = torch.full((1, 1, 7, 7), -1.5)
    depth[0, 0, 3, 3] = -1.0
    depth[0, 0, 0, 6] = 0
    smooth = median(depth)
    assert smooth[0, 0, 3, 3] == -1.5
    assert smooth[0, 0, 0, 6] == 0
    assert nearest(depth)[0, 0, 0, 6] == -1.5
    assert nearest(depth)[0, 0, 3, 3] == -1.0


def test_pairs_of_hands_are_of_the_same_hand():
    measured, truth = hand_pairs(2, 32)
    assert measured.shape == truth.shape == (2, 1, 32, 32)
    both = (measured != 0) & (truth != 0)
    off_mm = 1e3 * (measured - truth).abs()[both]
    assert both.sum() > 100
    assert 0.5 < off_mm.median() < 15
    found = compare(lambda depth: depth, measured, truth)
    assert found['model'] == pytest.approx(found['left alone'], nan_ok=True)
    assert found['nearest']['filled'] == 1


def test_pairs_of_frames(rooms):
    measured, truth = frame_pairs((rooms,), 4, (32, 48))
    assert measured.shape == truth.shape
    # Shards have 2 mm of noise, and holes beside the box.
    both = (measured != 0) & (truth != 0)
    assert 1e3 * (measured - truth).abs()[both].mean() == pytest.approx(1.6, abs=0.4)
    assert ((measured == 0) & (truth != 0)).any()
