"""Draw a sheet of rendered eyes, some as a camera would see them, some with their gaze.

python -m training.render.eye_sheet eyes.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from depth_refiner_ros.pictures import write_png

from .eyes import photographed, render_eyes, sample_eyes, sheet


@dataclass
class Options:
    """What to draw."""

    output: tyro.conf.Positional[Path]
    """PNG file to write."""


def main(options: Options) -> None:
    """Write the sheet."""
    eyes = sample_eyes(0, 48)
    grey = render_eyes(eyes)
    both = torch.cat([grey[:24], photographed(grey, 1)[24:]])
    write_png(options.output, np.vstack([sheet(both), sheet(both[16:32], eyes.gaze[16:32])]))


if __name__ == '__main__':
    main(tyro.cli(Options, description=__doc__))
