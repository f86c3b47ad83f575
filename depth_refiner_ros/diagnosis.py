"""Checks camera streams; returns what is wrong with them and what to do about it.

Knows no middleware: a recording's reader or a live subscription feeds messages into a `Stream` per
port, and `diagnose` turns the streams into findings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .counts import MILLIMETRE_M
from .data import ColorImage, DepthImage, Float32Array, PinholeCamera
from .discovery import image_topic, info_topic
from .geometry import TransformTree, same_intrinsics, size_around
from .messages import decode, is_compressed
from .synchronizer import SLOP_S

Severity = Literal['ok', 'note', 'warning', 'problem']


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked.

    Attributes:
        severity: 'ok'; 'note' for what is good to know; 'warning' for what makes the result worse;
            'problem' for what stops it or makes it wrong.
        check: Short name of the check, stable, for scripts.
        subject: The topic, or the part of the installation.
        what: One sentence that says what was found.
        action: One sentence that says what to do about it; empty where nothing is to be done.
    """

    severity: Severity
    check: str
    subject: str
    what: str
    action: str = ''


class Stream:
    """What was seen of one topic: the header of every message, and a few messages whole.

    Args:
        topic: Its name.
        message_count: Messages that are going to be added, if that is known.
        reliability: 'reliable', 'best_effort' or empty if unknown.
        durability: 'volatile', 'transient_local' or empty if unknown.

    Attributes:
        stamps_ns: Header stamp of every message, in order of arrival.
        log_ns: When each arrived.
        frame_ids: How many messages came with each frame_id.
        samples: At most `SAMPLES` messages, spread over the stream.
    """

    SAMPLES = 10

    def __init__(
        self,
        topic: str,
        *,
        message_count: int = 0,
        reliability: str = '',
        durability: str = '',
    ) -> None:
        self.topic = topic
        self.reliability = reliability
        self.durability = durability
        self.stamps_ns: list[int] = []
        self.log_ns: list[int] = []
        self.frame_ids: Counter[str] = Counter()
        self.samples: list[Any] = []
        self._stride = max(1, math.ceil(message_count / self.SAMPLES))

    def add(self, log_ns: int, msg: Any) -> None:
        """Take one message in."""
        if len(self.samples) < self.SAMPLES and len(self.stamps_ns) % self._stride == 0:
            self.samples.append(msg)
        stamp = msg.header.stamp
        self.stamps_ns.append(stamp.sec * 1_000_000_000 + stamp.nanosec)
        self.log_ns.append(log_ns)
        self.frame_ids[msg.header.frame_id] += 1

    @property
    def frame_id(self) -> str:
        """The frame_id that most messages have."""
        return self.frame_ids.most_common(1)[0][0] if self.frame_ids else ''

    @property
    def period_s(self) -> float:
        """Median time between two messages, by stamp, or by arrival where stamps are of no use."""
        for times_ns in (self.stamps_ns, self.log_ns):
            steps_ns = np.diff(np.array(times_ns, np.int64))
            if (steps_ns > 0).any():
                return float(np.median(steps_ns[steps_ns > 0])) / 1e9
        return math.nan


def diagnose(
    streams: Mapping[str, Stream],
    tree: TransformTree,
    *,
    slop_s: float = SLOP_S,
    deadline_s: float = 0.05,
    stages: Sequence[str] = (),
    depth_unit_m: float = 0.0,
    depth_encoding: str = 'same',
    unit_source: str = '',
) -> list[Finding]:
    """Check camera streams, each for itself and against the others.

    Args:
        streams: What was seen on the ports depth, camera, color and color_camera; a port without
            a topic is left out.
        tree: All transforms of tf.
        slop_s: Largest difference of stamps that the host pairs.
        deadline_s: Longest time that the host waits for colour.
        stages: Stages that are going to run.
        depth_unit_m: Metres of one count of depth, if that is known; else 0.
        depth_encoding: Encoding in which depth will go out; 'same' for that of the input.
        unit_source: Where `depth_unit_m` comes from, for the text.
    """
    findings: list[Finding] = []
    seen = {port: stream for port, stream in streams.items() if stream.stamps_ns}
    for port, stream in streams.items():
        if port not in seen:
            findings.append(_silent(port, stream))
            continue
        findings += check_stamps(stream, image=port in ('depth', 'color'))
        findings += check_qos(stream)
        if port == 'depth':
            findings += check_depth(stream, seen.get('camera'), depth_unit_m, unit_source)
            findings += check_precision(stream, depth_unit_m, depth_encoding)
        elif port == 'color':
            findings += check_color(stream)
        elif port == 'camera':
            findings += check_camera(stream, seen.get('depth'))
        elif port == 'color_camera':
            findings += check_camera(stream, seen.get('color'))
    depth, color = seen.get('depth'), seen.get('color')
    if depth and 'camera' in seen and any(seen['camera'].stamps_ns):
        findings += check_skew(depth, seen['camera'], slop_s, deadline_s, latched=True)
    if depth and color:
        findings += check_skew(depth, color, slop_s, deadline_s)
        cameras = seen.get('color_camera'), seen.get('camera')
        findings += check_registration(depth, color, *cameras, tree, stages)
    return findings


