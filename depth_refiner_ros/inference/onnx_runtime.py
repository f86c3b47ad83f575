"""ONNX Runtime, on a CPU or through CUDA: the reference that other back ends are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from ..filters.alignment import Ambiguity
from .model import ModelError
from .onnx_file import OnnxFile


class OnnxRuntimeModel:
    """A model run by ONNX Runtime.

    Args:
        file: The model.
        threads: 0 lets ONNX Runtime choose.
        cuda: Run on the GPU.

    Raises:
        ModelError: If ONNX Runtime cannot load it, or has no CUDA.
    """

    ambiguity: Ambiguity = 'none'
    compiling = False

    def __init__(self, file: OnnxFile, threads: int = 0, *, cuda: bool = False) -> None:
        self.name = file.metadata.name
        self.back_end = 'onnxruntime-cuda' if cuda else 'onnxruntime'
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that wait by spinning take the cores that the rest of a robot needs.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        options.log_severity_level = 3
        providers = ['CPUExecutionProvider']
        if cuda:
            if 'CUDAExecutionProvider' not in onnxruntime.get_available_providers():
                raise ModelError('this onnxruntime has no CUDA: pip install onnxruntime-gpu')
            providers.insert(0, 'CUDAExecutionProvider')
        try:
            self._session = onnxruntime.InferenceSession(
                str(file.path), options, providers=providers
            )
        except Exception as error:  # its exceptions share no base class
            raise ModelError(f'ONNX Runtime cannot load {file.path}: {error}') from None
        if cuda and self._session.get_providers()[0] != 'CUDAExecutionProvider':
            raise ModelError('ONNX Runtime fell back from CUDA to the CPU; check the driver')
        self.inputs = tuple(value.name for value in self._session.get_inputs())
        self.outputs = tuple(value.name for value in self._session.get_outputs())

    def __call__(self, **inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        """Run the model once."""
        found = self._session.run(list(self.outputs), inputs)
        return dict(zip(self.outputs, found, strict=True))
