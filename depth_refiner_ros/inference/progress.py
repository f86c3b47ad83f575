"""How far a compilation is, and how it is asked to stop."""

from __future__ import annotations

from .model import ModelError


class CancelledError(ModelError):
    """A compilation was cancelled."""


class Progress:
    """Progress of a compilation, which it can stop. Used by several threads.

    Attributes:
        step: What is being done, a verb.
        share: How much of that is done, 0 to 1.
        cancelled: Whether it shall stop.
    """

    def __init__(self) -> None:
        self.step, self.share, self.cancelled = 'prepare', 0.0, False

    def __str__(self) -> str:
        return f'{self.step} {100 * self.share:.0f} %'

    def tell(self, step: str, share: float) -> None:
        """Say how far it is."""
        self.step, self.share = step, share

    def cancel(self) -> None:
        """Ask to stop; the compilation does so at its next step."""
        self.cancelled = True

    def stop_if_cancelled(self) -> None:
        """Stop here if `cancel` was called.

        Raises:
            CancelledError: If it was.
        """
        if self.cancelled:
            raise CancelledError('the compilation was cancelled')
