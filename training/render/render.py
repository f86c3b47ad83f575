"""From solids and cameras to pictures: colour, depth, normals, materials, what is behind glass.

Visibility first (`raycast`), then shading of what is visible. Depth is the ray parameter itself,
exact to float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
import torch.nn.functional as nnf

from .cameras import Cameras
from .raycast import (
    TILE_PX,
    Hits,
    Kernels,
    Rays,
    bounds,
    cast,
    from_tiles,
    superquadric_norm,
    wave_height,
    whole_tiles,
)
from .solids import Kind, World
from .textures import SIDE, TextureBank, sample, texture_bank

_NEAR_M = 0.05
_HOLLOW = float(Kind.HOLLOW)
_MATERIAL = 32
"""Row of a table where the material starts."""


@dataclass
class Rendering:
    """What perfect cameras see of a world.

    Attributes:
        rgb: (V, 3, H, W), 0 to 1, gamma encoded.
        depth_m: (V, 1, H, W), exact depth along the optical axis of the first surface, glass and
            mirrors included; NaN where nothing is.
        behind_m: (V, 1, H, W): where `glass` is, the depth of what is seen through it; where
            `mirror` is, the depth of what is mirrored, as a sensor is fooled: the path's own;
            elsewhere `depth_m`. NaN where nothing is.
        normals: (V, 3, H, W), unit, camera frame, towards the camera; 0 where nothing is.
        instances: (V, 1, H, W) int64, number of the object in its scene, -1 where nothing is.
        albedo: (V, 3, H, W), linear.
        specular: (V, 1, H, W), share of light in the highlight, 0 to 1.
        shininess: (V, 1, H, W), Blinn-Phong exponent.
        ir_reflectance: (V, 1, H, W), share of infrared light scattered back; 0 where nothing is.
        glass: (V, 1, H, W), bool.
        mirror: (V, 1, H, W), bool.
        cameras: The cameras: intrinsics and poses.
    """

    rgb: Tensor
    depth_m: Tensor
    behind_m: Tensor
    normals: Tensor
    instances: Tensor
    albedo: Tensor
    specular: Tensor
    shininess: Tensor
    ir_reflectance: Tensor
    glass: Tensor
    mirror: Tensor
    cameras: Cameras


class _Surfaces(NamedTuple):
    """Visible surface points of T tiles of S pixels.

    Attributes:
        normal: (3, T, S), world frame.
        u: (T, S), first texture coordinate, metres.
        v: (T, S), second.
    """

    normal: Tensor
    u: Tensor
    v: Tensor


def camera_rays(cameras: Cameras) -> Rays:
    """Return one ray a pixel; t is the depth."""
    height, width = whole_tiles((cameras.height, cameras.width))
    k, device = cameras.intrinsics, cameras.intrinsics.device
    rows, columns = height // TILE_PX, width // TILE_PX
    x = (torch.arange(width, device=device) - k[:, 0, 2:]) / k[:, 0, :1]
    y = (torch.arange(height, device=device) - k[:, 1, 2:]) / k[:, 1, 1:2]
    x = x.reshape(-1, 1, columns, 1, TILE_PX)
    y = y.reshape(-1, rows, 1, TILE_PX, 1)
    turn = cameras.world_from_camera[:, :3, :3]
    parts = [
        (turn[:, i, 0, None, None, None, None] * x)
        + (turn[:, i, 1, None, None, None, None] * y + turn[:, i, 2, None, None, None, None])
        for i in range(3)
    ]
    direction = torch.stack(parts, 3).flatten(4)  # (V, R, C, 3, 256)
    low, high = bounds(direction)
    start = torch.full_like(direction[..., 0, :], _NEAR_M)
    return Rays(cameras.scene, cameras.world_from_camera[:, :3, 3], direction, low, high, start)


# -------------------------------------------------------------------------------- visible surfaces


def _table(world: World) -> Tensor:
    """Return all that shading needs of each solid, one column each: (52, N)."""
    parts = (
        world.turn.flatten(1), world.center_m, world.half_m, world.quadric, world.hole_center_m,
        world.hole_half_m, world.hole_quadric, world.kind[:, None].float(), world.material,
    )  # fmt: skip
    return torch.cat(parts, 1).T.contiguous()


def _surfaces(
    table: Tensor, solid: Tensor, t: Tensor, origin_m: Tensor, direction: Tensor
) -> _Surfaces:
    """Find normals and texture coordinates of boxes, quadrics and their holes.

    Args:
        table: (52, N).
        solid: (T, S) int64, not negative.
        t: (T, S), finite.
        origin_m: (T, 3).
        direction: (T, 3, S).
    """
    p = table[:_MATERIAL, solid]
    away = [origin_m[:, i, None] + t * direction[:, i] - p[9 + i] for i in range(3)]
    own = [p[3 * i] * away[0] + p[3 * i + 1] * away[1] + p[3 * i + 2] * away[2] for i in range(3)]

    def beyond(q: list[Tensor], half: Tensor, k: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return how far outside the box and the quadric a point is, and the gradient."""
        x, y, z = q
        flat = torch.maximum(
            torch.maximum(x.abs() - half[0], y.abs() - half[1]), z.abs() - half[2]
        )
        gradient = [k[0] * x, k[1] * y, k[2] * z + 0.5 * k[3]]
        value = k[0] * x * x + k[1] * y * y + (k[2] * z + k[3]) * z + k[4]
        slope = (gradient[0] ** 2 + gradient[1] ** 2 + gradient[2] ** 2).sqrt()
        return flat, value / (2 * slope + 1e-12), gradient

    hole = [own[i] - p[20 + i] for i in range(3)]
    flat, curved, gradient = beyond(own, p[12:15], p[15:20])
    hole_flat, hole_curved, hole_gradient = beyond(hole, p[23:26], p[26:31])
    in_hole = (torch.maximum(hole_flat, hole_curved).abs() < torch.maximum(flat, curved).abs()) & (
        p[31] == _HOLLOW
    )
    sign = torch.where(in_hole, -1.0, 1.0)
    q = [torch.where(in_hole, hole[i], own[i]) for i in range(3)]
    half = [torch.where(in_hole, p[23 + i], p[12 + i]) for i in range(3)]
    round_ = torch.where(in_hole, hole_curved > hole_flat, curved > flat)
    curve = [torch.where(in_hole, hole_gradient[i], gradient[i]) for i in range(3)]
    gap = [q[i].abs() - half[i] for i in range(3)]
    x_face = (gap[0] >= gap[1]) & (gap[0] >= gap[2])
    z_face = ~x_face & (gap[2] >= gap[1])
    y_face = ~(x_face | z_face)
    faces = [x_face, y_face, z_face]
    n = [
        sign
        * torch.where(
            round_, curve[i], torch.where(faces[i], torch.copysign(q[i] * 0 + 1, q[i]), 0.0)
        )
        for i in range(3)
    ]
    scale = sign * 0 + (n[0] * n[0] + n[1] * n[1] + n[2] * n[2]).clamp_min(1e-20).rsqrt()
    normal = torch.stack(
        [(p[i] * n[0] + p[3 + i] * n[1] + p[6 + i] * n[2]) * scale for i in range(3)]
    )
    around = torch.atan2(own[1], own[0]) * p[12]
    u = torch.where(round_, around, torch.where(x_face, own[1], own[0]))
    v = torch.where(z_face & ~round_, own[1], own[2])
    return _Surfaces(normal, u, v)


