r"""Train SimGAN: a refiner makes rendered images look measured, and leaves what they show.

    python -m training.synth2real.train_simgan hands runs/simgan --real data/hands_kinect_v2
    python -m training.synth2real.train_simgan hands runs/quick --size 96 --kernel 3 --blocks 3 \
        --maps 16 --batch 8 --steps 120 --refiner-alone 10 --discriminator-alone 10
    python -m training.synth2real.train_simgan gaze runs/gaze --synthetic unity_eyes \
        --real mpii_gaze

A. Shrivastava, T. Pfister, O. Tuzel, J. Susskind, W. Wang, R. Webb, "Learning from Simulated and
Unsupervised Images through Adversarial Training", CVPR 2017: Algorithm 1. First the refiner is
trained alone, to return its input, then the discriminator alone, then K_g steps of one and K_d of
the other make a step of the run. `--history 0` and `--adversarial global` are the paper's
ablations.

Neither loss says whether a refiner is any good. At every validation the refined hands are compared
with the rendered and with the real ones (see `training.synth2real.hand_metrics`), and the weights
that are kept, exported and loaded are those whose patches look most like real ones
(kernel distance) among those that move joints by one pixel at most, for which `--pose` gives a
trained hourglass. Both are known without a real label; the task itself, which needs some, is in
`training.synth2real.evaluate`. Ctrl-C saves a checkpoint; the same command goes on from it. Every
run ends with model.onnx.
"""

from __future__ import annotations

from typing import Annotated

import tyro

from .simgan import train
from .simgan_settings import GazeSettings, HandSettings

if __name__ == '__main__':
    train(
        tyro.cli(
            Annotated[HandSettings, tyro.conf.subcommand('hands')]
            | Annotated[GazeSettings, tyro.conf.subcommand('gaze')],
            description=__doc__,
        )
    )
