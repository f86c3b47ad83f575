"""OpenVINO: Intel CPUs and GPUs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from .model import ModelError
from .onnx_file import OnnxFile

_SIZES = 4
"""Sizes of images that are kept compiled."""


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
        self._hints: dict[str, Any] = {
            'INFERENCE_PRECISION_HINT': precision,
            'PERFORMANCE_HINT': 'LATENCY',
        }
        if threads:
            self._hints['INFERENCE_NUM_THREADS'] = threads
        self._core, self._path = openvino.Core(), str(file.path)
        try:
            model = self._core.read_model(self._path)
        except RuntimeError as error:
            raise ModelError(f'OpenVINO cannot load {file.path}: {error}') from None
        self.inputs = tuple(value.any_name for value in model.inputs)
        self.outputs = tuple(value.any_name for value in model.outputs)
        self._requests: dict[tuple[tuple[int, ...], ...], Any] = {}

    def __call__(self, **inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        """Run the model once; the arrays are overwritten by the next call."""
        given = {name: np.ascontiguousarray(inputs[name]) for name in self.inputs}
        shapes = tuple(value.shape for value in given.values())
        if shapes not in self._requests:
            # Compiled for one size it is a sixth faster; a camera has one size.
            if len(self._requests) >= _SIZES:
                self._requests.clear()
            model = self._core.read_model(self._path)
            model.reshape({name: list(value.shape) for name, value in given.items()})
            compiled = self._core.compile_model(model, 'CPU', self._hints)
            self._requests[shapes] = compiled.create_infer_request()
        found = self._requests[shapes].infer(given, share_inputs=True, share_outputs=True)
        return {name: found[name] for name in self.outputs}
