import itertools

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.render import Cameras, Renderer, World, sample_batch, stream
from training.render.cameras import SENSORS, look_at
from training.render.scenes import sample_scene
from training.render.solids import (
    Kind,
    Lamp,
    Material,
    Scene,
    Solid,
    bowl_quadric,
    box,
    cylinder,
    ellipsoid,
    frustum,
    prism,
    superquadric,
    waves,
)

PAINT = Material()
WALL = box((0, 0, 5.5), (9, 9, 0.5), PAINT)
"""Its face is at 5 m."""
TILTED = tuple(map(tuple, np.linalg.qr(np.array([[1, 0.3, 0.2], [0, 1, 0.4], [0.1, 0, 1]]))[0]))
HEIGHT, WIDTH, FOCAL_PX, CX, CY = 48, 64, 60.0, 30.3, 25.1


def camera(count=1):
    matrix = torch.tensor([[FOCAL_PX, 0, CX], [0, FOCAL_PX, CY], [0, 0, 1]])
    return Cameras(
        torch.arange(count),
        matrix.expand(count, 3, 3),
        torch.eye(4).expand(count, 4, 4),
        HEIGHT,
        WIDTH,
        torch.full((count,), 0.3),
        torch.ones(count, 3),
        torch.zeros(count),
    )


def world(*solids):
    lamps = [Lamp((0, 0, 0), (1, 1, 1)), Lamp((1, 0, 0), (0, 0, 0)), Lamp((0, 1, 0), (0, 0, 0))]
    numbered = [solid._replace(instance=i) for i, solid in enumerate(solids)]
    return World.from_scenes([Scene(solids=numbered, lamps=lamps)])


def depth_of(*solids):
    depth_m, _ = Renderer().depth(world(*solids), camera())
    return depth_m[0, 0].numpy()


def rays():
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([(u - CX) / FOCAL_PX, (v - CY) / FOCAL_PX, np.ones(u.shape)])


def marched(solid, inside, far_m=5.0, step_m=1e-3):
    """First depth at which points of each ray are inside, found by walking along it."""
    turn, center = np.array(solid.turn), np.array(solid.center_m)
    t = np.arange(0.5, far_m, step_m)
    found = np.full((HEIGHT, WIDTH), far_m)
    d = rays()
    for v in range(0, HEIGHT, 3):
        points = d[:, v, :, None] * t  # (3, W, T)
        own = np.einsum('ij,jwt->iwt', turn, points - center[:, None, None])
        within = (np.abs(own) <= np.array(solid.half_m)[:, None, None]).all(0) & inside(*own)
        hit = within.any(1)
        found[v] = np.where(hit, t[within.argmax(1)], far_m)
    return found


def quadric(a, b, c, d, e):
    return lambda x, y, z: a * x * x + b * y * y + c * z * z + d * z + e <= 0


CONE = frustum((0.1, -0.1, 2.0), 0.5, 0.2, 0.4, PAINT, TILTED)
MUG = Solid(
    Kind.HOLLOW, (0, 0, 2), (0.6, 0.6, 0.5), PAINT, TILTED, (1 / 0.36, 1 / 0.36, 0, 0, -1),
    (0, 0, -0.1), (0.5, 0.5, 0.45), bowl_quadric(0.5, 0.9, 0.45),
)  # fmt: skip
ROOF = prism(
    (0, 0, 2), [(0.5, -0.4), (0.6, 0.3), (0, 0.6), (-0.5, 0.2), (-0.4, -0.4)], 0.4, PAINT, TILTED,
    lean=0.4,
)  # fmt: skip
CUSHION = superquadric((0.1, 0.2, 2.2), (0.6, 0.5, 0.3), 0.4, 0.7, PAINT, TILTED)
CLOTH = waves(
    (0, 0, 2), (0.7, 0.6, 0.2),
    [(0.05, 9, 3, 0.5), (0.03, -4, 12, 1), (0.02, 15, 2, 2), (0.01, 5, -8, 0)], PAINT, TILTED,
)  # fmt: skip


def in_mug(x, y, z):
    hole = (np.abs(x) <= 0.5) & (np.abs(y) <= 0.5) & (np.abs(z + 0.1) <= 0.45)
    return quadric(*MUG.quadric)(x, y, z) & ~(hole & quadric(*MUG.hole_quadric)(x, y, z + 0.1))


