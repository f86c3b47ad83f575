"""What the consumer of a topic sees of every fault: the rows of docs/reliability.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
import re
import threading
import time

import numpy as np
import pytest

from depth_refiner_ros.config import configure
from depth_refiner_ros.data import DepthImage, Header, PinholeCamera, Provenance
from depth_refiner_ros.hosts import live
from depth_refiner_ros.hosts.live import Level, LiveRunner
from depth_refiner_ros.inference import ModelError, guarded
from depth_refiner_ros.stage import topic_inputs

WIDTH, HEIGHT = 64, 48
DEPTH, PROVENANCE = 'inpaint_depth.depth', 'inpaint_depth.provenance'
PATIENCE_S = 120
MODEL_SAYS_M = 1.25  # the classical filter says 2: the two can be told apart


def frame(number=1):
    header = Header(number * 33_000_000, 'camera')
    depth_m = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    depth_m[10:30, 20:50] = np.nan
    camera = PinholeCamera(header, WIDTH, HEIGHT, 60.0, 60.0, 31.5, 23.5)
    return {'depth': DepthImage(header, depth_m), 'camera': camera}


class Faulty:
    """A model that fails as it is told to."""

    back_end = 'faulty'
    ambiguity, compiling = 'none', False

    def __init__(self):
        self.error = None
        self.takes_s = 0.0
        self.released = threading.Event()
        self.released.set()
        self.loads = 0

    def load(self, name, device, *, threads, log):
        self.loads += 1
        if isinstance(self.error, ModelError):
            raise self.error
        return self

    def __call__(self, depth_m, color):
        assert self.released.wait(PATIENCE_S)
        time.sleep(self.takes_s)
        if self.error:
            raise self.error
        shape = depth_m.shape
        return {
            'estimate_m': np.full(shape, MODEL_SAYS_M, np.float32),
            'stddev_m': np.full(shape, 0.01, np.float32),
            'wrong': np.zeros(shape, np.float32),
        }


class Robot:
    """A live pipeline whose frames are fed one by one, as they are made."""

    def __init__(self, parameters, publishers=1):
        self.outputs, self.warnings = [], []
        configuration = configure({'stages': 'inpaint_depth', **parameters})
        pipeline = configuration.pipeline(configuration.parameters)
        self.number = 0
        self.frame_outputs = {}
        self.runner = LiveRunner(
            pipeline,
            configuration,
            {port: f'/{port}' for port in topic_inputs(configuration.pipeline)},
            publish=self.publish,
            wanted=lambda: [DEPTH, PROVENANCE],
            publishers=lambda topic: publishers,
            warn=self.warnings.append,
            watch=lambda values, outputs, latency_s: self.finish(),
        )

    def publish(self, port, value):
        self.frame_outputs[port] = value

    def finish(self):
        self.outputs.append(self.frame_outputs)
        self.frame_outputs = {}

    def feed(self, **changes):
        self.number += 1
        for port, value in {**frame(self.number), **changes}.items():
            self.runner.feed(port, value)

    def ready(self):
        """Give the model a frame to be loaded for, beside the work, and wait until it is."""
        check_classical(*self.sees())
        wait(lambda: not self.runner._pipeline.loading)

    def sees(self):
        """What the consumer gets of one more frame: depth, provenance."""
        count = len(self.outputs)
        self.feed()
        wait(lambda: len(self.outputs) > count)
        got = self.outputs[-1]
        return got[DEPTH].depth_m, got[PROVENANCE].provenance


def wait(condition):
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, 'timed out'
        time.sleep(0.005)


@pytest.fixture
def robot():
    made = []

    def make(parameters, **options):
        made.append(Robot(parameters, **options))
        return made[-1]

    yield make
    for item in made:
        item.runner.stop()


@pytest.fixture
def model(monkeypatch):
    """Stands in for every model that is loaded; after a failure it is tried again at once."""
    faulty = Faulty()
    monkeypatch.setattr(guarded, 'load_upgrading', faulty.load)
    monkeypatch.setattr(guarded, 'FIRST_RETRY_S', 0.0)
    yield faulty
    faulty.released.set()


def check_classical(depth_m, provenance):
    """Measurements pass through, holes are filled by the filter, and provenance says so."""
    hole = np.isnan(frame()['depth'].depth_m)
    np.testing.assert_array_equal(depth_m[~hole], np.float32(2))
    np.testing.assert_allclose(depth_m[hole], 2, atol=1e-3)
    assert (provenance[~hole] == Provenance.MEASURED).all()
    assert (provenance[hole] == Provenance.INPAINTED).all()


def check_learned(depth_m, provenance):
    assert depth_m[20, 35] == np.float32(MODEL_SAYS_M)  # amid the hole, beyond the filter's rim
    assert provenance[20, 35] == Provenance.INPAINTED


def warns(r, *words):
    status = r.runner.status()
    assert status.level == Level.WARN
    for word in words:
        assert word in status.text
    assert status.values['backend'] == 'classical'


def test_every_row_of_the_table_names_a_test_that_is_there():
    root = Path(__file__).parents[2]
    rows = (root / 'docs' / 'reliability.md').read_text(encoding='utf-8')
    named = re.findall(r'`(test/[\w/]+\.py)::(\w+)`', rows)
    assert len(named) > 25
    for path, name in named:
        assert re.search(rf'^def {name}\(', (root / path).read_text(encoding='utf-8'), re.M), name
    tables = [line for line in rows.splitlines() if line.startswith('| ')]
    without = [line for line in tables if '::test_' not in line and not line.endswith('| test |')]
    assert without == []


# --------------------------------------------------------------------------------- the model


def test_a_model_that_is_missing(robot):
    r = robot({'inpaint_depth.model': '/nowhere/absent.onnx'})
    r.ready()
    check_classical(*r.sees())
    warns(r, 'inpaint_depth runs without its model', 'absent.onnx')


def test_a_model_that_loads_for_long(robot, model, monkeypatch):
    """The filter serves from the first frame; nothing is said to hang."""
    monkeypatch.setattr(live, '_STALE_S', 0.05)
    loaded = threading.Event()
    load = model.load

    def slow(*args, **options):
        assert loaded.wait(PATIENCE_S)
        return load(*args, **options)

    monkeypatch.setattr(guarded, 'load_upgrading', slow)
    r = robot({'inpaint_depth.model': 'depth_small'})
    for _ in range(4):
        check_classical(*r.sees())
        time.sleep(0.02)
    check_classical(*r.sees())
    monkeypatch.setattr(live, '_STALE_S', 60.0)
    status = r.runner.status()
    assert status.level == Level.OK
    assert 'Hz; depth_small is loading (0 s)' in status.text
    assert status.values['inpaint_depth.loading'] == 'depth_small is loading (0 s)'
    loaded.set()
    wait(lambda: not r.runner._pipeline.loading)
    check_learned(*r.sees())
    assert 'loading' not in r.runner.status().text


def test_a_model_that_meets_images_of_another_size(robot, model):
    """Back ends compile for a size: that is the work of a thread beside, too."""
    r = robot({'inpaint_depth.model': 'depth_small'})
    r.ready()
    check_learned(*r.sees())
    model.released.clear()
    header = Header(99 * 33_000_000, 'camera')
    small = DepthImage(header, np.full((24, 32), 2.0, np.float32))
    camera = PinholeCamera(header, 32, 24, 30.0, 30.0, 15.5, 11.5)
    r.number = 99
    for number in range(99, 101):
        count, at = len(r.outputs), Header(number * 33_000_000, 'camera')
        r.feed(depth=replace(small, header=at), camera=replace(camera, header=at))
        wait(lambda count=count: len(r.outputs) > count)
    assert 'loading' in r.runner.status().text
    model.released.set()
    assert model.loads == 1


def test_a_model_file_that_is_corrupt(robot, tmp_path):
    pytest.importorskip('onnxruntime', reason='pip install onnxruntime')
    corrupt = tmp_path / 'corrupt.onnx'
    corrupt.write_bytes(np.random.default_rng(0).bytes(4096))
    r = robot({'inpaint_depth.model': str(corrupt)})
    r.ready()
    check_classical(*r.sees())
    warns(r, 'inpaint_depth runs without its model', 'corrupt')


def test_a_model_that_comes_later_is_taken(robot, model):
    model.error = ModelError('no model depth_small')
    r = robot({'inpaint_depth.model': 'depth_small'})
    r.ready()
    check_classical(*r.sees())
    warns(r, 'ModelError: no model depth_small')
    model.error = None
    r.ready()
    check_learned(*r.sees())
    status = r.runner.status()
    assert (status.level, status.values['backend']) == (Level.OK, 'faulty')


@pytest.mark.parametrize(
    'error',
    [
        RuntimeError('the engine crashed'),
        RuntimeError('[ONNXRuntimeError] CUDA failure 2: out of memory'),
        MemoryError('cannot allocate 9 GB'),
    ],
    ids=['crash', 'gpu memory', 'memory'],
)
def test_a_model_that_fails_while_it_runs(robot, model, error):
    r = robot({'inpaint_depth.model': 'depth_small'})
    r.ready()
    check_learned(*r.sees())
    model.error = error
    check_classical(*r.sees())
    warns(r, 'inpaint_depth runs without its model', str(error))
    model.error = None
    r.ready()
    check_learned(*r.sees())
    assert model.loads == 2  # loaded anew: what crashed is not trusted
    assert r.runner.status().level == Level.OK
    assert r.runner.failed == 0


def test_a_model_that_misses_its_deadline(robot, model, monkeypatch):
    monkeypatch.setattr(guarded, 'FIRST_RETRY_S', 3600.0)
    r = robot({'inpaint_depth.model': 'depth_small', 'inpaint_depth.model_deadline_s': 0.02})
    r.ready()
    model.takes_s = 0.05
    for _ in range(3):  # three in a row are late but right
        check_learned(*r.sees())
    check_classical(*r.sees())
    warns(r, 'repeatedly more than its deadline of 0.02 s')
    assert model.loads == 1


def test_a_model_that_hangs(robot, model, monkeypatch):
    r = robot({'inpaint_depth.model': 'depth_small'})
    r.ready()
    check_learned(*r.sees())
    model.released.clear()
    r.feed()
    monkeypatch.setattr(live, '_STALE_S', 0.05)
    wait(lambda: 'hangs' in r.runner.status().text)
    assert r.runner.status().level == Level.ERROR
    r.feed()
    r.feed()
    monkeypatch.undo()
    model.released.set()
    wait(lambda: len(r.outputs) == 4)  # what waited was overtaken, and counted
    assert r.runner.dropped == 1
    assert r.runner.status().level == Level.OK


# --------------------------------------------------------------------------------- the frames


def test_frames_that_miss_their_deadline(robot, model):
    r = robot({'inpaint_depth.model': 'depth_small', 'frame_deadline_s': 0.2})
    r.ready()
    model.takes_s = 0.25
    check_learned(*r.sees())
    status = r.runner.status()
    assert status.level == Level.WARN
    assert '1 of the last 2 frames took longer than frame_deadline_s (0.2 s)' in status.text
    assert status.values['missed'] == '1'


def test_frames_in_time_raise_nothing(robot):
    r = robot({'frame_deadline_s': 60.0})
    check_classical(*r.sees())
    status = r.runner.status()
    assert (status.level, status.values['missed']) == (Level.OK, '0')


def test_a_frame_that_does_not_fit_its_camera(robot, monkeypatch):
    r = robot({})
    header = Header(33_000_000, 'camera')
    r.feed(camera=PinholeCamera(header, 32, 24, 30.0, 30.0, 15.5, 11.5))
    wait(lambda: r.warnings)
    assert 'frame dropped' in r.warnings[0]
    monkeypatch.setattr(live, '_STALE_S', 0.0)
    assert r.runner.status().level == Level.ERROR
    monkeypatch.undo()
    check_classical(*r.sees())
    assert r.runner.status().level == Level.OK
    assert r.runner.failed == 1


def test_a_camera_that_falls_silent(robot, monkeypatch):
    r = robot({})
    check_classical(*r.sees())
    monkeypatch.setattr(live, '_STALE_S', 0.0)
    status = r.runner.status()
    assert status.level == Level.WARN
    assert 'no result for' in status.text


def test_a_calibration_that_never_comes(robot, monkeypatch):
    r = robot({}, publishers=0)
    r.runner.feed('depth', frame()['depth'])
    monkeypatch.setattr(live, '_STALE_S', 0.0)
    status = r.runner.status()
    assert status.level == Level.WARN
    assert 'waiting for camera on /camera: nobody publishes it' in status.text


# ---------------------------------------------------------------------------------- overload


class Clock:
    """The time that the live host reads."""

    now_s = 1000.0

    def monotonic(self):
        return self.now_s

    def monotonic_ns(self):
        return round(self.now_s * 1e9)


def test_overload_keeps_latency_below_two_stage_times_and_counts_every_drop(robot, monkeypatch):
    """A camera at 90 Hz and a stage at 30, on a clock of their own."""
    clock = Clock()
    monkeypatch.setattr(live, 'time', clock)
    r = robot({})
    stage = r.runner._pipeline.stages['inpaint_depth']
    began, go_on = threading.Semaphore(0), threading.Semaphore(0)

    class Slow:
        inputs, outputs, parameters = stage.inputs, stage.outputs, stage.parameters
        capabilities = stage.capabilities

        def __call__(self, **values):
            began.release()
            assert go_on.acquire(timeout=PATIENCE_S)
            return stage(**values)

    r.runner._pipeline.stages['inpaint_depth'] = Slow()
    latency_s = []
    r.runner._watch = lambda values, outputs, took_s: (latency_s.append(took_s), r.finish())
    r.feed()
    assert began.acquire(timeout=PATIENCE_S)
    for tick in range(1, 91):
        clock.now_s += 1 / 90
        if tick % 3 == 0:  # the stage is done, and takes the newest frame
            done = len(r.outputs)
            go_on.release()
            wait(lambda done=done: len(r.outputs) == done + 1)
            assert began.acquire(timeout=PATIENCE_S)
        r.feed()
    go_on.release()
    wait(lambda: len(r.outputs) == 31)
    assert began.acquire(timeout=PATIENCE_S)
    go_on.release()
    wait(lambda: len(r.outputs) == 32)
    assert max(latency_s) <= 2 / 30 + 1e-9
    # By hand: of 91 frames the first is taken at once, and the last after the end; every third
    # tick between them takes the frame of the tick before. 91 - 1 - 30 - 1 = 59.
    assert r.runner.dropped == 59
    numbers = [got[DEPTH].header.stamp_ns // 33_000_000 for got in r.outputs]
    assert numbers == [1, *range(3, 91, 3), 91]