def _silent(port: str, stream: Stream) -> Finding:
    return Finding(
        'problem' if port in ('depth', 'camera') else 'warning',
        'messages',
        stream.topic,
        'the topic is there, but nothing was published on it',
        'check that the camera streams it (its driver may start streams on demand)',
    )


# -------------------------------------------------------------------------------- stamps

# Stamps farther than this from the clock that received them come from another clock.
_OTHER_CLOCK_S = 60.0
_LATE_S = 0.5
_JITTER = 0.25
_LOST_SHARE = 0.02


def check_stamps(stream: Stream, *, image: bool = True) -> Iterator[Finding]:
    """Check that stamps are set, rise steadily, and belong to the clock that received them.

    Args:
        stream: Any stream.
        image: Whether messages are expected at a steady rate.
    """
    stamps_ns, log_ns = (np.array(times, np.int64) for times in (stream.stamps_ns, stream.log_ns))
    count = len(stamps_ns)
    if not stamps_ns.any() and not image:
        yield Finding(
            'note',
            'stamps',
            stream.topic,
            'its header stamp is zero: it is taken to hold for every frame',
        )
        return
    if not stamps_ns.any():
        yield Finding(
            'warning',
            'stamps',
            stream.topic,
            'every header stamp is zero: a replay pairs by the time of recording instead; live '
            'nodes and tf cannot',
            'make the driver set header.stamp',
        )
        return
    steps_ns = np.diff(stamps_ns)
    repeated = count - len(np.unique(stamps_ns))
    if repeated:
        yield Finding(
            'warning',
            'duplicates',
            stream.topic,
            f'{repeated} of {count} messages repeat a stamp: live nodes leave them out, a replay '
            'those that were recorded together',
            'check for two publishers: ros2 topic info -v ' + stream.topic,
        )
    back_ns = -steps_ns[steps_ns < 0]
    if len(back_ns):
        restarts = back_ns.max() > 1_000_000_000
        yield Finding(
            'warning',
            'backwards',
            stream.topic,
            f'stamps go back {len(back_ns)} times, by up to {_duration(back_ns.max() / 1e9)}, and '
            + ('pairing starts anew there' if restarts else 'live nodes leave late frames out'),
            'check that one driver with one clock publishes it, and that the recording is of one '
            'run (a looped playback jumps back)',
        )
    if image and count >= 5:
        yield from _check_steadiness(stream, steps_ns[steps_ns > 0] / 1e9)
    offset_s = float(np.median(log_ns - stamps_ns)) / 1e9
    if abs(offset_s) > _OTHER_CLOCK_S:
        side = 'behind' if offset_s > 0 else 'ahead of'
        yield Finding(
            'warning',
            'clock',
            stream.topic,
            f"stamps are {_duration(abs(offset_s))} {side} the recording's clock",
            "pairing goes by stamps and is not affected; for tf use the computer's time in the "
            'driver (RealSense: global_time_enabled), or use_sim_time if it was simulated',
        )
    elif offset_s > _LATE_S or offset_s < -0.05:
        yield Finding(
            'note',
            'clock',
            stream.topic,
            f'messages arrive {_duration(abs(offset_s))} '
            + ('after their stamps' if offset_s > 0 else 'before the time they are stamped with'),
            'check the load of the machine and the synchronisation of its clock (chrony, NTP)',
        )


def _check_steadiness(stream: Stream, steps_s: npt.NDArray[np.float64]) -> Iterator[Finding]:
    period_s = stream.period_s
    gaps_s = steps_s[steps_s > 1.5 * period_s]
    regular_s = steps_s[steps_s <= 1.5 * period_s]
    lost = int(np.rint(gaps_s / period_s - 1).sum())
    share = lost / (lost + len(stream.stamps_ns))
    if lost:
        yield Finding(
            'warning' if share > _LOST_SHARE else 'note',
            'gaps',
            stream.topic,
            f'about {lost} frames are missing ({100 * share:.1f} %), the longest gap is '
            f'{_duration(float(gaps_s.max()))} at {1 / period_s:.1f} Hz',
            'record fewer topics, compressed ones (compressedDepth) or on a faster disk: '
            'ros2 bag record -s mcap --max-cache-size 1000000000',
        )
    jitter_s = float(np.percentile(np.abs(regular_s - period_s), 95)) if len(regular_s) else 0.0
    if jitter_s > _JITTER * period_s:
        yield Finding(
            'note',
            'jitter',
            stream.topic,
            f'stamps come irregularly, +-{_duration(jitter_s)} around {_duration(period_s)}',
            'use the time of acquisition as stamp in the driver, not that of arrival',
        )
    if not lost and jitter_s <= _JITTER * period_s:
        rate = f'{len(stream.stamps_ns)} frames at {1 / period_s:.1f} Hz without a gap'
        yield Finding('ok', 'rate', stream.topic, rate)


