import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.sensors import View, match_rendered_pair
from training.sensors.active_stereo import seen_from_the_right
from training.sensors.matching import match_windows, occluded


def step(width=40, at=20, near_px=12.0, far_px=4.0):
    disparity_px = torch.full((1, 1, 15, width), far_px)
    disparity_px[..., at:] = near_px
    return disparity_px


def test_a_window_on_one_surface_finds_its_mean():
    slanted = torch.arange(40.0).mul(0.1).expand(1, 1, 15, 40).contiguous()
    match = match_windows(slanted, torch.ones_like(slanted), 5)
    torch.testing.assert_close(match.near_px[..., 4:-4], slanted[..., 4:-4])
    assert torch.equal(match.near_px, match.far_px)
    assert (match.near_share[..., 4:-4, 4:-4] - 1).abs().max() < 1e-6
    assert (match.far_share == 0).all()


def test_a_window_over_a_step_is_shared_by_the_area_of_both_surfaces():
    match = match_windows(step(), torch.ones(1, 1, 15, 40), 5)
    middle = 7
    for column, near in ((18, 1 / 5), (19, 2 / 5), (20, 3 / 5), (21, 4 / 5)):
        assert match.near_share[0, 0, middle, column].item() == pytest.approx(near, abs=1e-5)
        assert match.far_share[0, 0, middle, column].item() == pytest.approx(1 - near, abs=1e-5)
        assert match.near_px[0, 0, middle, column] == 12
        assert match.far_px[0, 0, middle, column] == 4
    # Two pixels away the window of five ends.
    assert match.far_share[0, 0, middle, 22] == 0
    assert match.near_px[0, 0, middle, 17] == 4


def test_what_carries_no_pattern_does_not_count():
    weight = torch.ones(1, 1, 15, 40)
    weight[..., 20:] = 0  # the near surface is black
    match = match_windows(step(), weight, 5)
    column = match.near_share[0, 0, 7]
    assert column[19].item() == pytest.approx(0, abs=1e-5)
    assert match.far_share[0, 0, 7, 19].item() == pytest.approx(3 / 5, abs=1e-5)
    even = match.advantage(torch.ones(1, 1, 1, 1))[0, 0, 7, 19]
    assert even < -5
    doubled = match.advantage(torch.full((1, 1, 1, 1), 2.0))[0, 0, 7, 19]
    assert (doubled - even).item() == pytest.approx(0.693, abs=1e-3)


def test_a_slanted_surface_hides_nothing():
    slanted = torch.linspace(5, 25, 60).expand(1, 1, 3, 60).contiguous()
    assert not occluded(slanted).any()
    assert not occluded(-slanted).any()
    assert not occluded(torch.zeros(1, 1, 3, 60)).any()


def test_the_right_camera_sees_near_things_further_left():
    disparity_px = torch.full((1, 1, 1, 40), 2.0)
    disparity_px[..., 20:25] = 8.0
    right = seen_from_the_right(disparity_px)[0, 0, 0]
    # The strip at 20 to 24 appears at 12 to 16; what it hid from the left eye goes on behind.
    assert right[12:17].tolist() == [8.0] * 5
    assert right[:12].tolist() == [2.0] * 12
    assert right[17:38].tolist() == [2.0] * 21


def test_matching_rendered_images_finds_the_wall_and_loses_what_one_eye_misses():
    depth_m = torch.full((1, 1, 120, 200), 2.0)
    depth_m[..., 30:90, 90:140] = 1.0
    matrix = torch.tensor([[[580.0, 0, 99.5], [0, 580.0, 59.5], [0, 0, 1]]])
    view = View(depth_m, matrix, reflectance=torch.full_like(depth_m, 0.6))
    found_m = match_rendered_pair(view, torch.Generator().manual_seed(0))[0, 0]
    wall, strip = found_m[40:80, 150:190], found_m[40:80, 100:130]
    assert wall.nanmedian().item() == pytest.approx(2.0, rel=0.01)
    assert strip.nanmedian().item() == pytest.approx(1.0, rel=0.01)
    # 580 px * 0.05 m * (1 / 1 m - 1 / 2 m) = 14.5 px to the left of the box, none on its right.
    lost = found_m[40:80].isnan().float()
    assert lost[:, 60:100].sum(1).mean().item() == pytest.approx(14.5, abs=5)
    assert lost[:, 130:160].sum(1).mean() < 5
    # What lies left of the right camera's image: 580 * 0.05 / 2 px.
    assert found_m[100:, :14].isnan().all()
    again = match_rendered_pair(view, torch.Generator().manual_seed(0))[0, 0]
    assert torch.equal(again.nan_to_num(), found_m.nan_to_num())


def test_a_step_hides_a_strip_as_wide_as_itself_unless_it_is_very_small():
    disparity_px = torch.full((1, 1, 1, 60), 5.0)
    disparity_px[..., 30:40] = 9.0
    assert occluded(disparity_px)[0, 0, 0].nonzero()[:, 0].tolist() == [26, 27, 28, 29]
    disparity_px[..., 30:40] = 6.2  # roughness of a surface, not another one
    assert not occluded(disparity_px).any()
