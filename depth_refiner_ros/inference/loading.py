"""Chooses what runs a model."""

from __future__ import annotations

from collections.abc import Callable
import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .model import Model, ModelError, model_path
from .onnx_file import OnnxFile, read_onnx
from .parity import Frame, check_parity, reference_frames

Log = Callable[[str], None]


class BackEnd(NamedTuple):
    """One way to run a model.

    Attributes:
        module: Library it needs.
        extra: What to install for it.
        implementation: Module of this package and class in it.
        options: Given to the class.
    """

    module: str
    extra: str
    implementation: tuple[str, str]
    options: dict[str, object]


BACK_ENDS = {
    'onnxruntime-cuda': BackEnd(
        'onnxruntime', 'onnxruntime-gpu', ('onnx_runtime', 'OnnxRuntimeModel'), {'cuda': True}
    ),
    'openvino-bf16': BackEnd(
        'openvino', 'openvino>=2024.4', ('open_vino', 'OpenVinoModel'), {'precision': 'bf16'}
    ),
    'openvino': BackEnd(
        'openvino', 'openvino>=2024.4', ('open_vino', 'OpenVinoModel'), {'precision': 'f32'}
    ),
    'onnxruntime': BackEnd(
        'onnxruntime', 'onnxruntime>=1.16', ('onnx_runtime', 'OnnxRuntimeModel'), {}
    ),
}
"""By name, the fastest first as measured: `auto` takes the first that is there and agrees.

An order, not a race: a race would give a recording other pixels on every replay.
"""


def load_model(
    name: str | Path,
    device: str = 'auto',
    *,
    threads: int = 0,
    log: Log = lambda text: None,
) -> Model:
    """Load a model, warm it up, and prove that its back end computes what it should.

    Args:
        name: Of a shipped model, or the path of an ONNX file.
        device: A key of `BACK_ENDS`, or 'auto' for the first that is installed and agrees.
        threads: Of the CPU; 0 lets the back end choose.
        log: Told once what was chosen and why, and what was refused.

    Raises:
        ModelError: If the file is missing, damaged or not allowed, or no back end can run it.
    """
    file = read_onnx(model_path(name))
    frames = reference_frames(file.path)
    if device != 'auto' and device not in BACK_ENDS:
        raise ModelError(f'no back end {device}; there are auto, {", ".join(BACK_ENDS)}')
    names = list(BACK_ENDS) if device == 'auto' else [device]
    refused: list[str] = []
    for candidate in names:
        try:
            model = _open(candidate, file, threads)
            why = _proven(model, file, frames)
        except ModelError as error:
            refused.append(f'{candidate}: {error}')
            continue
        told = f' Not {"; not ".join(refused)}.' if refused else ''
        log(f'{file.metadata.name} runs on {candidate} ({why}).{told}')
        return model
    raise ModelError(f'{file.path} cannot be run: {"; ".join(refused)}')


def _open(name: str, file: OnnxFile, threads: int) -> Model:
    entry = BACK_ENDS[name]
    if find_spec(entry.module) is None:
        raise ModelError(f"{entry.module} is not installed: pip install '{entry.extra}'")
    module, attribute = entry.implementation
    try:
        kind = getattr(importlib.import_module(f'.{module}', __package__), attribute)
    except ImportError as error:
        raise ModelError(f'{entry.module} does not import: {error}') from None
    model: Model = kind(file, threads, **entry.options)
    return model


def _proven(model: Model, file: OnnxFile, frames: list[Frame]) -> str:
    """Warm a model up and compare it; return what is known of it."""
    inputs: tuple[str, ...] = getattr(model, 'inputs', ())
    try:
        report = check_parity(model, frames, inputs) if frames else None
        for height, width in file.metadata.sizes if frames else ():
            # The first frame of a new size is slow; a robot shall not be the one to wait.
            model(**{name: _resized(frames[0][name], height, width) for name in inputs})
    except ModelError:
        raise
    except Exception as error:  # whatever a back end throws, another one may serve
        raise ModelError(f'it failed on a stored frame: {error}') from None
    if report is None:
        return 'no frames to compare with lie beside it'
    if not report.agrees:
        raise ModelError(f'it does not agree with ONNX Runtime: {report.text}')
    return report.text


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.ndim < 2:  # no image: intrinsics
        return image
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(width) * image.shape[1] // width
    return np.ascontiguousarray(image[rows][:, columns])