def in_roof(x, y, z):
    planes = np.array(ROOF.form).reshape(6, 4)
    return np.all([nx * x + ny * y + nz * z <= o for nx, ny, nz, o in planes], axis=0)


def in_cushion(x, y, z):
    x, y, z = abs(x / 0.6), abs(y / 0.5), abs(z / 0.3)
    return (x ** (2 / 0.7) + y ** (2 / 0.7)) ** (0.7 / 0.4) + z ** (2 / 0.4) <= 1


def in_cloth(x, y, z):
    form = CLOTH.form
    height = sum(
        a * np.sin(kx * x + ky * y + p) for a, kx, ky, p in np.array(form[:16]).reshape(4, 4)
    )
    return z <= form[16] + height


@pytest.mark.parametrize(
    ('solid', 'inside'),
    [
        (box((0.1, 0.2, 2), (0.5, 0.3, 0.4), PAINT, TILTED), lambda x, y, z: x < 9),
        (ellipsoid((0, 0.1, 2), (0.6, 0.4, 0.5), PAINT, TILTED), None),
        (cylinder((0, 0.1, 2), 0.4, 0.5, PAINT, TILTED), None),
        (CONE, None),
        (MUG, in_mug),
        (ROOF, in_roof),
        (CUSHION, in_cushion),
        (CLOTH, in_cloth),
    ],
    ids=['box', 'ellipsoid', 'cylinder', 'frustum', 'mug', 'prism', 'superquadric', 'waves'],
)
def test_rays_meet_solids_where_walking_along_them_does(solid, inside):
    want_m = marched(solid, inside or quadric(*solid.quadric))[::3]
    got_m = depth_of(solid, WALL)[::3]
    # At a silhouette a step of the walk may miss what the ray just touches.
    off = np.abs(got_m - want_m) > 3e-3
    assert (want_m < 4.9).sum() > 100
    assert off.mean() < 0.005


def test_a_ball_is_where_geometry_says():
    d = rays()
    square = (d * d).sum(0)
    part = 4 - square * (4 - 0.25)  # centre at 2 m, radius 0.5 m
    want_m = np.where(part > 0, (2 - np.sqrt(np.maximum(part, 0))) / square, 5.0)
    got_m = depth_of(ellipsoid((0, 0, 2), (0.5, 0.5, 0.5), PAINT), WALL)
    np.testing.assert_allclose(got_m, want_m, atol=2e-3)
    assert np.quantile(np.abs(got_m - want_m), 0.99) < 1e-4


def test_normals_of_a_ball_point_from_its_centre_to_the_camera():
    seen = Renderer()(world(ellipsoid((0, 0, 2), (0.5, 0.5, 0.5), PAINT), WALL), camera())
    on_ball = seen.instances[0, 0] == 0
    point = torch.from_numpy(rays()).float() * seen.depth_m[0]
    want = (point - torch.tensor([0, 0, 2.0])[:, None, None]) / 0.5
    got = seen.normals[0]
    assert on_ball.sum() > 300
    torch.testing.assert_close(got[:, on_ball], want[:, on_ball], atol=5e-3, rtol=0)
    torch.testing.assert_close(
        got[:, ~on_ball], torch.tensor([[0.0], [0], [-1]]).expand(-1, int((~on_ball).sum()))
    )


def test_normals_of_other_solids_are_those_of_their_depth():
    for solid in (ROOF, CUSHION, CLOTH, CONE):
        seen = Renderer()(world(solid, WALL), camera())
        point = torch.from_numpy(rays()).float() * seen.depth_m[0]
        along, down = (
            point[:, :-1, 1:] - point[:, :-1, :-1],
            point[:, 1:, :-1] - point[:, :-1, :-1],
        )
        want = torch.nn.functional.normalize(torch.linalg.cross(down, along, dim=0), dim=0)
        same = seen.instances[0, 0] == 0
        inner = same[:-1, :-1] & same[1:, :-1] & same[:-1, 1:]
        cosine = (want * seen.normals[0][:, :-1, :-1]).sum(0)[inner]
        # Edges within the solid are the rest.
        assert (cosine > 0.97).float().mean() > 0.8, solid.kind


