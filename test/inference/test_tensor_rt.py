import gc
import importlib
import json

import numpy as np
import pytest

pytest.importorskip('onnx', reason='makes the models of these tests: pip install onnx')
pytest.importorskip('onnxruntime', reason='runs the models of these tests')

from depth_refiner_ros.disk_cache import DiskCache
from depth_refiner_ros.inference import (
    BACK_ENDS,
    ModelError,
    compiling,
    load_model,
    loading,
    read_onnx,
)
from depth_refiner_ros.inference.description import parse_description
from depth_refiner_ros.inference.model import NotCompiledError
from depth_refiner_ros.inference.onnx_file import ModelMetadata, OnnxFile, read_graph
from depth_refiner_ros.inference.parity import resized, store_frames
from depth_refiner_ros.inference.progress import CancelledError, Progress
from depth_refiner_ros.inference.published import recognise, write_description
from depth_refiner_ros.inference.signature import Signature, TensorType


@pytest.fixture
def only_two(monkeypatch):
    """Leave two back ends: the others take long to load."""
    table = {name: BACK_ENDS[name] for name in ('tensorrt-fp16', 'onnxruntime')}
    monkeypatch.setattr(loading, 'BACK_ENDS', table)


def compiled(path, precision='fp16', **options):
    return compiling.compile_model(read_onnx(path), precision, **options)


def image(height, width, depth_m=1.5):
    depth = np.full((height, width), depth_m, np.float32)
    depth[1, 2] = np.nan
    return {'depth_m': depth, 'color': np.full((height, width, 3), 102, np.uint8)}


# ------------------------------------------------------------------------------------- building


@pytest.mark.parametrize(
    ('version', 'flags', 'strict'),
    [('10.3.0', 2, []), ('10.13.3', 2, ['STRICT_NANS']), ('11.1.0', 0, ['STRICT_NANS'])],
)
def test_the_build_is_configured_the_same_for_all_versions(
    install, convolving, version, flags, strict
):
    fake = install(version)
    compiled(convolving, sizes=[(20, 24)])
    assert fake.called('create_network') == [flags]  # STRONGLY_TYPED is implied from 11 on
    assert fake.called('clear_flag') == ['TF32']
    assert fake.called('set_flag') == strict
    assert fake.called('set_memory_pool_limit') == [('WORKSPACE', 1 << 30)]
    # A profile for the stored frames, the size in the metadata, and the one asked for.
    assert fake.called('set_shape') == [
        (name, shape, shape, shape)
        for height, width in ((6, 8), (12, 16), (20, 24))
        for name, shape in (('depth_m', (height, width)), ('color', (height, width, 3)))
    ]


def test_what_was_timed_is_kept_for_the_next_build(fake, convolving):
    compiled(convolving)
    compiled(convolving, sizes=[(20, 24)])
    assert fake.called('create_timing_cache') == [b'', b'+timed']


def test_a_timing_cache_of_another_gpu_is_replaced(fake, convolving):
    from depth_refiner_ros.inference.tensor_rt import device_facts

    DiskCache().put({'kind': 'timing', **device_facts()}, b'of another GPU')
    compiled(convolving)
    assert fake.called('create_timing_cache') == [b'of another GPU', b'']


def test_progress_goes_up_and_reaches_comparing(fake, convolving):
    progress, seen = Progress(), []
    fake.on_step = lambda step: seen.append(str(progress))
    compiled(convolving, progress=progress)
    # Four steps of the first of two phases.
    assert seen == ['build 0 %', 'build 12 %', 'build 25 %', 'build 38 %']
    assert progress.step == 'compare'


def test_a_build_can_be_cancelled_and_leaves_nothing(fake, convolving):
    progress, steps = Progress(), []

    def cancel(step):
        steps.append(step)
        if step == 1:
            progress.cancel()

    fake.on_step = cancel
    with pytest.raises(CancelledError):
        compiled(convolving, progress=progress)
    assert steps == [0, 1]
    assert DiskCache().entries() == []


