from dataclasses import replace

import numpy as np
import pytest

from depth_refiner_ros.data import (
    ColorImage,
    DepthImage,
    Header,
    PinholeCamera,
    Provenance,
    ProvenanceImage,
    StddevImage,
)
from depth_refiner_ros.stages.inpaint_depth import InpaintDepth, InpaintDepthParameters

HEADER = Header(5, 'camera')
CAMERA = PinholeCamera(HEADER, 64, 48, 60.0, 60.0, 31.5, 23.5)


def classical(**changed):
    return InpaintDepth(InpaintDepthParameters(model='', **changed))


def holed_wall():
    depth_m = np.full((48, 64), 2.0, np.float32)
    depth_m[20:30, 30:40] = np.nan
    return DepthImage(HEADER, depth_m, '16UC1')


def test_fills_marks_and_keeps_what_was_measured():
    out = classical()(holed_wall(), CAMERA)
    np.testing.assert_allclose(out['depth'].depth_m, 2.0, rtol=1e-5)
    provenance = out['provenance'].provenance
    assert (provenance[20:30, 30:40] == Provenance.INPAINTED).all()
    assert (provenance == Provenance.MEASURED).sum() == 48 * 64 - 100
    assert out['depth'].encoding == '16UC1'
    assert np.isfinite(out['stddev'].stddev_m).all()


def test_takes_provenance_and_stddev_of_the_stage_before():
    before = ProvenanceImage(HEADER, np.full((48, 64), Provenance.REFINED, np.uint8))
    stddev = StddevImage(HEADER, np.full((48, 64), 0.004, np.float32))
    out = classical()(holed_wall(), CAMERA, stddev=stddev, provenance=before)
    assert out['provenance'].provenance[0, 0] == Provenance.REFINED
    assert out['stddev'].stddev_m[0, 0] == np.float32(0.004)
    assert out['stddev'].stddev_m[25, 35] > 0.004
    assert (before.provenance == Provenance.REFINED).all()


def test_limits_leave_pixels_invalid():
    for limits in ({'max_hole_px': 4}, {'max_distance_m': 1.5}):
        out = classical(**limits)(holed_wall(), CAMERA)
        assert np.isnan(out['depth'].depth_m[25, 35])
        assert out['provenance'].provenance[25, 35] == Provenance.INVALID
        assert np.isnan(out['stddev'].stddev_m[25, 35])


def two_surfaces():
    """A near left half and a far right half with a hole across the edge; colour knows where."""
    depth_m = np.where(np.arange(64) < 32, 1.0, 3.0).astype(np.float32) * np.ones((48, 1))
    depth_m[10:38, 24:44] = np.nan
    rgb = np.full((48, 64, 3), 20, np.uint8)
    rgb[:, :32] = 200
    rgb[10:38, :40] = 200  # the near surface bulges where nothing was measured
    return DepthImage(HEADER, depth_m.astype(np.float32)), rgb


def test_registered_colour_guides_and_other_colour_does_not():
    depth, rgb = two_surfaces()
    guided = classical()(depth, CAMERA, color=ColorImage(HEADER, rgb))['depth'].depth_m
    assert guided[24, 37] < 1.5
    plain = classical()(depth, CAMERA)['depth'].depth_m
    elsewhere = ColorImage(Header(5, 'color_camera'), rgb)
    for color in (elsewhere, ColorImage(HEADER, rgb[::2, ::2].copy())):
        out = classical()(depth, CAMERA, color=color)['depth'].depth_m
        np.testing.assert_array_equal(out, plain)
    off = classical(color=False)
    out = off(depth, CAMERA, color=ColorImage(HEADER, rgb))['depth'].depth_m
    np.testing.assert_array_equal(out, plain)


def test_nothing_measured():
    nothing = DepthImage(HEADER, np.full((48, 64), np.nan, np.float32))
    out = classical()(nothing, CAMERA)
    assert np.isnan(out['depth'].depth_m).all()
    assert (out['provenance'].provenance == Provenance.INVALID).all()


