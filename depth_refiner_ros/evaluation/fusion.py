"""What a map made of depth is like: how rough on planes, how complete, how right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
import math
from typing import Any, NamedTuple

import numpy as np

from ..data import BoolArray, Float32Array, Float64Array, PinholeCamera, RigidTransform
from ..geometry import check_camera_fits
from ..metrics.accumulate import IndexArray, ratio
from .extras import open3d
from .trajectories import matrix

FARTHEST_FUSED_M = 4.0
"""Depth beyond this is not fused: there a structured-light sensor is off by centimetres."""

TOLERANCE_M = 0.02
"""A surface this near to where it should be counts as right."""

_MM = 1e3  # per metre

_BLOCK_VOXELS = 16
_BLOCKS_AT_FIRST = 2048  # 67 MB; the grid doubles when they are used up
_TRUNCATION_VOXELS = 4.0

_PLANE_SPACING_M = 0.02
_PLANE_INLIER_M = 0.015
_PLANE_SLAB_M = 0.03
_PLANE_CELL_M = 0.05
_PLANE_MIN_AREA_M2 = 0.2
_PLANE_COSINE = 0.9
_RANSAC_DRAWS = 1000
_PATCH_M = 0.2
_PATCH_MIN_POINTS = 50


@dataclass(frozen=True, eq=False)
class Surface:
    """A triangle mesh.

    Attributes:
        vertices_m: Shape (N, 3), float64, metres, world frame.
        normals: Shape (N, 3), float64, unit length.
        triangles: Shape (M, 3), indices of vertices.
    """

    vertices_m: Float64Array
    normals: Float64Array
    triangles: IndexArray

    @property
    def area_m2(self) -> float:
        """Sum of the triangles' areas."""
        a, b, c = (self.vertices_m[corner] for corner in self.triangles.T)
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


class Fusion:
    """Fuses depth of known poses into a truncated signed distance field, with Open3D.

    B. Curless, M. Levoy, "A volumetric method for building complex models from range images",
    SIGGRAPH 1996: every measurement weighs the same. Memory grows with the surface seen, not with
    the frames. The surface is the same in every run: Open3D lists it in another order each time,
    here it is sorted.

    Args:
        voxel_m: Edge of a voxel, metres.
        farthest_m: Depth beyond this is ignored.

    Attributes:
        frames: Frames fused.

    Raises:
        ModuleNotFoundError: If Open3D is not installed.
    """

    def __init__(self, voxel_m: float = 0.01, *, farthest_m: float = FARTHEST_FUSED_M) -> None:
        self._open3d = open3d()
        self.frames = 0
        self._farthest_m = farthest_m
        float32 = self._open3d.core.float32
        self._grid = self._open3d.t.geometry.VoxelBlockGrid(
            ('tsdf', 'weight'),
            (float32, float32),
            ((1,), (1,)),
            voxel_m,
            _BLOCK_VOXELS,
            _BLOCKS_AT_FIRST,
        )

    def add(
        self, depth_m: Float32Array, camera: PinholeCamera, world_from_camera: RigidTransform
    ) -> None:
        """Fuse one frame: depth of shape (H, W), metres, NaN where unknown.

        Raises:
            ValueError: If the camera has another size.
        """
        check_camera_fits(depth_m, camera)
        self.frames += 1
        near_m = np.where((depth_m > 0) & (depth_m < self._farthest_m), depth_m, np.float32(0))
        if not near_m.any():
            return
        tensor = self._open3d.core.Tensor
        depth = self._open3d.t.geometry.Image(tensor(np.ascontiguousarray(near_m)))
        intrinsics = tensor(_corner_intrinsics(camera))
        extrinsics = tensor(np.linalg.inv(matrix(world_from_camera)))
        limits = (1.0, self._farthest_m, _TRUNCATION_VOXELS)
        blocks = self._grid.compute_unique_block_coordinates(
            depth, intrinsics, extrinsics, *limits
        )
        self._grid.integrate(blocks, depth, intrinsics, extrinsics, *limits)

    def surface(self, *, min_views: int = 3) -> Surface:
        """Return the surface seen by at least `min_views` frames."""
        nothing = Surface(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3), np.int64))
        if self._grid.hashmap().size() == 0:
            return nothing
        try:
            mesh = self._grid.extract_triangle_mesh(weight_threshold=min_views - 0.5)
        except RuntimeError as error:
            if 'shape {0}' not in str(error):  # its complaint about a mesh without vertices
                raise
            return nothing
        mesh.compute_vertex_normals()
        vertices_m = mesh.vertex.positions.numpy().astype(np.float64)
        order = np.lexsort(vertices_m.T)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        triangles = place[mesh.triangle.indices.numpy()]
        # The corner that comes first changes neither the triangle nor its side.
        first = np.argmin(triangles, axis=1)
        triangles = np.take_along_axis(triangles, (first[:, None] + np.arange(3)) % 3, axis=1)
        return Surface(
            vertices_m[order],
            mesh.vertex.normals.numpy().astype(np.float64)[order],
            triangles[np.lexsort(triangles.T)],
        )


