"""TensorRT: NVIDIA GPUs and Jetson, versions 10 and 11 alike.

Runs what `compile_model` has built; the calls are those of NVIDIA's samples (TensorRT on GitHub,
samples/python/common_runtime.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
import ctypes
import hashlib
from pathlib import Path
from typing import Any, NamedTuple
import weakref

from cuda.bindings import runtime as cudart
import numpy as np
import numpy.typing as npt
import tensorrt

from ..disk_cache import DiskCache, Facts
from ..filters.alignment import Ambiguity
from ..invocation import command
from .model import ModelError, NotCompiledError
from .onnx_file import OnnxFile, file_hash

Size = tuple[int, int]
"""Height and width of images, px."""

GRAPH_REVISION = 1
"""Changes whenever `typed_graph` or the builder's settings do: engines are then built anew."""


class _Log(tensorrt.ILogger):  # type: ignore[misc]
    """Keeps the last errors: TensorRT's calls only say that they failed."""

    def __init__(self) -> None:
        tensorrt.ILogger.__init__(self)
        self.errors: deque[str] = deque(maxlen=3)

    def log(self, severity: Any, msg: str) -> None:
        """Take a message."""
        if severity in (tensorrt.ILogger.INTERNAL_ERROR, tensorrt.ILogger.ERROR):
            self.errors.append(msg)

    def why(self) -> str:
        """Return the last errors, and forget them."""
        text = '; '.join(self.errors) or 'TensorRT does not say why'
        self.errors.clear()
        return text


LOG = _Log()
"""One for all: TensorRT keeps the first that it is given."""


def checked(answer: tuple[Any, ...]) -> Any:
    """Return what a CUDA call returned beside its error code.

    Raises:
        ModelError: If it failed.
    """
    error, *values = answer
    if error != cudart.cudaError_t.cudaSuccess:
        raise ModelError(f'CUDA: {getattr(error, "name", error)}')
    return values[0] if len(values) == 1 else tuple(values)


def device_facts() -> dict[str, Any]:
    """Return what an engine depends on besides its model: versions, GPU and driver.

    Raises:
        ModelError: If there is no GPU that CUDA can use.
    """
    try:
        properties = checked(cudart.cudaGetDeviceProperties(checked(cudart.cudaGetDevice())))
        cuda = checked(cudart.cudaDriverGetVersion())
    except ModelError as error:
        raise ModelError(f'no GPU is usable ({error}): does nvidia-smi show one?') from None
    name = properties.name.decode() if isinstance(properties.name, bytes) else properties.name
    driver = ''
    with suppress(OSError):
        driver = Path('/sys/module/nvidia/version').read_text(encoding='ascii').strip()
    return {
        'tensorrt': tensorrt.__version__,
        'gpu': f'{name}, compute {properties.major}.{properties.minor}',
        'driver': f'{driver} CUDA {cuda // 1000}.{cuda % 1000 // 10}'.strip(),
    }


def calibration_facts(file: OnnxFile) -> dict[str, Any]:
    """Return what the ranges of a model's tensors are kept under."""
    return {
        'kind': 'calibration',
        'model': file.metadata.name,
        'onnx': file_hash(file),
        'graph': GRAPH_REVISION,
    }


def engine_facts(file: OnnxFile, precision: str, calibration: bytes = b'') -> dict[str, Any]:
    """Return what an engine is built from, but for the sizes of images."""
    return {
        'kind': 'engine',
        'model': file.metadata.name,
        'onnx': file_hash(file),
        'precision': precision,
        'calibration': hashlib.sha256(calibration).hexdigest() if calibration else '',
        'graph': GRAPH_REVISION,
        **device_facts(),
    }


def find_engine(cache: DiskCache, facts: Facts) -> tuple[bytes, list[Size]] | None:
    """Return the engine built from these facts for most sizes, and the sizes."""
    found = [
        entry.facts
        for entry in cache.entries()
        if {name: value for name, value in entry.facts.items() if name != 'sizes'} == facts
    ]
    for kept in sorted(found, key=lambda kept: (-len(kept['sizes']), kept['sizes'])):
        data = cache.get(kept)
        if data is not None:
            return data, [(height, width) for height, width in kept['sizes']]
    return None


def load_compiled(file: OnnxFile, threads: int = 0, *, precision: str) -> TensorRtModel:
    """Load the engine of a model from the cache; `threads` are of no use to a GPU.

    Raises:
        NotCompiledError: If there is none for this GPU, driver and version of TensorRT.
        ModelError: If it does not load.
    """
    cache = DiskCache()
    how = f'compile {file.metadata.name} --precision {precision}'
    calibration = b''
    if precision == 'int8':
        how += ' --calibrate BAG'
        calibration = cache.get(calibration_facts(file)) or b''
        if not calibration:
            raise NotCompiledError(f'it was not calibrated: {command(how)}')
    found = find_engine(cache, engine_facts(file, precision, calibration))
    if found is None:
        raise NotCompiledError(f'it was not compiled for this GPU and driver: {command(how)}')
    return TensorRtModel(file, precision, *found)


