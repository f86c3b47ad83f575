from dataclasses import replace

import numpy as np
import pytest

from depth_refiner_ros.data import ColorImage, DepthImage, Header, PinholeCamera
from depth_refiner_ros.stage import compose
from depth_refiner_ros.stages.blur_background import BlurBackground, BlurBackgroundParameters
from depth_refiner_ros.stages.inpaint_depth import InpaintDepth
from depth_refiner_ros.stages.register_color import RegisterColor

HEADER = Header(5_000_000_000, 'camera')
CAMERA = PinholeCamera(HEADER, 160, 120, 130.0, 130.0, 79.5, 59.5)
NEAR, FAR = np.s_[30:90, 5:65], np.s_[30:90, 95:155]


def noise():
    rng = np.random.default_rng(0)
    return ColorImage(HEADER, rng.integers(0, 256, (120, 160, 3), np.uint8))


def near_and_far(stamp_ns=HEADER.stamp_ns):
    """The left half at 1 m, the right one at 4 m."""
    depth_m = np.full((120, 160), 1, np.float32)
    depth_m[:, 80:] = 4
    return DepthImage(Header(stamp_ns, 'camera'), depth_m)


def stage(**values):
    return BlurBackground(BlurBackgroundParameters(f_number=0.3, **values))


def is_sharp(out, where):
    return np.abs(out['blurred'].rgb[where].astype(int) - noise().rgb[where]).max() <= 1


@pytest.mark.parametrize(
    ('focus', 'sharp', 'soft'),
    [
        ({'focus': 'distance', 'focus_distance_m': 1.0}, NEAR, FAR),
        ({'focus': 'distance', 'focus_distance_m': 4.0}, FAR, NEAR),
        ({'focus': 'point', 'focus_x_px': 20.0, 'focus_y_px': 60.0}, NEAR, FAR),
        ({'focus': 'point', 'focus_x_px': 140.0, 'focus_y_px': 60.0}, FAR, NEAR),
        ({'focus': 'nearest'}, NEAR, FAR),
    ],
)
def test_focus(focus, sharp, soft):
    out = stage(**focus)(near_and_far(), CAMERA, noise())
    assert out['blurred'].header == HEADER
    assert is_sharp(out, sharp)
    assert out['blurred'].rgb[soft].std() < noise().rgb[soft].std() / 2


def test_point_is_the_middle_unless_said():
    depth_m = np.full((120, 160), 4, np.float32)
    depth_m[50:70, 70:90] = 1
    depth_m[0, 0] = np.nan
    out = stage(focus='point', focus_time_s=0.0)(DepthImage(HEADER, depth_m), CAMERA, noise())
    assert is_sharp(out, np.s_[53:67, 73:87])
    assert not is_sharp(out, np.s_[:40, :40])


def test_the_lens_that_is_imitated():
    # 130 px of 160 px are 29.25 of 36 mm. At f/1, focused at 1 m, infinity is spread over
    # 130 * 0.02925 / (1 - 0.02925) = 3.917 px, 4 m over three quarters of it: 2.9378 px, whose
    # disc has a variance of 2.9378^2 / 16 = 0.5395 px^2 in each direction.
    rgb = np.zeros((120, 160, 3), np.uint8)
    rgb[60, 120] = 255
    values = {'focus': 'distance', 'f_number': 1.0, 'highlights': 1.0}
    blurred = BlurBackground(BlurBackgroundParameters(**values))(
        near_and_far(), CAMERA, ColorImage(HEADER, rgb)
    )['blurred']
    light = (blurred.rgb[..., 0] / 255.0) ** 2
    variance = (light * (np.arange(160) - 120.0) ** 2).sum() / light.sum()
    assert light.sum() == pytest.approx(1, rel=0.02)
    assert variance == pytest.approx(0.5395, rel=0.05)


def test_blur_is_bounded_and_can_be_switched_off():
    color = noise()
    off = stage(focus='distance', max_blur_px=0.0)(near_and_far(), CAMERA, color)
    assert off['blurred'] is color
    some, more = (
        stage(focus='distance', max_blur_px=px)(near_and_far(), CAMERA, color)['blurred'].rgb[FAR]
        for px in (2.0, 8.0)
    )
    assert some.std() > more.std() + 5


