import numpy as np
import pytest

pytest.importorskip('onnx', reason='makes the models of these tests: pip install onnx')

from depth_refiner_ros.inference import ModelError
from depth_refiner_ros.inference.described import (
    DescribedModel,
    depth_of,
    model_values,
    placement,
)
from depth_refiner_ros.inference.description import Size, parse_description

INTRINSICS = np.array([520.0, 524.0, 319.5, 239.5], np.float32)


def described(**changes):
    content = {
        'format': 1,
        'name': 'tiny',
        'stage': 'estimate_depth',
        'size': {'rule': 'keep'},
        'inputs': {'image': {'role': 'color'}},
        'outputs': {'depth': {'role': 'depth', 'kind': 'metric'}},
    }
    return parse_description(content | changes, 'tiny.yaml')


def depth(raw, shape=None, intrinsics=INTRINSICS, size=None, others=None, **output):
    raw = np.array(raw, np.float32)
    description = described(
        size=size or {'rule': 'keep'},
        outputs={'depth': {'role': 'depth', **output}}
        | {name: keys for name, (keys, _) in (others or {}).items()},
    )
    outputs = {'depth': raw} | {name: np.array(v) for name, (_, v) in (others or {}).items()}
    return depth_of(description, outputs, shape or raw.shape[-2:], intrinsics)


# ---------------------------------------------------------------------------- in which size


@pytest.mark.parametrize(
    ('size', 'shape', 'wanted'),
    [
        # 480 to 518, 640 to 690.67, of which the nearest multiple of 14 is 686.
        (Size('short_side', 518, 518, 14), (480, 640), (518, 686, 518, 686, 0, 0)),
        # 720 to 518, 1280 to 920.9, 924.
        (Size('short_side', 518, 518, 14), (720, 1280), (518, 924, 518, 924, 0, 0)),
        (Size('stretch', 280, 504, 14), (480, 640), (280, 504, 280, 504, 0, 0)),
        # 1064 / 640 = 1.6625, 616 / 480 = 1.2833: 821 columns, 243 to be padded.
        (Size('letterbox', 616, 1064), (480, 640), (616, 1064, 616, 821, 0, 121)),
        (Size('letterbox', 616, 1064), (720, 1280), (616, 1064, 598, 1064, 9, 0)),
        (Size('keep', multiple=32), (480, 848), (480, 832, 480, 832, 0, 0)),
        (Size('keep', multiple=14), (5, 6), (14, 14, 14, 14, 0, 0)),
    ],
)
def test_a_picture_has_its_place(size, shape, wanted):
    assert placement(shape, size) == wanted


def test_intrinsics_follow_the_picture():
    # 1.2833 times as large, 121 px to the right; centres of pixels are at whole numbers.
    place = placement((480, 640), Size('letterbox', 616, 1064))
    fx, fy, cx, cy = place.intrinsics(INTRINSICS, (480, 640))
    assert (fx, fy) == pytest.approx((520 * 821 / 640, 524 * 616 / 480))
    assert cx == pytest.approx((319.5 + 0.5) * 821 / 640 - 0.5 + 121)
    assert cy == pytest.approx(240 * 616 / 480 - 0.5)


# --------------------------------------------------------------------------------- what goes in


def test_colour_is_normalised_as_described():
    rgb = np.array([[[255, 0, 51]]], np.uint8)
    given = model_values(
        described(inputs={'image': {'role': 'color', 'mean': 'imagenet', 'std': 'imagenet'}}),
        rgb,
        INTRINSICS,
        None,
    )['image']
    assert given.shape == (1, 3, 1, 1)
    # (1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225.
    assert given.ravel() == pytest.approx([2.24891, -2.03571, -0.91556], abs=1e-4)


