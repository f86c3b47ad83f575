"""Whether a live pipeline keeps its camera's rate with the model that auto takes: fake clocks.

The camera sends a frame every 33 ms: 26.4 of them may be work.
"""

import time

import numpy as np
import pytest

from depth_refiner_ros.config import configure
from depth_refiner_ros.data import DepthImage, Header, PinholeCamera
from depth_refiner_ros.hosts.live import LiveRunner
from depth_refiner_ros.hosts.pace import FRAMES, Pace
from depth_refiner_ros.stage import topic_inputs
from depth_refiner_ros.stages.inpaint_depth import InpaintDepth

PERIOD_MS = 33
PATIENCE_S = 60


def paced(period_ms, cost_s, frames=2 * FRAMES):
    """Return a pace after some frames, and what it decided."""
    pace = Pace()
    pace.renewed('work')
    verdicts = []
    for number in range(frames):
        pace.stamped(round(number * period_ms * 1e6))
        verdicts.append(pace.worked(cost_s))
    return pace, [verdict for verdict in verdicts if verdict is not None]


def test_a_model_that_keeps_the_rate_with_a_margin_is_kept():
    _, (verdict,) = paced(PERIOD_MS, 0.026)
    assert verdict == (True, 0.026, pytest.approx(0.033))
    assert verdict.text('inpaint_depth', 'm') == (
        'inpaint_depth takes m: a frame takes 26 ms with it, and the camera sends one every 33 ms'
    )


def test_a_model_without_a_margin_is_not():
    _, (verdict,) = paced(PERIOD_MS, 0.027)
    assert verdict.text('inpaint_depth', 'm') == (
        'inpaint_depth does without m, which is too slow here: a frame takes 27 ms with it, and '
        'the camera sends one every 33 ms, of which 80% may be work; inpaint_depth.model: m takes '
        'it all the same'
    )


def test_it_is_decided_once_however_the_work_goes_on():
    pace, (verdict,) = paced(PERIOD_MS, 0.010)
    assert verdict.keeps
    assert [pace.worked(1.0) for _ in range(100)] == [None] * 100


def test_one_slow_frame_decides_nothing():
    pace = Pace()
    for number in range(FRAMES + 1):
        pace.stamped(number * 33_000_000)
    verdicts = [pace.worked(2.0 if number == 0 else 0.01) for number in range(FRAMES)]
    assert verdicts[-1].keeps


def test_lost_messages_do_not_make_a_camera_slow():
    pace = Pace()
    lost = {2, 3, 7, 11, 12, 13, 17, 22}
    for number in range(30):
        if number not in lost:
            pace.stamped(number * 33_000_000)
    assert pace.period_s == pytest.approx(0.033)


def test_stamps_that_stand_still_or_jump_are_no_rate():
    pace = Pace()
    for stamp_ns in [5] * 40 + [3, 10_000_000_000, 20_000_000_000]:
        pace.stamped(stamp_ns)
    assert pace.period_s is None
    assert [pace.worked(1.0) for _ in range(20)] == [None] * 20


def test_another_rate_or_other_work_is_decided_anew():
    pace, (verdict,) = paced(PERIOD_MS, 0.050)
    assert not verdict.keeps
    assert not pace.renewed('work')
    for number in range(100, 140):
        pace.stamped(number * 40_000_000)  # 21 % slower
    assert not pace.renewed('work')
    for number in range(100, 140):
        pace.stamped(number * 100_000_000)
    assert pace.renewed('work')
    again = [pace.worked(0.050) for _ in range(FRAMES)]
    assert again[-1] == (True, 0.050, pytest.approx(0.1))
    assert pace.renewed('other work')


# ------------------------------------------------------------------------------- a live pipeline


