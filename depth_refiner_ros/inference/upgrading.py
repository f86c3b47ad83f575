"""Serves with what runs now while what runs faster is compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..filters.alignment import Ambiguity
from .compiling import Compilation, Size, compile_model
from .loading import BACK_ENDS, Log, candidates, first_that_agrees, load_model, spoken_to
from .model import Model, ModelError, NotCompiledError, model_path
from .onnx_file import OnnxFile, image_size, read_onnx
from .progress import Progress

Compile = Callable[[Size, Progress], Model]

_COMPILED = 'tensorrt-'


class UpgradingModel:
    """A model of two back ends: the better one where it was compiled, else the other.

    Every frame is served. The first one of a size that was not compiled starts the compilation;
    the first one after it has ended is served by the better back end.

    Attributes:
        name: Name of the model.
        back_end: What ran the last frame.

    Args:
        fallback: Loads what serves until then; called when it is first needed.
        better: The better one, as far as it was compiled already.
        compile_for: Compiles it for a size of images; None to leave it as it is.
        size_of: Returns height and width of the images among the inputs, px.
        target: Name of the better back end.
        log: Told whenever there is something new to say.
    """

    ambiguity: Ambiguity = 'none'

    def __init__(
        self,
        fallback: Callable[[], Model],
        better: Model | None = None,
        compile_for: Compile | None = None,
        *,
        size_of: Callable[[Mapping[str, npt.NDArray[Any]]], Size] = image_size,
        target: str = '',
        log: Log = lambda text: None,
    ) -> None:
        self._load_fallback = fallback
        self._fallback: Model | None = None
        self._better = better
        self._compile_for = compile_for
        self._size_of = size_of
        self._target = target
        self._log = log
        self._compilation: Compilation | None = None
        self._tried: set[Size] = set()
        self._logged = ''
        first = better or self._other()
        self.name, self.back_end = first.name, first.back_end

    @property
    def compiling(self) -> bool:
        """Whether the better back end is being compiled."""
        return self._compilation is not None

    def __call__(self, **inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        """Run the model once."""
        self._take_what_is_ready()
        if self._better is not None:
            try:
                outputs = self._better(**inputs)
            except NotCompiledError:
                pass
            else:
                self.back_end = self._better.back_end
                return outputs
        self._compile(self._size_of(inputs))
        other = self._other()
        self.back_end = other.back_end
        return other(**inputs)

    def _other(self) -> Model:
        if self._fallback is None:
            self._fallback = self._load_fallback()
        return self._fallback

    def _compile(self, size: Size) -> None:
        if self._compile_for is None or self._compilation is not None or size in self._tried:
            return
        self._tried.add(size)
        self._compilation = Compilation(partial(self._compile_for, size))

    def _take_what_is_ready(self) -> None:
        if self._compilation is None:
            return
        if self._compilation.running:
            self._tell(
                f'{self.name} runs on {self.back_end} while it is compiled for {self._target}: '
                f'{self._compilation.progress}'
            )
            return
        done, self._compilation = self._compilation, None
        try:
            self._better = done.result()
        except Exception as error:  # whatever it was, the fallback serves on
            self._tell(f'{self.name} runs on {self.back_end}, not {self._target}: {error}')
        else:
            self._tell(f'{self.name} runs on {self._target}, compiled beside {self.back_end}')

    def _tell(self, text: str) -> None:
        if text != self._logged:
            self._logged = text
            self._log(text)


def load_upgrading(
    name: str | Path,
    device: str = 'auto',
    *,
    threads: int = 0,
    log: Log = lambda text: None,
) -> Model:
    """Load a model for a host that must serve every frame, and cannot wait for a compiler.

    As `load_model`, but a TensorRT back end that is named is compiled for the images
    that come, and where it is not there, refused or not yet compiled, the next back end serves.
    'auto' compiles nothing, so that a replay repeats; images of a size that nobody compiled are
    served by the next back end.

    Raises:
        ModelError: If no back end can run it.
    """
    if not device.startswith(_COMPILED) and device != 'auto':
        return load_model(name, device, threads=threads, log=log)
    file = read_onnx(model_path(name))
    better: Model | None = None
    compile_for: Compile | None = None
    refusal = ''
    try:
        better = first_that_agrees(file, candidates(device), threads=threads, log=log)
    except NotCompiledError:
        compile_for = _compiler(file, device)
    except ModelError as error:
        if device not in BACK_ENDS or device == 'auto':
            raise
        refusal = f' {error}.'
    else:
        if not better.back_end.startswith(_COMPILED):
            return spoken_to(better, file)
        if device != 'auto':
            compile_for = _compiler(file, device)
    others = [other for other in BACK_ENDS if not other.startswith(_COMPILED)]
    upgrading = UpgradingModel(
        lambda: first_that_agrees(
            file, others, threads=threads, log=lambda text: log(text + refusal)
        ),
        better,
        compile_for,
        size_of=file.size_of,
        target=device,
        log=log,
    )
    return spoken_to(upgrading, file)


def _compiler(file: OnnxFile, device: str) -> Compile:
    precision = device.removeprefix(_COMPILED)
    return lambda size, progress: compile_model(file, precision, sizes=[size], progress=progress)
