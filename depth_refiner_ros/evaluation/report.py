"""Turns evaluations into what people read: JSON, a Markdown table, and a page with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
import math
import os
from pathlib import Path
import platform
import subprocess
from typing import Any

import cv2
import numpy as np

from .. import pictures
from ..data import Float32Array, UInt8Array
from ..metrics import BinnedErrors
from ..pictures import Panel, Picture, Section, Table
from ..stage import parameter_values
from .run import Contender, Evaluation, Shown, rerun, shown_frames

SCHEMA = 1
"""Version of the layout of metrics.json; changes when a reader would have to."""

_COLUMNS = {
    'hole.mae_mm': 'holes, mm',
    'hole.delta_1_05': 'holes within 5 %',
    'hole.coverage': 'holes filled',
    'observed.mae_mm': 'observed, mm',
    'edge.mae_mm': 'edges, mm',
    'boundary_f1': 'boundary F1',
    'flying_pixel_rate': 'flying',
    'flicker_mm': 'flicker, mm',
    'hole.stddev.within_1_sigma': 'within 1 sigma',
    'latency_p50_ms': 'ms a frame',
}
_PROTOCOLS = {
    'reference': 'Compared with the reference depth that the source holds.',
    'static': 'Nothing moves: compared with the temporal median of the other frames.',
    'punched': (
        'No reference: the holes of other frames are cut into the measurements, which are then '
        'the truth. It says how well holes are filled, nothing about noise.'
    ),
}


def environment() -> dict[str, Any]:
    """Return what was run where: commit, versions and machine."""
    root = Path(__file__).resolve().parents[2]
    git = subprocess.run(
        ['git', '-C', str(root), 'describe', '--always', '--dirty', '--abbrev=12'],
        capture_output=True,
        text=True,
        check=False,
    )
    versions = {'python': platform.python_version()}
    versions |= {name: _version(name) for name in ('depth_refiner_ros', 'rosbags')}
    # OpenCV goes by several names, and its inpainting differs between versions.
    versions |= {'numpy': np.__version__, 'opencv': cv2.__version__}
    return {
        'commit': git.stdout.strip() if git.returncode == 0 else '',
        'versions': versions,
        'machine': {
            'system': platform.platform(),
            'processor': _processor(),
            'cores': os.cpu_count(),
        },
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return 'not installed'


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor()


# ------------------------------------------------------------------------------------ JSON


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as plain data for metrics.json; undefined figures are None."""
    return {
        'name': evaluation.name,
        'path': evaluation.job.path,
        'protocol': evaluation.protocol,
        'note': evaluation.note,
        'draws': evaluation.job.draws if evaluation.protocol == 'punched' else 1,
        'seed': evaluation.job.seed,
        'frames': evaluation.frame_count,
        'scored': evaluation.scored_count,
        'corrupt': [{'frame': name, 'reason': reason} for name, reason in evaluation.corrupt],
        'contenders': {c.name: _contender(c, evaluation) for c in evaluation.contenders},
    }


