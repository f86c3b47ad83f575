"""depth-refiner bench: how fast this machine runs a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
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
from ..evaluation.speed.bag_host import measure_bag_host
from ..evaluation.speed.clips import Clip, arrays, recorded_frames, simulated_frames
from ..evaluation.speed.live_host import measure_live_host
from ..evaluation.speed.stages import measure_stages
from ..evaluation.speed.timing import Watch
from ..hosts import bag as bags
from ..inference import BACK_ENDS
from ..inference.model import model_path
from ..parameters import parameter_values
from ..stages.inpaint_depth import DEFAULT_MODEL, InpaintDepthParameters
from .flags import ParameterFlags, given
from .info import output_console
from .replay import progress, topics_of

SCHEMA = 1
"""Version of the JSON; a field may be added without a new one."""

_SIZE_PX = (640, 480)
_CACHED_FRAMES = 16


@dataclass(frozen=True)
class Bench:
    """Measure how fast this machine runs a pipeline, in about a minute.

    Times each stage in process; a replay from bag to bag, and what that costs beside the stages;
    and a live host that messages are sent to: the highest rate with fewer than 5 % of the frames
    missed, and latency at 10 and 30 Hz, as ros2_benchmark defines them.

    Other programs on the machine lengthen every time. What can be compared between runs and
    machines are the ratios, taken turn by turn in the same run: against copying a frame's bytes,
    and against librealsense's filters where pyrealsense2 is installed.

    With --backends it also times the learned model (--inpaint-depth.model, else depth_small) on
    the back ends named, `auto` for all: against the same back end called with its defaults, and
    against librealsense.

        depth-refiner bench
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
    """Width and height of the simulated frames, pixels (default: 640 480)."""
    rounds: int = 100
    """How often the stages are timed."""
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
    """Namespace in which the stages' own topic names are looked for, as in replay."""
    parameters: Annotated[ParameterFlags, tyro.conf.arg(name='')] = field(
        default_factory=ParameterFlags
    )

    def run(self) -> int:
        """Measure and print; return 0."""
        configuration = self._checked()
        watch = partial(progress, console=Console(stderr=True, emoji=False, highlight=False))
        started_s = time.perf_counter()
        report = self._head(configuration)
        clip = self._clip(configuration, watch)
        report['frames'] = _described(clip)
        report.update(measure_stages(configuration, clip, self.rounds, watch))
        if self.backends:
            report['back_ends'] = measure_back_ends(
                _model(configuration),
                self.backends,
                clip,
                self.rounds,
                watch,
                reduction=_reduction(configuration),
            )
        report['hosts'] = self._hosts(configuration, clip, report['pipeline'], watch)
        report['memory'] = {
            'rss_mb': resident_mb(),
            'peak_rss_mb': peak_resident_mb(),
            'frames_mb': sum(a.nbytes for v in clip.values for a in arrays(v)) / 1e6,
        }
        report['wall_s'] = time.perf_counter() - started_s
        text = json.dumps(_rounded(report), indent=2, allow_nan=False)
        if self.output:
            self.output.write_text(text + '\n', encoding='utf-8')
        if self.json:
            print(text)
        else:
            _print(output_console(), report)
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

    def _clip(self, configuration: Configuration, watch: Watch) -> Clip:
        if not self.bag:
            width, height = self.size or _SIZE_PX
            return simulated_frames(_CACHED_FRAMES, width, height, configuration.pipeline, watch)
        with bags.open_bag(self.bag) as reader:
            guess = self.camera is None
            topics = topics_of(reader, configuration, self.namespace, guess=guess)
            return recorded_frames(reader, configuration, topics, _CACHED_FRAMES, watch)

    def _hosts(
        self,
        configuration: Configuration,
        clip: Clip,
        pipeline: dict[str, Any],
        watch: Watch,
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if 'bag' in self.hosts:
            with tempfile.TemporaryDirectory(prefix='depth-refiner-') as folder:
                found['bag'] = measure_bag_host(
                    configuration, clip, Path(folder), only=self.only, watch=watch
                )
        if 'live' in self.hosts:
            found['live'] = measure_live_host(
                configuration,
                clip,
                1e3 / pipeline['median_ms'],
                seconds=self.seconds,
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
    image = arrays(first)[0]
    depth = first.get('depth')
    return {
        'source': clip.source,
        'count': len(clip.values),
        'width': image.shape[1],
        'height': image.shape[0],
        'depth_encoding': depth.encoding if isinstance(depth, DepthImage) else None,
        'ports': sorted(first),
    }


def _rounded(value: Any) -> Any:
    """Return the report with the five digits of a number that a clock can vouch for."""
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f'{value:.5g}') if isinstance(value, float) else value


# ---------------------------------------------------------------------------------- the table


def _print(console: Console, report: dict[str, Any]) -> None:
    at, frames = report['machine'], report['frames']
    size = f'{frames["width"]}x{frames["height"]}'
    load = at['load_average_1_min']
    busy = '' if load is None else f', load {load:.1f}'
    source = f'{frames["count"]} frames of {size}, {frames["source"]}'
    console.print(escape(f'{at["cpu"]}, {at["cores_allowed"]} cores{busy}; {source}'))
    console.print(_stages(report))
    for ratio in report['ratios'].values():
        if ratio['reason']:
            console.print(f'[yellow]not compared with librealsense[/yellow]: {ratio["reason"]}')
    if found := report.get('back_ends'):
        _print_back_ends(console, found)
    if bag := report['hosts'].get('bag'):
        parts = ', '.join(f'{n} {ms:.1f}'.replace('_', ' ') for n, ms in bag['parts_ms'].items())
        console.print(
            f'[bold]bag host[/bold] {bag["frame_ms"]:.1f} ms a frame, '
            f'{bag["on_top_percent"]:.0f} % on top of the stages, '
            f'{bag["times_pipeline"]["median"]:.2f} times the pipeline alone; '
            f'its parts alone: {parts} ms',
            soft_wrap=True,
        )
    if live := report['hosts'].get('live'):
        console.print(_live(live))
    peak_mb = report['memory']['peak_rss_mb']
    memory = '' if peak_mb is None else f', at most {peak_mb:.0f} MB'
    console.print(f'{report["pipeline"]["cpu_ms"]:.1f} ms of processor time a frame{memory}')


def _stages(report: dict[str, Any]) -> Table:
    ratios = {
        name.replace('_', ' '): ratio['times']
        for name, ratio in report['ratios'].items()
        if ratio['times']
    }
    table = _table(
        ('stage', 'median ms', 'p99 ms', 'min ms', *(f'times {name}' for name in ratios))
    )
    for name, spent in {**report['stages'], 'pipeline': report['pipeline']}.items():
        times_ms = [f'{spent[key]:.1f}' for key in ('median_ms', 'p99_ms', 'min_ms')]
        table.add_row(name, *times_ms, *(f'{t[name]["median"]:.2f}' for t in ratios.values()))
    for name, ratio in report['ratios'].items():
        if ratio['times']:
            times_ms = [f'{ratio[key]:.1f}' for key in ('median_ms', 'p99_ms', 'min_ms')]
            table.add_row(f'[dim]{name.replace("_", " ")}[/dim]', *times_ms)
    return table


def _print_back_ends(console: Console, found: dict[str, Any]) -> None:
    table = _table(
        (
            'back end',
            'median ms',
            'p99 ms',
            'min ms',
            'times bare',
            'times librealsense',
            'CPU ms',
            'bare',
            'librealsense',
        )
    )
    for name, spent in found.items():
        if spent['reason'] is None:
            times_ms = [f'{spent[key]:.1f}' for key in ('median_ms', 'p99_ms', 'min_ms')]
            ratios = [times and times['median'] for times in spent['times'].values()]
            cpu_ms = [spent['cpu_ms'].get(key) for key in ('loaded', 'bare', 'librealsense')]
            table.add_row(
                name,
                *times_ms,
                *('-' if r is None else f'{r:.2f}' for r in ratios),
                *map(_cell, cpu_ms),
            )
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


def _cell(value: float | None) -> str:
    return '-' if value is None else f'{value:.1f}'


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=rich.box.SIMPLE_HEAD)
    for number, name in enumerate(columns):
        table.add_column(name, justify='right' if number else 'left')
    return table
