import shutil

import numpy as np
import pytest
import yaml

pytest.importorskip('onnx', reason='makes the models of these tests: pip install onnx')
pytest.importorskip('onnxruntime', reason='runs the models of these tests')

from depth_refiner_ros.inference import ModelError, load_model
from depth_refiner_ros.inference.description import read_description
from depth_refiner_ros.inference.onnx_file import read_graph
from depth_refiner_ros.inference.published import published_models, recognise, write_description

from . import speaking

SHAPE = (60, 80)
INTRINSICS = np.array([66.0, 66.0, 39.5, 29.5], np.float32)
# Depth that whole levels of a picture stand for, in blocks that survive resizing.
BLOCKS_M = np.kron(
    np.array([[1.0, 2.0, 3.0, 3.5], [1.5, 2.5, 0.7, 1.2], [3.9, 0.9, 2.2, 1.8]]), np.ones((20, 20))
).astype(np.float32)


def centres(image):
    return image[10::20, 10::20]


def added(path, name=None):
    """Describe a file as `models add` does, and load it."""
    recognition = recognise(read_graph(path), name)
    write_description(recognition.content, path.with_suffix('.yaml'))
    return load_model(path, 'onnxruntime'), recognition


def resized_focal_px(height, width):
    """The mean focal length of the picture in a model's size, px."""
    return 66 * (width / SHAPE[1] + height / SHAPE[0]) / 2


# Ten files that differ in names, layout, size rule, kind and focal rule.
FILES = {
    'da3metric': (
        lambda path: speaking.depth_anything_3_metric(path, resized_focal_px(280, 504)),
        None,
        'depth_anything_3_metric',
    ),
    # Letterboxed, so that both axes scale by 616 / 60: 821 columns of 80.
    'metric3d_vits': (
        lambda path: speaking.metric3d(path, 66 * (821 / 80 + 616 / 60) / 2),
        None,
        'metric3d_v2',
    ),
    'unidepth': (speaking.unidepth, None, 'unidepth_v2'),
    'unidepth_camera': (
        lambda path: speaking.unidepth(path, rays=True),
        None,
        'unidepth_v2_rays',
    ),
    'depth_pro': (lambda path: speaking.depth_pro(path, 80 / 66), None, 'depth_pro'),
    'depth_anything_v2_metric_hypersim_vits': (
        speaking.depth_anything_v2_metric,
        None,
        'depth_anything_v2_metric_indoor',
    ),
    'model': (
        lambda path: speaking.depth_anything_v2_metric(path, (252, 336)),
        'depth_anything_v2_metric_outdoor',
        'depth_anything_v2_metric_outdoor',
    ),
}


@pytest.mark.parametrize('stem', FILES)
def test_metric_models_are_recognised_and_say_metres(tmp_path, stem):
    make, name, wanted = FILES[stem]
    model, recognition = added(make(tmp_path / f'{stem}.onnx'), name)
    assert recognition.published.name == wanted
    outputs = model(color=speaking.picture(BLOCKS_M), intrinsics=INTRINSICS)
    np.testing.assert_allclose(centres(outputs['estimate_m']), centres(BLOCKS_M), rtol=1e-4)
    assert model.ambiguity == 'none'


@pytest.mark.parametrize(
    ('stem', 'names'),
    [
        ('depth_anything_v2_vits', ('image', 'depth')),
        ('depth-anything-v2-small-hf', ('pixel_values', 'predicted_depth')),
    ],
)
def test_relative_models_are_recognised_and_stay_affine(tmp_path, stem, names):
    path = speaking.depth_anything_v2(tmp_path / f'{stem}.onnx', names=names)
    model, recognition = added(path)
    assert recognition.published.name == 'depth_anything_v2'
    assert model.ambiguity == 'affine_inverse'
    assert any('518x518 px (short_side)' in text for text in recognition.assumed)
    found = centres(model(color=speaking.picture(BLOCKS_M), intrinsics=INTRINSICS)['estimate_m'])
    # Inverse depth is affine in the truth's.
    slope, shift = np.polyfit(1 / centres(BLOCKS_M).ravel(), 1 / found.ravel(), 1)
    np.testing.assert_allclose(slope / centres(BLOCKS_M) + shift, 1 / found, rtol=1e-3)


@pytest.mark.parametrize(
    ('make', 'stem', 'wanted'),
    [
        (speaking.prompt_depth_anything, 'promptda_vits', 'promptda'),
        (speaking.camera_depth_model, 'cdm_d435', 'camera_depth_model'),
    ],
)
def test_completion_models_take_measured_depth(tmp_path, make, stem, wanted):
    model, recognition = added(make(tmp_path / f'{stem}.onnx'))
    assert recognition.published.name == wanted
    assert recognition.content['stage'] == 'inpaint_depth'
    measured_m = BLOCKS_M.copy()
    measured_m[:20, :20] = np.nan
    outputs = model(color=speaking.picture(BLOCKS_M), intrinsics=INTRINSICS, depth_m=measured_m)
    np.testing.assert_allclose(centres(outputs['estimate_m']), centres(BLOCKS_M), rtol=1e-4)


