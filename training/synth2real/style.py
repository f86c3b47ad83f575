"""Content, style and smoothness of pictures of depth, as a network of features sees them.

L. A. Gatys, A. S. Ecker, M. Bethge, "Image style transfer using convolutional neural networks",
CVPR 2016, with the normalisation of J. Johnson, A. Alahi, L. Fei-Fei, "Perceptual losses for
real-time style transfer and super-resolution", ECCV 2016.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..networks.cyclegan import Coded
from .pose_gan import JOINTS, coded_around
from .posed_hands import Posed

STYLE_LAYERS = ('relu1_1', 'relu2_1', 'relu3_1', 'relu4_1', 'relu5_1')
CONTENT_LAYER = 'relu4_2'
_CONVOLUTIONS = (2, 2, 4, 4, 4)
_WIDTHS = (1, 2, 4, 8, 8)
_MEAN, _STDDEV = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of the colours that VGG-19 was trained with."""


class Vgg19(nn.Module):
    """The convolutions of VGG-19 (Simonyan and Zisserman, ICLR 2015) up to relu5_1.

    Its parameters have torchvision's names.

    Args:
        width: Channels of the first convolutions, 64 in the paper.
    """

    mean: Tensor
    stddev: Tensor

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        self.names: dict[int, str] = {}
        inputs = 3
        for stage, (count, times) in enumerate(zip(_CONVOLUTIONS, _WIDTHS, strict=True), 1):
            for number in range(1, count + 1):
                modules += [nn.Conv2d(inputs, times * width, 3, padding=1), nn.ReLU()]
                inputs = times * width
                self.names[len(modules) - 1] = name = f'relu{stage}_{number}'
                if name == STYLE_LAYERS[-1]:
                    break
            else:
                modules.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*modules)
        self.channels = inputs
        for kind, values in (('mean', _MEAN), ('stddev', _STDDEV)):
            self.register_buffer(kind, torch.tensor(values)[:, None, None], persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, grey: Tensor) -> dict[str, Tensor]:
        """Return the features (B, C, h, w) after every ReLU, by name, of (B, 1, H, W), 0 to 1."""
        x = (grey - self.mean) / self.stddev
        found = {}
        for number, module in enumerate(self.features):
            x = module(x)
            if number in self.names:
                found[self.names[number]] = x
        return found


def load_vgg19(path: Path) -> Vgg19:
    """Return VGG-19 with the weights of a file, with torchvision's names.

    Raises:
        SystemExit: If the file is of another network.
    """
    state = torch.load(path, map_location='cpu', weights_only=True)
    network = Vgg19()
    wanted = network.state_dict()
    wrong = [
        name for name in wanted if name not in state or state[name].shape != wanted[name].shape
    ]
    if wrong:
        raise SystemExit(f'{path} is not VGG-19 as torchvision names it: no such {wrong[0]}.')
    network.load_state_dict({name: state[name] for name in wanted})
    return network.eval().requires_grad_(False)


def train_depth_features(
    batches: Iterable[Posed], *, width: int = 8, learning_rate: float = 1e-3
) -> tuple[Vgg19, float]:
    """Return VGG-19's layers, narrower, trained to find joints in depth, and the last loss.

    What serves where no weights of VGG-19 are given. Joints are found by a linear layer on the
    mean of each quarter of relu5_1, by Adam.

    Args:
        batches: One a step.
        width: See `Vgg19`.
        learning_rate: Of Adam.
    """
    network = Vgg19(width)
    joints = nn.Linear(4 * network.channels, 3 * JOINTS)
    optimizer = torch.optim.Adam([*network.parameters(), *joints.parameters()], lr=learning_rate)
    loss = torch.tensor(torch.nan)
    for batch in batches:
        features = network(grey_of_depth(batch.depth, batch.distance_m))[STYLE_LAYERS[-1]]
        found = joints(functional.adaptive_avg_pool2d(features, 2).flatten(1))
        loss = functional.mse_loss(found, batch.joints.flatten(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval().requires_grad_(False), float(loss.detach())


def grey_of(coded: Coded) -> Tensor:
    """Return coded depth as a picture, (B, 1, H, W): near is 1, far is 1/4, nothing is 0."""
    return (0.625 - 0.375 * coded.value) * coded.kept


def grey_of_depth(depth: Tensor, distance_m: Tensor) -> Tensor:
    """Return crops of depth as pictures; see `grey_of`."""
    return grey_of(coded_around(depth, distance_m))


def gram(features: Tensor) -> Tensor:
    """Return which features (B, C, H, W) come together, (B, C, C), over their number C H W."""
    flat = features.flatten(2)
    return flat @ flat.mT / (flat.shape[1] * flat.shape[2])


def content_loss(made: dict[str, Tensor], wanted: dict[str, Tensor]) -> Tensor:
    """Return the mean squared difference of the features of relu4_2."""
    return functional.mse_loss(made[CONTENT_LAYER], wanted[CONTENT_LAYER])


def style_loss(
    made: dict[str, Tensor],
    style: dict[str, Tensor],
    weights: Sequence[float] = (1.0,) * len(STYLE_LAYERS),
) -> Tensor:
    """Return the squared Frobenius norm between Gram matrices, summed over layers, a mean.

    Args:
        made: Features of what was made.
        style: Features of pictures of the style, whose Gram matrices are averaged.
        weights: Of `STYLE_LAYERS`.
    """
    parts = [
        weight * (gram(made[name]) - gram(style[name]).mean(0)).square().sum((1, 2)).mean()
        for name, weight in zip(STYLE_LAYERS, weights, strict=True)
    ]
    return torch.stack(parts).sum()


def total_variation(coded: Coded) -> Tensor:
    """Return the mean absolute difference of neighbours, both of which have a value."""
    steps, known = [], []
    for axis in (2, 3):
        size = coded.kept.shape[axis] - 1
        both = coded.kept.narrow(axis, 0, size) * coded.kept.narrow(axis, 1, size)
        steps.append((coded.value.diff(dim=axis).abs() * both).sum())
        known.append(both.detach().sum())
    return torch.stack(steps).sum() / torch.stack(known).sum().clamp_min(1)
