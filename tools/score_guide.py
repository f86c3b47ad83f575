"""Scores what an estimate from colour is worth as a guide for filling holes.

Usage: python tools/score_guide.py [--data FOLDER] [--model NAME_OR_FILE] [--every N]

Holes are those of `score_inpaint`, and ellipses of 50 to 140 px punched into the measurements,
which are then the truth. The guides, but for the first two, are known up to scale and shift:

- none;
- the model's estimate from colour;
- perfect: the truth, up to scale and shift of inverse depth;
- good: the truth with edges moved by some 2 px, blurred by 1.5 px, and scales that wander by 6 %;
- rough: edges moved by 4 px, blurred by 3 px, scales that wander by 12 %;
- wrong: the truth mirrored, that of another scene, the brightness of the picture, smooth noise.

Every cell is the mean absolute error at holes, as a ratio to that without a guide; sizes are the
diameter of the largest circle that a hole holds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
import os
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from score_inpaint import FARTHEST_M, PUNCHED, WITH_REFERENCE, Case, cases

from depth_refiner_ros.filters.alignment import fit_alignment
from depth_refiner_ros.filters.guide import fit_guide
from depth_refiner_ros.filters.inpaint import inpaint
from depth_refiner_ros.inference import Model, load_model

Float32 = npt.NDArray[np.float32]

SETS = (*WITH_REFERENCE, *PUNCHED, 'orbbec_rooms', 'realsense_cell')
SIZES_PX = ((0, 16), (16, 48), (48, 10000))
WRONG = ('mirrored', 'other scene', 'brightness', 'noise')
GUIDES = ('model', 'perfect', 'good', 'rough', *WRONG)
_WIDTH_PX = 640
_FOCAL_PX = 540.0


class _Scene(NamedTuple):
    """A frame with holes, and depth that has none."""

    name: str
    case: Case
    whole_m: Float32


def scenes(data: Path, every: int) -> list[_Scene]:
    """Return every so-manieth frame of the recordings, once with their holes and once punched."""
    rng = np.random.default_rng(0)
    found = []
    for name in SETS:
        if not (data / name).is_dir():
            print(f'no {name} under {data}')
            continue
        for number, case in enumerate(cases(data / name, 1)):
            if number % every:
                continue
            measured_m = case.depth_m if name in WITH_REFERENCE else case.truth_m
            hole = np.zeros(measured_m.shape, np.uint8)
            for _ in range(5):
                center = tuple(int(rng.integers(side)) for side in measured_m.shape[::-1])
                axes = tuple(int(radius) for radius in rng.integers(25, 70, 2))
                cv2.ellipse(hole, center, axes, float(rng.integers(180)), 0, 360, 1, -1)
            punched_m = np.where(hole > 0, np.float32(np.nan), measured_m)
            scored = (hole > 0) & (measured_m < FARTHEST_M)
            known_m = np.where(np.isnan(measured_m), case.truth_m, measured_m)
            whole_m = inpaint(known_m, max_hole_px=0, max_distance_m=0).depth_m
            found.append(_Scene(name, case, whole_m))
            punched = Case(punched_m, measured_m, scored, case.color)
            found.append(_Scene(name, punched, whole_m))
    return found


def widths(hole: npt.NDArray[np.bool_]) -> Float32:
    """Return the diameter of the largest circle in the hole that every pixel belongs to, px."""
    count, labels = cv2.connectedComponents(hole.astype(np.uint8))
    away_px = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 5)
    widest = np.zeros(count, np.float32)
    np.maximum.at(widest, labels.ravel(), np.asarray(away_px, np.float32).ravel())
    return 2 * widest[labels]


def estimates(
    scene: _Scene, other_m: Float32, model: Model, rng: np.random.Generator
) -> Iterator[tuple[str, Float32]]:
    """Yield all guides of a scene by name, in units of their own."""
    truth = 1 / scene.whole_m
    shape = height, width = truth.shape

    def wandering(rows: int = 5, columns: int = 6) -> Float32:
        small = rng.normal(size=(rows, columns)).astype(np.float32)
        return np.asarray(
            cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.float32
        )

    yield 'model', _estimated(scene.case.color, model)
    yield 'perfect', _relative(truth)
    rows, columns = np.indices(shape, np.float32)
    for name, moved_px, blurred_px, wanders in (('good', 2, 1.5, 0.06), ('rough', 4, 3.0, 0.12)):
        across, down = columns + moved_px * wandering(), rows + moved_px * wandering()
        moved = cv2.remap(truth, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        scaled = cv2.GaussianBlur(moved, (0, 0), blurred_px) * np.exp(wanders * wandering())
        yield name, _relative(np.asarray(scaled, np.float32))
    yield 'mirrored', _relative(truth[:, ::-1])
    yield 'other scene', _relative(1 / other_m)
    grey = cv2.GaussianBlur(scene.case.color, (0, 0), 2).mean(2) / 255
    yield 'brightness', _relative(np.asarray(grey, np.float32))
    yield 'noise', _relative(np.exp(0.4 * wandering(8, 10)))


def _relative(inverse: Float32) -> Float32:
    """Return depth whose inverse has another scale and shift."""
    return (1 / (0.3 * inverse + 0.05)).astype(np.float32)


def _estimated(color: npt.NDArray[np.uint8], model: Model) -> Float32:
    height, width = color.shape[:2]
    size = _WIDTH_PX, round(height * _WIDTH_PX / width)
    seen = np.asarray(cv2.resize(color, size, interpolation=cv2.INTER_AREA), np.uint8)
    intrinsics = np.array([_FOCAL_PX, _FOCAL_PX, size[0] / 2, size[1] / 2], np.float32)
    estimate_m = model(color=seen, intrinsics=intrinsics)['estimate_m']
    grown = cv2.resize(estimate_m, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(grown, np.float32)


def main() -> None:
    """Print the table, of all sets and then of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).parents[2] / 'shared' / 'data'
    parser.add_argument('--data', type=Path, default=os.environ.get('DEPTH_REFINER_DATA', default))
    parser.add_argument('--model', default='mono_base', help='shipped model or .onnx file')
    parser.add_argument('--every', type=int, default=3, help='take every so-manieth frame')
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    total: dict[tuple[str, str, int], tuple[float, int]] = {}

    def add(scene: _Scene, guide: str, filled_m: Float32, width_px: Float32) -> None:
        case = scene.case
        for number, (low, high) in enumerate(SIZES_PX):
            scored = case.scored & (width_px >= low) & (width_px < high)
            off_m = np.abs(filled_m[scored] - case.truth_m[scored])
            for name in ('all', scene.name):
                error_m, count = total.get((name, guide, number), (0.0, 0))
                total[name, guide, number] = error_m + float(off_m.sum()), count + off_m.size

    found = scenes(arguments.data, arguments.every)
    for number, scene in enumerate(found):
        depth_m, rgb = scene.case.depth_m, scene.case.color
        width_px = widths(np.isnan(depth_m))
        plain_m = inpaint(depth_m, color=rgb, max_hole_px=0, max_distance_m=0).depth_m
        add(scene, 'none', plain_m, width_px)
        others = [
            other.whole_m
            for other in found
            if other.name != scene.name and other.whole_m.shape == depth_m.shape
        ] or [scene.whole_m[::-1]]
        rng = np.random.default_rng(number)
        other_m = others[int(rng.integers(len(others)))]
        for name, estimate in estimates(scene, other_m, model, rng):
            kind = 'none' if name == 'model' else 'affine_inverse'
            alignment = fit_alignment(estimate, depth_m, kind)
            guide = fit_guide(alignment(estimate), depth_m) if alignment else None
            filled_m = plain_m
            if guide is not None:
                filled_m = inpaint(
                    depth_m, color=rgb, guide=guide, max_hole_px=0, max_distance_m=0
                ).depth_m
            add(scene, name, filled_m, width_px)
    _print(total, arguments.model)


def _print(total: Mapping[tuple[str, str, int], tuple[float, int]], model: str) -> None:
    columns = ['recordings', 'holes, px', 'pixels', 'mm', model, *GUIDES[1:]]
    print('| ' + ' | '.join(columns) + ' |')
    print('|' + ' --- |' * len(columns))
    for name in dict.fromkeys(key[0] for key in total):
        for number, (low, high) in enumerate(SIZES_PX):
            error_m, count = total[name, 'none', number]
            if not count:
                continue
            size = f'{low} to {high}' if high < 10000 else f'over {low}'
            cells = [name, size, f'{count}', f'{1e3 * error_m / count:.1f}']
            cells += [f'{total[name, guide, number][0] / error_m:.3f}' for guide in GUIDES]
            print('| ' + ' | '.join(cells) + ' |', flush=True)


if __name__ == '__main__':
    main()
