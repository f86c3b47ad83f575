import json

import cv2
import numpy as np
import pytest

from depth_refiner_ros.filters.guide import GUIDED_PER_PX, fit_guide
from depth_refiner_ros.filters.inpaint import inpaint

SHAPE = (240, 320)
NAN = np.float32(np.nan)


def room(noise=0.0, seed=0):
    """A wall that recedes, and a column and a box before it, metres."""
    rows, columns = np.indices(SHAPE, np.float32)
    depth_m = (2.5 + columns / 320).astype(np.float32)
    depth_m[:, 60:110] = 1.2
    depth_m[90:200, 180:260] = 1.6 + 0.001 * rows[90:200, 180:260]
    measured = depth_m * (1 + noise * np.random.default_rng(seed).normal(size=SHAPE))
    return depth_m, measured.astype(np.float32)


def affine(depth_m, scale=0.6, shift=0.05):
    return (1 / (scale / depth_m + shift)).astype(np.float32)


def holed(measured_m):
    """With a hole over the corner of the box that no line of sight shows the shape of."""
    found = measured_m.copy()
    found[60:150, 150:240] = NAN
    return found


def filled(measured_m, guide=None):
    return inpaint(measured_m, guide=guide, max_hole_px=0, max_distance_m=0).depth_m


def test_what_is_right_up_to_scale_and_shift_decides_a_hole():
    truth_m, measured_m = room()
    seen_m = holed(measured_m)
    guide = fit_guide(affine(truth_m), seen_m)
    hole = np.isnan(seen_m)
    assert guide.missed < 1e-3
    assert (guide.weight[hole] > GUIDED_PER_PX).mean() > 0.99
    np.testing.assert_allclose(1 / guide.inverse_depth[hole], truth_m[hole], rtol=2e-3)
    without_m, with_m = (filled(seen_m, each)[hole] for each in (None, guide))
    off_m, guided_m = (np.abs(each - truth_m[hole]).mean() for each in (without_m, with_m))
    assert off_m > 0.05
    assert guided_m < 0.05 * off_m


def test_every_surface_has_a_scale_and_shift_of_its_own():
    truth_m, measured_m = room()
    # The box is thought nearer than it is, and its slope half of what it is.
    estimate_m = truth_m.copy()
    box = np.zeros(SHAPE, bool)
    box[90:200, 180:260] = True
    inverse = 1 / truth_m[box]
    estimate_m[box] = 1 / (0.5 * (inverse - inverse.mean()) + 1.15 * inverse.mean())
    seen_m = holed(measured_m)
    guide = fit_guide(estimate_m, seen_m)
    hole = np.isnan(seen_m) & box
    np.testing.assert_allclose(1 / guide.inverse_depth[hole], truth_m[hole], rtol=0.02)
    assert (np.abs(estimate_m - truth_m)[hole] > 0.1 * truth_m[hole]).all()
    # And nothing of it comes across the edge, onto the wall.
    beside = np.isnan(seen_m) & ~box
    np.testing.assert_allclose(1 / guide.inverse_depth[beside], truth_m[beside], rtol=0.01)


WRONG = {
    'mirrored': lambda truth_m: np.ascontiguousarray(truth_m[:, ::-1]),
    'flat': lambda truth_m: np.full(SHAPE, 2.0, np.float32),
    'without the steps': lambda truth_m: 2.5 + np.indices(SHAPE, np.float32)[1] / 320,
    'noise': lambda truth_m: np.random.default_rng(0).uniform(1, 3, SHAPE).astype(np.float32),
}


@pytest.mark.parametrize('name', WRONG)
def test_what_does_not_foretell_the_steps_of_the_measurements_has_no_vote(name):
    truth_m, measured_m = room(noise=0.005)
    seen_m = holed(measured_m)
    hole = np.isnan(seen_m)
    guide = fit_guide(WRONG[name](truth_m), seen_m)
    if guide is None:
        return
    without_m, with_m = (filled(seen_m, each)[hole] for each in (None, guide))
    off_m, guided_m = (np.abs(each - truth_m[hole]).mean() for each in (without_m, with_m))
    assert guided_m <= 1.03 * off_m
    assert guide.weight.max() < GUIDED_PER_PX


