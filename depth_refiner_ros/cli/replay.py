"""depth-refiner replay: run a pipeline over a recorded bag."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
import tyro

from .. import discovery
from ..config import (
    Configuration,
    camera_preset,
    configure,
    port_topics,
    read_parameters,
    resolve,
)
from ..data import DepthImage
from ..hosts import bag as bags
from ..kernels import compile_kernels
from ..stage import Pipeline, topic_inputs
from . import signals
from .flags import ParameterFlags, given


@dataclass(frozen=True)
class Replay:
    """Run a pipeline over a recorded bag, every frame, as fast as it goes.

    Reads ROS 1 bags and rosbag2 recordings and writes an ordinary recording: open it in RViz or
    Foxglove, or `ros2 bag play` it. The same bag gives the same bytes.

        depth-refiner replay mine.bag -o refined.mcap
        depth-refiner replay mine.mcap -o refined.mcap --camera realsense --keep
        depth-refiner replay mine.mcap -o points --stages refine_depth,project_points
        depth-refiner replay mine.mcap -o cloud.mcap --only project_points.points --max-frames 100
    """

    bag: tyro.conf.Positional[Path]
    """A .bag file, an .mcap or .db3 file, or a rosbag2 folder."""
    output: Annotated[Path, tyro.conf.arg(aliases=['-o'])]
    """Recording to write: NAME.mcap or NAME.db3 for a single file, any other name for a rosbag2
    folder."""
    params: Path | None = None
    """Parameter file, in the form ROS reads."""
    camera: str | None = None
    """Preset of config/cameras: the driver's topics and the sensor's noise. Without it, and
    without `topics` in the parameter file, the recording's topics are guessed by name."""
    namespace: str = '/camera'
    """Namespace of the written topics, and of the stages' own topic names."""
    keep: bool = False
    """Copy every topic that the pipeline neither reads nor writes, as it is."""
    only: tuple[str, ...] = ()
    """Outputs to write, as stage.port (inpaint_depth.depth); all if not given."""
    storage: Literal['mcap', 'sqlite3'] = 'mcap'
    """Format of a rosbag2 folder."""
    max_frames: int | None = None
    """Stop after this many frames."""
    parameters: Annotated[ParameterFlags, tyro.conf.arg(name='')] = field(
        default_factory=ParameterFlags
    )

    def run(self) -> int:
        """Replay; return 0.

        Raises:
            RunError: If nothing came out; it says why.
        """
        if self.max_frames is not None and self.max_frames < 1:
            raise ValueError(f'--max-frames must be at least 1, got {self.max_frames}')
        sources = [
            camera_preset(self.camera) if self.camera else {},
            read_parameters(self.params) if self.params else {},
            given(self.parameters),
        ]
        configuration = configure(*sources)
        pipeline = configuration.pipeline(configuration.parameters)
        unknown = [name for name in self.only if name not in pipeline.outputs]
        if unknown:
            raise ValueError(
                f'--only: no output {unknown[0]!r}; there are {", ".join(pipeline.outputs)}'
            )
        console = Console(stderr=True, emoji=False, highlight=False)
        compile_kernels(say=console.print)
        summary = bags.Summary()
        holes: list[tuple[float, float]] = []
        outputs = 0
        _check_distinct(self.bag, self.output)
        with bags.open_bag(self.bag) as reader:
            topics = topics_of(reader, configuration, self.namespace, guess=self.camera is None)
            writer = bags.BagWriter(self.output, storage=self.storage)
            written = {resolve(t.name, self.namespace) for t in pipeline.outputs.values()}
            frames = bags.Frames(
                reader,
                topic_inputs(configuration.pipeline),
                topics,
                slop_s=configuration.host.slop_s,
                depth_unit_m=configuration.host.depth_unit_m,
                keep=_keeper(reader, writer, written) if self.keep else None,
            )
            with kept(writer, console):
                results = bags.record(
                    bags.replay(frames, pipeline),
                    writer,
                    pipeline.outputs,
                    self.namespace,
                    depth_encoding=configuration.host.depth_encoding,
                    only=self.only,
                )
                count = min(frames.frame_count, self.max_frames or frames.frame_count)
                for result in progress(islice(results, self.max_frames), 'replay', count, console):
                    summary.add(pipeline)
                    holes.append(_hole_shares(result))
                    outputs += sum(not self.only or port in self.only for port in result.outputs)
                if not summary.frames:
                    raise bags.RunError(f'{self.bag} gave no frame: {_why_none(frames)}')
                if not outputs:
                    raise bags.RunError(
                        f'{self.bag}: {summary.frames} frames went in and nothing came out as '
                        f'{", ".join(self.only or pipeline.outputs)}: an optional input of the '
                        'stages is missing; depth-refiner doctor tells which'
                    )
        summary.finish()
        _report(console, self, summary, holes, frames)
        tell_models(console, pipeline)
        return 0


@contextmanager
def kept(writer: bags.BagWriter, console: Console) -> Iterator[bags.BagWriter]:
    """Write a recording, and print how much of it is there where that is not all.

    Raises:
        RunError: If the run could not go on; it names what was written until then.
    """
    with signals.explained(lambda: writer.kept):
        try:
            with writer:
                if writer.rescued:
                    console.print(
                        '[yellow]an earlier run was killed[/yellow]: what it had written is in '
                        f'{escape(str(writer.rescued))}; {bags.rescue(writer.rescued)}',
                        soft_wrap=True,
                    )
                yield writer
        except bags.RunError:
            raise
        except ValueError as error:
            if not writer.message_count:
                raise
            raise bags.RunError(f'{error}; {writer.kept}') from None
    for topic, (reason, count) in writer.left_out.items():
        console.print(
            f'[yellow]{count} messages of {escape(topic)} left out[/yellow]: {escape(reason)}',
            soft_wrap=True,
        )


