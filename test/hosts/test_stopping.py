"""A node ends quietly on a signal."""

import signal
import subprocess
import sys

import pytest

# As a library does that starts threads when it is imported: they take signals.
SCRIPT = """
import threading, time
threading.Thread(target=threading.Event().wait, daemon=True).start()
from depth_refiner_ros.hosts.stopping import Stopping, leave
stopping = Stopping()
ended = threading.Event()
stopping.then(ended.set)
print('ready', flush=True)
while not ended.is_set():
    time.sleep(0.01)
print('ended', flush=True)
leave(0)
"""


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_another_thread_gets_ends_it(number):
    process = subprocess.Popen(
        [sys.executable, '-c', SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(number)
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, output, errors) == (0, 'ended\n', '')
