"""The live runner without any middleware: rosbags' message classes stand in for a robot's."""

import threading
import time

import numpy as np
import pytest

from depth_refiner_ros.config import configure
from depth_refiner_ros.data import (
    ColorImage,
    DepthImage,
    Header,
    PinholeCamera,
    Provenance,
    ProvenanceImage,
)
from depth_refiner_ros.hosts.live import Level, LiveRunner
from depth_refiner_ros.hosts.typestore import FAMILY
from depth_refiner_ros.messages import encode
from depth_refiner_ros.stage import topic_inputs

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
            capabilities = stage.capabilities

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


def test_publishing_goes_on_beside_the_next_frame_and_one_more_waits(robot):
    r = robot()
    going_out = threading.Event()

    def publish(port, value):
        assert going_out.wait(PATIENCE_S)
        r.published.append((port, value))

    r.runner._publish = publish
    r.feed(1_000)
    assert r.entered.acquire(timeout=PATIENCE_S)
    r.feed(2_000)
    assert r.entered.acquire(timeout=PATIENCE_S)  # in work while the first goes out
    r.feed(3_000)
    r.feed(4_000)
    assert not r.entered.acquire(timeout=0.1)  # a third would only grow old behind the others
    going_out.set()
    r.wait(lambda: len(r.published) == 3)
    assert [value.header.stamp_ns for _, value in r.published] == [1_000, 2_000, 4_000]
    assert r.runner.dropped == 1


def test_a_frame_that_cannot_be_published_is_named_and_the_next_one_works(robot):
    r = robot()
    publish, r.runner._publish = r.runner._publish, lambda port, value: 1 / 0
    r.feed(1_000)
    r.wait(lambda: r.warnings)
    assert r.warnings == ['frame dropped: ZeroDivisionError: division by zero']
    assert r.runner.failed == 1
    r.runner._publish = publish
    r.feed(2_000)
    r.wait(lambda: r.published)
    assert [value.header.stamp_ns for _, value in r.published] == [2_000]
    r.wait(lambda: r.runner.status().level == Level.OK)


def test_live_parameters_reach_the_next_frame(robot):
    r = robot()
    r.runner.configuration = configure({'stages': 'project_points', 'project_points.stride_px': 4})
    # the gated stage ignores parameters; the pipeline's own record tells that they arrived
    r.feed(1_000)
    r.wait(lambda: r.published)
    assert r.runner._pipeline.parameters.project_points.stride_px == 4


# ------------------------------------------------------------------- inputs that are not in order


class Camera:
    """A live pipeline of any stages, fed with values."""

    def __init__(self, stages, publishers=1, wanted='inpaint_depth.depth'):
        configuration = configure({'stages': stages, 'inpaint_depth.model': ''})
        self.published, self.warnings = [], []
        self.runner = LiveRunner(
            configuration.pipeline(configuration.parameters),
            configuration,
            {port: f'/{port}' for port in topic_inputs(configuration.pipeline)},
            publish=lambda port, value: self.published.append(value),
            wanted=lambda: [wanted],
            publishers=lambda topic: publishers,
            warn=self.warnings.append,
        )

    def wait(self, condition):
        for _ in range(500):
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError(self.warnings or 'timed out')


@pytest.fixture
def camera():
    made = []

    def make(*args, **kwargs):
        made.append(Camera(*args, **kwargs))
        return made[-1]

    yield make
    for item in made:
        item.runner.stop()


def depth_of(stamp_ns, width=WIDTH, height=HEIGHT):
    return DepthImage(Header(stamp_ns, 'camera'), np.full((height, width), 2.0, np.float32))


def camera_of(stamp_ns, width=WIDTH, height=HEIGHT):
    return PinholeCamera(Header(stamp_ns, 'camera'), width, height, 20.0, 20.0, 8.0, 6.0)


def test_a_stage_that_nobody_listens_to_is_not_run(camera):
    c = camera('refine_depth,inpaint_depth', wanted='refine_depth.depth')
    c.runner.feed('camera', camera_of(1_000))
    c.runner.feed('depth', depth_of(1_000))
    c.wait(lambda: c.published)
    assert list(c.runner._pipeline.last_s) == ['refine_depth']


def test_depth_goes_on_without_colour_that_cannot_be_read(camera):
    c = camera('inpaint_depth')
    color = encode(ColorImage(Header(1_000, 'camera'), np.zeros((4, 4, 3), np.uint8)), FAMILY)
    color.encoding = 'nv12'
    c.runner.feed('color', color)
    c.runner.feed('camera', camera_of(1_000))
    c.runner.feed('depth', depth_of(1_000))
    c.wait(lambda: c.published)
    status = c.runner.status()
    assert status.level == Level.WARN
    assert "Hz, but without color: /color: encoding 'nv12'" in status.text
    assert len(c.warnings) == 1
    assert c.warnings[0] == c.runner.warned
    assert c.runner.warned in status.text  # a host need not log it twice
    assert (status.values['left_out'], status.values['failed']) == ('1', '0')


