"""A recording that needs no camera: a table in a room, seen by a simulated Kinect.

The room is made of a few analytic solids and ray-cast exactly, so that the true depth of every
pixel is known to a fraction of a millimetre, holes included. The sensor is the first Kinect: an
infrared camera beside a projector. World frames are z up, x right and y away from the camera.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
import math
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from .data import (
    BoolArray,
    ColorImage,
    DepthImage,
    Float32Array,
    Float64Array,
    Header,
    PinholeCamera,
    RigidTransform,
    UInt8Array,
)
from .filters.noise import nguyen_stddev_m

FRAME_ID = 'camera_depth_optical_frame'
WORLD_FRAME_ID = 'map'
EPOCH_NS = 1_700_000_000_000_000_000

BASELINE_M = 0.075
"""How far the projector sits to the right of the camera."""
_SENSOR_WIDTH_PX = 640
_SENSOR_FOCAL_PX = 575.8
DISPARITY_M_PX = _SENSOR_FOCAL_PX * BASELINE_M
"""Depth times disparity; disparities are those of the 640 pixel wide sensor at any image size."""
DISPARITY_STEP_PX = 1 / 8
NEAREST_M, FARTHEST_M = 0.5, 4.5

# ------------------------------------------------------------------------------------- shapes
#
# Every shape sits at the origin of its own frame and meets rays origin + t * direction.

_Vector = tuple[Float32Array, Float32Array, Float32Array]


class Shape(Protocol):
    """A closed surface around the origin."""

    @property
    def half_size_m(self) -> tuple[float, float, float]:
        """Half the edges of the box around it."""

    def hit(self, origin: Float32Array, direction: _Vector) -> Float32Array:
        """Return the t at which each ray first meets the shape, inf where it does not."""

    def skin(self, points_m: Float32Array) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Return the normals, (3, N), and texture coordinates, metres, at points, (3, N)."""


@dataclass(frozen=True)
class Box:
    """An axis-aligned box."""

    half_size_m: tuple[float, float, float]

    def hit(self, origin: Float32Array, direction: _Vector) -> Float32Array:
        """Intersect the slabs between opposite faces."""
        near, far = np.array(-np.inf, np.float32), np.array(np.inf, np.float32)
        for start, along, half in zip(origin, direction, self.half_size_m, strict=True):
            # A ray within a slab's plane never crosses it: almost infinity serves, 0 * inf not.
            inverse = np.reciprocal(along + np.float32(1e-20))
            middle = inverse * -start
            reach = np.abs(inverse) * np.float32(half)
            near, far = np.maximum(near, middle - reach), np.minimum(far, middle + reach)
        return np.asarray(np.where((near <= far) & (near > 0), near, np.inf), np.float32)

    def skin(self, points_m: Float32Array) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Flat faces, textured by the other two coordinates."""
        x, y, z = points_m
        axis = np.argmax(
            np.abs(points_m) / np.array(self.half_size_m, np.float32)[:, None], axis=0
        )
        normals = np.sign(points_m) * (axis == np.arange(3)[:, None])
        return normals, np.where(axis == 0, y, x), np.where(axis == 2, y, z)


@dataclass(frozen=True)
class Sphere:
    """A sphere."""

    radius_m: float

    @property
    def half_size_m(self) -> tuple[float, float, float]:
        """Half the edges of the box around it."""
        return self.radius_m, self.radius_m, self.radius_m

    def hit(self, origin: Float32Array, direction: _Vector) -> Float32Array:
        """Solve the quadratic for its first root."""
        first, _ = _roots(origin, direction, self.radius_m)
        first[~(first > 0)] = np.inf
        return first

    def skin(self, points_m: Float32Array) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Radial normals; longitude and latitude as lengths on the equator."""
        radius_m = np.float32(self.radius_m)
        normals = points_m / radius_m
        longitude = np.arctan2(normals[1], normals[0])
        latitude = np.arcsin(np.clip(normals[2], -1, 1))
        return normals, longitude * radius_m, latitude * radius_m


