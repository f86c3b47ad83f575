"""What every training run does alike: stopping, going on, and saying what made it."""

from __future__ import annotations

from collections.abc import Collection
import math
from pathlib import Path
import signal
import subprocess
from types import FrameType
from typing import Any


class Stop:
    """Notices Ctrl-C, so that a step is finished and saved; a second one stops at once."""

    def __init__(self) -> None:
        self.wanted = False
        signal.signal(signal.SIGINT, self._notice)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True
        print('Stopping after this step ...', flush=True)


def commit() -> str:
    """Return the commit of the code, marked if files differ from it."""
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=12', '--exclude=*']
    found = subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or 'unknown'


def plain(value: Any) -> Any:
    """Return settings as what a checkpoint may hold without pickled classes."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def check_same(
    before: dict[str, Any], now: dict[str, Any], path: Path, may_differ: Collection[str]
) -> None:
    """Refuse to go on with a run under settings that would have made another run of it.

    Args:
        before: Settings of the checkpoint.
        now: Settings asked for, `plain`.
        path: Of the checkpoint.
        may_differ: Names of settings that change nothing of what is learned.
    """
    changed = [k for k in now if k not in may_differ and now[k] != before.get(k)]
    if changed:
        told = ', '.join(f'{k} was {before.get(k)} and is {now[k]}' for k in changed)
        raise SystemExit(f'{path} is of a run with other settings: {told}. Give another folder.')


def sample_numbers(steps: range, batch: int, *, process: int = 0, processes: int = 1) -> list[int]:
    """Return the samples that a process takes: step s of a run sees s * batch and what follows.

    Args:
        steps: To be done.
        batch: Samples of a step, of all processes together.
        process: Which one.
        processes: How many share a batch.
    """
    if batch % processes:
        raise SystemExit(f'--batch {batch} does not divide by {processes}.')
    local = batch // processes
    return [
        number
        for step in steps
        for number in range(step * batch + process * local, step * batch + (process + 1) * local)
    ]


def learning_rate(step: int, steps: int, greatest: float) -> float:
    """Return the learning rate of a step: up over the first 3 %, down as a cosine to 2 %."""
    rising = max(1, steps * 3 // 100)
    if step < rising:
        return greatest * (step + 1) / rising
    share = (step - rising) / max(1, steps - rising)
    return greatest * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share, 1))))
