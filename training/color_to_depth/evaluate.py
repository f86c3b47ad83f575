"""Score models from colour to depth on pairs; see `training.color_to_depth.export.score`.

python -m training.color_to_depth.evaluate data/rooms \
        --models runs/l1/model.onnx runs/both/model.onnx
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import tyro

from ..datasets import DatasetError
from ..onnx_export import open_onnx
from ..pairs import Pairs, open_frames, split, spread
from .export import estimator, score, sheet


@dataclass
class Settings:
    """Score models from colour to depth."""

    data: tyro.conf.Positional[tuple[Path, ...]]
    """Shards or datasets to score on."""
    models: tuple[Path, ...] = ()
    """ONNX files of `training.color_to_depth.train_cascade` or `train_pix2pix`."""
    parts: tuple[Literal['train', 'validation', 'test'], ...] = ('train', 'test')
    """Parts of the scenes to score on."""
    held_out: float = 0.05
    """Share of the scenes that was held out in training."""
    frames: int = 0
    """How many of the training frames were used; 0 stands for all."""
    count: int = 200
    """Frames of each part that are scored, at most, evenly spread."""
    measured: bool = False
    """Take measurements of simulated sensors for the truth of rendered scenes."""
    research: bool = False
    """Allow datasets whose weights may not be shipped."""
    picture: Path | None = None
    """Write a PNG of some frames of the last part: colour, truth, and the depth of each model."""
    pictured: int = 4
    """Frames in the picture."""


def main(settings: Settings) -> None:
    """Print a table, Markdown."""
    if not settings.models:
        raise SystemExit('Name the models: --models runs/a/model.onnx runs/b/model.onnx')
    try:
        frames = open_frames(settings.data, measured=settings.measured, research=settings.research)
        parts = split(frames.scenes, settings.held_out)
    except (DatasetError, ValueError) as error:
        raise SystemExit(str(error)) from None
    parts['train'] = parts['train'][: settings.frames or None]
    print('| model | scenes | MAE m | RMSE m | AbsRel | delta1 | boundary F1 |')
    print('| --- | --- | --- | --- | --- | --- | --- |')
    for path in settings.models:
        for part in settings.parts:
            pairs = Pairs(frames, spread(parts[part], settings.count), _size(path))
            f = score(estimator(path), pairs)
            print(
                f'| {path.parent.name} | {part} | {f["mae_m"]:.3f} | {f["rmse_m"]:.3f} '
                f'| {f["absrel"]:.3f} | {f["delta1"]:.3f} | {f["boundary_f1"]:.4f} |',
                flush=True,
            )
    if settings.picture is not None:
        indices = spread(parts[settings.parts[-1]], settings.pictured)
        pairs = Pairs(frames, indices, _size(settings.models[0]))
        image = sheet(pairs, *(estimator(path) for path in settings.models))
        cv2.imwrite(str(settings.picture), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def _size(path: Path) -> tuple[int, int]:
    session = open_onnx(path)
    height, width, _ = session.get_inputs()[0].shape
    return height, width


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__))
