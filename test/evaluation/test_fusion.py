from __future__ import annotations

import numpy as np
import pytest

from depth_refiner_ros.data import Header, PinholeCamera, RigidTransform
from depth_refiner_ros.evaluation.fusion import (
    Fusion,
    Surface,
    View,
    agreement,
    find_planes,
    plane_noise,
    rendered,
)
from depth_refiner_ros.simulation import simulate

HEADER = Header(0, 'camera')
CAMERA = PinholeCamera(HEADER, 160, 120, 150.0, 150.0, 79.5, 59.5)
FLOOR = np.eye(3)
WALL = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
ORIGIN = RigidTransform(Header(0, 'world'), 'camera', np.eye(3), np.zeros(3))


@pytest.fixture(scope='module', autouse=True)
def _open3d():
    pytest.importorskip('open3d', reason='fusion needs Open3D: pip install open3d-cpu')


def constant(depth_m):
    return np.full((CAMERA.height, CAMERA.width), depth_m, np.float32)


def sheet(width_m, height_m, spacing_m, axes=FLOOR, origin_m=(0.0, 0, 0), noise_m=0.0):
    """A rectangle from the origin along the first two rows of axes; noise along the third."""
    columns, rows = round(width_m / spacing_m) + 1, round(height_m / spacing_m) + 1
    u, v = (grid.ravel() * spacing_m for grid in np.meshgrid(range(columns), range(rows)))
    w = noise_m * np.random.default_rng(0).standard_normal(u.size)
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1, 1)
    lower, upper = (
        corner + np.array(rest) for rest in ((0, 1, columns), (1, columns + 1, columns))
    )
    return Surface(
        np.stack([u, v, w], 1) @ axes + origin_m,
        np.tile(axes[2], (u.size, 1)),
        np.concatenate([lower, upper]),
    )


def joined(*parts):
    starts = np.cumsum([0, *(len(part.vertices_m) for part in parts)])
    return Surface(
        np.concatenate([part.vertices_m for part in parts]),
        np.concatenate([part.normals for part in parts]),
        np.concatenate([p.triangles + start for p, start in zip(parts, starts, strict=False)]),
    )


# ---------------------------------------------------------------------------------- fusing


def test_a_slanted_wall_is_where_it_is():
    # z = 2 + x / 2 seen at the centres of the pixels; half a pixel off would be 3 mm.
    x = (np.arange(CAMERA.width) - CAMERA.cx) / CAMERA.fx
    depth_m = np.broadcast_to(2 / (1 - x / 2), (CAMERA.height, CAMERA.width)).astype(np.float32)
    fusion = Fusion()
    fusion.add(np.ascontiguousarray(depth_m), CAMERA, ORIGIN)
    surface = fusion.surface(min_views=1)
    off_m = (surface.vertices_m[:, 2] - 2 - surface.vertices_m[:, 0] / 2) / np.hypot(1, 0.5)
    assert len(off_m) > 10_000
    assert abs(off_m.mean()) < 0.0005
    assert np.abs(off_m).max() < 0.004
    assert np.abs(surface.normals @ [0.5, 0, -1] / np.hypot(1, 0.5)).mean() > 0.98


def test_the_area_of_a_wall():
    fusion = Fusion()
    fusion.add(constant(1.5), CAMERA, ORIGIN)
    area_m2 = fusion.surface(min_views=1).area_m2
    # 160 x 120 pixels of 10 mm; half a voxel may be missing or extra along the border.
    assert area_m2 == pytest.approx(1.6 * 1.2, rel=0.02)


def test_what_too_few_frames_saw_is_left_out():
    fusion = Fusion()
    half = constant(1.5)
    half[:, 80:] = np.nan
    for depth_m in (constant(1.5), half):
        fusion.add(depth_m, CAMERA, ORIGIN)
    both, once = fusion.surface(min_views=2), fusion.surface(min_views=1)
    assert both.area_m2 == pytest.approx(once.area_m2 / 2, rel=0.03)
    assert both.vertices_m[:, 0].max() < 0.02
    assert fusion.surface(min_views=3).area_m2 == 0


def test_poses_place_the_frames():
    moved = RigidTransform(Header(0, 'world'), 'camera', np.eye(3), np.array([0, 0, -0.5]))
    fusion = Fusion()
    fusion.add(constant(1.5), CAMERA, ORIGIN)
    fusion.add(constant(2.0), CAMERA, moved)
    assert fusion.surface(min_views=2).vertices_m[:, 2] == pytest.approx(1.5, abs=0.001)


def test_the_same_in_every_run():
    frames = list(simulate(4, width=160, height=120))
    surfaces = []
    for _ in range(2):
        fusion = Fusion(0.02)
        for frame in frames:
            fusion.add(frame.depth.depth_m, frame.camera, frame.world_from_camera)
        surfaces.append(fusion.surface())
    first, second = surfaces
    np.testing.assert_array_equal(first.vertices_m, second.vertices_m)
    np.testing.assert_array_equal(first.triangles, second.triangles)
    planes = [find_planes(surface) for surface in surfaces]
    assert [p.offset_m for p in planes[0]] == [p.offset_m for p in planes[1]]


def test_nothing_seen():
    fusion = Fusion()
    fusion.add(constant(np.nan), CAMERA, ORIGIN)
    fusion.add(constant(9.0), CAMERA, ORIGIN)
    surface = fusion.surface()
    assert (fusion.frames, surface.area_m2) == (2, 0)
    assert find_planes(surface) == []
    assert np.isnan(plane_noise(surface, []).rms_mm)
    seen = agreement(surface, [View(constant(2.0), CAMERA, ORIGIN)])
    assert (seen.pixels, seen.covered, seen.in_front) == (160 * 120, 0, 0)
    assert np.isnan(seen.correct)


