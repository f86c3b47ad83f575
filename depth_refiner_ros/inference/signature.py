"""What goes into an ONNX graph and what comes out: names, types and shapes."""

from __future__ import annotations

from typing import NamedTuple

Shape = tuple[int | str, ...]


class TensorType(NamedTuple):
    """An input or output of a graph.

    Attributes:
        dtype: As NumPy names it; empty for types that NumPy does not have.
        shape: A number where the length is fixed, a name (or '?') where it is free.
    """

    dtype: str
    shape: Shape

    def __str__(self) -> str:
        return f'{self.dtype or "an unknown type"} [{", ".join(map(str, self.shape))}]'


class Signature(NamedTuple):
    """All inputs and outputs of a graph, by name, in their order."""

    inputs: dict[str, TensorType]
    outputs: dict[str, TensorType]

    def __str__(self) -> str:
        def listed(tensors: dict[str, TensorType]) -> str:
            return ', '.join(f'{name} {tensor}' for name, tensor in tensors.items())

        return f'{listed(self.inputs)} -> {listed(self.outputs)}'
