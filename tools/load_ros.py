"""Measures the ROS nodes under load: frames a second, latency, processor time and lost frames.

    python tools/load_ros.py RECORDING      # 15 and 30 Hz, two sizes, one camera and two
    python tools/load_ros.py RECORDING --hz 30 --cameras 1 --size 640x480 --seconds 20
    python tools/load_ros.py RECORDING --parameter inpaint_depth.model:=depth_small

Needs ROS sourced. Cameras, nodes and a consumer of every output are processes of their own on this
machine, one node a camera; the consumer takes messages as octets, as cheaply as rclpy can. Latency
is from the camera's stamp to the consumer's callback, so what both of these cost is in it.
Processor time is the nodes' alone, all threads, and the figure to trust while others use the
machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
import itertools
import json
import os
from pathlib import Path
import struct
import subprocess
import sys
import threading
import time
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, QoSReliabilityPolicy, qos_profile_sensor_data

from depth_refiner_ros.config import configure
from depth_refiner_ros.data import ColorImage, DepthImage
from depth_refiner_ros.evaluation.protocols import open_source
from depth_refiner_ros.hosts.ros_node import FAMILY, message_class
from depth_refiner_ros.messages import MESSAGE_TYPE, encode
from depth_refiner_ros.stage import topic_inputs

WARM_S = 4.0
FRAMES = 60
NODE = 'from depth_refiner_ros.nodes import pipeline; pipeline()'


def namespace(camera: int) -> str:
    return f'/camera_{camera}'


# ------------------------------------------------------------------------------ the processes


def resized(value: Any, width: int, height: int) -> Any:
    """Return an image or a camera in another size, each pixel of depth one that was measured."""
    if isinstance(value, DepthImage):
        size = (width, height)
        depth_m = cv2.resize(value.depth_m, size, interpolation=cv2.INTER_NEAREST)
        return replace(value, depth_m=depth_m)
    if isinstance(value, ColorImage):
        return replace(value, rgb=cv2.resize(value.rgb, (width, height)))
    return value.scaled(width, height)


def play(path: Path, hz: float, size: str, cameras: int, seconds: float) -> None:
    """Publish a recording at a rate; print the stamps of all frames."""
    width, height = (int(side) for side in size.split('x'))
    node = rclpy.create_node('cameras')
    inputs = topic_inputs(configure({}).pipeline)
    frames = []
    for frame, _ in zip(open_source(path), range(FRAMES), strict=False):
        values = {port: resized(v, width, height) for port, v in frame.values.items()}
        frames.append({port: encode(value, FAMILY) for port, value in values.items()})
    frames = [frame for frame in frames if frame]
    publishers = [
        {
            port: node.create_publisher(
                message_class(MESSAGE_TYPE[inputs[port].type]),
                f'{namespace(camera)}/{inputs[port].name}',
                qos_profile_sensor_data,
            )
            for port in frames[0]
            if port in inputs
        }
        for camera in range(cameras)
    ]
    while not all(p.get_subscription_count() for ports in publishers for p in ports.values()):
        time.sleep(0.05)
    stamps = []
    began_s = time.monotonic()
    for i in range(round((WARM_S + seconds) * hz)):
        time.sleep(max(began_s + i / hz - time.monotonic(), 0))
        stamp_ns = time.time_ns()
        stamps.append(stamp_ns)
        messages = frames[i % len(frames)]
        for message in messages.values():
            stamp = message.header.stamp
            stamp.sec, stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        for ports in publishers:
            for port, publisher in ports.items():
                publisher.publish(messages[port])
    print(json.dumps(stamps))


def listen(cameras: int) -> None:
    """Take every output until told to stop; print stamp and time of arrival by topic."""
    arrived: dict[str, list[tuple[int, int]]] = {}
    node = rclpy.create_node('consumer')
    qos = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.RELIABLE)

    def take(topic: str) -> None:
        arrived[topic] = []

        def on_message(octets: bytes) -> None:
            sec, nanosec = struct.unpack_from('<iI', octets, 4)  # behind CDR's encapsulation
            arrived[topic].append((sec * 1_000_000_000 + nanosec, time.time_ns()))

        node.create_subscription(kind, topic, on_message, qos, raw=True)

    for output in configure({}).pipeline.outputs.values():
        kind = message_class(MESSAGE_TYPE[output.type])
        for camera in range(cameras):
            take(f'{namespace(camera)}/{output.name}')
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    stopped = rclpy.task.Future()

    def wait() -> None:
        sys.stdin.readline()
        stopped.set_result(None)
        executor.wake()

    threading.Thread(target=wait, daemon=True).start()
    executor.spin_until_future_complete(stopped)
    print(json.dumps(arrived))


@contextmanager
def nodes(cameras: int, parameters: Sequence[str]) -> Iterator[list[subprocess.Popen]]:
    given = [word for parameter in parameters for word in ('-p', parameter)]
    running = []
    for camera in range(cameras):
        arguments = ['--ros-args', '-r', f'__ns:={namespace(camera)}', *given]
        arguments += ['--log-level', 'warn']
        running.append(subprocess.Popen([sys.executable, '-c', NODE, *arguments]))
    try:
        yield running
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


# ---------------------------------------------------------------------------------- the figures


def cpu_s(process: subprocess.Popen) -> float:
    """Return the processor time that a process has used, all threads."""
    fields = Path(f'/proc/{process.pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def measure(
    path: Path, hz: float, size: str, cameras: int, seconds: float, parameters: Sequence[str]
) -> dict[str, Any]:
    me = [sys.executable, __file__]
    pipes: dict[str, Any] = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
    with nodes(cameras, parameters) as running:
        consumer = subprocess.Popen([*me, '--listen', str(cameras)], **pipes)
        playing = [str(path), '--play', str(hz), size, str(cameras), str(seconds)]
        source = subprocess.Popen([*me, *playing], **pipes)
        sent: list[int] = []

        def read() -> None:
            sent.extend(json.loads(source.stdout.read() or '[]'))  # type: ignore[union-attr]

        reading = threading.Thread(target=read)
        reading.start()
        # The camera waits for its nodes, so the time is taken from its end backwards.
        samples = []
        while reading.is_alive():
            samples.append((time.time_ns(), [cpu_s(process) for process in running]))
            reading.join(0.1)
        time.sleep(0.5)
        arrived = json.loads(consumer.communicate('\n')[0])
    counted = [stamp for stamp in sent if stamp >= sent[0] + WARM_S * 1e9]
    within = [used for at, used in samples if counted[0] <= at <= counted[-1]]
    used_s = sum(within[-1]) - sum(within[0])
    span_s = (counted[-1] - counted[0]) / 1e9
    topics = {}
    finished = 0
    for topic, pairs in arrived.items():
        ages_ms = [(at - stamp) / 1e6 for stamp, at in pairs if stamp >= counted[0]]
        topics[topic] = {
            'frames_s': hz * len(ages_ms) / len(counted),
            'lost': len(counted) - len(ages_ms),
            'p50_ms': float(np.percentile(ages_ms or [np.nan], 50)),
            'p99_ms': float(np.percentile(ages_ms or [np.nan], 99)),
        }
        finished = max(finished, len(ages_ms))
    return {
        'sent': len(counted),
        'cpu_percent': 100 * used_s / span_s,
        'cpu_ms': 1e3 * used_s / cameras / max(finished, 1),
        'topics': topics,
    }


def row(setting: Sequence[object], found: dict[str, Any], cameras: int) -> str:
    """Return a row of the table: depth and points of all cameras, losses of all topics."""
    topics = found['topics']
    cells = [str(word) for word in setting]
    for name in ('depth_inpainted/image_rect', 'points'):
        of = [figures for topic, figures in topics.items() if topic.endswith(f'/{name}')]
        if of:
            cells += [f'{np.mean([f["frames_s"] for f in of]):.1f}']
            cells += [f'{max(f[key] for f in of):.0f}' for key in ('p50_ms', 'p99_ms')]
        else:
            cells += ['-'] * 3
    lost = sum(figures['lost'] for figures in topics.values())
    cells += [f'{lost / found["sent"] / len(topics):.1%}']
    cells += [f'{found["cpu_percent"]:.0f} %', f'{found["cpu_ms"]:.1f}']
    return f'| {" | ".join(cells)} |'


HEAD = (
    'size',
    'Hz',
    'cameras',
    'depth a second',
    'p50 ms',
    'p99 ms',
    'points a second',
    'p50 ms',
    'p99 ms',
    'lost',
    'CPU of one core',
    'CPU ms a frame',
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('recording', type=Path, nargs='?', help='folder of images, or a bag')
    parser.add_argument('--hz', type=float, nargs='+', default=[15.0, 30.0])
    parser.add_argument('--size', nargs='+', default=['640x480', '848x480'])
    parser.add_argument('--cameras', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--seconds', type=float, default=10.0)
    parser.add_argument(
        '--parameter',
        nargs='+',
        default=["inpaint_depth.model:=''"],
        help='of the nodes; by default the classical filter is taken',
    )
    parser.add_argument('--topics', action='store_true', help='print a line for every topic, too')
    parser.add_argument('--play', nargs=4, help=argparse.SUPPRESS)
    parser.add_argument('--listen', type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.play or given.listen:
        rclpy.init()
    if given.play:
        hz, size, cameras, seconds = given.play
        play(given.recording, float(hz), size, int(cameras), float(seconds))
    elif given.listen:
        listen(given.listen)
    else:
        print(f'| {" | ".join(HEAD)} |\n|{" --- |" * len(HEAD)}')
        for setting in itertools.product(given.size, given.hz, given.cameras):
            size, hz, cameras = setting
            found = measure(given.recording, hz, size, cameras, given.seconds, given.parameter)
            print(row((size, f'{hz:g}', cameras), found, cameras), flush=True)
            for topic, f in found['topics'].items() if given.topics else ():
                print(
                    f'    {topic:45} {f["frames_s"]:5.1f} a second, {f["lost"]:3d} lost, '
                    f'p50 {f["p50_ms"]:6.1f} ms, p99 {f["p99_ms"]:6.1f} ms'
                )


if __name__ == '__main__':
    main()
