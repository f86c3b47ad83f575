"""Renders scenes of triangles by ray casting with Embree: solids, and models of `assets`.

A pixel casts one ray, one to a random point of each lamp, and a few in random directions for the
light that comes from everything else: sky through windows, and walls. What these say of the light
is smoothed over neighbours on the same surface; colours are not. Depth is where the ray meets the
triangle, exact to float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numba import njit
import numpy as np
import numpy.typing as npt
import torch

from .assets import SIDE, Assets
from .cameras import Cameras
from .render import Rendering, develop
from .solids import Kind, Scene, Solid
from .tessellate import tessellated
from .textures import LEVELS, texture_bank

Array = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]

_NEAR_M = 0.05
_BOUNCES = 4
"""Rays that gather light from around, of each pixel of a coarse grid."""
_GRID_PX = 160
"""Columns of that grid: light from around changes slowly."""
_LEVEL_STARTS = np.cumsum([0, *((SIDE >> level) ** 2 for level in range(LEVELS))])
# Columns of a material: three colours, then these.
_LAYER, _PICTURE, _TEXELS_U, _TEXELS_V, _SHIFT_U, _SHIFT_V = range(9, 15)
_SPECULAR, _SHINE, _INFRARED, _EMISSION, _GLASS, _MIRROR = range(15, 21)
_WIDTH = 21


class _Geometry(NamedTuple):
    """Triangles of one scene, either those that stop light or those of glass.

    Attributes:
        embree: What rays are cast into; None without triangles.
        normals: (T, 3, 3), at the corners.
        uv: (T, 3, 2), repetitions of the texture.
        density: (T,), repetitions of the texture a metre.
        material: (T,), rows of the scene's materials.
        instance: (T,).
    """

    embree: Any
    normals: Array
    uv: Array
    density: Array
    material: Numbers
    instance: Numbers


class _Built(NamedTuple):
    """A scene ready to be seen.

    Attributes:
        opaque: What stops light.
        glass: What does not.
        materials: (K, 21).
        pictures: (P, texels of all levels, 3) uint8, sRGB.
    """

    opaque: _Geometry
    glass: _Geometry
    materials: Array
    pictures: Images


class _Hits(NamedTuple):
    """Where N rays end.

    Attributes:
        t: (N,), in lengths of the direction; inf where nothing is.
        triangle: (N,) int64, -1 where nothing is.
        uv: (N, 2), barycentric.
        normal: (N, 3), of the triangle, unit, against the ray.
    """

    t: Array
    triangle: Numbers
    uv: Array
    normal: Array


class MeshRenderer:
    """Renders scenes with models, on the CPU.

    Args:
        assets: Where models come from; None renders scenes without any.
        seed: Of the texture bank, and of the directions in which light is gathered.
    """

    def __init__(self, assets: Assets | None, seed: int = 0) -> None:
        self.assets = assets
        self.seed = seed
        self._bank = texture_bank(seed, 'cpu').texels.numpy()

    def __call__(self, scenes: Sequence[Scene], cameras: Cameras) -> Rendering:
        """Render every camera's view of its scene; scenes are built once for all their cameras."""
        built: dict[int, _Built] = {}
        seen: list[dict[str, npt.NDArray[Any]]] = []
        for view, number in enumerate(cameras.scene.tolist()):
            if number not in built:
                built = {number: self._build(scenes[number])}
            seen.append(self._view(scenes[number], built[number], cameras, view))

        def stacked(name: str) -> torch.Tensor:
            return torch.from_numpy(np.stack([each[name] for each in seen]))

        names = ('depth_m', 'behind_m', 'normals', 'instances', 'albedo', 'specular', 'shininess',
                 'ir_reflectance', 'glass', 'mirror')  # fmt: skip
        rgb = develop(
            stacked('light'), cameras.exposure, cameras.white_balance, cameras.vignetting
        )
        fields = {name: stacked(name) for name in names}
        return Rendering(rgb=rgb, cameras=cameras, **fields)

    # -------------------------------------------------------------------------- building a scene

    def _build(self, scene: Scene) -> _Built:
        materials: list[Array] = []
        pictures: list[Images] = []
        parts: list[tuple[Any, ...]] = []
        known: dict[str, int] = {}
        for solid in scene.solids:
            first = sum(map(len, materials))
            if solid.kind is Kind.MODEL:
                corners, normals, uv, material, rows = self._model(solid, pictures, known)
                materials.append(rows)
                material = material + first
            else:
                corners, normals, places = tessellated(solid)
                m = solid.material
                uv = places / np.array(m.period_m)
                materials.append(_row(solid, self._picture_of(solid, pictures, known))[None])
                material = np.full(len(corners), first, np.int64)
            parts.append((corners, normals, uv, material, np.full(len(corners), solid.instance)))
        whole = [np.concatenate([part[i] for part in parts]) for i in range(5)]
        table = np.concatenate(materials)
        clear = table[whole[3], _GLASS] > 0
        images = np.stack(pictures) if pictures else np.zeros((0, int(_LEVEL_STARTS[-1]), 3))
        return _Built(
            _geometry(*(values[~clear] for values in whole)),
            _geometry(*(values[clear] for values in whole)),
            table,
            images.astype(np.uint8),
        )

    def _model(
        self, solid: Solid, pictures: list[Images], known: dict[str, int]
    ) -> tuple[Any, ...]:
        if self.assets is None:
            raise ValueError(f'{solid.model} is a model, and there are no assets')
        model = self.assets.model(solid.model)
        shift = known.setdefault(solid.model, len(pictures))
        if shift == len(pictures):
            pictures.extend(_pyramid(picture) for picture in model.pictures)
        turn = np.array(solid.turn, np.float32)
        low, high = model.corners_m.min((0, 1)), model.corners_m.max((0, 1))
        middle, half = (low + high) / 2, np.maximum((high - low) / 2, 1e-6)
        scale = (np.array(solid.half_m) / half).astype(np.float32)
        corners = (model.corners_m - middle) * scale @ turn + np.array(solid.center_m, np.float32)
        tint = np.array(solid.material.palette[1], np.float32)
        given = model.materials
        rows = np.zeros((len(given), _WIDTH), np.float32)
        rows[:, :9] = np.tile((given[:, :3] * tint).clip(0, 1), 3)
        rows[:, _PICTURE] = np.where(given[:, 3] >= 0, given[:, 3] + shift, -1)
        rows[:, _TEXELS_U:_SHIFT_U] = 1
        rows[:, _SPECULAR:] = given[:, 4:]
        return corners, model.normals @ turn, model.uv, model.material, rows

    def _picture_of(self, solid: Solid, pictures: list[Images], known: dict[str, int]) -> int:
        name = solid.material.picture
        if not name or self.assets is None:
            return -1
        if name not in known:
            known[name] = len(pictures)
            pictures.append(_pyramid(self.assets.surface(name)))
        return known[name]

    # ------------------------------------------------------------------------------- one view

    def _view(
        self, scene: Scene, built: _Built, cameras: Cameras, view: int
    ) -> dict[str, npt.NDArray[Any]]:
        height, width = cameras.height, cameras.width
        k = cameras.intrinsics[view].numpy()
        pose = cameras.world_from_camera[view].numpy()
        x, y = np.meshgrid(
            (np.arange(width, dtype=np.float32) - k[0, 2]) / k[0, 0],
            (np.arange(height, dtype=np.float32) - k[1, 2]) / k[1, 1],
        )
        own = np.stack([x, y, np.ones_like(x)], 2).reshape(-1, 3)
        direction = np.ascontiguousarray(own @ pose[:3, :3].T, np.float32)
        origin = np.ascontiguousarray(np.broadcast_to(pose[:3, 3], direction.shape), np.float32)
        rng = np.random.default_rng((self.seed, int(1e6 * abs(float(pose[:3, 3].sum()))), view))
        px_m = 1 / float(k[0, 0])

        hits = _cast(built.opaque, origin, direction, _NEAR_M)
        light, surface = self._shaded(scene, built, hits, origin, direction, px_m, rng, width)
        behind_t = hits.t.copy()
        mirror = surface.material[:, _MIRROR] > 0
        if mirror.any():
            chosen = np.flatnonzero(mirror)
            there, away = _reflected(hits, origin, direction, chosen)
            seen = _cast(built.opaque, there, away, 1e-3)
            shown, _ = self._shaded(scene, built, seen, there, away, px_m, rng, 0)
            light[chosen] = 0.9 * shown + 0.02
            behind_t[chosen] = hits.t[chosen] + seen.t
        t, normal, instance = hits.t.copy(), hits.normal.copy(), surface.instance.copy()
        albedo, material = surface.albedo, surface.material
        glass = np.zeros(len(t), bool)
        if built.glass.embree is not None:
            panes = _cast(built.glass, origin, direction, _NEAR_M)
            glass = panes.t < t
            chosen = np.flatnonzero(glass)
            if len(chosen):
                front = _Hits(
                    panes.t[chosen], panes.triangle[chosen], panes.uv[chosen], panes.normal[chosen]
                )
                pane = _surface(built, built.glass, front, direction[chosen], px_m, self._bank)
                eye = -direction[chosen]
                eye /= np.linalg.norm(eye, axis=1, keepdims=True)
                facing = (eye * front.normal).sum(1).clip(0, 1)
                fresnel = (0.04 + 0.9 * (1 - facing) ** 5)[:, None]
                there, away = _reflected(panes, origin, direction, chosen)
                seen = _cast(built.opaque, there, away, 1e-3)
                shown, _ = self._shaded(scene, built, seen, there, away, px_m, rng, 0)
                clear = pane.material[:, _GLASS, None] * (0.4 + 0.6 * pane.albedo)
                through = light[chosen] * clear * (1 - fresnel)
                light[chosen] = through + fresnel * shown + 0.05 * (1 - clear) * pane.albedo
                t[chosen], normal[chosen] = front.t, front.normal
                instance[chosen], albedo[chosen] = pane.instance, pane.albedo
                material[chosen] = pane.material
        hit = np.isfinite(t)
        tone = albedo @ np.array([0.3, 0.4, 0.3], np.float32)
        # Dyes hide in the infrared: patterns keep some of their contrast only.
        mean = material[:, :9] @ np.full(9, 1 / 9, np.float32)
        infrared = material[:, _INFRARED] * (0.65 + 0.35 * tone / (mean + 1e-3))

        def image(values: npt.NDArray[Any], kind: type = np.float32) -> npt.NDArray[Any]:
            values = values.reshape(height, width, -1)
            return np.ascontiguousarray(values.transpose(2, 0, 1)).astype(kind, copy=False)

        return {
            'light': image(light),
            'depth_m': image(np.where(hit, t, np.nan)),
            'behind_m': image(np.where(np.isfinite(behind_t), behind_t, np.nan)),
            'normals': image(normal @ pose[:3, :3] * hit[:, None]),
            'instances': image(np.where(hit, instance, -1), np.int64),
            'albedo': image(albedo * hit[:, None]),
            'specular': image(material[:, _SPECULAR] * hit),
            'shininess': image(material[:, _SHINE] * hit),
            'ir_reflectance': image(np.where(hit, infrared.clip(0, 1), 0)),
            'glass': image(glass, bool),
            'mirror': image(mirror & ~glass, bool),
        }

    def _shaded(
        self,
        scene: Scene,
        built: _Built,
        hits: _Hits,
        origin: Array,
        direction: Array,
        px_m: float,
        rng: np.random.Generator,
        width: int,
    ) -> tuple[Array, _Surface]:
        """Return the light (N, 3) that comes from where rays end, and what is there.

        Args:
            scene: Its lamps and its sky.
            built: Its triangles.
            hits: Where the rays end.
            origin: (N, 3).
            direction: (N, 3).
            px_m: Size of a pixel at one metre.
            rng: Draws directions and points of lamps.
            width: Columns of a whole picture, whose light is smoothed; 0 for scattered rays.
        """
        found = _surface(built, built.opaque, hits, direction, px_m, self._bank)
        missed = hits.triangle < 0
        t = np.where(missed, 1, hits.t).astype(np.float32)
        point = origin + t[:, None] * direction + 2e-4 * (1 + t[:, None]) * hits.normal
        eye = -direction / np.sqrt(np.einsum('ij,ij->i', direction, direction))[:, None]
        arriving, shine = np.zeros_like(point), np.zeros_like(point)
        beam, strength = np.empty_like(point), np.empty(len(point), np.float32)
        for lamp in scene.lamps:
            power = np.array(lamp.rgb, np.float32)
            if power.max() <= 0:
                continue
            jitter = rng.standard_normal(point.shape, np.float32)
            jitter *= np.float32(lamp.radius_m / 3**0.5)
            middle = np.array(lamp.position_m, np.float32)
            _aim(point, found.normal, hits.normal, hits.triangle, middle, jitter, beam, strength)
            # Less than a hundredth of what comes from everywhere is not worth a ray.
            strength[strength * power.max() < 0.01 * max(scene.ambient[0])] = 0
            front = np.flatnonzero(strength > 0)
            blocked = built.opaque.embree.run(
                point[front], beam[front], np.full(len(front), 0.97, np.float32), query='OCCLUDED'
            )
            strength[front[blocked >= 0]] = 0
            _light_up(strength, power, beam, eye, found.normal, found.material, arriving, shine)
        if width:
            arriving = self._smoothed(
                scene, built, hits, point, found, t, arriving, px_m, rng, width
            )
        else:
            arriving += self._gathered(
                scene, built, point, found.normal, np.flatnonzero(~missed), 1, rng
            )
        facing = np.einsum('ij,ij->i', eye, found.normal).clip(0, 1)
        gloss, exponent = found.material[:, _SPECULAR], found.material[:, _SHINE]
        fresnel = gloss + (1 - gloss) * exponent / (exponent + 60) * 0.5 * (1 - facing) ** 5
        mirrored = np.tile(np.array(scene.ambient[0], np.float32), (len(t), 1))
        if width:
            # By material, not by angle: where mirroring begins shall not show.
            chosen = np.flatnonzero((gloss * exponent > 2.5) & ~missed)
            if len(chosen):
                there, away = _reflected(hits, origin, direction, chosen)
                rough = rng.normal(0, 1, away.shape) / np.sqrt(exponent[chosen, None] + 1)
                away = (away + rough * np.linalg.norm(away, axis=1, keepdims=True)).astype(
                    np.float32
                )
                mirrored[chosen] = self._around(
                    scene, built, _cast(built.opaque, there, away, 1e-3)
                )
        weight = fresnel[:, None]
        light = found.albedo * (arriving * (1 - weight) + found.material[:, _EMISSION, None])
        light = light + shine + weight * mirrored
        light[missed] = _sky(scene, direction[missed])
        return light.astype(np.float32), found

    def _smoothed(
        self,
        scene: Scene,
        built: _Built,
        hits: _Hits,
        point: Array,
        found: _Surface,
        t: Array,
        arriving: Array,
        px_m: float,
        rng: np.random.Generator,
        width: int,
    ) -> Array:
        """Return light of lamps and of all around, without the noise of single rays."""
        grid = np.arange(len(t)).reshape(-1, width)
        step = max(2, round(width / _GRID_PX))
        few = grid[::step, ::step].ravel()
        around = np.zeros_like(point)
        chosen = few[hits.triangle[few] >= 0]
        around[chosen] = self._gathered(
            scene,
            built,
            point[chosen],
            found.normal[chosen],
            np.arange(len(chosen)),
            _BOUNCES,
            rng,
        )
        smooth = np.empty_like(point).reshape(-1, width, 3)
        shape = (-1, width, 3)
        _smooth(
            arriving.reshape(shape), around.reshape(shape), hits.normal.reshape(shape),
            point.reshape(shape), t.reshape(-1, width), np.float32(px_m), step, smooth,
        )  # fmt: skip
        return smooth.reshape(-1, 3)

    def _gathered(
        self,
        scene: Scene,
        built: _Built,
        point: Array,
        normal: Array,
        rows: Numbers,
        count: int,
        rng: np.random.Generator,
    ) -> Array:
        """Return light from sky, walls and things around, of a few random directions each."""
        total = np.zeros_like(point)
        point, normal = point[rows], normal[rows]
        for _ in range(count):
            way = rng.standard_normal(point.shape, np.float32)
            way /= np.sqrt(np.einsum('ij,ij->i', way, way))[:, None] + np.float32(1e-9)
            way += np.float32(1.001) * normal  # as likely as the cosine
            way /= np.sqrt(np.einsum('ij,ij->i', way, way))[:, None] + np.float32(1e-9)
            total[rows] += self._around(scene, built, _cast(built.opaque, point, way, 1e-3))
        return np.asarray(total / np.float32(count))

    def _around(self, scene: Scene, built: _Built, hits: _Hits) -> Array:
        """Return roughly what light comes from where rays end: half of it where it is near."""
        row = np.where(hits.triangle < 0, 0, built.opaque.material[hits.triangle])
        material = built.materials[row]
        up = 0.5 + 0.5 * hits.normal[:, 2:]
        above, below = (np.array(scene.ambient[i], np.float32) for i in range(2))
        near = (0.45 + 0.55 * np.minimum(hits.t, 1.0))[:, None]
        # What a lamp above lights is what faces it.
        light = (material[:, 3:6] + 0.3) * (below + (above - below) * up) * near
        # Windows and lamps are lit by rays of their own: what is bright and small makes noise.
        sky = np.minimum(np.array(scene.sky, np.float32), 2 * above.max())
        return np.where(hits.triangle[:, None] < 0, sky, light).astype(np.float32)


