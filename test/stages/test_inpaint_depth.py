import numpy as np

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


def holed_wall():
    depth_m = np.full((48, 64), 2.0, np.float32)
    depth_m[20:30, 30:40] = np.nan
    return DepthImage(HEADER, depth_m, '16UC1')


def test_fills_marks_and_keeps_what_was_measured():
    out = InpaintDepth()(holed_wall(), CAMERA)
    np.testing.assert_allclose(out['depth'].depth_m, 2.0, rtol=1e-5)
    provenance = out['provenance'].provenance
    assert (provenance[20:30, 30:40] == Provenance.INPAINTED).all()
    assert (provenance == Provenance.MEASURED).sum() == 48 * 64 - 100
    assert out['depth'].encoding == '16UC1'
    assert np.isfinite(out['stddev'].stddev_m).all()


def test_takes_provenance_and_stddev_of_the_stage_before():
    before = ProvenanceImage(HEADER, np.full((48, 64), Provenance.REFINED, np.uint8))
    stddev = StddevImage(HEADER, np.full((48, 64), 0.004, np.float32))
    out = InpaintDepth()(holed_wall(), CAMERA, stddev=stddev, provenance=before)
    assert out['provenance'].provenance[0, 0] == Provenance.REFINED
    assert out['stddev'].stddev_m[0, 0] == np.float32(0.004)
    assert out['stddev'].stddev_m[25, 35] > 0.004
    assert (before.provenance == Provenance.REFINED).all()


def test_limits_leave_pixels_invalid():
    for limits in ({'max_hole_px': 4}, {'max_distance_m': 1.5}):
        out = InpaintDepth(InpaintDepthParameters(**limits))(holed_wall(), CAMERA)
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
    guided = InpaintDepth()(depth, CAMERA, color=ColorImage(HEADER, rgb))['depth'].depth_m
    assert guided[24, 37] < 1.5
    plain = InpaintDepth()(depth, CAMERA)['depth'].depth_m
    elsewhere = ColorImage(Header(5, 'color_camera'), rgb)
    for color in (elsewhere, ColorImage(HEADER, rgb[::2, ::2].copy())):
        out = InpaintDepth()(depth, CAMERA, color=color)['depth'].depth_m
        np.testing.assert_array_equal(out, plain)
    off = InpaintDepth(InpaintDepthParameters(color=False))
    out = off(depth, CAMERA, color=ColorImage(HEADER, rgb))['depth'].depth_m
    np.testing.assert_array_equal(out, plain)


def test_nothing_measured():
    nothing = DepthImage(HEADER, np.full((48, 64), np.nan, np.float32))
    out = InpaintDepth()(nothing, CAMERA)
    assert np.isnan(out['depth'].depth_m).all()
    assert (out['provenance'].provenance == Provenance.INVALID).all()
