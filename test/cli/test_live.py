"""live, play and record from the command line, over loopback; the host has tests of its own."""

from __future__ import annotations

import os
from pathlib import Path
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from depth_refiner_ros.cli import main
from depth_refiner_ros.hosts import realsense

ROOT = Path(__file__).parents[2]
IMAGE = 'sensor_msgs/msg/Image'
PATIENCE_S = 120


@pytest.mark.parametrize(
    'arguments', [['live'], ['play', 'k.mcap'], ['record', '-o', 'x.mcap']], ids=lambda a: a[0]
)
@pytest.mark.parametrize('missing', ['zenoh', 'xxhash'])
def test_what_is_missing_is_one_sentence(refuse, monkeypatch, arguments, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, 'depth_refiner_ros.hosts.zenoh', raising=False)
    monkeypatch.delattr('depth_refiner_ros.hosts.zenoh', raising=False)
    said = refuse(*arguments)
    # Where neither is installed, it is the first that is imported that is named.
    needs = (
        rf"live, play and record need ({missing}|xxhash): pip install 'depth_refiner_ros\[zenoh\]'"
    )
    assert re.search(needs, said)


def wait(condition):
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, 'timed out'
        time.sleep(0.02)


@pytest.fixture
def host(monkeypatch):
    pytest.importorskip('xxhash', reason="pip install 'depth_refiner_ros[zenoh]'")
    pytest.importorskip('zenoh', reason="pip install 'depth_refiner_ros[zenoh]'")
    for name in ('ROS_DOMAIN_ID', 'ROS_NAMESPACE', 'ZENOH_SESSION_CONFIG_URI'):
        monkeypatch.delenv(name, raising=False)
    from depth_refiner_ros.hosts import zenoh

    return zenoh


@pytest.fixture
def endpoint():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return f'tcp/127.0.0.1:{free.getsockname()[1]}'


@pytest.fixture
def watching(host, endpoint):
    """A node of the network that the commands connect to."""
    with host.Node('watching', listen=[endpoint]) as node:
        yield node


