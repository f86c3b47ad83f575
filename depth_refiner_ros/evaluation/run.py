"""Runs contenders side by side over the same frames and scores them.

A contender is a pipeline: of stages, of parameters from a file, or of one peer. All contenders get
the same values of the same frame in the same pass; what remembers frames sees all of them in
order, what does not sees only those that are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
import difflib
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
import time
from typing import Any

import numpy as np

from ..config import configure, parameter_value, read_parameters
from ..data import (
    BoolArray,
    DepthImage,
    Float32Array,
    ProvenanceImage,
    StddevImage,
    UInt8Array,
)
from ..filters.motion import EgoMotion
from ..filters.noise import SENSORS
from ..metrics import (
    HOLE_DISTANCE_EDGES_PX,
    REFERENCE_EDGES_M,
    BinnedErrors,
    DepthErrors,
    Flicker,
    FlyingPixels,
    FrameMeans,
    Regions,
    StddevCalibration,
    TemporalNoise,
    canny_edges,
    count_flying_pixels,
    depth_boundary_error,
    distance_to_measurement_px,
    errors_by_bin,
    errors_by_region,
    regions_of,
    si_boundary_f1,
    stddev_calibration,
)
from ..parameters import parameter_values, updated_parameters
from ..stage import Pipeline, compose
from .peers import PEERS
from .protocols import Case, ProtocolName, Source, at_rest, cases, open_source, protocol_of

DEFAULT_CONTENDERS = (
    'raw',
    'nearest',
    'navier_stokes',
    'ip_basic_dense',
    'joint_bilateral',
    *(['librealsense_farthest'] if find_spec('pyrealsense2') else []),
    'refined=refine_depth',
    'classical=register_color,refine_depth,inpaint_depth;inpaint_depth.model=',
    'learned=register_color,refine_depth,inpaint_depth;inpaint_depth.model=depth_small',
)
"""What is compared by default; the report is about the last."""

_REGIONS = ('all', 'observed', 'hole', 'edge')


@dataclass(frozen=True)
class Contender:
    """A named pipeline to be scored.

    Attributes:
        name: What to call it in a report.
        pipeline: Its class.
        parameters: An instance of the pipeline's parameters.
    """

    name: str
    pipeline: type[Pipeline]
    parameters: Any


PARAMETER_FILES = ('.yaml', '.yml')


def named(spec: str) -> tuple[str, str]:
    """Return the name of a contender and what it is, from what a user writes.

    Raises:
        ValueError: If either is empty.
    """
    name, equals, what = spec.partition('=')
    if not equals:
        what = spec
        name = Path(spec).stem if spec.endswith(PARAMETER_FILES) else spec
    if not (name and what):
        raise ValueError(f'{spec!r} is no contender; write NAME=WHAT or WHAT')
    return name, what


def contender(spec: str, sensor: str = '') -> Contender:
    """Make a contender from what a user writes.

    Args:
        spec: `NAME=WHAT` or `WHAT`, where WHAT is a peer, stages separated by commas, or a
            parameter file. After NAME=stages or a file, `;stage.parameter=value` sets parameters.
        sensor: Noise model for stages whose `sensor` the file does not set.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If there is no such peer or stage, or a parameter is not allowed.
    """
    name, what = named(spec)
    if what in PEERS:
        pipeline = compose({what: PEERS[what]})
        return Contender(name, pipeline, pipeline.Parameters())
    what, *changes = what.split(';')
    values = read_parameters(Path(what)) if what.endswith(PARAMETER_FILES) else {'stages': what}
    values |= dict(_parameter(change) for change in changes)
    try:
        configuration = configure(values)
    except ValueError as error:
        if not str(error).startswith('unknown stage'):
            raise
        near = difflib.get_close_matches(what, PEERS, n=1)
        hint = f'did you mean {near[0]}?' if near else f'peers: {", ".join(PEERS)}'
        raise ValueError(f'{error}; {hint}') from None
    parameters = configuration.parameters
    unset = {
        key: sensor
        for key in parameter_values(parameters)
        if sensor and key.endswith('.sensor') and key not in values
    }
    return Contender(name, configuration.pipeline, updated_parameters(parameters, unset))


def _parameter(text: str) -> tuple[str, Any]:
    """Read `stage.parameter=value`; nothing after the sign is an empty text."""
    name, equals, value = text.partition('=')
    if not equals:
        raise ValueError(f'{text!r} sets no parameter; write stage.parameter=value')
    return name, parameter_value(value)


@dataclass
class Scores:
    """What is known of one contender on one source, in memory that does not grow with frames."""

    errors: dict[str, DepthErrors] = field(
        default_factory=lambda: {region: DepthErrors() for region in _REGIONS}
    )
    distance: BinnedErrors | None = None
    hole_size: BinnedErrors | None = None
    calibration: dict[str, StddevCalibration] = field(default_factory=dict)
    boundaries: FrameMeans = field(default_factory=FrameMeans)
    flying: FlyingPixels = field(default_factory=FlyingPixels)
    temporal: TemporalNoise = field(default_factory=TemporalNoise)
    frame_ms: list[float] = field(default_factory=list)
    frames: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, case: Case, truth_m: Float32Array, regions: Regions, result: Output) -> None:
        """Take in one scored frame; `truth_m` is NaN where it does not count."""
        depth_m = result.depth_m
        raw_m = case.values['depth'].depth_m
        by_region = errors_by_region(depth_m, truth_m, regions)
        self.errors = {region: self.errors[region] + by_region[region] for region in _REGIONS}
        figures = {
            f'{region}.{name}': value
            for region in ('hole', 'observed')
            for name, value in by_region[region].metrics().items()
            if name in ('mae_mm', 'delta_1_05', 'coverage')
        }
        self.frames.setdefault(case.name, figures)  # of the first draw, which the pictures show
        distance = errors_by_bin(depth_m, truth_m, truth_m, REFERENCE_EDGES_M)
        self.distance = distance if self.distance is None else self.distance + distance
        deep_px = distance_to_measurement_px(raw_m)
        hole_size = errors_by_bin(depth_m, truth_m, deep_px, HOLE_DISTANCE_EDGES_PX)
        self.hole_size = hole_size if self.hole_size is None else self.hole_size + hole_size
        if result.stddev_m is not None:
            for region, where in (('hole', regions.hole), ('observed', regions.observed)):
                found = stddev_calibration(depth_m, result.stddev_m, truth_m, where)
                known = self.calibration.get(region)
                self.calibration[region] = found if known is None else known + found
        self.flying += count_flying_pixels(depth_m, truth_m)
        self.boundaries += FrameMeans.of(_boundaries(depth_m, truth_m))

    def metrics(self) -> dict[str, float]:
        """Return every metric by dotted name."""
        found = {
            f'{region}.{name}': value
            for region, errors in self.errors.items()
            for name, value in errors.metrics().items()
        }
        found.update(self.boundaries.metrics())
        found.update(self.flying.metrics())
        if self.temporal.transitions:
            found.update(self.temporal.metrics())
        for region, calibration in self.calibration.items():
            found.update({f'{region}.stddev.{k}': v for k, v in calibration.metrics().items()})
        if self.frame_ms:
            found['latency_p50_ms'] = float(np.percentile(self.frame_ms, 50))
            found['latency_p99_ms'] = float(np.percentile(self.frame_ms, 99))
        return found


def _boundaries(depth_m: Float32Array, truth_m: Float32Array) -> dict[str, float]:
    f1 = si_boundary_f1(depth_m, truth_m)
    known = truth_m[np.isfinite(truth_m)]
    if not known.size:
        return {}
    range_m = float(known.min()), float(known.max())
    predicted, reference = canny_edges(depth_m, range_m), canny_edges(truth_m, range_m)
    dbe = depth_boundary_error(predicted, reference)
    return {
        'boundary_f1': f1.f1,
        'boundary_precision': f1.precision,
        'boundary_recall': f1.recall,
        'dbe_accuracy_px': dbe.accuracy_px,
        'dbe_completeness_px': dbe.completeness_px,
    }


@dataclass(frozen=True)
class Output:
    """What a contender makes of a frame, as arrays."""

    depth_m: Float32Array
    stddev_m: Float32Array | None
    provenance: UInt8Array | None


def output_of(results: Mapping[str, Any], shape: tuple[int, int]) -> Output:
    """Return the last depth that a pipeline put out, and its companions from the same stage.

    Args:
        results: Outputs by `<stage>.<port>`, in the order of the stages.
        shape: Shape of the truth.

    Raises:
        ValueError: If there is no depth, or of another size than the truth.
    """
    depths = {key: v.depth_m for key, v in results.items() if isinstance(v, DepthImage)}
    if not depths:
        raise ValueError('its pipeline puts out no depth')
    last, depth_m = list(depths.items())[-1]
    if depth_m.shape != shape:
        raise ValueError(f'it puts out depth of {depth_m.shape}, the truth has {shape}')
    stddev_m = provenance = None
    for key, value in results.items():
        if key.partition('.')[0] != last.partition('.')[0]:
            continue
        if isinstance(value, StddevImage):
            stddev_m = value.stddev_m
        elif isinstance(value, ProvenanceImage):
            provenance = value.provenance
    return Output(depth_m, stddev_m, provenance)


@dataclass(frozen=True)
class Job:
    """One source to be evaluated; plain data, so that another process or machine can do it.

    Attributes:
        path: A folder of images or a bag.
        contenders: See `contender`.
        protocol: By default the one that fits the source.
        draws: Passes over a punched source, with other patterns each.
        seed: Seed of the first draw.
        max_frames: Frames to use of the source; all if None.
        topics: Topics of a bag, where they are not to be guessed.
        depth_unit_m: Metres of one count of a bag's depth; 0: what it says, or its encoding.
        sensor: Noise model of the camera; by default what the source says.
        name: What to call the source in a report; by default its own name.
        downstream: Whether to track and map with the last contender's depth, too.
    """

    path: str
    contenders: tuple[str, ...] = DEFAULT_CONTENDERS
    protocol: ProtocolName | None = None
    draws: int = 1
    seed: int = 0
    max_frames: int | None = None
    topics: tuple[tuple[str, str], ...] = ()
    depth_unit_m: float = 0.0
    sensor: str = ''
    name: str = ''
    downstream: bool = False

    def open(self) -> Source:
        """Open the source; see `open_source`."""
        return open_source(Path(self.path), dict(self.topics), depth_unit_m=self.depth_unit_m)


@dataclass(frozen=True)
class Evaluation:
    """What came of a job.

    Attributes:
        job: The job.
        name: Name of the source.
        protocol: The protocol that was used.
        draws: Passes over the source.
        note: What a reader of the figures must know.
        frame_count: Frames of the source that were used.
        scored_count: Those of them that were scored.
        corrupt: Name and reason of every frame that could not be used.
        contenders: The contenders.
        scores: Their scores, by name.
    """

    job: Job
    name: str
    protocol: ProtocolName
    draws: int
    note: str
    frame_count: int
    scored_count: int
    corrupt: tuple[tuple[str, str], ...]
    contenders: tuple[Contender, ...]
    scores: dict[str, Scores]


def contenders_of(job: Job) -> tuple[Contender, ...]:
    """Make the contenders of a job.

    Raises:
        OSError: If a parameter file cannot be read.
        ValueError: If one is unknown, or two have one name.
    """
    sensor = job.sensor or job.open().sensor
    made = tuple(contender(spec, sensor) for spec in job.contenders)
    names = [c.name for c in made]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f'two contenders are called {min(twice)}; name them NAME=WHAT')
    return made


def cases_of(job: Job, source: Source) -> Iterator[tuple[Case, int]]:
    """Yield the cases of a job with the number of their draw."""
    for draw in range(draws_of(job, source)):
        drawn = cases(source, job.protocol, job.seed + draw)
        for case in islice(drawn, job.max_frames):
            yield case, draw


def draws_of(job: Job, source: Source) -> int:
    """Return how often a job passes over its source: only punched holes are drawn."""
    return job.draws if (job.protocol or protocol_of(source)) == 'punched' else 1


def evaluate(job: Job, on_frame: Callable[[], None] = lambda: None) -> Evaluation:
    """Score the contenders of a job.

    Args:
        job: What to evaluate.
        on_frame: Called after every frame.

    Raises:
        OSError: If the source cannot be read.
        ValueError: If it lacks what the protocol needs, or a contender cannot run.
    """
    source = job.open()
    contenders = contenders_of(job)
    scores = {c.name: Scores() for c in contenders}
    pipelines: dict[str, Pipeline] = {}
    flicker: dict[str, Flicker] = {}
    corrupt: list[tuple[str, str]] = []
    frame_count = scored_count = 0
    protocol = job.protocol or protocol_of(source)
    punched = protocol == 'punched'
    static = source.static
    if static is None and punched:
        static = at_rest(source)
    draw_before = -1
    noise, ego = SENSORS[job.sensor or source.sensor or 'kinect_v1'], EgoMotion()
    for case, draw in cases_of(job, source):
        if draw != draw_before:
            draw_before = draw
            _take_temporal(flicker, scores)
            pipelines = {c.name: c.pipeline(c.parameters) for c in contenders}
            if static is not None:
                flicker = {c.name: Flicker(static) for c in contenders}
        truth_m, regions = _truth(case)
        if case.values and draw == 0 and protocol in ('reference', 'later'):
            depth = case.values['depth']
            ego(depth.depth_m, case.values['camera'], noise, depth.header.stamp_ns)
        if draw == 0:
            frame_count += 1
            scored_count += truth_m is not None
            if case.corrupt:
                corrupt.append((case.name, case.corrupt))
        for c in contenders:
            if case.corrupt or (truth_m is None and not pipelines[c.name].remembers):
                continue
            started_s = time.perf_counter()
            result = _output(c, pipelines[c.name], source, case)
            scores[c.name].frame_ms.append(1e3 * (time.perf_counter() - started_s))
            if flicker:
                # Holes punched anew in every frame are not the sensor's flicker.
                hidden = case.scored if punched else None
                flicker[c.name].add(_hidden(result.depth_m, hidden))
            if truth_m is not None and regions is not None:
                scores[c.name].add(case, truth_m, regions, result)
                scores[c.name].frames[case.name].setdefault('flow_px', ego.flow_px)
        on_frame()
    _take_temporal(flicker, scores)
    return Evaluation(
        job,
        job.name or source.name,
        protocol,
        draws_of(job, source),
        source.note,
        frame_count,
        scored_count,
        tuple(corrupt),
        contenders,
        scores,
    )


def _output(c: Contender, pipeline: Pipeline, source: Source, case: Case) -> Output:
    try:
        results = pipeline(source.transforms, **case.values)
        return output_of(results, case.values['depth'].depth_m.shape)
    except (LookupError, ValueError) as error:
        raise ValueError(f'{c.name} fails on frame {case.name}: {error}') from error


def _truth(case: Case) -> tuple[Float32Array | None, Regions | None]:
    """Return the truth, NaN where it does not count, and the regions it is scored over."""
    if case.truth_m is None or case.scored is None or not case.scored.any():
        return None, None
    truth_m = np.where(case.scored, case.truth_m, np.float32(np.nan))
    # Edges are those of the whole truth: a scored patch must not look like a silhouette.
    return truth_m, regions_of(case.values['depth'].depth_m, case.truth_m)


def _hidden(depth_m: Float32Array, where: BoolArray | None) -> Float32Array:
    return depth_m if where is None else np.where(where, np.float32(np.nan), depth_m)


def _take_temporal(flicker: dict[str, Flicker], scores: dict[str, Scores]) -> None:
    for name, watched in flicker.items():
        scores[name].temporal += watched.result()
    flicker.clear()


def shown_frames(evaluation: Evaluation) -> dict[str, str]:
    """Choose the best, the median and the worst scored frame of the last contender, by name."""
    frames = evaluation.scores[evaluation.contenders[-1].name].frames
    error_mm = {name: headline(figures)[1] for name, figures in frames.items()}
    by_error = sorted((n for n in frames if np.isfinite(error_mm[n])), key=error_mm.__getitem__)
    if not by_error:
        return {}
    picks = {'best': 0, 'median': len(by_error) // 2, 'worst': len(by_error) - 1}
    return {title: by_error[at] for title, at in picks.items()}


def headline(figures: Mapping[str, float]) -> tuple[str, float]:
    """Return the region that a frame is ranked by and its error there, in millimetres."""
    for region in ('hole', 'observed'):
        if np.isfinite(error_mm := figures[f'{region}.mae_mm']):
            return region, error_mm
    return 'observed', np.inf


@dataclass(frozen=True)
class Shown:
    """A frame with the outputs of some contenders, for pictures."""

    case: Case
    truth_m: Float32Array
    scored: BoolArray
    outputs: dict[str, Output]


def rerun(job: Job, names: Sequence[str], contenders: Sequence[Contender]) -> dict[str, Shown]:
    """Run contenders over a job's first draw again, up to the last of some frames.

    Kept frames would need memory for every one that may turn out best or worst; running again
    costs time only.
    """
    source = job.open()
    pipelines = {c.name: c.pipeline(c.parameters) for c in contenders}
    shown: dict[str, Shown] = {}
    for case, draw in cases_of(job, source):
        if draw > 0 or len(shown) == len(set(names)):
            break
        if case.corrupt:
            continue
        wanted = case.name in names and case.truth_m is not None
        outputs = {
            c.name: _output(c, pipelines[c.name], source, case)
            for c in contenders
            if wanted or pipelines[c.name].remembers
        }
        if wanted and case.truth_m is not None and case.scored is not None:
            shown.setdefault(case.name, Shown(case, case.truth_m, case.scored, outputs))
    return shown
