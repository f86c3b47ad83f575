"""Measure the stage `track_hands`: joints, detection, false hands, real recordings, speed.

    python -m training.hands.evaluate --data RECORDINGS --output hands_evaluation

Rendered hands are measured by the sensor models of `training.sensors`, of which the training of
hands has seen none: it draws noise of its own (`training.hands.samples`). Real recordings without
labels tell how often a hand is found and how well a hand of spheres and tapered bones, posed by
the keypoints, lies on what was measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import json
from pathlib import Path
import time
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import track
import torch
from torch import Tensor
import tyro

from depth_refiner_ros.data import HAND_BONES, DepthImage, Hands, Header, PinholeCamera
from depth_refiner_ros.evaluation.protocols import open_source
from depth_refiner_ros.filters.hands import BONE_LENGTHS_MM
from depth_refiner_ros.stages.track_hands import TrackHands, TrackHandsParameters

from ..examples import Shards
from ..render.capsules import render_capsules
from ..render.hand_images import render_hands, sample_surroundings
from ..render.hand_skeleton import RADII_MM, TIP_RADII_MM
from ..render.hands import Draw, sample_hands
from ..sensors import View, draw_sensor
from .shards import CENTER

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

SENSORS = {
    # Sensor model, focal length for 640 columns, and the distances of hands.
    'kinect_v1': ('structured_light', 525.0, (0.5, 1.3)),
    'realsense_d435': ('active_stereo', 615.0, (0.3, 1.0)),
    'kinect_v2': ('time_of_flight', 455.0, (0.5, 1.2)),
}
"""Simulated; a Kinect v2's 364 px of 512 columns are 455 px of 640."""
HIT_M = 0.1
"""A hand is found if the knuckle of a middle finger is estimated within this distance of it."""
SPILL_M = 0.06
"""What was measured this far behind the posed hand is not of the hand: the outline is off."""


@dataclass
class Settings:
    """Measure `track_hands`."""

    data: Path | None = None
    """Folder of real recordings: hands_kinect_v2, and others in which no hand is."""
    output: Path = Path('hands_evaluation')
    """Folder for figures (JSON) and pictures."""
    frames: int = 300
    """Rendered frames of each simulated sensor."""
    rooms: Path | None = None
    """Shards of `training.examples`: what is behind the hands; simple walls without."""
    seed: int = 10_007
    """Seed of the rendered hands; no training uses it."""
    hands_recording: str = 'hands_kinect_v2'
    """The recording that shows a hand."""
    without_hands: tuple[str, ...] = (
        'kinect_v1_kitchen', 'kinect_v1_rooms', 'realsense_tabletop', 'kinect_v1_nyu',
        'xtion_ycb', 'xtion_static_1',
    )  # fmt: skip
    """Recordings that show no hand."""


def rendered(
    sensor: str, settings: Settings, rooms: Shards | None, *, empty: bool
) -> Iterator[tuple[DepthImage, PinholeCamera, npt.NDArray[Any] | None]]:
    """Yield measured frames with the joints that are in them, (21, 3), or without any hand."""
    model, focal_px, distance_m = SENSORS[sensor]
    height, width = 480, 640
    generator = torch.Generator().manual_seed(
        settings.seed + 2 * list(SENSORS).index(sensor) + empty
    )
    intrinsics = torch.tensor([[focal_px, 0, 319.5], [0, focal_px, 239.5], [0, 0, 1]])[None]
    draw = Draw(generator)
    for number in range(settings.frames):
        hands, _ = sample_hands(
            generator, 1, intrinsics=intrinsics, height=height, width=width, distance_m=distance_m
        )
        around = sample_surroundings(generator, hands, intrinsics)
        # The last capsules are a second hand, whose joints nobody tells.
        own = hands.capsules_m.shape[1]
        around = around._replace(
            capsules_m=around.capsules_m[:, :-own], radii_m=around.radii_m[:, :-own]
        )
        behind_m = None
        if rooms is not None:
            index = int(draw.uniform(0, len(rooms)).item())
            behind_m = rooms.crop(index, 0, 0, 0, height, width)[1]
            # Behind the arm, whatever room it is.
            far_m = float((hands.capsules_m[..., 2] + hands.radii_m).amax())
            behind_m = behind_m + max(0.0, far_m - float(behind_m.nan_to_num(99).amin()))
        if empty:
            hands = hands._replace(radii_m=torch.zeros_like(hands.radii_m))
        images = render_hands(
            hands, intrinsics, height=height, width=width, around=around, background_m=behind_m
        )
        view = View(images.depth_m[:, None], intrinsics)
        measured_m = draw_sensor(model, view.shape, generator)(view, generator)
        if not empty and returned(hands.joints_m, images.visible, intrinsics, measured_m) < 8:
            continue
        header = Header(number * 10**9, 'camera')
        depth_m = measured_m[0, 0].numpy().astype(np.float32)
        camera = PinholeCamera(header, width, height, focal_px, focal_px, 319.5, 239.5)
        joints_m = None if empty else hands.joints_m[0].numpy()
        yield (
            DepthImage(header, np.where(depth_m > 0, depth_m, np.float32(np.nan))),
            camera,
            joints_m,
        )