@dataclass(frozen=True)
class Cylinder:
    """An upright cylinder; without its lid, a mug."""

    radius_m: float
    half_height_m: float
    lid: bool = True

    @property
    def half_size_m(self) -> tuple[float, float, float]:
        """Half the edges of the box around it."""
        return self.radius_m, self.radius_m, self.half_height_m

    def hit(self, origin: Float32Array, direction: _Vector) -> Float32Array:
        """Take the nearest of the wall's front, its back, the bottom and the lid."""
        up = direction[2]
        nearest = np.full(np.broadcast_shapes(*(d.shape for d in direction)), np.inf, np.float32)
        for root in _roots(origin[:2], direction[:2], self.radius_m):
            on_wall = np.abs(origin[2] + root * up) <= np.float32(self.half_height_m)
            np.minimum(nearest, root, out=nearest, where=on_wall & (root > 0))
        for end in (-self.half_height_m, self.half_height_m)[: 1 + self.lid]:
            t = (np.float32(end) - origin[2]) * np.reciprocal(up + np.float32(1e-20))
            x, y = origin[0] + t * direction[0], origin[1] + t * direction[1]
            with np.errstate(over='ignore'):  # where the ray is level, x and y are enormous
                on_end = x * x + y * y <= np.float32(self.radius_m**2)
            np.minimum(nearest, t, out=nearest, where=on_end & (t > 0))
        return nearest

    def skin(self, points_m: Float32Array) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Radial wall, flat ends; the wall is textured by arc length and height."""
        x, y, z = points_m
        on_end = np.abs(z) > np.float32(self.half_height_m - 1e-4)
        normals = points_m / np.float32(self.radius_m)
        normals[:2, on_end] = 0
        normals[2] = np.sign(z) * on_end
        return normals, np.arctan2(y, x) * np.float32(self.radius_m), z


def _roots(
    origin: Float32Array, direction: Sequence[Float32Array], radius_m: float
) -> tuple[Float32Array, Float32Array]:
    """Return both t at which |origin + t * direction| is the radius; NaN where never."""
    a, b = direction[0] * direction[0], origin[0] * direction[0]
    for start, along in zip(origin[1:], direction[1:], strict=True):
        a, b = a + along * along, b + start * along
    c = np.float32(np.dot(origin, origin) - radius_m**2)
    with np.errstate(divide='ignore', invalid='ignore'):
        root, inverse = np.sqrt(b * b - a * c), np.reciprocal(a)
        return (-b - root) * inverse, (root - b) * inverse


# ------------------------------------------------------------------------------------- the room

Pattern = Callable[[Float32Array, Float32Array], Float32Array]
"""Share of a surface's second colour at texture coordinates in metres."""


def _smooth_step(x: npt.NDArray[np.floating], sharpness: float) -> Float32Array:
    return np.asarray(np.clip(x * np.float32(sharpness) + np.float32(0.5), 0, 1), np.float32)


def _wood(u: Float32Array, v: Float32Array) -> Float32Array:
    bend = np.sin(u * 2.3) * 0.6 + np.sin(u * 5.1 + v * 7.0) * 0.3
    grain = np.sin(v * 90 + bend * 3) * 0.25 + np.sin(v * 211 + u * 4 + bend * 5) * 0.2
    return np.asarray(np.clip(grain + 0.45, 0, 1), np.float32)


def _planks(u: Float32Array, v: Float32Array) -> Float32Array:
    row = np.floor(v / 0.16)
    place = u / 1.1 + row * 0.37
    column = np.floor(place)
    tone = np.sin(row * 12.9 + column * 78.2) * 0.3
    across, along = np.abs(v / 0.16 - row - 0.5), np.abs(place - column - 0.5)
    gap = np.maximum(np.clip(across * 40 - 18.5, 0, 1), np.clip(along * 300 - 148.5, 0, 1))
    grain = np.sin(v * 160 + np.sin(u * 4 + row) * 4) * 0.1
    return np.asarray(np.clip(0.4 + tone + grain + gap * 0.6, 0, 1), np.float32)


def _plaster(u: Float32Array, v: Float32Array) -> Float32Array:
    waves = np.sin(u * 5.1 + np.sin(v * 3.7) * 2) * np.sin(v * 4.3 + np.sin(u * 2.9) * 2)
    return np.asarray(0.5 + 0.5 * waves, np.float32)


def _stripes(period_m: float) -> Pattern:
    scale = np.float32(2 * math.pi / period_m)
    return lambda u, v: _smooth_step(np.sin(u * scale), 6)


def _bands(period_m: float) -> Pattern:
    stripes = _stripes(period_m)
    return lambda u, v: stripes(v, u)


def _label(width_m: float, height_m: float) -> Pattern:
    def pattern(u: Float32Array, v: Float32Array) -> Float32Array:
        out = np.maximum(np.abs(u) / np.float32(width_m), np.abs(v) / np.float32(height_m))
        frame = _smooth_step(1 - out, 30) - 0.75 * _smooth_step(0.72 - out, 30)
        return np.asarray(frame, np.float32)

    return pattern


def _landscape(u: Float32Array, v: Float32Array) -> Float32Array:
    horizon, shore = np.sin(u * 9 + 1) * 0.05 + np.sin(u * 23) * 0.015, np.sin(u * 7 + 3) * 0.04
    far, near = _smooth_step(horizon - 0.02 - v, 60), _smooth_step(shore - 0.12 - v, 60)
    return np.asarray(0.55 * far + 0.45 * near, np.float32)


def _plain(u: Float32Array, v: Float32Array) -> Float32Array:
    return np.zeros_like(u)