class _Surface(NamedTuple):
    """What rays meet.

    Attributes:
        albedo: (N, 3), linear.
        normal: (N, 3), interpolated between corners, against the ray.
        material: (N, 21).
        instance: (N,).
    """

    albedo: Array
    normal: Array
    material: Array
    instance: Numbers


def _row(solid: Solid, picture: int) -> Array:
    m = solid.material
    row = np.zeros(_WIDTH, np.float32)
    row[:9] = np.ravel(m.palette)
    row[_LAYER], row[_PICTURE] = m.layer, picture
    row[_TEXELS_U:_SHIFT_U] = 1
    row[_SHIFT_U:_SPECULAR] = m.offset
    row[_SPECULAR:] = (m.specular, m.shininess, m.ir_reflectance, m.emission, m.glass, m.mirror)
    return row


def _pyramid(picture: Images) -> Images:
    """Return a picture and its mip levels, one after the other: (texels, 3)."""
    levels, current = [], picture.astype(np.float32)
    for _ in range(LEVELS):
        levels.append(current.round().astype(np.uint8).reshape(-1, 3))
        side = len(current) // 2
        current = current.reshape(side, 2, side, 2, 3).mean((1, 3))
    return np.concatenate(levels)


def _geometry(
    corners: Any, normals: Any, uv: Any, material: Numbers, instance: Numbers
) -> _Geometry:
    corners = np.ascontiguousarray(corners, np.float32)
    if not len(corners):
        return _Geometry(None, corners, corners[..., :2], corners[:, 0, 0], material, instance)
    edges = corners[:, 1:] - corners[:, :1]
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    across = np.asarray(uv, np.float32)[:, 1:] - uv[:, :1]
    texture = np.abs(across[:, 0, 0] * across[:, 1, 1] - across[:, 0, 1] * across[:, 1, 0])
    density = np.sqrt(texture / np.maximum(area, 1e-12))
    embree = EmbreeScene()
    TriangleMesh(embree, corners)
    return _Geometry(
        embree,
        np.ascontiguousarray(normals, np.float32),
        np.ascontiguousarray(uv, np.float32),
        density.astype(np.float32),
        np.ascontiguousarray(material, np.int64),
        np.ascontiguousarray(instance, np.int64),
    )


