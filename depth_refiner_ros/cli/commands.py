"""The depth-refiner command."""

from __future__ import annotations

from collections.abc import Callable
import os
from typing import Protocol

from rich.console import Console
from rich.markup import escape
import tyro

from ..hosts.memory import keep_freed_memory
from .bench import Bench
from .cache import Cache
from .compile_model import Compile
from .demo import Demo
from .doctor import Doctor
from .evaluate import Evaluate
from .import_folder import ImportFolder
from .info import Info
from .live import Live
from .play import Play
from .record import Record
from .replay import Replay


class Command(Protocol):
    """A command: a dataclass whose fields are its arguments."""

    def run(self) -> int:
        """Do it; return the exit code."""


_COMMANDS: dict[str, Callable[..., Command]] = {
    'demo': Demo,
    'replay': Replay,
    'import': ImportFolder,
    'info': Info,
    'doctor': Doctor,
    'evaluate': Evaluate,
    'bench': Bench,
    'compile': Compile,
    'cache': Cache,
    'live': Live,
    'play': Play,
    'record': Record,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code.

    What a user can mend is one line on stderr and exit code 2; Ctrl-C is 130. Set
    DEPTH_REFINER_TRACEBACK=1 to see where an error came from.
    """
    errors = Console(stderr=True, soft_wrap=True, emoji=False, highlight=False)
    try:
        command: Command = tyro.extras.subcommand_cli_from_dict(
            _COMMANDS,
            prog='depth-refiner',
            description='Repairs depth: over recorded bags without ROS, and as ROS 2 nodes.',
            args=arguments,
        )
        keep_freed_memory()
        return command.run()
    except KeyboardInterrupt:
        errors.print('[yellow]interrupted[/yellow]')
        return 130
    except (ValueError, OSError) as error:
        if os.environ.get('DEPTH_REFINER_TRACEBACK'):
            raise
        errors.print(f'[red]depth-refiner:[/red] {escape(_sentence(error))}')
        return 2


def _sentence(error: ValueError | OSError) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f'{error.filename}: ' if error.filename else ''
        return f'{where}{error.strerror}'
    return ' '.join(str(error).split())