@pytest.mark.parametrize(
    ('keys', 'wanted'),
    [
        ({'order': 'bgr', 'range': 255}, [[[[51]], [[0]], [[255]]]]),
        ({'layout': 'NHWC', 'range': 255, 'dtype': 'uint8'}, [[[[255, 0, 51]]]]),
        ({'layout': 'HWC'}, [[[1, 0, 0.2]]]),
        ({'layout': 'CHW', 'mean': [0.5] * 3, 'std': [0.5] * 3}, [[[1]], [[-1]], [[-0.6]]]),
        ({'range': 255, 'dtype': 'float16', 'layout': 'CHW'}, [[[255]], [[0]], [[51]]]),
    ],
)
def test_colour_has_the_layout_that_is_described(keys, wanted):
    rgb = np.array([[[255, 0, 51]]], np.uint8)
    description = described(inputs={'image': {'role': 'color', **keys}})
    given = model_values(description, rgb, INTRINSICS, None)['image']
    assert given.dtype == keys.get('dtype', 'float32')
    np.testing.assert_allclose(given, wanted, atol=1e-6)


def test_a_letterbox_is_padded_with_its_colour_before_it_is_normalised():
    rgb = np.full((2, 4, 3), 255, np.uint8)
    size = {'rule': 'letterbox', 'height': 4, 'width': 4, 'padding': [51, 102, 153]}
    given = model_values(described(size=size), rgb, INTRINSICS, None)['image']
    np.testing.assert_allclose(given[0, :, 1:3], 1)
    for row in (0, 3):
        np.testing.assert_allclose(given[0, :, row, 2], [0.2, 0.4, 0.6], atol=1e-6)


def test_measured_depth_speaks_its_form_and_shares_a_tensor_with_colour():
    parts = [{'role': 'color'}, {'role': 'depth', 'form': 'inverse'}, {'role': 'mask'}]
    description = described(inputs={'x': {'concatenated': parts}}, stage='inpaint_depth')
    measured_m = np.array([[2.0, np.nan, 0.0]], np.float32)
    rgb = np.zeros((1, 3, 3), np.uint8)
    given = model_values(description, rgb, INTRINSICS, measured_m)['x']
    assert given.shape == (1, 5, 1, 3)
    assert given[0, 3, 0].tolist() == [0.5, 0, 0]
    assert given[0, 4, 0].tolist() == [1, 0, 0]
    logarithm = described(
        inputs={'x': {'role': 'depth', 'form': 'log', 'hole': -1, 'layout': 'HW'}},
        stage='inpaint_depth',
    )
    given = model_values(logarithm, rgb, INTRINSICS, measured_m)['x']
    np.testing.assert_allclose(given, [[np.log(2), -1, -1]], rtol=1e-6)


def test_depth_that_may_have_no_holes_is_filled_first():
    description = described(
        inputs={
            'image': {'role': 'color'},
            'prompt': {'role': 'depth', 'complete': True, 'size': [2, 4]},
        },
        stage='inpaint_depth',
    )
    measured_m = np.full((4, 8), 1.5, np.float32)
    measured_m[1:3, 2:5] = np.nan
    rgb = np.zeros((4, 8, 3), np.uint8)
    given = model_values(description, rgb, INTRINSICS, measured_m)
    assert given['image'].shape == (1, 3, 4, 8)
    np.testing.assert_allclose(given['prompt'], np.full((1, 1, 2, 4), 1.5), rtol=1e-5)
    with pytest.raises(ModelError, match='nothing was measured'):
        model_values(description, rgb, INTRINSICS, np.full((4, 8), np.nan, np.float32))
    with pytest.raises(ModelError, match='needs measured depth beside the colour'):
        model_values(description, rgb, INTRINSICS, None)


def test_rays_intrinsics_and_constants_are_given():
    description = described(
        inputs={
            'image': {'role': 'color'},
            'rays': {'role': 'rays'},
            'k': {'role': 'intrinsics'},
            'tokens': {'role': 'constant', 'value': 1800, 'dtype': 'int64'},
        },
        size={'rule': 'stretch', 'height': 2, 'width': 2},
    )
    intrinsics = np.array([2.0, 4.0, 1.5, 0.5])  # of 4x2 px: in 2x2 fx is 1 and cx 0.5
    given = model_values(description, np.zeros((2, 4, 3), np.uint8), intrinsics, None)
    np.testing.assert_allclose(given['k'], [[[1, 0, 0.5], [0, 4, 0.5], [0, 0, 1]]])
    x, y = 0.5, 0.125  # of the last pixel, over z
    np.testing.assert_allclose(
        given['rays'][0, :, 1, 1], np.array([x, y, 1]) / np.sqrt(x**2 + y**2 + 1), rtol=1e-6
    )
    assert given['tokens'] == 1800
    assert given['tokens'].shape == ()
    assert given['tokens'].dtype == np.int64