def _polytope_normal(own: Tensor, half_m: Tensor, form: Tensor) -> Tensor:
    gap = own.abs() - half_m
    planes = form.reshape(-1, 6, 4)
    reach = (planes[..., :3] * own[:, None]).sum(-1) - planes[..., 3]
    reach, which = (reach / planes[..., :3].norm(dim=-1)).max(1)
    side = planes[torch.arange(len(own), device=own.device), which, :3]
    return torch.where((reach > gap.amax(1))[:, None], side, _face_normal(own, half_m))


def _superquadric_normal(own: Tensor, half_m: Tensor, form: Tensor) -> Tensor:
    _, gradient = superquadric_norm((own / half_m)[..., None], form[:, :1], form[:, 1:2])
    return gradient[..., 0] / half_m


def _wave_normal(own: Tensor, half_m: Tensor, form: Tensor) -> Tensor:
    height, by_x, by_y = wave_height(own[:, :1], own[:, 1:2], form[..., None])
    slope = torch.cat((-by_x, -by_y, torch.ones_like(by_x)), 1)
    on_waves = (own[:, 2:] - height).abs() < 3e-3
    return torch.where(on_waves, slope, _face_normal(own, half_m))


def _face_normal(own: Tensor, half_m: Tensor) -> Tensor:
    return nnf.one_hot((own.abs() - half_m).argmax(1), 3) * torch.sign(own)


