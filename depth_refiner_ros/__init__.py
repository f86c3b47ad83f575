"""Repairs depth images in real time: denoised, filled, and honest about which pixels to trust."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .arrays import ArrayPipeline, Result, load_pipeline

__all__ = ['ArrayPipeline', 'Result', 'load_pipeline']


def __getattr__(name: str) -> object:
    # Imported on use: Ctrl-C must work before NumPy and OpenCV are loaded.
    if name in __all__:
        from . import arrays

        return getattr(arrays, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