# ------------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize(
    ('kind', 'raw'),
    [('metric', 2.0), ('inverse_metric', 0.5), ('log', np.log(2.0))],
)
def test_every_kind_of_metres(kind, raw):
    found_m, stddev_m = depth([[raw]], kind=kind)
    assert found_m[0, 0] == pytest.approx(2.0, rel=1e-6)
    assert stddev_m[0, 0] == pytest.approx(0.2, rel=1e-6)


@pytest.mark.parametrize('rank', [2, 3, 4])
def test_every_rank(rank):
    raw = np.full((1,) * (rank - 2) + (2, 3), 1.25)
    np.testing.assert_array_equal(depth(raw, kind='metric')[0], np.full((2, 3), 1.25))


def test_of_points_z_is_taken():
    points = np.zeros((1, 3, 1, 2))
    points[0, 2] = [[1.5, 2.5]]
    assert depth(points, kind='points')[0].tolist() == [[1.5, 2.5]]
    rows = points.transpose(0, 2, 3, 1)
    found_m = depth(rows, shape=(1, 2), kind='points', layout='NHWC')[0]
    assert found_m.tolist() == [[1.5, 2.5]]
    with pytest.raises(ModelError, match='no NCHW of points'):
        depth(rows, shape=(1, 2), kind='points')


@pytest.mark.parametrize(
    ('focal', 'more', 'raw', 'wanted_m'),
    [
        # f is that of the picture in the model's size: here 640 px become 320, 480 become 360, so
        # fx = 260, fy = 393, their mean 326.5.
        ('f/300', {'kind': 'metric'}, 2.0, 2 * 326.5 / 300),
        ('f/1000', {'kind': 'metric'}, 2.0, 2 * 326.5 / 1000),
        # z = f / (raw width).
        ('width/f', {'kind': 'inverse_metric'}, 0.5, 260 / (0.5 * 320)),
        # z = f b / disparity.
        ('f*baseline', {'kind': 'disparity', 'baseline_m': 0.05}, 10.0, 260 * 0.05 / 10),
    ],
)
def test_every_rule_of_the_focal_length(focal, more, raw, wanted_m):
    size = {'rule': 'stretch', 'height': 360, 'width': 320}
    found_m, _ = depth(np.full((360, 320), raw), (480, 640), focal=focal, size=size, **more)
    assert found_m.shape == (480, 640)
    np.testing.assert_allclose(found_m, wanted_m, rtol=1e-6)


def test_what_is_beyond_the_range_is_no_depth():
    found_m, stddev_m = depth([[0.1, 1, 9, -1, 0, np.inf]], kind='metric', valid_m=[0.2, 8])
    np.testing.assert_array_equal(found_m, [[np.nan, 1] + [np.nan] * 4])
    np.testing.assert_array_equal(np.isnan(stddev_m), np.isnan(found_m))


def test_masks_say_which_pixels_are_valid():
    sky = ({'role': 'mask', 'sense': 'invalid', 'threshold': 0.3}, [[[0.2, 0.3, 0.9]]])
    found_m, _ = depth([[1, 2, 3]], kind='metric', others={'sky': sky})
    np.testing.assert_array_equal(found_m, [[1, np.nan, np.nan]])
    good = ({'role': 'mask', 'activation': 'sigmoid'}, [[-1.0, 0.1, 1.0]])
    found_m, _ = depth([[1, 2, 3]], kind='metric', others={'mask': good})
    np.testing.assert_array_equal(found_m, [[np.nan, 2, 3]])


