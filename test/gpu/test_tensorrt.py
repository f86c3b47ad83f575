"""The real TensorRT on a real GPU: `python -m pytest test/gpu -s`, some minutes.

What `test/inference/test_tensor_rt.py` shows with a fake, here with engines of the shipped model.
Prints what was measured, for docs/deployment.md.
"""

from __future__ import annotations

import gc
import threading
import time

import numpy as np
import pytest

from depth_refiner_ros.disk_cache import DiskCache
from depth_refiner_ros.inference import GuardedModel, compiling, load_model, read_onnx
from depth_refiner_ros.inference.model import model_path
from depth_refiner_ros.inference.onnx_file import read_graph
from depth_refiner_ros.inference.parity import (
    check_parity,
    reference_frames,
    resized,
    store_frames,
)
from depth_refiner_ros.inference.progress import CancelledError, Progress
from depth_refiner_ros.inference.published import recognise, write_description

LACKING = compiling.lacking()
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f'this needs {"; ".join(LACKING)}')

INPUTS = ('depth_m', 'color')
SIZE = (480, 640)


@pytest.fixture(scope='module', autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('DEPTH_REFINER_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield DiskCache()


@pytest.fixture(scope='module')
def file():
    return read_onnx(model_path('depth_small'))


@pytest.fixture(scope='module')
def engine(cache, file):
    """depth_small in float16, built once."""
    seen, progress = set(), Progress()
    compilation = compiling.Compilation(
        lambda _: compiling.compile_model(file, 'fp16', progress=progress, log=print)
    )
    started_s = time.perf_counter()
    while compilation.running:
        seen.add(str(progress))
        compilation.wait(0.05)
    model = compilation.result()
    print(f'built in {time.perf_counter() - started_s:.0f} s, progress told {len(seen)} times')
    assert len(seen) > 3
    return model


def test_it_agrees_with_onnx_runtime_in_its_own_size(engine, file):
    pytest.importorskip('onnxruntime', reason='is what the engine is compared with')
    reference = load_model('depth_small', 'onnxruntime')
    frames = [resized(frame, INPUTS, SIZE) for frame in reference_frames(file.path)]
    report = check_parity(engine, [f | reference(**f) for f in frames], INPUTS)
    print(f'fp16 in 640x480: {report.text}')
    assert report.agrees, report.text


def test_the_next_start_finds_it_and_auto_takes_it(engine):
    started_s = time.perf_counter()
    model = load_model('depth_small', log=print)
    print(f'loaded and proven in {time.perf_counter() - started_s:.1f} s')
    assert model.back_end == 'tensorrt-fp16'


def test_it_repeats_itself(engine, file):
    inputs = resized(reference_frames(file.path)[0], INPUTS, SIZE)
    first = {name: values.copy() for name, values in engine(**inputs).items()}
    for _ in range(20):
        for name, values in engine(**inputs).items():
            np.testing.assert_array_equal(values, first[name])


def test_sizes_may_alternate(engine, file):
    frame = reference_frames(file.path)[0]
    sizes = [SIZE, frame['depth_m'].shape]
    want = {size: engine(**resized(frame, INPUTS, size))['estimate_m'].copy() for size in sizes}
    for size in sizes * 3:
        got = engine(**resized(frame, INPUTS, size))['estimate_m']
        np.testing.assert_array_equal(got, want[size])


def test_frames_cost_no_memory(engine, file):
    from cuda.bindings import runtime as cudart

    inputs = resized(reference_frames(file.path)[0], INPUTS, SIZE)
    spent_ms = []
    for number in range(220):
        if number == 20:
            _, before_bytes, _ = cudart.cudaMemGetInfo()
        started_s = time.perf_counter()
        engine(**inputs)
        spent_ms.append(1e3 * (time.perf_counter() - started_s))
    _, after_bytes, _ = cudart.cudaMemGetInfo()
    p50, p99 = np.percentile(spent_ms[20:], (50, 99))
    print(f'fp16 in 640x480: median {p50:.2f} ms, p99 {p99:.2f} ms, copies included')
    assert abs(before_bytes - after_bytes) < 8 << 20


def test_a_model_that_is_dropped_gives_its_memory_back(engine, file):
    from cuda.bindings import runtime as cudart

    def used():
        gc.collect()
        return cudart.cudaMemGetInfo()[1]

    load_model('depth_small', 'tensorrt-fp16')
    before_bytes = used()
    for _ in range(5):
        load_model('depth_small', 'tensorrt-fp16')
    assert before_bytes - used() < 64 << 20


def test_a_build_is_cancelled_within_seconds(engine, file):
    compilation = compiling.Compilation(
        lambda progress: compiling.compile_model(
            file, 'fp16', sizes=[(360, 640)], progress=progress
        )
    )
    compilation.wait(2)
    started_s = time.perf_counter()
    compilation.cancel()
    print(f'cancelled in {time.perf_counter() - started_s:.1f} s')
    with pytest.raises(CancelledError):
        compilation.result()


def test_frames_are_served_while_another_size_is_built(engine, file):
    guarded = GuardedModel.named('depth_small', 'tensorrt-fp16')
    inputs = resized(reference_frames(file.path)[0], INPUTS, (240, 320))
    by: list[str] = []
    slowest_s = 0.0
    deadline_s = time.monotonic() + 900
    while 'tensorrt-fp16' not in by and time.monotonic() < deadline_s:
        started_s = time.perf_counter()
        assert guarded(**inputs) is not None
        if by:  # the first one loads the fallback
            slowest_s = max(slowest_s, time.perf_counter() - started_s)
        by.append(guarded.back_end)
        threading.Event().wait(0.03)
    print(f'{len(by)} frames served meanwhile, the slowest took {slowest_s:.2f} s; {guarded.note}')
    assert by[-1] == 'tensorrt-fp16', guarded.note


def test_int8_agrees_or_is_refused_with_its_figures(engine, file):
    stored = reference_frames(file.path)
    compiling.calibrate(file, [resized(frame, INPUTS, SIZE) for frame in stored])
    refusal = ''
    try:
        compiling.compile_model(file, 'int8', log=print)
    except compiling.ModelError as error:
        refusal = str(error)
    print(f'int8: {refusal or "agrees"}')
    if refusal:
        assert 'does not agree with ONNX Runtime' in refusal
    else:
        assert load_model('depth_small', 'tensorrt-int8').back_end == 'tensorrt-int8'


@pytest.mark.parametrize('free', [False, True])
def test_a_published_transformer_agrees_in_every_size(cache, tmp_path, free):
    pytest.importorskip('torch', reason='exports the transformer of this test')
    pytest.importorskip('onnxruntime', reason='is what the engine is compared with')
    from ..inference.vision_transformer import export

    path = export(tmp_path / 'depth_anything_v2.onnx', free=free)
    content = recognise(read_graph(path), 'depth_anything_v2').content
    content['size'] |= {'height': 70, 'width': 98}
    image = np.random.default_rng(0).normal(0, 1, (1, 3, 70, 98)).astype(np.float32)
    content['tolerances'] = store_frames(read_graph(path), [{'image': image}], 0.005)
    write_description(content, path.with_suffix('.yaml'))
    sizes = [(518, 686)] if free else []
    model = compiling.compile_model(read_onnx(path), 'fp16', sizes=sizes, log=print)
    assert model.sizes == ((70, 98), *sizes)
    color = np.random.default_rng(1).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    want = load_model(path, 'onnxruntime')(color=color)['estimate_m']
    got = load_model(path, 'tensorrt-fp16')(color=color)['estimate_m']
    print(f'largest difference {100 * np.abs(got / want - 1).max():.3f} %')
    np.testing.assert_allclose(got, want, rtol=5e-3)
