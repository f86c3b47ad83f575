"""Published models behind the stages, by networks whose answers are known in closed form."""

import cv2
import numpy as np
import pytest

pytest.importorskip('onnx', reason='makes the models of these tests: pip install onnx')
pytest.importorskip('onnxruntime', reason='runs the models of these tests')

from depth_refiner_ros.config import pipeline_type
from depth_refiner_ros.data import ColorImage, DepthImage, Header, PinholeCamera, Provenance
from depth_refiner_ros.filters.inpaint import inpaint
from depth_refiner_ros.inference.onnx_file import read_graph
from depth_refiner_ros.inference.published import recognise, write_description
from depth_refiner_ros.stages.estimate_depth import EstimateDepth, EstimateDepthParameters
from depth_refiner_ros.stages.inpaint_depth import InpaintDepth, InpaintDepthParameters

from ..inference import speaking

HEADER = Header(5_000_000_000, 'camera')
RUNS = {'device': 'onnxruntime', 'threads': 1}


def described(path, name=None):
    write_description(recognise(read_graph(path), name).content, path.with_suffix('.yaml'))
    return str(path)


def stripes_m(height, width, stripe_px):
    """Columns that are in turn 1 and 3 m away."""
    near = np.arange(width) // stripe_px % 2 == 0
    return np.repeat(np.where(near, 1.0, 3.0).astype(np.float32)[None], height, 0)


def camera_of(shape):
    height, width = shape
    return PinholeCamera(HEADER, width, height, 900.0, 900.0, width / 2 - 0.5, height / 2 - 0.5)


def test_a_published_model_gets_the_colour_in_its_own_size(tmp_path):
    # Stripes of one pixel: brought to 640 px by a mean over two they would all be 2 m.
    truth_m = stripes_m(28, 1288, 1)
    path = speaking.depth_anything_v2_metric(tmp_path / 'model.onnx', (28, 1288))
    name = described(path, 'depth_anything_v2_metric_indoor')
    stage = EstimateDepth(EstimateDepthParameters(model=name, **RUNS))
    color = ColorImage(HEADER, speaking.picture(truth_m))
    out = stage(color, camera_of(truth_m.shape))
    assert not stage.capabilities.trouble
    np.testing.assert_allclose(out['depth'].depth_m, truth_m, rtol=1e-5)


def blocks_m():
    """480x640, in blocks that survive being brought to 192x256 and 756x1008."""
    levels = np.array([[1.0, 2.0, 3.0, 1.5], [2.5, 1.2, 3.5, 0.8], [1.8, 2.2, 0.9, 3.0]])
    return np.kron(levels, np.ones((160, 160))).astype(np.float32)


def completed(name, depth_m, color, **changed):
    stage = InpaintDepth(InpaintDepthParameters(model=name, **RUNS, **changed))
    depth = DepthImage(HEADER, depth_m)
    return stage, stage(depth, camera_of(depth_m.shape), color=color)


def test_a_completion_model_fills_holes_in_full_size(tmp_path):
    name = described(speaking.prompt_depth_anything(tmp_path / 'promptda.onnx'))
    truth_m = blocks_m()
    holed_m = truth_m.copy()
    # Of three surfaces the filter sees two around this hole; the model sees all three.
    holed_m[10:150, 330:630] = np.nan
    color = ColorImage(HEADER, speaking.picture(truth_m))
    stage, out = completed(name, holed_m, color, rim_px=0.0, model_reduction=4)
    assert (stage.capabilities.back_end, stage.capabilities.trouble) == ('onnxruntime', '')
    # Not reduced by 4: right to the pixel, but for the one at an edge that 1008 / 640 shifts.
    off_m = np.abs(out['depth'].depth_m - truth_m)
    assert (off_m > 1e-3).mean() < 1e-3
    filled = out['provenance'].provenance == Provenance.INPAINTED
    np.testing.assert_array_equal(filled, np.isnan(holed_m))
    # 3 % of the depth, as the description has it.
    np.testing.assert_allclose(out['stddev'].stddev_m[80, 400], 0.03 * 3.0, rtol=1e-3)


