from dataclasses import replace

import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.sensors import (
    ActiveStereo,
    ActiveStereoParameters,
    StructuredLight,
    StructuredLightParameters,
    TimeOfFlight,
    TimeOfFlightParameters,
    View,
)
from training.sensors.matching import occluded
from training.sensors.noise import noise_field

SHAPE = (1, 1, 96, 160)
FOCAL_PX = 580.0

SENSORS = {
    'structured_light': (StructuredLight, StructuredLightParameters(registered_share=0.0)),
    'active_stereo': (ActiveStereo, ActiveStereoParameters(registered_share=0.0)),
    'time_of_flight': (TimeOfFlight, TimeOfFlightParameters()),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def view(depth_m, **given):
    height, width = depth_m.shape[2:]
    matrix = [[FOCAL_PX, 0, (width - 1) / 2], [0, FOCAL_PX, (height - 1) / 2], [0, 0, 1]]
    matrix = torch.tensor([matrix]).expand(len(depth_m), 3, 3)
    given.setdefault('reflectance', torch.full_like(depth_m, 0.6))
    return View(depth_m, matrix, **given)


def wall(depth_m, shape=SHAPE):
    return view(torch.full(shape, depth_m))


def step(near_m=1.0, far_m=2.0):
    """A wall with a near strip in the columns 60 to 99."""
    depth_m = torch.full(SHAPE, far_m)
    depth_m[..., 60:100] = near_m
    return view(depth_m)


@pytest.fixture(params=SENSORS)
def sensor(request):
    kind, parameters = SENSORS[request.param]
    return lambda scene, seed=0: kind(parameters, tuple(scene.shape), generator(seed))


def test_a_wall_is_measured_metrically(sensor):
    for depth_m in (1.0, 2.5):
        scene = wall(depth_m)
        found_m = sensor(scene)(scene, generator(1))
        inner = found_m[..., 10:-10, 50:-20]
        assert inner.isnan().float().mean() < 0.1
        assert inner.nanmedian().item() == pytest.approx(depth_m, rel=0.02)


def test_the_same_seeds_give_the_same_frame_and_others_do_not(sensor):
    scene = step()
    first, again = (sensor(scene)(scene, generator(1)) for _ in range(2))
    torch.testing.assert_close(first, again, equal_nan=True, rtol=0, atol=0)
    other = sensor(scene)(scene, generator(2))
    assert not torch.equal(first.nan_to_num(), other.nan_to_num())


def test_nothing_gives_nothing(sensor):
    depth_m = torch.full(SHAPE, 1.5)
    depth_m[..., 80:] = torch.nan
    scene = view(depth_m)
    found_m = sensor(scene)(scene, generator())
    assert found_m[..., 100:].isnan().all()


def test_counts_are_millimetres(sensor):
    scene = wall(1.7)
    found_mm = 1000 * sensor(scene)(scene, generator())
    found_mm = found_mm[found_mm.isfinite()]
    assert (found_mm - found_mm.round()).abs().max() < 1e-2


def test_a_view_of_another_size_is_refused(sensor):
    cameras = sensor(wall(1.0))
    with pytest.raises(ValueError, match='The cameras see'):
        cameras(wall(1.0, (1, 1, 48, 64)), generator())


@pytest.mark.parametrize('kind', ['structured_light', 'active_stereo'])
def test_noise_grows_with_the_square_of_distance(kind):
    make, parameters = SENSORS[kind]
    quiet = replace(parameters, disparity_step_px=1e-4, depth_unit_m=1e-5)
    if kind == 'structured_light':
        quiet = replace(quiet, noise_scale=(1.0, 1.0))

    def spread_m(depth_m):
        scene = wall(depth_m)
        found_m = make(quiet, SHAPE, generator())(scene, generator(1))[..., 20:-20, 60:-20]
        return found_m[found_m.isfinite()].std().item()

    near, far = spread_m(1.0), spread_m(3.0)
    if kind == 'structured_light':
        # Nguyen 2012: 0.0012 + 0.0019 (z - 0.4)^2 metres.
        assert near == pytest.approx(0.0012 + 0.0019 * 0.36, rel=0.35)
        assert far == pytest.approx(0.0012 + 0.0019 * 6.76, rel=0.35)
    else:
        assert far / near > 6  # 9 by geometry alone, more as the dots fade


def test_structured_light_rounds_disparity_to_eighths():
    parameters = replace(
        StructuredLightParameters(registered_share=0.0),
        focal_px=(FOCAL_PX, FOCAL_PX),
        disparity_offset_px=(0.0, 0.0),
        depth_unit_m=1e-6,
    )
    scene = wall(3.0)
    found_m = StructuredLight(parameters, SHAPE, generator())(scene, generator(1))
    disparity_px = FOCAL_PX * 0.075 / found_m[found_m.isfinite()]
    steps = disparity_px * 8
    assert (steps - steps.round()).abs().max() < 1e-2
    assert len(steps.round().unique()) >= 2


@pytest.mark.parametrize(
    ('kind', 'baseline_m'), [('structured_light', 0.075), ('active_stereo', None)]
)
def test_a_shadow_is_as_wide_as_the_disparities_differ(kind, baseline_m):
    make, parameters = SENSORS[kind]
    if baseline_m is None:
        baseline_m = 0.05
        parameters = replace(parameters, baseline_m=(0.05, 0.05))
    scene = step()
    found_m = make(parameters, SHAPE, generator())(scene, generator(1))
    # The projector, or the other camera, is on the right: it does not see what is left of the
    # strip, b f (1 / 1 m - 1 / 2 m) pixels of it.
    want_px = baseline_m * FOCAL_PX * 0.5
    lost = found_m[0, 0, 20:-20].isnan()
    left = lost[:, 20:70].float().sum(1).mean().item()
    right = lost[:, 90:140].float().sum(1).mean().item()
    # Windows reach a few pixels over both edges.
    assert left == pytest.approx(want_px, abs=6)
    assert right < 6


def test_occlusion_is_the_difference_of_the_disparities():
    disparity_px = torch.full((1, 1, 1, 60), 5.0)
    disparity_px[..., 30:40] = 15.0
    hidden = occluded(disparity_px)[0, 0, 0]
    # Columns 20 to 29 lie at 15 to 24 in the other eye, where the strip lies.
    assert hidden.nonzero()[:, 0].tolist() == list(range(20, 30))
    mirrored = occluded(-disparity_px)[0, 0, 0]
    assert mirrored.nonzero()[:, 0].tolist() == list(range(40, 50))


@pytest.mark.parametrize('kind', SENSORS)
def test_dark_surfaces_are_lost_first(kind):
    make, parameters = SENSORS[kind]
    reflectance = torch.full(SHAPE, 0.6)
    reflectance[..., 80:] = 0.001
    scene = view(torch.full(SHAPE, 3.0), reflectance=reflectance)
    if kind == 'active_stereo':
        parameters = replace(parameters, texture_contrast=(0.0, 0.0))
    lost = make(parameters, SHAPE, generator())(scene, generator(1)).isnan().float()
    assert lost[..., 100:140].mean() > lost[..., 60:75].mean() + 0.5


@pytest.mark.parametrize('kind', ['structured_light', 'active_stereo'])
def test_through_glass_a_sensor_sees_what_is_behind(kind):
    make, parameters = SENSORS[kind]
    glass = torch.zeros(SHAPE, dtype=torch.bool)
    glass[..., 60:110] = True
    depth_m = torch.where(glass, 1.0, 2.0)
    scene = view(depth_m, glass=glass, behind_m=torch.full(SHAPE, 2.0))
    parameters = replace(parameters, glass_share=(0.0, 0.0))
    found_m = make(parameters, SHAPE, generator())(scene, generator(1))[..., 70:100]
    assert found_m.nanmedian().item() == pytest.approx(2.0, rel=0.03)


def test_phase_begins_anew_beyond_the_ambiguity():
    parameters = replace(
        TimeOfFlightParameters(), ambiguity_m=(3.0, 3.0), nearest_m=(0.1, 0.1),
        faintest_amplitude=(0.0, 0.0),
    )  # fmt: skip
    scene = wall(3.8)
    found_m = TimeOfFlight(parameters, SHAPE, generator())(scene, generator(1))
    middle = found_m[..., 40:56, 70:90].nanmedian().item()
    # Along the ray the wall is 3.8 m away in the middle, of which 0.8 m are left.
    assert middle == pytest.approx(0.8, abs=0.08)


def test_pixels_fly_between_two_surfaces():
    parameters = replace(TimeOfFlightParameters(), mixed_spread_m=(9.0, 9.0))
    found_m = TimeOfFlight(parameters, SHAPE, generator())(step(), generator(1))
    between = (found_m > 1.15) & (found_m < 1.85)
    columns = between[0, 0].float().mean(0)
    assert columns[57:63].max() > 0.3
    assert columns[20:50].max() == 0


def test_part_of_the_noise_stays_from_frame_to_frame():
    scene = wall(2.0)
    parameters = replace(
        StructuredLightParameters(registered_share=0.0), disparity_step_px=1e-4,
        repeating_share=(0.8, 0.8), drifting_share=(0.0, 0.0),
    )  # fmt: skip
    cameras = StructuredLight(parameters, SHAPE, generator())
    frames = torch.stack([cameras(scene, generator(k))[0, 0, 20:-20, 60:-20] for k in range(8)])
    fixed = frames.mean(0).var()
    passing = frames.var(0).mean()
    share = (fixed - passing / 8) / (fixed + passing * 7 / 8)
    assert share.item() == pytest.approx(0.8, abs=0.12)


def test_noise_fields_have_unit_variance_and_their_correlation():
    field = noise_field((4, 1, 200, 200), 1.5, generator())
    assert field.std().item() == pytest.approx(1.0, abs=0.05)
    # exp(-r^2 / (4 s^2)) at r = 2 px.
    lagged = (field[..., 2:] * field[..., :-2]).mean().item()
    assert lagged == pytest.approx(0.641, abs=0.05)
