"""Draw a sheet of rendered hands.

python -m training.render.hand_sheet --output hands.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
import time

import cv2
import numpy as np
import numpy.typing as npt
import torch
import tyro

from .hand_images import regions_around, render_hands, sample_surroundings
from .hand_skeleton import BONES, PARTS
from .hands import sample_hands


def shaded(
    depth_m: npt.NDArray[np.floating], intrinsics: npt.NDArray[np.floating]
) -> npt.NDArray[np.uint8]:
    """Return depth (H, W) as if lit from the upper left, (H, W, 3) uint8; nothing is dark."""
    slope_y, slope_x = np.gradient(depth_m)
    scale = np.array([intrinsics[0, 0], intrinsics[1, 1]])[:, None, None] / depth_m
    normal = np.stack([slope_x, slope_y, np.ones_like(depth_m)])
    normal[:2] *= scale
    normal /= np.linalg.norm(normal, axis=0)
    light = np.array([0.35, 0.5, 0.79])
    shade = np.clip(np.einsum('c,chw->hw', light, normal), 0, 1)
    grey = np.nan_to_num(30 + 215 * shade, nan=20.0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2)


def write_sheet(options: Options) -> None:
    """Write hands as shape, depth, parts and joints; then print how fast they are made."""
    generator = torch.Generator(options.device).manual_seed(options.seed)
    hands, intrinsics = sample_hands(generator, options.hands)
    around = sample_surroundings(generator, hands, intrinsics)
    region = regions_around(hands, intrinsics, 1.6)
    images = render_hands(hands, intrinsics, region, height=160, width=160, around=around)
    palette = np.random.default_rng(3).integers(60, 255, (len(PARTS) + 1, 3), np.uint8)
    palette[-1] = 30
    columns = []
    for number in range(options.hands):
        depth_m = images.depth_m[number].cpu().numpy()
        shade = shaded(depth_m, images.intrinsics[number].cpu().numpy())
        middle_m = float(hands.joints_m[number, 9, 2])
        near = np.clip((middle_m + 0.25 - depth_m) / 0.4, 0, 1)
        heat = cv2.applyColorMap(np.nan_to_num(255 * near).astype(np.uint8), cv2.COLORMAP_TURBO)
        joints = shade.copy()
        places = images.joints_px[number].cpu().numpy().round().astype(int).tolist()
        for start, end in BONES:
            cv2.line(joints, places[start], places[end], (60, 200, 255), 1, cv2.LINE_AA)
        for place, seen in zip(places, images.visible[number].tolist(), strict=True):
            cv2.circle(joints, place, 2, (80, 220, 80) if seen else (60, 60, 255), -1, cv2.LINE_AA)
        labels = palette[images.parts[number].cpu().numpy()]
        columns.append(np.vstack([shade, heat, labels, joints]))
    rows = [np.hstack(columns[n : n + 12]) for n in range(0, len(columns) // 12 * 12, 12)]
    rows = rows or [np.hstack(columns)]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(options.output), np.vstack(rows)):
        raise SystemExit(f'{options.output} cannot be written.')
    print(f'{options.output}: {options.hands} hands')
    if options.seconds <= 0:
        return
    taken: list[list[float]] = []
    stop_s = time.perf_counter() + options.seconds
    while time.perf_counter() < stop_s or len(taken) < 3:
        began = time.perf_counter()
        hands, intrinsics = sample_hands(generator, 32)
        drawn = time.perf_counter()
        region = regions_around(hands, intrinsics)
        render_hands(hands, intrinsics, region).depth_m.sum().item()
        alone = time.perf_counter()
        around = sample_surroundings(generator, hands, intrinsics)
        render_hands(hands, intrinsics, region, around=around).depth_m.sum().item()
        taken.append([drawn - began, alone - drawn, time.perf_counter() - alone])
    draw_s, alone_s, around_s = np.median(taken, axis=0) / 32
    print(
        f'a hand: drawn in {1e3 * draw_s:.2f} ms, rendered in {1e3 * alone_s:.2f} ms '
        f'({1 / alone_s:.0f} crops/s of 128x128); with surroundings, drawn and rendered, '
        f'{1e3 * around_s:.2f} ms ({1 / around_s:.0f} crops/s)'
    )


@dataclass
class Options:
    """What to draw."""

    output: Path = Path('hands.png')
    """Image file to write: depth, parts and joints of each hand, in clutter."""
    hands: int = 24
    """Hands on the sheet."""
    seed: int = 0
    """Seed of hands and surroundings."""
    seconds: float = 3.0
    """Seconds in which the speed is measured; 0 does not measure it."""
    device: str = 'cuda' if torch.cuda.is_available() else 'cpu'
    """Device that renders."""


if __name__ == '__main__':
    write_sheet(tyro.cli(Options, description=__doc__))
