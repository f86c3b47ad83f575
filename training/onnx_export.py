"""What exporting any network takes: the graph, its weights, proof, metadata, parity frames."""

from __future__ import annotations

from collections.abc import Sequence
import json
from pathlib import Path
from typing import Any
import warnings

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper
import onnxruntime
import torch
from torch import Tensor, nn

Frame = dict[str, npt.NDArray[Any]]

OPSET = 18
_SMALLEST = 256
"""Weights of fewer numbers stay as they are: scales and biases, on which everything hangs."""


def to_onnx(
    module: nn.Module,
    path: Path,
    example: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    free: dict[str, Any],
) -> None:
    """Write a module as an ONNX file.

    Args:
        module: What to write.
        path: Where.
        example: Inputs.
        inputs: Their names.
        outputs: Names of the outputs.
        free: Dimensions of each input that may have any size.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        program = torch.onnx.export(
            module.eval(),
            example,
            dynamo=True,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes={name: free.get(name) for name in inputs},
            opset_version=OPSET,
            optimize=True,
            verbose=False,
        )
    assert program is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(str(path))


def halve_weights(path: Path) -> None:
    """Store the weights of a model in half precision; they are computed with as before."""
    model = onnx.load(str(path))
    graph = model.graph
    casts = []
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < _SMALLEST:
            continue
        half = values.astype(np.float16)
        if not np.isfinite(half).all():
            continue
        stored = numpy_helper.from_array(half, f'{tensor.name}_half')
        casts.append(
            onnx.helper.make_node('Cast', [stored.name], [tensor.name], to=TensorProto.FLOAT)
        )
        graph.initializer.remove(tensor)
        graph.initializer.append(stored)
        for known in [v for v in graph.value_info if v.name == tensor.name]:
            graph.value_info.remove(known)
    for cast in reversed(casts):
        graph.node.insert(0, cast)
    onnx.save(model, str(path))


def open_onnx(path: Path) -> onnxruntime.InferenceSession:
    """Open a model in ONNX Runtime on the CPU, against which all else is compared."""
    return onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])


def check_against_torch(
    module: nn.Module,
    path: Path,
    frames: Sequence[Frame],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> tuple[float, float]:
    """Compare a model with the module it was exported from.

    Args:
        module: What was exported.
        path: The ONNX file.
        frames: Inputs by name.
        inputs: Names of the inputs, in the module's order.
        outputs: Names of the outputs to compare, the module's first ones.

    Returns:
        The greatest difference of all outputs, and its 99.9th percentile.

    Raises:
        SystemExit: If one has a value where the other has NaN.
    """
    session = open_onnx(path)
    found = []
    for frame in frames:
        with torch.no_grad():
            expected = module(*(torch.from_numpy(frame[name].copy()) for name in inputs))
        actual = session.run(list(outputs), frame)
        for name, got, want in zip(outputs, actual, expected, strict=False):
            if not np.array_equal(np.isnan(got), torch.isnan(want).numpy()):
                raise SystemExit(
                    f'Not exported: ONNX and PyTorch disagree on where {name} is NaN.'
                )
            found.append(np.abs(got - want.numpy()).ravel())
    off = np.concatenate(found)
    return float(off.max()), float(np.quantile(off, 0.999))


def describe(path: Path, metadata: dict[str, Any]) -> None:
    """Put metadata into a model file."""
    model = onnx.load(str(path))
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = 'depth_refiner', json.dumps(metadata)
    # Traces of where in the code a node came from: a third of the file, and of no use later.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ''
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def finish(
    path: Path,
    metadata: dict[str, Any],
    frames: Sequence[Frame],
    outputs: Sequence[str],
    card: str,
) -> None:
    """Describe a model, and write its parity frames and its card beside it.

    Args:
        path: Path of the model.
        metadata: See `depth_refiner_ros.inference.onnx_file`.
        frames: Inputs by name, that are stored with what ONNX Runtime computes from them on a CPU.
        outputs: Names.
        card: Markdown.
    """
    describe(path, metadata)
    session = open_onnx(path)
    arrays: Frame = {}
    for number, frame in enumerate(frames):
        results = dict(zip(outputs, session.run(list(outputs), frame), strict=True))
        arrays |= {f'{number}/{name}': value for name, value in (frame | results).items()}
    np.savez_compressed(path.with_suffix('.npz'), **arrays)  # type: ignore[arg-type]
    path.with_suffix('.md').write_text(card)
    print(f'{path}: {path.stat().st_size / 1e6:.1f} MB, with {path.stem}.npz and .md')
