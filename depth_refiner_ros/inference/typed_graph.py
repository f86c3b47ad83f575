"""Gives every tensor of an ONNX graph the type it shall have in TensorRT.

A strongly typed network computes in the types that its graph names, nothing is lowered behind its
back. So precision is chosen here: convolutions and what lies between them become float16 or int8,
and all that computes depth stays float32, for plane slopes need more digits than float16 has.
ONNX Runtime runs the same graph, which is how its error is known before a GPU is there.

Needed to build engines, not to run them; so is the `onnx` library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

_CONVOLUTIONS = frozenset({'Conv', 'ConvTranspose'})
PRODUCTS = frozenset({'MatMul', 'Gemm'})
"""What attention is made of. Softmax, norms and the sums along the network stay float32: what
flows there grows beyond what float16 holds."""
# They pass values on, or add and compare them: as exact in float16 as what they are given.
_BETWEEN = frozenset({'Relu', 'LeakyRelu', 'Add', 'Concat', 'MaxPool', 'AveragePool', 'Resize'})
_QUANTIZED_MAX = 127
# Of their inputs, those that are values; Resize's others are sizes.
_VALUE_INPUTS = {'Resize': 1}


def for_tensorrt(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model that computes the same and casts images of bytes before all else.

    TensorRT takes bytes only as a network's input, and only to cast them (NvInferRuntimeBase.h,
    DataType::kUINT8).
    """
    model = _copied(model)
    nodes: list[onnx.NodeProto] = []
    renamed: dict[str, str] = {}
    for value in model.graph.input:
        if value.type.tensor_type.elem_type == TensorProto.UINT8:
            renamed[value.name] = f'{value.name}/float'
            nodes.append(_cast(value.name, renamed[value.name], TensorProto.FLOAT))
    for node in model.graph.node:
        for at, name in enumerate(node.input):
            node.input[at] = renamed.get(name, name)
        nodes.append(node)
    _replace_nodes(model.graph, nodes)
    return model


def convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the convolutions of a graph whose weights are constant, in order."""
    constant = {value.name for value in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type in _CONVOLUTIONS and node.input[1] in constant
    ]


def half_convolutions(
    model: onnx.ModelProto, also: frozenset[str] = frozenset()
) -> onnx.ModelProto:
    """Return a model whose convolutions, and what lies between them, compute in float16.

    Inputs, outputs and all other operators keep their types; casts stand at the borders.

    Args:
        model: The model.
        also: Operators that compute in float16, too.

    Raises:
        ValueError: If the model has no convolution.
    """
    model = _copied(model)
    graph = model.graph
    weights = {value.name: value for value in graph.initializer}
    half = {node.output[0] for node in convolutions(model)}
    half |= {node.output[0] for node in graph.node if node.op_type in also}
    if not half:
        raise ValueError('the model has no convolution that could compute in float16')
    for node in graph.node:
        if node.op_type in _BETWEEN and all(name in half for name in _values(node)):
            half.update(node.output)
    nodes: list[onnx.NodeProto] = []
    cast: set[str] = set()
    for node in graph.node:
        computes_half = node.output[0] in half
        for at, name in enumerate(_values(node)):
            if computes_half == (name in half):
                continue
            new_name = f'{name}/half' if computes_half else f'{name}/float'
            if new_name not in cast:
                cast.add(new_name)
                if name in weights:
                    graph.initializer.append(_half(weights[name], new_name))
                else:
                    kind = TensorProto.FLOAT16 if computes_half else TensorProto.FLOAT
                    nodes.append(_cast(name, new_name, kind))
            node.input[at] = new_name
        nodes.append(node)
    for value in graph.output:
        if value.name in half:
            nodes += _back_to_float(value.name, nodes)
    _replace_nodes(graph, nodes)
    return model


def quantized_convolutions(
    model: onnx.ModelProto, largest: Mapping[str, float]
) -> onnx.ModelProto:
    """Return a model whose convolutions take int8: explicit quantisation, symmetric.

    Inputs are scaled per tensor, weights per output channel.

    Args:
        model: The model.
        largest: Greatest magnitude by the name of a convolution's input; a convolution whose
            input is not there, or is always 0, stays as it is.

    Raises:
        ValueError: If no convolution is left.
    """
    model = _copied(model)
    graph = model.graph
    weights = {value.name: value for value in graph.initializer}
    chosen = {
        node.output[0]
        for node in convolutions(model)
        if node.op_type == 'Conv' and largest.get(node.input[0], 0) > 0
    }
    if not chosen:
        raise ValueError('the calibration knows no convolution of this model; calibrate again')
    nodes: list[onnx.NodeProto] = []
    done: dict[str, str] = {}
    for node in graph.node:
        if node.output[0] in chosen:
            image, weight = node.input[0], node.input[1]
            if image not in done:
                scale = np.float32(largest[image] / _QUANTIZED_MAX)
                nodes += _quantized(graph, image, scale)
                done[image] = f'{image}/dequantized'
            if weight not in done:
                values = np.abs(numpy_helper.to_array(weights[weight]))
                channels = values.reshape(len(values), -1).max(axis=1)
                scales = np.maximum(channels, np.finfo(np.float32).tiny) / _QUANTIZED_MAX
                nodes += _quantized(graph, weight, scales.astype(np.float32), axis=0)
                done[weight] = f'{weight}/dequantized'
            node.input[0], node.input[1] = done[image], done[weight]
        nodes.append(node)
    _replace_nodes(graph, nodes)
    return model


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """Return a model that puts out float32 tensors from its inside too."""
    model = _copied(model)
    known = {value.name for value in (*model.graph.output, *model.graph.input)}
    for name in dict.fromkeys(names):
        if name not in known:
            model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return model


def _quantized(
    graph: onnx.GraphProto, name: str, scale: npt.NDArray[Any] | np.float32, axis: int = 1
) -> list[onnx.NodeProto]:
    scales = np.asarray(scale, np.float32)
    constants = [f'{name}/scale', f'{name}/zero']
    zeros = np.zeros(scales.shape, np.int8)
    for constant, values in zip(constants, (scales, zeros), strict=True):
        graph.initializer.append(numpy_helper.from_array(values, constant))
    return [
        helper.make_node('QuantizeLinear', [name, *constants], [f'{name}/quantized'], axis=axis),
        helper.make_node(
            'DequantizeLinear',
            [f'{name}/quantized', *constants],
            [f'{name}/dequantized'],
            axis=axis,
        ),
    ]


def _back_to_float(name: str, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Rename what computes an output in float16, and return the cast that makes it."""
    for node in nodes:
        for names in (node.input, node.output):
            for at, one in enumerate(names):
                if one == name:
                    names[at] = f'{name}/computed'
    return [_cast(f'{name}/computed', name, TensorProto.FLOAT)]


def _values(node: onnx.NodeProto) -> list[str]:
    """Return the inputs that carry values, not sizes."""
    return list(node.input)[: _VALUE_INPUTS.get(node.op_type)]


def _cast(name: str, output: str, kind: int) -> onnx.NodeProto:
    return helper.make_node('Cast', [name], [output], name=output, to=kind)


def _half(weight: onnx.TensorProto, name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), name)


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = [_copied(node) for node in nodes]
    del graph.node[:]
    del graph.value_info[:]  # some have other types now
    graph.node.extend(copies)
    used = {name for node in copies for name in node.input}
    used |= {value.name for value in graph.output}
    kept = [value for value in graph.initializer if value.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _copied(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
