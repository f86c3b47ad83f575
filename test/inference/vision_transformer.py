"""A small vision transformer as published depth models have one, exported by PyTorch.

Patches of 14 px, a class token, positions that are interpolated to the size of the picture, layer
scale, and a head that turns tokens into an image (Oquab et al., DINOv2, 2023; Ranftl et al., DPT,
2021). As in the large ones one number along its residuals is far larger than all others (Sun et
al., Massive Activations, 2024): here it is beyond what float16 holds.
"""

import warnings

import torch
from torch import nn
from torch.nn import functional

PATCH, WIDTH, HEADS, GRID = 14, 48, 4, 5
"""Px, channels, heads, and the side of the square of positions that it has learned."""
MASSIVE = 1e5
"""One channel of its class token; float16 ends at 65504."""


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.scale1 = nn.Parameter(torch.full((WIDTH,), 0.2))
        self.scale2 = nn.Parameter(torch.full((WIDTH,), 0.2))

    def forward(self, tokens):  # (1, N, WIDTH)
        count = tokens.shape[1]
        qkv = self.qkv(self.norm1(tokens)).reshape(1, count, 3, HEADS, WIDTH // HEADS)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        attended = attended.transpose(1, 2).reshape(1, count, WIDTH)
        tokens = tokens + self.scale1 * self.out(attended)
        return tokens + self.scale2 * self.down(functional.gelu(self.up(self.norm2(tokens))))


class VisionTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, 1 + GRID**2, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.norm = nn.LayerNorm(WIDTH)
        self.project = nn.Conv2d(WIDTH, 16, 1)
        self.smooth = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Conv2d(16, 1, 1)
        with torch.no_grad():
            self.token[..., 0] = MASSIVE

    def forward(self, image):  # (1, 3, H, W) -> (1, H, W)
        height, width = image.shape[-2:]
        rows, columns = height // PATCH, width // PATCH
        patches = self.embed(image).flatten(2).transpose(1, 2)
        square = self.positions[:, 1:].reshape(1, GRID, GRID, WIDTH).permute(0, 3, 1, 2)
        spread = functional.interpolate(square, (rows, columns), mode='bicubic')
        patches = patches + spread.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token + self.positions[:, :1], patches], 1)
        for block in self.blocks:
            tokens = block(tokens)
        features = self.norm(tokens)[:, 1:].transpose(1, 2).reshape(1, WIDTH, rows, columns)
        features = functional.relu(self.project(features))
        features = functional.interpolate(features, (height // 2, width // 2), mode='bilinear')
        features = functional.relu(self.smooth(features))
        depth = functional.interpolate(self.head(features), (height, width), mode='bilinear')
        return functional.relu(1.0 + depth[:, 0])


def export(path, size=(70, 98), *, free=False):
    """Write the transformer with the interface of Depth Anything.

    Args:
        path: Where to.
        size: Height and width, px.
        free: Whether other multiples of the patch may come, too.
    """
    axes = {'image': {2: 'height', 3: 'width'}, 'depth': {1: 'height', 2: 'width'}}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            VisionTransformer().eval(),
            torch.zeros(1, 3, *size),
            str(path),
            dynamo=False,  # the other exporter takes ten seconds to start
            opset_version=17,
            input_names=['image'],
            output_names=['depth'],
            dynamic_axes=axes if free else {},
        )
    return path
