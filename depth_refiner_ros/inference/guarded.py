"""Models that may fail without silencing anybody."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping
import threading
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from ..filters.alignment import Ambiguity
from .description import ModelDescription, described_at
from .model import Model, ModelError, model_path
from .upgrading import load_upgrading

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 60.0
_LAST_WAIT_S = 10.0
PATIENCE = 3
"""Frames in a row that a model may be late for."""

Outputs = Mapping[str, npt.NDArray[np.float32]]
Inference = Callable[..., Outputs | None]
Shapes = tuple[tuple[int, ...], ...]


class GuardedModel:
    """Loads a model when it is first needed, and again, later and later, after it has failed.

    One that is late `PATIENCE` frames in a row rests as long, but stays loaded; late once more
    after that, it rests longer. The first frame after loading may take its time.

    Args:
        load: Returns a model or raises.
        deadline_s: Longest that it may take a frame; 0 sets none.
        clock_s: Monotonic seconds.

    Attributes:
        deadline_s: May be changed at any time.
        waits: Whether a frame waits until the model is loaded, as a replay that must repeat
            wants it. Else loading, and the first frame of a size, which back ends compile for,
            are the work of a thread beside, and frames meanwhile get no answer.
        trouble: Why it does not run at present; empty if it does.
        back_end: What runs it; empty while nothing does.
        note: What loading it had to say, and how far a compilation is.
    """

    def __init__(
        self,
        load: Callable[[], Model],
        *,
        deadline_s: float = 0.0,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.deadline_s = deadline_s
        self._load = load
        self._clock_s = clock_s
        self._model: Model | None = None
        self._wait_s = FIRST_RETRY_S
        self._retry_s = -np.inf
        self._misses = 0
        self._ready: set[Shapes] = set()
        self._beside: threading.Thread | None = None
        self._began_s = 0.0
        self.waits = True
        self.trouble = ''
        self.note = ''

    @classmethod
    def named(cls, name: str, device: str = 'auto', *, threads: int = 0) -> GuardedModel:
        """Guard a model that `load_upgrading` loads."""
        guarded = cls(
            lambda: load_upgrading(name, device, threads=threads, log=guarded._take_note)
        )
        return guarded

    def _take_note(self, text: str) -> None:
        self.note = text

    @property
    def back_end(self) -> str:
        """What runs the model; empty while it is not loaded."""
        return self._model.back_end if self._model is not None else ''

    @property
    def ambiguity(self) -> Ambiguity:
        """What the model's depth leaves open, see `described`."""
        return self._model.ambiguity if self._model is not None else 'none'

    @property
    def compiling(self) -> bool:
        """Whether it serves while something faster is compiled."""
        return self._model is not None and self._model.compiling

    @property
    def loading_s(self) -> float:
        """Seconds since a thread began to prepare the model; 0 while none does."""
        beside = self._beside
        if beside is None or not beside.is_alive():
            return 0.0
        return max(self._clock_s() - self._began_s, 1e-9)

    def __call__(self, **inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]] | None:
        """Run the model, or return None where it cannot run; `trouble` then says why."""
        if self.loading_s or self._clock_s() < self._retry_s:
            return None
        shapes = tuple(np.shape(value) for value in inputs.values())
        if not self.waits and shapes not in self._ready:
            self._prepare(shapes, inputs)
            return None
        fresh = self._model is None
        try:
            if self._model is None:
                self._model = self._load()
            began_s = self._clock_s()
            outputs = self._model(**inputs)
        except Exception as error:  # a robot's depth must outlive any model
            self._give_up(error)
            return None
        self._ready.add(shapes)
        took_s = self._clock_s() - began_s
        if fresh or not 0 < self.deadline_s < took_s:
            self.trouble, self._wait_s, self._misses = '', FIRST_RETRY_S, 0
            return outputs
        self._misses += 1
        if self._misses >= PATIENCE:
            late = f'took {took_s:.3f} s for a frame, and repeatedly more than its deadline'
            self._rest(f'{late} of {self.deadline_s:g} s')
        return outputs

    def _prepare(self, shapes: Shapes, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
        """Load the model if need be, and let it meet a size of images, on a thread."""
        copies = {name: np.array(value) for name, value in inputs.items()}

        def work() -> None:
            try:
                model = self._model or self._load()
                model(**copies)
            except Exception as error:  # a robot's depth must outlive any model
                self._give_up(error)
            else:
                self._model, self.trouble = model, ''
                self._ready.add(shapes)

        self._began_s = self._clock_s()
        self._beside = beside = threading.Thread(target=work, name='model', daemon=True)
        beside.start()
        # A back end must not call into an interpreter that is gone.
        atexit.register(beside.join, _LAST_WAIT_S)

    def _give_up(self, error: Exception) -> None:
        self._model = None
        self._ready.clear()
        self._rest(f'{type(error).__name__}: {error}')

    def _rest(self, trouble: str) -> None:
        self.trouble = trouble
        self._retry_s = self._clock_s() + self._wait_s
        self._wait_s = min(2 * self._wait_s, LAST_RETRY_S)


class ChosenModel:
    """Runs the model that parameters name, and another one as soon as they name another.

    Args:
        given: What runs whatever they name.

    Attributes:
        waits: See `GuardedModel`.
        trouble: Why it does not run; empty if it does, or has not been asked to.
        back_end: What ran the last frame; empty if nothing did.
        ambiguity: What the depth of the last frame leaves open: 'none' for metres.
        note: Why that back end was chosen, once it was.
    """

    def __init__(self, given: Inference | None = None) -> None:
        self.waits = True
        self._given = given
        self._named: tuple[tuple[str, str, int], GuardedModel] | None = None
        self._described: tuple[str, ModelDescription | None] | None = None
        self.trouble = self.back_end = self.note = ''
        self.ambiguity: Ambiguity = 'none'

    def __call__(
        self, name: str, device: str, threads: int, *, deadline_s: float = 0.0, **inputs: Any
    ) -> Outputs | None:
        """Run the model, or return None where it cannot run.

        Args:
            name: Name of a shipped model, or the path of an .onnx file.
            device: What is to run it, see `load_model`.
            threads: Threads of the CPU; 0 lets the back end choose.
            deadline_s: Longest that it may take a frame; 0 sets none.
            inputs: Inputs of the model.
        """
        if self._given is not None:
            outputs = self._given(**inputs)
            self.trouble, self.back_end = '', '' if outputs is None else 'model'
            return outputs
        model = self._guarded(name, device, threads, deadline_s)
        outputs = model(**inputs)
        self.trouble, self.note = model.trouble, model.note
        self.back_end = '' if outputs is None else model.back_end
        self.ambiguity = model.ambiguity
        return outputs

    @property
    def loading(self) -> str:
        """What is being loaded, and for how long already, or compiled; empty if nothing is."""
        if self._named is None:
            return ''
        (name, device, _), model = self._named
        if seconds := model.loading_s:
            return f'{name} is loading ({seconds:.0f} s)'
        return f'{name} is being compiled for {device}' if model.compiling else ''

    def description(self, name: str) -> ModelDescription | None:
        """Return how a published model speaks; None for models of this package.

        A description that cannot be read is None here: loading the model says why.

        Args:
            name: Name of a shipped model, or the path of an .onnx file.
        """
        if self._given is not None:
            return None
        if self._described is None or self._described[0] != name:
            try:
                found = described_at(model_path(name))
            except ModelError:
                found = None
            self._described = name, found
        return self._described[1]

    def refuse(self, why: str) -> None:
        """Note why the model that is wanted cannot run."""
        self.trouble, self.back_end = why, ''

    def leave(self, why: str = '') -> None:
        """Note that no model is wanted, and perhaps why."""
        self.trouble = self.back_end = ''
        self.note = why

    def _guarded(self, name: str, device: str, threads: int, deadline_s: float) -> GuardedModel:
        choice = (name, device, threads)
        if self._named is None or self._named[0] != choice:
            self._named = choice, GuardedModel.named(name, device, threads=threads)
        self._named[1].deadline_s, self._named[1].waits = deadline_s, self.waits
        return self._named[1]
