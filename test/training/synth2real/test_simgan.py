import math

import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.networks.simgan import (
    GAZE_LAYERS,
    HAND_LAYERS,
    REAL,
    REFINED,
    DepthRefiner,
    Discriminator,
    GreyRefiner,
    Refined,
    RefinerLayers,
    patches,
    seen_depth,
    seen_grey,
    shifted,
)
from training.synth2real.simgan_losses import (
    accuracy,
    adversarial,
    channel_mean,
    derivatives,
    features_of,
    identity,
    lost_share,
    self_regularisation,
)


def count(module):
    return sum(p.numel() for p in module.parameters())


def convolution(inputs, outputs, kernel):
    return kernel * kernel * inputs * outputs + outputs


def hand(size=40, seed=0):
    """A tilted disc about 0.8 m away, nothing beside it."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing='ij')
    disc = (rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (0.4 * size) ** 2
    depth = -1.2 + 0.05 * rows / size + 0.0005 * torch.randn(
        2, 1, size, size, generator=torch.Generator().manual_seed(seed)
    )  # fmt: skip
    return torch.where(disc, depth, 0.0)


def small(**options):
    torch.manual_seed(0)
    return DepthRefiner(**({'kernel': 3, 'blocks': 1, 'maps': 8} | options))


# ------------------------------------------------------------------------------------- networks


def test_refiners_are_the_papers():
    # Hands: 7x7, 10 blocks of two convolutions, 64 maps; inputs and outputs are ours.
    expected = convolution(4, 64, 7) + 20 * convolution(64, 64, 7) + convolution(64, 2, 1)
    assert count(DepthRefiner()) == expected == 4_028_098
    # Gaze: 3x3, 4 blocks, one map in and out.
    expected = convolution(1, 64, 3) + 8 * convolution(64, 64, 3) + convolution(64, 1, 1)
    assert count(GreyRefiner()) == expected == 296_129
    for refiner in (DepthRefiner(), GreyRefiner()):
        kinds = {type(m) for m in refiner.layers.modules() if not list(m.children())}
        assert kinds == {torch.nn.Conv2d, torch.nn.ReLU}
        assert {m.stride for m in refiner.modules() if isinstance(m, torch.nn.Conv2d)} == {(1, 1)}


def test_discriminators_are_the_papers():
    hands = Discriminator(3, HAND_LAYERS, (224, 224))
    expected = convolution(3, 96, 7) + convolution(96, 64, 5) + convolution(64, 32, 3)
    expected += convolution(32, 32, 1) + convolution(32, 2, 1)
    assert count(hands) == expected == 187_458
    strides = [(m.kernel_size, m.stride) for m in hands.layers if hasattr(m, 'stride')]
    assert strides == [
        ((7, 7), (4, 4)), ((5, 5), (2, 2)), (3, 2), ((3, 3), (2, 2)), ((1, 1), (1, 1)),
        ((1, 1), (1, 1)),
    ]  # fmt: skip
    eyes = Discriminator(1, GAZE_LAYERS, (35, 55))
    expected = convolution(1, 96, 3) + convolution(96, 64, 3) + convolution(64, 32, 3)
    expected += convolution(32, 32, 1) + convolution(32, 2, 1)
    assert count(eyes) == expected == 75_906
    strides = [(m.kernel_size, m.stride) for m in eyes.layers if hasattr(m, 'stride')]
    assert strides == [
        ((3, 3), (2, 2)), ((3, 3), (2, 2)), (3, 1), ((3, 3), (1, 1)), ((1, 1), (1, 1)),
        ((1, 1), (1, 1)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('layers', 'size', 'grid'),
    [
        (HAND_LAYERS, (224, 224), (7, 7)),  # 224 / 4 / 2 / 2 / 2
        (HAND_LAYERS, (100, 70), (4, 3)),  # 25, 13, 7, 4 and 18, 9, 5, 3
        (GAZE_LAYERS, (35, 55), (9, 14)),  # 18, 9 and 28, 14
    ],
)
def test_patches(layers, size, grid):
    with torch.no_grad():
        logits = Discriminator(1, layers, size)(torch.rand(2, 1, *size))
        whole = Discriminator(1, layers, size, 'global')(torch.rand(2, 1, *size))
    assert logits.shape == (2, 2, *grid)
    assert patches(layers, size) == grid
    assert whole.shape == (2, 2, 1, 1)
    assert torch.allclose(logits.softmax(1).sum(1), torch.ones(2, *grid))


@pytest.mark.parametrize(('layers', 'sees_px'), [(HAND_LAYERS, 71), (GAZE_LAYERS, 23)])
def test_what_a_patch_sees(layers, sees_px):
    # Each layer widens what is seen by kernel - 1 of the steps before it.
    expected, step = 1, 1
    for layer in layers:
        expected, step = expected + (layer.kernel - 1) * step, step * layer.stride
    assert expected == sees_px
    judge = Discriminator(1, layers, (224, 224))
    image = torch.rand(1, 1, 224, 224, requires_grad=True)
    logits = judge(image)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    seen = (image.grad[0, 0] != 0).any(0).nonzero()
    # The greatest of 3x3 hides some of what it looked at.
    assert sees_px / 2 < seen.max() - seen.min() + 1 <= sees_px


def test_a_refiner_sees_as_far_as_its_filters():
    layers = RefinerLayers(1, 1, kernel=3, blocks=2, maps=4).double()
    for weights in layers.parameters():
        weights.data.abs_()  # so that no ReLU is in the way
    image = torch.rand(1, 1, 31, 31, dtype=torch.float64, requires_grad=True)
    layers(image)[0, 0, 15, 15].backward()
    rows = (image.grad[0, 0] != 0).any(1).nonzero()
    assert rows.max() - rows.min() + 1 == 1 + 5 * 2


# -------------------------------------------------------------------------------------- refining


def test_a_refiner_starts_near_the_identity():
    depth = hand()
    refined = DepthRefiner(blocks=2, maps=16, holes=False)(depth).without_holes()
    change_mm = 1e3 * (refined - depth).abs()
    assert 0 < change_mm.max() < 0.5
    assert torch.equal(refined == 0, depth == 0)
    kept = DepthRefiner(blocks=2, maps=16, holes=True)(depth).kept.detach()
    assert 0.95 < float(kept[depth != 0].mean()) < 1
    eye = torch.rand(2, 1, 35, 55)
    assert 0 < (GreyRefiner()(eye).without_holes() - eye).abs().max() < 2e-3


def test_millimetres_survive():
    """What is said of the depth is added to it; 16 bits are neither rounded nor scaled."""
    refiner = small(holes=False)
    refiner.layers[-1].weight.data.zero_()
    depth = hand()
    assert torch.equal(refiner(depth).without_holes(), depth)
    refiner.layers[-1].bias.data[0] = 0.2  # of 5 mm
    moved = refiner(depth).without_holes() - depth
    assert moved[depth != 0].sub(1e-3).abs().max() < 1e-6
    assert (moved[depth == 0] == 0).all()


def test_the_papers_output_is_depth_itself():
    refiner = small(direct=True)
    refiner.layers[-1].weight.data.zero_()
    depth = hand()
    out = refiner(depth).without_holes().detach()
    for before, after in zip(depth, out, strict=True):
        assert (after[after != 0] - before[before != 0].mean()).abs().max() < 1e-6


def test_dropped_pixels_are_exactly_nothing_and_can_be_learned():
    refiner = small()
    depth = hand()
    refiner.layers[-1].bias.data[1] = -2.5  # kept with sigmoid(4 softsign(-2.5 + 1.5))
    share = 1 / (1 + math.exp(2.0))
    dropped = refiner(depth)
    lost = (depth != 0) & (dropped.without_holes() == 0)
    assert torch.equal(lost, (depth != 0) & (dropped.kept == 0))
    # Of the outline what chance decides; inside, of a sixth: beyond a standard deviation.
    hand_of = (depth != 0).float()
    inside = -torch.nn.functional.max_pool2d(-hand_of, 3, 1, 1) > 0
    assert float(lost[(depth != 0) & ~inside].float().mean()) == pytest.approx(1 - share, abs=0.05)
    assert 0.08 < lost[inside].float().mean() < 0.25
    # The same crop always loses the same.
    assert torch.equal(refiner(depth).without_holes(), dropped.without_holes())
    dropped.kept.sum().backward()
    each = share * (1 - share) * 4 * (1 + 1.0) ** -2
    expected = float(lost.sum()) / (1 - share) * each
    assert float(refiner.layers[-1].bias.grad[1]) == pytest.approx(expected, rel=0.1)


def test_what_drops_too_much_still_drops_by_chance():
    refiner = small()
    refiner.layers[-1].bias.data[1] = -50.0
    depth = hand()
    kept = refiner(depth).kept
    beside = torch.nn.functional.max_pool2d((depth == 0).float(), 3, 1, 1) > 0
    assert 0.005 < float(kept.detach()[(depth != 0) & beside].mean()) < 0.06
    kept.sum().backward()
    assert float(refiner.layers[-1].bias.grad[1]) > 0


def test_a_refiner_without_holes_keeps_all():
    depth = hand()
    keeping = small(holes=False)
    assert keeping.layers[-1].out_channels == 1
    assert torch.equal(keeping(depth).kept, (depth != 0).float())


def test_grain_is_of_the_image():
    refiner = small()
    refiner.layers[-1].weight.data.mul_(100)
    depth = hand()
    once, again = refiner(depth).image, refiner(depth).image
    assert torch.equal(once, again)
    # In another batch, the same.
    assert torch.allclose(refiner(depth[1:]).image, once[1:], atol=1e-6)
    grain = shifted(refiner.grain, (depth != 0).float())
    assert torch.equal(grain[0], grain[1])
    depth[0, 0, 20, 20] = 0
    grain = shifted(refiner.grain, (depth != 0).float())
    assert (grain[0] != grain[1])[depth[0] != 0].float().mean() > 0.9


def test_what_networks_see():
    depth = torch.zeros(1, 1, 7, 7)
    depth[..., 1:6, 1:6] = -1.3
    depth[..., 3, 3] = -1.3 + 0.009  # 9 mm farther than the others
    relative, fine, kept = seen_depth(Refined(depth, (depth != 0).float()))[0]
    assert kept.sum() == 25
    # The mean is 9 / 25 mm farther than the others; 5 cm are 1.
    assert relative[1, 1] == pytest.approx(-0.00036 / 0.05, abs=1e-5)
    assert relative[3, 3] == pytest.approx(0.00864 / 0.05, abs=1e-5)
    # In the middle 8 mm from the mean of nine, 1.6 units, squashed; at the corner of four.
    assert fine[3, 3] == pytest.approx(1.6 / 2.6, abs=1e-4)
    assert fine[1, 1] == pytest.approx(-0.45 / 1.45, abs=1e-4)
    assert fine[2, 2] == 0  # two away are only others like it
    assert (relative[0] == 0).all()
    assert (fine[0] == 0).all()
    # Where the hand is does not matter, nor what is under a hole.
    farther = torch.where(depth != 0, depth + 0.3, 0.77)
    again = seen_depth(Refined(farther, (depth != 0).float()))[0]
    assert torch.allclose(again, torch.stack([relative, fine, kept]), atol=1e-4)
    grey = torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3)
    assert seen_grey(Refined(grey, grey)).flatten().tolist() == [-1, 0, 1]


# ---------------------------------------------------------------------------------------- losses


def test_adversarial_losses():
    even = torch.zeros(2, 2, 3, 4)
    assert float(adversarial(even, REAL)) == pytest.approx(math.log(2))
    # Logits 1 for real, 0 for refined: -log of e / (e + 1) and of 1 / (e + 1).
    sure = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 2, 2)
    assert float(adversarial(sure, REAL)) == pytest.approx(math.log(1 + math.exp(-1)))
    assert float(adversarial(sure, REFINED)) == pytest.approx(math.log(1 + math.e))
    assert float(accuracy(sure, REAL)) == 1
    assert float(accuracy(sure, REFINED)) == 0
    # Of two patches, one is right.
    mixed = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    assert float(accuracy(mixed, REAL)) == 0.5
    wanted = (math.log(1 + math.exp(-1)) + math.log(1 + math.e)) / 2
    assert float(adversarial(mixed, REAL)) == pytest.approx(wanted)


def pair():
    """Three pixels of a hand and one of nothing; the first is moved by 3 mm, the last by 1."""
    image = torch.tensor([-1.2, -1.21, -1.22, 0.0]).reshape(1, 1, 1, 4)
    moved = image + torch.tensor([0.003, 0.0, 0.001, 0.0]).reshape(1, 1, 1, 4)
    return image, Refined(moved, (image != 0).float())


@pytest.mark.parametrize(
    ('psi', 'expected_mm'),
    [
        (identity, (3 + 0 + 1) / 3),
        (derivatives, (3 + 1) / 2),  # two differences across; none down
        (channel_mean, 4 / 3),
        (features_of(torch.nn.AvgPool2d((1, 2))), (1.5 + 0.5) / 2),
    ],
)
def test_self_regularisation_in_millimetres(psi, expected_mm):
    image, refined = pair()
    found = self_regularisation(psi, refined, image, unit=1e3, hole=10)
    assert float(found) == pytest.approx(expected_mm, rel=1e-3)


def test_the_mean_lets_details_change():
    image, _ = pair()
    wiggled = Refined(image + torch.tensor([0.002, -0.004, 0.002, 0]), (image != 0).float())
    assert float(self_regularisation(channel_mean, wiggled, image, unit=1e3)) < 1e-3
    found = self_regularisation(identity, wiggled, image, unit=1e3)
    assert float(found) == pytest.approx(8 / 3, rel=1e-3)


def test_the_share_that_is_dropped_is_of_what_was_known():
    image = torch.tensor([[[[-1.0, -1.0, -1.0, -1.0, 0.0, 0.0]]]])
    kept = torch.tensor([[[[1.0, 0.0, 1.0, 1.0, 0.0, 0.0]]]], requires_grad=True)
    lost = lost_share(Refined(image, kept), image)
    assert float(lost.detach()) == 0.25
    lost.backward()
    assert kept.grad.flatten().tolist() == [-0.25] * 4 + [0.0] * 2


def test_a_dropped_pixel_costs_what_is_said():
    image, refined = pair()
    kept = refined.kept.clone()
    kept[..., 0] = 0
    found = self_regularisation(identity, Refined(refined.image, kept), image, unit=1e3, hole=9)
    # Of three pixels one is lost; of the two that are left one moved by 1 mm.
    assert float(found) == pytest.approx(0.5 + 9 / 3, rel=1e-3)
    # What a hole costs does not depend on the metre that is under it.
    share = torch.full_like(kept, 0.0, requires_grad=True)
    soft = refined.kept + share
    self_regularisation(identity, Refined(refined.image, soft), image, unit=1e3, hole=9).backward()
    assert share.grad.flatten().tolist() == pytest.approx([-3, -3, -3, 0])