def _cast(geometry: _Geometry, origin: Array, direction: Array, near: float) -> _Hits:
    """Return where rays end; they start a little ahead of their origin."""
    start = np.ascontiguousarray(origin + near * direction, np.float32)
    found = geometry.embree.run(
        start, np.ascontiguousarray(direction, np.float32), query='INTERSECT', output=True
    )
    count = len(start)
    hits = _Hits(
        np.empty(count, np.float32),
        np.empty(count, np.int64),
        np.empty((count, 2), np.float32),
        np.empty((count, 3), np.float32),
    )
    _face(
        found['primID'], found['tfar'], found['u'], found['v'], found['Ng'], direction,
        np.float32(near), *hits,
    )  # fmt: skip
    return hits


@njit(cache=True, error_model='numpy')  # type: ignore[untyped-decorator]
def _face(
    found: Any, far: Any, u: Any, v: Any, across: Any, direction: Any, near: Any, t: Any,
    triangle: Any, uv: Any, normal: Any,
) -> None:  # fmt: skip
    """Fill what `_Hits` has, of what Embree says of rays that started at `near`."""
    for i in range(len(found)):
        missed = found[i] < 0
        triangle[i] = found[i]
        t[i] = np.float32(np.inf) if missed else far[i] + near
        uv[i, 0], uv[i, 1] = u[i], v[i]
        x, y, z = across[i, 0], across[i, 1], across[i, 2]
        size = max(np.sqrt(x * x + y * y + z * z), np.float32(1e-20))
        if x * direction[i, 0] + y * direction[i, 1] + z * direction[i, 2] > 0:
            size = -size
        scale = np.float32(0) if missed else 1 / size
        normal[i, 0], normal[i, 1], normal[i, 2] = x * scale, y * scale, z * scale