def returned(joints_m: Tensor, visible: Tensor, intrinsics: Tensor, measured_m: Tensor) -> int:
    """Return how many joints are in view, in front, and on something that was measured."""
    image = (intrinsics @ joints_m.mT)[0]
    column, row = (image[:2] / image[2]).round().long()
    height, width = measured_m.shape[2:]
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    there_m = measured_m[0, 0, row.clamp(0, height - 1), column.clamp(0, width - 1)]
    # A joint lies under the skin, never in front of it.
    on_hand = (there_m - image[2]).abs() < 0.04
    return int((inside & on_hand & visible[0].bool()).sum())


def score_rendered(sensor: str, settings: Settings, rooms: Shards | None) -> dict[str, float]:
    """Return mean joint error in mm, the share of hands found, and of frames with false hands."""
    stage = TrackHands(TrackHandsParameters(cutoff_hz=0.0))
    errors_mm, hits, shown = [], 0, 0
    for depth, camera, joints_m in track(
        rendered(sensor, settings, rooms, empty=False), sensor, total=settings.frames
    ):
        assert joints_m is not None
        hands = stage(depth, camera)['hands']
        shown += 1
        away_m = np.linalg.norm(hands.points_m[:, CENTER] - joints_m[CENTER], axis=1)
        if not len(away_m) or away_m.min() > HIT_M:
            continue
        hits += 1
        best = int(away_m.argmin())
        errors_mm.append(1e3 * np.linalg.norm(hands.points_m[best] - joints_m, axis=1).mean())
    empty = rendered(sensor, settings, rooms, empty=True)
    false = sum(
        len(stage(depth, camera)['hands'].ids) > 0
        for depth, camera, _ in track(empty, 'no hands', total=settings.frames)
    )
    return {
        'mean_joint_error_mm': float(np.mean(errors_mm)) if errors_mm else float('nan'),
        'median_joint_error_mm': float(np.median(errors_mm)) if errors_mm else float('nan'),
        'found': hits / max(shown, 1),
        'false': false / max(settings.frames, 1),
        'frames': shown,
    }


def posed_depth(hands: Hands, camera: PinholeCamera) -> Float32Array:
    """Return the depth of hands of spheres and tapered bones posed by keypoints, NaN elsewhere."""
    palm = [(5, 9), (9, 13), (13, 17), (0, 17), (1, 5), (0, 9), (0, 13), (1, 9)]
    pairs = [*HAND_BONES, *palm]
    radii_mm = [16.0]
    for base, tip in zip(RADII_MM, TIP_RADII_MM, strict=True):
        radii_mm += [*base, tip]
    ends, radii = [], []
    for points_m in hands.points_m:
        lengths = [np.linalg.norm(points_m[b] - points_m[a]) for a, b in HAND_BONES]
        size = float(np.median(np.array(lengths) / (1e-3 * np.array(BONE_LENGTHS_MM))))
        for a, b in pairs:
            ends.append(points_m[[a, b]])
            radii.append([1e-3 * size * radii_mm[a], 1e-3 * size * radii_mm[b]])
    k = torch.tensor(
        [[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]], dtype=torch.float32
    )
    depth_m, _ = render_capsules(
        torch.from_numpy(np.stack(ends).astype(np.float32))[None],
        torch.tensor(radii, dtype=torch.float32)[None],
        k[None],
        camera.height,
        camera.width,
    )
    found = depth_m[0].numpy()
    return np.where(np.isfinite(found), found, np.float32(np.nan))


def skeletons(depth_m: Float32Array, hands: Hands) -> UInt8Array:
    """Return a depth image with skeletons over it, (H, W, 3)."""
    near = np.where(depth_m > 0, 255 - np.clip((depth_m - 0.3) / 2, 0, 1) * 215, 0)
    picture = np.repeat(np.nan_to_num(near).astype(np.uint8)[..., None], 3, 2)
    for pixels, sure, right in zip(hands.pixels_px, hands.confidence, hands.right, strict=True):
        color = (90, 180, 235) if right >= 0.5 else (235, 160, 40)
        for start, end in HAND_BONES:
            a, b = (tuple(round(float(c)) for c in pixels[n]) for n in (start, end))
            cv2.line(picture, a, b, color, 1, cv2.LINE_AA)
        for (x, y), c in zip(pixels, sure, strict=True):
            shade = (60, 220, 60) if c > 0.5 else (230, 60, 60)
            cv2.circle(picture, (round(float(x)), round(float(y))), 2, shade, -1, cv2.LINE_AA)
    return picture


