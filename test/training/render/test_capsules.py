"""Depth of tapered capsules, against sphere tracing and cases worked out by hand."""

import pytest
import torch

from training.render.capsules import crop_intrinsics, meet, rays, render_capsules


def signed_distance(points, ends, radii):
    """Distance to the round cone, as Quilez's `sdRoundCone` has it: another derivation."""
    a, b = ends[:, None, 0], ends[:, None, 1]
    ra, rb = radii[:, :1], radii[:, 1:]
    axis = b - a
    l2 = axis.square().sum(-1)
    slope = ra - rb
    a2 = l2 - slope**2
    offset = points - a
    y = (offset * axis).sum(-1)
    z = y - l2
    x2 = (offset * l2[..., None] - axis * y[..., None]).square().sum(-1)
    y2, z2 = y * y * l2, z * z * l2
    k = slope.sign() * slope**2 * x2
    to_b = (x2 + z2).sqrt() / l2 - rb
    to_a = (x2 + y2).sqrt() / l2 - ra
    to_side = ((x2 * a2 / l2).sqrt() + y * slope) / l2 - ra
    beyond_b = z.sign() * a2 * z2 > k
    before_a = y.sign() * a2 * y2 < k
    return torch.where(beyond_b, to_b, torch.where(before_a, to_a, to_side))


def traced(x, y, ends, radii):
    """Depth by stepping along each ray as far as nothing is near."""
    direction = torch.stack([x, y, torch.ones_like(x)], -1)
    length = direction.norm(dim=-1)
    t = torch.zeros_like(x)
    for _ in range(300):
        t = t + signed_distance(t[..., None] * direction, ends, radii) / length
    missed = signed_distance(t[..., None] * direction, ends, radii).abs() > 1e-6
    return torch.where(missed, torch.inf, t)


def random_capsules(count, generator):
    def uniform(low, high, *size):
        return low + (high - low) * torch.rand(size, generator=generator, dtype=torch.float64)

    middle = torch.cat([uniform(-0.2, 0.2, count, 2), uniform(0.4, 1.2, count, 1)], 1)
    half = uniform(-0.06, 0.06, count, 3)
    return torch.stack([middle - half, middle + half], 1), uniform(0.004, 0.04, count, 2)


def test_entering_is_where_sphere_tracing_ends():
    generator = torch.Generator().manual_seed(0)
    ends, radii = random_capsules(400, generator)
    separate = (ends[:, 1] - ends[:, 0]).norm(dim=1) > (radii[:, 0] - radii[:, 1]).abs() + 1e-3
    ends, radii = ends[separate], radii[separate]
    # Rays to points in and around each capsule.
    share = torch.rand(len(ends), 64, 1, generator=generator, dtype=torch.float64)
    aim = torch.lerp(ends[:, None, 0], ends[:, None, 1], 1.6 * share - 0.3)
    aim = aim + 0.03 * torch.randn(aim.shape, generator=generator, dtype=torch.float64)
    x, y = (aim[..., :2] / aim[..., 2:]).unbind(-1)
    expected = traced(x, y, ends, radii)
    found = meet(x, y, ends, radii)
    single = meet(x.float(), y.float(), ends.float(), radii.float())
    both = expected.isfinite() & found.isfinite()
    assert both.float().mean() > 0.35
    # Rays that graze may go either way: tracing needs forever there.
    assert (expected.isfinite() != found.isfinite()).float().mean() < 2e-3
    assert (expected - found)[both].abs().max() < 1e-4
    both &= single.isfinite()
    assert (expected - single)[both].abs().quantile(0.999) < 1e-4


def test_a_sphere_ahead_is_seen_one_radius_before_its_centre():
    ends = torch.tensor([[[0, 0, 0.5], [0, 0, 0.5]]])
    depth = meet(torch.zeros(1, 1), torch.zeros(1, 1), ends, torch.tensor([[0.1, 0.1]]))
    assert depth.item() == pytest.approx(0.4)


def test_a_capsule_along_the_ray_is_seen_at_its_near_ball():
    ends = torch.tensor([[[0, 0, 0.5], [0, 0, 0.8]]])
    depth = meet(torch.zeros(1, 1), torch.zeros(1, 1), ends, torch.tensor([[0.02, 0.01]]))
    assert depth.item() == pytest.approx(0.48)


def test_a_capsule_across_the_ray_is_seen_at_its_side():
    ends = torch.tensor([[[-0.1, 0, 0.5], [0.1, 0, 0.5]]])
    depth = meet(torch.zeros(1, 1), torch.zeros(1, 1), ends, torch.tensor([[0.03, 0.03]]))
    assert depth.item() == pytest.approx(0.47)


def test_a_ball_within_the_other_changes_nothing():
    small = torch.tensor([[[0, 0, 0.5], [0.01, 0, 0.5]]])
    x, y = torch.linspace(-0.2, 0.2, 41)[None], torch.zeros(1, 41)
    alone = meet(x, y, small[:, [0, 0]], torch.tensor([[0.05, 0.05]]))
    torch.testing.assert_close(meet(x, y, small, torch.tensor([[0.05, 0.02]])), alone)


def test_tiles_lose_nothing():
    generator = torch.Generator().manual_seed(1)
    ends, radii = random_capsules(60, generator)
    ends, radii = ends.float().reshape(3, 20, 2, 3), radii.float().reshape(3, 20, 2)
    intrinsics = torch.tensor([[150.0, 0, 50], [0, 140, 45], [0, 0, 1]]).repeat(3, 1, 1)
    # Balls far off the axis are seen as long ellipses.
    intrinsics[1, 0, 2] = -40
    ends[1, ..., 0] += 0.5
    depth, which = render_capsules(ends, radii, intrinsics, 90, 101)
    x, y = rays(intrinsics, 90, 101).flatten(1, 2).unbind(-1)
    for image in range(3):
        expected = torch.stack(
            [
                meet(x[image, None], y[image, None], ends[image, n, None], radii[image, n, None])[
                    0
                ]
                for n in range(20)
            ]
        ).reshape(20, 90, 101)
        nearest, number = expected.min(0)
        assert torch.equal(depth[image], nearest)
        seen = nearest.isfinite()
        assert seen.any()
        assert torch.equal(which[image][seen], number[seen])
        assert (which[image][~seen] == -1).all()


def test_a_window_is_a_part_of_the_image():
    generator = torch.Generator().manual_seed(2)
    ends, radii = random_capsules(8, generator)
    ends, radii = ends.float()[None], radii.float()[None]
    intrinsics = torch.tensor([[[200.0, 0, 63.5], [0, 200, 47.5], [0, 0, 1]]])
    whole, _ = render_capsules(ends, radii, intrinsics, 96, 128)
    # Edges of pixels lie at halves.
    region = torch.tensor([[29.5, 19.5, 69.5, 59.5]])
    part, _ = render_capsules(ends, radii, crop_intrinsics(intrinsics, region, 40, 40), 40, 40)
    torch.testing.assert_close(part, whole[:, 20:60, 30:70], rtol=0, atol=2e-5)
