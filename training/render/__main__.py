"""Write a contact sheet of scenes and print how fast they are rendered.

    python -m training.render --scenes 12 --seed 3 --output scenes.png

Each scene is four pictures: colour, depth (near is blue, far is red), normals, objects. Scene n
of a seed is always the same, whatever is beside it: --first 40 --scenes 1 shows one of them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
import time

import cv2
import numpy as np
import torch
import tyro

from . import Cameras, Renderer, Rendering, World, sample_batch


@dataclass
class Options:
    """What to render."""

    output: Path = Path('scenes.png')
    """Image file to write: colour, depth, normals and instances of each scene."""
    scenes: int = 8
    """Scenes on the sheet."""
    first: int = 0
    """Number of the first scene."""
    seed: int = 0
    """Seed of scenes and cameras."""
    height: int = 480
    """Rows of each picture, pixels."""
    width: int = 640
    """Columns of each picture, pixels."""
    device: str = 'cuda' if torch.cuda.is_available() else 'cpu'
    """Device that renders."""
    compiled: bool = False
    """Fuse with torch.compile: a minute or two at the start, then several times faster."""
    shadows: bool = True
    """Cast shadows."""
    batch: int = 4
    """Scenes rendered together."""
    seconds: float = 5.0
    """Seconds in which the speed is measured; 0 does not measure it."""


def tiles(rendering: Rendering, number: int) -> list[np.ndarray]:
    """Return the pictures of one view, BGR uint8."""
    rgb = rendering.rgb[number].permute(1, 2, 0).cpu().numpy()
    depth_m = rendering.depth_m[number, 0].cpu().numpy()
    normals = rendering.normals[number].permute(1, 2, 0).cpu().numpy()
    instances = rendering.instances[number, 0].cpu().numpy()
    near, far = np.nanpercentile(depth_m, (1, 99)) if np.isfinite(depth_m).any() else (0, 1)
    shade = 255 * np.clip((depth_m - near) / max(far - near, 1e-3), 0, 1)
    heat = cv2.applyColorMap(np.nan_to_num(shade).astype(np.uint8), cv2.COLORMAP_TURBO)
    heat[np.isnan(depth_m)] = 0
    random = np.random.default_rng(0).integers(40, 255, (1024, 3), np.uint8)
    labels = random[instances % 1024]
    labels[instances < 0] = 0
    return [
        (255 * rgb[..., ::-1]).astype(np.uint8),
        heat,
        (127.5 * (1 - normals[..., ::-1])).astype(np.uint8),
        labels,
    ]


def scenes(options: Options, indices: range) -> tuple[World, Cameras]:
    """Return scenes as the options want them."""
    return sample_batch(
        options.seed,
        indices,
        height=options.height,
        width=options.width,
        device=options.device,
    )


def main() -> None:
    """Render, write, measure."""
    options = tyro.cli(Options, description=__doc__, prog='python -m training.render')
    if min(options.scenes, options.batch) < 1:
        raise SystemExit('--scenes and --batch must be at least 1.')
    renderer = Renderer(compiled=options.compiled, shadows=options.shadows)
    rows = []
    for first in range(options.first, options.first + options.scenes, options.batch):
        last = min(first + options.batch, options.first + options.scenes)
        rendering = renderer(*scenes(options, range(first, last)))
        for number in range(last - first):
            small = (options.width // 2, options.height // 2)
            pictures = [
                cv2.resize(p, small, interpolation=cv2.INTER_AREA if i == 0 else cv2.INTER_NEAREST)
                for i, p in enumerate(tiles(rendering, number))
            ]
            rows.append(np.hstack(pictures))
    if len(rows) % 2:
        rows.append(np.zeros_like(rows[0]))
    pairs = [np.hstack(rows[i : i + 2]) for i in range(0, len(rows), 2)]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(options.output), np.vstack(pairs)):
        raise SystemExit(f'{options.output} cannot be written.')
    print(f'{options.output}: {options.scenes} scenes')
    if options.seconds > 0:
        measure(renderer, options)


def measure(renderer: Renderer, options: Options) -> None:
    """Print the medians of making and of rendering batches."""
    making: list[float] = []
    rendering: list[float] = []
    index = 1_000_000
    end = time.perf_counter() + options.seconds
    while time.perf_counter() < end or len(rendering) < 3:
        start = time.perf_counter()
        world, cameras = scenes(options, range(index, index + options.batch))
        made = time.perf_counter()
        renderer(world, cameras)
        if options.device.startswith('cuda'):
            torch.cuda.synchronize()
        making.append((made - start) / options.batch)
        rendering.append((time.perf_counter() - made) / options.batch)
        index += options.batch
    print(
        f'a scene: made in {1e3 * np.median(making):.1f} ms, '
        f'rendered in {1e3 * np.median(rendering):.1f} ms median, '
        f'{1e3 * min(rendering):.1f} ms least: {1 / np.median(rendering):.1f} frames/s '
        f'at {options.width}x{options.height} on {options.device}'
    )


if __name__ == '__main__':
    main()
