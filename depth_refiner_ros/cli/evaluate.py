"""depth-refiner evaluate: measure how good depth is, beside other methods, with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
import difflib
import json
import operator
import os
from pathlib import Path
import re
from typing import Annotated, Any, NamedTuple

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
import tyro

from ..evaluation import extras, report, workers
from ..evaluation.protocols import ProtocolName
from ..evaluation.run import DEFAULT_CONTENDERS, Job, contenders_of
from ..kernels import compile_kernels
from .replay import progress_bar


class Gate(NamedTuple):
    """A condition that fails the evaluation: `[contender:]metric>number`."""

    contender: str
    metric: str
    symbol: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Read a condition.

        Raises:
            ValueError: If it is not one.
        """
        match = re.fullmatch(r'(?:([^:<>]+):)?([\w.]+)\s*(>=|<=|>|<)\s*([-+.\deE]+)', text.strip())
        try:
            if match is None:
                raise ValueError
            return cls(match[1] or '', match[2], match[3], float(match[4]))
        except ValueError:
            raise ValueError(
                f'--fail-if {text!r} is not a condition such as hole.mae_mm>110 or '
                'nearest:hole.delta_1_05<0.8'
            ) from None

    def check(self, contenders: Sequence[str]) -> None:
        """Check that the contender is one of those evaluated.

        Raises:
            ValueError: If it is not.
        """
        if self.contender and self.contender not in contenders:
            raise ValueError(
                f'--fail-if: no contender {self.contender!r}; {", ".join(contenders)}'
            )

    def failures(self, sources: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return a sentence for every source that meets the condition.

        Raises:
            ValueError: If the metric is unknown, or undefined on every source.
        """
        compare = {'>': operator.gt, '<': operator.lt, '>=': operator.ge, '<=': operator.le}
        failed, defined = [], False
        known: dict[str, None] = {}
        for source in sources:
            name = self.contender or list(source['contenders'])[-1]
            metrics = source['contenders'][name]['metrics']
            known |= dict.fromkeys(metrics)
            value = metrics.get(self.metric)
            if value is None:
                continue
            defined = True
            if compare[self.symbol](value, self.limit):
                failed.append(
                    f'{source["name"]}: {name} has {self.metric} {value:.4g} '
                    f'{self.symbol} {self.limit:g}'
                )
        if self.metric not in known:
            near = difflib.get_close_matches(self.metric, known, n=1)
            hint = f'did you mean {near[0]}?' if near else f'known: {", ".join(known)}'
            raise ValueError(f'--fail-if: no metric {self.metric}; {hint}')
        if not defined:
            raise ValueError(f'--fail-if: {self.metric} is undefined on every source')
        return failed


@dataclass(frozen=True)
class Evaluate:
    """Measure how good depth is, beside other methods, with pictures.

    Takes folders in the project's layout, bags with a reference topic, or any other bag: then
    holes are punched into the measurements, which are the truth. All contenders see the same
    frames in the same run. Writes metrics.json, report.md and index.html to the report's folder.
    The same command continues a run that was stopped.

        depth-refiner evaluate mine.mcap
        depth-refiner evaluate a.bag folder/ --contenders raw nearest mine=mine.yaml -o report
        depth-refiner evaluate a.mcap --fail-if 'hole.mae_mm>110'
    """

    sources: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of images and bags."""
    report: Annotated[Path, tyro.conf.arg(aliases=['-o'])] = Path('evaluation')
    """Folder for the report; a run found there is continued."""
    contenders: tuple[str, ...] = DEFAULT_CONTENDERS
    """What to compare: peers (raw, nearest ...), stages separated by commas, or parameter files;
    NAME=WHAT names one. Pictures and --fail-if are about the last."""
    protocol: ProtocolName | None = None
    """Where the truth comes from. By default the best that the source has: its reference topic or
    folder, else the median over time where static_mask.png marks what does not move, else
    punched holes."""
    draws: int = 1
    """Passes over a source with punched holes, each with other holes: one draw is partly luck."""
    seed: int = 0
    """Seed of the first draw of punched holes."""
    max_frames: int | None = None
    """Use only the first frames of every source."""
    sensor: str = ''
    """Noise model for contenders that do not set one, such as realsense_d400; by default that of
    the camera.json of a folder, and the stage's own for a bag."""
    depth: Annotated[str, tyro.conf.arg(metavar='TOPIC')] = ''
    """Depth topic of bags; guessed by name if not given."""
    depth_unit_m: float = 0.0
    """Metres of one count of the depth of bags, where it departs from REP 118: 0.00025 for an
    L515."""
    reference: Annotated[str, tyro.conf.arg(metavar='TOPIC')] = ''
    """Topic of bags that holds the true depth; by default /camera/reference/image_rect."""
    workers: int = max(1, (os.cpu_count() or 1) // 2)
    """Processes that evaluate sources side by side; more than one blurs latencies."""
    ray: Annotated[str | None, tyro.conf.arg(metavar='ADDRESS')] = None
    """Evaluate on a Ray cluster: HOST:PORT, `auto` for the one of this machine, or `local` to
    start one here. Its nodes must see the sources at the same paths."""
    fail_if: Annotated[tuple[str, ...], tyro.conf.arg(metavar='CONDITION ...')] = ()
    """Conditions such as 'hole.mae_mm>110' that end with exit code 1, for CI; of the last
    contender, or of one by name: 'nearest:hole.mae_mm>110'. metrics.json has all metrics."""
    downstream: bool = False
    """Track and map folders that have poses with the depth of the last contender: odometry and
    fusion. Needs Open3D and evo."""
    json: bool = False
    """Print metrics.json."""

    def run(self) -> int:
        """Evaluate; return 0, or 1 if a condition of `fail_if` holds."""
        if not self.sources:
            raise ValueError('name at least one folder or bag to evaluate')
        for name, value in (('draws', self.draws), ('workers', self.workers)):
            if value < 1:
                raise ValueError(f'--{name} must be at least 1, got {value}')
        if not 0 <= self.depth_unit_m <= 1:
            raise ValueError(
                f'--depth-unit-m must be from 0 to 1, got {self.depth_unit_m:g}; '
                'millimetres are 0.001'
            )
        if self.seed < 0:
            raise ValueError(f'--seed must not be negative, got {self.seed}')
        if self.max_frames is not None and self.max_frames < 1:
            raise ValueError(f'--max-frames must be at least 1, got {self.max_frames}')
        if not self.contenders:
            raise ValueError('--contenders: name at least one')
        if self.downstream:
            _check_extras()
        gates = [Gate.parse(text) for text in self.fail_if]
        jobs = [self._job(name, path) for name, path in distinct_names(self.sources).items()]
        for job in jobs:
            names = [c.name for c in contenders_of(job)]  # before anything runs for minutes
            for gate in gates:
                gate.check(names)
        console = Console(stderr=True, emoji=False, highlight=False)
        compile_kernels(say=console.print)
        self.report.mkdir(parents=True, exist_ok=True)
        results = self._evaluate(jobs, console)
        ran = report.environment()
        document = {
            'schema': report.SCHEMA,
            'created': datetime.now(timezone.utc).isoformat(timespec='seconds'),
            **ran,
            'sources': results,
        }
        text = json.dumps(document, indent=1, allow_nan=False)
        (self.report / 'metrics.json').write_text(text, encoding='utf-8')
        (self.report / 'report.md').write_text(report.markdown(results), encoding='utf-8')
        report.write_page(self.report / 'index.html', results, ran)
        if self.json:
            print(text)
        for result in results:
            _print(console, result)
        page = escape(str(self.report / 'index.html'))
        console.print(f'{page}, report.md and metrics.json are written', soft_wrap=True)
        failed = [sentence for gate in gates for sentence in gate.failures(results)]
        for sentence in failed:
            console.print(f'[red]failed:[/red] {escape(sentence)}', soft_wrap=True)
        return 1 if failed else 0

    def _job(self, name: str, path: Path) -> Job:
        topics = {'depth': self.depth, 'reference': self.reference}
        return Job(
            path=str(path),
            contenders=self.contenders,
            protocol=self.protocol,
            draws=self.draws,
            seed=self.seed,
            max_frames=self.max_frames,
            topics=tuple((port, topic) for port, topic in topics.items() if topic),
            depth_unit_m=self.depth_unit_m,
            sensor=self.sensor,
            name=name,
            downstream=self.downstream,
        )

    def _evaluate(self, jobs: Sequence[Job], console: Console) -> list[dict[str, Any]]:
        finished = workers.Finished(self.report / '.finished')
        results = {job: result for job in jobs if (result := finished.get(job)) is not None}
        if results:
            console.print(f'{len(results)} of {len(jobs)} sources were finished before')
        todo = [job for job in jobs if job not in results]
        bar = progress_bar(console)
        with bar if console.is_terminal else nullcontext():
            task = bar.add_task('evaluate', total=workers.frame_total(todo))

            def advance(frames: int) -> None:
                bar.advance(task, frames)

            if self.ray is not None:
                done = workers.run_on_ray(todo, self.report, self.ray, advance)
            else:
                done = workers.run_locally(todo, self.report, self.workers, advance)
            for job, result in done:
                finished.put(job, result)
                results[job] = result
        return [results[job] for job in jobs]


def _check_extras() -> None:
    try:
        extras.open3d()
        extras.evo('evo_ape')
    except ImportError as error:
        raise ValueError(f'--downstream: {error}') from None


def distinct_names(paths: Sequence[Path]) -> dict[str, Path]:
    """Name paths by as few of their last parts as tell them apart; a path named twice counts once.

    A fleet's recordings are often called alike, each in its robot's folder.
    """
    distinct: dict[Path, Path] = {}
    for path in paths:
        distinct.setdefault(path.resolve(), path)
    bare = {
        path: whole if path.is_dir() else whole.with_suffix('') for whole, path in distinct.items()
    }
    same = [whole for whole in bare.values() if list(bare.values()).count(whole) > 1]
    parts = {
        path: (whole if bare[path] in same else bare[path]).parts
        for whole, path in distinct.items()
    }
    named = {}
    for path, own in parts.items():
        others = [other for other in parts.values() if other != own]
        count = next(n for n in range(1, len(own) + 1) if all(own[-n:] != o[-n:] for o in others))
        named['/'.join(own[-count:])] = path
    return named


_FEWEST_NAME_LETTERS = 12


def _print(console: Console, source: Mapping[str, Any]) -> None:
    title = f'[bold]{escape(source["name"])}[/bold]: {escape(report.caption(source))}'
    console.print(f'\n{title}')
    head, rows = report.rows(source, short=True)
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    widths = [
        max(len(word) for cell in column for word in cell.split())
        for column in zip(*(row[1:] for row in (head, *rows)), strict=True)
    ]
    left = console.width - sum(widths) - len(widths) - 2  # what the box takes
    table.add_column(head[0], no_wrap=True)
    for title, width in zip(head[1:], widths, strict=True):
        table.add_column(title, justify='right', width=width)
    for name, *cells in rows:
        table.add_row(escape(_folded(name, max(left, _FEWEST_NAME_LETTERS))), *cells)
    console.print(table)
    for sentence in report.left_out(source):
        console.print(f'[yellow]{escape(sentence)}[/yellow]', soft_wrap=True)


def _folded(name: str, width: int) -> str:
    """Break a name into lines after its underscores and commas, where it is wider."""
    lines = ['']
    for piece in re.findall(r'[^_,]*[_,]?', name):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append('')
        lines[-1] += piece
    return '\n'.join(line[i : i + width] for line in lines for i in range(0, len(line), width))