def test_what_the_parser_refuses_is_told(fake, convolving, monkeypatch):
    from depth_refiner_ros.inference import typed_graph

    monkeypatch.setattr(typed_graph, 'for_tensorrt', lambda model: model)
    with pytest.raises(ModelError, match=r'10\.3\.0 does not take the model: Transpose .*UINT8'):
        compiled(convolving)


def test_a_model_without_convolutions_is_refused(fake, tiny):
    with pytest.raises(ModelError, match='no convolution'):
        compiled(tiny)


# -------------------------------------------------------------------------------------- serving


def test_an_engine_computes_what_onnx_runtime_does(fake, convolving):
    model = compiled(convolving, sizes=[(20, 24)])
    assert model.back_end == 'tensorrt-fp16'
    reference = load_model(convolving, 'onnxruntime')
    for size, depth_m in (((12, 16), 1.0), ((20, 24), 2.0), ((12, 16), 3.0), ((12, 16), 4.0)):
        inputs = image(*size, depth_m)
        want, got = reference(**inputs), model(**inputs)
        assert got.keys() == want.keys()
        for name in want:
            np.testing.assert_allclose(got[name], want[name], rtol=5e-4)


def test_memory_is_used_again_and_copied_once_each_way(fake, convolving):
    model = compiled(convolving)
    first = model(**image(12, 16, 1.0))['estimate_m']
    blocks = len(fake.memory.blocks)
    fake.calls.clear()
    second = model(**image(12, 16, 2.0))['estimate_m']
    assert len(fake.memory.blocks) == blocks
    assert np.shares_memory(first, second)
    pixels = 12 * 16
    assert fake.called('copy') == [
        ('cudaMemcpyHostToDevice', 4 * pixels),
        ('cudaMemcpyHostToDevice', 3 * pixels),
        ('cudaMemcpyDeviceToHost', 4 * pixels),
        ('cudaMemcpyDeviceToHost', 4 * pixels),
    ]
    assert fake.called('set_optimization_profile_async') == []


def test_outputs_outlive_the_model_and_then_all_memory_is_freed(fake, convolving):
    model = compiled(convolving)
    outputs = model(**image(12, 16, 1.0))
    kept = outputs['estimate_m'][2:4]
    want = kept.copy()
    del model, outputs
    gc.collect()
    np.testing.assert_array_equal(kept, want)
    assert len(fake.memory.blocks) == 1
    del kept
    gc.collect()
    assert fake.memory.blocks == {}


def test_a_size_that_was_not_compiled_says_what_to_do(fake, convolving):
    model = compiled(convolving)
    with pytest.raises(NotCompiledError, match=r'8x6, 16x12: .*--size 40 30'):
        model(**image(30, 40))
    assert model(**image(12, 16))['estimate_m'].shape == (12, 16)


def test_inputs_that_do_not_fit_each_other_are_refused(fake, convolving):
    model = compiled(convolving)
    with pytest.raises(ModelError, match='color'):
        model(depth_m=image(12, 16)['depth_m'], color=image(6, 8)['color'])


def test_a_gpu_that_fails_is_told(fake, convolving):
    model = compiled(convolving)
    model(**image(12, 16))
    fake.next_error = 'cudaErrorLaunchFailure'
    with pytest.raises(ModelError, match='cudaErrorLaunchFailure'):
        model(**image(12, 16))


# -------------------------------------------------------------------------------------- the cache


def test_an_engine_is_found_again_by_its_facts_only(install, convolving):
    fake = install('10.3.0')
    compiled(convolving)
    (facts,) = [e.facts for e in DiskCache().entries() if e.facts['kind'] == 'engine']
    assert facts['sizes'] == [[6, 8], [12, 16]]
    assert facts['gpu'] == 'Orin, compute 8.7'
    assert (facts['tensorrt'], facts['precision']) == ('10.3.0', 'fp16')
    assert facts['driver'].endswith('CUDA 12.6')
    told = []
    assert load_model(convolving, 'tensorrt-fp16', log=told.append).back_end == 'tensorrt-fp16'
    assert told[0].startswith('convolving runs on tensorrt-fp16 (median 0.')
    assert len(fake.called('create_network')) == 1
    install('10.4.0')
    with pytest.raises(NotCompiledError, match=r'compile convolving --precision fp16'):
        load_model(convolving, 'tensorrt-fp16')


