"""A model that may fail without silencing anybody."""

from __future__ import annotations

from collections.abc import Callable
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from .model import Model
from .upgrading import load_upgrading

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 60.0


class GuardedModel:
    """Loads a model when it is first needed, and again, later and later, after it has failed.

    Args:
        load: Returns a model or raises.
        clock_s: Monotonic seconds.

    Attributes:
        trouble: Why it does not run at present; empty if it does.
        back_end: What runs it; empty while nothing does.
        told: What loading it had to say, and how far a compilation is.
    """

    def __init__(
        self, load: Callable[[], Model], *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._load = load
        self._clock_s = clock_s
        self._model: Model | None = None
        self._wait_s = FIRST_RETRY_S
        self._retry_s = -np.inf
        self.trouble = ''
        self.told = ''

    @classmethod
    def named(cls, name: str, device: str = 'auto', *, threads: int = 0) -> GuardedModel:
        """Guard a model that `load_upgrading` loads."""
        guarded = cls(lambda: load_upgrading(name, device, threads=threads, log=guarded._note))
        return guarded

    def _note(self, text: str) -> None:
        self.told = text

    @property
    def back_end(self) -> str:
        """What runs the model; empty while nothing does."""
        return self._model.back_end if self._model is not None else ''

    def __call__(self, **inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]] | None:
        """Run the model, or return None where it cannot run; `trouble` then says why."""
        if self._model is None and self._clock_s() < self._retry_s:
            return None
        try:
            if self._model is None:
                self._model = self._load()
            outputs = self._model(**inputs)
        except Exception as error:  # a robot's depth must outlive any model
            self._model = None
            self.trouble = f'{type(error).__name__}: {error}'
            self._retry_s = self._clock_s() + self._wait_s
            self._wait_s = min(2 * self._wait_s, LAST_RETRY_S)
            return None
        self.trouble, self._wait_s = '', FIRST_RETRY_S
        return outputs