class Knowing:
    """A model that says 1.5 m everywhere and doubts the first six rows."""

    def __init__(self, doubt=0.9):
        self.doubt = doubt
        self.seen = []

    def __call__(self, depth_m, color):
        self.seen.append(color)
        wrong = np.zeros_like(depth_m)
        wrong[:6] = self.doubt
        wrong[np.isnan(depth_m)] = 0
        estimate_m = np.full_like(depth_m, 1.5)
        return {'estimate_m': estimate_m, 'stddev_m': 0.1 * estimate_m, 'wrong': wrong}


def learned(model, **changed):
    given = {'rim_px': 0.0, 'model_reduction': 1} | changed
    return InpaintDepth(InpaintDepthParameters(**given), model)


def test_a_model_fills_holes_and_replaces_what_it_believes_wrong():
    stage = learned(Knowing())
    out = stage(holed_wall(), CAMERA)
    depth_m, marks = out['depth'].depth_m, out['provenance'].provenance
    assert (depth_m[20:30, 30:40] == 1.5).all()
    assert (depth_m[:6] == 1.5).all()
    assert (depth_m[6:20] == 2.0).all()
    assert (marks[20:30, 30:40] == Provenance.INPAINTED).all()
    assert (marks[:6] == Provenance.INPAINTED).all()
    assert (marks[6:20] == Provenance.MEASURED).all()
    assert out['stddev'].stddev_m[0, 0] == np.float32(0.15)
    assert out['stddev'].stddev_m[8, 5] < 0.05
    assert (stage.capabilities.back_end, stage.capabilities.trouble) == ('model', '')


def test_doubt_below_the_threshold_or_with_it_off_keeps_measurements():
    for stage in (learned(Knowing(0.79)), learned(Knowing(1.0), wrong_threshold=1.0)):
        out = stage(holed_wall(), CAMERA)
        assert (out['depth'].depth_m[0] == 2.0).all()
        assert (out['provenance'].provenance[0] == Provenance.MEASURED).all()


def test_limits_hold_for_a_model_too():
    for limits in ({'max_hole_px': 4}, {'max_distance_m': 1.4}):
        out = learned(Knowing(0.0), **limits)(holed_wall(), CAMERA)
        assert np.isnan(out['depth'].depth_m[25, 35])
        assert out['provenance'].provenance[25, 35] == Provenance.INVALID
        assert np.isnan(out['stddev'].stddev_m[25, 35])


def test_a_model_sees_registered_colour_and_black_otherwise():
    depth, rgb = two_surfaces()
    model = Knowing()
    learned(model)(depth, CAMERA, color=ColorImage(HEADER, rgb))
    learned(model)(depth, CAMERA, color=ColorImage(Header(5, 'color_camera'), rgb))
    learned(model)(depth, CAMERA)
    np.testing.assert_array_equal(model.seen[0], rgb)
    assert not model.seen[1].any()
    assert not model.seen[2].any()


def test_without_its_model_it_fills_classically_and_says_why():
    stage = InpaintDepth(InpaintDepthParameters(model='no_such_model'))
    out = stage(holed_wall(), CAMERA)
    wanted = classical()(holed_wall(), CAMERA)
    np.testing.assert_array_equal(out['depth'].depth_m, wanted['depth'].depth_m)
    assert stage.capabilities.back_end == 'classical'
    assert 'no model no_such_model' in stage.capabilities.trouble


def test_by_default_the_shipped_model_fills_where_a_back_end_is_installed():
    pytest.importorskip('onnxruntime')
    stage, named = InpaintDepth(), InpaintDepth(InpaintDepthParameters(model='depth_small'))
    found, wanted = (each(holed_wall(), CAMERA)['depth'].depth_m for each in (stage, named))
    np.testing.assert_array_equal(found, wanted)
    assert stage.capabilities.back_end == named.capabilities.back_end != 'classical'


def test_without_a_back_end_the_default_is_classical_and_that_is_no_trouble(monkeypatch):
    monkeypatch.setattr('depth_refiner_ros.stages.inpaint_depth.is_any_installed', lambda: False)
    stage = InpaintDepth()
    found, wanted = (each(holed_wall(), CAMERA)['depth'].depth_m for each in (stage, classical()))
    np.testing.assert_array_equal(found, wanted)
    assert (stage.capabilities.back_end, stage.capabilities.trouble) == ('classical', '')
    assert 'pip install onnxruntime' in stage.capabilities.note