def _contender(c: Contender, evaluation: Evaluation) -> dict[str, Any]:
    scores = evaluation.scores[c.name]
    counts, edges_ms = np.histogram(scores.frame_ms or [0.0], bins=20)
    return {
        'stages': list(c.pipeline.stage_types),
        'parameters': parameter_values(c.parameters),
        'metrics': _plain(scores.metrics()),
        'by_distance': _bins(scores.distance, 'm'),
        'by_hole_depth': _bins(scores.hole_size, 'px'),
        'latency': {'edges_ms': edges_ms.round(3).tolist(), 'counts': counts.tolist()},
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


def rows(source: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a source's table, without columns that nobody fills."""
    contenders = source['contenders']
    columns = [
        metric
        for metric in _COLUMNS
        if any(c['metrics'].get(metric) is not None for c in contenders.values())
    ]
    head = ['', *(_COLUMNS[metric] for metric in columns)]
    cells = [
        [name, *(_cell(metric, c['metrics'].get(metric)) for metric in columns)]
        for name, c in contenders.items()
    ]
    return head, cells


def _caption(source: Mapping[str, Any]) -> str:
    frames = f'{source["scored"]} of {source["frames"]} frames scored'
    return f'{_PROTOCOLS[source["protocol"]]} {frames}.'


def markdown(sources: Sequence[Mapping[str, Any]]) -> str:
    """Return Markdown tables for pasting, one a source."""
    parts = []
    for source in sources:
        head, cells = rows(source)
        lines = [head, ['---'] * len(head), *cells]
        parts.append(f'### {source["name"]}\n\n{_caption(source)}')
        if source['note']:
            parts.append(f'Note: {source["note"]}')
        parts.append('\n'.join(f'| {" | ".join(line)} |' for line in lines))
        parts += [f'Frame {c["frame"]} left out: {c["reason"]}' for c in source['corrupt']]
    return '\n\n'.join(parts) + '\n'


# ----------------------------------------------------------------------------- pictures


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
            name = f'{evaluation.name}-{title}.png'
            figures = evaluation.scores[last.name].frames[frame]
            error = figures['hole.mae_mm']
            region = 'holes'
            if not math.isfinite(error):
                error, region = figures['observed.mae_mm'], 'observed'
            headline = f'{title}: frame {frame}, {region} {error:.0f} mm'
            rgb = _frame_sheet(shown[frame], last.name, headline)
            pictures.write_png(folder / name, rgb)
            written[title] = name
    return written


def _frame_sheet(shown: Shown, name: str, headline: str) -> UInt8Array:
    output, truth_m = shown.outputs[name], shown.truth_m
    raw_m = shown.case.values['depth'].depth_m
    scored = np.where(shown.scored, truth_m, np.float32(np.nan))
    near_m, far_m = _range_m(truth_m)
    depth, error = pictures.depth_scale(near_m, far_m), pictures.error_scale(100)
    color = shown.case.values.get('color')
    rows = [
        [
            Panel('fed to the contenders', depth.paint(raw_m), depth),
            Panel(name, depth.paint(output.depth_m), depth),
            Panel('truth', depth.paint(truth_m), depth),
        ],
        [
            Panel('error before', error.paint(1e3 * (raw_m - scored)), error),
            Panel('error after', error.paint(1e3 * (output.depth_m - scored)), error),
        ],
    ]
    if output.provenance is not None:
        provenance = pictures.paint_provenance(output.provenance)
        rows[1].append(Panel('provenance', provenance, pictures.PROVENANCE_LEGEND))
    last = []
    if color is not None:
        last.append(Panel('colour', color.rgb))
    if output.stddev_m is not None:
        stddev = pictures.stddev_scale(100)
        last.append(Panel('standard deviation', stddev.paint(1e3 * output.stddev_m), stddev))
    return pictures.sheet([*rows, last] if last else rows, panel_width_px=400, title=headline)


def _range_m(depth_m: Float32Array) -> tuple[float, float]:
    known = depth_m[np.isfinite(depth_m)]
    if not known.size:
        return 0.0, 1.0
    near_m, far_m = np.percentile(known, [1, 99])
    return float(near_m), float(max(far_m, near_m + 0.1))


def _plots(source: Mapping[str, Any]) -> list[Picture | str]:
    """Draw error against distance and hole depth, and latency, if matplotlib is there."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return ['For plots: pip install "depth_refiner_ros[evaluate]"']
    drawn: list[Picture | str] = []
    axes = (
        ('by_distance', 'm', 'distance, m', 'error against distance'),
        ('by_hole_depth', 'px', 'distance to the nearest measurement, px', 'error against holes'),
    )
    figure = Figure(figsize=(13, 3.6), dpi=100, layout='constrained')
    panels = figure.subplots(1, 3)
    for axis, (key, unit, label, title) in zip(panels, axes, strict=False):
        for name, c in source['contenders'].items():
            points = [
                (b[f'from_{unit}'], b['mae_mm'])
                for b in c[key]
                if b['mae_mm'] is not None and b['count'] > 50
            ]
            if points:
                axis.plot(*zip(*points, strict=True), marker='.', label=name)
        axis.set(xlabel=label, ylabel='mean absolute error, mm', title=title)
        axis.grid(alpha=0.3)
        if unit == 'px':
            axis.set_xscale('log')
    for name, c in source['contenders'].items():
        edges_ms = np.array(c['latency']['edges_ms'])
        panels[2].stairs(c['latency']['counts'], edges_ms, label=name)
    panels[2].set(xlabel='ms a frame', ylabel='frames', title='latency', xscale='log')
    panels[2].legend(fontsize=7)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    rgb = np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
    drawn.append(Picture(rgb))
    return drawn


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
                'Every contender saw the same frames in the same run. Errors are of depth below '
                '4 m; "within 5 %" is the ratio of depths within 1.05. Latencies are those of '
                'this machine while it did this, good for comparing lines of one table.',
                f'Commit {ran["commit"] or "unknown"}, {machine["processor"]}, '
                f'{machine["cores"]} cores.',
            ],
        )
    ]
    for source in sources:
        head, cells = rows(source)
        blocks: list[str | Table | Picture] = [_caption(source)]
        if source['note']:
            blocks.append(f'Note: {source["note"]}')
        blocks.append(Table(head, cells))
        blocks += [f'Frame {c["frame"]} left out: {c["reason"]}' for c in source['corrupt']]
        blocks += _plots(source)
        for name in source.get('pictures', {}).values():
            blocks.append(Picture(pictures.read_png(path.parent / name)))
        sections.append(Section(source['name'], blocks))
    pictures.write_page(path, 'Depth evaluation', sections)
