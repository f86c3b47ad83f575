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


def fixed(kind, **given):
    """Parameters of a sensor of which every span is one number, so that numbers can be told."""
    _, parameters = SENSORS[kind]
    return replace(
        parameters, **{k: (v, v) if isinstance(v, float) else v for k, v in given.items()}
    )


def test_steps_of_structured_light_at_two_metres_are_a_centimetre():
    parameters = replace(
        fixed('structured_light', focal_px=FOCAL_PX, noise_scale=1.0), depth_unit_m=1e-6
    )
    scene = wall(2.0)
    found_m = StructuredLight(parameters, SHAPE, generator())(scene, generator(1))
    levels_m = found_m[found_m.isfinite()].unique()
    # Khoshelham 2012: z^2 / (f b) * 1/8 px = 4 / (580 * 0.075) / 8 = 11.5 mm.
    middle = (levels_m - 2.0).abs().argsort()[:3].sort().values
    assert levels_m[middle].diff().tolist() == pytest.approx([0.0115] * 2, rel=0.02)


@pytest.mark.parametrize('depth_m', [1.0, 2.0])
def test_active_stereo_noise_is_its_subpixel_error_times_the_square_of_distance(depth_m):
    parameters = replace(
        fixed(
            'active_stereo', baseline_m=0.05, subpixel_px=0.05, waviness_px=0.0,
            weak_contrast=0.0, mismatch_share=0.0,
        ),
        disparity_step_px=1e-4, depth_unit_m=1e-6,
    )  # fmt: skip
    shape = (1, 1, 160, 240)
    found_m = ActiveStereo(parameters, shape, generator())(wall(depth_m, shape), generator(1))
    # z^2 / (f b) * 0.05 px: 1.7 mm at one metre, 6.9 mm at two.
    spread_m = found_m[..., 20:-20, 60:-20]
    want_m = depth_m**2 / (FOCAL_PX * 0.05) * 0.05
    assert spread_m[spread_m.isfinite()].std().item() == pytest.approx(want_m, rel=0.12)


def test_registration_to_a_camera_in_between_loses_a_band_on_either_side():
    parameters = replace(
        fixed(
            'structured_light', color_offset_m=0.025, registered_margin_px=0.0, lateral_px=0.4,
            least_support=0.5, speckle_share=0.0,
        ),
        registered_share=1.0, window_px=(7,),
    )  # fmt: skip
    shape = (1, 1, 96, 240)
    depth_m = torch.full(shape, 2.0)
    depth_m[..., 100:140] = 1.0
    found_m = StructuredLight(parameters, shape, generator())(view(depth_m), generator(1))
    lost = found_m[0, 0, 20:-20].isnan().float()
    # The projector is 50 mm to the right, the infrared camera 25 mm to the left: times
    # 580 px * (1 / 1 m - 1 / 2 m). Windows that want half of them lit do not reach into it.
    assert lost[:, 50:110].sum(1).mean().item() == pytest.approx(14.5, abs=1.5)
    assert lost[:, 130:190].sum(1).mean().item() == pytest.approx(7.25, abs=1.5)


def test_the_left_of_an_active_stereo_image_is_outside_the_other_camera():
    parameters = fixed('active_stereo', baseline_m=0.05, least_support=0.5)
    scene = wall(1.0)
    found_m = ActiveStereo(parameters, SHAPE, generator())(scene, generator(1))
    # 580 px * 0.05 m / 1 m = 29 px, to half of which windows reach from the right.
    assert found_m[..., :24].isnan().all()
    assert found_m[..., 34:].isnan().float().mean() < 0.01


def test_structured_light_is_lost_at_grazing_angles_in_the_dark_and_when_blinded():
    parameters = fixed(
        'structured_light', faintest_echo=0.01, echo_scatter=0.0, saturating_echo=1.0,
        speckle_share=0.0, least_support=0.4,
    )  # fmt: skip

    def lost(depth_m, reflectance, facing=1.0, gloss=0.0):
        normals = torch.zeros(1, 3, *SHAPE[2:])
        normals[:, 2], normals[:, 1] = -facing, (1 - facing**2) ** 0.5
        scene = view(
            torch.full(SHAPE, depth_m), normals=normals,
            reflectance=torch.full(SHAPE, reflectance), gloss=torch.full(SHAPE, gloss),
        )  # fmt: skip
        found_m = StructuredLight(parameters, SHAPE, generator())(scene, generator(1))
        return found_m[0, 0, 46:50, 76:84].isnan().float().mean().item()

    # What comes back is reflectance * cosine / z^2; 0.01 is needed, 1 is too much.
    assert lost(2.0, 0.05) == 0  # 0.0125
    assert lost(2.0, 0.03) == 1  # 0.0075
    assert lost(2.0, 0.4, facing=0.15) == 0  # 0.015
    assert lost(2.0, 0.4, facing=0.05) == 1  # 0.005
    assert lost(0.7, 0.4) == 0  # 0.82
    assert lost(0.7, 0.6) == 1  # 1.22
    # A polished surface seen straight on mirrors the projector into the camera.
    assert lost(1.0, 0.4, gloss=0.5) == 1
    assert lost(1.0, 0.4, facing=0.9, gloss=0.5) == 0