def test_a_completion_model_without_colour_leaves_it_to_the_filter_and_says_so(tmp_path):
    name = described(speaking.prompt_depth_anything(tmp_path / 'promptda.onnx'))
    holed_m = blocks_m()
    holed_m[50:60, 50:60] = np.nan
    stage, out = completed(name, holed_m, None)
    np.testing.assert_allclose(out['depth'].depth_m[55, 55], 1.0, rtol=1e-3)
    assert stage.capabilities.back_end == 'classical'
    assert stage.capabilities.trouble == (
        'promptda needs colour registered to the depth, and there is none: put register_color '
        'first, or set inpaint_depth.model to depth_small'
    )


def test_a_completion_model_is_given_the_intrinsics(tmp_path):
    speaker = speaking.Speaker((480, 640))
    speaker.image('said', speaker.depth('image', norm=speaking.PLAIN), rank=4)
    speaker.image('same', speaker.arrives('measured', [1, 1, 480, 640]), rank=4)
    path = speaker.save(tmp_path / 'own.onnx')
    content = {
        'format': 1,
        'name': 'own',
        'stage': 'inpaint_depth',
        'size': {'rule': 'stretch', 'height': 480, 'width': 640},
        'inputs': {'image': {'role': 'color'}, 'measured': {'role': 'depth'}},
        'outputs': {
            'said': {'role': 'depth', 'kind': 'metric', 'focal': 'f/450'},
            'same': {'role': 'ignored'},
        },
    }
    write_description(content, path.with_suffix('.yaml'))
    holed_m = blocks_m()
    holed_m[20:140, 20:140] = np.nan
    color = ColorImage(HEADER, speaking.picture(blocks_m()))
    _, out = completed(str(path), holed_m, color, rim_px=0.0)
    np.testing.assert_allclose(out['depth'].depth_m[80, 80], 1.0 * 900 / 450, rtol=1e-4)


def test_a_model_of_the_other_stage_is_one_sentence(tmp_path):
    promptda = described(speaking.prompt_depth_anything(tmp_path / 'promptda.onnx'))
    anything = described(speaking.depth_anything_v2(tmp_path / 'depth_anything_v2.onnx'))
    color = ColorImage(HEADER, speaking.picture(blocks_m()))
    estimate = EstimateDepth(EstimateDepthParameters(model=promptda))
    assert np.isnan(estimate(color, camera_of((480, 640)))['depth'].depth_m).all()
    assert estimate.capabilities.trouble == (
        'promptda completes measured depth: set inpaint_depth.model to it, not '
        'estimate_depth.model'
    )
    stage, _ = completed(anything, blocks_m(), color)
    assert stage.capabilities.trouble == (
        'depth_anything_v2 estimates depth from colour: set estimate_depth.model to it, not '
        'inpaint_depth.model'
    )


def test_a_pipeline_with_a_completion_model_goes_on_where_colour_stops(tmp_path):
    name = described(speaking.prompt_depth_anything(tmp_path / 'promptda.onnx'))
    kind = pipeline_type('refine_depth,inpaint_depth')
    pipeline = kind()
    pipeline.parameters = kind.Parameters(inpaint_depth=InpaintDepthParameters(model=name, **RUNS))
    holed_m = blocks_m()
    holed_m[20:40, 20:40] = np.nan
    depth, camera = DepthImage(HEADER, holed_m), camera_of(holed_m.shape)
    for color in (ColorImage(HEADER, speaking.picture(blocks_m())), None):
        out = pipeline(depth=depth, camera=camera, color=color)
        assert not np.isnan(out['inpaint_depth.depth'].depth_m).any()
        assert bool(pipeline.troubles) == (color is None)


