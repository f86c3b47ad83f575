"""SimGAN's losses: being taken for real patch by patch, and staying close to what was rendered."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..networks.simgan import Refined

Features = list[tuple[Tensor, Tensor]]
"""Features of images, and where they count, 0 or 1; shapes that broadcast."""
Psi = Callable[[Tensor, Tensor], Features]
"""The paper's psi: features of images (B, C, H, W) that are known where (B, 1, H, W) is 1."""


def adversarial(logits: Tensor, kind: int) -> Tensor:
    """Return the cross-entropy of all patches to one class, their mean.

    Args:
        logits: (B, 2, h, w).
        kind: `REAL` or `REFINED` of `training.networks.simgan`.
    """
    wanted = torch.full_like(logits[:, 0], kind, dtype=torch.long)
    return functional.cross_entropy(logits, wanted)


def accuracy(logits: Tensor, kind: int) -> Tensor:
    """Return the share of patches, (B, 2, h, w), that are taken for what they are."""
    return (logits.argmax(1) == kind).float().mean()


def identity(image: Tensor, known: Tensor) -> Features:
    """Return images as they are."""
    return [(image, known)]


def derivatives(image: Tensor, known: Tensor) -> Features:
    """Return differences of neighbours, across and down, where both are known."""
    return [
        (image[..., 1:] - image[..., :-1], known[..., 1:] * known[..., :-1]),
        (image[..., 1:, :] - image[..., :-1, :], known[..., 1:, :] * known[..., :-1, :]),
    ]


def channel_mean(image: Tensor, known: Tensor) -> Features:
    """Return the mean of every channel over what is known: colour, or distance."""
    area = known.sum((2, 3), keepdim=True)
    mean = (image * known).sum((2, 3), keepdim=True) / area.clamp_min(1)
    return [(mean, (area > 0).to(image.dtype))]


def features_of(network: nn.Module) -> Psi:
    """Return the psi that a network is, from (B, C, H, W) with 0 where nothing is known."""
    network.eval().requires_grad_(False)

    def psi(image: Tensor, known: Tensor) -> Features:
        found = network(image * known)
        return [(found, torch.ones_like(found))]

    return psi


PSI: dict[str, Psi] = {
    'identity': identity, 'derivatives': derivatives, 'mean': channel_mean
}  # fmt: skip


def self_regularisation(
    psi: Psi, refined: Refined, image: Tensor, *, unit: float, hole: float = 0.0
) -> Tensor:
    """Return |psi(R(x)) - psi(x)|_1, a mean over where both are known.

    Args:
        psi: What shall stay.
        refined: R(x).
        image: x, (B, 1, H, W); nothing is known where nothing was kept of it.
        unit: Unit of the image, in that of the result; 1000 for metres and millimetres.
        hole: What each pixel costs that is not kept, in units of the result.
    """
    known = (refined.kept > 0.5).to(image.dtype)
    total = image.new_zeros(())
    for (after, counts), (before, _) in zip(
        psi(refined.image, known), psi(image, known), strict=True
    ):
        counts = counts.expand_as(after)
        total = total + ((after - before).abs() * counts).sum() / counts.sum().clamp_min(1)
    if not hole:
        return unit * total
    return unit * total + hole * lost_share(refined, image)


def lost_share(refined: Refined, image: Tensor) -> Tensor:
    """Return which share of the known pixels of images a refiner drops; has a derivative."""
    there = (image != 0).to(image.dtype)
    return (there - refined.kept * there).sum() / there.sum().clamp_min(1)
