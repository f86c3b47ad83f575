from __future__ import annotations

import itertools
import json
import pickle

import cv2
import numpy as np
import pytest

from depth_refiner_ros.geometry import fill_nearest
from depth_refiner_ros.metrics import (
    REFERENCE_EDGES_M,
    BinnedErrors,
    DepthErrors,
    FrameMeans,
    depth_edges,
    depth_errors,
    distance_to_measurement_px,
    errors_by_bin,
    errors_by_region,
    from_json,
    hole_area_px,
    regions_of,
    to_json,
)

NAN = np.nan


def image(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def noisy(seed: int, shape: tuple[int, int] = (40, 50)) -> tuple[np.ndarray, np.ndarray]:
    """A prediction with gaps and its reference with others."""
    rng = np.random.default_rng(seed)
    reference_m = rng.uniform(0.5, 6, shape).astype(np.float32)
    depth_m = (reference_m * rng.lognormal(0, 0.1, shape)).astype(np.float32)
    depth_m[rng.random(shape) < 0.1] = NAN
    reference_m[rng.random(shape) < 0.1] = NAN
    return depth_m, reference_m


def test_metrics_worked_out_by_hand():
    # Errors 0, 0.5, 1 m; inverse 1/2 - 1/2, 1/2.5 - 1/2, 1/4 - 1/5 per m; relative 0, 1/4, 1/5.
    metrics = depth_errors(image([2.0, 2.5, 4.0]), image([2.0, 2.0, 5.0])).metrics()
    expected = {
        'coverage': 1.0,
        'rmse_mm': 1000 * np.sqrt(1.25 / 3),
        'mae_mm': 500.0,
        'median_mm': 500.0,
        'irmse_per_km': 1000 * np.sqrt((0.1**2 + 0.05**2) / 3),
        'imae_per_km': 1000 * 0.15 / 3,
        'absrel': 0.45 / 3,
        'within_5_percent': 1 / 3,
        'delta_1_05': 1 / 3,
        'delta_1_10': 1 / 3,
        # Both ratios are 1.25 exactly, which is not below 1.25.
        'delta_1_25': 1 / 3,
        'delta_1_25_2': 1.0,
        'delta_1_25_3': 1.0,
    }
    assert metrics == pytest.approx(expected)


def test_within_5_percent_allows_more_than_delta_on_the_near_side_only():
    errors = depth_errors(image([0.951, 0.953, 1.049, 1.051]), image([1.0, 1.0, 1.0, 1.0]))
    assert errors.within_5_percent == 3
    assert errors.within_delta[0] == 2


@pytest.mark.parametrize('missing', [NAN, 0.0, np.inf, -1.0])
def test_missing_depth_costs_coverage_and_nothing_else(missing):
    metrics = depth_errors(image([1.1, missing, 1.1]), image([1.0, 1.0, NAN])).metrics()
    assert metrics['coverage'] == 0.5
    assert metrics['mae_mm'] == pytest.approx(100)
    metrics = depth_errors(image([1.1, 5.0]), image([1.0, missing])).metrics()
    assert metrics['coverage'] == 1
    assert metrics['mae_mm'] == pytest.approx(100)


def test_no_pixels_have_no_metrics():
    assert all(np.isnan(value) for value in DepthErrors().metrics().values())
    unpredicted = depth_errors(image([NAN]), image([1.0])).metrics()
    assert unpredicted.pop('coverage') == 0
    assert all(np.isnan(value) for value in unpredicted.values())


def test_sums_pool_pixels():
    frames = [noisy(seed) for seed in range(3)]
    pooled = sum((depth_errors(*frame) for frame in frames), DepthErrors())
    whole = depth_errors(*(np.hstack(images) for images in zip(*frames, strict=True)))
    assert pooled.metrics() == pytest.approx(whole.metrics())


def test_frame_means_weigh_frames_alike():
    # Two pixels off by 0.1 m, one off by 0.4 m: pooled 0.2 m, by frames 0.25 m.
    first = depth_errors(image([1.1, 1.1]), image([1.0, 1.0]))
    second = depth_errors(image([1.4]), image([1.0]))
    assert (first + second).metrics()['mae_mm'] == pytest.approx(200)
    means = FrameMeans.of(first.metrics()) + FrameMeans.of(second.metrics())
    assert means.metrics()['mae_mm'] == pytest.approx(250)


def test_frame_means_leave_out_undefined_metrics():
    means = sum((FrameMeans.of({'a': a, 'b': NAN}) for a in (1.0, NAN, 3.0)), FrameMeans())
    assert means.metrics() == pytest.approx({'a': 2.0, 'b': NAN}, nan_ok=True)
    assert (means + FrameMeans.of({'c': 5.0})).metrics()['c'] == 5


def test_quantiles_need_no_pixels():
    depth_m, reference_m = noisy(0, (300, 300))
    error_mm = (
        np.abs(depth_m.astype(float) - reference_m)[np.isfinite(depth_m + reference_m)] * 1e3
    )
    errors = depth_errors(depth_m, reference_m)
    for share in (0.05, 0.5, 0.95):
        assert errors.quantile_mm(share) == pytest.approx(np.quantile(error_mm, share), rel=0.016)


def test_quantile_of_equal_errors_is_exact():
    errors = depth_errors(image([1.003, 1.003, 1.0, 1.5]), image([1.0, 1.0, 1.0, 1.0]))
    assert errors.quantile_mm(0.25) == 0
    assert errors.quantile_mm(0.5) == pytest.approx(3, rel=1e-4)
    assert errors.quantile_mm(1.0) == pytest.approx(500)


def test_accumulators_travel():
    errors = depth_errors(*noisy(1))
    assert pickle.loads(pickle.dumps(errors)).metrics() == errors.metrics()
    written = json.dumps(to_json(errors))
    assert from_json(DepthErrors, json.loads(written)).metrics() == errors.metrics()
    depth_m, reference_m = noisy(1)
    binned = errors_by_bin(depth_m, reference_m, reference_m, REFERENCE_EDGES_M)
    restored = from_json(BinnedErrors, json.loads(json.dumps(to_json(binned))))
    assert (restored + binned).bins[3].count == 2 * binned.bins[3].count
    means = FrameMeans.of(errors.metrics())
    assert from_json(FrameMeans, json.loads(json.dumps(to_json(means)))) == means


def test_regions():
    reference_m = np.full((20, 40), 2, np.float32)
    reference_m[:, 20:] = 3
    reference_m[0] = NAN
    raw_m = reference_m.copy()
    raw_m[:, :10] = NAN
    raw_m[0] = 1  # measured, but nobody knows the truth
    regions = regions_of(raw_m, reference_m, edge_px=3)
    # Columns 19 and 20 are beside the discontinuity; 3 px more on either side.
    assert np.flatnonzero(regions.edge[5]).tolist() == list(range(16, 24))
    by_region = errors_by_region(reference_m, reference_m, regions)
    counts = {name: errors.reference_count for name, errors in by_region.items()}
    assert counts == {'all': 19 * 40, 'observed': 19 * 30, 'hole': 19 * 10, 'edge': 19 * 8}


def test_all_is_observed_and_hole():
    depth_m, reference_m = noisy(2)
    raw_m = np.where(np.random.default_rng(2).random(depth_m.shape) < 0.5, NAN, depth_m)
    by_region = errors_by_region(depth_m, reference_m, regions_of(raw_m, reference_m))
    assert by_region['all'].metrics() == pytest.approx(
        depth_errors(depth_m, reference_m).metrics()
    )


def test_an_edge_is_a_jump_not_a_slope():
    y = np.arange(240, dtype=np.float32)
    # A floor 1.2 m below a camera of 585 px: 10 m away at the top row, 2 m at the bottom.
    floor_m = np.repeat((1.2 * 585 / (70 + y))[:, None], 10, axis=1).astype(np.float32)
    assert not depth_edges(floor_m).any()
    floor_m[:, 5:] *= 1.06
    assert depth_edges(floor_m)[100].tolist() == [c in (4, 5) for c in range(10)]


def test_an_edge_within_a_gap_is_found():
    reference_m = image([1, 1, 1, NAN, NAN, 2, 2, 2])
    assert np.flatnonzero(depth_edges(reference_m)[0]).tolist() == [3, 4]
    assert not depth_edges(image([NAN, NAN])).any()


def test_bins_are_half_open_and_what_is_outside_is_left_out():
    reference_m = image([1.0, 2.0, 2.9, 3.0, NAN])
    depth_m = image([1.1, 2.2, NAN, 9.0, 9.0])
    quantity = image([1.0, 2.0, 2.9, 3.0, 2.5])
    binned = errors_by_bin(depth_m, reference_m, quantity, (1.0, 2.0, 3.0))
    assert [errors.reference_count for errors in binned.bins] == [1, 2]
    assert [errors.metrics()['mae_mm'] for errors in binned.bins] == pytest.approx([100, 200])


def test_bins_equal_regions():
    depth_m, reference_m = noisy(3)
    binned = errors_by_bin(depth_m, reference_m, reference_m, REFERENCE_EDGES_M)
    assert len(binned.bins) == len(REFERENCE_EDGES_M) - 1
    ends = itertools.pairwise(REFERENCE_EDGES_M)
    for (low, high), errors in zip(ends, binned.bins, strict=True):
        region = (reference_m >= low) & (reference_m < high)
        expected = depth_errors(depth_m, reference_m, region).metrics()
        assert errors.metrics() == pytest.approx(expected, nan_ok=True)


def test_bins_of_two_kinds_do_not_add():
    depth_m, reference_m = noisy(4)
    two = (errors_by_bin(depth_m, reference_m, reference_m, e) for e in [(0, 1), (0, 2)])
    with pytest.raises(ValueError, match='bins differ'):
        next(two) + next(two)


def test_distance_to_measurement():
    raw_m = np.full((7, 9), NAN, np.float32)
    raw_m[1, 2] = raw_m[5, 8] = 1
    y, x = np.mgrid[:7, :9]
    expected = np.minimum(np.hypot(y - 1, x - 2), np.hypot(y - 5, x - 8))
    assert distance_to_measurement_px(raw_m) == pytest.approx(expected, abs=1e-4)
    assert np.isinf(distance_to_measurement_px(np.full_like(raw_m, NAN))).all()


def test_holes_that_touch_at_a_corner_are_two():
    raw_m = image([0, 0, 1, 1], [1, 1, NAN, 1], [1, 1, NAN, NAN])
    expected = image([2, 2, 0, 0], [0, 0, 3, 0], [0, 0, 3, 3])
    assert hole_area_px(raw_m).tolist() == expected.tolist()
    assert not hole_area_px(np.ones((2, 2), np.float32)).any()
    assert (hole_area_px(np.zeros((2, 2), np.float32)) == 4).all()


def test_published_baselines(recording):
    """Nearest-neighbour filling of the kitchen, computed elsewhere: 79.9 mm, 0.865; raw 18.2."""
    files = sorted((recording('kinect_v1_kitchen') / 'reference').glob('*.png'))
    raw_errors = hole_errors = DepthErrors()
    for file in files:
        reference_m, raw_m = (
            cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32) / np.float32(1000)
            for path in (file, file.parents[1] / 'depth' / file.name)
        )
        raw_m[raw_m == 0] = NAN
        reference_m[reference_m >= 4] = NAN
        hole = np.isnan(raw_m)
        raw_errors += depth_errors(raw_m, reference_m, ~hole)
        hole_errors += depth_errors(fill_nearest(raw_m), reference_m, hole)
    assert raw_errors.metrics()['mae_mm'] == pytest.approx(18.2, abs=0.05)
    assert hole_errors.metrics()['mae_mm'] == pytest.approx(79.9, abs=0.05)
    assert hole_errors.metrics()['delta_1_05'] == pytest.approx(0.865, abs=0.0005)
