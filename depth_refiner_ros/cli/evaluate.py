"""depth-refiner evaluate: say how good depth is, against whom, with pictures."""

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

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
import tyro

from ..evaluation import report, workers
from ..evaluation.protocols import ProtocolName
from ..evaluation.run import DEFAULT_CONTENDERS, Job, contenders_of


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

    def failures(self, sources: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return a sentence for every source that meets the condition.

        Raises:
            ValueError: If no source has the contender or the metric.
        """
        compare = {'>': operator.gt, '<': operator.lt, '>=': operator.ge, '<=': operator.le}
        failed, known = [], False
        for source in sources:
            contenders = source['contenders']
            name = self.contender or list(contenders)[-1]
            if name not in contenders:
                raise ValueError(f'--fail-if: no contender {name!r}; {", ".join(contenders)}')
            metrics = contenders[name]['metrics']
            if self.metric not in metrics:
                near = difflib.get_close_matches(self.metric, metrics, n=1)
                hint = f'did you mean {near[0]}?' if near else f'known: {", ".join(metrics)}'
                raise ValueError(f'--fail-if: no metric {self.metric}; {hint}')
            value = metrics[self.metric]
            if value is None:
                continue
            known = True
            if compare[self.symbol](value, self.limit):
                failed.append(
                    f'{source["name"]}: {name} has {self.metric} {value:.4g} '
                    f'{self.symbol} {self.limit:g}'
                )
        if not known:
            raise ValueError(f'--fail-if: {self.metric} is undefined on every source')
        return failed


@dataclass(frozen=True)
class Evaluate:
    """Say how good depth is, against whom, with pictures.

    Takes folders in the project's layout, bags with a reference topic, or any bag at all: then
    holes are punched into the measurements, which are the truth. All contenders see the same
    frames in the same run. Writes REPORT/metrics.json, report.md and index.html. A run that was
    stopped continues when it is started again.
    """

    sources: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of images and bags."""
    report: Path = Path('evaluation')
    """Folder for the report."""
    contenders: tuple[str, ...] = DEFAULT_CONTENDERS
    """What to compare: peers, stages separated by commas, or parameter files; NAME=WHAT names
    one. The report is about the last."""
    protocol: ProtocolName | None = None
    """Where the truth comes from; by default what the source offers."""
    draws: int = 1
    """Passes over a source with punched holes, each with other holes: one draw is partly luck."""
    seed: int = 0
    """Of the first draw."""
    max_frames: int | None = None
    """Use only the first frames of every source."""
    sensor: str = ''
    """Noise model for contenders that do not set one; by default what the source says."""
    depth: str = ''
    """Depth topic of bags, where it is not to be guessed."""
    reference: str = ''
    """Topic of a bag that holds the true depth."""
    workers: int = max(1, (os.cpu_count() or 1) // 2)
    """Processes that evaluate sources side by side."""
    ray: Annotated[str | None, tyro.conf.arg(metavar='ADDRESS')] = None
    """Evaluate on a Ray cluster: its address, `auto`, or `local` to start one here."""
    fail_if: tuple[str, ...] = ()
    """Conditions such as 'hole.mae_mm>110' that end with exit code 1, for CI; of the last
    contender, or of one by name: 'nearest:hole.mae_mm>110'."""
    json: bool = False
    """Print metrics.json."""

    def run(self) -> int:
        """Evaluate; return 0, or 1 if a condition of `fail_if` holds."""
        if not self.sources:
            raise ValueError('name at least one folder or bag to evaluate')
        for name, value in (('draws', self.draws), ('workers', self.workers)):
            if value < 1:
                raise ValueError(f'--{name} must be at least 1, got {value}')
        if self.max_frames is not None and self.max_frames < 1:
            raise ValueError(f'--max-frames must be at least 1, got {self.max_frames}')
        gates = [Gate.parse(text) for text in self.fail_if]
        jobs = [self._job(path) for path in self.sources]
        for job in jobs:
            contenders_of(job)  # before anything runs for minutes
        console = Console(stderr=True, emoji=False, highlight=False)
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
        console.print(f'{page}, report.md and metrics.json are written')
        failed = [sentence for gate in gates for sentence in gate.failures(results)]
        for sentence in failed:
            console.print(f'[red]failed:[/red] {escape(sentence)}')
        return 1 if failed else 0

    def _job(self, path: Path) -> Job:
        topics = {'depth': self.depth, 'reference': self.reference}
        return Job(
            str(path),
            self.contenders,
            self.protocol,
            self.draws,
            self.seed,
            self.max_frames,
            tuple((port, topic) for port, topic in topics.items() if topic),
            self.sensor,
        )

    def _evaluate(self, jobs: Sequence[Job], console: Console) -> list[dict[str, Any]]:
        finished = workers.Finished(self.report / '.finished')
        results = {job: result for job in jobs if (result := finished.get(job)) is not None}
        if results:
            console.print(f'{len(results)} of {len(jobs)} sources were finished before')
        todo = [job for job in jobs if job not in results]
        bar = Progress(
            TextColumn('evaluate'),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        with bar if console.is_terminal else nullcontext():
            task = bar.add_task('', total=workers.frame_total(todo))

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


def _print(console: Console, source: Mapping[str, Any]) -> None:
    head, rows = report.rows(source)
    table = Table(*head, title=escape(f'{source["name"]} ({source["protocol"]})'))
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)
    for corrupt in source['corrupt']:
        console.print(f'[yellow]frame {escape(corrupt["frame"])} left out[/yellow]: '
                      f'{escape(corrupt["reason"])}')  # fmt: skip
