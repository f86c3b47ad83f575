"""Turns evaluations into what people read: JSON, a Markdown table, and a page with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import math
import os
from pathlib import Path
import platform
from typing import Any, NamedTuple

import cv2
import numpy as np

from .. import pictures
from ..data import Float32Array, UInt8Array
from ..metrics import BinnedErrors
from ..parameters import parameter_values
from ..pictures import Panel, Picture, Section, Table
from . import downstream
from .machine import cpu_model, git, installed
from .protocols import FARTHEST_SCORED_M
from .run import Contender, Evaluation, Shown, headline, rerun, shown_frames

SCHEMA = 1
"""Version of the layout of metrics.json; changes when a reader would have to."""


class Column(NamedTuple):
    """A column of the tables.

    Attributes:
        head: Its title on a page.
        short: Its title in a terminal, where every letter counts.
        meaning: What it says.
    """

    head: str
    short: str
    meaning: str


COLUMNS = {
    'hole.mae_mm': Column(
        'holes, mm', 'hole mm', 'mean absolute error where the sensor saw nothing'
    ),
    'hole.delta_1_05': Column(
        'holes within 5 %',
        'hole <5%',
        'share of the filled hole pixels whose depth is the truth within a factor of 1.05; '
        'unfilled ones do not count here but in the next column',
    ),
    'hole.coverage': Column('holes filled', 'hole fill', 'share of the hole pixels with a depth'),
    'observed.mae_mm': Column(
        'observed, mm', 'seen mm', 'mean absolute error where the sensor measured'
    ),
    'edge.mae_mm': Column(
        'edges, mm', 'edge mm', 'mean absolute error within 3 pixels of a jump in depth'
    ),
    'boundary_f1': Column(
        'boundary F1', 'edge F1', 'agreement on where a foreground ends (Depth Pro), 1 is best'
    ),
    'flying_pixel_rate': Column(
        'flying', 'fly', 'share of the pixels that hang between two surfaces'
    ),
    'flicker_mm': Column(
        'flicker, mm', 'flick mm', 'mean change from frame to frame where nothing moves'
    ),
    'hole.stddev.within_1_sigma': Column(
        'within 1 sigma',
        'in 1σ',
        'share of the errors in holes within the published standard deviation; 0.68 is right',
    ),
    'latency_p50_ms': Column('ms a frame', 'time ms', 'median time of a frame on this machine'),
}
"""What the tables show, by metric."""

_MOST_NAMED = 5  # corrupt frames; metrics.json has all
_PROTOCOLS = {
    'reference': 'Compared with the reference depth that the source holds.',
    'static': 'Nothing moves: compared with the temporal median of the other frames.',
    'later': 'Compared with the median of later frames, each aligned with the one judged.',
    'punched': (
        'No reference: the holes of other frames are cut into the measurements, which are then '
        'the truth. It says how well holes are filled, nothing about noise.'
    ),
}


def environment() -> dict[str, Any]:
    """Return what was run where: commit, versions and machine."""
    versions = {'python': platform.python_version()}
    versions |= {
        name: installed(name) or 'not installed' for name in ('depth_refiner_ros', 'rosbags')
    }
    # OpenCV goes by several names, and its inpainting differs between versions.
    versions |= {'numpy': np.__version__, 'opencv': cv2.__version__}
    return {
        'commit': git('describe', '--always', '--dirty', '--abbrev=12') or '',
        'versions': versions,
        'machine': {
            'system': platform.platform(),
            'processor': cpu_model(),
            'cores': os.cpu_count(),
        },
    }


# ------------------------------------------------------------------------------------ JSON


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as plain data for metrics.json; undefined figures are None."""
    return {
        'name': evaluation.name,
        'path': evaluation.job.path,
        'protocol': evaluation.protocol,
        'note': evaluation.note,
        'draws': evaluation.draws,
        'seed': evaluation.job.seed,
        'frames': evaluation.frame_count,
        'scored': evaluation.scored_count,
        'corrupt': [{'frame': name, 'reason': reason} for name, reason in evaluation.corrupt],
        'contenders': {c.name: _contender(c, evaluation) for c in evaluation.contenders},
    }