def _why_none(frames: bags.Frames) -> str:
    topic = frames.topics[frames.synchronizer.anchor]
    if frames.empty:
        ports = ' or '.join(f'topics.{port}' for port in frames.empty)
        names = ' and '.join(frames.topics[port] for port in frames.empty)
        verb = 'hold' if len(frames.empty) > 1 else 'holds'
        return f'{names} {verb} no messages; choose another topic with {ports}'
    partners = ', '.join(name for name in frames.topics.values() if name != topic)
    return (
        f'none of the {frames.frame_count} messages of {topic} has a partner in {partners}; '
        'depth-refiner doctor compares their stamps'
    )


def _check_distinct(source: Path, output: Path) -> None:
    if source.exists() and output.exists() and source.samefile(output):
        raise ValueError(f'--output {output} is the recording to be read; choose another name')


def topics_of(
    reader: AnyReader, configuration: Configuration, namespace: str, *, guess: bool
) -> dict[str, str]:
    """Return the topic of every port: as configured, by its own name, or guessed.

    A guess replaces a stage's own topic name only where the recording does not have that name.
    """
    inputs = topic_inputs(configuration.pipeline)
    topics = port_topics(inputs, configuration.topics, namespace)
    if not guess:
        return topics
    recorded, encodings = bags.contents(reader)
    return discovery.guessed_topics(topics, recorded, configuration.topics, encodings)


def progress_bar(console: Console) -> Progress:
    """Return a bar that counts, and is gone when it is done."""
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def progress(items: Any, description: str, total: int, console: Console) -> Iterator[Any]:
    """Pass items on, drawing a progress bar where somebody watches."""
    bar = progress_bar(console)
    with bar if console.is_terminal else nullcontext():
        task = bar.add_task(description, total=total)
        for item in items:
            signals.check()
            yield item
            bar.advance(task)


def tell_models(console: Console, pipeline: Pipeline) -> None:
    """Print what ran the models of a pipeline, or why nothing did."""
    for note in pipeline.notes.values():
        console.print(escape(note), soft_wrap=True, highlight=False)
    for stage, trouble in pipeline.troubles.items():
        console.print(
            f'[yellow]{stage} ran without its model[/yellow]: {escape(trouble)}', soft_wrap=True
        )
    if count := pipeline.without_provenance:
        console.print(
            f'[yellow]{count} frames came without the provenance that others had[/yellow]: their '
            'depth counts as inpainted',
            soft_wrap=True,
        )


def _keeper(reader: bags.Recording, writer: bags.BagWriter, written: Set[str]) -> Any:
    def keep(connection: Connection, log_ns: int, raw: bytes) -> None:
        # Of a recording that was replayed before, the new outputs take the place of the old.
        if connection.topic not in written:
            writer.write_raw(reader, connection, log_ns, raw)

    return keep


def _hole_shares(result: bags.Result) -> tuple[float, float]:
    """Return the share of pixels without depth, of the input and of the last depth output."""
    before = result.inputs.get('depth')
    after = [value for value in result.outputs.values() if isinstance(value, DepthImage)]
    return tuple(
        float(np.isnan(image.depth_m).mean()) if image is not None else float('nan')
        for image in (before, after[-1] if after else None)
    )  # type: ignore[return-value]


def _holes(before_percent: float, after_percent: float) -> str:
    if np.isnan(before_percent + after_percent):
        return ''
    return f'holes {before_percent:.1f} % -> {after_percent:.1f} %; '


def _report(
    console: Console,
    command: Replay,
    summary: bags.Summary,
    holes: list[tuple[float, float]],
    frames: bags.Frames,
) -> None:
    counts = frames.synchronizer
    paths = f'{command.bag} -> {command.output}'
    console.print(f'{summary.frames} frames: {escape(paths)}', soft_wrap=True)
    console.print(', '.join(f'{port} from {topic}' for port, topic in frames.topics.items()))
    if frames.depth_unit_m:
        console.print(f'depth counts {1000 * frames.depth_unit_m:g} mm')
    if unstamped := [frames.topics[port] for port in counts.unstamped]:
        console.print(
            f'[yellow]{escape(", ".join(unstamped))} without stamps[/yellow]: all are the same, '
            'so the time of recording served',
            soft_wrap=True,
        )
    if lost := counts.unmatched + counts.duplicated:
        console.print(
            f'[yellow]{lost} frames left out[/yellow]: {counts.unmatched} without a partner, '
            f'{counts.duplicated} duplicated'
        )
    for topic, (reason, count) in frames.unread.items():
        console.print(
            f'[yellow]{count} images of {escape(topic)} left out[/yellow]: {escape(reason)}',
            soft_wrap=True,
        )
    before, after = 100 * np.array(holes).mean(axis=0)
    table = Table('', 'median ms', 'p99 ms')
    stages_ms = {n: 1e3 * np.array(s) for n, s in summary.stage_s.items()}
    for name, values in [
        *stages_ms.items(),
        ('all stages', np.sum([*stages_ms.values()], axis=0)),
    ]:
        table.add_row(name, f'{median(values):.1f}', f'{np.percentile(values, 99):.1f}')
    console.print(table)
    total_s = float(sum(values.sum() for values in stages_ms.values())) / 1e3
    console.print(
        f'{_holes(before, after)}{summary.wall_s / summary.frames * 1e3:.1f} ms '
        f'a frame in all, {(summary.wall_s / total_s - 1) * 100:.0f} % on top of the stages'
    )