def _reflected(
    hits: _Hits, origin: Array, direction: Array, chosen: Numbers
) -> tuple[Array, Array]:
    """Return origin and direction of mirrored rays."""
    d, n = direction[chosen], hits.normal[chosen]
    point = origin[chosen] + hits.t[chosen, None] * d + 1e-4 * n
    return point, d - 2 * np.einsum('ij,ij->i', d, n)[:, None] * n


def _sky(scene: Scene, direction: Array) -> Array:
    """Return the sky: paler at the horizon, dark below it."""
    up = direction[:, 2] / np.linalg.norm(direction, axis=1)
    zenith = np.array(scene.sky, np.float32)
    horizon = zenith.mean() * np.array([1.0, 1.0, 0.95], np.float32)
    share = np.sqrt(up.clip(0, 1))[:, None]
    light = horizon + (zenith - horizon) * share
    return np.asarray(np.where(up[:, None] < 0, 0.25 * horizon, light), np.float32)


def _surface(
    built: _Built, geometry: _Geometry, hits: _Hits, direction: Array, px_m: float, bank: Images
) -> _Surface:
    triangle = np.where(hits.triangle < 0, 0, hits.triangle)
    number = geometry.material[triangle]
    material = built.materials[number]
    albedo, normal = np.empty((2, len(triangle), 3), np.float32)
    _look_up(
        hits.triangle, hits.uv, hits.t, hits.normal, direction, geometry.normals, geometry.uv,
        geometry.density, number, built.materials, bank, built.pictures, _LEVEL_STARTS, px_m,
        _LINEAR, albedo, normal,
    )  # fmt: skip
    return _Surface(albedo, normal, material, geometry.instance[triangle])