def _corner_intrinsics(camera: PinholeCamera) -> Float64Array:
    """Return (3, 3) intrinsics for code that puts pixel centres at halves, as Open3D's here."""
    return np.array(
        [[camera.fx, 0, camera.cx + 0.5], [0, camera.fy, camera.cy + 0.5], [0, 0, 1]], np.float64
    )


# -------------------------------------------------------------------------------------- planes


@dataclass(frozen=True, eq=False)
class Plane:
    """A part of a plane.

    Attributes:
        normal: Shape (3,), unit length.
        offset_m: normal @ point + offset_m is the distance of a point.
        cells: Sorted keys of the 5 cm squares it covers.
    """

    normal: Float64Array
    offset_m: float
    cells: IndexArray

    @property
    def area_m2(self) -> float:
        """Area of its squares."""
        return len(self.cells) * _PLANE_CELL_M**2

    def holds(self, surface: Surface) -> BoolArray:
        """Return which vertices lie on it: within 3 cm, above one of its squares, parallel."""
        near = np.abs(surface.vertices_m @ self.normal + self.offset_m) < _PLANE_SLAB_M
        near &= np.abs(surface.normals @ self.normal) > _PLANE_COSINE
        near[near] = np.isin(_cells(surface.vertices_m[near], self.normal), self.cells)
        return near


def find_planes(surface: Surface, *, count: int = 5, seed: int = 0) -> list[Plane]:
    """Find the largest planes of a surface, with Open3D's RANSAC.

    Measure all methods on the planes of *one* surface, or each is measured on the planes it is
    best at.

    Args:
        surface: Where planes are found.
        count: How many at most; none is smaller than 0.2 square metres.
        seed: Seed of RANSAC's draws.

    Raises:
        ModuleNotFoundError: If Open3D is not installed.
    """
    library = open3d()
    # One vertex a cube, so that area counts and not the density of vertices.
    cubes = np.floor(surface.vertices_m / _PLANE_SPACING_M).astype(np.int64)
    _, kept = np.unique(cubes, axis=0, return_index=True)
    points_m, normals = surface.vertices_m[kept], surface.normals[kept]
    planes: list[Plane] = []
    least = _PLANE_MIN_AREA_M2 / _PLANE_SPACING_M**2
    for _ in range(3 * count):  # a plane through clutter is no plane, but costs a try
        if len(planes) == count or len(points_m) < least:
            break
        library.utility.random.seed(seed)
        cloud = library.geometry.PointCloud(library.utility.Vector3dVector(points_m))
        model, inliers = cloud.segment_plane(_PLANE_INLIER_M, 3, _RANSAC_DRAWS)
        inliers = np.asarray(inliers, np.int64)
        parallel = inliers[np.abs(normals[inliers] @ model[:3]) > _PLANE_COSINE]
        if len(parallel) >= least:
            normal, offset_m = _fitted(points_m[parallel])
            cells = np.unique(_cells(points_m[parallel], normal))
            planes.append(Plane(normal, offset_m, cells))
        left = np.ones(len(points_m), bool)
        left[parallel if len(parallel) >= least else inliers] = False
        points_m, normals = points_m[left], normals[left]
    return sorted(planes, key=lambda plane: -len(plane.cells))


def _fitted(points_m: Float64Array) -> tuple[Float64Array, float]:
    """Return the normal and offset of the least-squares plane."""
    center_m = points_m.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov((points_m - center_m).T))
    normal = axes[:, 0]
    return normal, -float(normal @ center_m)


def _cells(
    points_m: Float64Array, normal: Float64Array, edge_m: float = _PLANE_CELL_M
) -> IndexArray:
    """Return the key of the square below each point, seen along the plane's normal."""
    along = np.cross(normal, np.eye(3)[np.argmin(np.abs(normal))])
    along /= np.linalg.norm(along)
    across = np.cross(normal, along)
    u, v = (np.floor(points_m @ axis / edge_m).astype(np.int64) for axis in (along, across))
    return np.asarray((u << 32) + v, np.int64)


class PlaneNoise(NamedTuple):
    """Distances of a surface's vertices to the planes they lie on.

    Each plane is fitted anew: a plane that is shifted or turned as a whole is not noise. Vertices
    more than 3 cm off do not count as part of it, for no method.

    Attributes:
        points: Vertices.
        rms_mm: Root mean square.
        p95_mm: 95th percentile of the absolute values.
        patch_rms_mm: Root mean square of the distances to the plane fitted to each 20 cm square:
            roughness, without what bends the plane as a whole, as drifting poses do.
    """

    points: int
    rms_mm: float
    p95_mm: float
    patch_rms_mm: float