class Surface(NamedTuple):
    """What a solid looks like.

    Attributes:
        rgb: Its colour, 0 to 255.
        rgb2: The colour of its pattern.
        pattern: Where the second colour shows.
        infrared: Share of the projector's light that it scatters back.
        gloss: Share of the light it mirrors.
    """

    rgb: tuple[int, int, int]
    rgb2: tuple[int, int, int] = (0, 0, 0)
    pattern: Pattern = _plain
    infrared: float = 0.6
    gloss: float = 0.0


class Solid(NamedTuple):
    """A shape somewhere in the world, turned about the vertical."""

    shape: Shape
    center_m: tuple[float, float, float]
    surface: Surface
    yaw_rad: float = 0.0

    def to_own_frame(self) -> Float64Array:
        """Return the rotation from world axes to the shape's own."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])


def _room() -> tuple[Solid, ...]:
    oak = Surface((196, 148, 96), (164, 116, 70), _wood, 0.65, 0.06)
    steel = Surface((150, 152, 158), infrared=0.4, gloss=0.2)
    red = Surface((178, 52, 44), infrared=0.6)
    glass = Surface((20, 21, 26), infrared=0.004, gloss=0.5)
    plastic = Surface((52, 54, 58), infrared=0.3)
    table_m, top_m = (0.0, 1.55), 0.74
    x, y = table_m
    return (
        # The room: floor, far wall, left wall, a chest against the far wall, a picture.
        Solid(Box((4, 4, 0.1)), (0, 2, -0.1), Surface((170, 138, 108), (112, 86, 64), _planks)),
        Solid(Box((4, 0.1, 2)), (0, 3.5, 2), Surface((226, 219, 205), (217, 209, 194), _plaster)),
        Solid(
            Box((0.1, 4, 2)), (-1.75, 2, 2), Surface((150, 176, 178), (140, 168, 172), _plaster)
        ),
        Solid(
            Box((0.5, 0.24, 0.52)),
            (1.25, 3.16, 0.52),
            Surface(
                (228, 226, 220),
                (120, 118, 114),
                lambda u, v: _smooth_step(np.sin(v * np.float32(2 * math.pi / 0.26)) - 0.97, 60),
                0.7,
            ),
        ),
        Solid(
            Box((0.34, 0.02, 0.25)),
            (-0.45, 3.38, 1.36),
            Surface((244, 196, 140), (58, 84, 120), _landscape, 0.5),
        ),
        # The table.
        Solid(Box((0.7, 0.4, 0.018)), (x, y, top_m - 0.018), oak),
        *(
            Solid(Box((0.022, 0.022, 0.352)), (x + dx, y + dy, 0.352), oak)
            for dx in (-0.65, 0.65)
            for dy in (-0.35, 0.35)
        ),
        # On it: a cereal box, two books, a ball, an orange, a mug, a screen of black glass.
        Solid(
            Box((0.095, 0.035, 0.145)),
            (x - 0.4, y + 0.08, top_m + 0.145),
            Surface((232, 178, 50), (196, 52, 44), _label(0.075, 0.11), 0.7),
            0.45,
        ),
        Solid(
            Box((0.12, 0.085, 0.02)),
            (x - 0.27, y - 0.24, top_m + 0.02),
            Surface((46, 92, 136), (220, 214, 196), _label(0.09, 0.06), 0.5),
            -0.3,
        ),
        Solid(
            Box((0.105, 0.075, 0.014)),
            (x - 0.27, y - 0.24, top_m + 0.054),
            Surface((74, 122, 86), (228, 224, 206), _label(0.05, 0.04), 0.5),
            0.1,
        ),
        Solid(
            Sphere(0.115),
            (x - 0.13, y + 0.1, top_m + 0.115),
            Surface((234, 232, 226), (40, 110, 170), _stripes(2 * math.pi * 0.115 / 5), 0.7, 0.1),
            0.4,
        ),
        Solid(
            Sphere(0.04),
            (x + 0.07, y - 0.2, top_m + 0.04),
            Surface((236, 132, 36), infrared=0.7, gloss=0.06),
        ),
        Solid(
            Cylinder(0.042, 0.05, lid=False),
            (x + 0.25, y - 0.22, top_m + 0.05),
            Surface((236, 234, 228), (34, 134, 128), _bands(0.066), 0.7, 0.12),
        ),
        Solid(Box((0.2, 0.014, 0.13)), (x + 0.42, y + 0.17, top_m + 0.185), plastic, -0.3),
        Solid(Box((0.182, 0.001, 0.112)), (x + 0.4157, y + 0.1562, top_m + 0.185), glass, -0.3),
        Solid(Box((0.025, 0.02, 0.04)), (x + 0.425, y + 0.19, top_m + 0.04), steel, -0.3),
        Solid(Cylinder(0.09, 0.006), (x + 0.42, y + 0.17, top_m + 0.006), steel),
        # A floor lamp, its pole 22 mm thin, and a chair of thin legs and slats.
        Solid(Cylinder(0.011, 0.85), (-0.92, 2.3, 0.85), steel),
        Solid(
            Cylinder(0.17, 0.13, lid=False),
            (-0.92, 2.3, 1.68),
            Surface((246, 228, 186), (236, 212, 160), _stripes(0.05), 0.7),
        ),
        Solid(Cylinder(0.13, 0.012), (-0.92, 2.3, 0.012), steel),
        Solid(Box((0.2, 0.2, 0.016)), (0.2, 2.4, 0.45), red, 0.35),
        *(
            Solid(Cylinder(0.014, 0.22), (0.2 + dx, 2.4 + dy, 0.22), red)
            for dx, dy in ((-0.23, 0.09), (0.12, 0.22), (-0.1, -0.23), (0.24, -0.1))
        ),
        *(
            Solid(Cylinder(0.013, 0.26), (0.14 + along, 2.57 + 0.36 * along, 0.71), red)
            for along in (-0.17, -0.057, 0.057, 0.17)
        ),
        Solid(Box((0.2, 0.014, 0.04)), (0.14, 2.57, 0.98), red, 0.35),
    )


ROOM: tuple[Solid, ...] = _room()
_LAMP_M = np.array((0.9, -0.4, 2.6), np.float32)

# ---------------------------------------------------------------------------------- ray casting


def ray_cast(
    scene: Sequence[Solid], camera: PinholeCamera, world_from_camera: RigidTransform
) -> tuple[Float32Array, npt.NDArray[np.int8]]:
    """Return what the camera sees.

    Returns:
        Depth, (H, W) metres along the optical axis, NaN where nothing is; and the number of the
        solid in the scene, (H, W), -1 where nothing is.
    """
    x, y = _image_plane(camera)
    shape = (camera.height, camera.width)
    depth_m = np.full(shape, np.inf, np.float32)
    owner = np.full(shape, -1, np.int8)
    for number, solid in enumerate(scene):
        window = _window(solid, camera, world_from_camera, world_from_camera.translation_m)
        if window is None:
            continue
        rows, columns = window
        ray = (x[:, columns], y[rows], np.ones((1, 1), np.float32))
        hit_m = _hit(solid, world_from_camera.rotation, world_from_camera.translation_m, ray)
        nearer = hit_m < depth_m[window]
        np.copyto(depth_m[window], hit_m, where=nearer)
        owner[window][nearer] = number
    depth_m[owner < 0] = np.nan
    return depth_m, owner


def projector_shadow(
    scene: Sequence[Solid],
    depth_m: Float32Array,
    camera: PinholeCamera,
    world_from_camera: RigidTransform,
) -> BoolArray:
    """Return the pixels the projector, `BASELINE_M` to the right of the camera, cannot reach.

    The projector looks the same way as the camera, so its ray through a pixel of depth z is that
    of the camera, moved left by the disparity: no other geometry is needed.

    Args:
        scene: The solids.
        depth_m: Shape (H, W), what `ray_cast` gives for the camera.
        camera: Intrinsics.
        world_from_camera: Pose of the camera.

    Returns:
        Shape (H, W).
    """
    x, y = _image_plane(camera)
    x = x - np.float32(BASELINE_M) / depth_m
    projector_m = world_from_camera.rotation @ (BASELINE_M, 0, 0)
    projector_m += world_from_camera.translation_m
    shadow = np.zeros(depth_m.shape, np.bool_)
    reach_m = depth_m - np.float32(2e-3)
    for solid in scene:
        window = _window(solid, camera, world_from_camera, projector_m)
        if window is None:
            continue
        ray = (x[window], y[window[0]], np.ones((1, 1), np.float32))
        hit_m = _hit(solid, world_from_camera.rotation, projector_m, ray)
        shadow[window] |= hit_m < reach_m[window]
    return shadow


def _image_plane(camera: PinholeCamera) -> tuple[Float32Array, Float32Array]:
    x = (np.arange(camera.width, dtype=np.float32) - np.float32(camera.cx)) / camera.fx
    y = (np.arange(camera.height, dtype=np.float32) - np.float32(camera.cy)) / camera.fy
    return x.astype(np.float32)[None, :], y.astype(np.float32)[:, None]


def _hit(
    solid: Solid, rotation: Float64Array, origin_m: Float64Array, ray: _Vector
) -> Float32Array:
    """Return the t at which rays, given in rotated axes, meet a solid."""
    turn = solid.to_own_frame()
    matrix = (turn @ rotation).astype(np.float32)
    origin = (turn @ (origin_m - np.asarray(solid.center_m))).astype(np.float32)
    x, y, z = (row[0] * ray[0] + (row[1] * ray[1] + row[2] * ray[2]) for row in matrix)
    return solid.shape.hit(origin, (x, y, z))


def _window(
    solid: Solid,
    camera: PinholeCamera,
    world_from_camera: RigidTransform,
    light_m: Float64Array,
) -> tuple[slice, slice] | None:
    """Return the camera's pixels a solid can cover, seen from the camera or from its projector.

    What the projector sees at column u the camera sees at u plus the disparity, which is at most
    that of the solid's nearest corner.
    """
    signs = np.array(np.meshgrid((-1, 1), (-1, 1), (-1, 1))).reshape(3, 8).T
    corners_m = signs * solid.shape.half_size_m @ solid.to_own_frame() + solid.center_m
    x, y, z = (corners_m - light_m).dot(world_from_camera.rotation).T
    if z.max() <= 0:
        return None
    if z.min() < 0.05:
        return slice(None), slice(None)
    baseline_m = float(np.linalg.norm(light_m - world_from_camera.translation_m))
    u, v = camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy
    left, right = math.floor(u.min()), math.ceil(u.max() + camera.fx * baseline_m / z.min()) + 1
    top, bottom = math.floor(v.min()), math.ceil(v.max()) + 1
    if right <= 0 or bottom <= 0 or left >= camera.width or top >= camera.height:
        return None
    return slice(max(top, 0), bottom), slice(max(left, 0), right)


class Rendering(NamedTuple):
    """What a perfect camera and a light meter would see.

    Attributes:
        depth_m: Shape (H, W), metres; NaN where nothing is.
        rgb: Shape (H, W, 3), uint8.
        echo: Shape (H, W), light of the projector that comes back; 1 from white at one metre.
        shadow: Shape (H, W), what the projector does not reach.
    """

    depth_m: Float32Array
    rgb: UInt8Array
    echo: Float32Array
    shadow: BoolArray


def render(
    scene: Sequence[Solid], camera: PinholeCamera, world_from_camera: RigidTransform
) -> Rendering:
    """Render a scene: exact depth, Lambert shading with one lamp, the projector's light."""
    depth_m, owner = ray_cast(scene, camera, world_from_camera)
    ray_x, ray_y = _image_plane(camera)
    eye_m = world_from_camera.translation_m.astype(np.float32)
    points_m = np.stack(
        [
            (row[0] * ray_x + (row[1] * ray_y + row[2])) * depth_m + start
            for row, start in zip(
                world_from_camera.rotation.astype(np.float32), eye_m, strict=True
            )
        ]
    )
    lit = _lamp_light(scene, points_m).ravel()

    rgb = np.zeros((3, owner.size), np.uint8)
    echo = np.zeros(owner.size, np.float32)
    order = np.argsort(owner, axis=None, kind='stable')
    starts = np.searchsorted(owner.ravel()[order], np.arange(len(scene) + 1))
    for solid, start, stop in zip(scene, starts[:-1], starts[1:], strict=True):
        if start < stop:
            pixels = order[start:stop]
            seen_m = points_m.reshape(3, -1)[:, pixels]
            rgb[:, pixels], echo[pixels] = _shade(solid, seen_m, eye_m, lit[pixels])
    rgb = np.ascontiguousarray(rgb.T).reshape(*owner.shape, 3)
    return Rendering(
        depth_m,
        np.asarray(cv2.GaussianBlur(rgb, (3, 3), 0.55), np.uint8),  # the lens
        np.asarray(echo.reshape(owner.shape) / np.square(depth_m), np.float32),
        projector_shadow(scene, depth_m, camera, world_from_camera),
    )