_OTHER_NORMALS = {
    Kind.POLYTOPE: _polytope_normal,
    Kind.SUPERQUADRIC: _superquadric_normal,
    Kind.WAVES: _wave_normal,
}


def _patch_other_kinds(
    world: World,
    solid: Tensor,
    t: Tensor,
    origin_m: Tensor,
    direction: Tensor,
    found: _Surfaces,
) -> None:
    """Correct, in place, the normals and textures of solids that are not boxes nor quadrics."""
    kind = world.kind[solid]
    for which, normal_of in _OTHER_NORMALS.items():
        tile, ray = (kind == which).nonzero(as_tuple=True)
        if not len(tile):
            continue
        row = solid[tile, ray]
        away = origin_m[tile] + t[tile, ray, None] * direction[tile, :, ray] - world.center_m[row]
        turn = world.turn[row]
        own = (turn * away[:, None]).sum(-1)  # (n, 3)
        normal = normal_of(own, world.half_m[row], world.form[row])
        level = normal[:, 2].abs() > 0.7 * normal.norm(dim=1)
        sideways = normal[:, 0].abs() > normal[:, 1].abs()
        normal = nnf.normalize((turn * normal[..., None]).sum(1), dim=1)
        found.normal[:, tile, ray] = normal.T
        found.u[tile, ray] = torch.where(~level & sideways, own[:, 1], own[:, 0])
        found.v[tile, ray] = torch.where(level, own[:, 1], own[:, 2])


