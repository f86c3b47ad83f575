"""How a command ends before its time: Ctrl-C, SIGTERM, a terminal that hangs up.

Imports next to nothing, so that it stands guard while everything else is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
import os
import signal
import sys
import time
from typing import Any

_NAMES = ('SIGINT', 'SIGTERM', 'SIGHUP')  # Windows has no SIGHUP
_PATIENCE_S = 1.0


class Interrupted(KeyboardInterrupt):
    """A signal ended the command.

    Attributes:
        exit_code: What a shell says of a program that the signal ended: 130 after Ctrl-C.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class _Received:
    """The signal that came first, and when."""

    number = 0
    at_s = 0.0
    saves = False


def _receive(number: int, frame: object) -> None:
    """End at once while there is nothing to save, else let the command end in order.

    A second Ctrl-C does not cost the recording that is being finished; one after a
    second means it.
    """
    now_s = time.monotonic()
    if not _Received.saves or (_Received.number and now_s - _Received.at_s > _PATIENCE_S):
        with suppress(OSError):
            os.write(2, b'interrupted\n')
        os._exit(128 + number)
    if not _Received.number:
        _Received.number, _Received.at_s = number, now_s
        raise Interrupted(number)


def check() -> None:
    """End the command if a signal was lost on the way, in a destructor or a library's callback.

    Raises:
        Interrupted: If one came.
    """
    if _Received.number:
        raise Interrupted(_Received.number)


def was_received() -> bool:
    """Whether a signal came: what fails after it fails for that reason."""
    return bool(_Received.number)


def accept() -> None:
    """Take the signal that came as the ordinary end of what ran, not as an interruption."""
    _Received.number = 0


def exit_code(interruption: BaseException) -> int:
    """Return the exit code of a program that this signal ended."""
    return int(getattr(interruption, 'exit_code', 128 + (_Received.number or signal.SIGINT)))


def save_from_now_on() -> None:
    """Raise `Interrupted` where a signal finds the command, instead of ending it there."""
    _Received.saves = True


@contextmanager
def handled(*, leaves: bool) -> Iterator[None]:
    """Handle the signals that end a command; those that are ignored (nohup) stay so.

    Args:
        leaves: The process ends afterwards: what comes then is too late to interrupt anything.
    """
    _Received.number, _Received.saves = 0, False
    before: dict[signal.Signals, Any] = {}
    hook = sys.unraisablehook

    def report(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            hook(unraisable)

    sys.unraisablehook = report
    with suppress(ValueError):  # only the main thread may
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, _receive)
    try:
        yield
    finally:
        for number, handler in before.items():
            late = signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, late if leaves else handler)
        if not leaves:
            _Received.number = 0
            sys.unraisablehook = hook


@contextmanager
def explained(remark: Callable[[], str]) -> Iterator[None]:
    """Explain to who interrupts the code inside what is there of its result."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        vars(interruption)['remark'] = remark()
        raise