class _Buffer(NamedTuple):
    """A tensor in page-locked memory and on the GPU.

    Attributes:
        name: Name of the tensor.
        host: The array; it keeps its memory alive.
        host_pointer: Its address.
        device_pointer: Address of the memory on the GPU.
    """

    name: str
    host: npt.NDArray[Any]
    host_pointer: int
    device_pointer: int


class TensorRtModel:
    """A model run by TensorRT: one stream, memory that is reused from frame to frame.

    Args:
        file: The model.
        precision: What it was built with.
        engine: A serialised engine with one profile a size, in their order.
        sizes: Sizes of images it was built for.

    Raises:
        ModelError: If TensorRT does not load it, or there is no memory.
    """

    ambiguity: Ambiguity = 'none'
    compiling = False

    def __init__(
        self, file: OnnxFile, precision: str, engine: bytes, sizes: Sequence[Size]
    ) -> None:
        self.name = file.metadata.name
        self._size_of = file.size_of
        self.back_end = f'tensorrt-{precision}'
        self.sizes = tuple(sizes)
        self._stream = checked(cudart.cudaStreamCreate())
        weakref.finalize(self, cudart.cudaStreamDestroy, self._stream)
        self._runtime = tensorrt.Runtime(LOG)
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise ModelError(f'TensorRT does not load the engine: {LOG.why()}')
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise ModelError(f'TensorRT cannot prepare the engine: {LOG.why()}')
        names = [self._engine.get_tensor_name(at) for at in range(self._engine.num_io_tensors)]
        self.inputs = tuple(name for name in names if self._is_input(name))
        self.outputs = tuple(name for name in names if not self._is_input(name))
        self._buffers: dict[Size, dict[str, _Buffer]] = {}
        self._size: Size | None = None

    def __call__(self, **inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        """Run the model once; the arrays are overwritten by the next call.

        Raises:
            NotCompiledError: If it was not compiled for images of this size.
            ModelError: If TensorRT or CUDA fail.
        """
        size = self._size_of({name: inputs[name] for name in self.inputs})
        if self._size != size:
            self._turn_to(size, inputs)
        buffers = self._buffers[size]
        kind = cudart.cudaMemcpyKind
        for name in self.inputs:
            _, host, source, target = buffers[name]
            if inputs[name].shape != host.shape:
                raise ModelError(f'{name} has shape {inputs[name].shape}, not {host.shape}')
            np.copyto(host, inputs[name])
            self._copy(target, source, host.nbytes, kind.cudaMemcpyHostToDevice)
        if not self._context.execute_async_v3(int(self._stream)):
            raise ModelError(f'TensorRT failed on a frame: {LOG.why()}')
        for name in self.outputs:
            _, host, target, source = buffers[name]
            self._copy(target, source, host.nbytes, kind.cudaMemcpyDeviceToHost)
        checked(cudart.cudaStreamSynchronize(self._stream))
        return {name: buffers[name].host for name in self.outputs}

    def _copy(self, target: int, source: int, size_bytes: int, kind: Any) -> None:
        checked(cudart.cudaMemcpyAsync(target, source, size_bytes, kind, self._stream))

    def _is_input(self, name: str) -> bool:
        return bool(self._engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT)

    def _turn_to(self, size: Size, inputs: dict[str, npt.NDArray[Any]]) -> None:
        """Make the context ready for images of another size."""
        if size not in self.sizes:
            known = ', '.join(f'{width}x{height}' for height, width in self.sizes)
            raise NotCompiledError(
                f'it was compiled for {known}: '
                + command(f'compile {self.name} --size {size[1]} {size[0]}')
            )
        self._size = None
        self._context.set_optimization_profile_async(self.sizes.index(size), int(self._stream))
        checked(cudart.cudaStreamSynchronize(self._stream))
        for name in self.inputs:
            if not self._context.set_input_shape(name, inputs[name].shape):
                raise ModelError(f'{name} cannot have shape {inputs[name].shape}: {LOG.why()}')
        if size not in self._buffers:
            self._buffers[size] = {
                name: self._allocated(name) for name in (*self.inputs, *self.outputs)
            }
        for buffer in self._buffers[size].values():
            if not self._context.set_tensor_address(buffer.name, buffer.device_pointer):
                raise ModelError(f'TensorRT does not take memory for {buffer.name}: {LOG.why()}')
        self._size = size

    def _allocated(self, name: str) -> _Buffer:
        shape = tuple(self._context.get_tensor_shape(name))
        if min(shape, default=0) < 0:
            raise ModelError(f'{name} has a size that depends on what is in the image: {shape}')
        dtype = np.dtype(tensorrt.nptype(self._engine.get_tensor_dtype(name)))
        size_bytes = int(np.prod(shape)) * dtype.itemsize
        device_pointer = checked(cudart.cudaMalloc(size_bytes))
        weakref.finalize(self, cudart.cudaFree, device_pointer)
        host_pointer = checked(cudart.cudaMallocHost(size_bytes))
        memory = (ctypes.c_ubyte * size_bytes).from_address(host_pointer)
        # Outputs leave here: their memory lives as long as any array that shows it.
        weakref.finalize(memory, cudart.cudaFreeHost, host_pointer)
        host = np.frombuffer(memory, dtype).reshape(shape)
        return _Buffer(name, host, host_pointer, device_pointer)