def test_what_a_model_cannot_know_stays_empty():
    class Ignorant(Knowing):
        def __call__(self, depth_m, color):
            outputs = super().__call__(depth_m, color)
            outputs['estimate_m'][22] = np.nan
            return outputs

    out = learned(Ignorant(0.0))(holed_wall(), CAMERA)
    assert np.isnan(out['depth'].depth_m[22, 35])
    assert out['provenance'].provenance[22, 35] == Provenance.INVALID
    assert out['depth'].depth_m[23, 35] == 1.5


class Sure(Knowing):
    """A model with a standard deviation that is a share of its depth."""

    def __init__(self, share):
        super().__init__(0.0)
        self.share = share

    def __call__(self, depth_m, color):
        outputs = super().__call__(depth_m, color)
        return outputs | {'stddev_m': self.share * outputs['estimate_m']}


def test_the_rim_of_a_hole_is_the_filters():
    out = learned(Sure(0.01), rim_px=2.0)(holed_wall(), CAMERA)
    hole_m = out['depth'].depth_m[20:30, 30:40]
    # A wall of 2 m all around, and a model that says 1.5 m.
    assert hole_m[1:9, 1] == pytest.approx(2.0)
    assert (hole_m[4:6, 4:6] == 1.5).all()


@pytest.mark.parametrize('share', [0.1, 1e-6])
def test_a_filled_pixel_is_as_doubtful_as_the_larger_of_two_opinions_says(share):
    hole = np.s_[20:30, 30:40]
    found_m = learned(Sure(share), rim_px=2.0)(holed_wall(), CAMERA)['stddev'].stddev_m[hole]
    by_filter_m = classical()(holed_wall(), CAMERA)['stddev'].stddev_m[hole]
    # The model says 1.5 m; the filter is sure of the wall to 2 cm.
    np.testing.assert_array_equal(found_m, np.maximum(by_filter_m, np.float32(share * 1.5)))
    assert 0 < by_filter_m.max() < 0.02


def test_what_a_model_doubts_far_more_is_the_filters():
    share = np.full((48, 64), 0.01, np.float32)
    share[25] = 1.0
    out = learned(Sure(share), rim_px=1.0)(holed_wall(), CAMERA)
    # A wall of 2 m all around, and a model that says 1.5 m.
    assert out['depth'].depth_m[25, 32:38] == pytest.approx(2.0)
    assert (out['depth'].depth_m[24, 32:38] == 1.5).all()
    assert (out['stddev'].stddev_m[25, 32:38] == 1.5).all()


def test_strays_of_a_model_are_taken_back():
    class Speckled(Knowing):
        def __call__(self, depth_m, color):
            outputs = super().__call__(depth_m, color)
            outputs['estimate_m'][25, 35] = 9.0
            return outputs

    out = learned(Speckled(0.0))(holed_wall(), CAMERA)
    assert out['depth'].depth_m[25, 35] == 1.5


class Recording(Knowing):
    """A model that says what it is told, at half the size."""

    def __init__(self, estimate_m, wrong):
        super().__init__()
        self.says = {'estimate_m': estimate_m, 'stddev_m': 0.1 * estimate_m, 'wrong': wrong}

    def __call__(self, depth_m, color):
        self.seen.append(depth_m)
        return {name: value.astype(np.float32) for name, value in self.says.items()}


def test_a_reduced_image_has_the_first_measurement_of_every_square():
    depth_m = np.full((3, 4), np.nan, np.float32)
    depth_m[0, 1], depth_m[1, 0], depth_m[1, 3], depth_m[2, 2] = 1.0, 2.0, 3.0, 4.0
    model = Recording(np.ones((2, 2)), np.zeros((2, 2)))
    camera = replace(CAMERA, width=4, height=3)
    out = learned(model, model_reduction=2)(DepthImage(HEADER, depth_m), camera)
    np.testing.assert_array_equal(model.seen[0], np.array([[1, 3], [np.nan, 4]], np.float32))
    # What was measured stays, of odd sizes too.
    assert out['depth'].depth_m.shape == (3, 4)
    assert out['depth'].depth_m[0].tolist() == [1, 1, 1, 1]
    assert out['depth'].depth_m[1].tolist() == [2, 1, 1, 3]


