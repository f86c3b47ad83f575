"""Models that are slower than the camera: asked for some frames, believed for those after them."""

from __future__ import annotations

import atexit
from collections.abc import Callable
import threading
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..filters.alignment import Ambiguity
from .guarded import ChosenModel

_LAST_WAIT_S = 10.0


class Answer(NamedTuple):
    """What a model made of one frame.

    Attributes:
        outputs: Outputs of the model, by name; copies.
        ambiguity: What its depth leaves open.
        stamp_ns: Stamp of the frame.
        frame: Its number.
    """

    outputs: dict[str, npt.NDArray[np.float32]]
    ambiguity: Ambiguity
    stamp_ns: int
    frame: int


class HeldModel:
    """Asks a model for every so-manieth frame, and gives its newest answer for the others.

    Where the model waits for nothing (`ChosenModel.waits` is false, as live hosts have it) it
    works on a thread beside, on the newest frame there is when it is free: no frame waits for it,
    and its answers come some frames late. Else, as in a replay, it is asked for the first frame
    and every so-manieth after it, and the same frames get the same answers.

    A frame of another size, with an earlier stamp, or for another model ends what is held.

    Args:
        model: Asked by one thread at a time.

    Attributes:
        frame: Number of the last frame.
    """

    def __init__(self, model: ChosenModel) -> None:
        self.frame = 0
        self._model = model
        self._key: tuple[Any, ...] = ()
        self._asked = 0
        self._answer: Answer | None = None
        self._beside: threading.Thread | None = None
        self._found: Answer | None = None
        self._wanted = True
        self._registered = False

    def __call__(
        self,
        name: str,
        device: str,
        threads: int,
        *,
        every_frames: int,
        stamp_ns: int,
        **inputs: Any,
    ) -> Answer | None:
        """Return the newest answer, or None where there is none.

        Args:
            name: Name of the model, as `ChosenModel` takes it.
            device: What is to run it.
            threads: Threads of the CPU; 0 lets the back end choose.
            every_frames: The model is asked for one of so many frames at most.
            stamp_ns: Stamp of this frame.
            inputs: Inputs of the model.
        """
        self.frame += 1
        beside = every_frames > 1 and not self._model.waits
        self._take_what_is_ready(wait=not beside)
        key = (name, device, threads, *(np.shape(value) for value in inputs.values()))
        back = self._answer is not None and stamp_ns < self._answer.stamp_ns
        if key != self._key or back:
            self._key, self._answer, self._wanted = key, None, False
        if self._beside is not None or (
            self._answer is not None and self.frame - self._asked < every_frames
        ):
            return self._answer
        self._asked = self.frame

        def ask(values: dict[str, Any], frame: int = self.frame) -> Answer | None:
            outputs = self._model(name, device, threads, **values)
            if outputs is None:
                return None
            # What a model returns is overwritten by its next call.
            kept = {output: np.array(value, np.float32) for output, value in outputs.items()}
            return Answer(kept, self._model.ambiguity, stamp_ns, frame)

        if beside:
            copies = {port: np.array(value) for port, value in inputs.items()}
            self._start(lambda: ask(copies))
        else:
            self._answer = ask(inputs)
        return self._answer

    def _start(self, ask: Callable[[], Answer | None]) -> None:
        def work() -> None:
            self._found = ask()

        self._found, self._wanted = None, True
        self._beside = threading.Thread(target=work, name='slow model', daemon=True)
        self._beside.start()
        if not self._registered:
            # A back end must not call into an interpreter that is gone.
            atexit.register(self._wait)
            self._registered = True

    def _wait(self) -> None:
        if self._beside is not None:
            self._beside.join(_LAST_WAIT_S)

    def _take_what_is_ready(self, *, wait: bool) -> None:
        """Take the answer of the thread beside, if it has one."""
        if self._beside is None or (self._beside.is_alive() and not wait):
            return
        self._beside.join()
        self._beside, self._answer = None, self._found if self._wanted else None
