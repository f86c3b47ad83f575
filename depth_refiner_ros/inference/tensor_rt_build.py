"""Builds TensorRT engines from typed ONNX graphs, with versions 10 and 11 alike."""

from __future__ import annotations

from collections.abc import Sequence
import threading
from typing import Any

import tensorrt

from .model import ModelError
from .onnx_file import OnnxFile
from .progress import CancelledError, Progress
from .tensor_rt import LOG, Size

_WORKSPACE_BYTES = 1 << 30
"""What a kernel may use besides its tensors: on a Jetson it is taken from everybody's memory."""


def build_engine(
    onnx: bytes, file: OnnxFile, sizes: Sequence[Size], timing_cache: bytes, progress: Progress
) -> tuple[bytes, bytes]:
    """Build an engine with a profile for every size: a camera has one, and fixed is faster.

    Args:
        onnx: A model whose tensors have the types they shall have.
        file: What it was made from, which knows the shapes of its inputs.
        sizes: Sizes of the images, in the order of the profiles.
        timing_cache: What was measured in earlier builds, or nothing.
        progress: Told how far it is; may cancel.

    Returns:
        The serialised engine, and the timing cache with what was measured now.

    Raises:
        CancelledError: If it was cancelled.
        ModelError: If TensorRT cannot build it.
    """
    builder = tensorrt.Builder(LOG)
    network = builder.create_network(_network_flags())
    parser = tensorrt.OnnxParser(network, LOG)
    if not parser.parse(onnx):
        errors = [parser.get_error(at) for at in range(parser.num_errors)]
        reasons = '; '.join(f'{e.node_operator()} {e.node_name()}: {e.desc()}' for e in errors[:3])
        raise ModelError(f'TensorRT {tensorrt.__version__} does not take the model: {reasons}')
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    # TF32 keeps as few digits as float16; what is float32 in our graphs is so for its digits.
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    if hasattr(tensorrt.BuilderFlag, 'STRICT_NANS'):  # since 10.6; NaN is depth that is not there
        config.set_flag(tensorrt.BuilderFlag.STRICT_NANS)
    cache = config.create_timing_cache(timing_cache)
    if not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b''), False)
    monitor = _Monitor(progress)
    config.progress_monitor = monitor
    for size in sizes:
        _add_profile(builder, network, config, file, size)
    engine = builder.build_serialized_network(network, config)
    if progress.cancelled:
        raise CancelledError('the compilation was cancelled')
    if engine is None:
        raise ModelError(f'TensorRT cannot build the engine: {LOG.why()}')
    return bytes(engine), bytes(config.get_timing_cache().serialize())


def _network_flags() -> int:
    # From version 11 on, networks are strongly typed and the flag is deprecated.
    if int(tensorrt.__version__.partition('.')[0]) >= 11:
        return 0
    return 1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _add_profile(builder: Any, network: Any, config: Any, file: OnnxFile, size: Size) -> None:
    profile = builder.create_optimization_profile()
    for at in range(network.num_inputs):
        tensor = network.get_input(at)
        shape = file.input_shape(tensor.name, tuple(tensor.shape), size)
        profile.set_shape(tensor.name, shape, shape, shape)
    if config.add_optimization_profile(profile) < 0:
        raise ModelError(f'TensorRT does not take images of {size[1]}x{size[0]}: {LOG.why()}')


class _Monitor(tensorrt.IProgressMonitor):  # type: ignore[misc]
    """Turns TensorRT's nested phases into a share; called from several of its threads."""

    def __init__(self, progress: Progress) -> None:
        tensorrt.IProgressMonitor.__init__(self)
        self._progress = progress
        self._lock = threading.Lock()
        # By name: parent, steps, steps done.
        self._phases: dict[str, tuple[str | None, int, int]] = {}

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Begin a phase of so many steps, within another."""
        with self._lock:
            self._phases[phase_name] = parent_phase, num_steps, 0
            self._tell()

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Count a step; return False to stop the build."""
        with self._lock:
            if phase_name in self._phases:
                parent, count, _ = self._phases[phase_name]
                self._phases[phase_name] = parent, count, step + 1
                self._tell()
        return not self._progress.cancelled

    def phase_finish(self, phase_name: str) -> None:
        """End a phase; its parent counts it by a step of its own."""
        with self._lock:
            self._phases.pop(phase_name, None)

    def _tell(self) -> None:
        share, below, name = 0.0, 1.0, None
        while True:  # from the outermost phase inwards
            within = [key for key, phase in self._phases.items() if phase[0] == name]
            if not within:
                break
            name = within[-1]
            _, count, done = self._phases[name]
            share += below * min(done / count, 1.0)
            below /= count
        self._progress.tell('build', min(share, 1.0))