def check_qos(stream: Stream) -> Iterator[Finding]:
    """Check the quality of service a topic was published with."""
    if stream.reliability == 'best_effort':
        yield Finding(
            'note',
            'qos',
            stream.topic,
            'it is published best effort: a reliable subscriber gets nothing',
            'subscribe best effort (rviz2: Reliability Policy), as the nodes of this package do',
        )


def check_skew(
    depth: Stream,
    other: Stream,
    slop_s: float,
    deadline_s: float = math.inf,
    *,
    latched: bool = False,
) -> Iterator[Finding]:
    """Check that a message of another stream belongs to every depth frame.

    Args:
        depth: The depth images.
        other: What is paired with them.
        slop_s: Largest difference of stamps that is paired.
        deadline_s: Longest time from a frame to the arrival of its partner.
        latched: Whether any older message serves too, as with a calibration.
    """
    stamps_ns = np.array(depth.stamps_ns, np.int64)
    order = np.argsort(other.stamps_ns, kind='stable')
    others_ns = np.array(other.stamps_ns, np.int64)[order]
    after = np.searchsorted(others_ns, stamps_ns).clip(1, max(1, len(others_ns) - 1))
    before = after - 1
    after = after.clip(max=len(others_ns) - 1)
    nearer = np.abs(others_ns[after] - stamps_ns) < np.abs(others_ns[before] - stamps_ns)
    nearest = np.where(nearer, after, before)
    skew_s = np.abs(others_ns[nearest] - stamps_ns) / 1e9
    median_s, largest_s = float(np.median(skew_s)), float(skew_s.max())
    skew = f'median {_duration(median_s)}, largest {_duration(largest_s)}'
    alone = int((skew_s > slop_s).sum())
    if alone == 0:
        yield Finding('ok', 'skew', other.topic, f'every depth frame has a partner ({skew})')
    elif latched:
        yield Finding(
            'note',
            'skew',
            other.topic,
            f'it is stamped differently from the depth ({skew}); the last one serves',
            'nothing, if the calibration does not change during the recording',
        )
    else:
        period_s = other.period_s if math.isfinite(other.period_s) else 0.0
        # A hair more than the stamps differ, in whole milliseconds.
        enough_s = (math.floor(float(np.percentile(skew_s, 95)) * 1e3) + 1) / 1e3
        text = (
            f'{alone} of {len(stamps_ns)} depth frames have no partner within {slop_s:g} s; {skew}'
        )
        if enough_s <= min(1.0, max(0.75 * period_s, 2 * slop_s)):
            action = f'add --slop-s {enough_s:g} (slop_s: {enough_s:g} in the parameter file)'
        elif median_s <= slop_s:
            action = 'nothing, if those frames may go without it: the stream has gaps there'
        else:
            action = (
                'no slop_s can pair them: check that both streams use one clock and were recorded '
                'at the same time'
            )
        share = alone / len(stamps_ns)
        yield Finding('warning' if share > 0.05 else 'note', 'skew', other.topic, text, action)
    if latched:
        return
    paired = skew_s <= slop_s
    if paired.any():
        others_log_ns = np.array(other.log_ns, np.int64)[order]
        late_s = (others_log_ns[nearest] - np.array(depth.log_ns, np.int64))[paired] / 1e9
        enough_s = (math.floor(float(np.percentile(late_s, 95)) * 1e3) + 1) / 1e3
        if (late_s > deadline_s).mean() > 0.05:
            yield Finding(
                'warning',
                'deadline',
                other.topic,
                f'it arrives up to {_duration(float(late_s.max()))} after its depth frame; '
                f'{int((late_s > deadline_s).sum())} frames will go without it',
                f'add --deadline-s {enough_s:g}, at the price of that latency on a robot',
            )
    ratio = depth.period_s / other.period_s
    if math.isfinite(ratio) and not 0.9 < ratio < 1.1:
        yield Finding(
            'note',
            'rates',
            other.topic,
            f'it comes at {1 / other.period_s:.1f} Hz, the depth at {1 / depth.period_s:.1f} Hz',
            'set both to one rate in the driver if every frame needs its partner',
        )


def _duration(seconds: float) -> str:
    for unit_s, unit in ((86400.0, 'days'), (3600.0, 'h'), (60.0, 'min'), (1.0, 's')):
        if seconds >= 2 * unit_s or (unit == 's' and seconds >= 1):
            return f'{seconds / unit_s:.1f} {unit}'
    return f'{seconds * 1e3:.1f} ms'