def _contender(c: Contender, evaluation: Evaluation) -> dict[str, Any]:
    scores = evaluation.scores[c.name]
    times_ms = np.array(scores.frame_ms or [1.0])
    edges_ms = np.geomspace(0.999 * times_ms.min(), 1.001 * times_ms.max(), 21)
    counts, _ = np.histogram(times_ms, edges_ms)
    return {
        'stages': list(c.pipeline.stage_types),
        'parameters': parameter_values(c.parameters),
        'metrics': _plain(scores.metrics()),
        'by_distance': _bins(scores.distance, 'm'),
        'by_hole_depth': _bins(scores.hole_size, 'px'),
        'latency': {'edges_ms': edges_ms.round(4).tolist(), 'counts': counts.tolist()},
        'by_frame': {name: _plain(figures) for name, figures in scores.frames.items()},
    }


def _plain(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(v) if math.isfinite(v) else None for name, v in figures.items()}


def _bins(binned: BinnedErrors | None, unit: str) -> list[dict[str, Any]]:
    if binned is None:
        return []
    rows = []
    for low, high, errors in zip(binned.edges, binned.edges[1:], binned.bins, strict=False):
        figures = _plain(errors.metrics())
        rows.append(
            {
                f'from_{unit}': low,
                f'to_{unit}': high if math.isfinite(high) else None,
                'count': errors.reference_count,
                'mae_mm': figures['mae_mm'],
                'delta_1_05': figures['delta_1_05'],
            }
        )
    return rows


# ------------------------------------------------------------------------------ tables


def _cell(metric: str, value: float | None) -> str:
    if value is None:
        return '-'
    if metric.endswith(('_mm', '_ms')):
        return f'{value:.1f}'
    return f'{value:.3f}'


def shown_columns(source: Mapping[str, Any]) -> dict[str, Column]:
    """Return the columns of a source's table: those that some contender has a figure for."""
    metrics = [c['metrics'] for c in source['contenders'].values()]
    return {
        name: column
        for name, column in COLUMNS.items()
        if any(m.get(name) is not None for m in metrics)
    }


def rows(source: Mapping[str, Any], *, short: bool = False) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a source's table, with short titles if wanted."""
    contenders = source['contenders']
    columns = shown_columns(source)
    head = ['', *((c.short if short else c.head) for c in columns.values())]
    cells = [
        [name, *(_cell(metric, c['metrics'].get(metric)) for metric in columns)]
        for name, c in contenders.items()
    ]
    return head, cells


def caption(source: Mapping[str, Any]) -> str:
    """Return what a source was compared with, and how much of it."""
    times = f', {source["draws"]} times' if source['draws'] > 1 else ''
    frames = f'{source["scored"]} of {source["frames"]} frames scored{times}'
    return f'{_PROTOCOLS[source["protocol"]]} {frames}.'


def legend() -> list[str]:
    """Return a sentence for every column, saying what it means."""
    return [f'{column.head}: {column.meaning}.' for column in COLUMNS.values()]


