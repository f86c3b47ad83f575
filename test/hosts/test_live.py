"""The live runner without any middleware: rosbags' message classes stand in for a robot's."""

import threading
import time

import numpy as np
import pytest

from depth_refiner_ros.config import configure
from depth_refiner_ros.data import DepthImage, Header, PinholeCamera, Provenance, ProvenanceImage
from depth_refiner_ros.hosts.bag import FAMILY
from depth_refiner_ros.hosts.live import Level, LiveRunner
from depth_refiner_ros.messages import encode

WIDTH, HEIGHT = 16, 12
PATIENCE_S = 120


def messages(stamp_ns, encoding='16UC1'):
    header = Header(stamp_ns, 'camera')
    depth = DepthImage(header, np.full((HEIGHT, WIDTH), 2.0, np.float32), encoding)
    camera = PinholeCamera(header, WIDTH, HEIGHT, 20.0, 20.0, 8.0, 6.0)
    return encode(depth, FAMILY), encode(camera, FAMILY)


class Robot:
    """Collects what a runner publishes; `gate` holds its pipeline back."""

    def __init__(self, wanted=('project_points.points',), publishers=1):
        configuration = configure({'stages': 'project_points'})
        pipeline = configuration.pipeline(configuration.parameters)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.published, self.warnings = [], []
        robot, stage = self, pipeline.stages['project_points']

        class Gated:
            inputs, outputs, parameters = stage.inputs, stage.outputs, stage.parameters

            def __call__(self, **values):
                robot.entered.release()
                assert robot.gate.wait(PATIENCE_S)
                return stage(**values)

        pipeline.stages['project_points'] = Gated()
        self.runner = LiveRunner(
            pipeline,
            configuration,
            {'depth': '/d', 'camera': '/c', 'color': '/rgb', 'provenance': '/p'},
            publish=lambda port, value: self.published.append((port, value)),
            wanted=lambda: list(wanted),
            publishers=lambda topic: publishers,
            warn=self.warnings.append,
        )

    def feed(self, stamp_ns, encoding='16UC1'):
        depth, camera = messages(stamp_ns, encoding)
        self.runner.feed('camera', camera)
        self.runner.feed('depth', depth)

    def wait(self, condition):
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, 'timed out'
            time.sleep(0.01)


@pytest.fixture
def robot():
    made = []

    def make(**kwargs):
        made.append(Robot(**kwargs))
        return made[-1]

    yield make
    for item in made:
        item.gate.set()
        item.runner.stop()


def test_newest_frame_wins_and_overtaken_ones_are_counted(robot):
    r = robot()
    r.gate.clear()
    r.feed(1_000)
    assert r.entered.acquire(timeout=PATIENCE_S)  # the worker is busy with the first frame
    for i in range(2, 7):
        r.feed(i * 1_000)
    r.gate.set()
    r.wait(lambda: len(r.published) == 2)
    assert [value.header.stamp_ns for _, value in r.published] == [1_000, 6_000]
    assert r.runner.dropped == 4


def test_publishes_only_what_is_wanted(robot, monkeypatch):
    r = robot(wanted=())
    r.feed(1_000)
    monkeypatch.setattr('depth_refiner_ros.hosts.live._STALE_S', 0.0)
    r.wait(lambda: r.runner.status().text.startswith('idle'))
    assert r.published == []


def test_bad_frame_is_dropped_with_a_sentence_and_the_next_one_works(robot):
    r = robot()
    depth, camera = messages(1_000)
    depth.encoding = 'bgr8'
    r.runner.feed('camera', camera)
    r.runner.feed('depth', depth)
    r.wait(lambda: r.warnings)
    assert "/d: encoding 'bgr8' is not a depth image" in r.warnings[0]
    r.feed(2_000)
    r.wait(lambda: r.published)
    assert r.runner.failed == 1


def test_status_says_what_is_missing(robot, monkeypatch):
    r = robot(publishers=0)
    monkeypatch.setattr('depth_refiner_ros.hosts.live._STALE_S', 0.0)
    status = r.runner.status()
    assert status.level == Level.WARN
    assert 'waiting for depth on /d: nobody publishes it' in status.text
    r.runner.feed('depth', messages(1_000)[0])
    assert 'waiting for camera on /c' in r.runner.status().text


def test_status_names_qos_when_publishers_are_there(robot, monkeypatch):
    monkeypatch.setattr('depth_refiner_ros.hosts.live._STALE_S', 0.0)
    assert 'compare QoS' in robot(publishers=2).runner.status().text


def test_status_is_patient_at_the_start(robot):
    assert robot(publishers=0).runner.status().level == Level.OK


def test_status_reports_rate_and_holes(robot):
    r = robot()
    for i in range(1, 4):
        r.feed(i * 1_000)
        r.wait(lambda i=i: len(r.published) == i)
    r.wait(lambda: r.runner.status().values['received.depth'] == '3')
    assert r.runner.status().level == Level.OK


def test_status_tells_of_depth_without_its_provenance(robot):
    r = robot()
    marks = np.full((HEIGHT, WIDTH), Provenance.MEASURED, np.uint8)
    for stamp_ns in (1_000, 3_000):  # none is of the frame at 2 us
        image = ProvenanceImage(Header(stamp_ns, 'camera'), marks)
        r.runner.feed('provenance', encode(image, FAMILY))
    for i in (1, 2):
        r.feed(i * 1_000)
        r.wait(lambda i=i: len(r.published) == i)
    assert '1 frames came without the provenance that others had' in r.runner.status().text


def test_live_parameters_reach_the_next_frame(robot):
    r = robot()
    r.runner.configuration = configure({'stages': 'project_points', 'project_points.stride_px': 4})
    # the gated stage ignores parameters; the pipeline's own record tells that they arrived
    r.feed(1_000)
    r.wait(lambda: r.published)
    assert r.runner._pipeline.parameters.project_points.stride_px == 4