# -------------------------------------------------------------------------------- images

_PNG = b'\x89PNG\r\n\x1a\n'
_JPEG = b'\xff\xd8\xff'

_MANY_HOLES = 0.7


def check_depth(
    stream: Stream,
    camera: Stream | None = None,
    depth_unit_m: float = 0.0,
    unit_source: str = '',
) -> Iterator[Finding]:
    """Check that depth can be read, is in the unit its encoding says, and holds something.

    Args:
        stream: The depth images.
        camera: Their camera_info.
        depth_unit_m: Metres of one count, if that is known; else 0.
        unit_source: Where `depth_unit_m` comes from, for the text.
    """
    first = stream.samples[0]
    lie = ''
    if is_compressed(first):
        if bytes(first.data[:3]) == _JPEG or bytes(first.data[12:15]) == _JPEG:
            yield Finding(
                'problem',
                'jpeg',
                stream.topic,
                'depth is compressed as JPEG: 16 bits became 8 and edges ring, and nothing '
                'brings them back',
                f'record {image_topic(stream.topic)}/compressedDepth or the raw topic instead',
            )
            return
        lie = _format_lie(first)
    images = list(_decoded(stream, DepthImage, depth_unit_m))
    if (broken := next((i for i in images if isinstance(i, str)), None)) is not None:
        yield Finding(
            'problem',
            'encoding',
            stream.topic,
            f'it cannot be read: {broken}' + (f' ({lie})' if lie else ''),
            'record the raw image (16UC1 or 32FC1), or compressedDepth as image_transport '
            'writes it',
        )
        return
    if lie:
        yield Finding(
            'note', 'format', stream.topic, lie, 'nothing here; other readers may refuse it'
        )
    depths: list[DepthImage] = [i for i in images if isinstance(i, DepthImage)]
    encoding, (height, width) = depths[0].encoding, depths[0].depth_m.shape
    yield Finding('ok', 'encoding', stream.topic, f'{encoding}, {width}x{height}')
    yield from _check_constant(stream, [depth.depth_m.shape for depth in depths])
    holes = [float(np.isnan(depth.depth_m).mean()) for depth in depths]
    share = float(np.median(holes))
    if min(holes) == 1:
        yield Finding(
            'problem',
            'holes',
            stream.topic,
            'there is no depth in it: every pixel of every frame that was read is 0 or NaN',
            'check that the depth sensor streams, and is not covered or too near',
        )
        return
    empty = sum(hole == 1 for hole in holes)
    many = share > _MANY_HOLES or empty
    yield Finding(
        'warning' if many else 'ok',
        'holes',
        stream.topic,
        f'{100 * share:.0f} % of the pixels have no depth'
        + (f'; {empty} of {len(holes)} frames have none at all' if empty else ''),
        'check exposure, distance and sunlight; limit what is invented with '
        '--inpaint-depth.max-hole-px'
        if many
        else '',
    )
    known_m = np.concatenate([d.depth_m[np.isfinite(d.depth_m)] for d in depths])
    cameras = [] if camera is None else list(_decoded(camera, PinholeCamera))
    lens = next((c for c in cameras if isinstance(c, PinholeCamera)), None)
    yield check_unit(stream.topic, encoding, known_m, lens, depth_unit_m, unit_source)


# No depth camera for robots reaches so far, no useful one sees so near only.
_FAR_32FC1_M = 50.0
_NEAR_16UC1_M = 0.03
# The nearest and farthest medians of what indoor cameras are pointed at, and the farthest
# hundredth that cameras without steps of disparity see: those measure time of flight.
_NEAR_MEDIAN_M, _FAR_MEDIAN_M, _FAR_FLIGHT_M = 0.1, 6.0, 10.0
# Units that drivers count in: 0.1 mm (D405, Orbbec), 0.125 mm (SR300), 0.2 mm (TUM), 0.25 mm
# (L515), 1 mm, 10 mm.
_UNITS_M = (0.0001, 0.000125, 0.0002, 0.00025, 0.001, 0.01)
_LIKELY_MEDIANS_M = (0.2, 4.0)
# Stereo and structured light step by z^2 / (f b n): baseline b times steps a pixel n, in metres,
# of a D405 (0.58), a Kinect (0.6) and a D455 (3.04), seen by a colour camera of another focal
# length or not.
_STEPS_M = (0.4, 3.6)
# The PrimeSense reference design: f b n is 580 px * 0.075 m * 8, and it is recognised by that and
# its angle of view, fx / width.
_PRIMESENSE_M, _PRIMESENSE_SPREAD = 345.0, 0.04
_PRIMESENSE_VIEW = (0.84, 0.93)