@pytest.mark.parametrize('name', ['realsense_tabletop', 'kinect_v1_nyu'])
def test_on_a_real_recording_a_perfect_guide_halves_the_error_and_a_wrong_one_adds_none(
    recording, name
):
    folder = recording(name)
    unit_m = json.loads((folder / 'camera.json').read_text())['depth_unit_m']
    counts = cv2.imread(str(sorted((folder / 'depth').glob('*.png'))[0]), cv2.IMREAD_UNCHANGED)
    truth_m = np.where(counts > 0, counts * unit_m, NAN).astype(np.float32)
    hole = np.zeros(truth_m.shape, np.uint8)
    for center, axes in (((200, 240), (70, 50)), ((420, 160), (40, 60)), ((480, 360), (60, 60))):
        cv2.ellipse(hole, center, axes, 20, 0, 360, 1, -1)
    seen_m = np.where(hole > 0, NAN, truth_m).astype(np.float32)
    scored = (hole > 0) & (truth_m < 4)
    whole_m = filled(truth_m)

    def error_mm(estimate_m):
        guide = None if estimate_m is None else fit_guide(estimate_m, seen_m)
        return 1e3 * np.abs(filled(seen_m, guide) - truth_m)[scored].mean()

    without_mm = error_mm(None)
    assert error_mm(affine(whole_m, 0.9, 0.02)) < 0.5 * without_mm
    for wrong_m in (whole_m[:, ::-1], whole_m[::-1], np.full_like(whole_m, 2.0)):
        assert error_mm(np.ascontiguousarray(wrong_m)) <= 1.03 * without_mm


def test_what_is_wrong_in_one_place_has_no_vote_there():
    truth_m, measured_m = room()
    seen_m = holed(measured_m)
    estimate_m = affine(truth_m)
    # The box is thought to stand 20 px more to the left, and lower.
    estimate_m[80:220, 150:280] = affine(np.float32(3.0))
    estimate_m[110:220, 160:240] = affine(np.float32(1.6))
    guide = fit_guide(estimate_m, seen_m)
    near = np.s_[150:158, 240:252]  # of the box, where wall is said
    assert guide.weight[near].max() < 0.1 * GUIDED_PER_PX
    assert np.median(guide.weight[:, 20:50]) > GUIDED_PER_PX


def test_edges_may_lie_a_few_pixels_off():
    truth_m, measured_m = room()
    seen_m = holed(measured_m)
    guide = fit_guide(affine(np.roll(truth_m, 3, axis=1)), seen_m)
    assert guide.missed < 0.2
    assert guide.weight.max() > GUIDED_PER_PX


def test_measurements_that_are_wrong_do_not_pull():
    truth_m, measured_m = room()
    rng = np.random.default_rng(0)
    wrong = rng.random(SHAPE) < 0.02
    seen_m = holed(np.where(wrong, rng.uniform(0.5, 5, SHAPE), measured_m).astype(np.float32))
    guide = fit_guide(affine(truth_m), seen_m)
    hole = np.isnan(seen_m)
    np.testing.assert_allclose(1 / guide.inverse_depth[hole], truth_m[hole], rtol=0.02)


@pytest.mark.parametrize('shape', [(24, 32), (240, 321), (480, 640), (400, 1280), (1, 40)])
def test_images_of_any_size(shape):
    columns = np.indices(shape, np.float32)[1]
    truth_m = (1 + columns / shape[1]).astype(np.float32)
    seen_m = truth_m.copy()
    seen_m[:, shape[1] // 2 : shape[1] // 2 + 5] = NAN
    guide = fit_guide(affine(truth_m), seen_m)
    assert guide.weight.shape == guide.inverse_depth.shape == guide.error.shape == shape
    np.testing.assert_allclose(1 / guide.inverse_depth, truth_m, rtol=0.02)


def test_nothing_measured_or_nothing_estimated_is_no_guide():
    truth_m, measured_m = room()
    nothing = np.full(SHAPE, NAN)
    assert fit_guide(nothing, measured_m) is None
    assert fit_guide(truth_m, nothing) is None
    partly_m = affine(truth_m)
    partly_m[:, 160:] = NAN
    guide = fit_guide(partly_m, holed(measured_m))
    assert not guide.weight[:, 164:].any()
    assert np.isfinite(guide.inverse_depth).all()
