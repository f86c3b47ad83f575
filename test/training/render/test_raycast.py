import math

import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.render import Renderer, sample_batch
from training.render.raycast import (
    INTERSECTIONS,
    Kernels,
    from_tiles,
    hit_box,
    hit_waves,
    whole_tiles,
)
from training.render.solids import (
    Kind,
    Material,
    Solid,
    bowl_quadric,
    box,
    cylinder,
    cylinder_quadric,
    ellipsoid,
    frustum,
    prism,
    superquadric,
    waves,
)

ORIGIN = (0.0, 0.0, 0.0)
PAINT = Material()
INF = math.inf


def meet(solid, origin, *directions, start=0.0):
    """Where rays meet a solid that stands upright at the origin, by its own kernel."""
    hit, names = INTERSECTIONS[solid.kind]
    parameters = tuple(torch.tensor(getattr(solid, name))[None, :, None] for name in names)
    t = hit(
        torch.tensor(origin)[None, :, None],
        torch.tensor(directions).T[None],
        torch.tensor([[start]]),
        parameters,
    )
    return t[0].tolist()


def test_a_box_is_entered_through_its_faces():
    cube = box(ORIGIN, (1.0, 2.0, 1.0), PAINT)
    # The face z = -1 is 4 m ahead; a slope of 0.2 meets it at x = 0.8, one of 0.3 passes by.
    assert meet(cube, (0.0, 0.0, -5.0), (0.0, 0.0, 1.0), (0.2, 0.0, 1.0), (0.3, 0.0, 1.0)) == [
        pytest.approx(4), pytest.approx(4), INF,
    ]  # fmt: skip
    # From the side: x = 1 is reached at t = (3 - 1) / 0.5.
    assert meet(cube, (3.0, 0.0, 0.0), (-0.5, 0.0, 0.1)) == [pytest.approx(4)]
    assert meet(cube, (0.0, 0.0, -5.0), (0.0, 0.0, -1.0)) == [INF]
    assert meet(cube, (0.0, 0.0, -5.0), (0.0, 0.0, 1.0), start=4.5) == [INF]


def test_a_cylinder_has_a_round_side_and_flat_ends():
    can = cylinder(ORIGIN, 0.3, 0.5, PAINT)
    # Beside the axis by 0.18 m the side is sqrt(0.3^2 - 0.18^2) = 0.24 m in front of the middle.
    assert meet(can, (-2.0, 0.18, 0.1), (1.0, 0.0, 0.0)) == [pytest.approx(2 - 0.24, abs=1e-5)]
    assert meet(can, (0.2, 0.2, 3.0), (0.0, 0.0, -1.0)) == [pytest.approx(2.5)]
    assert meet(can, (0.22, 0.22, 3.0), (0.0, 0.0, -1.0)) == [INF]  # a corner of its box
    assert meet(can, (-2.0, 0.0, 0.6), (1.0, 0.0, 0.0)) == [INF]


def test_a_frustum_narrows_evenly():
    cone = frustum(ORIGIN, 0.5, 0.2, 0.4, PAINT)
    # Radius 0.35 - 0.375 z: 0.35 in the middle, 0.275 at 0.2, 0.425 at -0.2.
    for z, radius in ((0.0, 0.35), (0.2, 0.275), (-0.2, 0.425)):
        assert meet(cone, (0.0, -2.0, z), (0.0, 1.0, 0.0)) == [pytest.approx(2 - radius, abs=1e-5)]
    # From above: the lid within 0.2 m, then the side, where 0.35 - 0.375 z = 0.3.
    assert meet(cone, (0.1, 0.0, 2.0), (0.0, 0.0, -1.0)) == [pytest.approx(1.6, abs=1e-5)]
    assert meet(cone, (0.3, 0.0, 2.0), (0.0, 0.0, -1.0)) == [
        pytest.approx(2 - 0.05 / 0.375, abs=1e-5)
    ]