def check_unit(
    topic: str,
    encoding: str,
    known_m: Float32Array,
    camera: PinholeCamera | None = None,
    depth_unit_m: float = 0.0,
    unit_source: str = '',
) -> Finding:
    """Judge the unit of depth by the only measures a recording holds: distance and step.

    A stereo or structured-light camera measures disparity in equal steps, so its depths step by
    z^2 / (f b n). Reading them in a unit too large by a factor makes f b n larger by that factor.

    Args:
        topic: The depth's topic.
        encoding: Its encoding.
        known_m: Depths of many pixels, metres, as read.
        camera: Its intrinsics, if known.
        depth_unit_m: Metres of one count, if that is known; else 0.
        unit_source: Where `depth_unit_m` comes from, for the text.
    """
    median_m, largest_m = float(np.median(known_m)), float(known_m.max())
    low_m, high_m = (float(m) for m in np.percentile(known_m, (1, 99)))
    seen = f'depth from {low_m:.2f} to {high_m:.2f} m'
    if camera is not None:
        width_m, height_m = (
            median_m * size / f
            for size, f in ((camera.width, camera.fx), (camera.height, camera.fy))
        )
        seen += f'; at the median of {median_m:.2f} m it sees {width_m:.2f} x {height_m:.2f} m'
    if depth_unit_m:
        source = f', as {unit_source} says' if unit_source else ''
        return Finding(
            'ok', 'unit', topic, f'one count is {1e3 * depth_unit_m:g} mm{source}: {seen}'
        )
    if encoding == '32FC1':
        if median_m > _FAR_32FC1_M:
            return Finding(
                'problem',
                'unit',
                topic,
                f'32FC1 is metres, but the median is {median_m:.0f}: it looks like millimetres',
                'set depth_unit_m: 0.001, or divide by 1000 where it is published',
            )
        return Finding('ok', 'unit', topic, seen)
    if largest_m < _NEAR_16UC1_M:
        return Finding(
            'problem',
            'unit',
            topic,
            f'16UC1 is millimetres, but the largest value is {1000 * largest_m:.0f}: it looks '
            'like metres',
            'multiply by 1000 where it is published, or publish it as 32FC1',
        )
    return _judged_unit(topic, known_m, camera, seen)


def _judged_unit(
    topic: str, known_m: Float32Array, camera: PinholeCamera | None, seen: str
) -> Finding:
    """Judge whether counts that are taken as millimetres can be millimetres."""
    median_m, high_m = float(np.median(known_m)), float(np.percentile(known_m, 99))
    steps_m = disparity_scale_m(known_m)
    fitting = set(_UNITS_M) if steps_m is None else _units_of_steps(steps_m, camera)

    def is_likely(unit_m: float) -> bool:
        factor = unit_m / MILLIMETRE_M
        low, high = _LIKELY_MEDIANS_M
        return unit_m in fitting and low <= factor * median_m <= high

    others = [unit_m for unit_m in _UNITS_M if unit_m != MILLIMETRE_M and is_likely(unit_m)]
    remedy = 'compare one distance with a tape measure; ' + (
        '; '.join(
            f'depth_unit_m: {unit_m:g} makes the median {median_m * unit_m / MILLIMETRE_M:.2f} m'
            for unit_m in others
        )
        or 'depth_unit_m sets the metres of one count'
    )
    far = median_m > _FAR_MEDIAN_M or (steps_m is None and high_m > _FAR_FLIGHT_M)
    if steps_m is not None and MILLIMETRE_M not in fitting:
        step_mm = 1e3 * median_m**2 / steps_m
        return Finding(
            'warning',
            'unit',
            topic,
            f'16UC1 is millimetres, but depths {step_mm:.3g} mm apart at the median of '
            f'{median_m:.1f} m are the steps of no stereo or structured-light camera: {seen}',
            remedy,
        )
    if far or median_m < _NEAR_MEDIAN_M:
        which = 'finer' if far else 'coarser'
        return Finding(
            'warning',
            'unit',
            topic,
            f'16UC1 is millimetres, but that makes the median {median_m:.1f} m: the unit may be '
            f'{which}; {seen}',
            remedy,
        )
    if steps_m is not None:
        step_mm = 1e3 * median_m**2 / steps_m
        return Finding(
            'ok',
            'unit',
            topic,
            f'{seen}; depths {step_mm:.2g} mm apart there are the steps of a stereo or '
            'structured-light camera that counts millimetres',
        )
    return Finding(
        'note',
        'unit',
        topic,
        f'{seen}; nothing in it tells the unit: one count is taken as 1 mm (REP 118)',
        remedy if others else '',
    )


