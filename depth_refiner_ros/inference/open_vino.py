"""OpenVINO: Intel CPUs and GPUs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from .model import ModelError
from .onnx_file import OnnxFile


class OpenVinoModel:
    """A model run by OpenVINO on the CPU.

    Args:
        file: The model.
        threads: 0 lets OpenVINO choose.
        precision: 'f32' or 'bf16', which is faster on CPUs with AMX and must pass the parity gate.

    Raises:
        ModelError: If OpenVINO cannot load it.
    """

    def __init__(self, file: OnnxFile, threads: int = 0, *, precision: str = 'f32') -> None:
        self.name = file.metadata.name
        self.back_end = f'openvino-{precision}'
        hints: dict[str, Any] = {
            'INFERENCE_PRECISION_HINT': precision,
            'PERFORMANCE_HINT': 'LATENCY',
        }
        if threads:
            hints['INFERENCE_NUM_THREADS'] = threads
        try:
            compiled = openvino.Core().compile_model(str(file.path), 'CPU', hints)
        except RuntimeError as error:
            raise ModelError(f'OpenVINO cannot load {file.path}: {error}') from None
        self.inputs = tuple(value.any_name for value in compiled.inputs)
        self.outputs = tuple(value.any_name for value in compiled.outputs)
        self._request = compiled.create_infer_request()

    def __call__(self, **inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        """Run the model once; the arrays are overwritten by the next call."""
        given = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        found = self._request.infer(given, share_inputs=True, share_outputs=True)
        return {name: found[name] for name in self.outputs}