_LINEAR = (np.arange(256, dtype=np.float32) / 255) ** np.float32(2.2)


@njit(cache=True, error_model='numpy')  # type: ignore[untyped-decorator]
def _look_up(
    triangle: Any, barycentric: Any, t: Any, flat: Any, direction: Any, normals: Any, uv: Any,
    density: Any, number: Any, materials: Any, bank: Any, pictures: Any, starts: Any, px_m: float,
    linear: Any, albedo: Any, normal: Any,
) -> None:  # fmt: skip
    """Find albedo and smooth normal of where rays end."""
    layer_size = starts[-1]
    for i in range(len(triangle)):
        k = triangle[i]
        if k < 0:
            albedo[i] = 0
            normal[i] = 0
            continue
        v, w = barycentric[i, 0], barycentric[i, 1]
        u = 1 - v - w
        dx, dy, dz = direction[i, 0], direction[i, 1], direction[i, 2]
        length = np.sqrt(dx * dx + dy * dy + dz * dz)
        n0 = u * normals[k, 0, 0] + v * normals[k, 1, 0] + w * normals[k, 2, 0]
        n1 = u * normals[k, 0, 1] + v * normals[k, 1, 1] + w * normals[k, 2, 1]
        n2 = u * normals[k, 0, 2] + v * normals[k, 1, 2] + w * normals[k, 2, 2]
        size = np.sqrt(n0 * n0 + n1 * n1 + n2 * n2) + np.float32(1e-12)
        # Models are seen from both sides of their faces: the side is that of the triangle's.
        if n0 * flat[i, 0] + n1 * flat[i, 1] + n2 * flat[i, 2] < 0:
            size = -size
        normal[i, 0], normal[i, 1], normal[i, 2] = n0 / size, n1 / size, n2 / size
        facing = abs(flat[i, 0] * dx + flat[i, 1] * dy + flat[i, 2] * dz) / length
        row = number[i]
        x = u * uv[k, 0, 0] + v * uv[k, 1, 0] + w * uv[k, 2, 0] + materials[row, 13]
        y = u * uv[k, 0, 1] + v * uv[k, 1, 1] + w * uv[k, 2, 1] + materials[row, 14]
        texels = px_m * t[i] * length / (facing + np.float32(0.15)) * density[k] * 256
        level = 0
        while texels > 1.5 and level < len(starts) - 2:
            texels *= 0.5
            level += 1
        side = 256 >> level
        picture = int(materials[row, 10])
        fx = (x - np.floor(x)) * side - 0.5
        # Pictures of models start at their lower left corner.
        fy = (
            ((1 - y) - np.floor(1 - y)) * side - 0.5
            if picture >= 0
            else ((y - np.floor(y)) * side - 0.5)
        )
        x0, y0 = int(np.floor(fx)), int(np.floor(fy))
        fx, fy = fx - x0, fy - y0
        left, top = x0 & (side - 1), y0 & (side - 1)
        right, bottom = (left + 1) & (side - 1), (top + 1) & (side - 1)
        a, b = starts[level] + top * side + left, starts[level] + top * side + right
        c, d = starts[level] + bottom * side + left, starts[level] + bottom * side + right
        if picture >= 0:
            for j in range(3):
                upper = linear[pictures[picture, a, j]] * (1 - fx)
                upper += linear[pictures[picture, b, j]] * fx
                lower = linear[pictures[picture, c, j]] * (1 - fx)
                lower += linear[pictures[picture, d, j]] * fx
                albedo[i, j] = (upper * (1 - fy) + lower * fy) * materials[row, 3 + j]
        else:
            base = int(materials[row, 9]) * layer_size
            upper = bank[base + a] * (1 - fx) + bank[base + b] * fx
            lower = bank[base + c] * (1 - fx) + bank[base + d] * fx
            share = (upper * (1 - fy) + lower * fy) / 255
            early, late = min(2 * share, 1.0), max(2 * share - 1, 0.0)
            for j in range(3):
                one, two, three = materials[row, j], materials[row, 3 + j], materials[row, 6 + j]
                albedo[i, j] = one + (two - one) * early + (three - two) * late


