"""depth-refiner bench: how fast this machine runs a pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
import json
from pathlib import Path
import tempfile
import time
from typing import Annotated, Any, Literal

import rich.box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
import tyro

from ..config import Configuration, camera_preset, configure, read_parameters
from ..data import DepthImage
from ..evaluation.machine import machine, peak_resident_mb, resident_mb, revision
from ..evaluation.speed.back_ends import measure_back_ends
from ..evaluation.speed.bag_parts import measure_bag_parts
from ..evaluation.speed.clips import Clip, arrays, in_encoding, recorded_frames, simulated_frames
from ..evaluation.speed.hosts import ENCODINGS, measure_hosts
from ..evaluation.speed.live_host import measure_live_host
from ..evaluation.speed.stages import measure_stages
from ..evaluation.speed.timing import Watch
from ..hosts import bag as bags
from ..inference import BACK_ENDS
from ..inference.model import model_path
from ..kernels import compile_kernels
from ..parameters import parameter_values
from ..stages.inpaint_depth import DEFAULT_MODEL, InpaintDepthParameters
from .flags import ParameterFlags, given
from .replay import progress, topics_of

SCHEMA = 2
"""Version of the JSON; a field may be added without a new one."""

_SIZES_PX = ((640, 480), (848, 480), (1280, 720))
_WIDTH = 100  # of the table where nobody says how wide a line may be
_CACHED_FRAMES = 16


@dataclass(frozen=True)
class Bench:
    """Measure how fast this machine runs a pipeline, in a few minutes.

    Times each stage, and the hosts at work, in three sizes and both encodings of depth: a replay
    from bag to bag, and a live host that is sent messages as fast as it takes them. For the first
    size also the parts of a replay that are not the stages, the highest rate at which a live host
    misses fewer than 5 % of the frames, and latency at 10 and 30 Hz, as ros2_benchmark defines
    them.

    Beside milliseconds by the clock stand those of processor time, of all threads: other programs
    lengthen the first and hardly the second. Both are put against librealsense's filters, where
    pyrealsense2 is installed, and against copying a frame's bytes, in turns in the same run: only
    these ratios can be compared between runs and machines.

    With --backends it also times the learned model (--inpaint-depth.model, else depth_small) on
    the back ends named, `auto` for all: against the same back end called with its defaults, and
    against librealsense.

        depth-refiner bench
        depth-refiner bench --inpaint-depth.model ''   # without the learned model
        depth-refiner bench --json > before.json
        depth-refiner bench mine.mcap --camera realsense --output mine.json
        depth-refiner bench --hosts --stages refine_depth --size 1280 720
        depth-refiner bench --hosts --backends auto --json
    """

    bag: Annotated[
        tyro.conf.Positional[Path | None], tyro.conf.arg(metavar='[BAG]', help_behavior_hint='')
    ] = None
    """Recording whose first frames are used; without it, a simulated Kinect's."""
    size: Annotated[
        tuple[int, int] | None, tyro.conf.arg(metavar='WIDTH HEIGHT', help_behavior_hint='')
    ] = None
    """Width and height of the simulated frames, pixels (default: 640 480, 848 480, 1280 720)."""
    rounds: int = 50
    """How many times the stages are timed."""
    seconds: float = 5.0
    """How long to send to the live host at each rate; half of it while searching."""
    hosts: tuple[Literal['bag', 'live'], ...] = ('bag', 'live')
    """Hosts to measure; `--hosts` alone measures none."""
    backends: tuple[str, ...] = ()
    """Back ends to time the model on, `auto` for all; none if not given."""
    only: tuple[str, ...] = ()
    """Outputs that the hosts encode and write, as stage.port (inpaint_depth.depth); all if not
    given."""
    json: bool = False
    """Print the figures as JSON instead of a table."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=['-o'])] = None
    """File to write the JSON to."""
    params: Path | None = None
    """Parameter file, in the form ROS reads."""
    camera: str | None = None
    """Preset of config/cameras: the driver's topics and the sensor's noise."""
    namespace: str = '/camera'
    """Namespace of the stages' own topic names, as in replay."""
    parameters: Annotated[ParameterFlags, tyro.conf.arg(name='')] = field(
        default_factory=ParameterFlags
    )

    def run(self) -> int:
        """Measure and print; return 0."""
        configuration = self._checked()
        console = Console(stderr=True, emoji=False, highlight=False)
        compile_kernels(say=console.print)
        watch = partial(progress, console=console)
        started_s = time.perf_counter()
        report = self._head(configuration)
        clips = self._clips(configuration, watch)
        report['frames'] = _described(clips[0])
        report['sizes'] = [self._measured(configuration, clip, watch) for clip in clips]
        if self.backends:
            report['back_ends'] = measure_back_ends(
                _model(configuration),
                self.backends,
                clips[0],
                self.rounds,
                watch,
                reduction=_reduction(configuration),
            )
        if 'bag' in self.hosts:
            with tempfile.TemporaryDirectory(prefix='depth-refiner-') as folder:
                report['bag_parts'] = measure_bag_parts(
                    configuration, clips[0], Path(folder), only=self.only, watch=watch
                )
        if 'live' in self.hosts:
            report['live'] = measure_live_host(
                configuration,
                clips[0],
                1e3 / report['sizes'][0]['pipeline']['wall_ms'],
                seconds=self.seconds,
                only=self.only,
                watch=watch,
            )
        report['memory'] = {
            'rss_mb': resident_mb(),
            'peak_rss_mb': peak_resident_mb(),
            'frames_mb': sum(a.nbytes for c in clips for v in c.values for a in arrays(v)) / 1e6,
        }
        report['wall_s'] = time.perf_counter() - started_s
        text = json.dumps(_rounded(report), indent=2, allow_nan=False)
        if self.output:
            self.output.write_text(text + '\n', encoding='utf-8')
        if self.json:
            print(text)
        else:
            _print(_console(), report)
        return 0

    def _checked(self) -> Configuration:
        if self.bag and self.size:
            raise ValueError('--size is for simulated frames; those of a bag have their own')
        if self.size and not all(16 <= side_px <= 8192 for side_px in self.size):
            raise ValueError(f'--size must be between 16 and 8192 pixels, got {self.size}')
        if self.rounds < 1:
            raise ValueError(f'--rounds must be at least 1, got {self.rounds}')
        if not 0 < self.seconds <= 3600:
            raise ValueError(f'--seconds must be above 0, and 3600 at most, got {self.seconds}')
        if self.output and not self.output.parent.is_dir():
            raise ValueError(f'--output: there is no folder {self.output.parent}')
        if self.output and self.output.is_dir():
            raise ValueError(f'--output: {self.output} is a folder')
        sources = [
            camera_preset(self.camera) if self.camera else {},
            read_parameters(self.params) if self.params else {},
            given(self.parameters),
        ]
        configuration = configure(*sources)
        if unknown := set(self.backends) - {'auto', *BACK_ENDS}:
            raise ValueError(
                f'--backends: there is no {min(unknown)}; there are auto, {", ".join(BACK_ENDS)}'
            )
        if self.backends:
            model_path(_model(configuration))
        for name in self.only:
            if name not in (outputs := configuration.pipeline.outputs):
                raise ValueError(f'--only: no output {name!r}; there are {", ".join(outputs)}')
        return configuration

    def _head(self, configuration: Configuration) -> dict[str, Any]:
        now = datetime.now(timezone.utc)
        return {
            'schema': SCHEMA,
            'benchmark': 'depth-refiner bench',
            'date': now.isoformat(timespec='seconds'),
            **revision(),
            'machine': machine(),
            'parameters': {
                **parameter_values(configuration.host),
                **parameter_values(configuration.parameters),
            },
            'settings': {
                'rounds': self.rounds,
                'seconds': self.seconds,
                'hosts': list(self.hosts),
                'backends': list(self.backends),
                'only': list(self.only),
            },
        }

    def _clips(self, configuration: Configuration, watch: Watch) -> list[Clip]:
        if not self.bag:
            sizes_px = [self.size] if self.size else _SIZES_PX
            return [
                simulated_frames(_CACHED_FRAMES, width, height, configuration.pipeline, watch)
                for width, height in sizes_px
            ]
        with bags.open_bag(self.bag) as reader:
            guess = self.camera is None
            topics = topics_of(reader, configuration, self.namespace, guess=guess)
            return [recorded_frames(reader, configuration, topics, _CACHED_FRAMES, watch)]

    def _measured(self, configuration: Configuration, clip: Clip, watch: Watch) -> dict[str, Any]:
        """Return the section of one size."""
        found = {**_size(clip), **measure_stages(configuration, clip, self.rounds, watch)}
        found['hosts'] = {}
        for encoding in ENCODINGS if self.hosts else ():
            with tempfile.TemporaryDirectory(prefix='depth-refiner-') as folder:
                found['hosts'][encoding] = measure_hosts(
                    configuration,
                    in_encoding(clip, encoding),
                    Path(folder),
                    hosts=self.hosts,
                    only=self.only,
                    watch=watch,
                )
        return found


