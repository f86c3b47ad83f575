import threading

import numpy as np
import pytest

from depth_refiner_ros.inference import (
    BACK_ENDS,
    GuardedModel,
    ModelError,
    compiling,
    loading,
    read_onnx,
    upgrading,
)
from depth_refiner_ros.inference.model import NotCompiledError
from depth_refiner_ros.inference.progress import CancelledError
from depth_refiner_ros.inference.upgrading import UpgradingModel, load_upgrading


class Counting:
    """A model that puts out who it is, for some sizes."""

    name = 'tiny'

    def __init__(self, back_end, sizes=()):
        self.back_end, self.sizes = back_end, sizes

    def __call__(self, depth_m):
        if self.sizes and depth_m.shape not in self.sizes:
            raise NotCompiledError('not this size')
        return {'by': self.back_end}


class Compiler:
    """Compiles when it is told to."""

    def __init__(self, error=None):
        self.go, self.error, self.asked = threading.Event(), error, []

    def __call__(self, size, progress):
        self.asked.append(size)
        progress.tell('build', 0.25)
        self.go.wait(10)
        progress.stop_if_cancelled()
        if self.error:
            raise self.error
        return Counting('fast', self.asked.copy())


SMALL, LARGE = np.zeros((2, 3)), np.zeros((4, 6))


def upgrading_model(compiler, better=None, **options):
    options.setdefault('target', 'fast')
    return UpgradingModel(lambda: Counting('slow'), better, compiler, **options)


def until(condition):
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError('it never came to it')


def test_every_frame_is_served_and_the_better_one_takes_over():
    compiler, told = Compiler(), []
    model = upgrading_model(compiler, log=told.append)
    assert (model.name, model.back_end) == ('tiny', 'slow')
    assert model(depth_m=SMALL) == {'by': 'slow'}
    until(lambda: model._compilation.progress.share > 0)
    assert model(depth_m=SMALL) == {'by': 'slow'}
    assert told == ['tiny runs on slow while it is compiled for fast: build 25 %']
    compiler.go.set()
    until(lambda: model(depth_m=SMALL) == {'by': 'fast'})
    assert compiler.asked == [(2, 3)]
    assert model.back_end == 'fast'
    assert told[-1] == 'tiny runs on fast, compiled beside slow'


def test_another_size_is_compiled_while_the_first_goes_on():
    compiler = Compiler()
    compiler.go.set()
    model = upgrading_model(compiler)
    until(lambda: model(depth_m=SMALL) == {'by': 'fast'})
    compiler.go.clear()
    assert model(depth_m=LARGE) == {'by': 'slow'}
    assert model(depth_m=SMALL) == {'by': 'fast'}
    compiler.go.set()
    until(lambda: model(depth_m=LARGE) == {'by': 'fast'})
    assert compiler.asked == [(2, 3), (4, 6)]


def test_what_cannot_be_compiled_is_told_once_and_not_tried_again():
    compiler, told = Compiler(ModelError('it does not agree: median 9 mm')), []
    compiler.go.set()
    model = upgrading_model(compiler, log=told.append)
    assert model(depth_m=SMALL) == {'by': 'slow'}
    until(lambda: model(depth_m=SMALL) and model._compilation is None)
    for _ in range(3):
        assert model(depth_m=SMALL) == {'by': 'slow'}
    assert compiler.asked == [(2, 3)]
    assert told[-1] == 'tiny runs on slow, not fast: it does not agree: median 9 mm'
    assert len(told) <= 2


def test_without_a_compiler_other_sizes_are_served_by_the_other():
    loaded = []

    def fallback():
        loaded.append(1)
        return Counting('slow')

    model = UpgradingModel(fallback, Counting('fast', [(2, 3)]))
    assert model(depth_m=SMALL) == {'by': 'fast'}
    assert loaded == []
    assert model(depth_m=LARGE) == {'by': 'slow'}
    assert (model.back_end, loaded) == ('slow', [1])


def test_an_error_of_the_better_one_is_an_error():
    def broken(**inputs):
        raise ModelError('CUDA: cudaErrorLaunchFailure')

    broken.name = broken.back_end = 'fast'
    with pytest.raises(ModelError, match='LaunchFailure'):
        upgrading_model(None, broken)(depth_m=SMALL)


def test_the_end_of_the_process_cancels():
    compiler = Compiler()
    compilation = compiling.Compilation(lambda progress: compiler((2, 3), progress))
    until(lambda: compiler.asked)
    stopper = threading.Timer(0.05, compiler.go.set)
    stopper.start()
    compilation.cancel()
    assert not compilation.running
    with pytest.raises(CancelledError):
        compilation.result()


# ------------------------------------------------------------------------- with the fake TensorRT


@pytest.fixture
def only_two(monkeypatch):
    """Leave two back ends: the others take long to load."""
    table = {name: BACK_ENDS[name] for name in ('tensorrt-fp16', 'onnxruntime')}
    for module in (loading, upgrading):
        monkeypatch.setattr(module, 'BACK_ENDS', table)


def image(height, width):
    depth_m = np.full((height, width), 1.5, np.float32)
    return {'depth_m': depth_m, 'color': np.zeros((height, width, 3), np.uint8)}


def test_a_robot_is_served_while_its_engine_is_built(fake, convolving, only_two):
    go = threading.Event()
    fake.on_step = lambda step: go.wait(10)
    guarded = GuardedModel.named(str(convolving), 'tensorrt-fp16')
    want = guarded(**image(20, 24))['estimate_m'].copy()
    assert guarded.back_end == 'onnxruntime'
    until(lambda: guarded(**image(20, 24)) and 'build 0 %' in guarded.note)
    assert guarded.note.startswith('convolving runs on onnxruntime while it is compiled for')
    go.set()
    until(lambda: guarded(**image(20, 24)) and guarded.back_end == 'tensorrt-fp16')
    np.testing.assert_allclose(guarded(**image(20, 24))['estimate_m'], want, rtol=5e-4)
    assert guarded.note == 'convolving runs on tensorrt-fp16, compiled beside onnxruntime'
    # The next start finds it.
    assert load_upgrading(convolving, 'tensorrt-fp16').back_end == 'tensorrt-fp16'
    assert len(fake.called('create_network')) == 1


def test_auto_compiles_nothing(fake, convolving, only_two):
    model = load_upgrading(convolving)
    model(**image(20, 24))
    assert model.back_end == 'onnxruntime'
    compiling.compile_model(read_onnx(convolving), 'fp16')
    model = load_upgrading(convolving)
    model(**image(12, 16))
    assert model.back_end == 'tensorrt-fp16'
    model(**image(20, 24))
    assert model.back_end == 'onnxruntime'
    assert len(fake.called('create_network')) == 1


def test_a_refused_engine_leaves_the_next_back_end_and_its_figures(install, convolving, only_two):
    fake = install()
    compiling.compile_model(read_onnx(convolving), 'fp16')
    fake.error = 0.01
    told = []
    assert load_upgrading(convolving, 'tensorrt-fp16', log=told.append).back_end == 'onnxruntime'
    assert 'does not agree with ONNX Runtime: median 1' in told[-1]


def test_without_tensorrt_the_next_back_end_serves_and_that_is_said(convolving, only_two):
    told = []
    model = load_upgrading(convolving, 'tensorrt-fp16', log=told.append)
    assert model.back_end == 'onnxruntime'
    assert 'tensorrt is not installed' in told[-1]
    with pytest.raises(ModelError, match='no back end tensorrt-fp4'):
        load_upgrading(convolving, 'tensorrt-fp4')
