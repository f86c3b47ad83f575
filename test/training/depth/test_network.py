import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.depth.candidates import (
    CANDIDATES,
    DIRECTIONS,
    _first_source,
    find_beside,
    find_candidates,
    from_rows,
    to_cells,
    to_rows,
)
from training.depth.network import Deployed, DepthChooser, estimate
from training.depth.unet import SIZES, Block


def untaught(size='nano'):
    """A network whose context says nothing: the nearest candidate of the likest colour wins."""
    torch.manual_seed(0)
    network = DepthChooser(size)
    for layer in (network.head, network.query, network.key):
        torch.nn.init.zeros_(layer.weight)
    return network.eval()


def test_rows_hold_the_pixels_of_cells_in_reading_order():
    image = torch.arange(64.0).reshape(1, 1, 8, 8)
    rows = to_rows(to_cells(image))
    assert rows[1].tolist() == [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31]
    assert torch.equal(from_rows(rows, 8, 8), image)


def test_a_look_finds_the_first_source_and_not_its_own_cell():
    own = torch.full((1, 1, 5, 9), -1)
    own[0, 0, 2, 5], own[0, 0, 2, 7] = 2 * 9 + 5, 2 * 9 + 7
    right, down_right, left = (
        _first_source(own, 0, 1),
        _first_source(own, 1, 1),
        _first_source(own, 0, -1),
    )
    assert right[0, 0, 2].tolist() == [23, 23, 23, 23, 23, 25, 25, -1, -1]
    assert left[0, 0, 2].tolist() == [-1, -1, -1, -1, -1, -1, 23, 23, 25]
    assert down_right[0, 0, 0, 3] == 23
    assert down_right[0, 0, 1, 4] == 23
    assert down_right[0, 0, 1, 3] == -1


def test_a_look_reaches_across_the_widest_image():
    own = torch.full((1, 1, 1, 300), -1)
    own[0, 0, 0, 299] = 299
    found = _first_source(own, 0, 1)[0, 0, 0]
    assert found[299 - 256] == 299
    assert found[298] == 299


@pytest.mark.parametrize(('left', 'within'), [(32, 2e-5), (30, 6e-4)])
def test_a_plane_is_continued_into_a_hole(left, within):
    x = torch.arange(96.0).expand(64, 96)
    y = torch.arange(64.0)[:, None].expand(64, 96)
    plane = 0.5 + 0.001 * x + 0.0005 * y
    holed = plane.clone()
    holed[20:44, left : left + 36] = 0
    candidates, reference = find_candidates(to_cells(holed[None, None]))
    assert candidates.there[:, 2:].any(1).all()
    network = untaught()
    _, prediction = network(
        torch.where(holed > 0, 1 / holed, 0.0)[None, None], torch.zeros(1, 3, 64, 96)
    )
    full = prediction._replace(damping=torch.ones_like(prediction.damping))
    inverse = full.inverse()  # (M, 16, K)
    want = to_rows(to_cells(plane[None, None]))[..., None].expand_as(inverse)
    hole = (to_rows(to_cells(holed[None, None])) == 0)[..., None]
    number = torch.arange(CANDIDATES + 1)
    straight = (number >= 2) & (number < CANDIDATES)
    where = hole & prediction.available() & straight
    assert where.any()
    # Cells that the hole cuts have their centre elsewhere, which slopes see a little.
    torch.testing.assert_close(inverse[where], want[where], atol=within, rtol=0)
    assert float(reference[0, 0, 8, 12]) == pytest.approx(float(plane[32, 48]), abs=0.03)


def test_two_surfaces_in_one_cell_are_told_apart():
    inverse = torch.zeros(1, 16, 1, 1)
    inverse[0, :6], inverse[0, 6:9] = 1.0, 0.5
    candidates, _ = find_candidates(inverse)
    assert candidates.surfaces.inverse[0, :2, 0, 0].tolist() == [1.0, 0.5]
    # Pixels 0 to 5 lie in columns 0 1 2 3 0 1 of rows 0 0 0 0 1 1.
    assert candidates.surfaces.x[0, 0, 0, 0].item() == pytest.approx(7 / 6)
    assert candidates.surfaces.y[0, 0, 0, 0].item() == pytest.approx(2 / 6)
    assert not candidates.there[0, 2:].any()