def _units_of_steps(scale_m: float, camera: PinholeCamera | None) -> set[float]:
    """Return the units, metres a count, in which steps read in millimetres are a camera's.

    Args:
        scale_m: Focal length times baseline times steps a pixel, as read in millimetres.
        camera: The intrinsics of the depth, if known.
    """
    scales_m = {unit_m: scale_m * unit_m / MILLIMETRE_M for unit_m in _UNITS_M}
    if camera is None:
        return {unit_m for unit_m, m in scales_m.items() if 150 <= m <= 4000}
    low, high = _PRIMESENSE_VIEW
    if low <= camera.fx / camera.width <= high:
        off = {unit_m: abs(m / _PRIMESENSE_M - 1) for unit_m, m in scales_m.items()}
        best_m = min(off, key=off.__getitem__)
        if off[best_m] < _PRIMESENSE_SPREAD:
            return {best_m}
    low, high = _STEPS_M
    return {unit_m for unit_m, m in scales_m.items() if low <= m / camera.fx <= high}


_LEVELS = 5
_DENSE = 5  # pixels for every value that a range could take: none is missing by accident


def disparity_scale_m(known_m: Float32Array) -> float | None:
    """Return z^2 / step of depths that step as those of a disparity do, None if they do not.

    That is focal length times baseline times steps a pixel. It takes depths that were not
    resampled or smoothed, in whole millimetres, over a range of distances.

    Args:
        known_m: Depths of many pixels, metres.
    """
    counts = np.rint(known_m / np.float32(MILLIMETRE_M)).astype(np.int64)
    levels, pixels = np.unique(counts, return_counts=True)
    found: list[tuple[float, float, float]] = []
    low = float(levels[0])
    while low < levels[-1]:
        high = max(1.25 * low, low + 1)
        inside = (levels >= low) & (levels < high)
        total = int(pixels[inside].sum())
        if total >= _DENSE * (high - low):
            # What resampling scattered between two levels is rare beside them.
            often = levels[inside][pixels[inside] >= 0.1 * total / inside.sum()]
            if len(often) >= _LEVELS:
                steps = np.diff(often)
                step = float(np.median(steps))
                if step >= 3:
                    scales = often[1:] * often[:-1] / steps
                    middle = float(np.median(often))
                    found.append((middle, step, float(np.median(scales))))
        low = high
    if len(found) < 3 or found[-1][0] < 1.5 * found[0][0]:
        return None
    middles, steps_, scales_ = (np.array(column) for column in zip(*found, strict=True))
    growth = float(np.polyfit(np.log(middles), np.log(steps_), 1)[0])
    if not 1.5 < growth < 2.5 or scales_.max() > 1.5 * scales_.min():
        return None
    return float(np.median(scales_)) * MILLIMETRE_M


def check_precision(stream: Stream, depth_unit_m: float, depth_encoding: str) -> Iterator[Finding]:
    """Say what the unit of the published depth costs."""
    images = [i for i in _decoded(stream, DepthImage, depth_unit_m) if isinstance(i, DepthImage)]
    encoding = images[0].encoding if images and depth_encoding == 'same' else depth_encoding
    if not depth_unit_m or encoding != '16UC1':
        return
    if depth_unit_m < MILLIMETRE_M:
        yield Finding(
            'note',
            'precision',
            stream.topic,
            f'it counts {1e3 * depth_unit_m:g} mm, but depth goes out as 16UC1 in whole '
            'millimetres (REP 118)',
            'set depth_encoding: 32FC1 where tenths of a millimetre count',
        )
    elif any(np.nanmax(image.depth_m, initial=0) > 65.535 for image in images):
        yield Finding(
            'warning',
            'precision',
            stream.topic,
            'depth beyond 65.535 m does not go into 16UC1 millimetres (REP 118) and is left out',
            'set depth_encoding: 32FC1',
        )


def check_color(stream: Stream) -> Iterator[Finding]:
    """Check that colour can be read."""
    images = list(_decoded(stream, ColorImage))
    if (broken := next((i for i in images if isinstance(i, str)), None)) is not None:
        yield Finding(
            'warning',  # depth goes on without it
            'encoding',
            stream.topic,
            f'it cannot be read and is left out: {broken}',
            'set the driver to rgb8 or bgr8',
        )
        return
    shapes = [image.rgb.shape[:2] for image in images if isinstance(image, ColorImage)]
    first = stream.samples[0]
    encoding = first.format if is_compressed(first) else first.encoding
    yield Finding('ok', 'encoding', stream.topic, f'{encoding}, {shapes[0][1]}x{shapes[0][0]}')
    yield from _check_constant(stream, shapes)


def _decoded(stream: Stream, kind: type[Any], depth_unit_m: float = 0.0) -> Iterator[Any]:
    """Decode the samples; what cannot be decoded comes as the sentence that says why."""
    for msg in stream.samples:
        try:
            yield decode(kind, msg, stream.topic, depth_unit_m=depth_unit_m)
        except ValueError as error:  # noqa: PERF203 - ten samples
            yield str(error).removeprefix(f'{stream.topic}: ')