def _shade(
    bank: TextureBank,
    table: Tensor,
    solid: Tensor,
    found: _Surfaces,
    t: Tensor,
    origin_m: Tensor,
    direction: Tensor,
    px_m: Tensor,
    lamp_position_m: Tensor,
    lamp_rgb: Tensor,
    ambient: Tensor,
    lit: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Light surfaces: texture, Lambert and Blinn-Phong.

    Args:
        bank: The textures.
        table: (52, N).
        solid: (T, S) int64, not negative.
        found: What is visible.
        t: (T, S).
        origin_m: (T, 3).
        direction: (T, 3, S).
        px_m: (T, 1), size of a pixel at one metre.
        lamp_position_m: (T, 3, 3), lamp, axis.
        lamp_rgb: (T, 3, 3).
        ambient: (T, 2, 3).
        lit: (T, S), share of the first lamp's light that arrives.

    Returns:
        Light, (3, T, S), linear; albedo, (3, T, S); infrared reflectance, (T, S).
    """
    m, normal = table[_MATERIAL:, solid], found.normal
    eye = [-direction[:, i] for i in range(3)]
    length = (eye[0] ** 2 + eye[1] ** 2 + eye[2] ** 2).rsqrt()
    eye = [e * length for e in eye]
    facing = (normal[0] * eye[0] + normal[1] * eye[1] + normal[2] * eye[2]).clamp(0, 1)

    texels = px_m * t / (facing + 0.15) * (SIDE / torch.minimum(m[10], m[11]))
    share = sample(bank, m[9].long(), found.u / m[10] + m[12], found.v / m[11] + m[13], texels)
    early = (2 * share).clamp_max(1)
    late = (2 * share - 1).clamp_min(0)
    albedo = [m[i] + (m[3 + i] - m[i]) * early + (m[6 + i] - m[3 + i]) * late for i in range(3)]

    up = 0.5 + 0.5 * normal[2]
    weight = 0.75 + 0.25 * facing  # corners that one looks along are a little darker
    light = [
        (ambient[:, 1, i, None] + (ambient[:, 0, i, None] - ambient[:, 1, i, None]) * up) * weight
        for i in range(3)
    ]
    shine = [0.0 * t, 0.0 * t, 0.0 * t]
    point = [origin_m[:, i, None] + t * direction[:, i] for i in range(3)]
    for lamp in range(lamp_rgb.shape[1]):
        beam = [lamp_position_m[:, lamp, i, None] - point[i] for i in range(3)]
        square = beam[0] ** 2 + beam[1] ** 2 + beam[2] ** 2 + 1e-6
        inverse = square.rsqrt()
        cosine = (normal[0] * beam[0] + normal[1] * beam[1] + normal[2] * beam[2]) * inverse
        power = lit / square if lamp == 0 else 1 / square
        half = [eye[i] + beam[i] * inverse for i in range(3)]
        size = (half[0] ** 2 + half[1] ** 2 + half[2] ** 2 + 1e-12).rsqrt()
        glint = (normal[0] * half[0] + normal[1] * half[1] + normal[2] * half[2]) * size
        # 2 ** (n * log2(x)): highlights that keep their energy as they get smaller.
        spot = torch.exp2(m[15] * torch.log2(glint.clamp_min(1e-4))) * (m[15] + 8) * 0.04
        diffuse = power * cosine.clamp_min(0)
        spot = spot * m[14] * diffuse
        for i in range(3):
            light[i] = light[i] + lamp_rgb[:, lamp, i, None] * diffuse
            shine[i] = shine[i] + lamp_rgb[:, lamp, i, None] * spot
    # Smooth things mirror what surrounds them: bright above, dark below.
    sky_ward = 2 * facing * normal[2] - eye[2]
    fresnel = m[14] + (1 - m[14]) * (m[15] / (m[15] + 60)) * 0.5 * (1 - facing) ** 5
    around = (0.55 + 0.45 * sky_ward).clamp_min(0.1)
    rgb = [
        albedo[i] * (light[i] * (1 - fresnel) + m[17])
        + shine[i]
        + fresnel * ambient[:, 0, i, None] * around
        for i in range(3)
    ]
    tone = 0.3 * albedo[0] + 0.4 * albedo[1] + 0.3 * albedo[2]
    # Dyes hide in the infrared: patterns keep some of their contrast only.
    mean = sum(m[3 * j + i] for j in range(3) for i in range(3)) / 9
    infrared = (m[16] * (0.65 + 0.35 * tone / (mean + 1e-3))).clamp(0, 1)
    return torch.stack(rgb), torch.stack(albedo), infrared


# ------------------------------------------------------------------------------- rendering


class Renderer:
    """Renders worlds, on whatever device they are.

    Args:
        seed: Seed of the texture bank.
        compiled: Let torch.compile fuse intersections and shading; the first calls then take
            a minute or two, and later ones a fraction of what they took.
        shadows: Cast the first lamp's shadows, at half resolution.
    """

    def __init__(self, seed: int = 0, *, compiled: bool = False, shadows: bool = True) -> None:
        self.seed = seed
        self.shadows = shadows
        self._kernels: Kernels | None = None
        self._surfaces, self._shade, self._to_camera = _surfaces, _shade, _to_camera
        self._develop = develop
        if compiled:
            # A graph for each kind of solid, for single pairs, for whole and half resolution.
            torch._dynamo.config.recompile_limit = 64
            fuse = partial(torch.compile, dynamic=True)
            self._kernels = Kernels(*map(fuse, Kernels()))
            self._surfaces, self._shade = fuse(_surfaces), fuse(_shade)
            self._to_camera, self._develop = fuse(_to_camera), fuse(develop)

    def _cast(self, world: World, rays: Rays, chosen: Tensor) -> Hits:
        return cast(world, rays, chosen, self._kernels)

    @torch.no_grad()
    def depth(self, world: World, cameras: Cameras) -> tuple[Tensor, Tensor]:
        """Return only depth, (V, 1, H, W), NaN where nothing is, and the row of the solid.

        For a second view (a projector, the other camera of a stereo pair): glass is left out,
        since light passes it.
        """
        hits = self._cast(world, camera_rays(cameras), world.column('glass') <= 0)
        size = (cameras.height, cameras.width)
        depth_m = from_tiles(hits.t[..., None, :], *size)
        solid = from_tiles(hits.solid[..., None, :], *size)
        return torch.where(solid < 0, torch.nan, depth_m), solid

    @torch.no_grad()
    def __call__(self, world: World, cameras: Cameras) -> Rendering:
        """Render every camera's view of its scene."""
        rays = camera_rays(cameras)
        views, rows, columns, _, size = rays.direction.shape
        is_glass, is_mirror = world.column('glass') > 0, world.column('mirror') > 0
        hits = self._cast(world, rays, ~is_glass)
        px_m = (1 / cameras.intrinsics[:, 0, 0]).repeat_interleave(rows * columns)[:, None]
        table = _table(world)

        lit = self._lamp_light(world, rays, hits.t) if self.shadows else None
        rgb, albedo, infrared, normal = self._light(world, table, rays, hits, px_m, lit)
        behind = hits.t.flatten(0, 2).clone()
        t, solid = hits.t.flatten(0, 2), hits.solid.flatten(0, 2)

        mirror = is_mirror[solid.clamp_min(0)] & (solid >= 0)
        if bool(is_mirror.any()):
            self._reflect(world, table, rays, hits, mirror, px_m, rgb, behind)

        glass = torch.zeros_like(mirror)
        if bool(is_glass.any()):
            panes = self._cast(world, rays, is_glass)
            pane_t, pane = panes.t.flatten(0, 2), panes.solid.flatten(0, 2)
            glass = pane_t < t
            tiles = glass.any(1).nonzero()[:, 0]
            if len(tiles):
                chosen = glass[tiles]
                front, color, pane_albedo, pane_ir = self._glass(
                    world, table, rays, pane_t, pane, tiles, px_m, rgb
                )
                rgb[:, tiles] = torch.where(chosen, color, rgb[:, tiles])
                albedo[:, tiles] = torch.where(chosen, pane_albedo, albedo[:, tiles])
                normal[:, tiles] = torch.where(chosen, front, normal[:, tiles])
                infrared[tiles] = torch.where(chosen, pane_ir, infrared[tiles])
                t = torch.where(glass, pane_t, t)
                solid = torch.where(glass, pane, solid)

        hit, row = solid >= 0, solid.clamp_min(0)
        turn = cameras.world_from_camera[:, :3, :3].repeat_interleave(rows * columns, 0)
        normal = self._to_camera(turn, normal, hit)

        def image(tiles: Tensor) -> Tensor:  # (..., T, S) -> (V, C, H, W)
            tiles = tiles.reshape(-1, views, rows, columns, size).permute(1, 2, 3, 0, 4)
            return from_tiles(tiles, cameras.height, cameras.width)

        nothing = torch.nan
        return Rendering(
            self._develop(image(rgb), cameras.exposure, cameras.white_balance, cameras.vignetting),
            image(torch.where(hit, t, nothing)),
            image(torch.where(torch.isfinite(behind), behind, nothing)),
            image(normal),
            image(torch.where(hit, world.instance[row], -1)),
            image(albedo),
            image(world.column('specular')[row] * hit),
            image(world.column('shininess')[row] * hit),
            image(torch.where(hit, infrared, 0.0)),
            image(glass),
            image(mirror & ~glass),
            cameras,
        )

    def _light(
        self,
        world: World,
        table: Tensor,
        rays: Rays,
        hits: Hits,
        px_m: Tensor,
        lit: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Shade all hits; where nothing is, the sky.

        Returns:
            Light, albedo, infrared reflectance and normals in the world: (3 or none, T, S).
        """
        rows, columns = rays.direction.shape[1:3]
        scene = rays.scene.repeat_interleave(rows * columns)
        origin = rays.origin_m.repeat_interleave(rows * columns, 0)
        return self._light_tiles(
            world,
            table,
            scene,
            origin,
            rays.direction.flatten(0, 2),
            hits.t.flatten(0, 2),
            hits.solid.flatten(0, 2),
            px_m,
            lit,
        )

    def _light_tiles(
        self,
        world: World,
        table: Tensor,
        scene: Tensor,
        origin: Tensor,
        direction: Tensor,
        t: Tensor,
        solid: Tensor,
        px_m: Tensor,
        lit: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        missed = solid < 0
        row, reach = solid.clamp_min(0), torch.where(missed, 1.0, t)
        found = self._surfaces(table, row, reach, origin, direction)
        _patch_other_kinds(world, row, reach, origin, direction, found)
        rgb, albedo, infrared = self._shade(
            texture_bank(self.seed, str(t.device)),
            table,
            row,
            found,
            reach,
            origin,
            direction,
            px_m,
            world.lamp_position_m[scene],
            world.lamp_rgb[scene],
            world.ambient[scene],
            torch.ones_like(t) if lit is None else lit,
        )
        sky = world.sky[scene].T[..., None]
        return torch.where(missed, sky, rgb), albedo * ~missed, infrared, found.normal

    def _glass(
        self,
        world: World,
        table: Tensor,
        rays: Rays,
        t: Tensor,
        solid: Tensor,
        tiles: Tensor,
        px_m: Tensor,
        rgb: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Lay glass over what is behind it: tinted, and mirroring more the flatter one looks."""
        _, rows, columns, _, _ = rays.direction.shape
        scene = rays.scene.repeat_interleave(rows * columns)[tiles]
        origin = rays.origin_m.repeat_interleave(rows * columns, 0)[tiles]
        direction = rays.direction.flatten(0, 2)[tiles]
        own, albedo, infrared, normal = self._light_tiles(
            world, table, scene, origin, direction, t[tiles], solid[tiles], px_m[tiles], None
        )
        clear = world.column('glass')[solid[tiles].clamp_min(0)]
        eye = nnf.normalize(-direction, dim=1).transpose(0, 1)
        facing = (eye * normal).sum(0).clamp(0, 1)
        fresnel = 0.04 + 0.9 * (1 - facing) ** 5
        through = rgb[:, tiles] * (clear * (1 - fresnel)) * (0.4 + 0.6 * albedo).clamp_max(1)
        return normal, through + own * (1 - clear * (1 - fresnel)), albedo, infrared

    def _reflect(
        self,
        world: World,
        table: Tensor,
        rays: Rays,
        hits: Hits,
        mirror: Tensor,
        px_m: Tensor,
        rgb: Tensor,
        behind: Tensor,
    ) -> None:
        """Fill, in place, colours and depths of what flat mirrors show.

        A view has one mirror at most: the front (own -y) of the first mirror of its scene.
        """
        slots = world.slots[rays.scene]
        silvered = (world.column('mirror')[slots.clamp_min(0)] > 0) & (slots >= 0)
        row = slots.gather(1, silvered.int().argmax(1, keepdim=True))[:, 0]
        normal = -world.turn[row, 1]  # (V, 3)
        point = world.center_m[row] + normal * world.half_m[row, 1:2]
        turn = torch.eye(3, device=normal.device) - 2 * normal[:, :, None] * normal[:, None]
        away = ((rays.origin_m - point) * normal).sum(1, keepdim=True)
        d = rays.direction
        along = (d * normal[:, None, None, :, None]).sum(3, keepdim=True)
        direction = d - 2 * along * normal[:, None, None, :, None]
        shown = mirror.reshape(hits.t.shape)
        # Only the silvered front is flat and known.
        shown = shown & (hits.solid == row[:, None, None, None]) & (along[..., 0, :] < 0)
        low, high = bounds(direction)
        virtual = Rays(
            rays.scene,
            (turn @ (rays.origin_m - point)[..., None])[..., 0] + point,
            direction,
            low,
            high,
            torch.where(shown & (away > 0)[..., None, None], hits.t + 1e-3, torch.inf),
        )
        seen = self._cast(world, virtual, world.column('glass') <= 0)
        tiles = shown.flatten(0, 2).any(1).nonzero()[:, 0]
        if not len(tiles):
            return
        per_view = shown.shape[1] * shown.shape[2]
        scene = rays.scene.repeat_interleave(per_view)[tiles]
        origin = virtual.origin_m.repeat_interleave(per_view, 0)[tiles]
        color, _, _, _ = self._light_tiles(
            world,
            table,
            scene,
            origin,
            direction.flatten(0, 2)[tiles],
            seen.t.flatten(0, 2)[tiles],
            seen.solid.flatten(0, 2)[tiles],
            px_m[tiles],
            None,
        )
        chosen = shown.flatten(0, 2)[tiles]
        rgb[:, tiles] = torch.where(chosen, 0.9 * color + 0.02, rgb[:, tiles])
        behind[tiles] = torch.where(chosen, seen.t.flatten(0, 2)[tiles], behind[tiles])

    def _lamp_light(self, world: World, rays: Rays, t: Tensor) -> Tensor:
        """Return the share of the first lamp's light that arrives, (T, S), found at half size."""
        views, rows, columns, _, _ = rays.direction.shape
        lamp = world.lamp_position_m[rays.scene, 0]  # (V, 3)
        side = TILE_PX // 2

        def halve(x: Tensor) -> Tensor:
            grid = x.reshape(*x.shape[:-1], TILE_PX, TILE_PX)
            return grid[..., ::2, ::2].flatten(-2)

        reach, direction = halve(t), halve(rays.direction)
        valid = torch.isfinite(reach)
        point = rays.origin_m[:, None, None, :, None] + (
            torch.where(valid, reach, 0.0)[..., None, :] * direction
        )
        beam = point - lamp[:, None, None, :, None]
        low, high = bounds(beam, valid)
        start = torch.where(valid, 1e-3, torch.inf)
        opaque = (world.column('glass') <= 0) & (world.column('emission') <= 0)
        # A beam reaches its point at t = 1; what is hit a little before may be the point itself.
        hits = self._cast(world, Rays(rays.scene, lamp, beam, low, high, start, 0.996), opaque)
        lit = (hits.solid < 0).float()[..., None, :]
        image = from_tiles(lit, rows * side, columns * side)
        soft = nnf.avg_pool2d(nnf.pad(image, (1, 1, 1, 1), mode='replicate'), 3, 1)
        soft = nnf.interpolate(soft, scale_factor=2, mode='bilinear', align_corners=False)
        tiles = soft.reshape(views, rows, TILE_PX, columns, TILE_PX).transpose(2, 3)
        return tiles.reshape(views * rows * columns, TILE_PX * TILE_PX)


def _to_camera(turn: Tensor, normal: Tensor, hit: Tensor) -> Tensor:
    """Turn normals, (3, T, S), from world to camera, (T, 3, 3) from camera; 0 where no hit."""
    parts = [
        turn[:, 0, i, None] * normal[0]
        + turn[:, 1, i, None] * normal[1]
        + turn[:, 2, i, None] * normal[2]
        for i in range(3)
    ]
    return torch.stack(parts) * hit


def develop(light: Tensor, exposure: Tensor, white_balance: Tensor, vignetting: Tensor) -> Tensor:
    """Turn light into a picture: lens blur, vignetting, white balance, exposure, gamma.

    Args:
        light: (V, 3, H, W), linear.
        exposure: (V,), the mean brightness to reach.
        white_balance: (V, 3), gains.
        vignetting: (V,), share of light lost in the corners.

    Returns:
        (V, 3, H, W), 0 to 1.
    """
    height, width = light.shape[-2:]
    light = nnf.pad(light, (1, 1, 1, 1), mode='replicate')
    light = light[..., :-2] * 0.2 + light[..., 1:-1] * 0.6 + light[..., 2:] * 0.2
    light = light[..., :-2, :] * 0.2 + light[..., 1:-1, :] * 0.6 + light[..., 2:, :] * 0.2
    y = torch.linspace(-1, 1, height, device=light.device)[:, None]
    x = torch.linspace(-1, 1, width, device=light.device)
    loss = vignetting[:, None, None] * (x * x + y * y) / 2
    mean = light.clamp_max(2).mean((1, 2, 3))
    gain = ((exposure / mean.clamp_min(1e-4))[:, None] * white_balance)[..., None, None]
    linear = light * gain * (1 - loss)[:, None]
    # Film's shoulder: what is brighter than white is not cut at once.
    linear = torch.where(linear > 0.8, 1 - 0.2 * torch.exp((0.8 - linear) * 5), linear)
    return linear.clamp_min(1e-6).pow(1 / 2.2)
