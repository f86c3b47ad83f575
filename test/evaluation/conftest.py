from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

HEIGHT, WIDTH = 48, 64
CAMERA = {'width': WIDTH, 'height': HEIGHT, 'fx': 60.0, 'fy': 60.0, 'cx': 31.5, 'cy': 23.5}


@pytest.fixture(autouse=True)
def _without_models(classical_by_default):
    """Few evaluations are about a model: those name it."""


def wall_mm(distance_mm: int = 2000, hole: tuple[slice, slice] | None = None) -> np.ndarray:
    """A wall as the 16-bit image of a folder, with a hole where wanted."""
    depth_mm = np.full((HEIGHT, WIDTH), distance_mm, np.uint16)
    if hole:
        depth_mm[hole] = 0
    return depth_mm


@pytest.fixture
def folder(tmp_path):
    """Make a folder of images; a frame that is None becomes a file that is no image."""

    def make(
        name: str,
        depths_mm: list[np.ndarray | None],
        references_mm: dict[int, np.ndarray] | None = None,
        static: np.ndarray | None = None,
        color: bool = False,
        **info: Any,
    ) -> Path:
        path = tmp_path / name
        (path / 'depth').mkdir(parents=True)
        about = {**CAMERA, 'depth_unit_m': 0.001, 'color_aligned_to_depth': True, **info}
        (path / 'camera.json').write_text(json.dumps(about))
        for i, depth_mm in enumerate(depths_mm):
            file = path / f'depth/{i:03d}.png'
            if depth_mm is None:
                file.write_bytes(b'not an image')
            else:
                cv2.imwrite(str(file), depth_mm)
            if color:
                (path / 'color').mkdir(exist_ok=True)
                rgb = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
                cv2.imwrite(str(path / f'color/{i:03d}.png'), rgb)
        for i, reference_mm in (references_mm or {}).items():
            (path / 'reference').mkdir(exist_ok=True)
            cv2.imwrite(str(path / f'reference/{i:03d}.png'), reference_mm)
        if static is not None:
            cv2.imwrite(str(path / 'static_mask.png'), static.astype(np.uint8) * 255)
        return path

    return make


@pytest.fixture
def wall():
    return wall_mm


@pytest.fixture
def noisy_folder(folder):
    """Walls with millimetre noise and a hole of their own each: something for every protocol."""

    def make(name: str, count: int = 3, seed: int = 0, **options: Any) -> Path:
        rng = np.random.default_rng(seed)
        depths_mm = []
        for i in range(count):
            depth_mm = wall_mm(1500)
            depth_mm[:, 40:] = 2000
            depth_mm += rng.integers(0, 5, depth_mm.shape).astype(np.uint16)
            depth_mm[10 + 3 * i : 20 + 3 * i, 10:22] = 0
            depths_mm.append(depth_mm)
        return folder(name, depths_mm, **options)

    return make