def test_compiling_again_does_nothing_and_more_sizes_keep_the_old(fake, convolving):
    told = []
    compiled(convolving, sizes=[(20, 24)])
    compiled(convolving, log=told.append)
    assert len(fake.called('create_network')) == 1
    assert told[0].startswith('convolving was compiled before: median 0.')
    model = compiled(convolving, sizes=[(30, 40)])
    assert model.sizes == ((6, 8), (12, 16), (20, 24), (30, 40))
    assert load_model(convolving, 'tensorrt-fp16').sizes == model.sizes


def test_a_damaged_engine_is_built_anew(fake, convolving):
    compiled(convolving)
    for entry in DiskCache().entries():
        entry.path.write_bytes(entry.path.read_bytes()[:-1])
    with pytest.raises(NotCompiledError):
        load_model(convolving, 'tensorrt-fp16')
    compiled(convolving)
    assert len(fake.called('create_network')) == 2


def test_an_engine_that_tensorrt_does_not_load_is_told(fake, convolving):
    from depth_refiner_ros.inference.tensor_rt import engine_facts

    facts = {**engine_facts(read_onnx(convolving), 'fp16'), 'sizes': [[12, 16]]}
    DiskCache().put(facts, b'no engine')
    with pytest.raises(ModelError, match='Magic tag does not match'):
        load_model(convolving, 'tensorrt-fp16')


def test_a_full_disk_is_told_and_the_engine_serves(fake, convolving, monkeypatch):
    def full(cache, facts, data):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(DiskCache, 'put', full)
    told = []
    model = compiled(convolving, log=told.append)
    assert model(**image(12, 16))['estimate_m'].shape == (12, 16)
    assert 'No space left' in told[-1]


# -------------------------------------------------------------------------------------- the gate


def test_a_miscompiled_engine_is_refused_with_its_figures_and_not_kept(install, convolving):
    install(error=0.01)
    with pytest.raises(ModelError, match=r'does not agree with ONNX Runtime: median 1\d\.\d+ mm'):
        compiled(convolving)
    kinds = sorted(entry.facts['kind'] for entry in DiskCache().entries())
    assert kinds == ['refusal', 'timing']


def test_what_was_refused_is_not_built_again_until_the_cache_is_cleared(install, convolving):
    fake = install(error=0.01)
    for words in ('median 1', r'median 1.*found before; `depth-refiner cache clear`'):
        with pytest.raises(ModelError, match=words):
            compiled(convolving)
    assert len(fake.called('create_network')) == 1
    fake.error = 0.0
    DiskCache().clear()
    compiled(convolving)


def test_cancelled_while_it_is_compared_nothing_unproven_is_kept(fake, convolving, monkeypatch):
    progress = Progress()
    agreement = compiling._agreement

    def cancel_after(*arguments):
        progress.cancel()
        return agreement(*arguments)

    monkeypatch.setattr(compiling, '_agreement', cancel_after)
    with pytest.raises(CancelledError):
        compiled(convolving, progress=progress)
    assert [entry.facts['kind'] for entry in DiskCache().entries()] == ['timing']


def test_every_size_is_compared(fake, convolving, monkeypatch):
    from depth_refiner_ros.inference import tensor_rt

    honest = tensor_rt.TensorRtModel.__call__

    def wrong_in_one_size(self, **inputs):
        outputs = honest(self, **inputs)
        off = np.float32(0.1 if inputs['depth_m'].shape == (20, 24) else 0)
        return {name: values + off for name, values in outputs.items()}

    monkeypatch.setattr(tensor_rt.TensorRtModel, '__call__', wrong_in_one_size)
    with pytest.raises(ModelError, match='does not agree with ONNX Runtime on 24x20'):
        compiled(convolving, sizes=[(20, 24)])
    compiled(convolving)