# ---------------------------------------------------------------------------------- planes


def test_planes_are_found_largest_first():
    floor = sheet(2.0, 1.0, 0.01)
    wall = sheet(1.0, 1.5, 0.01, WALL, (2.0, 0, 0))
    clutter = sheet(0.3, 0.3, 0.01, origin_m=(0, 0, 0.4))
    planes = find_planes(joined(wall, clutter, floor))
    assert [plane.area_m2 for plane in planes] == pytest.approx([2.0, 1.5], rel=0.1)
    for plane, normal in zip(planes, ((0, 0, 1), (1, 0, 0)), strict=True):
        assert abs(plane.normal @ normal) == pytest.approx(1, abs=1e-6)
    assert abs(planes[1].offset_m) == pytest.approx(2)


def test_noise_on_a_plane():
    smooth = sheet(1.0, 1.0, 0.005)
    rough = sheet(1.0, 1.0, 0.005, noise_m=0.004)
    noise = plane_noise(rough, find_planes(smooth))
    assert noise.points == 201 * 201
    assert noise.rms_mm == pytest.approx(4, rel=0.02)
    assert noise.p95_mm == pytest.approx(4 * 1.96, rel=0.02)
    # A fit takes three of the 40 x 40 degrees of freedom.
    assert noise.patch_rms_mm == pytest.approx(4, rel=0.02)


def test_a_bent_plane_is_smooth_in_patches():
    planes = find_planes(sheet(1.0, 1.0, 0.01))
    bent = sheet(1.0, 1.0, 0.01)
    bent.vertices_m[:, 2] += 0.02 * (bent.vertices_m[:, 0] - 0.5) ** 2
    noise = plane_noise(bent, planes)
    # x squared minus its mean has a variance of width ** 4 / 180.
    assert noise.rms_mm == pytest.approx(20 / np.sqrt(180), rel=0.05)
    assert noise.patch_rms_mm == pytest.approx(20 * 0.2**2 / np.sqrt(180), rel=0.2)


def test_a_plane_that_moved_as_a_whole_is_no_rougher():
    planes = find_planes(sheet(1.0, 1.0, 0.01))
    tilted = sheet(1.0, 1.0, 0.01)
    tilted.vertices_m[:, 2] += 0.005 + 0.01 * tilted.vertices_m[:, 0]
    assert plane_noise(tilted, planes).rms_mm < 1e-6


def test_what_lies_beside_above_or_across_a_plane_is_not_part_of_it():
    floor = sheet(1.0, 1.0, 0.01)
    planes = find_planes(floor)
    beside = sheet(0.5, 0.5, 0.01, origin_m=(1.2, 0, 0))
    above = sheet(0.5, 0.5, 0.01, origin_m=(0, 0, 0.04))
    across = sheet(0.5, 0.02, 0.01, WALL, (0.5, 0.2, 0))
    noise = plane_noise(joined(floor, beside, above, across), planes)
    assert noise.points == len(floor.vertices_m)


# -------------------------------------------------------------------------------- agreement


def test_half_the_view():
    # At 2 m the view spans 160 / 150 * 2 m; the sheet covers columns 80 and beyond.
    reference_m = constant(2.0)
    view = View(reference_m, CAMERA, ORIGIN)
    right = sheet(1.2, 3.0, 0.1, origin_m=(0.0, -1.5, 2.015))
    assert agreement(right, [view]) == (160 * 120, 0.5, 1.0, 0.0)
    too_near = sheet(1.2, 3.0, 0.1, origin_m=(0.0, -1.5, 1.9))
    assert agreement(joined(right, too_near), [view]) == (160 * 120, 0.0, 0.0, 0.5)
    reference_m[:, :120] = np.nan
    assert agreement(right, [view, view]) == (2 * 40 * 120, 1.0, 1.0, 0.0)
    behind = sheet(1.2, 3.0, 0.1, origin_m=(0.0, -1.5, 2.1))
    assert agreement(behind, [view]) == (40 * 120, 0.0, 0.0, 0.0)
    assert np.isnan(agreement(right, []).covered)


def test_a_view_is_along_the_optical_axis():
    wall = sheet(4.0, 4.0, 0.1, origin_m=(-2, -2, 1.5))
    np.testing.assert_allclose(rendered(wall, CAMERA, ORIGIN), 1.5, atol=1e-5)


def test_measured_depth_makes_a_rougher_map_than_true_depth():
    frames = list(simulate(6, rate_hz=6, width=320, height=240))
    views = [View(frame.truth_m, frame.camera, frame.world_from_camera) for frame in frames[::3]]
    true, measured = Fusion(), Fusion()
    for frame in frames:
        true.add(frame.truth_m, frame.camera, frame.world_from_camera)
        measured.add(frame.depth.depth_m, frame.camera, frame.world_from_camera)
    planes = find_planes(true.surface())
    true_noise, noise = (plane_noise(f.surface(), planes) for f in (true, measured))
    assert true_noise.rms_mm < 1.5
    # The sensor's noise at the room's 1.5 to 4 m is 3 to 26 mm, half of it the same every frame.
    assert 2 * true_noise.rms_mm < noise.rms_mm < 15
    best, worse = (agreement(f.surface(), views) for f in (true, measured))
    assert best.covered > 0.9  # the rest has not been seen three times, or is an edge
    assert best.in_front < 0.01
    assert worse.covered < best.covered - 0.05
    assert worse.correct < best.correct