def test_what_looks_alike_from_outside_is_asked_for(tmp_path):
    path = speaking.depth_anything_v2(tmp_path / 'model.onnx', size=(518, 518))
    with pytest.raises(ModelError, match=r'could be .*depth_anything_v2, .*with --as NAME'):
        recognise(read_graph(path))
    found = recognise(read_graph(path), 'depth_anything_v2')
    assert found.content['size']['rule'] == 'stretch'
    assert found.assumed == ['that it is depth_anything_v2, as given']
    with pytest.raises(ModelError, match='did you mean depth_anything_v2'):
        recognise(read_graph(path), 'depth_anything_v1')
    with pytest.raises(ModelError, match='is no promptda: no input is called prompt_depth'):
        recognise(read_graph(path), 'promptda')


def test_stereo_and_unknown_models_are_one_sentence(tmp_path):
    stereo = speaking.Speaker((32, 32))
    left = stereo.arrives('left', [1, 3, 32, 32])
    stereo.arrives('right', [1, 3, 32, 32])
    stereo.image('disparity', stereo.channel(left, 0))
    with pytest.raises(ModelError, match='two pictures of a stereo pair'):
        recognise(read_graph(stereo.save(tmp_path / 'stereo.onnx')))
    other = speaking.Speaker((32, 32))
    other.image('boxes', other.depth('frames'))
    with pytest.raises(ModelError, match=r'is no model that is known here: frames float32 \[1, 3'):
        recognise(read_graph(other.save(tmp_path / 'other.onnx')))


def test_every_shipped_description_is_whole():
    for name, published in published_models().items():
        assert published.description.name == name
        assert published.note.endswith('.')
        assert published.description.licence
        assert published.description.source
        named = {*published.description.inputs, *published.description.ignored}
        named |= {output.name for output in published.description.outputs}
        assert set(published.content['names']) == named


def test_layouts_and_types_are_read_from_the_file(tmp_path):
    speaker = speaking.Speaker((32, 50))
    speaker.image('depth', speaker.depth('image', layout='NHWC', dtype='float16'), rank=4)
    path = speaker.save(tmp_path / 'zoe_nk.onnx')
    content = recognise(read_graph(path)).content
    assert content['inputs']['image']['layout'] == 'NHWC'
    assert content['inputs']['image']['dtype'] == 'float16'
    assert (content['size']['height'], content['size']['width']) == (32, 50)


LIES = {
    'another type': ({'inputs': {'image': {'dtype': 'uint8'}}}, 'is uint8, but the model takes'),
    'another layout': ({'inputs': {'image': {'layout': 'NHWC'}}}, 'along H of NHWC'),
    'another rank': ({'inputs': {'image': {'layout': 'CHW'}}}, 'takes 4 dimensions'),
    'another size': ({'size': {'height': 266}}, 'gives the input image 266 along H'),
    'any size': ({'size': {'rule': 'keep'}}, 'has a fixed size'),
    'an input': ({'inputs': {'rays': {'role': 'rays'}}}, 'describes the input rays'),
    'an output': ({'outputs': {'sky': {'role': 'mask'}}}, 'describes the output sky'),
}


@pytest.mark.parametrize('lie', LIES)
def test_a_description_that_lies_is_one_sentence(tmp_path, lie):
    path = speaking.depth_anything_v2(tmp_path / 'depth_anything_v2.onnx', size=(252, 252))
    content = recognise(read_graph(path)).content
    changes, why = LIES[lie]
    for section, keys in changes.items():
        for key, value in keys.items():
            if isinstance(value, dict):
                content[section][key] = content[section].get(key, {}) | value
            else:
                content[section][key] = value
    write_description(content, path.with_suffix('.yaml'))
    with pytest.raises(ModelError, match=why):
        load_model(path, 'onnxruntime')


def test_a_description_is_written_whole_and_read_as_it_was(tmp_path):
    path = speaking.depth_anything_3_metric(tmp_path / 'da3metric.onnx', 100.0)
    content = recognise(read_graph(path)).content
    beside = path.with_suffix('.yaml')
    write_description(content, beside)
    assert yaml.safe_load(beside.read_text()) == content
    assert read_description(beside).depth.focal == 'f/300'
    assert sorted(one.name for one in tmp_path.iterdir()) == ['da3metric.onnx', 'da3metric.yaml']
    shutil.rmtree(tmp_path)
    with pytest.raises(ModelError, match='cannot be read'):
        read_description(beside)