def score_recording(folder: Path, sheet: Path) -> dict[str, float]:
    """Return how a recording with a hand is followed; writes a sheet of twelve frames.

    Returns:
        found: Share of frames with a hand; residual_mm: median over frames of the median absolute
        difference of the posed hand and what was measured where it is; jitter_mm: median move of
        a joint between consecutive frames, less the hand's; numbers: ids given.
    """
    stage = TrackHands()
    residuals_mm: list[float] = []
    jitter_mm: list[float] = []
    tiles: list[UInt8Array] = []
    numbers: set[int] = set()
    found = 0
    previous: Hands | None = None
    source = open_source(folder)
    every = max(1, len(source) // 12)
    for number, frame in enumerate(source):
        values: dict[str, Any] = frame.values
        depth, camera = values['depth'], values['camera']
        hands = stage(depth, camera)['hands']
        if number % every == 0 and len(tiles) < 12:
            tiles.append(skeletons(depth.depth_m, hands))
        numbers |= set(hands.ids.tolist())
        if len(hands.ids):
            found += 1
            posed_m = posed_depth(hands, camera)
            off_m = depth.depth_m - posed_m
            there = np.isfinite(off_m) & (off_m < SPILL_M)
            if there.any():
                residuals_mm.append(1e3 * float(np.median(np.abs(off_m[there]))))
            if previous is not None and len(previous.ids) and previous.ids[0] == hands.ids[0]:
                move_m = hands.points_m[0] - previous.points_m[0]
                move_m = move_m - move_m.mean(0)
                jitter_mm.append(1e3 * float(np.median(np.linalg.norm(move_m, axis=1))))
        previous = hands
    rows = [np.hstack(tiles[n : n + 4]) for n in range(0, len(tiles) // 4 * 4, 4)]
    cv2.imwrite(str(sheet), np.vstack(rows)[..., ::-1])
    return {
        'found': found / max(len(source), 1),
        'residual_mm': float(np.median(residuals_mm)) if residuals_mm else float('nan'),
        'jitter_mm': float(np.median(jitter_mm)) if jitter_mm else float('nan'),
        'numbers': len(numbers),
        'frames': len(source),
    }


def score_speed(folder: Path, count: int = 60) -> dict[str, float]:
    """Return median milliseconds of a frame with hands followed, and with looking for them."""
    times: dict[str, list[float]] = {'followed_ms': [], 'looking_ms': []}
    frames = [frame.values for frame in open_source(folder)][:count]
    for name, parameters in (
        ('followed_ms', TrackHandsParameters(max_hands=1)),
        ('looking_ms', TrackHandsParameters(max_hands=2, detection_interval_s=0.0)),
    ):
        stage = TrackHands(parameters)
        for values in frames:
            began = time.perf_counter()
            hands = stage(values['depth'], values['camera'])['hands']
            if len(hands.ids):
                times[name].append(1e3 * (time.perf_counter() - began))
    return {name: float(np.median(values)) for name, values in times.items() if values}


def main(settings: Settings) -> None:
    """Measure, print, and write what was measured."""
    settings.output.mkdir(parents=True, exist_ok=True)
    rooms = Shards(settings.rooms) if settings.rooms else None
    figures: dict[str, Any] = {}
    for sensor in SENSORS if settings.frames else ():
        figures[sensor] = score_rendered(sensor, settings, rooms)
        print(sensor, json.dumps(figures[sensor]), flush=True)
    if settings.data is not None:
        folder = settings.data / settings.hands_recording
        if folder.exists():
            figures[folder.name] = score_recording(folder, settings.output / 'hands.png')
            figures['speed'] = score_speed(folder)
            print(folder.name, json.dumps(figures[folder.name]), json.dumps(figures['speed']))
        shown = false = 0
        for name in settings.without_hands:
            if not (settings.data / name).exists():
                continue
            stage = TrackHands()
            for frame in open_source(settings.data / name):
                values = frame.values
                shown += 1
                false += len(stage(values['depth'], values['camera'])['hands'].ids) > 0
        figures['without_hands'] = {'frames': shown, 'false': false / max(shown, 1)}
        print('without hands', json.dumps(figures['without_hands']))
    (settings.output / 'figures.json').write_text(json.dumps(figures, indent=1))
    print(f'{settings.output / "figures.json"} holds all of it.')


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__))
