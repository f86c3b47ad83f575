"""Draws synthetic depth of field of real recordings, and times it.

Usage: python tools/sheet_blur.py [--data FOLDER] [--output FOLDER] [SET/FRAME ...]

Each row is a frame: colour, refined and inpainted depth, and the picture at three apertures,
focused as given, by default on the nearest thing as large as a face. The time of a frame is that
of the stage at the widest aperture, least and median of 30 runs in one process.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
import time

import cv2
import numpy as np
import numpy.typing as npt

from depth_refiner_ros.data import ColorImage
from depth_refiner_ros.folders import Folder, FolderFrame
from depth_refiner_ros.stage import Pipeline, compose
from depth_refiner_ros.stages import STAGES
from depth_refiner_ros.stages.blur_background import BlurBackground, BlurBackgroundParameters

APERTURES = (2.8, 1.0, 0.4)
FRAMES: dict[str, dict[str, object]] = {
    'middlebury_motorcycle/000': {'focus': 'point', 'focus_x_px': 330.0, 'focus_y_px': 250.0},
    'kinect_v1_nyu/000': {},
    'kinect_v1_nyu/001': {'focus': 'point', 'focus_x_px': 190.0, 'focus_y_px': 310.0},
    'kinect_v1_nyu/002': {'focus': 'point', 'focus_x_px': 150.0, 'focus_y_px': 330.0},
    'kinect_v1_rooms/000': {'focus': 'point', 'focus_x_px': 400.0, 'focus_y_px': 190.0},
    'kinect_v1_rooms/003': {'focus': 'point', 'focus_x_px': 330.0, 'focus_y_px': 210.0},
    'realsense_tabletop/000': {'focus': 'point', 'focus_x_px': 300.0, 'focus_y_px': 250.0},
    'realsense_tabletop/004': {},
    'kinect_v1_linemod/000': {'focus': 'distance', 'focus_distance_m': 0.95},
}
RUNS = 30


def repaired(frame: FolderFrame) -> tuple[FolderFrame, ColorImage]:
    """Return a frame with its depth refined and inpainted, and its colour registered to it."""
    names = ['refine_depth', 'inpaint_depth']
    if frame.color is not None and frame.color.header.frame_id != frame.depth.header.frame_id:
        names.insert(0, 'register_color')
    pipeline: Pipeline = compose({name: STAGES[name] for name in names})()
    outputs = pipeline(depth=frame.depth, camera=frame.camera, color=frame.color)
    color = outputs.get('register_color.color', frame.color)
    if color is None:
        raise SystemExit('a frame without colour cannot be blurred')
    return frame._replace(depth=outputs['inpaint_depth.depth']), color


def depth_picture(depth_m: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return inverse depth in colours, near red and far blue."""
    inverse = np.nan_to_num(1 / depth_m)
    low, high = np.percentile(inverse[inverse > 0], (1, 99))
    scaled = np.clip((inverse - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    bgr = cv2.applyColorMap(scaled, cv2.COLORMAP_TURBO)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def main() -> None:
    """Draw one sheet a frame, and one of all."""
    default = Path(__file__).parents[1].parent / 'shared' / 'data'
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('frames', nargs='*', default=list(FRAMES), metavar='SET/FRAME')
    parser.add_argument(
        '--data', type=Path, default=Path(os.environ.get('DEPTH_REFINER_DATA', default))
    )
    parser.add_argument('--output', type=Path, default=Path('blur_sheet'))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    sheets = []
    for name in arguments.frames:
        folder = Folder(arguments.data / Path(name).parent)
        frame, color = repaired(folder.read(folder.names.index(Path(name).name)))
        pictures = [color.rgb, depth_picture(frame.depth.depth_m)]
        times_s: list[float] = []
        for f_number in APERTURES:
            parameters = BlurBackgroundParameters(f_number=f_number, **FRAMES.get(name, {}))
            stage = BlurBackground(parameters)
            times_s.clear()
            for _ in range(RUNS):
                started_s = time.perf_counter()
                blurred = stage(frame.depth, frame.camera, color)['blurred']
                times_s.append(time.perf_counter() - started_s)
            pictures.append(blurred.rgb)
        print(
            f'{name}: f/{APERTURES[-1]:g} takes {1000 * min(times_s):.1f} ms at best, '
            f'{1000 * float(np.median(times_s)):.1f} ms in the median'
        )
        sheet = np.hstack(pictures)
        path = arguments.output / f'{name.replace("/", "_")}.png'
        cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
        width = 1600
        size = (width, round(sheet.shape[0] * width / sheet.shape[1]))
        sheets.append(cv2.resize(sheet, size, interpolation=cv2.INTER_AREA))
    path = arguments.output / 'sheet.png'
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(sheets), cv2.COLOR_RGB2BGR))
    print(f'{path}: colour, depth, ' + ', '.join(f'f/{n:g}' for n in APERTURES))


if __name__ == '__main__':
    main()
