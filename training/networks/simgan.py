"""SimGAN's networks: refiners that make synthetic images look measured, and discriminators.

A. Shrivastava, T. Pfister, O. Tuzel, J. Susskind, W. Wang, R. Webb, "Learning from Simulated and
Unsupervised Images through Adversarial Training", CVPR 2017. The paper gives layers and maps; it
says nothing of padding (here half a kernel, so that sizes survive), of activations (ReLU, in
discriminators leaky) and of how depth enters: a network that sees metres sees no millimetres.
Here it sees depth relative to the hand, and what is fine of it apart; see `seen_depth`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

RELATIVE_M = 0.05
"""Unit of depth relative to the mean of a hand, for networks."""
FINE_M = 0.005
"""Unit of depth relative to its neighbours, for networks."""
_CHANGE_M = 0.005
_STEP_M = 0.015
_GRAIN_PX = 256
_SUREST = 4.0
"""Logarithm of the odds."""


# ------------------------------------------------------------------------------------- refiners


class ResidualBlock(nn.Module):
    """Two convolutions and what was given to them.

    Args:
        maps: Channels.
        kernel: Rows and columns of filters, odd.
    """

    def __init__(self, maps: int, kernel: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(maps, maps, kernel, padding=kernel // 2),
            nn.ReLU(),
            nn.Conv2d(maps, maps, kernel, padding=kernel // 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same size."""
        return functional.relu(x + self.layers(x))


