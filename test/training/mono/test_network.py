import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.mono.network import Deployed, Guess, MonocularDepth, enlarged, ray_directions


def deployed():
    torch.manual_seed(0)
    return Deployed(MonocularDepth().eval())


def picture(height, width):
    generator = torch.Generator().manual_seed(1)
    return (255 * torch.rand((height, width, 3), generator=generator)).byte()


def test_rays_by_hand():
    rays = ray_directions(torch.tensor([[2.0, 4.0, 1.0, 0.5]]), 2, 3)
    assert rays[0, 0].tolist() == [[-0.5, 0.0, 0.5]] * 2
    assert rays[0, 1].tolist() == [[-0.125] * 3, [0.125] * 3]


def test_depth_scales_with_the_focal_length():
    # Twice the focal length with the same picture and the same rays cannot be had; with the rays
    # switched off, what is left is the canonical camera.
    network = MonocularDepth().eval()
    with torch.no_grad():
        network.deepest[0].weight[:, -2:] = 0
        for stage in network.decoder:
            stage.beside.weight[:, -2:] = 0
        torch.nn.init.normal_(network.head.weight)
    color = torch.rand(1, 3, 32, 64)
    near = network(color, torch.tensor([[100.0, 100.0, 24.0, 16.0]]))
    far = network(color, torch.tensor([[200.0, 200.0, 24.0, 16.0]]))
    torch.testing.assert_close(
        far.log_depth - near.log_depth, torch.full((1, 1, 32, 64), 2.0).log()
    )
    torch.testing.assert_close(far.log_relative, near.log_relative)


def test_rays_reach_every_scale():
    network = MonocularDepth().eval()
    with torch.no_grad():
        torch.nn.init.normal_(network.head.weight)
        color = torch.rand(1, 3, 32, 64)
        level = network(color, torch.tensor([[100.0, 100.0, 31.5, 15.5]]))
        upward = network(color, torch.tensor([[100.0, 100.0, 31.5, 55.5]]))
    assert float((level.log_relative - upward.log_relative).abs().max()) > 1e-3


@pytest.mark.parametrize('size', [(48, 64), (50, 71), (1, 1), (480, 640)])
def test_any_size_of_picture(size):
    with torch.no_grad():
        depth_m, stddev_m = deployed()(picture(*size), torch.tensor([60.0, 60.0, 30.0, 20.0]))
    assert depth_m.shape == stddev_m.shape == size
    assert bool((depth_m > 0).all())
    assert bool((stddev_m > 0).all())


def test_padding_does_not_move_the_principal_point():
    # What is padded lies right and below, so the first pixels see almost what they saw before.
    network = deployed()
    intrinsics = torch.tensor([60.0, 60.0, 30.0, 20.0])
    seen = []

    def remember(color, given):
        seen.append(given)
        return Guess(*(torch.zeros_like(color[:, :1]) for _ in range(3)))

    network.network = torch.nn.Module()
    network.network.forward = remember
    network(picture(50, 71), intrinsics)
    # A fifth of the pixels: centre 30 lies at 30.5 from the edge, which is 6.1, so 5.6.
    np.testing.assert_allclose(seen[0], [[12.0, 12.0, 5.6, 3.6]], rtol=1e-6)


def test_enlarged_is_smooth_on_surfaces_and_sharp_at_edges():
    depth_m = torch.tensor([[1.0, 1.01, 3.0, 3.0]]).repeat(2, 1)[None, None]
    row = enlarged(depth_m, 2)[0, 0, 1].tolist()
    np.testing.assert_allclose(row, [1.0, 1.0025, 1.0075, 1.01, 3.0, 3.0, 3.0, 3.0], rtol=1e-5)