@pytest.fixture
def start(endpoint):
    """Run a command in a process of its own."""
    running = []

    def run(*arguments):
        command = [sys.executable, '-m', 'depth_refiner_ros', *map(str, arguments)]
        process = subprocess.Popen(
            [*command, '--connect', endpoint],
            env=os.environ | {'PYTHONPATH': str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def end(process, signal_number):
    process.send_signal(signal_number)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert 'Traceback' not in err, err
    return err


def stamped(messages, topic):
    found = [m.msg for m in messages if m.topic == topic]
    return {(msg.header.stamp.sec, msg.header.stamp.nanosec): msg for msg in found}


@pytest.fixture
def listen(host, watching):
    """Collect the serialized messages of a topic, from before it was subscribed where kept."""

    def subscribe(topic, kind):
        got = []
        qos = host.Qos(100, transient_local=True)
        watching.subscribe(topic, kind, qos, lambda sample: got.append(sample.payload.to_bytes()))
        return got

    return subscribe


def settle(got):
    """Wait until nothing has come for a second."""
    count = -1
    while count != len(got):
        count = len(got)
        time.sleep(1)


def test_play_live_record_in_three_processes(watching, listen, endpoint, start, bags, tmp_path):
    bag = bags.write(tmp_path / 'k.mcap', bags.scene(5, color=None))
    flags = ['--stages', 'refine_depth', '--refine-depth.temporal-filter', 'false']
    assert main(['replay', str(bag), '-o', str(tmp_path / 'replayed.mcap'), *flags]) == 0
    live = start('live', *flags)
    record = start('record', '-o', tmp_path / 'out.mcap')
    wait(
        lambda: (
            {e.topic for e in watching.endpoints('MS')}
            >= {'/camera/depth/image_rect', '/camera/depth_refined/image_rect', '/diagnostics'}
        )
    )
    # Ten times slower than recorded: a loaded machine must not drop a frame here.
    refined = listen('/camera/depth_refined/image_rect', IMAGE)
    assert main(['play', str(bag), '--rate', '0.1', '--connect', endpoint]) == 0
    settle(refined)
    said = end(live, signal.SIGINT)
    assert '/camera/depth_refiner (experimental): depth from /camera/depth/image_rect' in said
    assert 'messages' in end(record, signal.SIGTERM)
    recorded = bags.read(tmp_path / 'out.mcap')
    topic = '/camera/depth_refined/image_rect'
    expected = stamped(bags.read(tmp_path / 'replayed.mcap'), topic)
    found = stamped(recorded, topic)
    assert len(expected) == 5
    dropped = int(said.rsplit(' frames overtaken', 1)[0].rsplit(None, 1)[-1])
    assert len(found) == 5 - dropped
    for stamp, message in found.items():
        assert bytes(message.data) == bytes(expected[stamp].data)
    played_again = stamped(recorded, '/camera/depth/image_rect')
    assert played_again.keys() == expected.keys()


def play(*arguments):
    return main(['play', *map(str, arguments), '--rate', '1000', '--delay', '1'])


@pytest.mark.parametrize('name', ['k.mcap', 'k.db3', 'k.bag'])
def test_plays_every_kind_of_bag_as_it_is(listen, endpoint, bags, tmp_path, name):
    messages = bags.scene(3, color=None)
    static = bags.transform('base', 'camera', (1.0, 2.0, 3.0))
    messages.append(bags.Message('/tf_static', messages[0].log_ns, static))
    got = listen('/camera/depth/image_rect', IMAGE)
    late = listen('/tf_static', 'tf2_msgs/msg/TFMessage')
    assert play(bags.write(tmp_path / name, messages), '--connect', endpoint) == 0
    wait(lambda: len(got) == 3 and len(late) == 1)
    expected = [m.msg for m in messages if m.topic == '/camera/depth/image_rect']
    for raw, message in zip(got, expected, strict=True):
        assert raw == bytes(bags.STORE.serialize_cdr(message, IMAGE))


def test_starts_later_and_plays_some_topics_only(watching, listen, endpoint, bags, tmp_path):
    bag = bags.write(tmp_path / 'k.mcap', bags.scene(4, color=None))
    got = listen('/camera/depth/image_rect', IMAGE)
    arguments = ['--topics', '/camera/depth/image_rect', '--start', '0.05', '--connect', endpoint]
    assert play(bag, *arguments) == 0
    wait(lambda: len(got) == 2)
    assert [e.topic for e in watching.endpoints('MP')] in ([], ['/camera/depth/image_rect'])


def test_loops_until_interrupted(listen, start, bags, tmp_path):
    bag = bags.write(tmp_path / 'k.mcap', bags.scene(2, color=None))
    got = listen('/camera/depth/image_rect', IMAGE)
    process = start('play', bag, '--loop', '--delay', '0')
    wait(lambda: len(got) > 4)
    assert 'topics published' in end(process, signal.SIGINT)


def test_records_what_it_knows_and_says_what_it_leaves_out(
    host, watching, endpoint, bags, tmp_path, capsys
):
    text = bags.STORE.serialize_cdr(bags.text('hello'), 'std_msgs/msg/String')
    known = watching.publisher('/chatter', 'std_msgs/msg/String')
    foreign = watching.publisher('/secret', 'my_msgs/msg/Secret', digest=f'RIHS01_{"1" * 64}')
    other = watching.publisher('/other', 'std_msgs/msg/String', digest=f'RIHS01_{"2" * 64}')
    stop = threading.Event()

    def publish():
        while not stop.wait(0.05):
            for publisher in (known, foreign, other):
                publisher.put(text)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        arguments = ['-o', str(tmp_path / 'out'), '--seconds', '2', '--connect', endpoint]
        assert main(['record', *arguments]) == 0
    finally:
        stop.set()
        thread.join()
    err = capsys.readouterr().err
    assert err.count('left out /secret: the definition of my_msgs/msg/Secret is not known') == 1
    assert err.count('left out /other: its std_msgs/msg/String has another definition') == 1
    recorded = bags.read(tmp_path / 'out')
    assert recorded
    assert {(m.topic, m.msg.data) for m in recorded} == {('/chatter', 'hello')}


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['live', '--connect', 'nonsense'], 'cannot join a Zenoh network at nonsense'),
        (['live', '--namespace', 'a b'], 'is no absolute name in ROS'),
        (['live', '--stages', 'sleep'], "unknown stage 'sleep'"),
        (['play', 'absent.mcap'], 'absent.mcap does not exist'),
        (['play', 'absent.mcap', '--rate', '0'], '--rate must be above 0'),
        (['play', 'absent.mcap', '--start', '-1'], 'cannot be negative'),
        (['record', '-o', 'x.mcap', '--topics', '/1'], 'is no absolute name in ROS'),
    ],
)
def test_mistakes_are_one_sentence(host, refuse, monkeypatch, tmp_path, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert sentence in refuse(*arguments)


def test_a_topic_that_is_not_in_the_bag_is_named(host, refuse, endpoint, bags, tmp_path):
    bag = bags.write(tmp_path / 'k.mcap', bags.scene(1, color=None))
    said = refuse('play', bag, '--topics', '/x', '--listen', endpoint)
    assert 'has no /x; it has /camera/depth/camera_info, /camera/depth/image_rect' in said


def test_a_recorded_realsense_is_refined_without_ros(
    host, watching, listen, endpoint, monkeypatch
):
    pytest.importorskip('pyrealsense2', reason="pip install 'depth_refiner_ros[realsense]'")
    refined = listen('/camera/depth_refined/image_rect', IMAGE)
    raw = listen('/camera/depth/image_rect', IMAGE)
    opened, really = [], realsense.RealSense

    def patient(parameters):
        opened.append(parameters)
        if len(opened) > 1:  # at first the file is only looked at
            wait(lambda: watching.count_publishers('/camera/depth_refined/image_rect'))
            time.sleep(1)
        return really(parameters)

    monkeypatch.setattr(realsense, 'RealSense', patient)
    bag = ROOT / 'test' / 'hosts' / 'realsense.bag'
    arguments = ['--source', 'realsense', '--realsense.file', str(bag), '--connect', endpoint]
    assert main(['live', *arguments, '--stages', 'refine_depth']) == 0  # ends with its recording
    wait(lambda: refined and raw)
    stamps = {host.STORE.deserialize_cdr(r, IMAGE).header.stamp.sec for r in (*refined, *raw)}
    assert stamps == {1_700_000_000}  # the camera's, not when it was played


def test_a_recording_that_is_none_is_one_sentence(host, refuse, tmp_path):
    pytest.importorskip('pyrealsense2', reason="pip install 'depth_refiner_ros[realsense]'")
    arguments = ['live', '--source', 'realsense', '--realsense.file']
    assert 'absent.bag does not exist' in refuse(*arguments, tmp_path / 'absent.bag')


def test_a_realsense_without_its_sdk_is_one_sentence(host, refuse, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyrealsense2', None)
    assert "pip install 'depth_refiner_ros[realsense]'" in refuse('live', '--source', 'realsense')


def test_a_view_without_its_viewer_is_one_sentence(host, refuse, monkeypatch):
    monkeypatch.setitem(sys.modules, 'rerun', None)
    assert "pip install 'depth_refiner_ros[view]'" in refuse('live', '--view')


@pytest.mark.parametrize('command', ['live', 'play', 'record'])
def test_help_says_that_it_is_experimental(command, capsys):
    with pytest.raises(SystemExit):
        main([command, '--help'])
    assert 'EXPERIMENTAL' in capsys.readouterr().out
