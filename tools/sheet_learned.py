"""Draws one frame of every recording: colour, measured, classical, learned, provenance, stddev.

    python tools/sheet_learned.py OUTPUT.png [FOLDER]

FOLDER is that of the recordings, by default $DEPTH_REFINER_DATA or ../shared/data.
"""

from __future__ import annotations

import os
from pathlib import Path
import sys

import numpy as np

from depth_refiner_ros.config import configure
from depth_refiner_ros.evaluation.protocols import cases, open_source
from depth_refiner_ros.pictures import (
    Panel,
    depth_scale,
    paint_provenance,
    provenance_legend,
    sheet,
    stddev_scale,
    write_png,
)

FRAMES = {
    'kinect_v1_kitchen': 140,
    'xtion_static_1': 0,
    'realsense_tabletop': 2,
    'realsense_grasp': 0,
    'xtion_ycb': 1,
    'kinect_v1_nyu': 0,
    'kinect_v1_rooms': 1,
    'kinect_v1_linemod': 0,
    'bin_transparent': 0,
    'middlebury_motorcycle': 0,
}


def run(source, values, **changes):
    """What the default stages make of a frame, with some parameters changed."""
    configuration = configure({'stages': 'register_color,refine_depth,inpaint_depth', **changes})
    pipeline = configuration.pipeline(configuration.parameters)
    outputs = pipeline(source.transforms, **values)
    return outputs, pipeline.troubles


def row(folder: Path, index: int) -> list[Panel]:
    source = open_source(folder)
    case = next(case for i, case in enumerate(cases(source)) if i == index)
    raw_m = case.values['depth'].depth_m
    classical, _ = run(source, case.values, **{'inpaint_depth.model': ''})
    learned, troubles = run(source, case.values, **{'inpaint_depth.model': 'depth_small'})
    if troubles:
        sys.exit(f'{folder.name}: {troubles}')
    near_m, far_m = np.nanquantile(raw_m, (0.02, 0.98))
    depth, spread = depth_scale(float(near_m), float(far_m)), stddev_scale(100)
    color = case.values.get('color')
    rgb = np.zeros((*raw_m.shape, 3), np.uint8) if color is None else color.rgb
    marks = learned['inpaint_depth.provenance'].provenance
    return [
        Panel(f'{folder.name} {case.name}', rgb),
        Panel('measured', depth.paint(raw_m), depth),
        Panel('classical', depth.paint(classical['inpaint_depth.depth'].depth_m), depth),
        Panel('learned', depth.paint(learned['inpaint_depth.depth'].depth_m), depth),
        Panel('provenance', paint_provenance(marks), provenance_legend(marks)),
        Panel('stddev', spread.paint(1e3 * learned['inpaint_depth.stddev'].stddev_m), spread),
    ]


def main() -> None:
    default = Path(__file__).parents[2] / 'shared' / 'data'
    folder = Path(
        sys.argv[2] if len(sys.argv) > 2 else os.environ.get('DEPTH_REFINER_DATA', default)
    )
    rows = [row(folder / name, index) for name, index in FRAMES.items()]
    write_png(sys.argv[1], sheet(rows, panel_width_px=320))


if __name__ == '__main__':
    main()
