"""Measures the live path: latency and drops over Zenoh, overload, and memory over hours.

    python tools/run_live.py path --minutes 10       # 640x480 at 30 Hz, refined
    python tools/run_live.py overload --minutes 1    # a camera at 90 Hz, a stage at 30
    python tools/run_live.py soak --minutes 60       # replay of a recording, over and over

Camera, host and consumer are three processes on this machine. What else the machine does weighs on
every figure, so the load is printed with them.
"""

from __future__ import annotations

import argparse
from array import array
from collections.abc import Sequence
from contextlib import contextmanager
import os
from pathlib import Path
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

from depth_refiner_ros.config import configure
from depth_refiner_ros.data import DepthImage, PinholeCamera
from depth_refiner_ros.hosts import bag as bags
from depth_refiner_ros.hosts import zenoh as host
from depth_refiner_ros.hosts.memory import keep_freed_memory
from depth_refiner_ros.hosts.typestore import FAMILY, STORE
from depth_refiner_ros.messages import encode
from depth_refiner_ros.simulation import simulate
from depth_refiner_ros.stage import topic_inputs

IMAGE, INFO = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CameraInfo'
WIDTH, HEIGHT = 640, 480
WARM_S = 60.0
STAGE_S = 1 / 30


def scene(count: int) -> list[tuple[DepthImage, PinholeCamera]]:
    frames = simulate(count, width=WIDTH, height=HEIGHT)
    return [(DepthImage(f.depth.header, f.depth.depth_m, '16UC1'), f.camera) for f in frames]


def cdr(value: DepthImage | PinholeCamera) -> bytes:
    message = encode(value, FAMILY)
    return bytes(STORE.serialize_cdr(message, message.__msgtype__))


def stamped(raw: bytes, stamp_ns: int) -> bytes:
    """Put another stamp where CDR has it: behind four bytes of encapsulation."""
    return raw[:4] + struct.pack('<iI', *divmod(stamp_ns, 1_000_000_000)) + raw[12:]


# ------------------------------------------------------------------------------ the processes


def camera(endpoint: str, rate_hz: float, count: int) -> None:
    """Publish depth and camera_info in time; print how many, and how late the last was."""
    messages = [(cdr(depth), cdr(info)) for depth, info in scene(10)]
    with host.Node('camera', connect=[endpoint]) as node:
        depths = node.publisher('/camera/depth/image_rect', IMAGE)
        infos = node.publisher('/camera/depth/camera_info', INFO)
        while not (depths.matched and infos.matched):
            time.sleep(0.01)
        time.sleep(1)
        began_s, late_s = time.monotonic(), []
        for i in range(count):
            due_s = began_s + i / rate_hz
            time.sleep(max(due_s - time.monotonic(), 0))
            late_s.append(time.monotonic() - due_s)
            stamp_ns = time.time_ns()
            depth, info = messages[i % len(messages)]
            infos.put(stamped(info, stamp_ns))
            depths.put(stamped(depth, stamp_ns))
        time.sleep(1)
        print(f'{count} frames sent, {ms(late_s)} late')


def consumer(endpoint: str) -> None:
    """Count refined frames until told to stop; print how old they were."""
    ages_s = []
    with host.Node('consumer', connect=[endpoint]) as node:
        node.subscribe(
            '/camera/depth_refined/image_rect',
            IMAGE,
            host.SENSOR_DATA,
            lambda sample: ages_s.append(age_s(sample)),
        )
        print('ready', flush=True)
        sys.stdin.readline()
    print(f'{len(ages_s)} frames received, published to received {ms(ages_s)}')


def age_s(sample: object) -> float:
    (published_ns,) = struct.unpack_from('<q', sample.attachment.to_bytes(), 8)  # type: ignore[attr-defined]
    return (time.time_ns() - published_ns) / 1e9


def ms(values_s: Sequence[float]) -> str:
    p50, p99, top = 1e3 * np.percentile(values_s, [50, 99, 100])
    return f'p50 {p50:.2f} p99 {p99:.2f} max {top:.2f} ms'