def test_glass_shows_what_is_behind_it():
    pane = box((0.5, 0, 2), (0.5, 1, 0.01), PAINT._replace(glass=0.9))
    seen = Renderer()(world(pane, WALL), camera())
    glass = seen.glass[0, 0].bool()
    u = np.arange(WIDTH)
    want = (u - CX) / FOCAL_PX * 1.99 > 0  # its left edge is on the axis
    want &= (u - CX) / FOCAL_PX * 1.99 < 1
    np.testing.assert_array_equal(glass[25].numpy(), want)
    torch.testing.assert_close(seen.depth_m[0, 0][glass], torch.full((int(glass.sum()),), 1.99))
    torch.testing.assert_close(seen.behind_m[0, 0][glass], torch.full((int(glass.sum()),), 5.0))
    torch.testing.assert_close(seen.behind_m[0, 0][~glass], seen.depth_m[0, 0][~glass])


def test_behind_glass_there_may_be_nothing():
    pane = box((0, 0, 2), (3, 3, 0.01), PAINT._replace(glass=0.9))
    seen = Renderer()(world(pane), camera())
    assert seen.glass.all()
    torch.testing.assert_close(seen.depth_m, torch.full_like(seen.depth_m, 1.99))
    assert seen.behind_m.isnan().all()
    without, _ = Renderer().depth(world(pane, WALL), camera())  # light passes panes
    torch.testing.assert_close(without, torch.full_like(without, 5.0))


def test_a_mirror_shows_what_is_in_front_of_it_at_the_length_of_the_path():
    forward = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))
    glass = box((0, 0, 2), (0.5, 0.01, 0.5), PAINT._replace(mirror=0.9), forward)
    red = PAINT._replace(palette=((0.8, 0.05, 0.05),) * 3)
    behind = box((0, 0, -3.5), (9, 9, 0.5), red)  # 3 m behind the camera
    seen = Renderer()(world(glass, WALL, behind), camera())
    mirror = seen.mirror[0, 0]
    u, v = np.meshgrid(np.arange(WIDTH) - CX, np.arange(HEIGHT) - CY)
    want = np.maximum(abs(u), abs(v)) / FOCAL_PX * 1.99 < 0.5
    np.testing.assert_array_equal(mirror.numpy(), want)
    count = int(mirror.sum())
    torch.testing.assert_close(seen.depth_m[0, 0][mirror], torch.full((count,), 1.99))
    # 1.99 m to the mirror, and from there 1.99 m + 3 m back.
    torch.testing.assert_close(seen.behind_m[0, 0][mirror], torch.full((count,), 6.98))
    torch.testing.assert_close(seen.behind_m[0, 0][~mirror], seen.depth_m[0, 0][~mirror])
    red_share = seen.rgb[0, 0] / seen.rgb[0].sum(0)
    assert red_share[25, 30] > 0.5
    assert red_share[2, 2] < 0.4
    # Its back is no mirror.
    turned = glass._replace(turn=((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)))
    back = Renderer()(world(turned, WALL, behind), camera())
    torch.testing.assert_close(back.behind_m, back.depth_m)


def test_what_a_lamp_does_not_reach_is_darker():
    lamps = [Lamp((-2, 0, 1), (9, 9, 9)), *[Lamp((0, 0, 0), (0, 0, 0))] * 2]
    ball = ellipsoid((0, 0, 3), (0.4, 0.4, 0.4), PAINT)
    dark = Scene(solids=[ball, WALL._replace(instance=1)], lamps=lamps)
    cam = camera()
    lit = Renderer(shadows=False)(World.from_scenes([dark]), cam).rgb[0].mean(0)
    shaded = Renderer()(World.from_scenes([dark]), cam).rgb[0].mean(0)
    # The lamp's rays past the ball meet the wall around x = 2 * (5 - 1) / (3 - 1) - 2 = 2 m.
    u, v = round(CX + FOCAL_PX * 2 / 5), round(CY)
    assert shaded[v, u] < 0.7 * lit[v, u]
    assert shaded[v, 4] > 0.9 * lit[v, 4]


