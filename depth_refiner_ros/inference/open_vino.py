"""OpenVINO: Intel CPUs and GPUs."""

from __future__ import annotations

from contextlib import suppress
import io
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino
from openvino import opset13 as opset

from ..disk_cache import CacheError, DiskCache
from ..filters.alignment import Ambiguity
from .model import ModelError
from .onnx_file import OnnxFile, file_hash

_SIZES = 4
"""Sizes of images that are kept compiled."""


class OpenVinoModel:
    """A model run by OpenVINO on the CPU.

    Args:
        file: The model.
        threads: 0 lets OpenVINO choose.
        precision: 'f32'; 'mixed', whose convolutions are computed in bfloat16; or 'bf16', all of
            it: faster on CPUs with AMX, and right only where the parity gate says so.

    Raises:
        ModelError: If OpenVINO cannot load it, or the CPU has no bfloat16.
    """

    ambiguity: Ambiguity = 'none'
    compiling = False

    def __init__(self, file: OnnxFile, threads: int = 0, *, precision: str = 'f32') -> None:
        self.name = file.metadata.name
        self.back_end = f'openvino-{precision}'
        self._mixed = precision == 'mixed'
        self._hints: dict[str, Any] = {
            'INFERENCE_PRECISION_HINT': 'bf16' if precision == 'bf16' else 'f32',
            'PERFORMANCE_HINT': 'LATENCY',
        }
        if threads:
            self._hints['INFERENCE_NUM_THREADS'] = threads
        self._core, self._path = openvino.Core(), str(file.path)
        self._facts = {
            'kind': 'openvino',
            'model': file.metadata.name,
            'onnx': file_hash(file),
            'precision': precision,
            'hints': self._hints,
            'openvino': openvino.get_version(),
            'cpu': self._core.get_property('CPU', 'FULL_DEVICE_NAME'),
        }
        if precision != 'f32' and 'BF16' not in self._core.get_property(
            'CPU', 'OPTIMIZATION_CAPABILITIES'
        ):
            raise ModelError('this CPU has no bfloat16')
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
            compiled = self._compiled(dict(zip(self.inputs, shapes, strict=True)))
            self._requests[shapes] = compiled.create_infer_request()
        found = self._requests[shapes].infer(given, share_inputs=True, share_outputs=True)
        return {name: found[name] for name in self.outputs}

    def _compiled(self, shapes: dict[str, tuple[int, ...]]) -> Any:
        """Compile the model for a size of images, unless that was done before."""
        cache, facts = DiskCache(), {**self._facts, 'shapes': shapes}
        # Whatever is wrong with the cache, compiling takes seconds only.
        with suppress(OSError, RuntimeError, CacheError):
            if data := cache.get(facts):
                return self._core.import_model(io.BytesIO(data), 'CPU', self._hints)
        model = self._core.read_model(self._path)
        model.reshape({name: list(shape) for name, shape in shapes.items()})
        if self._mixed:
            _convolve_in_bf16(model)
        compiled = self._core.compile_model(model, 'CPU', self._hints)
        with suppress(OSError, RuntimeError, CacheError):
            cache.put(facts, compiled.export_model().getvalue())
        return compiled


def _convolve_in_bf16(model: Any) -> None:
    """Compute convolutions in bfloat16 and all else as it was.

    Convolutions are most of the time, and only suggest what geometry then decides: depth itself
    is never rounded.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != 'Convolution':
            continue
        consumers = list(node.output(0).get_target_inputs())
        for port in node.inputs():
            source = opset.convert(port.get_source_output(), 'bf16')
            port.replace_source_output(source.output(0))
        back = opset.convert(node, 'f32')
        for port in consumers:
            port.replace_source_output(back.output(0))
    model.validate_nodes_and_infer_types()
