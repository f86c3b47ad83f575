"""Batch norm folded into convolutions for export, and read back from an exported file.

A folded model is what runs fastest everywhere, but it cannot be trained further: what batch norm
knew is gone. So the exported file carries it in its metadata, and `read_back` undoes the folding.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
import copy
import io
import itertools
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

KEY = 'batch_norm'
"""Of the metadata that hold what was folded away."""
_PARTS = ('weight', 'bias', 'running_mean', 'running_var')
_LEAST = 1e-5
"""Scales of batch norm below this hold nothing that could be divided by."""


def pairs(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of convolutions and of the batch norm that directly follows each."""
    for name, module in network.named_modules():
        prefix = f'{name}.' if name else ''
        children = list(module.named_children())
        for (first, one), (second, other) in itertools.pairwise(children):
            if isinstance(one, nn.Conv2d) and isinstance(other, nn.BatchNorm2d):
                yield prefix + first, prefix + second


def folded(network: nn.Module) -> nn.Module:
    """Return a copy, in evaluation mode, whose batch norms are part of the convolutions."""
    copied = copy.deepcopy(network).eval()
    for convolution, norm in pairs(network):
        one, other = copied.get_submodule(convolution), copied.get_submodule(norm)
        assert isinstance(one, nn.Conv2d)
        assert isinstance(other, nn.BatchNorm2d)
        fused = fuse_conv_bn_eval(one, other)
        owner, _, name = convolution.rpartition('.')
        setattr(copied.get_submodule(owner), name, fused)
        owner, _, name = norm.rpartition('.')
        setattr(copied.get_submodule(owner), name, nn.Identity())
    return copied


def attach(path: Path, network: nn.Module) -> None:
    """Put what the folding of a network removed into the metadata of its ONNX file."""
    state = network.state_dict()
    arrays = {
        f'{norm}.{part}': state[f'{norm}.{part}'].numpy() for _, norm in pairs(network)
        for part in _PARTS
    }  # fmt: skip
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    model = onnx.load(str(path))
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, base64.b64encode(packed.getvalue()).decode()
    onnx.save(model, str(path))


def read_back(network: nn.Module, path: Path, prefix: str = 'network.') -> None:
    """Load the weights of a network from its ONNX file.

    They are as precise as they are stored; statistics of batch norm are what they were.

    Args:
        network: As it is trained, with batch norm.
        path: Written with `folded` and `attach`.
        prefix: Of the names in the file.

    Raises:
        SystemExit: If the file is not of this network.
    """
    try:
        model = onnx.load(str(path))
    except (OSError, ValueError) as error:
        raise SystemExit(f'{path} cannot be read: {error}') from None
    kept = {entry.key: entry.value for entry in model.metadata_props}
    if KEY not in kept:
        raise SystemExit(f'{path} holds no statistics of batch norm, so it cannot be trained on.')
    with np.load(io.BytesIO(base64.b64decode(kept[KEY]))) as arrays:
        state: dict[str, Tensor] = {
            name: torch.from_numpy(arrays[name].copy()) for name in arrays.files
        }
    given = {
        tensor.name.removesuffix('_half').removeprefix(prefix): torch.from_numpy(
            numpy_helper.to_array(tensor).astype(np.float32)
        )
        for tensor in model.graph.initializer
    }
    own = network.state_dict()
    try:
        for convolution, norm in pairs(network):
            weight, bias = given[f'{convolution}.weight'], given[f'{convolution}.bias']
            scale, _, mean, variance = (state[f'{norm}.{part}'] for part in _PARTS)
            module = network.get_submodule(norm)
            assert isinstance(module, nn.BatchNorm2d)
            spread = torch.sqrt(variance + module.eps)
            whole = torch.where(scale.abs() < _LEAST, _LEAST, scale)
            state[f'{convolution}.weight'] = weight * (spread / whole).reshape(-1, 1, 1, 1)
            # The bias that is stored is the one that counts: it was rounded with the weights.
            state[f'{norm}.bias'] = bias + scale * mean / spread
        for name in own:
            if name not in state and not name.endswith('num_batches_tracked'):
                state[name] = given[name]
        network.load_state_dict({name: state.get(name, value) for name, value in own.items()})
    except (KeyError, RuntimeError) as error:
        raise SystemExit(f'{path} is of another network: {error}') from None
