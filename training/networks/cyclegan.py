"""CycleGAN's generators for metric depth with holes.

J.-Y. Zhu, T. Park, P. Isola, A. A. Efros, "Unpaired image-to-image translation using
cycle-consistent adversarial networks", ICCV 2017. The generator's layers are the paper's. Depth is
not an image, though: a pixel has a value or it has none. Networks here take in and put out both, a
value and whether there is one, and all depth goes through a `Code` that is precise to the
micrometre.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..datasets.hands import BACKGROUND_M
from .pix2pix import Norm, PatchDiscriminator
from .simgan import Refined

_SURE = 2.0
"""Logit with which a generator starts to keep holes holes, and values values."""


class ResNetGenerator(nn.Module):
    """The paper's generator: c7s1-64, d128, d256, blocks of 256, u128, u64, c7s1.

    Args:
        inputs: Channels of what is translated.
        outputs: Channels of the translation; nothing bounds them.
        width: Channels of the finest resolution.
        blocks: Residual blocks at a quarter of the resolution; 6 for 128x128, 9 for 256x256.
        norm: Makes the normalisation of so many channels.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int = 64,
        blocks: int = 6,
        norm: Norm = nn.InstanceNorm2d,
    ) -> None:
        super().__init__()
        modules: list[nn.Module] = [
            nn.ReflectionPad2d(3), nn.Conv2d(inputs, width, 7), norm(width), nn.ReLU()
        ]  # fmt: skip
        for count in (2 * width, 4 * width):
            modules += [nn.Conv2d(count // 2, count, 3, 2, 1), norm(count), nn.ReLU()]
        modules += [ResidualBlock(4 * width, norm) for _ in range(blocks)]
        for count in (2 * width, width):
            modules += [
                nn.ConvTranspose2d(2 * count, count, 3, 2, 1, output_padding=1), norm(count),
                nn.ReLU(),
            ]  # fmt: skip
        self.layers = nn.Sequential(*modules, nn.ReflectionPad2d(3), nn.Conv2d(width, outputs, 7))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0, 0.02)

    @property
    def last(self) -> nn.Conv2d:
        """The output layer."""
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        return last

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, outputs, H, W); H and W are multiples of 4."""
        return self.layers(image)  # type: ignore[no-any-return]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a way around them.

    Args:
        channels: In and out.
        norm: Makes the normalisation of so many channels.
    """

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), norm(channels), nn.ReLU(),
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), norm(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same size."""
        return x + self.layers(x)  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------- metric


class Coded(NamedTuple):
    """Depth as networks are taught with it.

    Attributes:
        value: (B, 1, H, W) in units of a `Code`; of holes, what would be there.
        kept: (B, 1, H, W), 1 where there is a value, 0 in holes; has a derivative.
        logit: (B, 1, H, W) of being kept; infinite where a pixel is certainly kept.
    """

    value: Tensor
    kept: Tensor
    logit: Tensor


@dataclass(frozen=True)
class Code:
    """How depth is written for networks.

    Attributes:
        origin_m: Depth of the input's 0 m, which is a hole.
        unit: What the code's 1 stands for: metres, or if logarithmic, powers of e.
        fine_unit: What a pixel differs from its neighbours by to be seen as 1/2.
        logarithmic: Whether an error weighs in proportion to depth.
        centred: Whether the mean of each image is its 0.
    """

    origin_m: float
    unit: float
    fine_unit: float
    logarithmic: bool
    centred: bool

    def encode(self, depth: Tensor) -> tuple[Coded, Tensor]:
        """Return coded depth, and the mean (B, 1, 1, 1) to decode it with.

        Args:
            depth: (B, 1, H, W) metres beyond `origin_m`, 0 in holes.
        """
        known = depth != 0
        kept = known.to(depth.dtype)
        plain = depth
        if self.logarithmic:
            plain = torch.where(known, depth + self.origin_m, 1.0).log()
        mean = torch.zeros_like(plain[:, :, :1, :1])
        if self.centred:
            total = (plain * kept).sum((2, 3), keepdim=True)
            mean = total / kept.sum((2, 3), keepdim=True).clamp_min(1)
        value = torch.where(known, (plain - mean) / self.unit, 0.0)
        return Coded(value, kept, kept), mean

    def decode(self, value: Tensor, mean: Tensor) -> Tensor:
        """Return depth, metres beyond `origin_m`, of coded values."""
        plain = mean + self.unit * value
        return plain.exp() - self.origin_m if self.logarithmic else plain

    def seen(self, coded: Coded) -> Tensor:
        """Return depth as networks see it, (B, 3, H, W), zero in holes.

        Values; values relative to the mean of the 3x3 pixels around, squashed to -1 to 1, in
        which a sensor's noise is as large as edges are; and what is kept.
        """
        value, kept = coded.value * coded.kept, coded.kept
        around = functional.avg_pool2d(kept, 3, 1, 1).clamp_min(1 / 9)
        mean = functional.avg_pool2d(value, 3, 1, 1) / around
        fine = functional.softsign((value - mean) * (self.unit / self.fine_unit)) * kept
        return torch.cat([value, fine, kept], 1)


HAND_CODE = Code(BACKGROUND_M, unit=0.15, fine_unit=0.005, logarithmic=False, centred=True)
"""Of crops of hands, half as deep as they are wide."""
FRAME_CODE = Code(0.0, unit=2.0, fine_unit=0.01, logarithmic=True, centred=False)
"""Of whole frames, 0.14 m to 7.4 m from -1 to 1."""


class Grain(nn.Module):
    """Noise to make rough things of: a fixed tile, shifted by the number of an image's pixels.

    The same image has always the same noise, so that a translation is a function.

    Args:
        size_px: Rows and columns, after which it repeats.
    """

    tile: Tensor

    def __init__(self, size_px: int = 256) -> None:
        super().__init__()
        drawn = torch.randn(size_px, size_px, generator=torch.Generator().manual_seed(size_px))
        self.register_buffer('tile', drawn, persistent=False)

    def forward(self, kept: Tensor) -> Tensor:
        """Return noise (B, 1, H, W) for images of which pixels are kept."""
        pixels = kept.detach().flatten(1).sum(1).long()
        size = len(self.tile)
        rows = torch.arange(kept.shape[2], device=kept.device) + pixels[:, None]
        columns = torch.arange(kept.shape[3], device=kept.device) + pixels[:, None] // 7
        return self.tile[rows[:, :, None] % size, columns[:, None, :] % size][:, None]


class Translator(nn.Module):
    """A generator of depth: predicts by how much values change, and where there are values.

    With an output of 0 it returns its input, holes and all. Where a hole becomes a value the
    change is the value. A pixel is kept by a step whose derivative is that of the sigmoid it cuts
    (Bengio et al., "Estimating or propagating gradients through stochastic neurons", 2013).

    Args:
        code: How depth is written.
        width: See `ResNetGenerator`.
        blocks: See `ResNetGenerator`.
        direct: Say values themselves, as in the paper, not their change.
    """

    def __init__(
        self, code: Code, *, width: int = 64, blocks: int = 6, direct: bool = False
    ) -> None:
        super().__init__()
        self.code, self.direct = code, direct
        self.grain = Grain()
        self.network = ResNetGenerator(4, 2, width=width, blocks=blocks)
        if not direct:
            nn.init.normal_(self.network.last.weight, 0, 1e-4)
            assert self.network.last.bias is not None
            nn.init.zeros_(self.network.last.bias)

    def forward(self, given: Coded) -> Coded:
        """Translate coded depth; H and W are multiples of 4."""
        seen = torch.cat([self.code.seen(given), self.grain(given.kept)], 1)
        output = self.network(seen).to(given.value.dtype)
        value, logit = output[:, :1].tanh(), output[:, 1:]
        if not self.direct:
            value = given.value * given.kept + value
            logit = logit + _SURE * (2 * given.kept - 1)
        share = logit.sigmoid()
        kept = (logit > 0).to(share.dtype) + (share - share.detach())
        return Coded(value, kept, logit)


class DepthTranslator(nn.Module):
    """A translator with its code around it: depth in, depth out, of any size.

    Args:
        translator: From one domain to the other.
    """

    def __init__(self, translator: Translator) -> None:
        super().__init__()
        self.translator = translator

    def forward(self, depth: Tensor) -> Refined:
        """Translate depth (B, 1, H, W), metres beyond the code's origin, 0 in holes."""
        code = self.translator.code
        height, width = depth.shape[2:]
        padded = functional.pad(depth, (0, -width % 4, 0, -height % 4))
        coded, mean = code.encode(padded)
        made = self.translator(coded)
        return Refined(
            code.decode(made.value, mean)[:, :, :height, :width],
            (made.logit > 0).to(depth.dtype)[:, :, :height, :width],
        )


# ---------------------------------------------------------------------------------------- cycle


class Cycle(NamedTuple):
    """All translations of a step.

    Attributes:
        real_of: Synthetic to real.
        synthetic_of: Real to synthetic.
        synthetic_again: Synthetic to real and back.
        real_again: Real to synthetic and back.
        same_real: Real, by what makes things real: nothing shall change.
        same_synthetic: Synthetic, by what makes things synthetic.
    """

    real_of: Coded
    synthetic_of: Coded
    synthetic_again: Coded
    real_again: Coded
    same_real: Coded
    same_synthetic: Coded


class Translators(nn.Module):
    """Both generators.

    Args:
        make: Makes one.
    """

    def __init__(self, make: Callable[[], Translator]) -> None:
        super().__init__()
        self.synth2real = make()
        self.real2synth = make()

    def forward(self, synthetic: Coded, real: Coded) -> Cycle:
        """Translate, translate back, and translate what needs no translation."""
        real_of, synthetic_of = self.synth2real(synthetic), self.real2synth(real)
        return Cycle(
            real_of,
            synthetic_of,
            self.real2synth(real_of),
            self.synth2real(synthetic_of),
            self.synth2real(real),
            self.real2synth(synthetic),
        )


class Discriminators(nn.Module):
    """Both PatchGANs, with instance normalisation as in the paper.

    Args:
        width: See `PatchDiscriminator`.
        layers: See `PatchDiscriminator`.
    """

    def __init__(self, *, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        norm: Norm = nn.InstanceNorm2d
        self.synthetic = PatchDiscriminator(3, width=width, layers=layers, norm=norm)
        self.real = PatchDiscriminator(3, width=width, layers=layers, norm=norm)

    def forward(self, synthetic: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Return what one says of synthetic and the other of real depth, as it is seen."""
        return self.synthetic(synthetic), self.real(real)
