"""Back ends as their own manuals call them: what this package's way of calling them costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from .onnx_file import OnnxFile

Bare = Callable[[Mapping[str, npt.NDArray[Any]]], object]


def bare_back_end(name: str, file: OnnxFile) -> Bare | None:
    """Return a model run with a library's defaults; None where there is no such way.

    Args:
        name: A key of `BACK_ENDS`.
        file: The model.
    """
    if name in ('onnxruntime', 'onnxruntime-cuda'):
        import onnxruntime

        kind = 'CUDA' if name.endswith('cuda') else 'CPU'
        session = onnxruntime.InferenceSession(
            str(file.path), providers=[f'{kind}ExecutionProvider']
        )
        return lambda inputs: session.run(None, inputs)
    if name == 'openvino':
        import openvino

        # Its default precision on a CPU with AMX is bfloat16, which is not what is compared.
        compiled = openvino.Core().compile_model(
            str(file.path), 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'}
        )
        return lambda inputs: compiled(dict(inputs))
    return None