@njit(cache=True, error_model='numpy')  # type: ignore[untyped-decorator]
def _aim(
    point: Any, normal: Any, flat: Any, triangle: Any, lamp: Any, jitter: Any, beam: Any,
    strength: Any,
) -> None:  # fmt: skip
    """Find the way to points of a lamp, and how much of its light would arrive; 0 from behind."""
    for i in range(len(point)):
        strength[i] = 0
        x = lamp[0] + jitter[i, 0] - point[i, 0]
        y = lamp[1] + jitter[i, 1] - point[i, 1]
        z = lamp[2] + jitter[i, 2] - point[i, 2]
        beam[i, 0], beam[i, 1], beam[i, 2] = x, y, z
        cosine = x * normal[i, 0] + y * normal[i, 1] + z * normal[i, 2]
        if triangle[i] < 0 or cosine <= 0:
            continue
        if x * flat[i, 0] + y * flat[i, 1] + z * flat[i, 2] <= 0:
            continue
        # A lamp has a size: next to it, light grows no further.
        square = max(x * x + y * y + z * z, np.float32(0.1))
        strength[i] = cosine / (square * np.sqrt(square))


@njit(cache=True, error_model='numpy')  # type: ignore[untyped-decorator]
def _light_up(
    strength: Any, power: Any, beam: Any, eye: Any, normal: Any, material: Any, arriving: Any,
    shine: Any,
) -> None:  # fmt: skip
    """Add the light of a lamp, and its highlights (Blinn and Phong)."""
    for i in range(len(strength)):
        lit = strength[i]
        if lit <= 0:
            continue
        x, y, z = beam[i, 0], beam[i, 1], beam[i, 2]
        length = np.sqrt(x * x + y * y + z * z)
        x = eye[i, 0] + x / length
        y = eye[i, 1] + y / length
        z = eye[i, 2] + z / length
        glint = x * normal[i, 0] + y * normal[i, 1] + z * normal[i, 2]
        glint = max(glint / (np.sqrt(x * x + y * y + z * z) + 1e-6), 1e-4)
        exponent = material[i, 16]
        spot = glint**exponent * (exponent + 8) * 0.04 * material[i, 15] * lit
        for j in range(3):
            arriving[i, j] += lit * power[j]
            shine[i, j] += spot * power[j]