def test_doubt_in_a_measurement_is_doubt_in_those_beside_that_are_like_it():
    depth_m = np.full((8, 8), 2.0, np.float32)
    depth_m[1, 1] = 3.0
    wrong = np.zeros((4, 4))
    wrong[0, 0] = 1.0
    model = Recording(np.full((4, 4), 1.5), wrong)
    out = learned(model, model_reduction=2)(
        DepthImage(HEADER, depth_m), replace(CAMERA, width=8, height=8)
    )
    marks = out['provenance'].provenance == Provenance.INPAINTED
    assert marks[:2, :2].tolist() == [[True, True], [True, False]]
    assert marks.sum() == 3


# --------------------------------------------------------------------------------------- guides


def cornered():
    """A box before a wall, and depth with a hole over its corner."""
    truth_m = np.full((120, 160), 2.5, np.float32)
    truth_m[40:, 80:130] = 1.5
    holed_m = truth_m.copy()
    holed_m[20:80, 60:110] = np.nan
    return truth_m, holed_m, PinholeCamera(HEADER, 160, 120, 150.0, 150.0, 79.5, 59.5)


def guided(estimate_m, frame=HEADER.frame_id, **changed):
    _, holed_m, camera = cornered()
    run = classical(guide='estimate', **changed)
    estimate = DepthImage(Header(HEADER.stamp_ns, frame), estimate_m.astype(np.float32))
    return run, run(DepthImage(HEADER, holed_m), camera, estimate=estimate)


def test_an_estimate_guides_and_what_is_its_own_is_aligned():
    truth_m, holed_m, _ = cornered()
    run, out = guided(1 / (0.7 / truth_m + 0.1))
    assert run.capabilities.note == ''
    hole = np.isnan(holed_m)
    off_m = np.abs(out['depth'].depth_m - truth_m)[hole]
    assert off_m.mean() < 0.02
    marks = out['provenance'].provenance
    assert (marks[~hole] == Provenance.MEASURED).all()
    assert (marks[hole] == Provenance.ALIGNED).mean() > 0.9
    assert set(np.unique(marks[hole])) <= {Provenance.INPAINTED, Provenance.ALIGNED}


def test_an_estimate_is_asked_only_where_it_is_wanted_and_of_the_same_view():
    truth_m, holed_m, camera = cornered()
    plain = classical()(DepthImage(HEADER, holed_m), camera)
    estimate = DepthImage(HEADER, truth_m)
    ignored = classical()(DepthImage(HEADER, holed_m), camera, estimate=estimate)
    np.testing.assert_array_equal(ignored['depth'].depth_m, plain['depth'].depth_m)
    run, out = guided(truth_m, frame='color_camera')
    np.testing.assert_array_equal(out['depth'].depth_m, plain['depth'].depth_m)
    assert 'of another view than the depth' in run.capabilities.note
    run = classical(guide='estimate')
    run(DepthImage(HEADER, holed_m), camera)
    assert 'put estimate_depth before inpaint_depth' in run.capabilities.note
    run, _ = guided(np.full_like(truth_m, np.nan))
    assert run.capabilities.note == 'The estimate does not fit the measurements.'


def test_a_believed_guide_goes_before_the_model():
    truth_m, holed_m, camera = cornered()

    def model(depth_m, color):
        return {
            'estimate_m': np.full_like(depth_m, 9.0),
            'stddev_m': np.full_like(depth_m, 0.01),
            'wrong': np.zeros_like(depth_m),
        }

    run = learned(model, guide='estimate')
    out = run(DepthImage(HEADER, holed_m), camera, estimate=DepthImage(HEADER, truth_m))
    hole = np.isnan(holed_m)
    assert np.abs(out['depth'].depth_m - truth_m)[hole].mean() < 0.2  # of 7 m
