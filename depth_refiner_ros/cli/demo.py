"""The demo: what the package does, on a recording made on the spot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
import time
from typing import Any, NamedTuple

import cv2
import numpy as np
import rich.box
from rich.console import Console
import rich.table
from rosbags.interfaces import Connection

from .. import pictures
from ..config import DEFAULT_STAGES, pipeline_type, port_topics
from ..data import BoolArray, Float32Array, UInt8Array
from ..hosts.bag import BagWriter, Frames, Recording, Result, open_bag, record, replay
from ..kernels import compile_kernels
from ..parameters import updated_parameters
from ..pictures import Panel, Picture, Section, Table
from ..simulation import SimulatedFrame, simulate
from ..stage import Pipeline, topic_inputs
from . import signals
from .replay import kept, progress, tell_models

NAMESPACE = 'camera'
_PIPELINE = pipeline_type(DEFAULT_STAGES)
_TOPICS = port_topics(topic_inputs(_PIPELINE), {}, NAMESPACE)

# What RViz and Foxglove show; every output in full would take more than twice the space.
_RECORDED = (
    'refine_depth.depth',
    'inpaint_depth.depth',
    'inpaint_depth.camera',
    'inpaint_depth.provenance',
    'project_points.points',
)
_POINT_STRIDE_PX = 2

# -------------------------------------------------------------------------------------- scores


class Score(NamedTuple):
    """One line of the comparison.

    Attributes:
        name: What was measured.
        before: Its value in the raw depth; None where there can be none.
        after: Its value in the refined and inpainted depth.
        unit: Unit of both.
    """

    name: str
    before: float | None
    after: float | None
    unit: str

    def cells(self) -> tuple[str, str, str]:
        """Return the line as text."""

        def text(value: float | None) -> str:
            return '-' if value is None else f'{value:.1f} {self.unit}'

        return self.name, text(self.before), text(self.after)


class _Mean:
    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, values: np.ndarray[Any, Any]) -> None:
        self._sum += float(np.sum(values, dtype=np.float64))
        self._count += values.size

    def value(self, factor: float) -> float | None:
        return factor * self._sum / self._count if self._count else None


class Scores:
    """Compares depth before and after with the truth, frame by frame."""

    def __init__(self) -> None:
        self._means: dict[tuple[str, str], _Mean] = {}
        self._last: dict[str, Float32Array] = {}

    def add(self, before_m: Float32Array, after_m: Float32Array, truth_m: Float32Array) -> None:
        """Count one frame.

        Args:
            before_m: Shape (H, W), metres, NaN where unknown: what the sensor gave.
            after_m: Shape (H, W): what the pipeline made of it.
            truth_m: Shape (H, W): what is there.
        """
        edge = near_edges(truth_m)
        exists = np.isfinite(truth_m)
        measured, hole = exists & np.isfinite(before_m), exists & np.isnan(before_m)
        for side, depth_m in (('before', before_m), ('after', after_m)):
            error_m = depth_m - truth_m
            known = np.isfinite(error_m)
            self._mean('holes', side).add(~known[exists])
            for name, where in (
                ('surfaces', measured & ~edge),
                ('edges', measured & edge),
                ('filled', hole),
            ):
                self._mean(name, side).add(np.abs(error_m[where & known]))
            close = np.abs(error_m[hole & known]) < 0.05 * truth_m[hole & known]
            self._mean('filled close', side).add(close)
            # Only where the sensor measured in both frames: both sides have the same pixels.
            steady_m = np.where(measured & ~edge, error_m, np.float32(np.nan))
            if side in self._last:
                change_m = np.abs(steady_m - self._last[side])
                self._mean('flicker', side).add(change_m[np.isfinite(change_m)])
            self._last[side] = steady_m

    def _mean(self, name: str, side: str) -> _Mean:
        return self._means.setdefault((name, side), _Mean())

    def lines(self) -> list[Score]:
        """Return the comparison over all frames."""

        def score(name: str, key: str, factor: float, unit: str) -> Score:
            before, after = (self._mean(key, side).value(factor) for side in ('before', 'after'))
            return Score(name, before, after, unit)

        return [
            score('pixels without depth', 'holes', 100, '%'),
            score('error of measured pixels on surfaces', 'surfaces', 1000, 'mm'),
            score('error of measured pixels at depth edges', 'edges', 1000, 'mm'),
            score('error of filled holes', 'filled', 1000, 'mm'),
            score('filled holes within 5 % of the truth', 'filled close', 100, '%'),
            score('flicker: change of error between frames', 'flicker', 1000, 'mm'),
        ]


EXPLANATION = (
    'Errors are means of the absolute difference to the true depth. Edges: within 3 pixels of '
    'where the true depth jumps by more than 3 %; the rest are surfaces. Flicker: on surfaces, '
    'at the same pixel.'
)


def near_edges(truth_m: Float32Array) -> BoolArray:
    """Return the pixels within 3 px of a jump in depth of more than 3 %."""
    known_m = np.nan_to_num(truth_m, nan=1e3)
    window = np.ones((3, 3), np.uint8)
    jump = cv2.dilate(known_m, window) > 1.03 * cv2.erode(known_m, window)
    return cv2.dilate(jump.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(np.bool_)


# ------------------------------------------------------------------------------------- pictures


class Shown(NamedTuple):
    """A frame to draw; all arrays are (H, W), depth in metres."""

    title: str
    color: UInt8Array
    before_m: Float32Array
    after_m: Float32Array
    truth_m: Float32Array
    stddev_m: Float32Array
    provenance: UInt8Array


_DEPTH = pictures.depth_scale(0.8, 4.0)
_ERROR = pictures.error_scale(50)
_STDDEV = pictures.stddev_scale(40)


def _panels(frame: Shown) -> dict[str, Panel]:
    before_mm, after_mm = (
        (depth_m - frame.truth_m) * 1000 for depth_m in (frame.before_m, frame.after_m)
    )
    provenance = pictures.paint_provenance(frame.provenance)
    legend = pictures.provenance_legend(frame.provenance)
    return {
        'color': Panel('colour image', frame.color),
        'before': Panel(
            f'sensor depth, {np.isnan(frame.before_m).mean():.1%} missing',
            _DEPTH.paint(frame.before_m),
            _DEPTH,
        ),
        'after': Panel('refined and inpainted depth', _DEPTH.paint(frame.after_m), _DEPTH),
        'truth': Panel('true depth', _DEPTH.paint(frame.truth_m), _DEPTH),
        'provenance': Panel('where it comes from', provenance, legend),
        'error before': Panel('error of the sensor', _ERROR.paint(before_mm), _ERROR),
        'error after': Panel('error after', _ERROR.paint(after_mm), _ERROR),
        'stddev': Panel(
            'stated standard deviation', _STDDEV.paint(frame.stddev_m * 1000), _STDDEV
        ),
    }


def before_after(frame: Shown) -> UInt8Array:
    """Return the summary as one picture: six panels."""
    panel = _panels(frame)
    return pictures.sheet(
        [
            [panel['color'], panel['before'], panel['after']],
            [panel['provenance'], panel['error before'], panel['error after']],
        ],
        panel_width_px=400,
    )


def _all_panels(frame: Shown) -> UInt8Array:
    panel = _panels(frame)
    return pictures.sheet(
        [
            [panel['color'], panel['before'], panel['after'], panel['truth']],
            [panel['provenance'], panel['error before'], panel['error after'], panel['stddev']],
        ],
        panel_width_px=400,
    )


# -------------------------------------------------------------------------------------- the demo


@dataclass(frozen=True)
class Demo:
    """Simulate a depth camera, refine its recording and show what came of it.

    Needs no camera, no ROS, no GPU and no download.

        depth-refiner demo
        depth-refiner demo --frames 10 --output /tmp/demo
    """

    output: Path = Path('demo')
    """Folder to write to; an earlier demo in it is replaced."""
    frames: int = 60
    """Length of the recording, 30 frames a second."""
    seed: int = 0
    """Picks the sensor's noise and the path of the hand that holds it."""

    def run(self) -> int:
        """Run it; return 0."""
        if self.frames < 1:
            raise ValueError(f'--frames must be at least 1, got {self.frames}')
        with signals.explained(lambda: f'{self.output} holds what was done'):
            self._run(Console())
        return 0

    def _run(self, console: Console) -> None:
        compile_kernels(say=console.print)
        self.output.mkdir(parents=True, exist_ok=True)
        recording, refined = self.output / 'recording.mcap', self.output / 'refined.mcap'
        for bag in (recording, refined):
            bag.unlink(missing_ok=True)

        truth_m: dict[int, Float32Array] = {}
        with kept(BagWriter(recording), console) as writer:
            simulated = simulate(self.frames, seed=self.seed)
            for frame in progress(simulated, 'simulating a camera', self.frames, console):
                truth_m[frame.depth.header.stamp_ns] = frame.truth_m
                write_frame(writer, frame)

        scores, costs, shown = Scores(), Costs(), []
        pictured = {0, self.frames // 2, self.frames - 1}
        with open_bag(recording) as reader, kept(BagWriter(refined), console) as writer:
            pipeline = _PIPELINE()
            results = refine(reader, writer, pipeline, costs)
            for number, result in enumerate(
                progress(results, 'refining its recording', self.frames, console)
            ):
                before, after = result.inputs['depth'], result.outputs['inpaint_depth.depth']
                true_m = truth_m[before.header.stamp_ns]
                scores.add(before.depth_m, after.depth_m, true_m)
                if number in pictured:
                    shown.append(_shown(f'Frame {number + 1} of {self.frames}', result, true_m))

        compared = Table(('', 'sensor', 'refined'), [score.cells() for score in scores.lines()])
        timed = Table(('time per frame', 'median'), costs.rows())
        for table in (compared, timed):
            console.print(_for_terminal(table))
        tell_models(console, pipeline)
        picture, page = self.output / 'before_after.png', self.output / 'index.html'
        pictures.write_png(picture, before_after(shown[-1]))
        pictures.write_page(page, 'Depth before and after', _sections(compared, timed, shown))
        console.print(
            f'{picture}\n    before and after in one picture\n'
            f'{page}\n    more of them, and the figures: open it in a browser\n'
            f'{refined}\n    depth before and after, and points: open it in Foxglove, or\n'
            f'    ros2 bag play --loop {refined}\n'
            f'{recording}\n    the recording itself, a bag like that of any camera; try other '
            'parameters on it:\n'
            f'    depth-refiner replay {recording} --output {self.output / "mine.mcap"}',
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def write_frame(writer: BagWriter, frame: SimulatedFrame) -> None:
    """Record what a simulated camera publishes for a frame, and its true pose.

    Raises:
        BagError: If the recording cannot be written.
    """
    now_ns = frame.depth.header.stamp_ns
    writer.write_transforms('/tf', now_ns, [frame.world_from_camera])
    writer.write(_TOPICS['color'], now_ns, frame.color)
    writer.write(_TOPICS['camera'], now_ns, frame.camera)
    writer.write(_TOPICS['depth'], now_ns, frame.depth)


class Costs:
    """Seconds spent on every frame."""

    def __init__(self) -> None:
        self.stage_s: dict[str, list[float]] = {}
        self.frame_s: list[float] = []

    def rows(self) -> list[tuple[str, str]]:
        """Return the median of every stage and of the whole, in milliseconds, as text."""
        parts = {**self.stage_s, 'all, reading and writing included': self.frame_s}
        return [(name, f'{1000 * median(spent_s):.1f} ms') for name, spent_s in parts.items()]


def refine(
    reader: Recording, writer: BagWriter, pipeline: Pipeline, costs: Costs
) -> Iterator[Result]:
    """Replay a recording through the default pipeline into a new one.

    Raises:
        BagError: If one cannot be read or the other written.
    """
    pipeline.parameters = updated_parameters(
        pipeline.parameters, {'project_points.stride_px': _POINT_STRIDE_PX}
    )

    def keep(connection: Connection, log_ns: int, raw: bytes) -> None:
        writer.write_raw(reader, connection, log_ns, raw)

    frames = Frames(reader, topic_inputs(_PIPELINE), _TOPICS, keep=keep)
    started_s = time.perf_counter()
    for result in record(
        replay(frames, pipeline), writer, pipeline.outputs, NAMESPACE, only=_RECORDED
    ):
        for port, topic in frames.topics.items():
            writer.write(topic, result.log_ns, result.inputs[port])
        costs.frame_s.append(time.perf_counter() - started_s)
        for name, spent_s in pipeline.last_s.items():
            costs.stage_s.setdefault(name, []).append(spent_s)
        yield result
        started_s = time.perf_counter()


def _shown(title: str, result: Result, truth_m: Float32Array) -> Shown:
    outputs = result.outputs
    return Shown(
        title,
        result.inputs['color'].rgb,
        result.inputs['depth'].depth_m,
        outputs['inpaint_depth.depth'].depth_m,
        truth_m,
        outputs['inpaint_depth.stddev'].stddev_m,
        outputs['inpaint_depth.provenance'].provenance,
    )


def _for_terminal(table: Table) -> rich.table.Table:
    shown = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for number, title in enumerate(table.head):
        shown.add_column(title, justify='right' if number else 'left')
    for row in table.rows:
        shown.add_row(*row)
    return shown


def _sections(compared: Table, timed: Table, shown: Sequence[Shown]) -> list[Section]:
    return [
        Section(
            'Against the true depth',
            [
                'A simulated hand-held Kinect v1 records a room whose depth is known exactly. Its '
                'recording went through refine_depth and inpaint_depth.',
                compared,
                EXPLANATION,
            ],
        ),
        Section('Time', [timed]),
        *(Section(frame.title, [Picture(_all_panels(frame))]) for frame in shown),
    ]
