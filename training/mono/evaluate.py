"""Measure depth from colour alone, on rendered and on real pictures, beside trivial guesses.

    python -m training.mono.evaluate data/views --data RECORDINGS --output monocular

Two guesses that ignore the picture show what it is worth: the mean depth of the training
set, and its mean depth row by row (floors are near at the bottom). AbsRel is the mean of
|estimate - truth| / truth, delta1 the share within a factor of 1.25; aligned is after scale and
shift of inverse depth were fitted to the truth (`filters.alignment`), for the guesses too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import tyro

from depth_refiner_ros.data import ColorImage, Header, PinholeCamera
from depth_refiner_ros.pictures import Panel, depth_scale, sheet
from depth_refiner_ros.stages.estimate_depth import EstimateDepth, EstimateDepthParameters

from ..examples import Shards
from .recordings import RealViews, relative_errors

Float32Array = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]
Predictor = Callable[[UInt8Array, Float32Array], Float32Array]
Picture = tuple[UInt8Array, Float32Array, Float32Array]


@dataclass
class Settings:
    """Measure depth from colour alone."""

    rooms: tyro.conf.Positional[Path]
    """Shards of `training.examples`; what was held out of training is scored."""
    data: Path | None = None
    """Folder of real recordings."""
    sets: tuple[str, ...] = (
        'kinect_v1_nyu', 'kinect_v1_rooms', 'kinect_v1_kitchen', 'realsense_tabletop',
        'orbbec_rooms', 'realsense_cell',
    )  # fmt: skip
    """Names of the recordings to use."""
    model: str = 'mono_base'
    """A shipped model, or an ONNX file."""
    output: Path = Path('monocular')
    """Folder for figures (JSON) and a sheet of pictures."""
    held_out: int = 200
    """Frames at the end of the shards that were not trained on."""


def rendered(shards: Shards, frames: range) -> list[Picture]:
    """Return colour, intrinsics and depth of rendered frames."""
    rows, columns = shards.size
    found = []
    for frame in frames:
        color, truth_m, _ = shards.crop(frame, 0, 0, 0, rows, columns)
        focal_px = shards.focal_px(frame)
        intrinsics = np.array([focal_px, focal_px, (columns - 1) / 2, (rows - 1) / 2], np.float32)
        rgb = np.ascontiguousarray(color.permute(1, 2, 0).numpy())
        found.append((rgb, intrinsics, truth_m[0].numpy()))
    return found


def trivial(shards: Shards, frames: range) -> dict[str, Predictor]:
    """Return guesses that ignore the picture, from the depths of training frames."""
    rows, columns = shards.size
    sums, counts = np.zeros(rows), np.zeros(rows)
    for frame in frames:
        truth_m = shards.crop(frame, 0, 0, 0, rows, columns)[1][0].numpy()
        sums += np.nansum(truth_m, axis=1)
        counts += np.isfinite(truth_m).sum(1)
    mean_m = float(sums.sum() / counts.sum())
    by_row_m = (sums / np.maximum(counts, 1)).astype(np.float32)

    def constant(rgb: UInt8Array, intrinsics: Float32Array) -> Float32Array:
        return np.full(rgb.shape[:2], mean_m, np.float32)

    def row_wise(rgb: UInt8Array, intrinsics: Float32Array) -> Float32Array:
        column = cv2.resize(by_row_m[:, None], (1, rgb.shape[0]))
        return np.repeat(np.asarray(column, np.float32).reshape(-1, 1), rgb.shape[1], 1)

    return {'mean depth': constant, 'row-wise mean': row_wise}


def scores(predictor: Predictor, pictures: list[Picture]) -> dict[str, float]:
    """Return the means of `training.depth.recordings.relative_errors` over pictures."""
    found = [relative_errors(predictor(rgb, k), truth_m) for rgb, k, truth_m in pictures]
    return {name: round(float(np.mean([each[name] for each in found])), 4) for name in found[0]}


def picture_rows(predictor: Predictor, pictures: list[Picture], title: str) -> list[list[Panel]]:
    """Return colour, truth, estimate and error of pictures."""
    rows = []
    for rgb, k, truth_m in pictures:
        said_m = predictor(rgb, k)
        near, far = np.nanquantile(truth_m, (0.02, 0.98))
        depth = depth_scale(float(near), float(far))
        error = np.abs(said_m / truth_m - 1) / 0.5
        grey = (255 * np.nan_to_num(error, nan=0).clip(0, 1)).astype(np.uint8)
        rows.append(
            [
                Panel(title, rgb),
                Panel('measured', depth.paint(truth_m), depth),
                Panel('estimate', depth.paint(said_m), depth),
                Panel('error, white is 50 %', np.repeat(grey[..., None], 3, 2)),
            ]
        )
    return rows


def main(settings: Settings) -> None:
    """Measure, print, and write what was measured."""
    settings.output.mkdir(parents=True, exist_ok=True)
    shards = Shards(settings.rooms)
    trained = range(max(1, len(shards) - settings.held_out))
    stage = EstimateDepth(EstimateDepthParameters(model=settings.model))
    header = Header(0, 'camera')

    def learned(rgb: UInt8Array, intrinsics: Float32Array) -> Float32Array:
        fx, fy, cx, cy = (float(value) for value in intrinsics)
        camera = PinholeCamera(header, rgb.shape[1], rgb.shape[0], fx, fy, cx, cy)
        found = stage(ColorImage(header, rgb), camera)['depth'].depth_m
        if stage.capabilities.trouble:
            raise SystemExit(stage.capabilities.trouble)
        return np.asarray(found, np.float32)

    step = max(1, len(trained) // 200)
    predictors = {'model': learned} | trivial(shards, range(0, len(trained), step))
    sets = {'held-out rooms': rendered(shards, range(len(trained), len(shards)))}
    for name in settings.sets if settings.data else ():
        assert settings.data is not None
        if (settings.data / name).exists():
            views = RealViews(settings.data / name)
            sets[name] = list(zip(views.rgb, views.intrinsics, views.depth_m, strict=True))
    figures: dict[str, dict[str, dict[str, float]]] = {}
    rows: list[list[Panel]] = []
    for name, pictures in sets.items():
        figures[name] = {kind: scores(each, pictures) for kind, each in predictors.items()}
        for kind, found in figures[name].items():
            line = ', '.join(f'{metric} {value:.3f}' for metric, value in found.items())
            print(f'{name}, {len(pictures)} pictures, {kind}: {line}', flush=True)
        rows += picture_rows(learned, pictures[:: max(1, len(pictures) // 2)][:2], name)
    real = [
        found['model']['aligned_abs_rel']
        for name, found in figures.items()
        if name in settings.sets
    ]
    if real:
        print(f'{len(real)} recordings, model, mean of aligned_abs_rel: {np.mean(real):.3f}')
    (settings.output / 'figures.json').write_text(json.dumps(figures, indent=1))
    picture = sheet(rows, panel_width_px=320, title='Depth from colour alone')
    cv2.imwrite(str(settings.output / 'sheet.png'), picture[..., ::-1])
    print(f'{settings.output}: figures.json and sheet.png')


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__))