def test_time_of_flight_is_lost_where_little_light_returns():
    parameters = fixed(
        'time_of_flight', faintest_amplitude=0.01, vignette=0.0, mixing=0.0, bounce=0.0,
        noise_m=0.0002, ambient=0.02,
    )  # fmt: skip

    def lost(reflectance, facing):
        normals = torch.zeros(1, 3, *SHAPE[2:])
        normals[:, 2], normals[:, 1] = -facing, (1 - facing**2) ** 0.5
        scene = view(
            torch.full(SHAPE, 2.0), normals=normals, reflectance=torch.full(SHAPE, reflectance)
        )
        found_m = TimeOfFlight(parameters, SHAPE, generator())(scene, generator(1))
        return found_m[0, 0, 46:50, 76:84].isnan().float().mean().item()

    # reflectance * cosine / z^2 against 0.01, measured with noise of 0.003.
    assert lost(0.1, 1.0) == 0  # 0.025
    assert lost(0.005, 1.0) == 1  # 0.001
    assert lost(0.4, 0.3) == 0  # 0.03
    assert lost(0.4, 0.01) == 1  # 0.001


def test_time_of_flight_mixes_glass_with_what_is_behind_it():
    parameters = fixed(
        'time_of_flight', vignette=0.0, mixing=0.0, bounce=0.0, wiggling_m=0.0,
        mixed_spread_m=9.0, noise_m=0.0002, nearest_m=0.3, ambiguity_m=9.0,
    )  # fmt: skip
    glass = torch.ones(SHAPE, dtype=torch.bool)
    scene = view(torch.full(SHAPE, 1.0), glass=glass, behind_m=torch.full(SHAPE, 2.0))
    found_m = TimeOfFlight(parameters, SHAPE, generator())(scene, generator(1))
    # 0.1 * 0.6 / 1^2 from the pane at 1 m, 0.6 / 2^2 from behind it: (0.06 + 0.3) / 0.21.
    assert found_m[..., 44:52, 74:86].nanmedian().item() == pytest.approx(0.36 / 0.21, abs=0.01)


@pytest.mark.parametrize('kind', SENSORS)
def test_a_mirror_shows_what_it_mirrors_or_nothing(kind):
    make, _ = SENSORS[kind]
    mirror = torch.zeros(SHAPE, dtype=torch.bool)
    mirror[..., 50:130] = True
    behind_m = torch.where(mirror, 3.0, 1.0)
    scene = view(torch.full(SHAPE, 1.0), mirror=mirror, behind_m=behind_m)
    found_m = make(fixed(kind), SHAPE, generator())(scene, generator(1))[..., 20:-20, 85:105]
    if kind == 'time_of_flight':
        assert found_m.isnan().all()
    else:
        assert found_m.nanmedian().item() == pytest.approx(3.0, rel=0.03)


def test_light_that_bounces_in_a_corner_makes_it_seem_farther():
    # Two walls that meet at a right angle, 1.5 m ahead.
    u = (torch.arange(SHAPE[3]) - (SHAPE[3] - 1) / 2) / 150
    depth_m = (1.5 / (1 + u.abs())).expand(SHAPE).contiguous()
    matrix = torch.tensor([[[150.0, 0, 79.5], [0, 150.0, 47.5], [0, 0, 1]]])
    scene = View(depth_m, matrix, reflectance=torch.full(SHAPE, 0.8))
    plane = replace(scene, depth_m=torch.full(SHAPE, 1.5))

    def error_m(seen, bounce):
        parameters = fixed(
            'time_of_flight', bounce=bounce, noise_m=1e-6, mixing=0.0, wiggling_m=0.0,
            nearest_m=0.1,
        )  # fmt: skip
        cameras = TimeOfFlight(parameters, SHAPE, generator())
        return (cameras(seen, generator(1)) - seen.depth_m)[..., 10:-10, 30:-30].nanmean().item()

    assert error_m(scene, 0.0) == pytest.approx(0, abs=5e-4)
    assert 0.005 < error_m(scene, 1.0) < 0.2
    assert error_m(plane, 1.0) == pytest.approx(0, abs=1e-3)


def test_bumps_of_active_stereo_stay_where_they_are():
    parameters = replace(
        fixed('active_stereo', waviness_px=0.2, subpixel_px=0.05, weak_contrast=0.0,
              repeating_share=0.2, mismatch_share=0.0),
        disparity_step_px=1e-4, depth_unit_m=1e-6,
    )  # fmt: skip
    cameras = ActiveStereo(parameters, SHAPE, generator())
    first, second = (cameras(wall(2.0), generator(k))[0, 0, 20:-20, 60:-20] for k in (1, 2))
    both = first.isfinite() & second.isfinite()
    pair = torch.stack([first[both], second[both]])
    # 0.2^2 + 0.2 * 0.05^2 of 0.2^2 + 0.05^2 px^2 repeats.
    assert torch.corrcoef(pair)[0, 1].item() == pytest.approx(0.0405 / 0.0425, abs=0.03)


def test_cameras_of_a_batch_differ_and_their_number_does_not_matter(sensor):
    scene = wall(1.5, (3, 1, 48, 120))
    found_m = sensor(scene)(scene, generator(1))
    assert found_m.shape == (3, 1, 48, 120)
    frames = found_m.nan_to_num()
    assert not torch.equal(frames[0], frames[1])
    assert not torch.equal(frames[1], frames[2])