@contextmanager
def others(rate_hz: float, count: int):
    """Start camera and consumer; the consumer listens before the camera starts."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        endpoint = f'tcp/127.0.0.1:{free.getsockname()[1]}'
    me = [sys.executable, __file__]
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
    with host.Node('host', '/camera', listen=[endpoint]) as node:
        listening = subprocess.Popen([*me, 'consumer', endpoint], **pipes)
        assert listening.stdout.readline() == 'ready\n'
        sending = subprocess.Popen([*me, 'camera', endpoint, str(rate_hz), str(count)], **pipes)
        yield node, sending
        print('camera:  ', sending.communicate()[0].strip())
        print('consumer:', listening.communicate('\n')[0].strip())


# --------------------------------------------------------------------------------- the machine


class Watcher(threading.Thread):
    """Samples memory, file handles and the machine's load once a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.rss_mb: list[float] = []
        self.handles: list[int] = []
        self.loads: list[float] = []
        self.ended = threading.Event()
        self._ticks = self._all_ticks()
        self._own_s = time.process_time()
        self._began_s = time.monotonic()

    @staticmethod
    def _all_ticks() -> tuple[int, int]:
        ticks = [int(t) for t in Path('/proc/stat').read_text().split('\n')[0].split()[1:9]]
        return sum(ticks), ticks[3] + ticks[4]

    def run(self) -> None:
        pages = os.sysconf('SC_PAGE_SIZE') / 1e6
        while not self.ended.wait(1):
            self.rss_mb.append(int(Path('/proc/self/statm').read_text().split()[1]) * pages)
            self.handles.append(len(os.listdir('/proc/self/fd')))  # noqa: PTH208
            self.loads.append(os.getloadavg()[0])

    def report(self) -> None:
        self.ended.set()
        self.join()
        after = min(int(WARM_S), len(self.rss_mb) // 2)
        rss_mb, handles = self.rss_mb[after:], self.handles[after:]
        growth_mb = np.median(rss_mb[-10:]) - np.median(rss_mb[:10])
        print(
            f'memory:   {rss_mb[0]:.1f} MB after {after} s, {rss_mb[-1]:.1f} MB at the end, '
            f'growth {growth_mb:+.1f} MB, highest {max(rss_mb):.1f}; '
            f'file handles {handles[0]} -> {handles[-1]}, highest {max(handles)}'
        )
        by_minute = ' '.join(f'{mb:.0f}' for mb in self.rss_mb[::60])
        print(f'          by minute {by_minute} MB')
        everything, idle = (b - a for a, b in zip(self._ticks, self._all_ticks(), strict=True))
        own = (time.process_time() - self._own_s) / (time.monotonic() - self._began_s)
        print(
            f'machine:  {os.cpu_count()} cores, {1 - idle / everything:.0%} busy, this process '
            f'{own:.2f} cores; load average {np.mean(self.loads):.1f}, '
            f'highest {max(self.loads):.1f}'
        )


# ---------------------------------------------------------------------------------- the figures


def run_host(node: host.Node, sending: subprocess.Popen, parameters: dict, slow: bool) -> None:
    transport_s = array('d')
    really = host.Inbox.put

    def put(inbox: host.Inbox, source: str, sample: object) -> None:
        if source == 'depth':
            transport_s.append(age_s(sample))
        really(inbox, source, sample)

    host.Inbox.put = put  # type: ignore[method-assign]
    configuration = configure(parameters)
    latency_s = array('d')
    watcher = Watcher()
    with host.LiveHost(
        configuration,
        node,
        warn=print,
        watch=lambda values, outputs, took_s: latency_s.append(took_s),
    ) as live:
        if slow:
            stages = live.runner._pipeline.stages
            stages['refine_depth'] = Slow(stages['refine_depth'])
        for _ in live.spin():
            if latency_s and not watcher.is_alive():  # from the first frame on
                watcher.start()
            if sending.poll() is not None:
                live.stop()
        runner = live.runner
        received = runner._received['depth']
        print(f'transport: publish to callback {ms(transport_s)}')
        pairing = runner._synchronizer
        unpaired = pairing.unmatched + pairing.late + pairing.duplicated
        counted = len(latency_s) + runner.dropped + runner.failed + unpaired
        print(
            f'host:     {len(transport_s)} arrived, {len(transport_s) - received} overrun, '
            f'{received} taken: {len(latency_s)} finished, {runner.dropped} overtaken, '
            f'{runner.failed} failed, {unpaired} without camera_info; '
            f'{received - counted} not accounted for'
        )
        print(f'latency:  arrival to result {ms(latency_s)}')
    watcher.report()


class Slow:
    """A stage that takes a thirtieth of a second, whatever the machine does."""

    def __init__(self, stage: object) -> None:
        self._stage = stage
        self.inputs, self.outputs = stage.inputs, stage.outputs  # type: ignore[attr-defined]
        self.parameters = stage.parameters  # type: ignore[attr-defined]

    def __call__(self, depth: DepthImage, camera: PinholeCamera) -> dict[str, object]:
        time.sleep(STAGE_S)
        return {'depth': depth, 'camera': camera}


def path(minutes: float, rate_hz: float) -> None:
    with others(rate_hz, round(60 * minutes * rate_hz)) as (node, sending):
        run_host(node, sending, {'stages': 'refine_depth'}, slow=False)


def overload(minutes: float) -> None:
    with others(90.0, round(60 * minutes * 90)) as (node, sending):
        run_host(node, sending, {'stages': 'refine_depth'}, slow=True)
    print(f'bound:    two stage times are {2e3 * STAGE_S:.1f} ms')


def soak(minutes: float) -> None:
    """Replay a recording over and over, each time opened, read, run and written anew."""
    watcher = Watcher()
    end_s = time.monotonic() + 60 * minutes
    frames = rounds = 0
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / 'in.mcap', Path(folder) / 'out.mcap'
        with bags.BagWriter(source) as writer:
            for depth, info in scene(30):
                for topic, value in (('camera_info', info), ('image_rect', depth)):
                    writer.write(f'/camera/depth/{topic}', depth.header.stamp_ns, value)
        watcher.start()
        configuration = configure({})
        inputs = topic_inputs(configuration.pipeline)
        topics = {port: f'/camera/{topic.name}' for port, topic in inputs.items()}
        while time.monotonic() < end_s:
            pipeline = configuration.pipeline(configuration.parameters)
            with bags.open_bag(source) as reader, bags.BagWriter(out) as writer:
                results = bags.replay(bags.Frames(reader, inputs, topics), pipeline)
                frames += sum(1 for _ in bags.record(results, writer, pipeline.outputs, '/camera'))
            out.unlink()
            rounds += 1
    print(f'replayed: {frames} frames in {rounds} rounds, {frames / minutes / 60:.1f} a second')
    watcher.report()


def main() -> None:
    if sys.argv[1:2] == ['camera']:
        camera(sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
        return
    if sys.argv[1:2] == ['consumer']:
        consumer(sys.argv[2])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('figure', choices=('path', 'overload', 'soak'))
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--rate-hz', type=float, default=30.0, help='of the camera, for path')
    arguments = parser.parse_args()
    keep_freed_memory()
    if arguments.figure == 'path':
        path(arguments.minutes, arguments.rate_hz)
    elif arguments.figure == 'overload':
        overload(arguments.minutes)
    else:
        soak(arguments.minutes)


if __name__ == '__main__':
    main()
