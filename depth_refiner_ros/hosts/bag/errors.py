"""What is wrong with a recording, in one sentence that says what to do."""

from __future__ import annotations

from pathlib import Path


class BagError(ValueError):
    """A bag that cannot be read, written or used; the text says what to do."""


class RunError(BagError):
    """A run that had begun and cannot go on; the text says what of it is kept."""


# How a file of each kind starts, and what often saves one that was cut off.
_RESCUE = {
    '.mcap': (b'\x89MCAP0\r\n', 'mcap recover {path} -o saved.mcap'),
    '.bag': (b'#ROSBAG V2.0\n', 'rosbag reindex {path}'),
    '.db3': (b'SQLite format 3\0', "sqlite3 {path} '.recover' | sqlite3 saved.db3"),
}


def unreadable(path: Path, error: BaseException) -> str:
    """Say why a file cannot be read, and how one that was cut off can be saved."""
    if path.suffix not in _RESCUE:
        reason = ' '.join(str(error).split())[:200].rstrip('.') or type(error).__name__
        return f'{path} is not a readable bag: {reason}'
    magic, rescue = _RESCUE[path.suffix]
    with path.open('rb') as file:
        start = file.read(len(magic))
    if not start:
        return f'{path} is empty'
    if start != magic:
        return f'{path} is not a bag: it does not start as {path.suffix} files do'
    reason = ' '.join(str(error).split())[:200].rstrip('.') or type(error).__name__
    return (
        f'{path} is damaged ({reason}); '
        f'a recording that was cut off can often be saved with: {rescue.format(path=path)}'
    )


def rescue(path: Path) -> str:
    """Return the command that often saves a recording that was cut off."""
    return _RESCUE[path.suffix][1].format(path=path)
