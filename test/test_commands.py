"""Every command that README, docs, Makefile and model cards show is one that its parser takes."""

import contextlib
import io
from pathlib import Path
import re
import runpy
import shlex
from unittest import mock
import warnings

import pytest
import tyro

from depth_refiner_ros.cli import commands

ROOT = Path(__file__).parents[1]
PAGES = (
    ROOT / 'README.md',
    ROOT / 'CONTRIBUTING.md',
    ROOT / 'Makefile',
    *sorted((ROOT / 'docs').glob('*.md')),
    *sorted((ROOT / 'training').glob('*.md')),
    *sorted((ROOT / 'depth_refiner_ros' / 'models').glob('*.md')),
)
COMMAND = re.compile(r'(?:python3? -m (training[\w.]*\w)|depth-refiner (\w[\w-]*))(?![\w-])(.*)')


def lines_of(text, name):
    """Return lines that are whole commands, and what is shown within a sentence."""
    text = text.replace('\\\n', ' ')
    if name == 'Makefile':
        recipes = [line for line in text.splitlines() if line.startswith('\t')]
        return [line.replace('$(MODELS)', 'models') for line in recipes], []
    fences = re.findall(r'^```\w*\n(.*?)^```', text, re.DOTALL | re.MULTILINE)
    prose = re.sub(r'^```.*?^```', '', text, flags=re.DOTALL | re.MULTILINE)
    spans = [' '.join(span.split()) for span in re.findall(r'`([^`]+)`', prose)]
    return [line for fence in fences for line in fence.splitlines()], spans


def shown():
    for page in PAGES:
        whole, spans = lines_of(page.read_text(encoding='utf-8'), page.name)
        for kind, lines in (('whole', whole), ('part', spans)):
            for line in lines:
                if found := COMMAND.search(line):
                    module, command, rest = found.groups()
                    # A comment, another command, or how long it took.
                    rest = re.split(r'\s#|\s[|&]|, |;(?=\s)', rest)[0].replace(' ...', '')
                    label = f'{page.name}: {module or command}{rest}'
                    yield pytest.param(module, command, rest, kind, id=label)


class Parsed(BaseException):
    """What stops a script once its arguments are read."""


def parse(module, command, arguments):
    """Read arguments as the command does, and do no more."""
    if command:
        tyro.cli(commands._COMMANDS[command], args=arguments)
        return
    read = tyro.cli

    def reading(settings, **options):
        read(settings, **options, args=arguments)
        raise Parsed

    with (
        mock.patch.object(tyro, 'cli', reading),
        contextlib.suppress(Parsed),
        warnings.catch_warnings(),
    ):
        # That a module was imported before changes nothing here.
        warnings.simplefilter('ignore', RuntimeWarning)
        runpy.run_module(module, run_name='__main__', alter_sys=True)


@pytest.mark.parametrize(('module', 'command', 'rest', 'kind'), list(shown()))
def test_the_command_is_taken(module, command, rest, kind):
    if module:
        pytest.importorskip('lightning_fabric', reason="training: pip install '.[train]'")
    else:
        assert command in commands._COMMANDS
    arguments = shlex.split(rest)
    if '--help' in arguments or kind == 'part':
        # Within a sentence what a command needs besides may be left out.
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
            parse(module, command, ['--help'])
        assert ended.value.code in (0, None)
        for flag in (word for word in arguments if word.startswith('--')):
            assert flag in printed.getvalue()
        return
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parse(module, command, arguments)
    except SystemExit as ended:
        pytest.fail(f'exit {ended.code}: {errors.getvalue()}')


def test_both_kinds_are_found():
    found = [param.values for param in shown()]
    assert sum(values[0] is not None for values in found) > 30
    assert sum(values[1] is not None for values in found) > 20