def test_confidence_becomes_a_standard_deviation():
    for sense, factors in (('valid', [2, 1, 0.5]), ('invalid', [0.5, 1, 2])):
        keys = {'role': 'confidence', 'sense': sense}
        others = {'c': (keys, [[0.4, 0.8, 1.6]])}
        found_m, stddev_m = depth([[1, 1, 1]], kind='metric', others=others)
        np.testing.assert_array_equal(found_m, [[1, 1, 1]])
        np.testing.assert_allclose(stddev_m, [0.1 * np.array(factors)], rtol=1e-6)
    keys = {'role': 'confidence', 'threshold': 0.5}
    found_m, _ = depth([[1, 1, 1]], kind='metric', others={'c': (keys, [[0.4, 0.8, 1.6]])})
    np.testing.assert_array_equal(found_m, [[np.nan, 1, 1]])


def test_relative_kinds_keep_their_order_and_stay_in_front_of_the_camera():
    inverse, _ = depth([[-3.0, 0.0, 5.0]], kind='affine_inverse')
    assert (inverse > 0).all()
    assert (np.diff(inverse[0]) < 0).all()  # larger is nearer
    # Affine in what was put out: (5 - 0) / (5 + 3) of the way.
    steps = 1 / inverse[0]
    assert (steps[2] - steps[1]) / (steps[2] - steps[0]) == pytest.approx(5 / 8, rel=1e-5)
    forward, _ = depth([[-3.0, 0.0, 5.0]], kind='affine')
    assert (forward[0, 2] - forward[0, 1]) / (forward[0, 2] - forward[0, 0]) == pytest.approx(
        5 / 8
    )
    flat, _ = depth([[2.0, 2.0]], kind='affine')
    assert np.isnan(flat).all()


def test_a_letterbox_is_cut_off_in_whatever_size_comes_out():
    size = {'rule': 'letterbox', 'height': 8, 'width': 8}
    whole = np.full((8, 8), 9.0)
    whole[2:6] = 2.0  # a picture of 4x8 lies in the middle
    np.testing.assert_array_equal(depth(whole, (4, 8), kind='metric', size=size)[0], 2.0)
    half = whole[::2, ::2]
    np.testing.assert_array_equal(depth(half, (4, 8), kind='metric', size=size)[0], 2.0)


def test_nothing_is_blended_across_an_edge():
    raw = np.ones((4, 4))
    raw[:, 2:] = 3.0
    size = {'rule': 'stretch', 'height': 4, 'width': 4}
    found_m, _ = depth(raw, (16, 16), kind='metric', size=size)
    assert set(found_m.ravel().tolist()) == {1.0, 3.0}
    np.testing.assert_array_equal(found_m[:, :8], 1.0)


@pytest.mark.parametrize(
    ('outputs', 'why'),
    [
        ({}, 'put out no depth'),
        ({'depth': np.zeros((1, 2, 4, 4))}, 'is no image, it has shape'),
        ({'depth': np.full((4, 4), np.nan)}, 'has no finite number'),
    ],
)
def test_outputs_that_are_not_as_described_are_one_sentence(outputs, why):
    with pytest.raises(ModelError, match=why):
        depth_of(described(), outputs, (4, 4), INTRINSICS)


class Echo:
    """Puts out the first channel that it is given."""

    name = 'echo'
    back_end = 'here'

    def __call__(self, image):
        return {'depth': image[:, 0] * np.float32(5.1)}


def test_a_described_model_speaks_as_our_own():
    model = DescribedModel(Echo(), described())
    rgb = np.full((2, 3, 3), 100, np.uint8)
    outputs = model(color=rgb, intrinsics=INTRINSICS)
    np.testing.assert_allclose(outputs['estimate_m'], 2.0, rtol=1e-6)
    np.testing.assert_allclose(outputs['stddev_m'], 0.2, rtol=1e-6)
    assert not outputs['wrong'].any()
    assert (model.name, model.back_end, model.ambiguity) == ('tiny', 'here', 'none')


def test_a_model_that_needs_no_camera_is_given_none():
    rgb = np.full((2, 3, 3), 100, np.uint8)
    outputs = DescribedModel(Echo(), described())(color=rgb)
    np.testing.assert_allclose(outputs['estimate_m'], 2.0, rtol=1e-6)
    focal = {'depth': {'role': 'depth', 'kind': 'metric', 'focal': 'f/300'}}
    with pytest.raises(ModelError, match='tiny needs the intrinsics of the camera'):
        DescribedModel(Echo(), described(outputs=focal))(color=rgb)
