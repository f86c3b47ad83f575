from __future__ import annotations

import random
import weakref

from hypothesis import given
from hypothesis import strategies as st
import pytest

from depth_refiner_ros.data import ColorImage, DepthImage, PinholeCamera
from depth_refiner_ros.stage import Topic
from depth_refiner_ros.synchronizer import Synchronizer

MS = 1_000_000

DEPTH = Topic(DepthImage, 'depth/image_rect')
CAMERA = Topic(PinholeCamera, 'depth/camera_info')
LATCHED_CAMERA = Topic(PinholeCamera, 'depth/camera_info', latched=True)
COLOR = Topic(ColorImage, 'color/image_rect', optional=True)
NEEDED_COLOR = Topic(ColorImage, 'color/image_rect')


class Streams:
    """Feeds a synchronizer in milliseconds; a message is the text `<port>@<stamp>`."""

    def __init__(self, inputs, **settings):
        self.synchronizer = Synchronizer(inputs, **settings)
        self.now_ms = 0

    def feed(self, port, stamp_ms, now_ms=None, item=None):
        """Feed at `now_ms`, by default the time of the stamp or of the last feed."""
        self.now_ms = max(self.now_ms, stamp_ms) if now_ms is None else now_ms
        item = item or f'{port}@{stamp_ms}'
        return self.synchronizer.feed(port, round(stamp_ms * MS), item, round(self.now_ms * MS))

    def poll(self, now_ms):
        return self.synchronizer.poll(round(now_ms * MS))

    def counters(self):
        s = self.synchronizer
        return {
            name: count
            for name in ('unmatched', 'late', 'duplicated', 'jumps')
            if (count := getattr(s, name))
        }


def frame(**values):
    """The set expected: port=stamp in milliseconds, or None."""
    return {p: None if ms is None else f'{p}@{ms}' for p, ms in values.items()}


# ---------------------------------------------------------------------------------- the anchor


def test_the_first_required_input_is_the_anchor():
    inputs = {'color': COLOR, 'camera': LATCHED_CAMERA, 'depth': DEPTH, 'other': DEPTH}
    assert Synchronizer(inputs).anchor == 'depth'


@pytest.mark.parametrize('inputs', [{}, {'color': COLOR}, {'camera': LATCHED_CAMERA}])
def test_something_must_be_required(inputs):
    message = r'^a stage needs an input that is neither optional nor latched$'
    with pytest.raises(ValueError, match=message):
        Synchronizer(inputs)


def test_an_input_alone_passes_through():
    streams = Streams({'depth': DEPTH})
    for stamp_ms in (0, 33, 66):
        assert streams.feed('depth', stamp_ms) == [frame(depth=stamp_ms)]
    assert streams.counters() == {}


# -------------------------------------------------------------------- required: rules 1, 2 and 5


@pytest.mark.parametrize('order', [('depth', 'camera'), ('camera', 'depth')])
def test_the_own_stamp_is_taken_at_once_whichever_comes_first(order):
    streams = Streams({'depth': DEPTH, 'camera': CAMERA})
    for stamp_ms in (0, 33, 66):
        assert streams.feed(order[0], stamp_ms) == []
        assert streams.feed(order[1], stamp_ms) == [frame(depth=stamp_ms, camera=stamp_ms)]


def test_a_lost_message_costs_its_frame_and_no_other():
    streams = Streams({'depth': DEPTH, 'camera': CAMERA})
    assert streams.feed('depth', 0) == []
    assert streams.feed('depth', 33) == []
    assert streams.feed('camera', 33) == [frame(depth=33, camera=33)]
    assert streams.counters() == {'unmatched': 1}
    assert streams.feed('camera', 66) == []  # a lost frame of the anchor
    assert streams.feed('depth', 100) == []
    assert streams.feed('camera', 100) == [frame(depth=100, camera=100)]
    assert streams.counters() == {'unmatched': 1}


