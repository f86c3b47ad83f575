"""depth-refiner doctor: what is wrong with an installation or a recording, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.util import find_spec
import json
import os
from pathlib import Path
import platform
import shutil
import subprocess
import sys
from typing import Annotated, Any

import cv2
import numpy as np
from rich.console import Console
from rich.markup import escape
from rosbags.highlevel import AnyReader
import tyro

from ..config import Configuration, camera_preset, configure, read_parameters
from ..diagnosis import Finding, Severity, Stream, diagnose
from ..discovery import CAMERA_INFO, camera_namespace, camera_topics, image_topic, info_topic
from ..disk_cache import FOLDER_VARIABLE, DiskCache, cache_folder
from ..evaluation.machine import cores_allowed
from ..geometry import TransformTree
from ..hosts import bag as bags
from ..hosts.bag.connections import offered_qos
from ..inference import compiling
from ..kernels import compile_kernels
from ..messages import COMPRESSED_IMAGE, IMAGE, transforms
from .flags import HostFlags, given
from .info import EVERY_PORT, output_console, recorded_ports
from .replay import progress

_STYLE: dict[Severity, str] = {
    'problem': 'bold red',
    'warning': 'yellow',
    'note': 'cyan',
    'ok': 'green',
}


@dataclass(frozen=True)
class Doctor:
    """Check an installation or, with a BAG, that recording, and print how to fix what is wrong.

    Takes the flags of `replay` that say which topics are read and how they are paired. The exit
    code is 1 if there is a problem that stops the pipeline or makes its result wrong.
    """

    bag: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar='[PATH]')] = None
    """A .bag file, an .mcap or .db3 file, or a rosbag2 folder."""
    params: Path | None = None
    """Parameter file, in the form ROS reads."""
    camera: str | None = None
    """Preset of config/cameras."""
    namespace: str = '/camera'
    """Namespace of the stages' own topic names."""
    json: bool = False
    """Print the findings as JSON."""
    host: Annotated[HostFlags, tyro.conf.arg(name='')] = field(default_factory=HostFlags)

    def run(self) -> int:
        """Check; return 1 if there is a problem, else 0."""
        findings = list(environment()) if self.bag is None else self._examine(self.bag)
        problems = sum(finding.severity == 'problem' for finding in findings)
        if self.json:
            report = {'problems': problems, 'findings': [asdict(f) for f in findings]}
            print(json.dumps(report, indent=2))
        else:
            _print(output_console(), findings)
        return 1 if problems else 0

    def _examine(self, path: Path) -> list[Finding]:
        configuration = configure(
            camera_preset(self.camera) if self.camera else {},
            read_parameters(self.params) if self.params else {},
            given(self.host),
        )
        everything = configure(
            {f'topics.{port}': topic for port, topic in configuration.topics.items()},
            {'stages': EVERY_PORT},
        )
        with bags.open_bag(path) as reader:
            ports = recorded_ports(reader, everything, self.namespace, guess=self.camera is None)
            findings = list(_explained(reader, ports, configuration))
            streams, tree = observe(reader, {port: topic for port, (topic, _) in ports.items()})
            findings += _check_static(reader)
            host = configuration.host
            topic = ports['depth'][0] if 'depth' in ports else ''
            recorded_unit_m = bags.recorded_depth_unit_m(reader, topic)
        return findings + diagnose(
            streams,
            tree,
            slop_s=host.slop_s,
            deadline_s=host.deadline_s,
            stages=tuple(configuration.pipeline.stage_types),
            depth_unit_m=host.depth_unit_m or recorded_unit_m,
            depth_encoding=host.depth_encoding,
            unit_source='depth_unit_m' if host.depth_unit_m else 'the recording',
        )


def _print(console: Console, findings: list[Finding]) -> None:
    for severity, style in _STYLE.items():
        for finding in findings:
            if finding.severity == severity:
                console.print(
                    f'[{style}]{severity:8}[/{style}] {escape(finding.subject)}: '
                    f'{escape(finding.what)}'
                )
                if finding.action:
                    console.print(f'         -> {escape(finding.action)}')
    counts = Counter(finding.severity for finding in findings)
    console.print(', '.join(f'{counts[s]} {s}' for s in _STYLE if counts[s]))