def _check_constant(stream: Stream, shapes: Iterable[tuple[int, ...]]) -> Iterator[Finding]:
    sizes = sorted({f'{width}x{height}' for height, width in shapes})
    if len(sizes) > 1:
        yield Finding(
            'warning',
            'size',
            stream.topic,
            f'the size of the image changes: {", ".join(sizes)}',
            'record one stream profile a topic',
        )
    if len(stream.frame_ids) > 1:
        yield Finding(
            'warning',
            'frame_id',
            stream.topic,
            f'the frame_id changes: {", ".join(map(repr, sorted(stream.frame_ids)))}',
            'check for two publishers: ros2 topic info -v ' + stream.topic,
        )
    elif not stream.frame_id:
        yield Finding(
            'warning',
            'frame_id',
            stream.topic,
            'the frame_id is empty: nothing can be placed in the world',
            'set the frame_id of the driver to an optical frame that tf knows',
        )


def _format_lie(msg: Any) -> str:
    """Return where the format of a compressed depth image differs from its bytes, or ''."""
    data = bytes(msg.data[:20])
    text = msg.format
    if 'compressedDepth' not in text:
        if data[12:20] == _PNG:
            return f'format {text!r} does not say compressedDepth, but the bytes have its header'
        return ''
    if data[:8] == _PNG:
        return f'format {text!r} says compressedDepth, but the bytes are a PNG without its header'
    is_png = data[12:20] == _PNG
    if 'rvl' in text and is_png:
        return f'format {text!r} says RVL, but the bytes are a PNG'
    if 'rvl' not in text and not is_png:
        return f'format {text!r} says PNG, but the bytes are not: RVL?'
    if text.partition(';')[0].strip() not in ('16UC1', '32FC1'):
        return f'format {text!r} does not begin with the encoding; it is read as 16UC1'
    return ''


# ------------------------------------------------------------------------------- cameras


def check_camera(stream: Stream, image: Stream | None) -> Iterator[Finding]:
    """Check that a camera_info is calibrated and describes its image."""
    cameras = list(_decoded(stream, PinholeCamera))
    if (broken := next((c for c in cameras if isinstance(c, str)), None)) is not None:
        yield Finding(
            'problem',
            'calibration',
            stream.topic,
            broken,
            'calibrate the camera (ros2 run camera_calibration cameracalibrator) or give its '
            'driver the calibration (camera_info_url)',
        )
        return
    camera: PinholeCamera = cameras[0]
    intrinsics = (
        f'fx {camera.fx:.1f} fy {camera.fy:.1f} cx {camera.cx:.1f} cy {camera.cy:.1f} px, '
        f'{camera.width}x{camera.height}'
    )
    yield Finding('ok', 'calibration', stream.topic, intrinsics)
    if image is None:
        return
    size = _size(image)
    if size and size != (camera.width, camera.height):
        yield Finding(
            'problem',
            'size',
            stream.topic,
            f'it describes {camera.width}x{camera.height} pixels, but {image.topic} has '
            f'{size[0]}x{size[1]}',
            _fitting(camera, *size)
            or f'give the camera_info of the same stream ({info_topic(image.topic)}?): in a '
            'parameter file under topics, passed with --params',
        )
    else:
        yield from _check_centre(stream.topic, camera)
    if stream.frame_id != image.frame_id:
        yield Finding(
            'warning',
            'frame_id',
            stream.topic,
            f'its frame_id is {stream.frame_id!r}, that of {image.topic} {image.frame_id!r}',
            'check that both belong to one camera; image_pipeline expects one frame_id',
        )
    calibration = camera.calibration
    distorted = calibration is not None and any(abs(d) > 1e-6 for d in calibration.d)
    if distorted and 'rect' not in image_topic(image.topic).rpartition('/')[2]:
        yield Finding(
            'note',
            'distortion',
            stream.topic,
            f'the lens distorts, and {image.topic} is not rectified by its name',
            'rectify it (image_proc rectify_node; depth with interpolation 0) where millimetres '
            'near the border count',
        )


_OFF_CENTRE = 0.15  # of the image: lenses sit a few hundredths off the middle of their sensor


def _fitting(camera: PinholeCamera, width: int, height: int) -> str:
    """Say what would make a camera_info fit its image, '' if nothing is likely."""
    whole = camera.calibration
    if whole is not None and (whole.width, whole.height) == (width, height):
        return (
            'set its binning_x and binning_y to 0 and its roi to nothing: its width and height '
            'are those of the image already'
        )
    if abs(width / camera.width - height / camera.height) > 0.02 * width / camera.width:
        return ''
    fitting = camera.scaled(width, height)
    return (
        f'publish the camera_info of this stream; scaled to {width}x{height} it would have '
        f'{_intrinsics(fitting)}'
    )


