"""What a loaded model is, and where models lie."""

from __future__ import annotations

from collections.abc import Mapping
import difflib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..filters.alignment import Ambiguity

Arrays = Mapping[str, npt.NDArray[Any]]

MODELS = Path(__file__).parents[1] / 'models'
"""Models that come with the package, with their cards."""


class ModelError(ValueError):
    """A model cannot be used; the text says why and what to do."""


class NotCompiledError(ModelError):
    """A back end could run a model after it was compiled, for these images at least."""


class Model(Protocol):
    """A loaded model: arrays in by name, arrays out by name.

    Attributes:
        name: Name of the model.
        back_end: What runs it, such as 'onnxruntime'.
        ambiguity: What its depth leaves open: 'none', or scale and shift of 'affine_inverse' depth
            or of 'affine' depth.
        compiling: Whether it serves while something faster is compiled.
    """

    name: str
    ambiguity: Ambiguity

    @property
    def back_end(self) -> str:
        """What runs it."""

    @property
    def compiling(self) -> bool:
        """Whether something faster is compiled."""

    def __call__(self, **inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        """Run the model once.

        The arrays may be overwritten by the next call.
        """


class GraphModel(Model, Protocol):
    """A model as its graph speaks: what a back end makes of a file.

    Attributes:
        inputs: Names of what the graph takes.
    """

    inputs: tuple[str, ...]


def shipped_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(path.stem for path in MODELS.glob('*.onnx'))


def model_path(name: str | Path) -> Path:
    """Return the file of a model, by the name of a shipped one or by path.

    Raises:
        ModelError: If there is no such file.
    """
    path = Path(name).expanduser()
    if len(path.parts) == 1 and not path.suffix:
        path = MODELS / f'{name}.onnx'
    if path.is_file():
        return path
    known = shipped_models()
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f'did you mean {near[0]}?' if near else f'shipped: {", ".join(known) or "none"}.'
    raise ModelError(f'no model {name}; {hint} Or give the path of an .onnx file.')
