"""Compiles models for the GPU at hand, and proves what came out before anything is served by it.

file = read_onnx(model_path('depth_small'))
model = compile_model(file, 'fp16', sizes=[(480, 848)])
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterable, Sequence
import importlib
import json
from pathlib import Path
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..disk_cache import DiskCache, Facts
from ..invocation import command
from .model import Model, ModelError
from .onnx_file import OnnxFile
from .parity import Frame, check_parity, reference_frames, resized
from .progress import Progress

if TYPE_CHECKING:
    from .tensor_rt import TensorRtModel

PRECISIONS = ('fp16', 'int8')

Log = Callable[[str], None]
Size = tuple[int, int]

# Where the kernel shows an NVIDIA GPU: of a desktop, of a Jetson, of WSL.
_DEVICES = ('/dev/nvidiactl', '/dev/nvmap', '/dev/dxg')
_LAST_WAIT_S = 10.0
_NEEDED = {
    'tensorrt': "TensorRT 10 or 11: pip install 'depth_refiner_ros[tensorrt]' (on a Jetson it "
    'comes with JetPack: sudo apt install python3-libnvinfer)',
    'cuda.bindings.runtime': "cuda-python: pip install 'cuda-python>=12.9'",
    'onnx': "onnx: pip install 'onnx>=1.16'",
}


class DisagreementError(ModelError):
    """What was compiled does not compute what ONNX Runtime does."""


class Compilation:
    """A compilation on a thread of its own, which is cancelled when the process ends.

    Args:
        work: What to do.

    Attributes:
        progress: How far it is.
    """

    def __init__(self, work: Callable[[Progress], Model]) -> None:
        self.progress = Progress()
        self._work = work
        self._model: Model | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name='compile', daemon=True)
        self._thread.start()
        # TensorRT must not call into an interpreter that is gone.
        atexit.register(self.cancel)

    def _run(self) -> None:
        try:
            self._model = self._work(self.progress)
        except Exception as error:  # raised by result(), on the caller's thread
            self._error = error

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        """Wait until it ends, or so long."""
        self._thread.join(seconds)

    def cancel(self) -> None:
        """Stop it and wait until it has stopped."""
        self.progress.cancel()
        self._thread.join(_LAST_WAIT_S)
        atexit.unregister(self.cancel)

    def result(self) -> Model:
        """Return the model once it has ended.

        Raises:
            Exception: That ended it.
        """
        self._thread.join()
        atexit.unregister(self.cancel)
        if self._error is not None:
            raise self._error
        assert self._model is not None
        return self._model


def lacking() -> list[str]:
    """Return what this machine lacks to compile a model, each with how to get it."""
    failures = ((what, _failure(module)) for module, what in _NEEDED.items())
    found = [what + why for what, why in failures if why is not None]
    if not any(Path(device).exists() for device in _DEVICES):
        found.append('an NVIDIA GPU with its driver (nvidia-smi shows it)')
    return found


def require_compiler() -> None:
    """Check that this machine has what compiling takes.

    Raises:
        ModelError: If not; it says what, and how to get it.
    """
    if missing := lacking():
        raise ModelError(f'to compile a model this machine lacks {"; ".join(missing)}')


def _failure(module: str) -> str | None:
    """Return None if a module imports; else why not, as far as it is more than not there."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition('.')[0]
        return '' if error.name in (None, top) else f' (it fails: {error})'
    except (ImportError, OSError) as error:
        return f' (it fails: {error})'
    return None


def compile_model(
    file: OnnxFile,
    precision: str,
    *,
    sizes: Iterable[Size] = (),
    progress: Progress | None = None,
    log: Log = lambda text: None,
) -> Model:
    """Compile a model unless that was done before, prove it, and keep it in the cache.

    Args:
        file: The model.
        precision: One of `PRECISIONS`; 'int8' after `calibrate`.
        sizes: Heights and widths of images besides those in its metadata, px.
        progress: Told how far it is; may cancel.
        log: Told what was found out.

    Raises:
        CancelledError: If it was cancelled.
        ModelError: If something is missing, TensorRT cannot, or the result does not agree with
            ONNX Runtime.
    """
    require_compiler()
    from . import tensor_rt, tensor_rt_build

    progress = progress or Progress()
    cache = DiskCache()
    name, frames = file.metadata.name, reference_frames(file.path)
    calibration = b''
    if precision == 'int8':
        calibration = cache.get(tensor_rt.calibration_facts(file)) or b''
        if not calibration:
            raise ModelError(
                'int8 needs a calibration: give a recording like those it will see '
                '(--calibrate BAG)'
            )
    facts = tensor_rt.engine_facts(file, precision, calibration)
    wanted = {*file.metadata.sizes, *sizes, *(file.size_of(frame) for frame in frames)}
    if not wanted:
        raise ModelError(f'{name} names no size of images: say which, --size WIDTH HEIGHT')
    if found := tensor_rt.find_engine(cache, facts):
        if wanted <= set(found[1]):
            model = tensor_rt.TensorRtModel(file, precision, *found)
            log(f'{name} was compiled before: {_agreement(model, file, frames)}')
            return model
        wanted |= set(found[1])  # so that what served before is served on
    progress.stop_if_cancelled()
    profiles = sorted(wanted)
    facts = {**facts, 'sizes': profiles}
    refusal_facts = {**facts, 'kind': 'refusal'}
    if refusal := cache.get(refusal_facts):  # or every start would build it in vain
        forget = command('cache clear')
        raise DisagreementError(f'{refusal.decode()} (found before; {forget} forgets it)')
    timing_facts = {'kind': 'timing', **tensor_rt.device_facts()}
    engine, timing = tensor_rt_build.build_engine(
        typed_onnx(file, precision, calibration),
        file,
        profiles,
        cache.get(timing_facts) or b'',
        progress,
    )
    _keep(cache, timing_facts, timing, log)
    model = tensor_rt.TensorRtModel(file, precision, engine, profiles)
    try:
        found_out = _agreement(model, file, frames) + _in_sizes(model, file, frames, progress)
    except DisagreementError as error:
        _keep(cache, refusal_facts, str(error).encode(), log)
        raise
    log(f'{name}: {found_out}')
    _keep(cache, facts, engine, log)
    return model