def _model(configuration: Configuration) -> str:
    """Return the model that is configured, or the one that would be tried first."""
    chosen = parameter_values(configuration.parameters).get('inpaint_depth.model')
    return DEFAULT_MODEL if chosen in (None, '', 'auto') else str(chosen)


def _reduction(configuration: Configuration) -> int:
    """Return by how much the model's images are smaller than the frames."""
    values = parameter_values(configuration.parameters)
    default = InpaintDepthParameters().model_reduction
    return int(values.get('inpaint_depth.model_reduction', default))


def _described(clip: Clip) -> dict[str, Any]:
    first = clip.values[0]
    depth = first.get('depth')
    return {
        'source': clip.source,
        'count': len(clip.values),
        **_size(clip),
        'depth_encoding': depth.encoding if isinstance(depth, DepthImage) else None,
        'ports': sorted(first),
    }


def _size(clip: Clip) -> dict[str, int]:
    image = arrays(clip.values[0])[0]
    return {'width': image.shape[1], 'height': image.shape[0]}


def _rounded(value: Any) -> Any:
    """Return the report with numbers of five digits, as exact as a clock is."""
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f'{value:.5g}') if isinstance(value, float) else value


# ---------------------------------------------------------------------------------- the table


def _console() -> Console:
    console = Console(emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    return console


def _print(console: Console, report: dict[str, Any]) -> None:
    at, frames = report['machine'], report['frames']
    load = at['load_average_1_min']
    busy = '' if load is None else f', load {load:.1f}'
    count = f'{frames["count"]} frames of each size, {frames["source"]}'
    console.print(escape(f'{at["cpu"]}, {at["cores_allowed"]} cores{busy}; {count}'))
    for name, back_end in report['sizes'][0]['back_ends'].items():
        console.print(f'{name}: {back_end}')
    console.print(_sizes(report['sizes']))
    for text in _sentences(report):
        console.print(text, soft_wrap=True)
    if found := report.get('back_ends'):
        _print_back_ends(console, found)
    if live := report.get('live'):
        console.print(_live(live))
    peak_mb = report['memory']['peak_rss_mb']
    if peak_mb is not None:
        console.print(f'at most {peak_mb:.0f} MB of memory, this measurement included')


def _sizes(sizes: Sequence[dict[str, Any]]) -> Table:
    """Return milliseconds of every stage and host, and how many times those of the references."""
    references = [name for name, item in sizes[0]['references'].items() if not item['reason']]
    titles = [title for name in references for title in (f'/ {_plain(name)}', 'CPU')]
    table = _table(('a frame', 'ms', 'CPU ms', *titles, 'frames/s'))
    for size in sizes:
        table.add_row(f'[bold]{size["width"]}x{size["height"]}[/bold]')
        rows = {**size['stages'], 'pipeline': size['pipeline']}
        for encoding, hosts in size['hosts'].items():
            rows |= {f'{host} host, {encoding}': spent for host, spent in hosts.items()}
        rows |= {_plain(name): size['references'][name] for name in references}
        for name, spent in rows.items():
            times = [spent['times'].get(reference) for reference in references]
            ratios = [_cell(t and t[key], 2) for t in times for key in ('wall', 'cpu')]
            rate = _cell(spent.get('frames_per_s'), 0)
            table.add_row(
                f'  {name}', _cell(spent['wall_ms']), _cell(spent['cpu_ms']), *ratios, rate
            )
        table.add_section()
    return table


def _sentences(report: dict[str, Any]) -> Iterator[str]:
    """Yield sentences about what is not in the table."""
    first, last = report['sizes'][0], report['sizes'][-1]
    for item in first['references'].values():
        if item['reason']:
            yield f'[yellow]not compared with librealsense[/yellow]: {escape(item["reason"])}'
    if last is not first:
        pixels = last['width'] * last['height'] / (first['width'] * first['height'])
        cost = last['pipeline']['cpu_ms'] / first['pipeline']['cpu_ms']
        yield (
            f'{last["width"]}x{last["height"]} has {pixels:.1f} times the pixels of '
            f'{first["width"]}x{first["height"]} and takes {cost:.1f} times the processor time'
        )
    for encoding, hosts in first['hosts'].items():
        for host, spent in hosts.items():
            times = spent['times']['pipeline']
            yield (
                f'{host} host, {encoding}: {times["wall"]:.2f} times as long as the stages '
                f'alone, {times["cpu"]:.2f} times the processor time'
            )
    if parts := report.get('bag_parts'):
        costs = ', '.join(f'{_plain(name)} {spent["cpu_ms"]:.1f}' for name, spent in parts.items())
        yield f'parts of a replay, each alone: {costs} ms of processor time a frame'


def _plain(name: str) -> str:
    return name.replace('_', ' ')


def _print_back_ends(console: Console, found: dict[str, Any]) -> None:
    names = ('bare', 'librealsense')
    titles = [title for name in names for title in (f'/ {name}', 'CPU')]
    table = _table(('back end', 'ms', 'CPU ms', *titles))
    for name, spent in found.items():
        if spent['reason'] is None:
            times = [spent['times'].get(reference) for reference in names]
            ratios = [_cell(t and t[key], 2) for t in times for key in ('wall', 'cpu')]
            table.add_row(name, _cell(spent['wall_ms']), _cell(spent['cpu_ms']), *ratios)
    if table.row_count:
        console.print(table)
    for name, spent in found.items():
        if spent['reason'] is not None:
            console.print(
                f'[yellow]not timed: {name}[/yellow]: {escape(spent["reason"])}', soft_wrap=True
            )


def _live(live: dict[str, Any]) -> Table:
    table = _table(('live host', 'results Hz', 'p50 ms', 'p99 ms', 'jitter ms', 'missed', 'CPU'))
    runs = {'peak' if live['peak_hz'] else 'no rate held': live['peak'], **live['at']}
    for name, run in runs.items():
        if run is None:
            table.add_row(name)
            continue
        latency, jitter = run['latency_ms'], run['jitter_ms']
        table.add_row(
            name.replace('_', ' '),
            _cell(run['received_hz']),
            _cell(latency and latency['p50']),
            _cell(latency and latency['p99']),
            _cell(jitter and jitter['mean']),
            f'{run["missed"]} of {run["sent"]}',
            f'{run["cpu_percent"]:.0f} %',
        )
    return table


def _cell(value: float | None, digits: int = 1) -> str:
    return '' if value is None else f'{value:.{digits}f}'


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=rich.box.SIMPLE_HEAD)
    for number, name in enumerate(columns):
        table.add_column(name, justify='right' if number else 'left')
    return table