def test_directions_and_distances():
    inverse = torch.zeros(1, 16, 3, 5)
    inverse[0, :, 0, 4] = 1.0
    candidates, _ = find_candidates(inverse)
    seen = {d: candidates.distance[0, 2 + i] for i, d in enumerate(DIRECTIONS)}
    assert seen[0, 1][0].tolist() == [4, 3, 2, 1, 1000]
    assert seen[-1, 1][2, 2] == 2
    assert seen[-1, 0][2, 4] == 2


def test_untaught_it_takes_a_surface_and_never_a_mean():
    depth_m = torch.full((1, 1, 64, 96), 2.0)
    depth_m[..., 48:] = 1.0
    depth_m[:, :, 8:56, 40:60] = 0
    found_m = estimate(untaught(), depth_m, torch.zeros(1, 3, 64, 96)).depth_m
    near, far = (found_m - 1).abs() < 1e-5, (found_m - 2).abs() < 1e-5
    assert (near | far).all()
    assert near[0, 0, 30, 58]
    assert far[0, 0, 30, 41]


def test_untaught_it_follows_colour():
    depth_m = torch.full((1, 1, 64, 96), 2.0)
    depth_m[..., 64:] = 1.0
    depth_m[:, :, :, 24:72] = 0
    color = torch.full((1, 3, 64, 96), 0.2)
    color[..., 32:] = 0.9  # what is near reaches further left than the middle of the hole
    found_m = estimate(untaught(), depth_m, color).depth_m[0, 0, 32]
    assert found_m[36:].tolist() == pytest.approx([1.0] * 60, abs=1e-4)
    assert found_m[:30].tolist() == pytest.approx([2.0] * 30, abs=1e-4)