def plane_noise(surface: Surface, planes: Sequence[Plane]) -> PlaneNoise:
    """Measure how rough a surface is on all of some planes; NaN where it has none of them."""
    whole_m, patches_m = [], []
    for plane in planes:
        points_m = surface.vertices_m[plane.holds(surface)]
        if len(points_m) < _PATCH_MIN_POINTS:
            continue
        whole_m.append(_distances_m(points_m))
        _, patch, sizes = np.unique(
            _cells(points_m, plane.normal, _PATCH_M), return_inverse=True, return_counts=True
        )
        parts = np.split(points_m[np.argsort(patch, kind='stable')], np.cumsum(sizes)[:-1])
        patches_m += [_distances_m(part) for part in parts if len(part) >= _PATCH_MIN_POINTS]
    if not patches_m:
        return PlaneNoise(0, math.nan, math.nan, math.nan)
    all_m = np.concatenate(whole_m)
    rms_m, p95_m = _rms(all_m), float(np.quantile(all_m, 0.95))
    patch_rms_m = _rms(np.concatenate(patches_m))
    return PlaneNoise(len(all_m), rms_m * _MM, p95_m * _MM, patch_rms_m * _MM)


def _distances_m(points_m: Float64Array) -> Float64Array:
    """Return how far points are from the plane fitted to them."""
    normal, offset_m = _fitted(points_m)
    return np.asarray(np.abs(points_m @ normal + offset_m))


def _rms(values: Float64Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


# ------------------------------------------------------------------------------- seen from views


class View(NamedTuple):
    """What should be seen from somewhere.

    Attributes:
        reference_m: Shape (H, W), metres, NaN where unknown.
        camera: Intrinsics of the same size.
        world_from_camera: Pose.
    """

    reference_m: Float32Array
    camera: PinholeCamera
    world_from_camera: RigidTransform


class Agreement(NamedTuple):
    """A surface compared with reference depth, over all pixels of all views that have one.

    What lies where no reference is known, filled or not, does not count.

    Attributes:
        pixels: Pixels with reference depth.
        covered: Share of them where the surface is seen within the tolerance: completeness.
        correct: Share within the tolerance, of those where a surface is seen.
        in_front: Share of them where a surface is seen nearer than the tolerance allows: what is
            not there, and stops a robot.
    """

    pixels: int
    covered: float
    correct: float
    in_front: float


def agreement(
    surface: Surface, views: Iterable[View], *, tolerance_m: float = TOLERANCE_M
) -> Agreement:
    """Look at a surface from views and compare what is seen; NaN where nothing is known.

    Args:
        surface: The surface to measure.
        views: Looked at one after the other, none is kept.
        tolerance_m: Along the optical axis.

    Raises:
        ModuleNotFoundError: If Open3D is not installed.
        ValueError: If a view's camera has another size.
    """
    scene = _scene(surface)
    pixels = within = seen = in_front = 0
    for view in views:
        check_camera_fits(view.reference_m, view.camera)
        reference_m = np.where(view.reference_m < FARTHEST_FUSED_M, view.reference_m, np.nan)
        known = reference_m > 0
        error_m = _rendered(scene, view.camera, view.world_from_camera)[known] - reference_m[known]
        pixels += error_m.size
        seen += int(np.isfinite(error_m).sum())
        within += int((np.abs(error_m) <= tolerance_m).sum())
        in_front += int((error_m < -tolerance_m).sum())
    return Agreement(pixels, ratio(within, pixels), ratio(within, seen), ratio(in_front, pixels))


def rendered(
    surface: Surface, camera: PinholeCamera, world_from_camera: RigidTransform
) -> Float32Array:
    """Return the depth of a surface seen from somewhere: (H, W) metres, inf where there is none.

    Raises:
        ModuleNotFoundError: If Open3D is not installed.
    """
    return _rendered(_scene(surface), camera, world_from_camera)


def _scene(surface: Surface) -> Any:
    library = open3d()
    tensor, scene = library.core.Tensor, library.t.geometry.RaycastingScene()
    if len(surface.triangles):
        scene.add_triangles(
            tensor(surface.vertices_m.astype(np.float32)),
            tensor(surface.triangles.astype(np.uint32)),
        )
    return scene


def _rendered(
    scene: Any, camera: PinholeCamera, world_from_camera: RigidTransform
) -> Float32Array:
    tensor = open3d().core.Tensor
    rays = scene.create_rays_pinhole(
        tensor(_corner_intrinsics(camera)),
        tensor(np.linalg.inv(matrix(world_from_camera))),
        camera.width,
        camera.height,
    )
    # Rays advance one metre along the optical axis, not along themselves: t is the depth.
    return np.asarray(scene.cast_rays(rays)['t_hit'].numpy(), np.float32)
