"""Shapes of the stacked hourglass, and heatmaps there and back."""

import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.networks.hourglass import StackedHourglass, heatmaps_of, joints_of


def test_every_stack_gives_a_heatmap_of_every_joint():
    network = StackedHourglass(14, stacks=2, features=16)
    assert network(torch.zeros(1, 1, 224, 224)).shape == (1, 2, 14, 64, 64)


def test_the_network_of_the_paper_has_its_size():
    """Newell's two stacks with 256 features and one residual module a level are 6.7 M weights."""
    count = sum(p.numel() for p in StackedHourglass(16).parameters())
    assert count == pytest.approx(6.7e6, rel=0.03)


def test_a_stack_sees_the_heatmaps_before_it():
    torch.manual_seed(0)
    network = StackedHourglass(3, features=16).eval()
    depth = torch.randn(1, 1, 224, 224)
    before = network(depth)
    with torch.no_grad():
        network.heads[0].bias += 1
    after = network(depth)
    torch.testing.assert_close(after[:, 0], before[:, 0] + 1)
    assert not torch.allclose(after[:, 1], before[:, 1])


def test_a_heatmap_peaks_at_its_joint():
    # Pixel 31.5 of 64 is the middle of the crop: 111.5 of 224. Crop pixels are 3.5 to one.
    heatmap = heatmaps_of(torch.tensor([[[111.5 + 1.75, 111.5 - 1.75]]]), 224)[0, 0]
    assert heatmap.argmax() == 31 * 64 + 32
    assert heatmap[31, 32] == pytest.approx(1)
    assert heatmap[31, 33] == pytest.approx(0.6065, abs=1e-4)  # exp(-1/2)
    assert heatmap[30, 31] == pytest.approx(0.3679, abs=1e-4)  # exp(-1)


def test_joints_outside_have_no_heatmap():
    heatmaps = heatmaps_of(torch.tensor([[[-1.0, 100], [100, 224], [0, 0]]]), 224)
    assert heatmaps.amax((2, 3)).tolist()[0][:2] == [0, 0]
    assert heatmaps[0, 2].max() > 0.5


def test_heatmaps_there_and_back_are_within_a_quarter_of_their_pixel():
    generator = torch.Generator().manual_seed(0)
    joints = 220 * torch.rand(4, 21, 2, generator=generator) + 2
    found = joints_of(heatmaps_of(joints, 224), 224)
    assert (found - joints).abs().max() <= 0.25 * 3.5 + 1e-3


def test_a_peak_in_the_corner_is_found():
    heatmaps = torch.zeros(1, 1, 64, 64)
    heatmaps[0, 0, 0, 0] = 1
    torch.testing.assert_close(
        joints_of(heatmaps, 64), torch.tensor([[[0.0, 0.0]]]), atol=0.26, rtol=0
    )


@pytest.mark.slow
def test_two_hands_are_learned_by_heart(training_seed, check_learned):
    torch.manual_seed(training_seed)
    joints_px = torch.tensor([[[40.0, 60], [150, 90]], [[80, 160], [190, 30]]])
    depth = torch.zeros(2, 1, 224, 224)
    for image, joints in zip(depth, joints_px.long().tolist(), strict=True):
        for size, (u, v) in zip((12, 25), joints, strict=True):
            image[0, v - size : v + size, u - size : u + size] = -1.4
    network = StackedHourglass(2, stacks=1, features=16, heatmap_px=16)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    wanted = heatmaps_of(joints_px, 224, heatmap_px=16)[:, None]
    losses, errors_px = [], []
    for _ in range(40):
        heatmaps = network(depth)
        loss = (heatmaps - wanted).square().sum((3, 4)).mean()
        off_px = joints_of(heatmaps.detach()[:, -1], 224) - joints_px
        errors_px.append(float(off_px.norm(dim=2).mean()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # From the first step nothing is to be unlearned: maps of 0 leave the integral of the squared
    # Gaussian, pi.
    assert losses[0] == pytest.approx(3.14, abs=0.05)
    check_learned('loss', losses[0], losses[-1], 0.2)  # 0.018, deviation 0.017
    check_learned('error_px', errors_px[0], errors_px[-1], 0.1)  # 0.029, deviation 0.007


def test_heatmaps_are_as_large_as_asked():
    network = StackedHourglass(3, features=16, heatmap_px=32)
    assert network(torch.zeros(1, 1, 96, 96)).shape == (1, 2, 3, 32, 32)
    joints_px = torch.tensor([[[20.0, 70]]])
    found = joints_of(heatmaps_of(joints_px, 96, heatmap_px=32), 96)
    assert (found - joints_px).abs().max() <= 0.25 * 3 + 1e-3