def test_a_bin_shows_its_floor_rim_and_outside():
    tub = Solid(
        Kind.HOLLOW, ORIGIN, (0.5, 0.4, 0.3), PAINT,
        hole_center_m=(0.0, 0.0, 0.05), hole_half_m=(0.45, 0.35, 0.3),
    )  # fmt: skip
    down = (0.0, 0.0, -1.0)
    # The hole reaches from -0.25 to above the rim at 0.3.
    assert meet(tub, (0.1, 0.1, 2.0), down) == [pytest.approx(2.25, abs=1e-5)]
    assert meet(tub, (0.48, 0.0, 2.0), down) == [pytest.approx(1.7, abs=1e-5)]
    assert meet(tub, (2.0, 0.0, 0.0), (-1.0, 0.0, 0.0)) == [pytest.approx(1.5, abs=1e-5)]
    # Falling in at a slope: over the rim's near side, onto the wall x = 0.45 on the far side.
    assert meet(tub, (-0.55, 0.0, 0.8), (1.0, 0.0, -0.6)) == [pytest.approx(1.0, abs=1e-5)]


def test_one_looks_through_a_pipe_and_into_a_bowl():
    pipe = Solid(
        Kind.HOLLOW, ORIGIN, (0.5, 0.5, 0.6), PAINT, quadric=cylinder_quadric(0.5),
        hole_half_m=(0.4, 0.4, 0.7), hole_quadric=cylinder_quadric(0.4),
    )  # fmt: skip
    down = (0.0, 0.0, -1.0)
    assert meet(pipe, (0.0, 0.3, 2.0), down) == [INF]
    assert meet(pipe, (0.0, 0.45, 2.0), down) == [pytest.approx(1.4, abs=1e-5)]
    bowl = Solid(
        Kind.HOLLOW, ORIGIN, (0.5, 0.5, 0.25), PAINT, quadric=bowl_quadric(0.5, 0.5, 0.25),
        hole_half_m=(0.4, 0.4, 0.25), hole_quadric=bowl_quadric(0.4, 0.4, 0.25),
    )  # fmt: skip
    # Half a ball of 0.4 m around (0, 0, 0.25): 0.24 m off its axis it is 0.32 m deep.
    assert meet(bowl, (0.24, 0.0, 2.0), down) == [pytest.approx(2 - (0.25 - 0.32), abs=1e-4)]


def test_a_leaning_prism_is_cut_by_its_planes():
    # A right angle at (-0.3, -0.3); its long side is x + y = 0.3 at the bottom.
    wedge = prism(ORIGIN, [(-0.3, -0.3), (0.6, -0.3), (-0.3, 0.6)], 0.2, PAINT)
    assert meet(wedge, (2.0, 0.0, 0.0), (-1.0, 0.0, 0.0)) == [pytest.approx(1.7)]
    assert meet(wedge, (2.0, 2.0, 0.1), (-1.0, -1.0, 0.0)) == [pytest.approx(1.85)]
    assert meet(wedge, (0.4, 0.4, 2.0), (0.0, 0.0, -1.0)) == [INF]
    # Sides that lean inwards by 0.5 per metre: 0.1 m at half height.
    roof = prism(
        ORIGIN, [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)], 0.2, PAINT, lean=0.5
    )
    assert meet(roof, (2.0, 0.0, 0.0), (-1.0, 0.0, 0.0)) == [pytest.approx(1.6)]
    assert meet(roof, (2.0, 0.0, -0.2), (-1.0, 0.0, 0.0)) == [pytest.approx(1.5)]


def test_a_round_superquadric_is_an_ellipsoid():
    half_m = (0.5, 0.3, 0.4)
    rays = [(0.1 * i, 0.05 * j, 1.0) for i in range(-2, 3) for j in range(-2, 3)]
    round_ = meet(superquadric(ORIGIN, half_m, 1.0, 1.0, PAINT), (0.0, 0.05, -2.0), *rays)
    known = meet(ellipsoid(ORIGIN, half_m, PAINT), (0.0, 0.05, -2.0), *rays)
    assert sum(math.isfinite(t) for t in known) > 15
    assert round_ == pytest.approx(known, abs=2e-3)