def test_a_required_input_is_waited_for_however_long_it_takes():
    streams = Streams({'depth': DEPTH, 'camera': CAMERA}, deadline_s=0.05)
    assert streams.feed('depth', 0) == []
    assert streams.poll(60_000) == []
    assert streams.feed('camera', 0, now_ms=60_000) == [frame(depth=0, camera=0)]


def test_the_own_stamp_goes_before_the_nearest():
    streams = Streams({'depth': DEPTH, 'color': NEEDED_COLOR})
    assert streams.feed('color', 96) == []
    # With one message no interval is known, so a nearer one may still come.
    assert streams.feed('depth', 100) == []
    assert streams.feed('color', 100) == [frame(depth=100, color=100)]


def test_the_nearest_within_slop_is_taken_when_a_later_message_is_there():
    streams = Streams({'depth': DEPTH, 'color': NEEDED_COLOR}, slop_s=0.01)
    streams.feed('color', 92)
    assert streams.feed('depth', 100) == []
    assert streams.feed('color', 105) == [frame(depth=100, color=105)]
    streams.feed('color', 193)
    assert streams.feed('depth', 200) == []
    assert streams.feed('color', 209) == [frame(depth=200, color=193)]


@pytest.mark.parametrize(('apart_ms', 'pairs'), [(9.999999, True), (10, True), (10.000001, False)])
@pytest.mark.parametrize('side', [-1, 1])
def test_slop_is_inclusive(apart_ms, pairs, side):
    streams = Streams({'depth': DEPTH, 'color': NEEDED_COLOR}, slop_s=0.01)
    streams.feed('color', 100 + side * apart_ms, item='color')
    sets = streams.feed('depth', 100) + streams.feed('color', 200)
    assert sets == ([{'depth': 'depth@100', 'color': 'color'}] if pairs else [])
    assert streams.counters() == ({} if pairs else {'unmatched': 1})


def test_a_required_input_slower_than_the_anchor_thins_it_out():
    streams = Streams({'depth': DEPTH, 'color': NEEDED_COLOR})
    sets = []
    for i in range(31):  # 30 Hz and 6 Hz
        sets += streams.feed('depth', 33 * i)
        if i % 5 == 0:
            sets += streams.feed('color', 33 * i + 4)
    assert sets == [frame(depth=33 * i, color=33 * i + 4) for i in range(0, 31, 5)]
    assert streams.counters() == {'unmatched': 24}


def test_one_message_may_serve_two_frames():
    # depth at 90 Hz, colour at 30: whatever lies within slop of it
    streams = Streams({'depth': DEPTH, 'color': NEEDED_COLOR}, slop_s=0.012)
    sets = []
    for i in range(10):
        if i % 3 == 0:
            sets += streams.feed('color', 11 * i)
        sets += streams.feed('depth', 11 * i)
    assert [(s['depth'], s['color']) for s in sets[:4]] == [
        ('depth@0', 'color@0'),
        ('depth@11', 'color@0'),
        ('depth@22', 'color@33'),
        ('depth@33', 'color@33'),
    ]


def test_a_message_serves_every_frame_within_slop_of_it():
    streams = Streams({'depth': DEPTH, 'color': NEEDED_COLOR}, slop_s=0.01)
    streams.feed('color', 0)
    for stamp_ms in (4, 8):
        streams.feed('depth', stamp_ms)
    assert streams.feed('color', 100) == [frame(depth=4, color=0), frame(depth=8, color=0)]


def test_of_two_equally_near_messages_the_earlier_is_taken():
    streams = Streams({'depth': DEPTH, 'color': NEEDED_COLOR})
    streams.feed('color', 95)
    streams.feed('color', 105)
    assert streams.feed('depth', 100) == [frame(depth=100, color=95)]


def test_all_required_inputs_must_match():
    streams = Streams({'depth': DEPTH, 'camera': CAMERA, 'color': NEEDED_COLOR})
    streams.feed('depth', 0)
    assert streams.feed('camera', 0) == []
    assert streams.feed('color', 0) == [frame(depth=0, camera=0, color=0)]
    streams.feed('depth', 33)
    streams.feed('color', 33)
    assert streams.feed('camera', 66) == []  # camera@33 is lost, whatever colour did
    assert streams.counters() == {'unmatched': 1}


