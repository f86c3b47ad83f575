from __future__ import annotations

import numpy as np
import pytest

from depth_refiner_ros.metrics import (
    FlyingPixels,
    canny_edges,
    count_flying_pixels,
    depth_boundary_error,
    si_boundary_f1,
)

NAN = np.nan


def step(column: int, near_m: float = 1.0, far_m: float = 2.0) -> np.ndarray:
    """A foreground on the left that ends before a column."""
    depth_m = np.full((40, 60), far_m, np.float32)
    depth_m[:, :column] = near_m
    return depth_m


def relief() -> np.ndarray:
    """Waves, a raised disc and a ledge, without symmetry."""
    y, x = np.mgrid[:60, :80]
    waves = 2 + np.sin(x / 9.3 + 0.2) * np.cos(y / 7.1 + 0.5)
    disc = 0.8 * ((x - 40.3) ** 2 + (y - 25.2) ** 2 < 300)
    ledge = 0.3 * (y + 0.1 * x > 45)
    return (waves + disc + ledge + 0.01 * x + 0.003 * y).astype(np.float32)


def f1_pair_by_pair(depth: np.ndarray, reference: np.ndarray) -> float:
    """The definition, one pair of neighbours after the other."""
    height, width = depth.shape
    thresholds = np.linspace(1.05, 1.25, 10)
    f1 = []
    for t in thresholds:
        precisions, recalls = [], []
        for dv, du in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            predicted = expected = agreed = 0
            for v in range(height):
                for u in range(width):
                    if not (0 <= v + dv < height and 0 <= u + du < width):
                        continue
                    behind = float(depth[v + dv, u + du]) > t * float(depth[v, u])
                    should = float(reference[v + dv, u + du]) > t * float(reference[v, u])
                    predicted += behind
                    expected += should
                    agreed += behind and should
            precisions.append(agreed / max(predicted, 1))
            recalls.append(agreed / max(expected, 1))
        p, r = np.mean(precisions), np.mean(recalls)
        f1.append(2 * p * r / (p + r) if p + r else 0.0)
    return float(np.average(f1, weights=thresholds))


def test_f1_equals_the_definition():
    rng = np.random.default_rng(0)
    reference = rng.choice([1.0, 1.07, 1.2, 2.0], (12, 17)).astype(np.float32)
    depth = (reference * rng.lognormal(0, 0.05, reference.shape)).astype(np.float32)
    expected = f1_pair_by_pair(depth, reference)
    assert 0.1 < expected < 0.95
    assert si_boundary_f1(depth, reference).f1 == pytest.approx(expected)


def test_f1_of_a_step():
    # Only one of the four directions has an edge, the others count as 0: the published convention.
    assert si_boundary_f1(step(20), step(20)) == pytest.approx((0.25, 0.25, 0.25))
    assert si_boundary_f1(step(21), step(20)) == (0, 0, 0)
    # 1.15 times as far: seen by the thresholds 1.05, 1.0722, 1.0944, 1.1167, 1.1389.
    seen, every = (sum(1.05 + i / 45 for i in range(n)) for n in (5, 10))
    score = si_boundary_f1(step(20, 1.0, 1.15), step(20))
    assert score.recall == pytest.approx(0.25 * seen / every)


def test_f1_is_blind_to_scale():
    rng = np.random.default_rng(1)
    reference, depth = rng.lognormal(0, 0.1, (2, 20, 20)).astype(np.float32)
    assert si_boundary_f1(depth * 3, reference).f1 == pytest.approx(
        si_boundary_f1(depth, reference).f1
    )


def test_missing_depth_costs_recall_and_a_missing_reference_nothing():
    reference, holed = step(20), step(20)
    holed[:10, 19] = NAN
    score = si_boundary_f1(holed, reference)
    assert score.precision == pytest.approx(0.25)
    assert score.recall == pytest.approx(0.25 * 30 / 40)
    assert si_boundary_f1(reference, holed) == pytest.approx((0.25, 0.25, 0.25))


def test_a_reference_without_edges_says_nothing():
    flat = np.ones((5, 5), np.float32)
    assert np.isnan(si_boundary_f1(step(20)[:5, 18:23], flat)).all()