def left_out(source: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each of the first frames that could not be used."""
    corrupt = source['corrupt']
    notes = [f'Frame {c["frame"]} left out: {c["reason"]}' for c in corrupt[:_MOST_NAMED]]
    if len(corrupt) > _MOST_NAMED:
        notes.append(f'{len(corrupt) - _MOST_NAMED} more are left out; metrics.json names them.')
    return notes


def markdown(sources: Sequence[Mapping[str, Any]]) -> str:
    """Return Markdown tables for pasting, one a source."""
    parts = []
    for source in sources:
        head, cells = rows(source)
        parts.append(f'### {source["name"]}\n\n{caption(source)}')
        if source['note']:
            parts.append(f'Note: {source["note"]}')
        parts.append(_markdown(head, cells))
        parts += left_out(source)
        if scores := source.get('downstream'):
            parts.append('What a robot gains: odometry and fusion with this depth.')
            parts.append(_markdown(*downstream.table(scores)))
            parts += _downstream_notes(scores)
    parts.append('\n'.join(f'- {sentence}' for sentence in legend()))
    return '\n\n'.join(parts) + '\n'


def _markdown(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    lines = [head, ['---'] * len(head), *cells]
    escaped = [[cell.replace('|', '\\|') for cell in line] for line in lines]
    return '\n'.join(f'| {" | ".join(line)} |' for line in escaped)


def _downstream_notes(scores: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(score['note'] for score in scores.values() if score['note']))


def _downstream(source: Mapping[str, Any]) -> list[str | Table | Picture]:
    scores = source.get('downstream')
    if not scores:
        return []
    head, cells = downstream.table(scores)
    words = (
        'What a robot gains: frame-to-frame odometry against the recorded poses (ATE, RPE), and a '
        'map fused along them: distance of its vertices to the planes they lie on, and how much '
        'of what the references show it covers, shows correctly, or shows too near.'
    )
    return [words, Table(head, cells), *_downstream_notes(scores)]


# ----------------------------------------------------------------------------- pictures

_ERROR_LIMIT_MM = 100


def draw(evaluation: Evaluation, folder: Path) -> dict[str, str]:
    """Draw the best, the median and the worst frame of the last contender.

    Returns:
        Name of the written PNG, by title.
    """
    last = evaluation.contenders[-1]
    picked = shown_frames(evaluation)
    shown = rerun(evaluation.job, list(picked.values()), [last])
    written = {}
    for title, frame in picked.items():
        if frame in shown:
            name = f'{evaluation.name.replace("/", "-")}-{title}.png'
            region, error_mm = headline(evaluation.scores[last.name].frames[frame])
            words = f'{title}: frame {frame}, {region} {error_mm:.0f} mm'
            pictures.write_png(folder / name, _frame_sheet(shown[frame], last.name, words))
            written[title] = name
    return written


def _frame_sheet(shown: Shown, name: str, title: str) -> UInt8Array:
    output, truth_m = shown.outputs[name], shown.truth_m
    raw_m = shown.case.values['depth'].depth_m
    scored_m = np.where(shown.scored, truth_m, np.float32(np.nan))
    near_m, far_m = _range_m(truth_m)
    depth, error = pictures.depth_scale(near_m, far_m), pictures.error_scale(_ERROR_LIMIT_MM)
    color = shown.case.values.get('color')
    before_mm, after_mm = 1e3 * (raw_m - scored_m), 1e3 * (output.depth_m - scored_m)
    top = [
        Panel('fed to the contenders', depth.paint(raw_m), depth),
        Panel(name, depth.paint(output.depth_m), depth),
        Panel('truth', depth.paint(truth_m), depth),
    ]
    bottom = [Panel('error after', error.paint(after_mm), error)]
    if np.isfinite(before_mm).any():  # punched holes have no measurement to be wrong
        bottom.insert(0, Panel('error before', error.paint(before_mm), error))
    if output.provenance is not None:
        provenance = pictures.paint_provenance(output.provenance)
        bottom.append(
            Panel('provenance', provenance, pictures.provenance_legend(output.provenance))
        )
    if output.stddev_m is not None:
        stddev = pictures.stddev_scale(_ERROR_LIMIT_MM)
        bottom.append(Panel('standard deviation', stddev.paint(1e3 * output.stddev_m), stddev))
    if color is not None:
        top.append(Panel('colour', color.rgb))
    return pictures.sheet([top, bottom], panel_width_px=360, title=title)


def _range_m(depth_m: Float32Array) -> tuple[float, float]:
    known = depth_m[np.isfinite(depth_m)]
    if not known.size:
        return 0.0, 1.0
    near_m, far_m = np.percentile(known, [1, 99])
    return float(near_m), float(max(far_m, near_m + 0.1))


_FEWEST_PIXELS = 50


def _plots(source: Mapping[str, Any]) -> list[Picture | str]:
    """Draw error against distance and hole depth, and latency, if matplotlib is there."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
        from matplotlib.ticker import LogLocator
    except ModuleNotFoundError:
        return ['For plots: pip install "depth_refiner_ros[evaluate]"']
    names = list(source['contenders'])
    colors = {name: f'C{i % 10}' for i, name in enumerate(names)} | {names[-1]: 'black'}
    figure = Figure(figsize=(13, 4.2), dpi=100, layout='constrained')
    moving = _by_flow(source)
    distance, holes, latency, *more = figure.subplots(1, 4 if moving else 3)
    for axis in more:
        for name, points in moving.items():
            axis.scatter(*zip(*points, strict=True), s=14, color=colors[name])
        axis.set(xlabel='motion of the view, px a frame', ylabel='measured pixels, mm')
        axis.set(title='error against speed, by frame', ylim=(0, None))
        axis.grid(alpha=0.3)
    for axis, key, unit in ((distance, 'by_distance', 'm'), (holes, 'by_hole_depth', 'px')):
        for name, c in source['contenders'].items():
            points = [
                (b[f'from_{unit}'], b['mae_mm'])
                for b in c[key]
                if b['mae_mm'] is not None and b['count'] >= _FEWEST_PIXELS
            ]
            if points:
                style = '-' if name == names[-1] else '--'
                axis.plot(*zip(*points, strict=True), style, color=colors[name], marker='.')
        axis.set(ylabel='mean absolute error, mm', yscale='log')
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter('{x:g}')
        axis.yaxis.set_minor_formatter('')
        axis.grid(alpha=0.3, which='both')
    distance.set(xlabel='truth from this distance on, m', title='error against distance')
    holes.set(xscale='log', xlabel='to the nearest measurement, from this many px on')
    holes.set(title='error against hole size')
    holes.set_xticks([2**i for i in range(7)], minor=False)
    holes.xaxis.set_major_formatter('{x:g}')
    holes.xaxis.set_minor_formatter('')
    # One row a contender: many histograms on one axis hide each other.
    for row, (name, c) in enumerate(source['contenders'].items()):
        counts = np.array(c['latency']['counts'], float)
        tops = row - 0.8 * counts / max(counts.max(), 1)
        latency.stairs(tops, c['latency']['edges_ms'], baseline=row, fill=True, color=colors[name])
    latency.set(xscale='log', xlabel='ms a frame', title='frames by latency')
    latency.set_yticks(range(len(names)), names, fontsize=8)
    latency.set_ylim(len(names) - 0.8, -1)
    latency.grid(alpha=0.3, axis='x')
    lines = [Line2D([], [], color=colors[n], ls='-' if n == names[-1] else '--') for n in names]
    figure.legend(lines, names, loc='outside lower center', ncols=min(len(names), 5), fontsize=8)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    rgb = np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
    words = (
        'Mean absolute error against the distance of the truth and against how far a hole '
        f'pixel lies from the nearest measurement, in bins of {_FEWEST_PIXELS} pixels or '
        'more; how often a frame took how long.'
    )
    if moving:
        words += ' Right: every scored frame, by how fast the camera moved.'
    return [Picture(rgb, words, lossless=True)]


def _by_flow(source: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """Return motion and error of every frame by contender, if the camera moved."""
    found = {
        name: [
            (figures['flow_px'], figures['observed.mae_mm'])
            for figures in c['by_frame'].values()
            if figures.get('flow_px') is not None and figures['observed.mae_mm'] is not None
        ]
        for name, c in source['contenders'].items()
    }
    return {name: points for name, points in found.items() if points}


# ---------------------------------------------------------------------------------- page


def write_page(path: Path, sources: Sequence[Mapping[str, Any]], ran: Mapping[str, Any]) -> None:
    """Write the page: a table, plots and pictures for every source.

    Raises:
        OSError: If it cannot be written.
    """
    machine = ran['machine']
    sections = [
        Section(
            'What this is',
            [
                'Every contender saw the same frames in the same run. Errors are of depth whose '
                f'truth is below {FARTHEST_SCORED_M:g} m. Latencies are those of this machine '
                'while it did this, good for comparing lines of one table.',
                f'Commit {ran["commit"] or "unknown"}, {machine["processor"]}, '
                f'{machine["cores"]} cores.',
            ],
        )
    ]
    for source in sources:
        head, cells = rows(source)
        blocks: list[str | Table | Picture] = [caption(source)]
        if source['note']:
            blocks.append(f'Note: {source["note"]}')
        blocks.append(Table(head, cells))
        blocks += left_out(source)
        blocks += _plots(source)
        last = list(source['contenders'])[-1]
        for title, name in source.get('pictures', {}).items():
            words = f'The {title} scored frame of {last}. Blue is too near, red too far.'
            blocks.append(Picture(pictures.read_png(path.parent / name), words))
        blocks += _downstream(source)
        sections.append(Section(source['name'], blocks))
    sections.append(Section('How to read the columns', legend()))
    pictures.write_page(path, 'Depth evaluation', sections)