# ----------------------------------------------------------------------------- recording


def _explained(
    reader: AnyReader, ports: dict[str, tuple[str, str]], configuration: Configuration
) -> Iterator[Finding]:
    """Say which topics the ports take and why, and what to do about those that have none."""
    recorded = {c.topic: c.msgtype for c in reader.connections}
    filled, encodings = bags.contents(reader)
    candidates = camera_topics(filled, encodings)
    for port, (topic, reason) in ports.items():
        wanted = (
            (CAMERA_INFO,) if port in ('camera', 'color_camera') else (IMAGE, COMPRESSED_IMAGE)
        )
        if recorded[topic] not in wanted:
            yield Finding(
                'problem',
                'topic',
                topic,
                f'the port {port} takes {" or ".join(wanted)}, this is a {recorded[topic]}',
                f'set topics.{port} in a parameter file (--params)',
            )
            continue
        others = [t for t in candidates[port][:4] if t != image_topic(topic)]
        also = f'; there is also {", ".join(others)}' if others else ''
        yield Finding('ok', 'topic', topic, f'read as {port}, {reason}{also}')
    if 'depth' in ports and 'color' not in ports:
        alone = {
            topic: kind for topic, kind in filled.items() if not _is_of(ports['depth'][0], topic)
        }
        if others := camera_topics(alone, encodings)['color']:
            yield Finding(
                'note',
                'topic',
                others[0],
                f'this colour is of another camera than {ports["depth"][0]}, so it is not read',
                'name it as topics.color in a parameter file if it looks through the same lens',
            )
    if 'depth' not in ports:
        configured = configuration.topics.get('depth')
        has = ', '.join(candidates['depth']) or 'no topic with depth in its name'
        yield Finding(
            'problem',
            'topic',
            configured or 'depth',
            f'there is no depth to read; the recording has {has}',
            'name the topic in a parameter file (topics: {depth: /...}, --params), choose a '
            'camera (--camera), or record depth',
        )
    if 'depth' in ports and 'camera' not in ports:
        depth = ports['depth'][0]
        infos = sorted(topic for topic, kind in recorded.items() if kind == CAMERA_INFO)
        choice = f', or name one of {", ".join(infos)} as topics.camera (--params)'
        yield Finding(
            'problem',
            'camera_info',
            depth,
            f'there is no {configuration.topics.get("camera") or info_topic(depth)} for it',
            f'record {info_topic(depth)} too{choice if infos else ""}',
        )


def _is_of(depth: str, topic: str) -> bool:
    return camera_namespace(topic) == camera_namespace(depth)


def _check_static(reader: AnyReader) -> Iterator[Finding]:
    static = [c for c in reader.connections if c.topic == '/tf_static']
    if not static:
        yield Finding(
            'note',
            'tf_static',
            '/tf_static',
            'it was not recorded: RViz shows the result in the camera frame only',
            'record /tf_static too if the robot knows where its cameras are',
        )
    elif reader.is2 and not any(_qos(c)[1] in ('transient_local', '') for c in static):
        yield Finding(
            'warning',
            'tf_static',
            '/tf_static',
            'it was recorded as volatile: a node that starts after `ros2 bag play` misses it',
            'play it with --qos-profile-overrides-path and durability: transient_local',
        )


def _qos(connection: Any) -> tuple[str, str]:
    """Return the reliability and durability a topic was published with, '' where unknown."""
    profiles = offered_qos(connection)
    if not profiles:
        return '', ''
    return profiles[0].reliability.name.lower(), profiles[0].durability.name.lower()


