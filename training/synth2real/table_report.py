"""The table of refiners as text, as curves, and as pictures."""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from depth_refiner_ros.pictures import Panel, depth_scale, draw_text, sheet

from .crops import unnormalized_m
from .domains import depth_of
from .hand_pools import Pool
from .table_cells import THRESHOLDS_PX, Cell
from .table_settings import Settings

CLEAN, REAL = 'clean synthetic', 'real, labelled'


def table(cells: dict[Cell, dict[str, Any]], settings: Settings) -> str:
    """Return the table: mean and standard deviation over seeds of PCK at 5 px, per cent."""
    names = list(dict.fromkeys(cell.learned for cell in cells))
    width = max(len(name) for name in [*names, 'trained on'])
    head = ''.join(f'{f"{t}x ({t * settings.hands})":>18}' for t in settings.times)
    lines = [f'{"trained on":{width}}{head}']
    for name in names:
        row = f'{name:{width}}'
        for times in settings.times:
            mean, spread = mean_and_spread(scores(cells, name, times))
            line = f'{mean:.1f}' + (f' +- {spread:.1f}' if math.isfinite(spread) else '')
            row += f'{line:>18}'
        lines.append(row)
    return '\n'.join(lines)


def scores(cells: dict[Cell, dict[str, Any]], name: str, times: int) -> list[float]:
    """Return PCK at 5 px, per cent, of all seeds."""
    return [
        100 * figures['pck_5px']
        for cell, figures in cells.items()
        if (cell.learned, cell.times) == (name, times)
    ]


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean, and the standard deviation of a sample, NaN if it is one value."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return float(np.mean(values)), spread


_COLORS = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233)
)  # fmt: skip


def curve(cells: dict[Cell, dict[str, Any]], settings: Settings) -> npt.NDArray[np.uint8]:
    """Draw the share of joints against the distance within which they are found, mean of seeds."""
    height, width, left, low, right = 520, 760, 70, 450, 500
    picture = np.full((height, width, 3), 255, np.uint8)
    last = THRESHOLDS_PX[-1]

    def at(px: float, share: float) -> tuple[int, int]:
        return round(left + (right - left) * px / last), round(low - (low - 40) * share)

    for tenth in range(0, 11, 2):
        cv2.line(picture, at(0, tenth / 10), at(last, tenth / 10), (225, 225, 225), 1)
        draw_text(
            picture, f'{10 * tenth} %', (left - 8, at(0, tenth / 10)[1] + 5), size_px=15,
            align='right',
        )  # fmt: skip
    for px in range(0, int(last) + 1, 5):
        cv2.line(picture, at(px, 0), at(px, 1), (225, 225, 225), 1)
        draw_text(picture, f'{px}', (at(px, 0)[0], low + 22), size_px=15, align='center')
    draw_text(picture, 'joints within, px of 224', ((left + right) // 2, low + 50), size_px=16,
              align='center')  # fmt: skip
    names = list(dict.fromkeys(cell.learned for cell in cells))
    for row, (name, times) in enumerate((n, t) for n in names for t in settings.times):
        color = _COLORS[names.index(name) % len(_COLORS)]
        curves = [f['curve'] for c, f in cells.items() if (c.learned, c.times) == (name, times)]
        line = [at(px, s) for px, s in zip(THRESHOLDS_PX, np.mean(curves, 0), strict=True)]
        thick = 1 if times == min(settings.times) else 2
        points = np.array(line, np.int32)
        cv2.polylines(picture, [points], False, color, thick, cv2.LINE_AA)
        y = 50 + 26 * row
        cv2.line(picture, (right + 15, y - 5), (right + 45, y - 5), color, thick, cv2.LINE_AA)
        draw_text(
            picture, f'{name}, {times}x', (right + 52, y), size_px=15,
            width_px=width - right - 60,
        )  # fmt: skip
    return picture


def side_by_side(hands_by_name: dict[str, Pool], rows: int = 4) -> npt.NDArray[np.uint8]:
    """Return hands in a row: synthetic, refined, real; the real ones are others.

    Depth is coloured over its 300 mm; below is the surface lit from the left, which shows single
    millimetres.
    """
    lines = []
    for row in range(rows):
        line = []
        for name, hands in hands_by_name.items():
            depth_m = unnormalized_m(depth_of(hands.counts[row, 0])).numpy()
            known = depth_m[np.isfinite(depth_m)]
            middle = float(np.median(known)) if known.size else 0.0
            color = depth_scale(middle - 0.1, middle + 0.1).paint(depth_m)
            slope = np.diff(depth_m, axis=1, append=np.nan) * (len(depth_m) / 0.3)
            light = 0.5 - 0.5 * slope / np.sqrt(1 + slope * slope)
            grey = np.where(np.isfinite(light), 40 + 215 * np.nan_to_num(light), 0)
            relief = np.repeat(grey.astype(np.uint8)[..., None], 3, 2)
            line.append(Panel(name, np.vstack([color, relief])))
        lines.append(line)
    return sheet(lines, panel_width_px=max(224, depth_m.shape[1]))