def test_pixels_without_depth_take_the_nearest():
    depth = near_and_far()
    holed_m = depth.depth_m.copy()
    holed_m[40:60, 20:40] = np.nan
    holed_m[:, :3] = np.nan
    whole = stage()(depth, CAMERA, noise())['blurred'].rgb
    holed = stage()(DepthImage(HEADER, holed_m), CAMERA, noise())['blurred'].rgb
    np.testing.assert_array_equal(holed, whole)


def test_without_any_depth_the_picture_stays():
    nothing = DepthImage(HEADER, np.full((120, 160), np.nan, np.float32))
    for focus in ('distance', 'point', 'nearest'):
        assert is_sharp(stage(focus=focus)(nothing, CAMERA, noise()), np.s_[:])


def test_focus_does_not_jump_and_starts_anew_when_time_does():
    far = DepthImage(HEADER, np.full((120, 160), 4, np.float32))
    blur_background = stage(focus_time_s=1.0)
    assert is_sharp(blur_background(far, CAMERA, noise()), FAR)
    soon = blur_background(near_and_far(HEADER.stamp_ns + 33_000_000), CAMERA, noise())
    assert not is_sharp(soon, NEAR)
    assert is_sharp(blur_background(near_and_far(HEADER.stamp_ns), CAMERA, noise()), NEAR)


def test_frames_replayed_give_the_same_bits():
    def replay():
        blur_background = stage()
        frames = (near_and_far(HEADER.stamp_ns + i * 33_000_000) for i in range(3))
        return [blur_background(f, CAMERA, noise())['blurred'].rgb for f in frames]

    np.testing.assert_array_equal(replay(), replay())


def test_parameters_are_live():
    blur_background = stage(focus='distance')
    assert is_sharp(blur_background(near_and_far(), CAMERA, noise()), NEAR)
    blur_background.parameters = replace(blur_background.parameters, focus_distance_m=4.0)
    assert is_sharp(blur_background(near_and_far(), CAMERA, noise()), FAR)


def test_too_near_a_focus_is_that_of_life_size():
    near = stage(focus='distance', focus_distance_m=0.1, sensor_width_mm=200.0)
    assert near(near_and_far(), CAMERA, noise())['blurred'].rgb.shape == (120, 160, 3)


def test_colour_must_be_registered():
    elsewhere = replace(noise(), header=Header(5, 'color_camera'))
    with pytest.raises(
        ValueError, match=r"160x120 in frame 'color_camera', is not .* 'camera'; p"
    ):
        stage()(near_and_far(), CAMERA, elsewhere)
    small = ColorImage(HEADER, noise().rgb[::2, ::2].copy())
    with pytest.raises(ValueError, match=r'80x60 in frame .* put register_color before'):
        stage()(near_and_far(), CAMERA, small)


def test_camera_must_fit_and_the_point_lie_inside():
    with pytest.raises(ValueError, match='the image is 160x120 but its camera_info says 80x60'):
        stage()(near_and_far(), CAMERA.scaled(80, 60), noise())
    with pytest.raises(ValueError, match=r'\(160, 60\), is outside the image, 160x120'):
        stage(focus='point', focus_x_px=160.0, focus_y_px=60.0)(near_and_far(), CAMERA, noise())


def test_in_a_pipeline_the_guide_stays_the_guide():
    pipeline = compose({'blur_background': BlurBackground, 'inpaint_depth': InpaintDepth})()
    outputs = pipeline(depth=near_and_far(), camera=CAMERA, color=noise())
    assert 'blur_background.blurred' in outputs
    assert pipeline.inputs['color'].optional is False
    # Where register_color had no colour there is no picture, but the depth goes on.
    stages = {'register_color': RegisterColor, 'blur_background': BlurBackground}
    made = compose(stages)()(depth=near_and_far(), camera=CAMERA)
    assert made.keys() == {'register_color.color_camera'}