def test_canny_edges_equal_those_of_scikit_image():
    """Number and moments of skimage.feature.canny(sigma=sqrt(2), 0.1, 0.2), version 0.26."""
    depth_m = relief()
    v, u = np.nonzero(canny_edges(depth_m))
    assert (len(v), v.sum(), u.sum(), (v * u).sum()) == (465, 14378, 17875, 557295)
    depth_m[30:40, 20:30] = NAN
    v, u = np.nonzero(canny_edges(depth_m))
    assert (len(v), v.sum(), u.sum(), (v * u).sum()) == (440, 13488, 17272, 535786)


def test_canny_needs_a_tenth_of_the_range():
    # Two taps of the Gaussian, (1 + exp(-1/4)) / 3.545, times the Sobel weights, 4: 2.007 a step.
    for jump, seen in ((0.098, False), (0.102, True)):
        edges = canny_edges(step(30, 2.0, 2.0 + jump), (1.5, 2.5))
        assert edges[20].any() == seen
        assert set(np.flatnonzero(edges[20])) <= {29, 30}


def test_an_outlier_hides_edges_from_its_own_range_only():
    depth_m = step(30)
    depth_m[5, 5] = 60
    assert not canny_edges(depth_m)[20].any()
    assert canny_edges(depth_m, (1.0, 2.0))[20].any()


def test_a_hole_has_no_edge():
    depth_m = np.full((40, 40), 2, np.float32)
    depth_m[0, 0] = 1
    depth_m[10:30, 10:30] = NAN
    assert not canny_edges(depth_m)[5:, 5:].any()
    assert not canny_edges(np.full_like(depth_m, NAN)).any()
    assert not canny_edges(np.ones_like(depth_m)).any()


def lines(*columns: int) -> np.ndarray:
    edges = np.zeros((10, 60), np.bool_)
    edges[:, columns] = True
    return edges


def test_depth_boundary_error():
    assert depth_boundary_error(lines(23), lines(20)) == (3, 3)
    # What is 10 px or more from every edge of the reference is ignored.
    assert depth_boundary_error(lines(21, 30), lines(20)) == (1, 1)
    # A missed edge costs completeness: distances 1 and 31.
    assert depth_boundary_error(lines(21), lines(20, 52)) == (1, 16)
    assert depth_boundary_error(lines(45), lines(20)) == (10, 10)
    assert depth_boundary_error(lines(), lines(20)) == (10, 10)
    assert np.isnan(depth_boundary_error(lines(20), lines())).all()


def test_a_pixel_between_two_surfaces_flies():
    reference_m, depth_m = step(30), step(30)
    depth_m[:, 30] = 1.5
    # Columns 26 to 33 see the discontinuity between 29 and 30 within 3 px.
    assert count_flying_pixels(depth_m, reference_m) == FlyingPixels(40 * 8, 40)
    assert count_flying_pixels(depth_m, reference_m, radius_px=1) == FlyingPixels(40 * 4, 40)
    assert count_flying_pixels(depth_m, reference_m).metrics() == {'flying_pixel_rate': 1 / 8}


def test_what_does_not_fly():
    reference_m = step(30)
    shifted_m = step(31)  # on the wrong surface
    noisy_m = reference_m * np.float32(1.015)  # within the tolerance
    outside_m = np.full_like(reference_m, 0.5)  # in front of both surfaces
    far_m = reference_m.copy()
    far_m[:, 40] = 1.5  # nowhere near an edge
    for depth_m in (reference_m, shifted_m, noisy_m, outside_m, far_m):
        assert count_flying_pixels(depth_m, reference_m).flying == 0
    missing_m = np.full_like(reference_m, NAN)
    assert count_flying_pixels(missing_m, reference_m) == FlyingPixels(0, 0)
    assert count_flying_pixels(reference_m, missing_m) == FlyingPixels(0, 0)


def test_a_slanted_surface_does_not_fly():
    reference_m = step(30, far_m=5.0)
    # The side of a box, 3 % farther every pixel, between two discontinuities.
    reference_m[:, 30:36] = 1.5 * np.float32(1.03) ** np.arange(6)
    depth_m = reference_m.copy()
    depth_m[:, 31:35] *= np.float32(1.015)
    assert count_flying_pixels(depth_m, reference_m).flying == 0


def test_flying_pixels_pool():
    assert FlyingPixels(10, 1) + FlyingPixels(30, 3) == FlyingPixels(40, 4)
    assert np.isnan(FlyingPixels().metrics()['flying_pixel_rate'])