class RefinerLayers(nn.Sequential):
    """The paper's fully convolutional ResNet, without stride or pooling.

    Args:
        inputs: Channels of the image.
        outputs: Channels of the output.
        kernel: Rows and columns of filters; 7 for hands, 3 for gaze.
        blocks: Of two convolutions; 10 for hands, 4 for gaze.
        maps: Channels of features.
    """

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, blocks: int, maps: int = 64
    ) -> None:
        last = nn.Conv2d(maps, outputs, 1)
        # With the skip connection, a small output makes the refiner start near the identity.
        nn.init.normal_(last.weight, 0, 1e-3)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        super().__init__(
            nn.Conv2d(inputs, maps, kernel, padding=kernel // 2),
            nn.ReLU(),
            *(ResidualBlock(maps, kernel) for _ in range(blocks)),
            last,
        )


class Refined(NamedTuple):
    """What a refiner makes of images.

    Attributes:
        image: (B, 1, H, W); where nothing is kept, what would be there.
        kept: (B, 1, H, W), 1 where the image is known, 0 at holes; has a derivative.
    """

    image: Tensor
    kept: Tensor

    def without_holes(self) -> Tensor:
        """Return the image, exactly 0 where nothing is kept."""
        return torch.where(self.kept > 0.5, self.image, 0.0)


class DepthRefiner(nn.Module):
    """Refines crops of hands, `training.synth2real.crops.HandCrops`.

    Three things are not the paper's. The network says by how much depth changes (`direct` says
    depth itself, as in the paper, and then learns for long to return its input). It may drop
    pixels, since sensors do: it says with what probability, and noise decides, which is learned
    through the probability's derivative (Bengio et al., "Estimating or propagating gradients
    through stochastic neurons", 2013). Probabilities stay within 2 % of never and always, or a
    refiner that once drops too much could not come back. It may drop pixels beside a step or the
    outline, and one of six elsewhere, where noise is great: one that is free to drop everything
    does so, since a pixel that is missing cannot look wrong. And it sees noise, since what is
    smooth cannot become rough in one certain way: fixed tiles of it, shifted by the number of the
    hand's pixels, so that the same crop is always refined to the same.

    Args:
        kernel: See `RefinerLayers`.
        blocks: See `RefinerLayers`.
        maps: See `RefinerLayers`.
        direct: Say depth, not its change.
        holes: Whether pixels may be dropped.
        grain: Whether noise is seen.
    """

    grain: Tensor
    chance: Tensor

    def __init__(
        self,
        *,
        kernel: int = 7,
        blocks: int = 10,
        maps: int = 64,
        direct: bool = False,
        holes: bool = True,
        grain: bool = True,
    ) -> None:
        super().__init__()
        self.direct, self.holes, self.grainy = direct, holes, grain
        self.layers = RefinerLayers(3 + grain, 1 + holes, kernel=kernel, blocks=blocks, maps=maps)
        generator = torch.Generator().manual_seed(_GRAIN_PX)
        tile = (_GRAIN_PX, _GRAIN_PX)
        self.register_buffer('grain', torch.randn(tile, generator=generator), persistent=False)
        self.register_buffer('chance', torch.rand(tile, generator=generator), persistent=False)

    def forward(self, depth: Tensor) -> Refined:
        """Refine crops.

        Args:
            depth: (B, 1, H, W) metres nearer than 2 m, as negative numbers; 0 is nothing.
        """
        hand = (depth != 0).to(depth.dtype)
        seen = seen_depth(Refined(depth, hand))
        grain = shifted(self.grain, hand)
        if self.grainy:
            seen = torch.cat([seen, grain], 1)
        output = self.layers(seen).to(depth.dtype)
        if self.direct:
            image = mean_depth(depth, hand) + RELATIVE_M * output[:, :1]
        else:
            image = depth + _CHANGE_M * output[:, :1]
        kept = hand
        if self.holes:
            # Starts with nearly everything kept, and not so surely that it could not change.
            share = torch.sigmoid(_SUREST * functional.softsign(output[:, 1:] + 1.5))
            hit = (shifted(self.chance, hand) < share).to(depth.dtype)
            kept = hand * (hit + (share - share.detach()))
            # What is beside the hand is 2 m away, so its outline is a step, too.
            reach = functional.max_pool2d(depth, 3, 1, 1) + functional.max_pool2d(-depth, 3, 1, 1)
            kept = torch.where((reach > _STEP_M) | (grain > 1), kept, hand)
        return Refined(torch.where(hand > 0, image, 0.0), kept)


def shifted(tile: Tensor, hand: Tensor) -> Tensor:
    """Return a tile on hands (B, 1, H, W), shifted by how many pixels each of them has."""
    pixels = hand.flatten(1).sum(1).long()
    rows = torch.arange(hand.shape[2], device=hand.device) + pixels[:, None]
    columns = torch.arange(hand.shape[3], device=hand.device) + pixels[:, None] // 7
    drawn = tile[rows[:, :, None] % _GRAIN_PX, columns[:, None, :] % _GRAIN_PX]
    return drawn[:, None] * hand


class GreyRefiner(nn.Module):
    """Refines grey images, 0 to 1, of eyes.

    Args:
        kernel: See `RefinerLayers`.
        blocks: See `RefinerLayers`.
        maps: See `RefinerLayers`.
        direct: Say the image, as in the paper, not its change.
    """

    def __init__(
        self, *, kernel: int = 3, blocks: int = 4, maps: int = 64, direct: bool = False
    ) -> None:
        super().__init__()
        self.direct = direct
        self.layers = RefinerLayers(1, 1, kernel=kernel, blocks=blocks, maps=maps)

    def forward(self, image: Tensor) -> Refined:
        """Refine images (B, 1, H, W); all of them is kept."""
        output = self.layers(seen_grey(Refined(image, image))).to(image.dtype)
        refined = 0.5 + 0.5 * output if self.direct else image + 0.1 * output
        return Refined(refined, torch.ones_like(image))


def seen_depth(refined: Refined) -> Tensor:
    """Return crops of depth as networks see them, (B, 3, H, W), zero where nothing is kept.

    Depth relative to the mean of the hand, in 5 cm; depth relative to the mean of the pixel and
    eight that are two pixels away, in 5 mm and squashed to -1 to 1; what is kept. In the first a
    sensor's noise is a few hundredths; the second is what shows it, and edges do not drown it.
    Two away, as crops of coarse cameras have their pixels twice: which tells them at a glance,
    and is nothing that a refiner without strides could learn or a network should.
    """
    image, kept = refined
    relative = (image - mean_depth(image, kept)) * kept
    mean = _sum_around(relative) / _sum_around(kept).clamp_min(1)
    fine = functional.softsign((relative - mean) / FINE_M) * kept
    return torch.cat([relative / RELATIVE_M, fine, kept], 1)


def _sum_around(image: Tensor) -> Tensor:
    # Not as a convolution, which mixed precision would round to half a millimetre.
    rows, columns = image.shape[2:]
    padded = functional.pad(image, (2, 2, 2, 2))
    down = padded[:, :, :rows] + padded[:, :, 2 : rows + 2] + padded[:, :, 4:]
    return down[..., :columns] + down[..., 2 : columns + 2] + down[..., 4:]


def seen_grey(refined: Refined) -> Tensor:
    """Return grey images as networks see them, (B, 1, H, W), -1 to 1."""
    return 2 * refined.image - 1


def mean_depth(image: Tensor, kept: Tensor) -> Tensor:
    """Return the mean of what is kept, (B, 1, 1, 1); 0 if nothing is."""
    return (image * kept).sum((2, 3), keepdim=True) / kept.sum((2, 3), keepdim=True).clamp_min(1)


# -------------------------------------------------------------------------------- discriminators


class Layer(NamedTuple):
    """A layer of a discriminator.

    Attributes:
        kernel: Rows and columns.
        stride: In pixels of what it is given.
        maps: Channels of a convolution; 0 takes the greatest of every channel.
    """

    kernel: int
    stride: int
    maps: int


HAND_LAYERS = (
    Layer(7, 4, 96), Layer(5, 2, 64), Layer(3, 2, 0), Layer(3, 2, 32), Layer(1, 1, 32),
)  # fmt: skip
"""Of 224x224: 7x7 patches that see 71x71."""
GAZE_LAYERS = (
    Layer(3, 2, 96), Layer(3, 2, 64), Layer(3, 1, 0), Layer(3, 1, 32), Layer(1, 1, 32),
)  # fmt: skip
"""Of 35x55: 9x14 patches that see 23x23."""
SMALL_CROP_PX = 128
"""Crops of hands below are seen by `GAZE_LAYERS`: the others would see nearly all of a hand at
once, while 23 of 64 or 96 px are as many millimetres of it as 71 of 224."""
REAL, REFINED = 0, 1
"""Classes of a discriminator; its probability that an image is refined is the paper's D."""


class Discriminator(nn.Module):
    """Discriminators of every patch whether it is real or refined.

    Args:
        inputs: Channels of what it sees.
        layers: All but the last, which is a 1x1 convolution to the two classes.
        size: Rows and columns of images; needed only to classify them as a whole.
        adversarial: 'global' puts a fully connected layer in the place of the last, which
            classifies the whole image: what the paper compares with.
    """

    def __init__(
        self,
        inputs: int,
        layers: Sequence[Layer],
        size: tuple[int, int],
        adversarial: Literal['local', 'global'] = 'local',
    ) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        for kernel, stride, maps in layers:
            if maps:
                modules += [
                    nn.Conv2d(inputs, maps, kernel, stride, kernel // 2), nn.LeakyReLU(0.2)
                ]  # fmt: skip
                inputs = maps
            else:
                modules.append(nn.MaxPool2d(kernel, stride, kernel // 2))
        if adversarial == 'local':
            modules.append(nn.Conv2d(inputs, 2, 1))
        else:
            modules.append(nn.Conv2d(inputs, 2, patches(layers, size)))
        self.layers = nn.Sequential(*modules)

    def forward(self, seen: Tensor) -> Tensor:
        """Return logits (B, 2, h, w), real and refined, whose softmax over 2 is of each patch."""
        return self.layers(seen)  # type: ignore[no-any-return]


def patches(layers: Sequence[Layer], size: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of the patches that images of a size are classified in."""
    rows, columns = size
    for layer in layers:
        rows, columns = -(-rows // layer.stride), -(-columns // layer.stride)
    return rows, columns
