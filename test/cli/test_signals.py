from __future__ import annotations

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

from depth_refiner_ros.cli import main, signals

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {'PYTHONPATH': str(ROOT)}

# What a console script does, telling when it begins to hear signals: before that, how long the
# interpreter takes depends on what else the machine does.
START = """
import sys
from depth_refiner_ros import cli
run = cli._run
cli._run = lambda arguments: print(1, flush=True) or run(arguments)
sys.exit(cli.main())
"""


@pytest.mark.parametrize('after_s', [0.0, 0.05, 0.2, 0.5])
def test_ctrl_c_is_quiet_while_everything_is_imported(after_s):
    process = subprocess.Popen(
        [sys.executable, '-c', START, 'bench'],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.read(2)
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (130, 'interrupted\n')


def test_the_package_imports_nothing_before_it_hears_signals():
    code = 'import sys, depth_refiner_ros.cli; print("numpy" in sys.modules, "cv2" in sys.modules)'
    done = subprocess.run(
        [sys.executable, '-c', code], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert done.stdout == 'False False\n'


def test_signals_that_are_ignored_stay_so_and_others_come_back():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.handled(leaves=False):
            signals.save_from_now_on()
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            with pytest.raises(signals.Interrupted) as caught:
                signal.raise_signal(signal.SIGTERM)
            assert signals.exit_code(caught.value) == 143
            signal.raise_signal(signal.SIGTERM)  # impatience within a second changes nothing
            with pytest.raises(signals.Interrupted):
                signals.check()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signals.check()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_that_a_destructor_swallowed_is_found_at_the_next_check(capsys):
    class Swallows:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    with signals.handled(leaves=False):
        signals.save_from_now_on()
        item = Swallows()
        del item
        with pytest.raises(signals.Interrupted):
            signals.check()
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize('arguments', [['--help'], ['replay', '--help'], ['--version']])
def test_a_reader_that_goes_away_is_no_news(arguments):
    process = subprocess.Popen(
        [sys.executable, '-m', 'depth_refiner_ros', *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), err) == (141, b'')


def test_version(capsys):
    assert main(['--version']) == 0
    name, version = capsys.readouterr().out.split()
    assert name == 'depth-refiner'
    assert version[0].isdigit()


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ([], 'name a command: demo, replay'),
        (['repaly', 'x.bag'], "no command 'repaly'; did you mean replay?"),
        (['zzz'], 'the commands are demo, replay'),
        (['--camera', 'replay'], '--camera comes before a command'),
    ],
)
def test_commands_that_are_none(refuse, arguments, words):
    assert words in refuse(*arguments)


def test_help_names_every_command_in_a_line_or_two(capsys):
    assert main(['--help']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 99 for line in lines)
    named = [line.split()[0] for line in lines if line[:2] == '  ' and line[2:3].strip()]
    assert named == [
        *('demo', 'replay', 'import', 'info', 'doctor', 'evaluate'),
        *('bench', 'compile', 'cache', 'models', 'live', 'play', 'record'),
    ]
