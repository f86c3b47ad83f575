from __future__ import annotations

import numpy as np
import pytest

from depth_refiner_ros.filters.resizing import enlarged, first_measured, model_inputs

NAN = np.nan


def test_an_enlarged_estimate_is_smooth_but_for_its_steps():
    image = np.array([[1.0, 1.01, 2.0]], np.float32)
    wide = enlarged(image, (2, 6))
    # Between the first two by quarters; the third is of another surface.
    assert wide[0] == pytest.approx([1.0, 1.0025, 1.0075, 1.01, 2.0, 2.0])
    assert enlarged(image, (2, 6), smooth=False)[1] == pytest.approx([1, 1, 1.01, 1.01, 2, 2])
    assert np.isnan(enlarged(np.array([[np.nan, 1]], np.float32), (2, 4))[0, :2]).all()


def test_a_smaller_image_has_of_every_square_the_first_measurement():
    depth_m = np.array([[NAN, 2, 3], [1, 4, NAN], [NAN, NAN, 5]], np.float32)
    other = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], np.float32)
    reduced_m, taken = first_measured(2, depth_m, other)
    # Squares at the border are cut off: of the last, one pixel is left.
    np.testing.assert_array_equal(reduced_m, np.array([[2, 3], [NAN, 5]], np.float32))
    assert taken[0].tolist() == [20, 30]
    assert taken[1, 1] == 90


def test_a_model_is_given_black_where_there_is_no_colour():
    given = model_inputs(np.ones((4, 6), np.float32), None, 2)
    assert given['depth_m'].shape == (2, 3)
    assert given['color'].shape == (2, 3, 3)
    assert not given['color'].any()


def test_colour_is_averaged_and_depth_is_not():
    depth_m = np.array([[1, 9], [9, 9]], np.float32)
    color = np.zeros((2, 2, 3), np.uint8)
    color[0, 0] = 100
    given = model_inputs(depth_m, color, 2)
    assert given['depth_m'].tolist() == [[1]]
    assert given['color'].tolist() == [[[25, 25, 25]]]