def _shade(
    solid: Solid, points_m: Float32Array, eye_m: Float32Array, lit: Float32Array
) -> tuple[Float32Array, Float32Array]:
    """Return the colour, (3, N) 0 to 255, and the infrared reflection, (N,), of points, (3, N)."""
    turn, surface = solid.to_own_frame().astype(np.float32), solid.surface
    center_m = np.array(solid.center_m, np.float32)[:, None]
    normals, u, v = solid.shape.skin(turn @ (points_m - center_m))
    normals = turn.T @ normals
    to_eye, to_lamp = _unit(eye_m[:, None] - points_m), _unit(_LAMP_M[:, None] - points_m)
    cosine = _dot(normals, to_eye)
    normals *= np.sign(cosine)  # a mug shows the back of its wall
    cosine = np.abs(cosine)

    # A lamp, and what surrounds everything indoors: a white ceiling above, a brown floor below.
    light = 0.62 * np.maximum(_dot(normals, to_lamp), 0) + 0.06 * cosine + 0.12 * normals[2] + 0.4
    share = surface.pattern(u, v)
    color = np.stack(
        [
            (first + np.float32(second - first) * share) * (light * lit)
            for first, second in zip(surface.rgb, surface.rgb2, strict=True)
        ]
    )
    infrared = cosine * np.float32(surface.infrared)
    if surface.gloss:
        color += 255 * surface.gloss * _dot(normals, _unit(to_lamp + to_eye)) ** 60
        # A mirror that faces the sensor blinds it.
        infrared[cosine > 1 - 0.02 * surface.gloss] = 0
    return np.clip(color, 0, 255), infrared


