"""Scores the filters of `refine_depth` on recordings and on simulated noise of known size.

    python tools/score_refine.py [--data FOLDER] [--only xtion kitchen simulated ...]

Every error is a mean absolute one in millimetres over pixels that the camera observed and the
reference covers, depth below 4 m. A pixel removed as flying is scored after filling it with its
nearest measurement. 'f' stands for flying pixels, 't' for temporal, 's' for spatial, in the order
they are applied; 'S' removes the disparity staircase too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import json
import os
from pathlib import Path
import sys
import time
import warnings

import cv2
import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from depth_refiner_ros.counts import metres_from_counts  # noqa: E402
from depth_refiner_ros.filters.denoise import smooth  # noqa: E402
from depth_refiner_ros.filters.flying_pixels import flying_pixels  # noqa: E402
from depth_refiner_ros.filters.noise import (  # noqa: E402
    KINECT_V1_BASELINE_M,
    KINECT_V1_FOCAL_PX,
    SENSORS,
    SensorNoise,
)
from depth_refiner_ros.filters.temporal import TemporalFilter  # noqa: E402

Depth = npt.NDArray[np.float32]
FRAME_NS = 33_333_333
FARTHEST_SCORED_M = 4.0


def read(folder: Path) -> dict[str, Depth]:
    """Depth images in metres by frame number, NaN where there is no return."""
    unit_m = json.loads((folder.parent / 'camera.json').read_text())['depth_unit_m']
    frames = {}
    for path in sorted(folder.glob('*.png')):
        frames[path.stem] = metres_from_counts(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), unit_m)
    return frames


def focal_px(folder: Path) -> float:
    return float(json.loads((folder / 'camera.json').read_text())['fx'])


def refine(
    frames: list[Depth], noise: SensorNoise, fx: float, order: str
) -> Iterator[tuple[Depth, Depth]]:
    """Depth and standard deviation of every frame, the stages applied in `order`."""
    temporal = TemporalFilter()
    for index, raw in enumerate(frames):
        depth, stddev = raw, noise.stddev_m(raw, fx)
        floor, step = noise.floor_m(raw, fx), noise.quantization_m(raw, fx)
        for stage in order:
            if stage == 'f':
                depth = depth.copy()
                depth[flying_pixels(depth, stddev)] = np.nan
            elif stage == 't':
                depth, stddev = temporal(
                    depth, stddev, index * FRAME_NS, floor_m=floor, quantization_m=step
                )
            else:
                depth, stddev = smooth(
                    depth,
                    stddev,
                    correlation_px=noise.correlation_px,
                    floor_m=floor if stage == 's' else None,
                    quantization_m=step if stage == 's' else None,
                )
        yield depth, stddev


def fill_nearest(depth: Depth) -> Depth:
    hole = np.isnan(depth)
    if not hole.any():
        return depth
    _, label = cv2.distanceTransformWithLabels(
        hole.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.zeros(label.max() + 1, np.float32)
    nearest[label[~hole]] = depth[~hole]
    return nearest[label]


def error_mm(depth: Depth, reference: Depth, scored: npt.NDArray[np.bool_]) -> float:
    return float(1000 * np.abs(fill_nearest(depth) - reference)[scored].mean())


def score_static(data: Path) -> None:
    folder = data / 'xtion_static_1'
    frames = list(read(folder / 'depth').values())
    static = cv2.imread(str(folder / 'static_mask.png'), cv2.IMREAD_UNCHANGED) > 0
    stack = np.stack(frames)
    references = [np.nanmedian(np.delete(stack, i, 0), 0) for i in range(len(frames))]
    scored = [
        static & np.isfinite(raw) & (reference < FARTHEST_SCORED_M)
        for raw, reference in zip(frames, references, strict=True)
    ]
    print('xtion_static_1: reference = temporal median of the other 14 frames')
    print('order   all frames   from 5th   from 5th, removed left out   flicker from 5th')
    for order in ('', 'f', 's', 'fs', 'S', 't', 'ft', 'fts', 'fst', 'ftS'):
        errors, kept_errors, flicker = [], [], []
        previous = None
        for index, (depth, _) in enumerate(
            refine(frames, SENSORS['kinect_v1'], focal_px(folder), order)
        ):
            errors.append(error_mm(depth, references[index], scored[index]))
            kept = scored[index] & np.isfinite(depth)
            kept_errors.append(error_mm(depth, references[index], kept))
            if previous is not None:
                both = static & np.isfinite(depth) & np.isfinite(previous)
                flicker.append(1000 * np.abs(depth - previous)[both].mean())
            previous = depth
        print(
            f'{order or "raw":5} {np.mean(errors):12.2f} {np.mean(errors[4:]):10.2f} '
            f'{np.mean(kept_errors[4:]):28.2f} {np.mean(flicker[3:]):18.2f}'
        )


def score_moving(data: Path) -> None:
    folder = data / 'kinect_v1_kitchen'
    frames = read(folder / 'depth')
    references = read(folder / 'reference')
    print('kinect_v1_kitchen: 300 frames in order, scored on the 27 with a reference')
    print('order        all    worse frames   pixels > 20 mm worse / better than raw')
    raw_errors: list[float] = []
    for order in ('', 'f', 's', 'fs', 't', 'ft', 'fts', 'fst', 'S', 'ftS'):
        errors, worse, better = [], 0, 0
        for (name, raw), (depth, _) in zip(
            frames.items(),
            refine(list(frames.values()), SENSORS['kinect_v1'], focal_px(folder), order),
            strict=True,
        ):
            if name in references:
                reference = references[name]
                scored = np.isfinite(raw) & (reference < FARTHEST_SCORED_M)
                errors.append(error_mm(depth, reference, scored))
                change = np.abs(fill_nearest(depth) - reference) - np.abs(raw - reference)
                worse += int((change[scored] > 0.02).sum())
                better += int((change[scored] < -0.02).sum())
        raw_errors = raw_errors or errors
        above = sum(e > r for e, r in zip(errors, raw_errors, strict=True))
        print(f'{order or "raw":5} {np.mean(errors):10.2f} {above:10d} {worse:20d} / {better}')


def correlated(shape: tuple[int, int], length_px: float, rng: np.random.Generator) -> Depth:
    noise = rng.standard_normal(shape).astype(np.float32)
    if length_px:
        noise = cv2.GaussianBlur(noise, (0, 0), 0.75 * length_px)
    return noise / noise.std()


def simulate(name: str, truth: Depth, fx: float, rng: np.random.Generator) -> Depth:
    """A reading of `truth`: noise of the sensor's model, and rounding to what it reports."""
    noise = SENSORS[name]
    if name == 'kinect_v1':
        # Khoshelham and Elberink 2012 measured 1.425 mm at 1 m before rounding: 0.062 px.
        disparity = KINECT_V1_FOCAL_PX * KINECT_V1_BASELINE_M / truth
        disparity += 0.062 * correlated(truth.shape, noise.correlation_px, rng)
        return KINECT_V1_FOCAL_PX * KINECT_V1_BASELINE_M / (np.round(8 * disparity) / 8)
    reading = truth + noise.stddev_m(truth, fx) * correlated(
        truth.shape, noise.correlation_px, rng
    )
    return np.round(reading * 1000) / np.float32(1000)