def _keep(cache: DiskCache, facts: Facts, data: bytes, log: Log) -> None:
    """Put into the cache what is of use without it too."""
    try:
        cache.put(facts, data)
    except OSError as error:
        log(f'the {facts["kind"]} could not be kept for the next time: {error}')


def typed_onnx(file: OnnxFile, precision: str, calibration: bytes = b'') -> bytes:
    """Return an ONNX model in which every tensor has the type it shall have in TensorRT.

    Raises:
        ModelError: If the model has nothing to lower.
    """
    import onnx

    from . import typed_graph

    model = typed_graph.for_tensorrt(onnx.load(str(file.path)))
    try:
        if precision == 'int8':
            model = typed_graph.quantized_convolutions(model, json.loads(calibration)['largest'])
        else:
            # Published models are mostly attention; ours compute depth in their products.
            also = typed_graph.PRODUCTS if file.description else frozenset()
            model = typed_graph.half_convolutions(model, also)
    except ValueError as error:
        raise ModelError(f'{file.path}: {error}') from None
    return bytes(model.SerializeToString())


class Calibration(NamedTuple):
    """How large the inputs of a model's convolutions become.

    Attributes:
        frames: How many frames tell.
        largest: Greatest magnitude by name of a tensor.
    """

    frames: int
    largest: dict[str, float]


def calibrate(
    file: OnnxFile, frames: Iterable[Frame], progress: Progress | None = None
) -> Calibration:
    """Measure how large the tensors become that int8 has to hold, and keep that in the cache.

    Their greatest magnitude is taken: clipping the largest hundredth of a percent was tried and
    raised the error (docs/deployment.md). ONNX Runtime runs the model, on the CPU.

    Args:
        file: The model.
        frames: Its inputs by name, of a recording like those it will see.
        progress: Told how far it is; may cancel.

    Raises:
        ModelError: If there are no frames, they lack an input, or the model has no convolution.
    """
    import onnx
    import onnxruntime

    from . import tensor_rt, typed_graph

    model = typed_graph.for_tensorrt(onnx.load(str(file.path)))
    names = list(dict.fromkeys(node.input[0] for node in typed_graph.convolutions(model)))
    if not names:
        raise ModelError(f'{file.path} has no convolution that could compute in int8')
    session = onnxruntime.InferenceSession(
        typed_graph.with_outputs(model, names).SerializeToString(),
        providers=['CPUExecutionProvider'],
    )
    inputs = [value.name for value in session.get_inputs()]
    largest = dict.fromkeys(names, 0.0)

    def measure(frame: Frame) -> None:
        if progress:
            progress.stop_if_cancelled()
        if lost := set(inputs) - frame.keys():
            raise ModelError(f'{file.path} takes {", ".join(sorted(lost))}, which is not there')
        found: Sequence[npt.NDArray[Any]] = session.run(
            names, {name: frame[name] for name in inputs}
        )
        for name, values in zip(names, found, strict=True):
            largest[name] = max(largest[name], float(np.abs(values).max(initial=0)))

    count = 0
    for frame in frames:
        measure(frame)
        count += 1
    if not count:
        raise ModelError('a calibration needs at least one frame')
    for frame in reference_frames(file.path):  # what it must reproduce, it must be able to hold
        measure(frame)
    calibration = Calibration(count, largest)
    data = json.dumps(calibration._asdict()).encode()
    DiskCache().put(tensor_rt.calibration_facts(file), data)
    return calibration


def _agreement(model: TensorRtModel, file: OnnxFile, frames: list[Frame]) -> str:
    """Compare a model with the stored frames."""
    if not frames:
        return 'no frames to compare with lie beside it'
    report = check_parity(model, frames, model.inputs, file.metadata.tolerances)
    if not report.agrees:
        raise DisagreementError(f'it does not agree with ONNX Runtime: {report.text}')
    return report.text


def _in_sizes(
    model: TensorRtModel, file: OnnxFile, frames: list[Frame], progress: Progress
) -> str:
    """Compare a model with ONNX Runtime beside it in every size it was compiled for.

    Each size has kernels of its own: one may be wrong where others are right.
    """
    if not frames:
        return ''
    try:
        from .onnx_runtime import OnnxRuntimeModel
    except ImportError:
        return '; only in the size of these frames, for want of onnxruntime'
    reference = OnnxRuntimeModel(file)
    for number, size in enumerate(model.sizes):
        progress.stop_if_cancelled()
        progress.tell('compare', number / len(model.sizes))
        inputs = resized(frames[0], model.inputs, size, file)
        report = check_parity(
            model, [inputs | reference(**inputs)], model.inputs, file.metadata.tolerances
        )
        if not report.agrees:
            raise DisagreementError(
                f'it does not agree with ONNX Runtime on {size[1]}x{size[0]}: {report.text}'
            )
    return ''