def _dot(a: Float32Array, b: Float32Array) -> Float32Array:
    return np.asarray(a[0] * b[0] + a[1] * b[1] + a[2] * b[2], np.float32)


def _unit(vectors: Float32Array) -> Float32Array:
    return np.asarray(vectors / np.sqrt(_dot(vectors, vectors)), np.float32)


def _lamp_light(scene: Sequence[Solid], points_m: Float32Array) -> Float32Array:
    """Return the share of light that reaches points, (3, H, W); shadows are found at half size."""
    beams_m = points_m[:, ::2, ::2] - _LAMP_M[:, None, None]
    beams = _unit(beams_m)
    lit = np.ones(beams.shape[1:], np.float32)
    for solid in scene:
        toward_m = np.array(solid.center_m, np.float32) - _LAMP_M
        sine = np.linalg.norm(solid.shape.half_size_m) / np.linalg.norm(toward_m)
        if sine >= 1:
            continue  # a wall of the room the lamp is in
        cone = _dot(beams, _unit(toward_m)) > math.sqrt(1 - float(sine) ** 2)
        x, y, z = beams_m[:, cone]
        hidden = _hit(solid, np.eye(3), _LAMP_M.astype(np.float64), (x, y, z)) < 0.997
        lit[cone] = np.where(hidden, np.float32(0.62), lit[cone])
    soft = cv2.GaussianBlur(lit, (5, 5), 0.9)
    return np.asarray(cv2.resize(soft, points_m.shape[:0:-1]), np.float32)