def _intrinsics(camera: PinholeCamera) -> str:
    return f'fx {camera.fx:.1f} fy {camera.fy:.1f} cx {camera.cx:.1f} cy {camera.cy:.1f} px'


def _check_centre(topic: str, camera: PinholeCamera) -> Iterator[Finding]:
    """Check that the intrinsics are those of an image of this size, and not cut out of one."""
    whole = camera.calibration
    if whole is not None and (whole.width, whole.height) != (camera.width, camera.height):
        return  # a window of an image, or a binned one: its centre may be anywhere
    off = max(
        abs((camera.cx + 0.5) / camera.width - 0.5), abs((camera.cy + 0.5) / camera.height - 0.5)
    )
    if off <= _OFF_CENTRE:
        return
    size = size_around(camera.cx, camera.cy)
    what = (
        f'the principal point is {100 * off:.0f} % of the image away from its middle: the '
        'intrinsics are those of another resolution'
    )
    action = 'publish the camera_info of this stream, or calibrate it'
    if size is not None:
        what += f', of {size[0]}x{size[1]}?'
        belonging = PinholeCamera(camera.header, *size, camera.fx, camera.fy, camera.cx, camera.cy)
        if abs(size[0] * camera.height - size[1] * camera.width) < 0.02 * size[0] * camera.height:
            fitting = belonging.scaled(camera.width, camera.height)
            action += (
                f'; scaled to {camera.width}x{camera.height} it would have {_intrinsics(fitting)}'
            )
    yield Finding('warning', 'centre', topic, what, action)


def _size(image: Stream) -> tuple[int, int] | None:
    """Return the width and height of a stream's images."""
    first = image.samples[0]
    if not is_compressed(first):
        return int(first.width), int(first.height)
    for kind in (DepthImage, ColorImage):
        decoded = next(_decoded(image, kind))
        if not isinstance(decoded, str):
            array = decoded.depth_m if isinstance(decoded, DepthImage) else decoded.rgb
            return int(array.shape[1]), int(array.shape[0])
    return None


def check_registration(
    depth: Stream,
    color: Stream,
    color_camera: Stream | None,
    camera: Stream | None,
    tree: TransformTree,
    stages: Sequence[str] = (),
) -> Iterator[Finding]:
    """Check that colour is registered to the depth, or can be.

    Args:
        depth: The depth images.
        color: The colour images.
        color_camera: The colour's camera_info.
        camera: The depth's camera_info.
        tree: All transforms of tf.
        stages: Stages that are going to run.
    """
    depth_size, color_size = _size(depth), _size(color)
    lenses = [
        next((c for c in _decoded(s, PinholeCamera) if isinstance(c, PinholeCamera)), None)
        if s is not None
        else None
        for s in (color_camera, camera)
    ]
    through, of_depth = lenses
    calibrated = color_camera is not None
    if depth.frame_id == color.frame_id and depth_size == color_size:
        if through is None or of_depth is None:
            text = 'colour is taken as registered to the depth, by its frame and size alone'
            yield Finding('ok', 'registration', color.topic, text)
            return
        if same_intrinsics(through, of_depth):
            yield Finding('ok', 'registration', color.topic, 'colour is registered to the depth')
            return
        what = (
            f'colour has the frame and the size of the depth, but other intrinsics: '
            f'{_intrinsics(through)}, the depth {_intrinsics(of_depth)}'
        )
    elif depth.frame_id != color.frame_id:
        what = f'colour is in {color.frame_id!r}, depth in {depth.frame_id!r}'
    else:
        what = (
            f'colour is {"x".join(map(str, color_size or ()))}, '
            f'depth {"x".join(map(str, depth_size or ()))}'
        )
    what += ', so colour is not registered to the depth and will not be used'
    registering = {'register_color', 'register_depth'} & set(stages)
    connected = tree.lookup(color.frame_id, depth.frame_id) is not None
    if not calibrated:
        yield Finding(
            'warning',
            'registration',
            color.topic,
            what,
            f'record {info_topic(color.topic)} too, then add register_color to --stages',
        )
    elif not connected:
        yield Finding(
            'problem' if registering else 'warning',
            'registration',
            color.topic,
            f'{what}, and tf does not connect the two frames',
            'record /tf_static too (ros2 bag record: with transient local durability), or '
            'publish it with tf2_ros static_transform_publisher, then add register_color to '
            '--stages',
        )
    elif registering:
        yield Finding(
            'ok', 'registration', color.topic, f'{" and ".join(sorted(registering))} moves it'
        )
    else:
        yield Finding(
            'warning',
            'registration',
            color.topic,
            what,
            'add --stages register_color,refine_depth,inpaint_depth,project_points (or '
            'register_depth for depth in the view of the colour camera)',
        )
