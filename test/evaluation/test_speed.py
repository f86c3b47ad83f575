"""What is computed from times, with times made up; no test asks how fast anything is."""

from __future__ import annotations

import json
import math
import mmap
import os
import sys
import threading

import numpy as np
import pytest

from depth_refiner_ros.config import configure
from depth_refiner_ros.data import ColorImage, DepthImage, Header, PinholeCamera
from depth_refiner_ros.evaluation import speed
from depth_refiner_ros.geometry import TransformTree
from depth_refiner_ros.hosts.bag import BagError, BagWriter, open_bag

WIDTH, HEIGHT = 32, 24


@pytest.fixture(scope='module')
def clip():
    return speed.simulated_frames(3, WIDTH, HEIGHT, configure({}).pipeline)


def values(stamp_ns, metres=2.0):
    header = Header(stamp_ns, 'camera')
    return {
        'depth': DepthImage(header, np.full((HEIGHT, WIDTH), metres, np.float32), '16UC1'),
        'camera': PinholeCamera(header, WIDTH, HEIGHT, 20.0, 20.0, 16.0, 12.0),
    }


# ------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize(
    ('count', 'expected'),
    [(1, [0] * 6), (2, [0, 1, 0, 1, 0, 1]), (4, [0, 1, 2, 3, 2, 1, 0, 1, 2, 3])],
)
def test_frames_are_played_back_and_forth(count, expected):
    assert [speed.swept_index(i, count) for i in range(len(expected))] == expected


def test_stamps_go_on_and_are_shared_by_a_frame():
    clip = speed.Clip('made up', [values(7, 1.0), values(3, 2.0)], TransformTree())
    swept = list(clip.swept(4, rate_hz=10))
    stamps_ns = [frame['depth'].header.stamp_ns for frame in swept]
    assert np.diff(stamps_ns).tolist() == [100_000_000] * 3
    assert [frame['camera'].header.stamp_ns for frame in swept] == stamps_ns
    assert [float(frame['depth'].depth_m[0, 0]) for frame in swept] == [1, 2, 1, 2]
    assert clip.values[0]['depth'].header.stamp_ns == 7


def test_simulated_frames_have_what_the_pipeline_takes():
    points = configure({'stages': 'project_points'})
    (frame,) = speed.simulated_frames(1, WIDTH, HEIGHT, points.pipeline).values
    assert sorted(frame) == ['camera', 'color', 'color_camera', 'depth']
    refine = configure({'stages': 'refine_depth'})
    (frame,) = speed.simulated_frames(1, WIDTH, HEIGHT, refine.pipeline).values
    assert sorted(frame) == ['camera', 'depth']
    assert frame['depth'].depth_m.shape == (HEIGHT, WIDTH)


def test_frames_of_a_recording(tmp_path):
    configuration = configure({'stages': 'project_points'})
    topics = {
        port: f'/c/{port}' for port in ('depth', 'camera', 'color', 'color_camera', 'provenance')
    }
    with BagWriter(tmp_path / 'some.mcap') as writer:
        for i in range(5):
            for port, value in values(i * 1_000_000, 1.0 + i).items():
                writer.write(topics[port], i * 1_000_000, value)
    with open_bag(tmp_path / 'some.mcap') as reader:
        clip = speed.recorded_frames(reader, configuration, topics, 3)
    assert clip.source == str(tmp_path / 'some.mcap')
    assert [float(frame['depth'].depth_m[0, 0]) for frame in clip.values] == [1, 2, 3]
    assert all(sorted(frame) == ['camera', 'depth'] for frame in clip.values)


def test_a_recording_without_a_complete_frame_is_refused(tmp_path):
    configuration = configure({'stages': 'project_points'})
    topics = {
        port: f'/c/{port}' for port in ('depth', 'camera', 'color', 'color_camera', 'provenance')
    }
    with BagWriter(tmp_path / 'some.mcap') as writer:
        writer.write('/c/depth', 0, values(0)['depth'])
        writer.write('/c/camera', 0, values(0)['camera'])
    with open_bag(tmp_path / 'some.mcap') as reader, pytest.raises(BagError, match='no complete'):
        speed.recorded_frames(reader, configuration, topics, 0)


# ---------------------------------------------------------------------------------- in turns