# ----------------------------------------------------------------------------------- the sensor


def fixed_noise(rng: np.random.Generator, height: int, width: int) -> Float32Array:
    """Return the half of a sensor's noise that is the same in every frame, unit variance.

    On a tripod 0.5 to 0.7 of the variance of an Xtion's disparities repeats, and is smoother than
    the rest; the two smoothnesses together give its correlation of 0.7, 0.5 and 0.2 at a distance
    of 1, 2 and 4 pixels.
    """
    return noise_field(rng, (height, width), 2.4 * width / _SENSOR_WIDTH_PX)


def measure(rendering: Rendering, fixed: Float32Array, rng: np.random.Generator) -> Float32Array:
    """Return what a structured-light sensor makes of a scene.

    Holes: where the projector does not reach, where too little of its light comes back (dark,
    glossy, far or grazing surfaces), out of range, along depth edges, and in a band at the right
    border where the correlation window leaves the image. Edges wobble and some of their pixels
    fly between near and far. What remains is quantised in disparity.

    Args:
        rendering: The scene.
        fixed: Shape (H, W), the sensor's `fixed_noise`.
        rng: Source of this frame's own noise.

    Returns:
        Shape (H, W), float32 whole millimetres in metres, NaN without a measurement.
    """
    truth_m, shape = rendering.depth_m, rendering.depth_m.shape
    scale = shape[1] / _SENSOR_WIDTH_PX
    disparity_px = np.float32(DISPARITY_M_PX) / truth_m

    faint = rendering.echo < 0.006 * np.exp(0.35 * noise_field(rng, shape, 2.5 * scale))
    seen_px = np.where(rendering.shadow | faint, np.float32(np.nan), disparity_px)
    seen_px = _wobble(seen_px, rng, scale)
    seen_px = _mix_edges(seen_px, np.nan_to_num(disparity_px), rng)

    noise = (fixed + noise_field(rng, shape, 1.1 * scale)) * np.float32(math.sqrt(0.5))
    seen_px += noise * _disparity_noise_px(truth_m)
    seen_px = np.round(seen_px / DISPARITY_STEP_PX) * np.float32(DISPARITY_STEP_PX)

    with np.errstate(divide='ignore', invalid='ignore'):
        depth_m = np.round(1000 * np.float32(DISPARITY_M_PX) / seen_px) / np.float32(1000)
    depth_m[~((depth_m >= NEAREST_M) & (depth_m <= FARTHEST_M))] = np.nan
    depth_m[:, shape[1] - round(8 * scale) :] = np.nan
    return np.asarray(depth_m, np.float32)


def noise_field(
    rng: np.random.Generator, shape: tuple[int, ...], correlation_px: float
) -> Float32Array:
    """Return Gaussian noise of unit variance, smooth over some pixels."""
    white = rng.standard_normal(shape, np.float32)
    kernel = cv2.getGaussianKernel(2 * math.ceil(2.5 * correlation_px) + 1, correlation_px)
    kernel = (kernel / np.linalg.norm(kernel)).astype(np.float32)
    smooth = cv2.sepFilter2D(white, cv2.CV_32F, kernel, kernel)
    return np.asarray(smooth, np.float32)