def test_auto_takes_what_was_compiled_and_never_compiles(fake, convolving, only_two):
    assert not load_model(convolving).back_end.startswith('tensorrt')
    assert fake.called('create_network') == []
    compiled(convolving)
    assert load_model(convolving).back_end == 'tensorrt-fp16'


def test_auto_takes_the_next_where_an_engine_is_wrong(install, convolving, only_two):
    fake = install()
    compiled(convolving)
    fake.error = 0.01
    told = []
    assert not load_model(convolving, log=told.append).back_end.startswith('tensorrt')
    assert 'Not tensorrt-fp16: it does not agree with ONNX Runtime: median 1' in told[0]


# ------------------------------------------------------------------------------ published models


@pytest.fixture
def transformer(tmp_path):
    """Return what exports a transformer and describes it, with a frame in 70x98 px beside it."""
    pytest.importorskip('torch', reason='exports the transformer of these tests')
    from .vision_transformer import export

    def make(**options):
        path = export(tmp_path / 'depth_anything_v2.onnx', **options)
        content = recognise(read_graph(path), 'depth_anything_v2').content
        content['size'] |= {'height': 70, 'width': 98}
        image = np.random.default_rng(0).normal(0, 1, (1, 3, 70, 98)).astype(np.float32)
        content['tolerances'] = store_frames(read_graph(path), [{'image': image}], 0.005)
        write_description(content, path.with_suffix('.yaml'))
        return path, image

    return make


@pytest.mark.parametrize('version', ['10.3.0', '11.1.0'])
def test_a_published_transformer_is_compiled_for_its_one_size(install, transformer, version):
    fake = install(version)
    path, image = transformer()
    told = []
    model = compiled(path, log=told.append)
    assert told == ['depth_anything_v2: outputs compared with ONNX Runtime on 1 frames']
    assert fake.called('set_shape') == [('image', *[(1, 3, 70, 98)] * 3)]
    want = load_model(path, 'onnxruntime')._model(image=image)['depth']
    got = model(image=image)['depth']
    assert 0 < np.abs(got - want).max() < 1e-3 * np.ptp(want)  # half precision, and no more
    assert load_model(path, 'tensorrt-fp16').back_end == 'tensorrt-fp16'


def test_a_transformer_of_any_size_has_a_profile_for_each_that_is_compared(fake, transformer):
    path, image = transformer(free=True)
    model = compiled(path, sizes=[(70, 70), (140, 84)])
    assert model.sizes == ((70, 70), (70, 98), (140, 84))
    wide = np.ascontiguousarray(np.tile(image, (1, 1, 2, 1))[..., :84])
    want = load_model(path, 'onnxruntime')._model(image=wide)['depth']
    np.testing.assert_allclose(model(image=wide)['depth'], want, atol=1e-3 * np.ptp(want))
    with pytest.raises(NotCompiledError, match='--size 28 28'):
        model(image=image[..., :28, :28])


def test_a_published_model_that_is_miscompiled_is_refused_by_its_own_tolerance(
    install, transformer
):
    path, _ = transformer()
    tolerance = read_onnx(path).metadata.tolerances['depth']
    assert tolerance < 0.05  # what any output that is no depth may be off
    install(error=2 * tolerance)
    with pytest.raises(ModelError, match=r'does not agree with ONNX Runtime: .*depth differs by'):
        compiled(path)
    install(error=0.5 * tolerance)
    DiskCache().clear()
    compiled(path)