class Camera:
    """A live pipeline whose model takes as long as it is told, by a clock that only it moves."""

    def __init__(self, **parameters):
        configuration = configure({'stages': 'inpaint_depth', **parameters})
        pipeline = configuration.pipeline(configuration.parameters)
        self.now_s = self.model_s = 0.0
        self.wanted = ['inpaint_depth.depth']
        self.told, self.warnings, self.count = [], [], 0
        self.stamp_ns = 1
        pipeline.stages['inpaint_depth'] = InpaintDepth(
            configuration.parameters.inpaint_depth, self._model
        )
        self.runner = LiveRunner(
            pipeline,
            configuration,
            {port: f'/{port}' for port in topic_inputs(configuration.pipeline)},
            publish=lambda port, value: None,
            wanted=lambda: self.wanted,
            publishers=lambda topic: 1,
            warn=self.warnings.append,
            inform=self.told.append,
            clock_s=lambda: self.now_s,
        )

    def _model(self, depth_m, color):
        self.now_s += self.model_s
        flat = np.full(depth_m.shape, 2, np.float32)
        return {'estimate_m': flat, 'stddev_m': 0.01 * flat, 'wrong': 0 * flat}

    def frames(self, count, period_ms=PERIOD_MS):
        depth_m = np.full((12, 16), 2.0, np.float32)
        depth_m[3:6, 4:9] = np.nan
        for _ in range(count):
            self.stamp_ns += round(period_ms * 1e6)
            header = Header(self.stamp_ns, 'camera')
            camera = PinholeCamera(header, 16, 12, 20.0, 20.0, 8.0, 6.0)
            self.runner.feed('camera', camera)
            self.runner.feed('depth', DepthImage(header, depth_m))
            self.count += 1
            end_s = time.monotonic() + PATIENCE_S
            while len(self.runner._done) < self.count:
                assert time.monotonic() < end_s
                time.sleep(0.001)
        assert self.warnings == []

    @property
    def back_end(self):
        return self.runner.status().values['backend']


@pytest.fixture
def camera():
    made = []

    def make(**parameters):
        made.append(Camera(**parameters))
        return made[-1]

    yield make
    for item in made:
        item.runner.stop()


def test_a_fast_model_stays(camera):
    c = camera()
    c.model_s = 0.020
    c.frames(40)
    assert c.back_end == 'model'
    (told,) = c.told
    assert 'inpaint_depth takes depth_small: a frame takes 20 ms with it' in told
    assert c.runner.status().values['camera_rate'] == told


def test_a_slow_model_goes_and_comes_back_with_a_slower_camera(camera):
    c = camera()
    c.model_s = 0.170
    c.frames(40)
    assert c.back_end == 'classical'
    assert len(c.told) == 1
    assert 'does without depth_small, which is too slow here: a frame takes 170 ms' in c.told[0]
    status = c.runner.status()
    assert status.values['camera_rate'] == status.values['inpaint_depth.model'] == c.told[0]
    c.frames(80, period_ms=500)
    assert c.back_end == 'model'
    assert 'inpaint_depth takes depth_small: a frame takes 170 ms with it' in c.told[1]
    c.frames(80)
    assert c.back_end == 'classical'
    assert len(c.told) == 3


@pytest.mark.parametrize(
    'parameters', [{'inpaint_depth.model': 'depth_small'}, {'keep_camera_rate': False}]
)
def test_what_is_asked_for_never_goes(camera, parameters):
    c = camera(**parameters)
    c.model_s = 10.0
    c.frames(60)
    assert c.back_end == 'model'
    assert c.told == []


def test_a_model_that_nobody_listens_to_is_not_judged_until_somebody_does(camera):
    c = camera(stages='refine_depth,inpaint_depth')
    c.wanted = ['refine_depth.depth']
    c.model_s = 0.170
    c.frames(40)
    assert c.told == []
    c.wanted = ['refine_depth.depth', 'inpaint_depth.depth']
    c.frames(40)
    assert len(c.told) == 1
    assert c.back_end == 'classical'


def test_one_more_output_of_a_stage_that_runs_decides_nothing_anew(camera):
    c = camera()
    c.model_s = 0.170
    c.frames(40)
    assert len(c.told) == 1
    c.wanted = ['inpaint_depth.depth', 'inpaint_depth.stddev']
    c.model_s = 0.0
    c.frames(40)
    assert len(c.told) == 1
    assert c.back_end == 'classical'


def test_naming_the_model_takes_it_back(camera):
    c = camera()
    c.model_s = 1.0
    c.frames(40)
    assert c.back_end == 'classical'
    named = {'stages': 'inpaint_depth', 'inpaint_depth.model': 'depth_small'}
    c.runner.configuration = configure(named)
    c.frames(2)
    assert c.back_end == 'model'
    assert 'camera_rate' not in c.runner.status().values