def _disparity_noise_px(depth_m: Float32Array) -> Float32Array:
    """Return the noise that, with the quantisation's own, makes the noise of `nguyen_stddev_m`."""
    metres_per_px = np.square(depth_m) / np.float32(DISPARITY_M_PX)
    total_px = nguyen_stddev_m(depth_m) / metres_per_px
    own_px = np.sqrt(np.maximum(np.square(total_px) - DISPARITY_STEP_PX**2 / 12, 0))
    return np.asarray(own_px, np.float32)


def _wobble(seen_px: Float32Array, rng: np.random.Generator, scale: float) -> Float32Array:
    """Make edges ragged: the sensor locates them only to its correlation window."""
    rows, columns = np.indices(seen_px.shape, np.float32)
    rows += noise_field(rng, seen_px.shape, 2 * scale) * np.float32(0.8 * scale)
    columns += noise_field(rng, seen_px.shape, 2 * scale) * np.float32(0.8 * scale)
    moved_px = cv2.remap(
        seen_px, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
    )
    # A smooth surface is not displaced by this, only its outline.
    return np.where(np.abs(moved_px - seen_px) < 1, seen_px, moved_px)


def _mix_edges(
    seen_px: Float32Array, disparity_px: Float32Array, rng: np.random.Generator
) -> Float32Array:
    """Lose some of the pixels at depth edges, and let some fly between the two surfaces."""
    window = np.ones((3, 3), np.uint8)
    near_px, far_px = cv2.dilate(disparity_px, window), cv2.erode(disparity_px, window)
    rim = np.flatnonzero(near_px - far_px > 2)
    fate, share = rng.random((2, rim.size), np.float32)
    lost, flying = fate < 0.25, fate > 0.8
    mixed_px = seen_px.ravel()  # a view: seen_px is this function's own to change
    near_px, far_px = near_px.ravel()[rim], far_px.ravel()[rim]
    mixed_px[rim[lost]] = np.nan
    mixed_px[rim[flying]] = (far_px + share * (near_px - far_px))[flying]
    return seen_px


# -------------------------------------------------------------------------------- the recording


class SimulatedFrame(NamedTuple):
    """One frame of a simulated recording.

    Attributes:
        depth: What the sensor measured, 16UC1.
        color: The colour image, registered: the depth camera's own view.
        camera: Intrinsics of both.
        truth_m: Shape (H, W), float32, the true depth in metres, NaN where nothing is.
        world_from_camera: True pose of the camera.
    """

    depth: DepthImage
    color: ColorImage
    camera: PinholeCamera
    truth_m: Float32Array
    world_from_camera: RigidTransform


Scene = Sequence[Solid] | Callable[[float], Sequence[Solid]]
"""What there is to see; or that as a function of the time in seconds, where something moves."""


def with_person(scene: Sequence[Solid] = ROOM) -> Callable[[float], Sequence[Solid]]:
    """Return a scene that a person crosses from left to right, in front of the table, at 1.1 m/s.

    The person enters the view of the hand-held camera about a quarter of a second after the start.
    """
    coat, skin = Surface((66, 74, 104), infrared=0.5), Surface((214, 168, 140), infrared=0.6)
    jeans = Surface((58, 66, 92), infrared=0.45)

    def at(time_s: float) -> tuple[Solid, ...]:
        x_m, y_m = -1.25 + 1.1 * time_s, 0.98
        stride_m = 0.22 * math.sin(2 * math.pi * 0.9 * time_s)
        arm_m = -0.7 * stride_m
        return (
            *scene,
            Solid(Cylinder(0.17, 0.32), (x_m, y_m, 1.16), coat),
            Solid(Sphere(0.11), (x_m, y_m, 1.62), skin),
            *(
                Solid(Cylinder(0.07, 0.42), (x_m + way * stride_m, y_m + 0.09 * way, 0.42), jeans)
                for way in (-1, 1)
            ),
            *(
                Solid(Cylinder(0.045, 0.27), (x_m + way * arm_m, y_m + 0.22 * way, 1.17), coat)
                for way in (-1, 1)
            ),
        )

    return at


def simulate(
    frames: int = 60,
    *,
    seed: int = 0,
    rate_hz: float = 30.0,
    width: int = _SENSOR_WIDTH_PX,
    height: int = 480,
    scene: Scene = ROOM,
    move: str = 'hand_held',
) -> Iterator[SimulatedFrame]:
    """Move a sensor through a scene.

    The same arguments give the same frames to the bit.

    Args:
        frames: How many.
        seed: Picks the noise, and the sway of the hand.
        rate_hz: Frames a second.
        width: Columns, pixels; the field of view is always that of the 640 pixel wide sensor.
        height: Rows, pixels.
        scene: What there is to see.
        move: How the camera moves, one of `MOVES`.

    Raises:
        ValueError: If there is no such move.
    """
    if move not in MOVES:
        raise ValueError(f'no move {move!r}; there are {", ".join(MOVES)}')
    focal_px = _SENSOR_FOCAL_PX * width / _SENSOR_WIDTH_PX
    fixed = fixed_noise(np.random.default_rng((seed, 0)), height, width)
    for number in range(frames):
        time_s = number / rate_hz
        header = Header(EPOCH_NS + round(time_s * 1e9), FRAME_ID)
        camera = PinholeCamera(
            header, width, height, focal_px, focal_px, (width - 1) / 2, (height - 1) / 2
        )
        world_from_camera = _looking(header, *MOVES[move](time_s, seed))
        seen = scene(time_s) if callable(scene) else scene
        rendering = render(seen, camera, world_from_camera)
        depth_m = measure(rendering, fixed, np.random.default_rng((seed, 1, number)))
        yield SimulatedFrame(
            DepthImage(header, depth_m, '16UC1'),
            ColorImage(header, rendering.rgb),
            camera,
            rendering.depth_m,
            world_from_camera,
        )


