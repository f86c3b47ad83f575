"""Networks that translate images into images, and discriminators of such translations.

P. Isola, J.-Y. Zhu, T. Zhou, A. A. Efros, "Image-to-image translation with conditional adversarial
networks", CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Norm = Callable[[int], nn.Module]


class UNetGenerator(nn.Module):
    """The paper's U-Net: 4x4 convolutions halve an image down to a bottleneck and double it back.

    Every resolution hands its features across. Noise comes in as dropout on the way up, at the
    three coarsest, and while training only.

    Args:
        inputs: Channels of what is translated.
        outputs: Channels of the translation.
        width: Channels of the finest resolution; the others have twice, four and eight times that.
        levels: How often the image is halved; the paper's 8 make 256x256 a point.
        dropout: Share of features dropped.
        norm: Makes the normalisation of so many channels.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int = 64,
        levels: int = 8,
        dropout: float = 0.5,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f'a U-Net has 2 levels or more, not {levels}')
        self.levels = levels
        widths = [width * min(2**level, 8) for level in range(levels)]
        self.down = nn.ModuleList([nn.Conv2d(inputs, widths[0], 4, 2, 1)])
        for level in range(1, levels):
            layers = [nn.LeakyReLU(0.2), nn.Conv2d(widths[level - 1], widths[level], 4, 2, 1)]
            # The bottleneck may be one pixel, over which there is nothing to normalise.
            if level < levels - 1:
                layers.append(norm(widths[level]))
            self.down.append(nn.Sequential(*layers))
        self.up = nn.ModuleList()
        for level in range(levels - 1, 0, -1):
            given = widths[level] * (1 if level == levels - 1 else 2)
            self.up.append(
                nn.Sequential(
                    nn.ReLU(),
                    nn.ConvTranspose2d(given, widths[level - 1], 4, 2, 1),
                    norm(widths[level - 1]),
                    nn.Dropout(dropout if level >= levels - 3 else 0),
                )
            )
        self.last = nn.Sequential(
            nn.ReLU(), nn.ConvTranspose2d(2 * widths[0], outputs, 4, 2, 1), nn.Tanh()
        )
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, outputs, H, W), -1 to 1; H and W are multiples of 2 ** levels."""
        kept = [self.down[0](image)]
        for down in self.down[1:]:
            kept.append(down(kept[-1]))
        x = kept.pop()
        for up in self.up:
            x = torch.cat([up(x), kept.pop()], 1)
        return self.last(x)  # type: ignore[no-any-return]


class PatchDiscriminator(nn.Module):
    """Discriminators whether patches of an image are real: a logit for every patch that it sees.

    Args:
        inputs: Channels of its input: condition and translation together, if conditional.
        width: Channels of the first layer; the others have twice, four and eight times that.
        layers: Of stride 2; 3 see patches of 70x70, 2 of 34x34, 1 of 16x16.
        norm: Makes the normalisation of so many channels.
    """

    def __init__(
        self, inputs: int, *, width: int = 64, layers: int = 3, norm: Norm = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        widths = [width * min(2**layer, 8) for layer in range(layers + 1)]
        modules: list[nn.Module] = [nn.Conv2d(inputs, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for layer in range(1, layers + 1):
            stride = 2 if layer < layers else 1
            modules += [
                nn.Conv2d(widths[layer - 1], widths[layer], 4, stride, 1),
                norm(widths[layer]),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*modules, nn.Conv2d(widths[-1], 1, 4, 1, 1))
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, (B, 1, h, w)."""
        return self.layers(image)  # type: ignore[no-any-return]


def _initialise(module: nn.Module) -> None:
    """Draw weights as the paper does."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)
        nn.init.zeros_(module.bias)


def adversarial(logits: Tensor, *, real: bool) -> Tensor:
    """Return the cross-entropy of a discriminator's logits to one answer."""
    return functional.binary_cross_entropy_with_logits(
        logits, torch.full_like(logits, float(real))
    )