class Clock:
    """Time that passes only when somebody works."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def test_contenders_take_turns_and_each_begins_a_round():
    clock, calls = Clock(), []

    def contender(name, seconds_of):
        def work(item):
            calls.append((name, item))
            clock.now_s += seconds_of[item]

        return work

    slow, fast = {0: 4.0, 1: 40.0, 2: 6.0}, {0: 2.0, 1: 10.0, 2: 2.0}
    contenders = {'slow': contender('slow', slow), 'fast': contender('fast', fast)}
    rounds = list(speed.interleaved(contenders, [0, 1, 2], clock=clock))
    assert calls == [
        ('slow', 0),
        ('fast', 0),
        ('fast', 1),
        ('slow', 1),
        ('slow', 2),
        ('fast', 2),
    ]
    assert [r['slow'] for r in rounds] == [4, 40, 6]
    assert [r['fast'] for r in rounds] == [2, 10, 2]
    # Round by round 2, 4 and 3; what slowed the second round down slowed both.
    found = speed.ratio([r['slow'] for r in rounds], [r['fast'] for r in rounds])
    assert found == {'median': 3, 'q25': 2.5, 'q75': 3.5, 'of_minima': 2}


def test_a_ratio_is_of_rounds_not_of_medians():
    # Medians 5 and 4 would make 1.25.
    assert speed.ratio([1, 5, 9], [4, 1, 9])['median'] == 1


def test_rounds_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match='2 rounds cannot be compared with 3'):
        speed.ratio([1, 2], [1, 2, 3])


def test_times_are_milliseconds():
    found = speed.spread_ms([0.010, 0.030, 0.020])
    assert found == pytest.approx({'median_ms': 20, 'p99_ms': 29.8, 'min_ms': 10})


def test_arrays_of_a_frame():
    color = ColorImage(Header(0, 'c'), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    found = speed.arrays({**values(0), 'color': color})
    assert sum(array.nbytes for array in found) == HEIGHT * WIDTH * (4 + 3)


def test_a_repeated_contender_repeats():
    items = []
    speed.repeated(items.append, 3)('a')
    assert items == ['a', 'a', 'a']


def test_the_fastest_of_some_times(monkeypatch):
    rounds = [{'': 3.0}, {'': 1.0}, {'': 2.0}]
    monkeypatch.setattr(speed, 'interleaved', lambda contenders, items: iter(rounds))
    assert speed.fastest_s(print, []) == 1


MADE_UP_S = {'pipeline': 0.060, 'memory_copy': 0.003, 'librealsense': 0.020}


@pytest.fixture
def made_up_rounds(monkeypatch):
    """Runs the contenders, but says they took what `MADE_UP_S` says, and in one round 10 times
    as long; returns how often each reference is called."""
    called = dict.fromkeys(MADE_UP_S, 0)

    def counted(name):
        def call(*arguments):
            called[name] += 1

        return call

    class Copy:
        megabytes = 1.0

        def __init__(self, frame, outputs):
            pass

        __call__ = staticmethod(counted('memory_copy'))

    def interleaved(contenders, items):
        for number, item in enumerate(items):
            spent_s = {}
            for name, contender in contenders.items():
                before = called.get(name, 0)
                contender(item)
                calls = max(called.get(name, 0) - before, 1)
                spent_s[name] = MADE_UP_S[name] * calls * (10 if number == 6 else 1)
            yield spent_s

    def fastest_s(contender, items):
        if isinstance(contender, Copy):
            return MADE_UP_S['memory_copy']
        for item in items:
            contender(item)
        return 0.060 if contender.__name__ == 'run' else MADE_UP_S['librealsense']

    monkeypatch.setattr(speed, 'interleaved', interleaved)
    monkeypatch.setattr(speed, 'fastest_s', fastest_s)
    monkeypatch.setattr(speed, '_Copy', Copy)
    monkeypatch.setattr(speed, 'librealsense', lambda frame: counted('librealsense'))


@pytest.mark.usefixtures('made_up_rounds')
def test_stages_and_their_ratios(clip):
    found = speed.stages(configure({}), clip, rounds=8)
    assert list(found) == ['stages', 'pipeline', 'ratios']
    assert list(found['stages']) == ['refine_depth', 'inpaint_depth', 'project_points']
    for spent in found['stages'].values():
        assert 0 < spent['min_ms'] <= spent['median_ms'] <= spent['p99_ms']
    assert found['pipeline']['median_ms'] == pytest.approx(60)
    assert found['pipeline']['cpu_ms'] >= 0
    copy, chain = found['ratios']['memory_copy'], found['ratios']['librealsense']
    # Repeated to last as long as the pipeline, reported for one.
    assert (copy['repeats'], chain['repeats']) == (20, 3)
    assert copy['median_ms'] == pytest.approx(3)
    assert chain['median_ms'] == pytest.approx(20)
    times = copy['times']['pipeline']
    assert times == pytest.approx({'median': 20, 'q25': 20, 'q75': 20, 'of_minima': 20})
    assert chain['times']['pipeline']['median'] == pytest.approx(3)
    assert set(chain['times']) == {'pipeline', *found['stages']}
    assert chain['reason'] is None
    json.dumps(found, allow_nan=False)


def test_the_copy_has_the_bytes_of_inputs_and_outputs(clip, monkeypatch):
    monkeypatch.setattr(speed, 'librealsense', lambda frame: 'not here')
    found = speed.stages(configure({'stages': 'refine_depth'}), clip, rounds=1)
    # Depth and colour in; depth, standard deviation and provenance out.
    megabytes = HEIGHT * WIDTH * (4 + 3 + 4 + 4 + 1) / 1e6
    assert f'{megabytes:.2f} MB' in found['ratios']['memory_copy']['what']


def test_without_librealsense_the_ratio_is_null_and_says_why(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyrealsense2', None)
    found = speed.stages(configure({'stages': 'project_points'}), clip, rounds=1)
    chain = found['ratios']['librealsense']
    assert chain['median_ms'] is None
    assert chain['times'] is None
    assert 'pip install' in chain['reason']


def test_librealsense_takes_part_where_it_is_installed(clip):
    pytest.importorskip('pyrealsense2')
    found = speed.stages(configure({'stages': 'project_points'}), clip, rounds=2)
    assert found['ratios']['librealsense']['times']['pipeline']['median'] > 0


# ------------------------------------------------------------------------------------ the bag


def test_bag_host_reports_what_is_on_top_of_the_stages(clip, tmp_path, monkeypatch):
    ms = {
        'replay': 1e6,
        'pipeline': 8e5,
        'read': 8,
        'decode': 2,
        'pairing': 1,
        'encode': 6,
        'encode_and_write': 20,
    }

    def interleaved(contenders, items):
        assert list(contenders) == list(ms)
        for item in items:
            for contender in contenders.values():
                contender(item)
            yield {name: 3 * spent_ms / 1e3 for name, spent_ms in ms.items()}

    monkeypatch.setattr(speed, 'interleaved', interleaved)
    found = speed.bag_host(configure({}), clip, tmp_path, frame_count=3, rounds=2)
    assert found['frame_ms'] == pytest.approx(1e6)
    assert 0 < found['stages_ms'] < 1e6
    assert found['parts_ms'] == pytest.approx(
        {'read_and_decode': 10, 'pairing': 1, 'encode': 6, 'write': 14}
    )
    assert found['on_top_ms'] + found['stages_ms'] == pytest.approx(1e6)
    assert found['on_top_percent'] > 0
    assert found['times_pipeline']['median'] == pytest.approx(1.25)
    assert (found['frames'], found['rounds']) == (3, 2)
    # Two depths, two deviations and two provenances, and points of 12 bytes and their colour.
    assert found['written_mb_per_frame'] == WIDTH * HEIGHT * (2 * (4 + 4 + 1) + 12 + 3) / 1e6
    assert len(list(tmp_path.iterdir())) == 3  # what was read, and the last of both written


def test_bag_host_replays_every_frame_and_writes_what_is_asked(clip, tmp_path):
    only = ('inpaint_depth.depth',)
    speed.bag_host(configure({}), clip, tmp_path, only=only, frame_count=4, rounds=1)
    with open_bag(tmp_path / 'replayed_1.mcap') as reader:
        (connection,) = reader.connections
        assert connection.topic == '/bench/depth_inpainted/image_rect'
        assert connection.msgcount == 4


# ----------------------------------------------------------------------------------- the host


def run(sent_s, received_s, rate_hz=10.0, **changes):
    return speed.Run(rate_hz, sent_s, received_s, wall_s=0.5, cpu_s=0.2, **changes)


def test_figures_of_a_run():
    # Frame 2 is missed; results come after 20, 20, 50 and 30 ms.
    found = run([0, 0.1, 0.2, 0.3, 0.4], {0: 0.02, 1: 0.12, 3: 0.35, 4: 0.43}).metrics()
    assert found['sent_hz'] == pytest.approx(10)
    assert found['received_hz'] == pytest.approx(3 / 0.41)
    assert (found['sent'], found['missed'], found['missed_percent']) == (5, 1, 20)
    assert found['latency_ms']['mean'] == pytest.approx(30)
    assert found['latency_ms']['p50'] == pytest.approx(25)
    assert found['latency_ms']['max'] == pytest.approx(50)
    # Intervals of 100, 230 and 80 ms: changes of 130 and 150 ms.
    assert found['jitter_ms']['mean'] == pytest.approx(140)
    assert found['jitter_ms']['min'] == pytest.approx(130)
    assert found['jitter_ms']['max'] == pytest.approx(150)
    assert found['cpu_percent'] == pytest.approx(40)
    assert found['rss_growth_mb'] is None


@pytest.mark.parametrize('received_s', [{}, {3: 1.0}, {3: 1.0, 4: 1.1}])
def test_a_run_with_too_few_results_says_null(received_s):
    found = run([i / 10 for i in range(20)], received_s).metrics()
    assert found['jitter_ms'] is None
    assert (found['latency_ms'] is None) == (not received_s)
    assert (found['received_hz'] is None) == (len(received_s) < 2)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(('missed', 'sustained'), [(0, True), (4, True), (5, False), (60, False)])
def test_a_rate_is_sustained_with_fewer_than_5_percent_missed(missed, sustained):
    sent_s = [i / 10 for i in range(100)]
    received_s = {i: at_s + 0.01 for i, at_s in enumerate(sent_s[: 100 - missed])}
    assert run(sent_s, received_s).sustained is sustained


def test_a_rate_that_could_not_be_sent_is_not_sustained():
    sent_s = [i / 9 for i in range(100)]
    everything = dict(enumerate(sent_s))
    assert not run(sent_s, everything).sustained
    assert run(sent_s, everything, rate_hz=9.2).sustained


@pytest.mark.parametrize('capacity_hz', [0.3, 7.0, 24.9, 25.1, 400.0])
@pytest.mark.parametrize('guess_hz', [1.0, 25.0, 900.0])
def test_the_search_finds_the_capacity(capacity_hz, guess_hz):
    search, tries = speed.PeakSearch(guess_hz), 0
    while not search.done:
        search.add(search.next_hz <= capacity_hz)
        tries += 1
    assert capacity_hz / 1.05 <= search.low_hz <= capacity_hz
    assert tries <= 5 + abs(math.log(guess_hz / capacity_hz, 1.05**8))


def test_the_search_ends_where_nothing_or_everything_is_sustained():
    nothing, everything = speed.PeakSearch(20), speed.PeakSearch(20)
    while not nothing.done:
        nothing.add(False)
    while not everything.done:
        everything.add(True)
    assert nothing.low_hz == 0
    assert everything.low_hz == 2000


def consumer(capacity_hz):
    """A `live_run` that takes 1 / capacity_hz for a frame and keeps the newest waiting, without
    a clock."""
    runs = []

    def live_run(configuration, clip, rate_hz, seconds, *, only=()):
        count = max(math.ceil(seconds * rate_hz), 20)
        sent_s = [i / rate_hz for i in range(count)]
        received_s, free_s, waiting = {}, 0.0, None
        for number, at_s in enumerate([*sent_s, math.inf]):
            if waiting is not None and free_s <= at_s:
                free_s = max(free_s, sent_s[waiting]) + 1 / capacity_hz
                received_s[waiting] = free_s
                waiting = None
            if at_s < math.inf:
                waiting = number
        runs.append((rate_hz, seconds))
        return speed.Run(rate_hz, sent_s, received_s, max(seconds, 1e-9), 0.1)

    return live_run, runs


@pytest.mark.parametrize('capacity_hz', [12.0, 24.0, 80.0])
def test_peak_of_a_consumer_of_known_capacity(clip, monkeypatch, capacity_hz):
    live_run, runs = consumer(capacity_hz)
    monkeypatch.setattr(speed, 'live_run', live_run)
    found = speed.live_host(configure({}), clip, guess_hz=20.0, seconds=10.0)
    # Up to 5 % may be missed at the peak, and the search stops within 5 %.
    assert 0.95 * capacity_hz <= found['peak_hz'] <= 1.01 * capacity_hz
    assert found['peak']['sustained']
    assert list(found['at']) == ['10_hz', '30_hz']
    assert found['at']['10_hz']['missed'] == 0
    assert found['at']['30_hz']['sustained'] is (capacity_hz >= 30)
    assert [hz for hz, _ in runs[-2:]] == [10, 30]
    assert runs[0] == (20, 5)  # the trial
    assert len(found['tried']) == len(runs) - 3
    json.dumps(found, allow_nan=False)


def test_no_peak_where_no_rate_is_sustained(clip, monkeypatch):
    live_run, _ = consumer(1e-3)
    monkeypatch.setattr(speed, 'live_run', live_run)
    found = speed.live_host(configure({}), clip, guess_hz=1.0, seconds=1.0)
    assert found['peak_hz'] is None
    assert found['peak'] is None


def test_a_peak_that_does_not_hold_for_long_is_lowered(clip, monkeypatch):
    def live_run(configuration, clip, rate_hz, seconds, *, only=()):
        capacity_hz = 20 if seconds > 1 else 22
        sent_s = [i / rate_hz for i in range(100)]
        come = 100 if rate_hz <= capacity_hz else 50
        return speed.Run(rate_hz, sent_s, {i: sent_s[i] + 0.01 for i in range(come)}, 1, 1)

    monkeypatch.setattr(speed, 'live_run', live_run)
    found = speed.live_host(configure({}), clip, guess_hz=22.0, seconds=2.0)
    assert found['peak']['sustained']
    assert 20 / 1.05**2 <= found['peak']['rate_hz'] <= 20
    assert any(not t['sustained'] and t['rate_hz'] <= 22 for t in found['tried'])


def test_a_live_run_accounts_for_every_frame(clip):
    configuration = configure({'stages': 'project_points'})
    done = speed.live_run(configuration, clip, rate_hz=200.0, seconds=0.1)
    assert len(done.sent_s) == 20
    assert 0 < len(done.received_s) <= 20
    assert all(at_s > done.sent_s[i] for i, at_s in done.received_s.items())
    assert list(done.received_s) == sorted(done.received_s)
    assert done.wall_s >= 19 / 200
    assert done.cpu_s > 0


def test_a_live_run_that_fails_says_why(clip):
    broken = speed.Clip('broken', [{**clip.values[0], **_smaller(clip)}], clip.transforms)
    with pytest.raises(ValueError, match=r'failed on \d+ of 20 frames: .* 8x6'):
        speed.live_run(configure({'stages': 'project_points'}), broken, 500.0, 0.01)


def _smaller(clip):
    header = clip.values[0]['camera'].header
    return {'camera': PinholeCamera(header, 8, 6, 20.0, 20.0, 4.0, 3.0)}


def test_an_interrupted_live_run_leaves_no_thread(clip, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(speed, '_drain', interrupt)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        speed.live_run(configure({'stages': 'project_points'}), clip, 500.0, 0.01)
    assert threading.active_count() == before


# -------------------------------------------------------------------------------- the machine


def test_the_machine_describes_itself():
    found = speed.machine()
    assert found['cpu']
    assert found['cores'] == os.cpu_count()
    assert 1 <= found['cores_allowed'] <= found['cores']
    assert found['numpy'] == np.__version__
    json.dumps(found, allow_nan=False)


def test_memory_is_in_megabytes():
    if (now_mb := speed.resident_mb()) is None:
        pytest.skip('this system does not tell')
    # Of its own: an array may lie in what the tests before have freed.
    block = mmap.mmap(-1, 64 << 20)
    np.frombuffer(block, np.uint8)[:] = 1
    assert speed.resident_mb() - now_mb == pytest.approx(len(block) / 1e6, abs=15)
    assert speed.peak_resident_mb() >= now_mb


def test_revision_names_a_commit_or_none():
    found = speed.revision()
    assert set(found) == {'version', 'commit', 'modified'}
    assert found['commit'] is None or len(found['commit']) == 40


def test_no_git_is_no_error(monkeypatch):
    monkeypatch.setenv('PATH', '')
    assert speed.revision()['commit'] is None