def test_single_pixels_say_what_all_together_say():
    torch.manual_seed(1)
    network = DepthChooser('nano')
    depth_m = torch.rand(2, 1, 32, 64) + 1
    depth_m[depth_m < 1.4] = 0
    _, prediction = network(depth_m, torch.rand(2, 3, 32, 64))
    cell, pixel = (to_rows(to_cells(depth_m)) == 0).nonzero(as_tuple=True)
    part = prediction.at(cell, pixel)
    torch.testing.assert_close(
        part.logits()[:, 0], prediction.logits()[cell, pixel], rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(part.inverse()[:, 0], prediction.inverse()[cell, pixel])
    best = prediction.logits().argmax(2)
    expected = prediction.inverse().gather(2, best[..., None])[..., 0]
    torch.testing.assert_close(prediction.chosen_inverse(best), expected)


@pytest.mark.parametrize('empty', [0.0, float('nan'), float('inf'), -1.0])
def test_nothing_measured_is_nothing_invented(empty):
    depth_m, doubt = torch.full((40, 50), empty), torch.zeros(40, 50, 3, dtype=torch.uint8)
    found_m, stddev_m, wrong = Deployed(untaught())(depth_m, doubt)
    assert found_m.isnan().all()
    assert stddev_m.isnan().all()
    assert (wrong == 0).all()


def test_any_size_and_measurements_pass_unless_doubted():
    torch.manual_seed(0)
    depth_m = torch.rand(45, 77) + 1
    depth_m[depth_m < 1.3] = torch.nan
    color = (255 * torch.rand(45, 77, 3)).byte()
    network = untaught()
    found_m, stddev_m, wrong = Deployed(network)(depth_m, color)
    assert found_m.shape == stddev_m.shape == wrong.shape == (45, 77)
    measured = depth_m.isfinite()
    # Untaught, a measurement is wrong with a chance of 1 / (1 + e^3).
    assert wrong[measured].unique().tolist() == pytest.approx([0.0474], abs=1e-4)
    assert (wrong[~measured] == 0).all()
    assert torch.equal(found_m[measured], depth_m[measured])
    # A plane may leave its source by a factor of 1.6.
    assert ((found_m >= 1.3 / 1.6) & (found_m <= 2 * 1.6)).all()
    network.head.bias.data[-16:] = 10
    doubted_m, _, wrong = Deployed(network)(depth_m, color)
    assert (wrong[measured] > 0.99).all()
    assert not torch.equal(doubted_m[measured], depth_m[measured])


def test_depth_in_other_units_gives_the_same_choice():
    depth_m = torch.rand(1, 1, 32, 64) + 1
    depth_m[depth_m < 1.4] = 0
    color = torch.rand(1, 3, 32, 64)
    network = untaught()
    once, twice = (estimate(network, k * depth_m, color).depth_m for k in (1, 2))
    torch.testing.assert_close(2 * once, twice)


def test_judging_only_where_something_is_to_be_decided_changes_nothing():
    torch.manual_seed(2)
    network = DepthChooser('nano').eval()
    torch.nn.init.normal_(network.head.weight, std=2)
    depth_m = torch.rand(2, 1, 32, 64) + 1
    depth_m[:, :, 5:9, 10:40] = 0
    color = torch.rand(2, 3, 32, 64)
    with torch.no_grad():
        per_pixel, prediction = network(depth_m, color)
        found = estimate(network, depth_m, color)
    assert (found.wrong > 0.5).any()
    everywhere_m = 1 / prediction.chosen_inverse(prediction.choice())
    everywhere_m = from_rows(everywhere_m * per_pixel.correction.exp(), 32, 64)
    decided = (depth_m == 0) | (found.wrong > 0.5)
    torch.testing.assert_close(found.depth_m[decided], everywhere_m[decided], rtol=1e-4, atol=1e-5)


def test_judging_some_cells_says_of_them_what_judging_all_does():
    torch.manual_seed(3)
    network = DepthChooser('nano').eval()
    depth_m = torch.rand(2, 1, 32, 64) + 1
    depth_m[depth_m < 1.3] = 0
    color, cells = torch.rand(2, 3, 32, 64), torch.tensor([0, 7, 130, 255])
    with torch.no_grad():
        (per_pixel, whole), (same, part) = network(depth_m, color), network(depth_m, color, cells)
    assert all(torch.equal(one, other) for one, other in zip(per_pixel, same, strict=True))
    torch.testing.assert_close(part.logits(), whole.logits()[cells], rtol=1e-4, atol=1e-4)
    assert torch.equal(part.there, whole.there[cells])


def test_what_is_beside_is_the_nearest_measurement_and_of_two_the_farther():
    inverse = torch.zeros(1, 1, 9, 16)
    inverse[0, 0, 4, 3], inverse[0, 0, 4, 9] = 1.0, 0.5
    found, distance_px = find_beside(inverse)
    assert found[0, 0, 4].tolist() == 6 * [1.0] + 8 * [0.5] + 2 * [0.0]
    assert distance_px[0, 0, 4].tolist() == [3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 4, 0, 0]
    # An octagon: one step along an axis, the next also across.
    assert distance_px[0, 0, 3, 2] == 2
    assert distance_px[0, 0, 2, 1] == 3
    assert found[0, 0, 0, 0] == 0


@pytest.mark.parametrize('size', list(SIZES))
def test_every_layer_is_taught_even_where_features_are_negative(size):
    network = DepthChooser(size)
    for bias in (b for name, b in network.context.named_parameters() if name.endswith('bias')):
        torch.nn.init.constant_(bias, -5.0)
    torch.nn.init.normal_(network.context.up[0].weight, std=0.1)
    for block in network.context.modules():
        if isinstance(block, Block):
            torch.nn.init.normal_(block.second.weight, std=0.1)
    depth_m = torch.rand(1, 1, 64, 64) + 1
    depth_m[:, :, 20:40, 20:40] = 0
    _, prediction = network(depth_m, torch.rand(1, 3, 64, 64))
    prediction.logits().square().mean().backward()
    for name, parameter in network.context.named_parameters():
        assert parameter.grad.abs().max() > 0, name