def test_relative_depth_is_aligned_to_a_kitchen_of_which_a_fiftieth_is_wrong(recording, tmp_path):
    # Distances of a real kitchen, in levels that a picture can show; the model says 7 / z + 1.5.
    counts = cv2.imread(str(recording('kinect_v1_kitchen') / 'depth/100.png'), -1)
    measured_m = np.where(counts > 0, counts / 1000, np.nan).astype(np.float32)
    hole = np.isnan(measured_m)
    known_m = inpaint(measured_m, max_hole_px=0, max_distance_m=0).depth_m
    color = speaking.picture(np.clip(known_m, 0.5, 5.6))
    truth_m = speaking.shown_m(color)
    path = speaking.depth_anything_v2(tmp_path / 'depth_anything_v2.onnx', truth_m.shape)
    name = described(path, 'depth_anything_v2')
    rng = np.random.default_rng(0)
    wrong = rng.random(truth_m.shape) < 0.02
    said_m = np.where(wrong, rng.uniform(0.4, 6.0, truth_m.shape), truth_m).astype(np.float32)
    said_m[hole] = np.nan
    stage = EstimateDepth(EstimateDepthParameters(model=name, keep_measured=False, **RUNS))
    out = stage(
        ColorImage(HEADER, color), camera_of(truth_m.shape), depth=DepthImage(HEADER, said_m)
    )
    assert not stage.capabilities.trouble
    off = np.abs(out['depth'].depth_m / truth_m - 1)
    print(f'aligned: median {100 * np.median(off):.4f} %, worst {100 * off.max():.4f} %')
    assert off.max() < 1e-3
    assert (out['provenance'].provenance == Provenance.ALIGNED).all()
    # Least squares would be pulled along by what is wrong.
    seen = ~hole
    rows = np.stack([1 / truth_m[seen], np.ones(seen.sum())], 1)
    scale, shift = np.linalg.lstsq(rows, 1 / said_m[seen], rcond=None)[0]
    pulled = np.abs(1 / (scale / truth_m + shift) / truth_m - 1)
    print(
        f'least squares: median {100 * np.median(pulled):.4f} %, worst {100 * pulled.max():.2f} %'
    )
    assert pulled.max() > 10 * off.max()


def test_a_relative_model_guides_the_holes_of_a_pipeline(tmp_path):
    truth_m = blocks_m()
    path = speaking.depth_anything_v2(tmp_path / 'depth_anything_v2.onnx', truth_m.shape)
    name = described(path, 'depth_anything_v2')
    holed_m = truth_m.copy()
    holed_m[100:380, 90:400] = np.nan  # one block of its own and parts of five
    hole = np.isnan(holed_m)
    color = ColorImage(HEADER, speaking.picture(truth_m))
    kind = pipeline_type('estimate_depth,refine_depth,inpaint_depth')
    found = {}
    for guide in ('none', 'estimate'):
        pipeline = kind()
        pipeline.parameters = kind.Parameters(
            estimate_depth=EstimateDepthParameters(model=name, fill=False, **RUNS),
            inpaint_depth=InpaintDepthParameters(model='', guide=guide),
        )
        out = pipeline(
            depth=DepthImage(HEADER, holed_m),
            camera=camera_of(truth_m.shape),
            color=color,
            color_camera=camera_of(truth_m.shape),
        )
        assert not pipeline.troubles
        # Refined from what was measured: nothing of the estimate is in there.
        refined = out['refine_depth.provenance'].provenance
        assert (refined[hole] == Provenance.INVALID).all()
        found[guide] = np.abs(out['inpaint_depth.depth'].depth_m - truth_m)[hole].mean()
        marks = out['inpaint_depth.provenance'].provenance[hole]
        assert (marks == Provenance.ALIGNED).any() == (guide == 'estimate')
    assert found['none'] > 0.2
    assert found['estimate'] < 0.05 * found['none']