def test_a_change_of_resolution_costs_no_frame(camera):
    c = camera('inpaint_depth')
    c.runner.feed('camera', camera_of(1_000))
    c.runner.feed('depth', depth_of(1_000))
    c.wait(lambda: c.published)
    later_ns = 3_000_000_000  # so late that the last calibration would serve at once
    c.runner.feed('depth', depth_of(later_ns, 2 * WIDTH, 2 * HEIGHT))
    c.runner.feed('camera', camera_of(later_ns, 2 * WIDTH, 2 * HEIGHT))
    c.wait(lambda: len(c.published) == 2)
    assert c.published[1].depth_m.shape == (2 * HEIGHT, 2 * WIDTH)
    assert (c.runner.failed, c.warnings) == (0, [])


def test_a_calibration_that_stays_of_another_size(camera, monkeypatch):
    c = camera('inpaint_depth')
    c.runner.feed('camera', camera_of(1_000, 640, 480))
    c.runner.feed('depth', depth_of(2_000))
    monkeypatch.setattr('depth_refiner_ros.hosts.live._STALE_S', 0.0)
    status = c.runner.status()
    assert status.level == Level.WARN
    assert 'depth on /depth is 16x12, but the last calibration on /camera is of 640x480' in (
        status.text
    )


def test_frozen_stamps_are_named(camera, monkeypatch):
    c = camera('inpaint_depth')
    for _ in range(12):
        c.runner.feed('camera', camera_of(12_500_000_000))
        c.runner.feed('depth', depth_of(12_500_000_000))
    c.wait(lambda: c.published)
    monkeypatch.setattr('depth_refiner_ros.hosts.live._STALE_S', 0.0)
    status = c.runner.status()
    assert status.level == Level.WARN
    assert status.text == (
        'depth on /depth is frozen: its last 12 messages carry one stamp, 12.500 s; restart its '
        'driver, or have it stamp its frames'
    )
    c.runner.feed('depth', depth_of(12_533_000_000))
    assert 'frozen' not in c.runner.status().text


def test_images_that_do_not_fit_the_receive_buffer(camera, monkeypatch):
    c = camera('inpaint_depth', publishers=1)
    monkeypatch.setattr('depth_refiner_ros.hosts.live._STALE_S', 0.0)
    monkeypatch.setattr('depth_refiner_ros.hosts.live._receive_buffer_bytes', lambda: 212_992)
    c.runner.feed('camera', camera_of(1_000))
    assert 'fragments' not in c.runner.status().text
    c.runner.feed('camera', camera_of(2_000, 4096, 3072))
    text = c.runner.status().text
    # 4096 x 3072 pixels of two bytes
    assert 'an image of 4096x3072 has 25.2 MB or more in fragments' in text
    assert 'the kernel holds 0.2 MB: sudo sysctl -w net.core.rmem_max=' in text
    assert 'qos_overrides./depth.subscription.reliability: reliable' in text


def test_stamps_that_differ_are_told_with_how_much():
    configuration = configure({'stages': 'blur_background'})
    runner = LiveRunner(
        configuration.pipeline(configuration.parameters),
        configuration,
        {port: f'/{port}' for port in topic_inputs(configuration.pipeline)},
        publish=lambda port, value: None,
        wanted=lambda: ['blur_background.color'],
        publishers=lambda topic: 1,
        warn=lambda text: None,
    )
    try:
        rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        runner.feed('camera', camera_of(1_000_000_000))
        runner.feed('depth', depth_of(1_000_000_000))
        runner.feed('color', ColorImage(Header(1_250_000_000, 'camera'), rgb))
        text = runner._cause(time.monotonic())
        assert text.startswith(
            'stamps of depth and color are 0.250 s apart, more than slop_s (0.02 s); '
        )
    finally:
        runner.stop()


def test_an_optional_input_that_is_late_is_waited_for_without_a_timer_of_the_host(camera):
    c = camera('inpaint_depth')
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for number in range(1, 4):
        c.runner.feed('color', ColorImage(Header(number * 33_000_000, 'camera'), rgb))
        c.runner.feed('camera', camera_of(number * 33_000_000))
        c.runner.feed('depth', depth_of(number * 33_000_000))
        c.wait(lambda number=number: len(c.published) == number)
    c.runner.feed('camera', camera_of(132_000_000))
    c.runner.feed('depth', depth_of(132_000_000))  # its colour never comes
    c.wait(lambda: len(c.published) == 4)


def test_idle_is_no_warning_and_a_new_listener_no_complaint(robot, monkeypatch):
    wanted = []
    r = robot(wanted=wanted)
    r.feed(1_000)
    monkeypatch.setattr('depth_refiner_ros.hosts.live._STALE_S', 0.1)
    time.sleep(0.15)
    assert r.runner.status()[:2] == (Level.OK, 'idle: nobody subscribes to an output')
    wanted.append('project_points.points')
    r.runner._wanted = lambda: wanted
    assert r.runner.status().level == Level.OK