def test_inputs_of_other_sizes_and_constants_stay_what_they_are(tmp_path):
    content = {
        'format': 1,
        'name': 'several',
        'stage': 'inpaint_depth',
        'size': {'rule': 'keep', 'multiple': 2},
        'inputs': {
            'image': {'role': 'color', 'layout': 'NHWC'},
            'prompt': {'role': 'depth', 'size': [3, 4]},
            'tokens': {'role': 'constant', 'value': 7, 'dtype': 'int64'},
        },
        'outputs': {'depth': {'role': 'depth', 'kind': 'metric'}},
    }
    tensors = {'image': TensorType('float32', (1, 'h', 'w', 3))}
    file = OnnxFile(
        tmp_path / 'several.onnx',
        ModelMetadata('several'),
        frozenset(),
        Signature(tensors, {}),
        description=parse_description(content, 'several.yaml'),
    )
    frame = {
        'image': np.arange(4 * 6 * 3, dtype=np.float32).reshape(1, 4, 6, 3),
        'prompt': np.ones((1, 1, 3, 4), np.float32),
        'tokens': np.array(7, np.int64),
    }
    found = resized(frame, tuple(frame), (2, 3), file)
    np.testing.assert_array_equal(found['image'], frame['image'][:, ::2, ::2])
    np.testing.assert_array_equal(found['prompt'], frame['prompt'])
    assert found['tokens'].shape == ()


# ------------------------------------------------------------------------------------------ int8


def test_int8_needs_a_calibration_and_says_so(fake, convolving):
    with pytest.raises(ModelError, match='--calibrate BAG'):
        compiled(convolving, 'int8')
    with pytest.raises(NotCompiledError, match=r'not calibrated: .*--calibrate BAG'):
        load_model(convolving, 'tensorrt-int8')
    with pytest.raises(ModelError, match='at least one frame'):
        compiling.calibrate(read_onnx(convolving), [])


def test_calibration_keeps_the_largest_magnitudes(fake, convolving):
    frames = [image(12, 16, 1.0), image(12, 16, 7.0)]
    found = compiling.calibrate(read_onnx(convolving), frames)
    assert found.frames == 2
    # The features are depth, a hole's 2 m, and colour from 0 to 1.
    assert found.largest['features'] == 7.0
    assert set(found.largest) == {'features', 'first_out', 'resized'}
    (entry,) = DiskCache().entries()
    assert json.loads(DiskCache().get(entry.facts))['largest'] == found.largest
    # The stored frame has 6 m, and must be reproduced.
    assert compiling.calibrate(read_onnx(convolving), frames[:1]).largest['features'] == 6.0
    with pytest.raises(ModelError, match='takes color, which is not there'):
        compiling.calibrate(read_onnx(convolving), [{'depth_m': frames[0]['depth_m']}])


def test_int8_serves_if_it_agrees_and_another_calibration_is_another_engine(fake, convolving):
    file = read_onnx(convolving)
    compiling.calibrate(file, [image(12, 16, 6.0)])
    model = compiled(convolving, 'int8')
    assert model.back_end == 'tensorrt-int8'
    assert load_model(convolving, 'tensorrt-int8').back_end == 'tensorrt-int8'
    compiling.calibrate(file, [image(12, 16, 8.0)])
    with pytest.raises(NotCompiledError, match='not compiled'):
        load_model(convolving, 'tensorrt-int8')


# -------------------------------------------------------------------------------- what is missing


def test_without_a_gpu_that_is_said(install, convolving):
    install(gpu=False)
    with pytest.raises(ModelError, match=r'no GPU is usable .*InsufficientDriver.*nvidia-smi'):
        compiled(convolving)


def test_all_that_is_missing_is_said_at_once(monkeypatch, convolving):
    def missing(module):
        raise ModuleNotFoundError(f'No module named {module!r}')

    monkeypatch.setattr(importlib, 'import_module', missing)
    monkeypatch.setattr(compiling, '_DEVICES', ('/dev/none',))
    lacking = '; '.join(compiling.lacking())
    for words in ('TensorRT 10 or 11', 'JetPack', 'cuda-python>=12.9', 'onnx>=1.16', 'NVIDIA GPU'):
        assert words in lacking
    with pytest.raises(ModelError, match='this machine lacks TensorRT'):
        compiled(convolving)