@njit(cache=True, error_model='numpy')  # type: ignore[untyped-decorator]
def _smooth(
    lamps: Any, around: Any, normal: Any, point: Any, t: Any, px_m: Any, step: int, smooth: Any
) -> None:
    """Average light over neighbours on the same plane.

    Args:
        lamps: (H, W, 3), averaged over 5x5.
        around: (H, W, 3), known at pixels of a grid; averaged over 5x5 of them.
        normal: (H, W, 3).
        point: (H, W, 3).
        t: (H, W), depth.
        px_m: Size of a pixel at one metre.
        step: Pixels between those of the grid.
        smooth: (H, W, 3), written: the sum of both.
    """
    height, width = t.shape
    for row in range(height):
        for column in range(width):
            n0, n1, n2 = normal[row, column]
            x, y, z = point[row, column]
            reach = 1.5 * step * px_m * t[row, column] + np.float32(1e-3)
            for pass_ in range(2):
                stride = 1 if pass_ == 0 else step
                half = 2 * stride
                light = lamps if pass_ == 0 else around
                r = g = b = count = np.float32(0)
                top, left = max(row - half, 0), max(column - half, 0)
                top, left = top + (-top) % stride, left + (-left) % stride
                for i in range(top, min(row + half + 1, height), stride):
                    for j in range(left, min(column + half + 1, width), stride):
                        alike = n0 * normal[i, j, 0] + n1 * normal[i, j, 1] + n2 * normal[i, j, 2]
                        off = (
                            n0 * (point[i, j, 0] - x)
                            + n1 * (point[i, j, 1] - y)
                            + n2 * (point[i, j, 2] - z)
                        )
                        if alike > np.float32(0.9) and abs(off) < reach:
                            r += light[i, j, 0]
                            g += light[i, j, 1]
                            b += light[i, j, 2]
                            count += 1
                if count == 0 and pass_ == 1:  # thinner than the grid: what is nearest
                    i, j = row - row % step, column - column % step
                    r, g, b, count = light[i, j, 0], light[i, j, 1], light[i, j, 2], np.float32(1)
                share = 1 / max(count, np.float32(1))
                if pass_ == 0:
                    smooth[row, column, 0] = r * share
                    smooth[row, column, 1] = g * share
                    smooth[row, column, 2] = b * share
                else:
                    smooth[row, column, 0] += r * share
                    smooth[row, column, 1] += g * share
                    smooth[row, column, 2] += b * share