def score_simulated(data: Path) -> None:
    folder = data / 'scanner_clutter'
    print('scanner_clutter with simulated noise: MAE mm against the truth, share of raw, and the')
    print('ratio of actual rms error to the rms of the standard deviation that came out')
    rng = np.random.default_rng(0)
    for name, noise in SENSORS.items():
        for zoom in (1.0, 2.5):
            scores: dict[str, list[tuple[float, float]]] = {}
            for scan in list(read(folder / 'depth').values())[:3]:
                truth = scan * np.float32(zoom)
                fx = focal_px(folder)
                frames = [simulate(name, truth, fx, rng) for _ in range(12)]
                for order in ('', 's', 'S', 't', 'ts', 'tS', 'st'):
                    depth, stddev = list(refine(frames, noise, fx, order))[-1]
                    both = np.isfinite(truth) & np.isfinite(depth)
                    error = (depth - truth)[both]
                    # Where the surface breaks, no noise model speaks: calibration skips it.
                    calm = np.abs(error) < 4 * stddev[both]
                    ratio = np.sqrt((error[calm] ** 2).mean() / (stddev[both][calm] ** 2).mean())
                    scores.setdefault(order, []).append((1000 * np.abs(error).mean(), ratio))
            raw = np.mean(scores[''], 0)[0]
            row = '  '.join(
                f'{order or "raw"} {mae:.2f} ({100 * mae / raw:.0f} %, {ratio:.2f})'
                for order, (mae, ratio) in ((o, np.mean(s, 0)) for o, s in scores.items())
            )
            print(f'{name:15} {zoom * 0.7:.1f} m: {row}')
    print('noise-free scanner_clutter through S: mean and 99th percentile of |change| in sigma')
    for name, noise in SENSORS.items():
        changes = []
        for scan in read(folder / 'depth').values():
            sigma = noise.stddev_m(scan, focal_px(folder))
            change = np.abs(smooth(scan, sigma).depth_m - scan) / sigma
            changes.append(change[np.isfinite(change)])
        joined = np.concatenate(changes)
        print(f'{name:15} {joined.mean():.3f} {np.percentile(joined, 99):.3f}')


