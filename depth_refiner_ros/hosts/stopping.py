"""How a node ends on a signal: at once, quietly, whatever it is doing.

Signals are blocked and waited for by one thread, so that none ever interrupts Python code, or a
library's, at a random line. Imports next to nothing: it stands guard while all else is imported.
"""

from __future__ import annotations

from collections.abc import Callable
import os
import signal
import sys
import threading
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE_S = 1.5


class Stopping:
    """Waits for Ctrl-C or SIGTERM.

    Until `then` is called, the process ends at once. After that it has a second and a half: a
    frame in work, or a model that is being compiled, cannot be broken off, and nobody waits for
    it.
    """

    def __init__(self) -> None:
        self._then: Callable[[], object] | None = None
        self._lock = threading.Lock()
        # Threads inherit this. Those that started before it, as NumPy's, still get signals; what
        # Python makes of these is passed on.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        waiting = threading.Thread(target=self._wait, name='signals', daemon=True)
        waiting.start()
        for number in _SIGNALS:
            signal.signal(number, lambda n, _: signal.pthread_kill(waiting.ident or 0, n))

    def then(self, action: Callable[[], object]) -> None:
        """Set what ends the process from now on; it is called on a thread of its own."""
        with self._lock:
            self._then = action

    def _wait(self) -> None:
        signal.sigwait(_SIGNALS)
        with self._lock:
            if self._then is None:
                leave(0)
            self._then()
        threading.Event().wait(_PATIENCE_S)
        leave(0)


def leave(code: int) -> NoReturn:
    """End the process now: back ends compile on threads that outlive an interpreter badly."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
