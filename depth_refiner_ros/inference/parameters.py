"""Parameters that every stage with a model has."""

from __future__ import annotations

from typing import Any

from ..parameters import parameter
from .loading import BACK_ENDS


def device_parameter() -> Any:
    """Declare `device`: a key of `BACK_ENDS`, or 'auto'."""
    return parameter(
        'auto',
        'What runs the model; auto takes the first that is installed and agrees with ONNX '
        'Runtime on the frames stored with the model.',
        choices=('auto', *BACK_ENDS),
    )


def threads_parameter() -> Any:
    """Declare `threads`: of the CPU."""
    return parameter(0, 'CPU threads of the model; 0 lets the back end choose.', range=(0, 256))
