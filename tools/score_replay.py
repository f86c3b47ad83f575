"""Scores the classical pipeline as users run it: recordings imported, replayed, and read back.

    python tools/score_replay.py [--data FOLDER]

Every set goes through `depth-refiner replay` once a draw (several draws of punched patterns, for
one draw is a matter of luck) and the written bag is compared with the truth: mean absolute error
in mm / share within 5 % of the truth, depth below 4 m. `nearest` fills the raw frames with the
nearest measurement, as the yardstick of the punched sets. `register_color` runs first, so colour
guides the filling wherever a set has some.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
import os
from pathlib import Path
import tempfile

import numpy as np
from rosbags.highlevel import AnyReader

from depth_refiner_ros.cli import main as depth_refiner
from depth_refiner_ros.data import DepthImage
from depth_refiner_ros.evaluation.protocols import Case, Source, cases, open_source, protocol_of
from depth_refiner_ros.geometry import fill_nearest
from depth_refiner_ros.hosts.bag import BagWriter
from depth_refiner_ros.messages import decode

SETS = {
    'kinect_v1_kitchen': 'kinect_v1',
    'xtion_static_1': 'kinect_v1',
    'realsense_tabletop': 'realsense_d400',
    'xtion_ycb': 'kinect_v1',
    'kinect_v1_nyu': 'kinect_v1',
    'middlebury_motorcycle': 'kinect_v1',
}
PORT_TOPICS = {
    'depth': '/camera/depth/image_rect',
    'camera': '/camera/depth/camera_info',
    'color': '/camera/color/image_rect',
    'color_camera': '/camera/color/camera_info',
}


def write_bag(path: Path, frames: list[Case], recording: Source) -> None:
    with BagWriter(path) as writer:
        for i, case in enumerate(frames):
            log_ns = case.values['depth'].header.stamp_ns
            frame_id = case.values['depth'].header.frame_id
            if i == 0 and 'color' in case.values:
                color_frame = case.values['color'].header.frame_id
                if transform := recording.transforms.lookup(color_frame, frame_id):
                    writer.write_transforms('/tf_static', log_ns, [transform])
            for port, value in case.values.items():
                writer.write(PORT_TOPICS[port], log_ns, value)


def replayed(path: Path, topic: str) -> list[DepthImage]:
    with AnyReader([path]) as reader:
        connections = [c for c in reader.connections if c.topic == topic]
        return [
            decode(DepthImage, reader.deserialize(raw, connection.msgtype))
            for connection, _, raw in reader.messages(connections)
        ]


def score(recording: Source, sensor: str, draws: int) -> None:
    errors, truths = defaultdict(list), defaultdict(list)
    flicker: dict[str, list[float]] = defaultdict(list)
    filled_share = []
    for draw in range(draws):
        frames = list(cases(recording, seed=draw))
        with tempfile.TemporaryDirectory() as folder:
            bag, out = Path(folder) / 'in.mcap', Path(folder) / 'out.mcap'
            write_bag(bag, frames, recording)
            arguments = ['replay', str(bag), '-o', str(out), '--refine-depth.sensor', sensor]
            arguments += ['--stages', 'register_color,refine_depth,inpaint_depth']
            arguments += ['--inpaint-depth.model', '']
            arguments += ['--only', 'refine_depth.depth', 'inpaint_depth.depth']
            if depth_refiner(arguments) != 0:
                raise SystemExit(f'replay of {recording.name} failed')
            refined = replayed(out, '/camera/depth_refined/image_rect')
            results = replayed(out, '/camera/depth_inpainted/image_rect')
        before = None
        for i, (case, fine, result) in enumerate(zip(frames, refined, results, strict=True)):
            raw_m = case.values['depth'].depth_m
            if recording.static is not None and before is not None:
                for key, now, last in (
                    ('raw', raw_m, before[0]),
                    ('ours', fine.depth_m, before[1]),
                ):
                    change = np.abs(now - last)[recording.static]
                    flicker[key].append(1e3 * float(np.nanmean(change)))
            before = raw_m, fine.depth_m
            if case.truth_m is None or case.scored is None:
                continue
            hole = case.scored & np.isnan(raw_m)
            seen = case.scored & np.isfinite(raw_m)
            filled_share.append(np.isfinite(result.depth_m[hole]).mean() if hole.any() else 1.0)
            late = ['from the 5th'] if i >= 4 else []
            for region, where in (('holes', hole), ('observed', seen)):
                for method, depth_m in (
                    ('raw', raw_m), ('nearest', fill_nearest(raw_m)), ('ours', result.depth_m)
                ):  # fmt: skip
                    error_mm = 1e3 * np.abs(depth_m - case.truth_m)[where]
                    for part in ['all', *late]:
                        errors[region, method, part].append(error_mm)
                        truths[region, method, part].append(case.truth_m[where])

    def figure(region: str, method: str, part: str = 'all') -> str:
        error_mm = np.concatenate(errors[region, method, part])
        truth_m = np.concatenate(truths[region, method, part])
        return f'{method} {error_mm.mean():.1f} / {(error_mm < 50 * truth_m).mean():.3f}'

    print(f'{recording.name} ({protocol_of(recording)})')
    covered = f'covered {np.mean(filled_share):.4f}'
    print(f'  holes     {figure("holes", "nearest")}   {figure("holes", "ours")}   {covered}')
    if protocol_of(recording) != 'punched':
        for part in ('all', 'from the 5th'):
            raw, ours = figure('observed', 'raw', part), figure('observed', 'ours', part)
            print(f'  observed  {raw}   {ours}   ({part})')
    if flicker:
        late_raw, late_ours = np.mean(flicker['raw'][3:]), np.mean(flicker['ours'][3:])
        print(f'  flicker   raw {late_raw:.2f} mm   ours {late_ours:.2f} mm (from the 5th)')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).parents[2] / 'shared' / 'data'
    parser.add_argument('--data', type=Path, default=os.environ.get('DEPTH_REFINER_DATA', default))
    parser.add_argument('--draws', type=int, default=4, help='hole patterns per punched set')
    parser.add_argument('--only', nargs='*', default=list(SETS))
    arguments = parser.parse_args()
    for name in arguments.only:
        recording = open_source(Path(arguments.data) / name)
        draws = arguments.draws if protocol_of(recording) == 'punched' else 1
        score(recording, SETS[name], draws)


if __name__ == '__main__':
    main()