def observe(reader: AnyReader, ports: dict[str, str]) -> tuple[dict[str, Stream], TransformTree]:
    """Read the streams of a recording and all of tf.

    Args:
        reader: An open recording.
        ports: Recorded topic by port.
    """
    tree = TransformTree()
    streams: dict[str, Stream] = {}
    wanted = []
    stream_of: dict[str, Stream] = {}
    for port, topic in ports.items():
        if topic in stream_of:  # one camera_info of depth and colour
            streams[port] = stream_of[topic]
            continue
        connections = [c for c in reader.connections if c.topic == topic]
        if connections[0].msgtype not in (IMAGE, COMPRESSED_IMAGE, CAMERA_INFO):
            continue
        reliability, durability = _qos(connections[0])
        streams[port] = stream_of[topic] = Stream(
            topic,
            message_count=sum(c.msgcount for c in connections),
            reliability=reliability,
            durability=durability,
        )
        wanted += connections
    wanted += bags.tf_connections(reader, *bags.TF_TOPICS)
    if not wanted:
        return streams, tree
    count = sum(c.msgcount for c in wanted)
    messages = reader.messages(connections=wanted)
    for connection, log_ns, raw in progress(messages, 'read', count, Console(stderr=True)):
        msg: Any = reader.deserialize(raw, connection.msgtype)
        if connection.topic in stream_of:
            stream_of[connection.topic].add(log_ns, msg)
        else:
            tree.update(transforms(msg))
    return streams, tree


# --------------------------------------------------------------------------- environment

# What is imported, the distribution it comes from, and the extra that installs it.
_EXTRAS = (
    ('onnxruntime', 'onnxruntime', 'ros-free', 'runs learned models on the CPU'),
    ('zenoh', 'eclipse-zenoh', 'zenoh', 'joins a live Zenoh network without ROS'),
    ('openvino', 'openvino', 'openvino', 'runs learned models on Intel hardware'),
    ('tensorrt', 'tensorrt', 'tensorrt', 'runs learned models on NVIDIA GPUs'),
    ('pyrealsense2', 'pyrealsense2', 'realsense', 'records from a RealSense without ROS'),
    ('torch', 'torch', 'train', 'trains models'),
)
_DISK_LOW_GB = 2.0


def environment() -> Iterator[Finding]:
    """Check the installation."""
    yield Finding(
        'ok',
        'python',
        'Python',
        f'{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.prefix}',
    )
    yield Finding(
        'ok', 'package', 'depth_refiner_ros', _version('depth_refiner_ros') or 'checkout'
    )
    yield Finding('ok', 'numpy', 'numpy', np.__version__)
    yield from _check_opencv()
    yield Finding('ok', 'rosbags', 'rosbags', _version('rosbags') or 'present')
    for module, distribution, extra, purpose in _EXTRAS:
        if _importable(module):
            yield Finding('ok', module, module, _version(distribution) or 'present')
        else:
            yield Finding(
                'note',
                module,
                module,
                f'not installed; it {purpose}',
                f"pip install 'depth_refiner_ros[{extra}]' if you need that",
            )
    yield _check_kernels()
    yield from _check_compiled()
    yield from _check_ros()
    usable = cores_allowed()
    yield Finding(
        'ok', 'cpu', 'CPU', f'{usable} of {os.cpu_count()} threads; OpenCV {cv2.getNumThreads()}'
    )
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    yield Finding(
        'warning' if free_gb < _DISK_LOW_GB else 'ok',
        'disk',
        str(Path.cwd()),
        f'{free_gb:.1f} GB free',
        'make room: a minute of 640x480 depth and its outputs at 30 Hz takes about 16 GB'
        if free_gb < _DISK_LOW_GB
        else '',
    )


def _check_kernels() -> Finding:
    """Compile the filters if needed, and report whether the next start loads them."""
    try:
        found = compile_kernels()
    except ValueError as error:
        return Finding('problem', 'kernels', 'compiled filters', str(error), 'install numba')
    if found.trouble:
        return Finding(
            'warning',
            'kernels',
            'compiled filters',
            f'they are compiled at every start, now in {found.seconds:.1f} s: {found.trouble}',
            f'make that folder writeable for you alone, or set {FOLDER_VARIABLE} to another',
        )
    how = f'{found.compiled} compiled now, ' if found.compiled else ''
    return Finding(
        'ok',
        'kernels',
        'compiled filters',
        f'{how}{found.loaded} loaded from {cache_folder()}, in {found.seconds:.1f} s',
    )