def report_unreferenced(data: Path) -> None:
    print('recordings without a reference: flying per mille, |change| by S in sigma')
    print('set                     flying   mean   99th   valid pixels that became invalid')
    sets = {
        'realsense_tabletop': 'realsense_d400',
        'realsense_grasp': 'realsense_d400',
        'kinect_v1_nyu': 'kinect_v1',
        'kinect_v1_rooms': 'kinect_v1',
        'xtion_ycb': 'kinect_v1',
        'hands_kinect_v2': 'kinect_v2',
        'scanner_clutter': 'kinect_v1',
    }
    for name, sensor in sets.items():
        flying, changes, lost = [], [], 0
        for depth in list(read(data / name / 'depth').values())[:20]:
            sigma = SENSORS[sensor].stddev_m(depth, focal_px(data / name))
            flying.append(1000 * flying_pixels(depth, sigma).sum() / np.isfinite(depth).sum())
            refined = smooth(depth, sigma).depth_m
            change = np.abs(refined - depth) / sigma
            changes.append(change[np.isfinite(change)])
            lost += int((np.isfinite(depth) & ~np.isfinite(refined)).sum())
        joined = np.concatenate(changes)
        print(
            f'{name:22} {np.mean(flying):7.2f} {joined.mean():6.2f} '
            f'{np.percentile(joined, 99):6.2f} {lost:6d}'
        )


def report_speed(data: Path) -> None:
    folder = data / 'xtion_static_1'
    noise, fx = SENSORS['kinect_v1'], focal_px(folder)
    frames = list(read(folder / 'depth').values())
    temporal = TemporalFilter()
    times: dict[str, list[float]] = {}

    def timed(name: str, start: float) -> None:
        times.setdefault(name, []).append(1000 * (time.perf_counter() - start))

    for index in range(150):
        raw = frames[index % len(frames)]
        whole = start = time.perf_counter()
        sigma, floor = noise.stddev_m(raw, fx), noise.floor_m(raw, fx)
        step = noise.quantization_m(raw, fx)
        timed('noise', start)
        start = time.perf_counter()
        flying = flying_pixels(raw, sigma)
        depth = np.full_like(raw, np.nan)
        cv2.copyTo(raw, (~flying).view(np.uint8), depth)
        timed('flying', start)
        start = time.perf_counter()
        depth, sigma = temporal(depth, sigma, index * FRAME_NS, floor_m=floor, quantization_m=step)
        timed('temporal', start)
        start = time.perf_counter()
        smooth(
            depth, sigma, correlation_px=noise.correlation_px, floor_m=floor, quantization_m=step
        )
        timed('spatial', start)
        timed('all', whole)
    print('640x480, ms a frame over 150 frames: minimum / median')
    for name, values in times.items():
        print(f'{name:10} {min(values):6.2f} / {np.median(values):.2f}')


def main() -> None:
    parts = {
        'xtion': score_static,
        'kitchen': score_moving,
        'simulated': score_simulated,
        'others': report_unreferenced,
        'speed': report_speed,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get('DEPTH_REFINER_DATA', ROOT.parent / 'shared' / 'data')
    parser.add_argument('--data', type=Path, default=Path(default))
    parser.add_argument('--only', nargs='+', choices=parts, default=list(parts))
    arguments = parser.parse_args()
    # A pixel that no frame saw has no median.
    warnings.filterwarnings('ignore', 'All-NaN slice')
    for name in arguments.only:
        parts[name](arguments.data)


if __name__ == '__main__':
    main()