_View = tuple[Float64Array, Float64Array, float]
"""Where a camera is, what it looks at, metres, and how far to the right it leans."""


def _hand_held(time_s: float, seed: int) -> _View:
    """A hand that sways and trembles."""
    phases = np.random.default_rng((seed, 2)).uniform(0, 2 * math.pi, (2, 6))

    def sway(hertz: float, row: int) -> Float64Array:
        detuned = hertz * np.array([1.0, 1.31, 0.77, 1.13, 0.87, 1.41])
        return np.asarray(np.sin(2 * math.pi * detuned * time_s + phases[row]))

    slow, tremor = sway(0.1, 0), sway(2.1, 1)
    position_m = np.array([0.0, 0.1, 1.32]) + slow[:3] * (0.24, 0.07, 0.06)
    position_m += tremor[:3] * 0.002
    target_m = np.array([0.0, 1.9, 0.78]) + slow[3:] * (0.1, 0.0, 0.05) + tremor[3:] * 0.003
    return position_m, target_m, 0.02 * slow[4]


def _still(time_s: float, seed: int) -> _View:
    """A tripod."""
    return np.array([0.0, -0.1, 1.3]), np.array([0.0, 1.9, 0.8]), 0.0


def _rotation(time_s: float, seed: int) -> _View:
    """A head that looks from side to side at up to 30 degrees a second."""
    angle = math.radians(12) * math.sin(2.5 * time_s)
    position_m = np.array([0.0, -0.1, 1.3])
    toward_m = np.array([2 * math.sin(angle), 2 * math.cos(angle), -0.5])
    return position_m, position_m + toward_m, 0.0


def _translation(time_s: float, seed: int) -> _View:
    """A cart that rolls sideways at up to half a metre a second and looks straight ahead."""
    position_m = np.array([0.25 * math.sin(2 * time_s), -0.1, 1.3])
    return position_m, position_m + np.array([0.0, 2.0, -0.5]), 0.0


def _walking(time_s: float, seed: int) -> _View:
    """Somebody who walks up to the table and back at up to 0.6 m/s, two steps a second."""
    step = 2 * math.pi * 1.9 * time_s
    position_m = np.array(
        [
            0.02 * math.sin(step / 2) + 0.12 * math.sin(1.1 * time_s),
            -0.15 - 0.4 * math.cos(1.5 * time_s),
            1.3 + 0.012 * math.sin(step),
        ]
    )
    target_m = np.array([0.3 * math.sin(1.3 * time_s), 1.9, 0.8 + 0.02 * math.sin(step + 1)])
    return position_m, target_m, 0.015 * math.sin(step / 2 + 0.5)


def _shaking(time_s: float, seed: int) -> _View:
    """A robot on cobbles: 7 mm and 1.5 degrees, six times a second."""
    phases = np.random.default_rng((seed, 3)).uniform(0, 2 * math.pi, 6)
    hertz = 6.0 * np.array([1.0, 1.21, 0.83, 0.91, 1.13, 0.77])
    jolt = np.sin(2 * math.pi * hertz * time_s + phases)
    position_m = np.array([0.0, -0.1, 1.3]) + 0.007 * jolt[:3]
    return position_m, np.array([0.0, 1.9, 0.8]) + 0.055 * jolt[[3, 4, 4]], 0.02 * jolt[5]


MOVES: Mapping[str, Callable[[float, int], _View]] = {
    'hand_held': _hand_held,
    'still': _still,
    'rotation': _rotation,
    'translation': _translation,
    'walking': _walking,
    'shaking': _shaking,
}
"""How a simulated camera can move: functions of the time in seconds and the seed."""


def _looking(
    header: Header, position_m: Float64Array, target_m: Float64Array, lean: float
) -> RigidTransform:
    """Return the pose of a camera that looks from one point at another."""
    forward = target_m - position_m
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, (lean, 0, 1))
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward], axis=1)
    return RigidTransform(
        Header(header.stamp_ns, WORLD_FRAME_ID), header.frame_id, rotation, position_m
    )