def test_a_frame_that_is_lost_anyway_does_not_wait_for_an_optional_input():
    streams = Streams({'depth': DEPTH, 'camera': CAMERA, 'color': COLOR})
    streams.feed('color', 0)
    streams.feed('depth', 0)
    streams.feed('depth', 33)  # its camera is lost; colour may still come
    assert streams.feed('camera', 66) == []
    assert streams.counters() == {'unmatched': 2}


# ---------------------------------------------------------------------- optional: rules 2 and 4


def test_an_optional_input_that_never_spoke_is_not_waited_for():
    streams = Streams({'depth': DEPTH, 'color': COLOR})
    assert streams.feed('depth', 0) == [frame(depth=0, color=None)]


def colored(offset_ms=0.0, period_ms=33.0, until=330, **settings):
    """Streams whose colour has spoken regularly up to `until`, so that its rhythm is known."""
    streams = Streams({'depth': DEPTH, 'color': COLOR}, **settings)
    stamp_ms = offset_ms
    while stamp_ms < until:
        streams.feed('color', stamp_ms, item='color')
        stamp_ms += period_ms
    return streams


def test_an_optional_input_is_waited_for_until_it_comes():
    streams = colored()
    assert streams.feed('depth', 330, now_ms=335) == []
    assert streams.poll(384) == []
    assert streams.feed('color', 330, now_ms=384.9) == [frame(depth=330, color=330)]


def test_an_optional_input_is_waited_for_until_the_deadline():
    streams = colored()
    assert streams.feed('depth', 330, now_ms=340) == []
    assert streams.poll(389.999) == []
    assert streams.poll(390) == [frame(depth=330, color=None)]
    assert streams.feed('color', 330, now_ms=391) == []  # too late, and harmless
    assert streams.feed('depth', 363, now_ms=391) == []
    assert streams.feed('color', 363, now_ms=391) == [frame(depth=363, color=363)]


def test_any_message_makes_the_deadline_pass():
    streams = colored()
    assert streams.feed('depth', 330, now_ms=340) == []
    assert streams.feed('depth', 363, now_ms=395) == [frame(depth=330, color=None)]


def test_a_deadline_takes_the_nearest_there_is():
    streams = colored(offset_ms=-4)  # 326, then 359: nothing nearer than 4 ms
    assert streams.feed('depth', 330) == [{'depth': 'depth@330', 'color': 'color'}]
    streams = colored(offset_ms=-7, period_ms=11)  # 323; 334 will be nearer
    assert streams.feed('depth', 330, now_ms=332) == []
    assert streams.poll(382) == [{'depth': 'depth@330', 'color': 'color'}]


def test_an_optional_input_that_skipped_the_frame_is_not_waited_for():
    streams = colored()
    streams.feed('color', 363)
    assert streams.feed('depth', 330) == [frame(depth=330, color=None)]


def test_an_optional_input_silent_for_a_second_is_not_waited_for():
    streams = colored(until=34)  # 0 and 33
    assert streams.feed('depth', 66, now_ms=70) == []
    streams.poll(120)
    assert streams.feed('depth', 1034, now_ms=1034) == [frame(depth=1034, color=None)]


def test_a_slow_optional_input_is_waited_for_only_where_it_is_due():
    # 30 Hz and 6 Hz: every fifth frame has a colour, 4 ms later
    streams = Streams({'depth': DEPTH, 'color': COLOR})
    waited = []
    for i in range(61):
        sets = streams.feed('depth', 33 * i)
        if not sets:
            waited.append(i)
        if i % 5 == 0:
            sets += streams.feed('color', 33 * i + 4)
            if i > 5:  # until the second message its rhythm is unknown
                assert sets == [frame(depth=33 * i, color=33 * i + 4)]
        elif i > 6:
            assert sets == [frame(depth=33 * i, color=None)]
    assert [i for i in waited if i > 6] == list(range(10, 61, 5))