def _check_compiled() -> Iterator[Finding]:
    """Say what TensorRT lacks, and which models are compiled."""
    if not _importable('tensorrt'):
        return
    if missing := compiling.lacking():
        yield Finding(
            'warning',
            'gpu',
            'TensorRT',
            'it is installed, but cannot compile models',
            f'this machine lacks {"; ".join(missing)}',
        )
    cache = DiskCache()
    engines = [entry for entry in cache.entries() if entry.facts.get('kind') == 'engine']
    if engines:
        names = sorted({f'{e.facts["model"]} ({e.facts["precision"]})' for e in engines})
        yield Finding('ok', 'engines', 'compiled models', f'{", ".join(names)} in {cache.folder}')
    elif not missing:
        yield Finding(
            'note',
            'engines',
            'compiled models',
            'there are none: models run on other back ends',
            'depth-refiner compile depth_small',
        )


def _check_opencv() -> Iterator[Finding]:
    bridge = _importable('cv_bridge')
    installed = sorted(
        {
            name
            for distribution in distributions()
            if (name := (distribution.metadata['Name'] or '').lower()).startswith('opencv-')
            and 'python' in name
        }
    )
    if int(cv2.__version__.partition('.')[0]) >= 5:
        yield Finding(
            'problem',
            'opencv',
            'OpenCV',
            f'{cv2.__version__}: this package needs version 4'
            + (', and cv_bridge was built for it' if bridge else ''),
            "pip install 'opencv-python-headless<5'",
        )
    else:
        yield Finding('ok', 'opencv', 'OpenCV', cv2.__version__)
    if len(installed) > 1:
        yield Finding(
            'warning',
            'opencv',
            'OpenCV',
            f'{" and ".join(installed)} share one cv2 folder and overwrite each other',
            f'pip uninstall {" ".join(installed)}, then install one of them',
        )
    if bridge and (failure := _bridge_failure()):
        yield Finding(
            'warning',
            'cv_bridge',
            'cv_bridge',
            f'it does not work beside NumPy {np.__version__} and OpenCV {cv2.__version__}: '
            f'{failure}',
            "this package does without it; for other nodes: pip install 'numpy<2'",
        )


def _bridge_failure() -> str:
    """Try cv_bridge in a process of its own, for a wrong binary may end it."""
    trial = (
        'import numpy, cv_bridge; '
        'cv_bridge.CvBridge().cv2_to_imgmsg(numpy.zeros((2, 2, 3), numpy.uint8), "bgr8")'
    )
    done = subprocess.run(
        [sys.executable, '-c', trial], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return ''
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f'exit code {done.returncode}'


def _check_ros() -> Iterator[Finding]:
    distro = os.environ.get('ROS_DISTRO', '')
    if _importable('rclpy'):
        yield Finding(
            'ok',
            'ros',
            'ROS 2',
            f'{distro or "rclpy without ROS_DISTRO"}, '
            f'{os.environ.get("RMW_IMPLEMENTATION") or "default"} middleware, '
            f'domain {os.environ.get("ROS_DOMAIN_ID") or 0}',
        )
    elif distro:
        yield Finding(
            'warning',
            'ros',
            'ROS 2',
            f'ROS_DISTRO is {distro}, but Python {platform.python_version()} cannot import rclpy',
            "use ROS's own Python, or make the environment from it: "
            '/usr/bin/python3 -m venv --system-site-packages .venv',
        )
    else:
        yield Finding(
            'note',
            'ros',
            'ROS 2',
            'not sourced; recordings need none',
            'source /opt/ros/<distro>/setup.bash to run the nodes',
        )


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ''
