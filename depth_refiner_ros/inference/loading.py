"""Chooses what runs a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ..disk_cache import CacheError
from .described import DescribedModel
from .model import GraphModel, Model, ModelError, NotCompiledError, model_path
from .onnx_file import OnnxFile, read_onnx
from .parity import Frame, check_parity, reference_frames

Log = Callable[[str], None]


class BackEnd(NamedTuple):
    """One way to run a model.

    Attributes:
        module: Library it needs.
        extra: What to install for it.
        implementation: Module of this package, and the class or function in it that makes the
            model.
        options: Given to it.
    """

    module: str
    extra: str
    implementation: tuple[str, str]
    options: dict[str, object]


BACK_ENDS = {
    'tensorrt-fp16': BackEnd(
        'tensorrt',
        'depth_refiner_ros[tensorrt]',
        ('tensor_rt', 'load_compiled'),
        {'precision': 'fp16'},
    ),
    'tensorrt-int8': BackEnd(
        'tensorrt',
        'depth_refiner_ros[tensorrt]',
        ('tensor_rt', 'load_compiled'),
        {'precision': 'int8'},
    ),
    'onnxruntime-cuda': BackEnd(
        'onnxruntime', 'onnxruntime-gpu', ('onnx_runtime', 'OnnxRuntimeModel'), {'cuda': True}
    ),
    'openvino-bf16': BackEnd(
        'openvino', 'openvino>=2024.4', ('open_vino', 'OpenVinoModel'), {'precision': 'bf16'}
    ),
    'openvino-mixed': BackEnd(
        'openvino', 'openvino>=2024.4', ('open_vino', 'OpenVinoModel'), {'precision': 'mixed'}
    ),
    'openvino': BackEnd(
        'openvino', 'openvino>=2024.4', ('open_vino', 'OpenVinoModel'), {'precision': 'f32'}
    ),
    'onnxruntime': BackEnd(
        'onnxruntime', 'onnxruntime>=1.16', ('onnx_runtime', 'OnnxRuntimeModel'), {}
    ),
}
"""By name, the fastest first: `auto` takes the first that is there and agrees.

An order, not a race: a race would give a recording other pixels on every replay. TensorRT is there
once a model was compiled (`depth-refiner compile`), never before: nothing is built by loading. So
the same machine with the same compiled models gives the same pixels.

Its place at the top was not measured, for want of a GPU; the other places were.
"""


@cache
def is_any_installed() -> bool:
    """Return whether there is a back end at all; whether it works shows when it loads a model."""
    return any(find_spec(entry.module) is not None for entry in BACK_ENDS.values())


def load_model(
    name: str | Path,
    device: str = 'auto',
    *,
    threads: int = 0,
    log: Log = lambda text: None,
) -> Model:
    """Load a model and prove that its back end computes what it should.

    Args:
        name: Name of a shipped model, or the path of an ONNX file.
        device: A key of `BACK_ENDS`, or 'auto' for the first that is installed and agrees.
        threads: Threads of the CPU; 0 lets the back end choose.
        log: Told once what was chosen and why, and what was refused.

    Raises:
        ModelError: If the file is missing, damaged or not allowed, or no back end can run it.
    """
    file = read_onnx(model_path(name))
    return spoken_to(first_that_agrees(file, candidates(device), threads=threads, log=log), file)


def candidates(device: str) -> list[str]:
    """Return the back ends that a device stands for.

    Raises:
        ModelError: If there is no such back end.
    """
    if device != 'auto' and device not in BACK_ENDS:
        raise ModelError(f'no back end {device}; there are auto, {", ".join(BACK_ENDS)}')
    return list(BACK_ENDS) if device == 'auto' else [device]


def spoken_to(model: Model, file: OnnxFile) -> Model:
    """Return a model behind the interface of this package, whatever its graph speaks."""
    return model if file.description is None else DescribedModel(model, file.description)


def first_that_agrees(
    file: OnnxFile, names: Sequence[str], *, threads: int = 0, log: Log = lambda text: None
) -> Model:
    """Load a model with the first of some back ends that is there and computes what it should.

    Raises:
        ModelError: If there is none; `NotCompiledError` if the last could be after compiling.
    """
    frames = reference_frames(file.path)
    refused: dict[str, list[str]] = {}
    kind = ModelError
    for candidate in names:
        try:
            model = _open(candidate, file, threads)
            why = _proven(model, file, frames)
        except (ModelError, CacheError) as error:
            refused.setdefault(str(error), []).append(candidate)
            kind = NotCompiledError if isinstance(error, NotCompiledError) else ModelError
            continue
        others = f' Not {"; not ".join(_listed(refused))}.' if refused else ''
        log(f'{file.metadata.name} runs on {candidate} ({why}).{others}')
        return model
    raise kind(f'{file.path} cannot be run: {"; ".join(_listed(refused))}')


def _listed(refused: dict[str, list[str]]) -> list[str]:
    return [f'{", ".join(names)}: {why}' for why, names in refused.items()]


def _open(name: str, file: OnnxFile, threads: int) -> GraphModel:
    entry = BACK_ENDS[name]
    if find_spec(entry.module) is None:
        raise ModelError(f"{entry.module} is not installed: pip install '{entry.extra}'")
    module, attribute = entry.implementation
    try:
        kind = getattr(importlib.import_module(f'.{module}', __package__), attribute)
    except ImportError as error:
        raise ModelError(
            f"{entry.module} does not import ({error}): pip install '{entry.extra}'"
        ) from None
    model: GraphModel = kind(file, threads, **entry.options)
    return model


def _proven(model: GraphModel, file: OnnxFile, frames: list[Frame]) -> str:
    """Compare a model; return what is known of it."""
    try:
        report = (
            check_parity(model, frames, model.inputs, file.metadata.tolerances) if frames else None
        )
    except ModelError:
        raise
    except Exception as error:  # whatever a back end throws, another one may serve
        raise ModelError(f'it failed on a stored frame: {error}') from None
    if report is None:
        return 'no frames to compare with lie beside it'
    if not report.agrees:
        raise ModelError(f'it does not agree with ONNX Runtime: {report.text}')
    return report.text