@pytest.mark.parametrize('phase_ms', range(-11, 12))
@pytest.mark.parametrize('color_hz', [30, 90])
def test_two_free_running_cameras(color_hz, phase_ms):
    """The nearest colour, and no frame later than the colour it takes."""
    period_ms = 1000 / color_hz
    streams = Streams({'depth': DEPTH, 'color': COLOR}, slop_s=0.012)
    events = [(i * 1000 / 30, 'depth') for i in range(40)]
    events += [(i * period_ms + phase_ms, 'color') for i in range(40 * color_hz // 30)]
    colors_ms = sorted(ms for ms, port in events if port == 'color')
    sets = []
    for stamp_ms, port in sorted(events):
        for found in streams.feed(port, stamp_ms, item=(port, stamp_ms)):
            sets.append(found)
            color_ms = found['color'][1] if found['color'] else 0
            if len(sets) > 3:
                assert streams.now_ms == max(found['depth'][1], color_ms)
    assert streams.counters() == {}
    for found in sets[2:-1]:
        depth_ms = found['depth'][1]
        assert found['color'][1] == min(colors_ms, key=lambda ms: abs(ms - depth_ms))


def test_a_colour_of_half_the_rate_comes_with_every_other_frame():
    streams = Streams({'depth': DEPTH, 'color': COLOR}, slop_s=0.01)
    sets = []
    for i in range(20):
        sets += streams.feed('depth', 33 * i)
        if i % 2 == 0:
            sets += streams.feed('color', 33 * i + 7)
    assert [s['color'] is not None for s in sets[2:]] == [True, False] * 9
    assert len(sets) == 20


# ------------------------------------------------------------------------------ latched: rule 3


def test_a_calibration_published_once_serves_every_frame():
    streams = Streams({'depth': DEPTH, 'camera': LATCHED_CAMERA})
    streams.feed('camera', 0)
    # Within a second it may still turn out to be a stream, so the deadline is waited for.
    assert streams.feed('depth', 500) == []
    assert streams.poll(550) == [frame(depth=500, camera=0)]
    for stamp_ms in (1100, 1133, 100_000, 3_600_000):
        assert streams.feed('depth', stamp_ms) == [frame(depth=stamp_ms, camera=0)]


def test_a_calibration_stamped_after_the_frames_serves_them():
    streams = Streams({'depth': DEPTH, 'camera': LATCHED_CAMERA})
    assert streams.feed('depth', 0) == []
    assert streams.feed('depth', 33) == []
    assert streams.feed('camera', 5000) == [
        frame(depth=0, camera=5000),
        frame(depth=33, camera=5000),
    ]


def test_frames_wait_for_the_first_calibration():
    streams = Streams({'depth': DEPTH, 'camera': LATCHED_CAMERA})
    assert streams.feed('depth', 0) == []
    assert streams.poll(10_000) == []
    assert streams.synchronizer.missing() == ['camera']
    assert streams.feed('camera', 0, now_ms=10_000) == [frame(depth=0, camera=0)]


@pytest.mark.parametrize('order', [('depth', 'camera'), ('camera', 'depth')])
def test_a_calibration_with_every_frame_is_that_frames(order):
    streams = Streams({'depth': DEPTH, 'camera': LATCHED_CAMERA})
    for stamp_ms in (0, 33, 66, 99):
        assert streams.feed(order[0], stamp_ms) == []
        assert streams.feed(order[1], stamp_ms) == [frame(depth=stamp_ms, camera=stamp_ms)]


def test_a_lost_calibration_is_replaced_by_the_last():
    streams = Streams({'depth': DEPTH, 'camera': LATCHED_CAMERA})
    for stamp_ms in (0, 33):
        streams.feed('camera', stamp_ms)
        streams.feed('depth', stamp_ms)
    assert streams.feed('depth', 66) == []
    assert streams.feed('camera', 99) == [frame(depth=66, camera=99)]
    assert streams.counters() == {}


def test_a_calibration_survives_a_loop_of_the_bag():
    streams = Streams({'depth': DEPTH, 'camera': LATCHED_CAMERA})
    streams.feed('camera', 60_000)
    streams.feed('depth', 90_000)
    assert streams.feed('depth', 60_100, now_ms=91_000) == []
    assert streams.poll(91_050) == [frame(depth=60_100, camera=60_000)]
    # In the new round it has not spoken yet, so it is not waited for.
    assert streams.feed('depth', 10_000, now_ms=92_000) == [frame(depth=10_000, camera=60_000)]
    streams.feed('camera', 10_033, now_ms=92_001)
    assert streams.feed('depth', 10_033, now_ms=92_002) == [frame(depth=10_033, camera=10_033)]


def test_an_optional_calibration_that_never_comes_is_left_out():
    optional = Topic(PinholeCamera, 'color/camera_info', optional=True, latched=True)
    streams = Streams({'depth': DEPTH, 'camera': optional})
    assert streams.feed('depth', 0) == [frame(depth=0, camera=None)]
    streams.feed('camera', 10)
    assert streams.feed('depth', 2000) == [frame(depth=2000, camera=10)]


# --------------------------------------------------------- late, duplicated, out of order, jumps


def test_a_second_message_with_the_same_stamp_is_ignored():
    streams = Streams({'depth': DEPTH, 'camera': CAMERA})
    streams.feed('camera', 0)
    streams.feed('camera', 0, item='another')
    assert streams.feed('depth', 0) == [frame(depth=0, camera=0)]
    assert streams.feed('depth', 0) == []
    streams.feed('depth', 33)
    streams.feed('depth', 33, item='another')
    assert streams.feed('camera', 33) == [frame(depth=33, camera=33)]
    assert streams.counters() == {'duplicated': 3}


def test_frames_out_of_order_come_out_in_order():
    streams = Streams({'depth': DEPTH, 'camera': CAMERA})
    streams.feed('depth', 33)
    streams.feed('depth', 0)
    assert streams.feed('camera', 0) == [frame(depth=0, camera=0)]
    assert streams.feed('camera', 33) == [frame(depth=33, camera=33)]
    assert streams.counters() == {}


def test_an_input_out_of_order_still_pairs():
    streams = Streams({'depth': DEPTH, 'camera': CAMERA, 'color': COLOR})
    streams.feed('color', 33)
    streams.feed('color', 0)
    streams.feed('camera', 0)
    assert streams.feed('depth', 0) == [frame(depth=0, camera=0, color=0)]


def test_of_an_input_out_of_order_the_oldest_is_forgotten_first():
    streams = Streams({'depth': DEPTH, 'camera': CAMERA}, queue_size=2)
    for stamp_ms in (33, 0, 66):
        streams.feed('camera', stamp_ms)
    assert streams.feed('depth', 33) == [frame(depth=33, camera=33)]


def test_a_frame_older_than_the_last_set_is_late():
    streams = Streams({'depth': DEPTH})
    streams.feed('depth', 66)
    assert streams.feed('depth', 33) == []
    assert streams.counters() == {'late': 1}
    assert streams.feed('depth', 99) == [frame(depth=99)]


def bag(start_ms, count=10):
    """Depth and camera_info of equal stamps, camera_info first on every other frame."""
    for i in range(count):
        ports = ('depth', 'camera') if i % 2 else ('camera', 'depth')
        yield from ((port, start_ms + 33 * i) for port in ports)


@pytest.mark.parametrize('camera', [CAMERA, LATCHED_CAMERA])
def test_a_bag_that_loops_starts_anew(camera):
    streams = Streams({'depth': DEPTH, 'camera': camera, 'color': COLOR})
    for loop in range(3):
        sets = []
        for port, stamp_ms in bag(1000, 60):
            sets += streams.feed(port, stamp_ms, now_ms=loop * 5000 + stamp_ms)
        stamps_ms = [1000 + 33 * i for i in range(60)]
        assert sets == [frame(depth=ms, camera=ms, color=None) for ms in stamps_ms]
    assert streams.counters() == {'jumps': 2}


def test_frames_that_waited_when_the_clock_jumped_are_counted():
    streams = Streams({'depth': DEPTH, 'camera': CAMERA})
    streams.feed('depth', 5000)
    streams.feed('depth', 5033)
    streams.feed('camera', 0, now_ms=6000)
    assert streams.feed('depth', 0, now_ms=6001) == [frame(depth=0, camera=0)]
    assert streams.counters() == {'unmatched': 2, 'jumps': 1}


def test_what_other_inputs_said_before_a_jump_is_not_paired_after_it():
    streams = Streams({'depth': DEPTH, 'color': COLOR})
    streams.feed('depth', 2000)
    for stamp_ms in (0, 3000):  # the latter ahead of depth
        streams.feed('color', stamp_ms, now_ms=3000)
    assert streams.feed('depth', 0, now_ms=3001) == [frame(depth=0, color=None)]


def test_a_clock_that_jumps_ahead_just_goes_on():
    streams = Streams({'depth': DEPTH, 'camera': CAMERA, 'color': COLOR})
    for start_ms in (0, 86_400_000):
        sets = []
        for port, stamp_ms in bag(start_ms):
            sets += streams.feed('color', stamp_ms) if port == 'depth' else []
            sets += streams.feed(port, stamp_ms)
        assert [s['depth'] for s in sets] == [f'depth@{start_ms + 33 * i}' for i in range(10)]
    assert streams.counters() == {}


@pytest.mark.parametrize('port', ['depth', 'camera'])
@pytest.mark.parametrize('bogus_ms', [0, 99_000])
def test_one_bogus_stamp_costs_at_most_a_few_frames(port, bogus_ms):
    streams = Streams({'depth': DEPTH, 'camera': CAMERA})
    events = [*bag(30_000, 20), (port, bogus_ms), *bag(30_000 + 33 * 20, 20)]
    sets = []
    for name, stamp_ms in events:
        sets += streams.feed(name, stamp_ms)
    whole = {f'depth@{30_000 + 33 * i}' for i in range(40)}
    assert len(whole - {s['depth'] for s in sets}) <= 1


def test_a_paused_bag_leaves_nothing_behind():
    # The wall clock runs on, the stamps do not.
    streams = colored()
    streams.feed('depth', 330, now_ms=331)
    assert streams.poll(600_000) == [frame(depth=330, color=None)]
    assert streams.feed('color', 330, now_ms=600_001) == []
    assert streams.feed('depth', 363, now_ms=600_002) == []
    assert streams.feed('color', 363, now_ms=600_003) == [frame(depth=363, color=363)]


# ------------------------------------------------------------------------------ bounds, the end


class Message:
    """Something that can be counted while it is alive."""


@pytest.mark.parametrize('others_speak', [True, False])
def test_memory_is_bounded(others_speak):
    inputs = {'depth': DEPTH, 'camera': CAMERA, 'color': COLOR}
    synchronizer = Synchronizer(inputs, queue_size=5)
    alive = weakref.WeakSet()
    count = 0
    for i in range(200):
        for port in ('color', 'depth', 'camera'):
            if port == 'camera' and not others_speak:
                continue
            message = Message()
            alive.add(message)
            stamp_ns = (33 * i + (11 if port == 'color' else 0)) * MS
            count += len(synchronizer.feed(port, stamp_ns, message, stamp_ns))
        del message
        assert len(alive) <= 3 * 5
    assert count == (200 if others_speak else 0)
    assert synchronizer.unmatched == (0 if others_speak else 195)


def test_messages_that_can_pair_no_more_are_let_go():
    # 30 colour images of 1280x720 would be 83 MB a node.
    synchronizer = Synchronizer({'depth': DEPTH, 'color': NEEDED_COLOR}, queue_size=30)
    alive = weakref.WeakSet()
    for i in range(100):
        for port in ('color', 'depth'):
            message = Message()
            alive.add(message)
            sets = synchronizer.feed(port, 33 * i * MS, message, 33 * i * MS)
        assert len(sets) == 1
        del message, sets
    assert len(alive) <= 2


def test_the_oldest_frame_goes_first_when_the_queue_is_full():
    streams = Streams({'depth': DEPTH, 'camera': CAMERA}, queue_size=3)
    for i in range(5):
        streams.feed('depth', 33 * i)
    assert streams.counters() == {'unmatched': 2}
    assert streams.feed('camera', 66) == [frame(depth=66, camera=66)]


def test_the_end_returns_what_is_complete_and_counts_the_rest():
    streams = Streams({'depth': DEPTH, 'camera': CAMERA, 'color': COLOR})
    for stamp_ms in (0, 33):
        streams.feed('color', stamp_ms)
        streams.feed('camera', stamp_ms)
        streams.feed('depth', stamp_ms)
    streams.feed('camera', 66)
    assert streams.feed('depth', 66) == []  # colour may still come
    assert streams.feed('depth', 99) == []
    assert streams.synchronizer.finish() == [frame(depth=66, camera=66, color=None)]
    assert streams.counters() == {'unmatched': 1}
    assert streams.synchronizer.finish() == []


def test_missing_names_the_required_inputs_that_never_spoke():
    inputs = {'color': COLOR, 'depth': DEPTH, 'camera': LATCHED_CAMERA, 'other': CAMERA}
    streams = Streams(inputs)
    assert streams.synchronizer.missing() == ['depth', 'camera', 'other']
    streams.feed('camera', 0)
    assert streams.synchronizer.missing() == ['depth', 'other']
    streams.feed('depth', 0)
    streams.feed('other', 0)
    assert streams.synchronizer.missing() == []


# ----------------------------------------------------------------------------- random streams


@st.composite
def recordings(draw):
    """Messages (port, stamp, arrival) in ms: jitter, losses, delays that reorder, duplicates."""
    rng = random.Random(draw(st.integers(0, 1 << 30)))
    loss = draw(st.sampled_from([0.0, 0.1, 0.5]))
    delay_ms = draw(st.sampled_from([0, 5, 40, 120]))
    jitter_ms = draw(st.sampled_from([0, 3, 15]))
    color_hz = draw(st.sampled_from([6, 15, 30, 90]))
    phase_ms = draw(st.integers(-17, 17))
    messages = []

    def send(port, stamp_ms):
        if rng.random() >= loss:
            messages.append((port, stamp_ms, stamp_ms + rng.random() * delay_ms))
            if rng.random() < loss / 4:
                messages.append((port, stamp_ms, stamp_ms + rng.random() * delay_ms))

    for i in range(60):
        stamp_ms = 1000 + round(i * 33.333 + rng.random() * jitter_ms, 3)
        send('depth', stamp_ms)
        send('camera', stamp_ms)
    for i in range(2 * color_hz):
        send('color', 1000 + round(i * 1000 / color_hz + phase_ms + rng.random() * jitter_ms, 3))
    return sorted(messages, key=lambda message: message[2])


@given(
    messages=recordings(),
    color=st.sampled_from([COLOR, NEEDED_COLOR]),
    queue_size=st.sampled_from([2, 30]),
)
def test_whatever_comes_sets_are_ordered_unique_within_slop_and_nearest(
    messages, color, queue_size
):
    inputs = {'depth': DEPTH, 'camera': CAMERA, 'color': color}
    streams = Streams(inputs, slop_s=0.02, queue_size=queue_size)
    fed = {port: set() for port in inputs}
    anchors_fed, sets, extra = 0, [], 0

    def check(found):
        depth_ms, camera_ms = found['depth'], found['camera']
        assert not sets or depth_ms > sets[-1]['depth']
        assert abs(camera_ms - depth_ms) <= 20
        if color is NEEDED_COLOR or found['color'] is not None:
            assert abs(found['color'] - depth_ms) <= 20
            if queue_size == 30:
                nearest = min(abs(ms - depth_ms) for ms in fed['color'])
                assert abs(found['color'] - depth_ms) == nearest
        if depth_ms in fed['camera'] and queue_size == 30:
            assert camera_ms == depth_ms
        sets.append(found)

    for port, stamp_ms, now_ms in messages:
        anchors_fed += port == 'depth'
        extra += port != 'depth' and stamp_ms in fed[port]
        fed[port].add(stamp_ms)
        for found in streams.feed(port, stamp_ms, now_ms=now_ms, item=stamp_ms):
            check(found)
    for found in streams.synchronizer.finish():
        check(found)

    counters = streams.counters()
    assert 'jumps' not in counters
    dropped = sum(counters.values())
    # Every frame came out or was counted; duplicates of other inputs may be counted too.
    assert anchors_fed - len(sets) <= dropped <= anchors_fed - len(sets) + extra


@given(messages=recordings())
def test_no_frame_waits_for_an_optional_input_beyond_the_deadline(messages):
    streams = Streams({'depth': DEPTH, 'color': COLOR}, slop_s=0.02, deadline_s=0.05)
    # Frames that overtake each other may have to wait for each other's deadlines too.
    in_order = iter(sorted(ms for port, ms, _ in messages if port == 'depth'))
    waiting = {}
    for port, sent_ms, now_ms in messages:
        if port == 'camera':
            continue
        stamp_ms = next(in_order) if port == 'depth' else sent_ms
        if port == 'depth':
            waiting.setdefault(stamp_ms, now_ms)
        for found in streams.feed(port, stamp_ms, now_ms=now_ms, item=stamp_ms):
            # what is older than a set is late and will never come
            waiting = {ms: since for ms, since in waiting.items() if ms > found['depth']}
        last_ms = streams.synchronizer._last_set_ns or 0
        waiting = {ms: since for ms, since in waiting.items() if round(ms * MS) > last_ms}
        assert all(now_ms - since <= 50 for since in waiting.values())


@given(seed=st.integers(0, 1 << 30), latched=st.booleans())
def test_what_arrives_complete_and_in_order_leaves_complete(seed, latched):
    """No starvation: equal stamps, intervals above slop, any interleaving, never a loss."""
    rng = random.Random(seed)
    camera = LATCHED_CAMERA if latched else CAMERA
    streams = Streams({'depth': DEPTH, 'camera': camera, 'color': COLOR})
    stamp_ms, events = 1000.0, []
    for _ in range(50):
        stamp_ms += rng.choice([22.2, 33.3, 167.0, 900.0])
        arrivals = stamp_ms + rng.random() * 30, stamp_ms + rng.random() * 30
        events += zip(('depth', 'camera'), (stamp_ms, stamp_ms), arrivals, strict=True)
    # in order on each topic: no message arrives before its predecessor
    latest = {'depth': 0.0, 'camera': 0.0}
    ordered = []
    for port, ms, now_ms in events:
        latest[port] = max(latest[port] + 0.001, now_ms)
        ordered.append((latest[port], port, ms))
    sets = []
    for now_ms, port, ms in sorted(ordered):
        sets += streams.feed(port, ms, now_ms=now_ms, item=ms)
    sets += streams.synchronizer.finish()
    assert [s['depth'] for s in sets] == [ms for port, ms, _ in events if port == 'depth']
    assert streams.counters() == {}
    if not latched:
        assert all(s['camera'] == s['depth'] for s in sets)


# -------------------------------------------------------------------------- what a live host asks


def test_it_is_told_when_waiting_ends():
    streams = Streams({'depth': DEPTH, 'color': COLOR}, deadline_s=0.05)
    assert streams.synchronizer.due_ns() is None
    streams.feed('color', 0)
    streams.feed('depth', 0)
    assert streams.feed('depth', 33) == []  # its colour may still come
    assert streams.synchronizer.due_ns() == 83 * MS
    assert streams.poll(83) == [frame(depth=33, color=None)]
    assert streams.synchronizer.due_ns() is None


def test_a_calibration_that_is_forgotten_serves_no_more():
    streams = Streams({'depth': DEPTH, 'camera': LATCHED_CAMERA})
    streams.feed('camera', 0)
    assert streams.feed('depth', 2000) == [frame(depth=2000, camera=0)]
    streams.synchronizer.forget('camera')
    assert streams.feed('depth', 4000) == []
    assert streams.feed('camera', 4000) == [frame(depth=4000, camera=4000)]
