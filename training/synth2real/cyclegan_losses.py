"""CycleGAN's losses on depth with holes; see `training.networks.cyclegan`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..networks.cyclegan import Coded


def least_squares(output: Tensor, *, real: bool) -> Tensor:
    """Return the mean square of what a discriminator's answers lack to 1, if real, or to 0."""
    return functional.mse_loss(output, torch.full_like(output, float(real)))


def value_loss(made: Coded, wanted: Coded) -> Tensor:
    """Return the mean absolute difference of values where there shall be one, in the code's units.

    What a translation made into a hole on its way counts like any other value: it is to be found
    again.
    """
    difference = (made.value - wanted.value).abs() * wanted.kept
    return difference.sum() / wanted.kept.sum().clamp_min(1)


def validity_loss(made: Coded, wanted: Coded) -> Tensor:
    """Return the cross-entropy of where there are values to where there shall be some."""
    return functional.binary_cross_entropy_with_logits(made.logit, wanted.kept)


def discriminator_accuracy(on_real: Tensor, on_fake: Tensor) -> Tensor:
    """Return the share of patches that a discriminator is right about; 1/2 is guessing."""
    return ((on_real > 0.5).float().mean() + (on_fake < 0.5).float().mean()) / 2