@pytest.mark.parametrize('exponent', [0.3, 0.6, 1.5])
def test_a_superquadric_follows_its_equation(exponent):
    shape = superquadric(ORIGIN, (0.5, 0.5, 0.4), 0.5, exponent, PAINT)
    # On the diagonal of z = 0: 2 (x / 0.5)^(2 / e2) = 1.
    corner = 0.5 * 0.5 ** (exponent / 2)
    assert meet(shape, (2.0, 2.0, 0.0), (-1.0, -1.0, 0.0)) == [pytest.approx(2 - corner, abs=1e-3)]
    assert meet(shape, (0.0, 0.0, 2.0), (0.0, 0.0, -1.0)) == [pytest.approx(1.6, abs=1e-3)]


def test_waves_are_as_high_as_their_sines():
    cloth = waves(
        ORIGIN, (0.8, 0.8, 0.2), [(0.05, 6.0, 0.0, 0.4), *[(0.0, 0.0, 0.0, 0.0)] * 3], PAINT
    )
    down = (0.0, 0.0, -1.0)
    for x in (-0.5, -0.1, 0.2, 0.6):
        # Mean height 0.2 - 0.05, so that the crests touch the box.
        height = 0.15 + 0.05 * math.sin(6 * x + 0.4)
        assert meet(cloth, (x, 0.3, 2.0), down) == [pytest.approx(2 - height, abs=2e-3)]
    assert meet(cloth, (0.9, 0.0, 2.0), down) == [INF]
    assert meet(cloth, (2.0, 0.0, 0.0), (-1.0, 0.0, 0.0)) == [pytest.approx(1.2, abs=2e-3)]


def test_kernels_agree_for_pairs_of_a_batch():
    half_m = torch.tensor([[1.0, 1, 1], [0.5, 0.5, 0.5]])[..., None]
    origin = torch.tensor([[0.0, 0, -3], [0, 0, -4]])[..., None]
    ahead = torch.tensor([0.0, 0, 1])[None, :, None].expand(2, 3, 7)
    t = hit_box(origin, ahead, torch.zeros(2, 1), (half_m,))
    torch.testing.assert_close(t, torch.tensor([2.0, 3.5])[:, None].expand(2, 7))
    form = torch.zeros(2, 24)
    form[:, 16] = torch.tensor([0.2, -0.1])
    above = torch.tensor([[0.0, 0, 3], [0, 0, 3]])[..., None]
    t = hit_waves(above, -ahead, torch.zeros(2, 1), (half_m, form[..., None]))
    torch.testing.assert_close(t[:, 0], torch.tensor([2.8, 3.1]), atol=2e-3, rtol=0)


def everything(turn, center_m, half_m, rows, origin_m, low, high, stop):
    """Cull nothing: every solid for every bundle of rays."""
    shape = torch.broadcast_shapes(rows.shape, (*low.shape[:-1], 1))
    return torch.ones(shape, dtype=torch.bool)


@pytest.mark.parametrize('indices', [range(4), range(40, 44)])
def test_culling_changes_no_pixel_of_a_picture(indices):
    world, cameras = sample_batch(2, indices, height=80, width=112)
    culled, whole = Renderer(), Renderer()
    whole._kernels = Kernels(may_hit=everything)
    with_culling, without = culled(world, cameras), whole(world, cameras)
    for name in ('depth_m', 'behind_m', 'normals', 'rgb', 'ir_reflectance'):
        a, b = getattr(with_culling, name), getattr(without, name)
        torch.testing.assert_close(a, b, atol=2e-6, rtol=1e-6, equal_nan=True, msg=name)
    for name in ('instances', 'glass', 'mirror'):
        assert torch.equal(getattr(with_culling, name), getattr(without, name)), name


def test_tiles_are_cut_and_joined_without_loss():
    image = torch.arange(2 * 3 * 32 * 48.0).reshape(2, 3, 32, 48)
    tiles = image.reshape(2, 3, 2, 16, 3, 16).permute(0, 2, 4, 1, 3, 5).flatten(4)
    assert tiles.shape == (2, 2, 3, 3, 256)
    assert torch.equal(tiles[1, 1, 2, 0].reshape(16, 16), image[1, 0, 16:32, 32:48])
    assert torch.equal(from_tiles(tiles, 32, 48), image)
    assert torch.equal(from_tiles(tiles, 30, 41), image[..., :30, :41])
    assert whole_tiles((30, 48)) == (32, 48)
