import math

import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.sensors import View
from training.sensors.view import framed, see_through

NAN = math.nan
MATRIX = torch.tensor([[[50.0, 0, 9.5], [0, 40.0, 7], [0, 0, 1]]])


def tilted(normal, offset_m, height=16, width=20):
    """Depth of the plane normal @ point = offset_m, in double precision until the end."""
    v, u = torch.meshgrid(
        torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64),
        indexing='ij',
    )  # fmt: skip
    rays = torch.stack([(u - 9.5) / 50, (v - 7) / 40, torch.ones_like(u)])
    along = (torch.tensor(normal, dtype=torch.float64)[:, None, None] * rays).sum(0)
    cosine = along.abs() / rays.norm(dim=0) / math.hypot(*normal)
    return (offset_m / along)[None, None].float(), cosine[None, None].float()


@pytest.mark.parametrize('normal', [(0.0, 0.0, 1.0), (0.6, 0.0, 0.8), (-0.5, 0.7, 1.0)])
def test_how_a_surface_faces_the_camera_follows_from_its_depth_or_normals(normal):
    depth_m, want = tilted(normal, 2.0)
    torch.testing.assert_close(View(depth_m, MATRIX).facing(), want, atol=2e-4, rtol=0)
    unit = torch.tensor(normal) / math.hypot(*normal)
    normals = -unit[None, :, None, None].expand(1, 3, 16, 20)
    torch.testing.assert_close(View(depth_m, MATRIX, normals).facing(), want, atol=1e-5, rtol=0)


def test_at_a_step_a_pixel_faces_as_the_surface_it_lies_on():
    depth_m = torch.full((1, 1, 16, 20), 2.0)
    depth_m[..., 8:] = 1.0
    ahead = View(torch.full_like(depth_m, 1.0), MATRIX).facing()
    torch.testing.assert_close(View(depth_m, MATRIX).facing(), ahead)


def test_what_is_not_a_depth_is_nothing():
    depth_m = torch.tensor([2.0, 0.5, NAN, 0.0, -1.0, math.inf]).reshape(1, 1, 1, 6)
    inverse = View(depth_m, MATRIX).inverse_depth().flatten().tolist()
    assert inverse == [0.5, 2.0, 0, 0, 0, 0]
    assert View(depth_m, MATRIX).facing().isfinite().all()


def test_rays_pass_through_pixel_centres():
    rays = View(torch.ones(1, 1, 16, 20), MATRIX).rays()
    assert rays[0, 0, 3, 12].item() == pytest.approx((12 - 9.5) / 50)
    assert rays[0, 1, 3, 12].item() == pytest.approx((3 - 7) / 40)


def test_shapes_that_do_not_fit_are_named():
    depth_m = torch.ones(2, 1, 4, 5)
    matrix = MATRIX.expand(2, 3, 3)
    with pytest.raises(ValueError, match='intrinsics is'):
        View(depth_m, MATRIX)
    with pytest.raises(ValueError, match=r'depth_m is \(B, 1, H, W\)'):
        View(depth_m.expand(2, 3, 4, 5), matrix)
    with pytest.raises(ValueError, match='normals is'):
        View(depth_m, matrix, normals=torch.ones(2, 1, 4, 5))
    with pytest.raises(ValueError, match='glass is'):
        View(depth_m, matrix, glass=torch.ones(2, 1, 5, 4, dtype=torch.bool))


def test_light_comes_back_from_behind_glass_and_from_what_mirrors_show():
    depth_m = torch.tensor([1.0, 1.0, 1.0, 1.0, NAN]).reshape(1, 1, 1, 5)
    glass = torch.tensor([False, True, True, False, False]).reshape(1, 1, 1, 5)
    mirror = torch.tensor([False, False, False, True, False]).reshape(1, 1, 1, 5)
    behind_m = torch.tensor([1.0, 4.0, 4.0, 5.0, NAN]).reshape(1, 1, 1, 5)
    # Half of Gaussian noise is below 0: there the pane itself is measured.
    field = torch.tensor([-1.0, -1.0, 1.0, -1.0, -1.0]).reshape(1, 1, 1, 5)
    half = torch.full((1, 1, 1, 1), 0.5)
    view = View(depth_m, MATRIX, glass=glass, mirror=mirror, behind_m=behind_m)
    inverse, there = see_through(view, view.inverse_depth(), field, half)
    assert inverse.flatten().tolist() == pytest.approx([1, 1, 0.25, 0.2, 0])
    assert there.flatten().tolist() == [True, True, True, True, False]
    blind = View(depth_m, MATRIX, glass=glass, mirror=mirror)
    _, there = see_through(blind, blind.inverse_depth(), field, half)
    assert there.flatten().tolist() == [True, True, False, False, False]


def test_margins_are_left_top_right_bottom():
    margins_px = torch.tensor([1.0, 2.0, 3.0, 0.0]).reshape(1, 4, 1, 1)
    inside = framed((1, 1, 6, 8), margins_px)[0, 0]
    rows, columns = inside.nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 5, 1, 4)
    assert inside.sum() == 4 * 4


def test_a_view_moves_between_devices_whole():
    view = View(torch.ones(1, 1, 4, 5), MATRIX, lit=torch.ones(1, 1, 4, 5, dtype=torch.bool))
    moved = view.to('cpu')
    assert moved.normals is None
    assert torch.equal(moved.lit, view.lit)
    assert moved.focal_px.flatten().tolist() == [50.0]
