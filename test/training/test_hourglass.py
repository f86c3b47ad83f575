"""Shapes of the stacked hourglass, and heatmaps there and back."""

import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.hourglass import StackedHourglass, heatmaps_of, joints_of


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