@pytest.mark.parametrize('index', [0, 3, 8])
def test_leaving_solids_out_early_changes_no_picture(index):
    scene = sample_scene(1, index)
    _, cameras = sample_batch(1, [index], height=48, width=64)
    opaque = [solid for solid in scene.solids if solid.material.glass == 0]
    whole = World.from_scenes([scene])
    together, _ = Renderer().depth(whole, cameras)
    alone = torch.full_like(together, torch.inf)
    for solid in opaque:
        single = Scene(solids=[solid], lamps=scene.lamps)
        depth_m, _ = Renderer().depth(World.from_scenes([single]), cameras)
        alone = torch.minimum(alone, depth_m.nan_to_num(torch.inf))
    torch.testing.assert_close(together.nan_to_num(torch.inf), alone, atol=1e-4, rtol=1e-4)


def test_a_scene_is_the_same_in_any_batch():
    one = Renderer()(*sample_batch(5, [7], height=48, width=64))
    many = Renderer()(*sample_batch(5, [2, 7], height=48, width=64))
    torch.testing.assert_close(one.depth_m[0], many.depth_m[1], equal_nan=True)
    torch.testing.assert_close(one.rgb[0], many.rgb[1])


def test_shards_and_later_starts_render_the_same_scenes():
    size = {'batch': 1, 'height': 32, 'width': 32}
    all_ = [r.depth_m for r in itertools.islice(stream(3, **size), 4)]
    odd = next(iter(stream(3, shard=1, shards=2, start=1, **size))).depth_m
    torch.testing.assert_close(all_[3], odd, equal_nan=True)
    later = next(iter(stream(3, start=2, **size))).depth_m
    torch.testing.assert_close(all_[2], later, equal_nan=True)


def test_the_same_seed_renders_the_same_pictures_to_the_bit():
    first, again, other = (
        Renderer()(*sample_batch(seed, [4], height=48, width=64, frames=2)) for seed in (9, 9, 8)
    )
    for name in ('rgb', 'depth_m', 'behind_m', 'normals', 'instances', 'albedo', 'ir_reflectance'):
        a, b = getattr(first, name), getattr(again, name)
        torch.testing.assert_close(a, b, equal_nan=True, rtol=0, atol=0)
    assert not torch.equal(first.rgb, other.rgb)
    assert not torch.equal(first.rgb[0], first.rgb[1])  # the hand has moved


def test_a_stream_goes_on_exactly_where_it_stopped():
    size = {'batch': 2, 'height': 32, 'width': 48, 'views': 2, 'shard': 1, 'shards': 3}
    whole = list(itertools.islice(stream(3, **size), 3))
    later = next(iter(stream(3, start=2, **size)))
    assert whole[2].depth_m.shape == (4, 1, 32, 48)
    assert torch.equal(whole[2].rgb, later.rgb)
    assert torch.equal(whole[2].instances, later.instances)
    # Shard 1 of 3, batches of 2: the third batch is scenes (4, 5) * 3 + 1.
    named = Renderer()(*sample_batch(3, [13, 16], height=32, width=48, views=2))
    assert torch.equal(named.rgb, later.rgb)


def test_pictures_are_whole():
    seen = Renderer()(*sample_batch(0, range(4), height=48, width=64))
    assert seen.rgb.isfinite().all()
    assert seen.rgb.min() >= 0
    assert seen.rgb.max() <= 1
    assert seen.depth_m.isfinite().float().mean() > 0.9
    unit = seen.normals.norm(dim=1)[seen.depth_m[:, 0].isfinite()]
    torch.testing.assert_close(unit, torch.ones_like(unit), atol=1e-3, rtol=0)
    assert (seen.instances[seen.depth_m.isfinite()] >= 0).all()


def test_a_camera_looks_at_its_target():
    rows = np.array(look_at((1.0, 2.0, 1.5), (3.0, 2.5, 0.5)))
    forward = np.array([2.0, 0.5, -1.0])
    np.testing.assert_allclose(rows[:, 2], forward / np.linalg.norm(forward), atol=1e-6)
    np.testing.assert_allclose(rows[:, 3], [1, 2, 1.5])
    assert rows[2, 1] < 0  # y points down


def test_focal_lengths_are_those_of_real_sensors():
    _, cameras = sample_batch(0, range(40), height=480, width=640)
    low = min(s.focal_px[0] * 640 / s.width_px for s in SENSORS.values())
    high = max(s.focal_px[1] * 640 / s.width_px for s in SENSORS.values())
    focal_px = cameras.intrinsics[:, 0, 0]
    assert focal_px.min() >= low
    assert focal_px.max() <= high
    assert focal_px.std() > 30
