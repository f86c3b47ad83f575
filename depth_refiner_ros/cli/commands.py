"""The depth-refiner command."""

from __future__ import annotations

from collections.abc import Callable
import difflib
import inspect
import os
import sys
import textwrap
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
import tyro

from ..hosts.bag import RunError
from ..hosts.memory import keep_freed_memory
from . import signals
from .bench import Bench
from .cache import Cache
from .compile_model import Compile
from .demo import Demo
from .doctor import Doctor
from .evaluate import Evaluate
from .import_folder import ImportFolder
from .info import Info
from .live import Live
from .models import Models
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
    'models': Models,
    'live': Live,
    'play': Play,
    'record': Record,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code.

    What a user can mend is one line on stderr and exit code 2, a run that failed on its way 1,
    Ctrl-C 130. Set DEPTH_REFINER_TRACEBACK=1 to see where an error came from.
    """
    errors = Console(stderr=True, soft_wrap=True, emoji=False, highlight=False)
    try:
        name, *rest = (sys.argv[1:] if arguments is None else arguments) or ['']
        if name in ('-h', '--help'):
            print(_overview())
            return 0
        if name not in _COMMANDS:
            raise ValueError(_unknown(name))
        command: Command = tyro.cli(_COMMANDS[name], prog=f'depth-refiner {name}', args=rest)
        signals.save_from_now_on()
        keep_freed_memory()
        code = command.run()
        signals.check()
        return code
    except BrokenPipeError:
        raise
    except KeyboardInterrupt as interruption:
        return _interrupted(errors, interruption)
    except (ValueError, OSError) as error:
        if signals.was_received():  # an interruption may come out as something else
            return _interrupted(errors, error)
        if os.environ.get('DEPTH_REFINER_TRACEBACK'):
            raise
        errors.print(f'[red]depth-refiner:[/red] {escape(_sentence(error))}')
        return 1 if isinstance(error, RunError) else 2


def _overview() -> str:
    width = max(map(len, _COMMANDS))
    lines = [
        textwrap.fill(
            _summary(command),
            width=88,
            initial_indent=f'  {name:{width}}  ',
            subsequent_indent=' ' * (width + 4),
        )
        for name, command in _COMMANDS.items()
    ]
    return '\n'.join(
        [
            'usage: depth-refiner COMMAND ...',
            '',
            'Repairs depth: over recorded bags without ROS, and as ROS 2 nodes.',
            '',
            *lines,
            '',
            'depth-refiner COMMAND --help explains a command and its flags.',
            'depth-refiner --version prints the version.',
            '',
            'Without a camera: depth-refiner demo',
            'With a recording: depth-refiner doctor mine.bag',
            '                  depth-refiner replay mine.bag -o refined.mcap',
        ]
    )


def _summary(command: Any) -> str:
    return ' '.join(inspect.cleandoc(command.__doc__).partition('\n\n')[0].split())


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, _COMMANDS, n=1)
    known = ', '.join(_COMMANDS)
    hint = f'did you mean {near[0]}?' if near else f'the commands are {known}'
    if not name:
        return f'name a command: {known}; depth-refiner --help explains them'
    if name.startswith('-'):
        return f'{name} comes before a command; {hint}'
    return f'there is no command {name!r}; {hint}'


def _interrupted(errors: Console, interruption: BaseException) -> int:
    remark = getattr(interruption, 'remark', '')
    errors.print(f'[yellow]interrupted[/yellow]{": " if remark else ""}{escape(remark)}')
    return signals.exit_code(interruption)


def _sentence(error: ValueError | OSError) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f'{error.filename}: ' if error.filename else ''
        return f'{where}{error.strerror}'
    return ' '.join(str(error).split())
