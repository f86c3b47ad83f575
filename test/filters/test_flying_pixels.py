from __future__ import annotations

import numpy as np
import pytest

from depth_refiner_ros.filters.flying_pixels import flying_pixels

HEIGHT, WIDTH = 60, 80


def scene(near_m: float = 1.0, far_m: float = 2.0) -> np.ndarray:
    depth = np.full((HEIGHT, WIDTH), far_m, np.float32)
    depth[:, : WIDTH // 2] = near_m
    return depth


def sigma(depth: np.ndarray) -> np.ndarray:
    return np.full_like(depth, 0.002)


@pytest.mark.parametrize('columns', [1, 2])
@pytest.mark.parametrize('turned', [False, True])
def test_a_mixed_edge_is_found_and_nothing_else(columns, turned):
    depth = scene()
    mixed = np.linspace(1.0, 2.0, columns + 2)[1:-1]
    depth[:, 40 : 40 + columns] = mixed
    expected = np.zeros_like(depth, bool)
    expected[:, 40 : 40 + columns] = True
    if turned:
        depth, expected = depth.T.copy(), expected.T
    found = flying_pixels(depth, sigma(depth))
    # Along the frame the surfaces beside the edge cannot be judged.
    inner = np.s_[4:-4, 4:-4]
    np.testing.assert_array_equal(found[inner], expected[inner])


def test_a_clean_step_keeps_every_pixel():
    assert not flying_pixels(scene(), sigma(scene())).any()


@pytest.mark.parametrize('width', [1, 2, 5])
def test_a_thin_pole_survives(width):
    depth = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    depth[:, 30 : 30 + width] = 1.0
    depth[20 : 20 + width] = 1.3
    assert not flying_pixels(depth, sigma(depth)).any()


@pytest.mark.parametrize('slope', [0.002, 0.01, 0.05])
def test_a_grazing_plane_survives(slope):
    x = np.arange(WIDTH, dtype=np.float32)
    depth = np.tile(1 / (0.3 + slope * x), (HEIGHT, 1)).astype(np.float32)
    assert not flying_pixels(depth, sigma(depth)).any()


def test_the_limb_of_a_sphere_survives():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    # A ball of 20 cm at 0.6 m seen with 100 px, in front of a wall at 1.5 m.
    right_m, down_m = 0.6 * (x - WIDTH / 2) / 100, 0.6 * (y - HEIGHT / 2) / 100
    squared = 0.1**2 - right_m**2 - down_m**2
    depth = np.where(squared > 0, 0.6 - np.sqrt(np.maximum(squared, 0)), 1.5).astype(np.float32)
    assert not flying_pixels(depth, sigma(depth)).any()


def test_a_pixel_within_its_noise_of_a_surface_survives():
    depth = scene(1.0, 1.2)
    depth[:, 40] = 1.03
    assert flying_pixels(depth, np.full_like(depth, 0.002))[4:-4, 40].all()
    assert not flying_pixels(depth, np.full_like(depth, 0.01)).any()


def test_holes_are_never_flying_and_make_nothing_fly():
    depth = scene()
    depth[:, 40] = 1.5
    depth[20:40, 41:45] = np.nan
    depth[0, 0] = np.inf
    found = flying_pixels(depth, sigma(depth))
    assert not found[np.isnan(depth)].any()
    assert found[10, 40]
    assert not found[30, 40]


@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (3, 2)])
@pytest.mark.parametrize('value', [1.0, np.nan, np.inf, 0.0])
def test_any_shape_and_nothing_at_all(shape, value):
    depth = np.full(shape, value, np.float32)
    depth.flags.writeable = False
    assert not flying_pixels(depth, np.full(shape, 0.001, np.float32)).any()
