"""depth-refiner live: run a pipeline on a Zenoh network, without ROS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
import os
from pathlib import Path
import re
import time
from typing import Annotated, Any, Literal

from rich.console import Console
from rich.markup import escape
import tyro

from ..config import camera_preset, configure, read_parameters
from ..hosts import realsense
from ..hosts.live import Level, Status
from ..hosts.view import LISTEN, served
from ..kernels import compile_kernels
from ..parameters import updated_parameters
from . import signals
from .flags import ParameterFlags, RealSenseFlags, given

_WARN_EVERY_S = 5.0
_STYLE = {Level.OK: 'green', Level.WARN: 'yellow', Level.ERROR: 'red'}


@dataclass(frozen=True)
class NetworkFlags:
    """Where the Zenoh network is. Without flags: this machine, and its router if one runs."""

    connect: tuple[str, ...] = ()
    """Endpoints to connect to, such as tcp/192.168.0.7:7447."""
    listen: tuple[str, ...] = ()
    """Endpoints to listen on, such as tcp/0.0.0.0:7451 for all; loopback if not given."""


@dataclass(frozen=True)
class Live:
    """EXPERIMENTAL. Run a pipeline live on a Zenoh network, as a ROS 2 node without ROS.

    Subscribes and publishes what the ROS nodes do, in the protocol of rmw_zenoh on ROS 2 Jazzy;
    it was not tried with a real rmw_zenoh yet. Reads ROS_DOMAIN_ID. Ctrl-C ends it.

        depth-refiner live --camera realsense --connect tcp/192.168.0.7:7447
        depth-refiner live --source realsense --view
    """

    params: Path | None = None
    """Parameter file, in the form ROS reads."""
    camera: str | None = None
    """Preset of config/cameras: the driver's topics and the sensor's noise."""
    namespace: str = field(default_factory=lambda: os.environ.get('ROS_NAMESPACE') or '/camera')
    """Namespace of the node, and of the stages' own topic names; ROS_NAMESPACE where set."""
    name: str = 'depth_refiner'
    """Name of the node."""
    source: Literal['topics', 'realsense'] = 'topics'
    """Where frames come from: the network, or a RealSense camera on this machine, which then is
    published too."""
    realsense: Annotated[RealSenseFlags, tyro.conf.arg(name='realsense')] = field(
        default_factory=RealSenseFlags
    )
    view: bool = False
    """Show before, after, provenance and latency in a browser."""
    view_listen: str = LISTEN
    """Where --view serves its page; the next port serves its data. Only this machine by default:
    on 0.0.0.0 everybody who reaches it can see the pictures, without a password."""
    network: Annotated[NetworkFlags, tyro.conf.arg(name='')] = field(default_factory=NetworkFlags)
    parameters: Annotated[ParameterFlags, tyro.conf.arg(name='')] = field(
        default_factory=ParameterFlags
    )

    def run(self) -> int:
        """Run until Ctrl-C; return 0."""
        of_realsense = self.source == 'realsense'
        configuration = configure(
            realsense.PRESET if of_realsense else {},
            camera_preset(self.camera) if self.camera else {},
            read_parameters(self.params) if self.params else {},
            given(self.parameters),
        )
        zenoh = zenoh_host()
        source = None
        if of_realsense:
            unit_m = configuration.host.depth_unit_m
            source = realsense_source(zenoh, given(self.realsense), depth_unit_m=unit_m)
        console = Console(stderr=True, emoji=False, highlight=False, soft_wrap=True)
        compile_kernels(say=console.print)
        warn = seldom(lambda text: console.print(f'[yellow]{escape(text)}[/yellow]'))
        with ended_by_signals(), ExitStack() as stack:
            watch = None
            if self.view:
                watch, page = stack.enter_context(served(self.view_listen, warn))
                console.print(f'view: {page}')
            node = stack.enter_context(
                network_node(zenoh, self.name, self.network, self.namespace)
            )
            host = stack.enter_context(
                zenoh.LiveHost(
                    configuration,
                    node,
                    warn=warn,
                    source=source,
                    watch=watch,
                    inform=lambda text: console.print(escape(text)),
                )
            )
            _show(console, node.full_name, host)
        console.print(f'{host.runner.dropped} frames overtaken, {host.runner.failed} failed')
        return 0


def zenoh_host() -> Any:
    """Import the Zenoh host.

    Raises:
        ValueError: If what it needs is not installed.
    """
    try:
        from ..hosts import zenoh
    except ModuleNotFoundError as error:
        if error.name not in ('zenoh', 'xxhash'):
            raise
        raise ValueError(
            f"live, play and record need {error.name}: pip install 'depth_refiner_ros[zenoh]' "
            '(eclipse-zenoh and xxhash)'
        ) from None
    return zenoh


def realsense_source(zenoh: Any, values: dict[str, Any], *, depth_unit_m: float = 0.0) -> Any:
    """Return the RealSense that parameters name; one that is not connected yet may come later.

    Raises:
        ValueError: If its SDK is not installed, or a recording cannot be read.
    """
    parameters = updated_parameters(realsense.RealSenseParameters(), values)
    realsense.sdk()
    if parameters.file:
        realsense.RealSense(parameters).close()
    return zenoh.Source(
        realsense.PORTS, lambda: realsense.RealSense(parameters, depth_unit_m=depth_unit_m)
    )


def network_node(zenoh: Any, name: str, network: NetworkFlags, namespace: str = '/') -> Any:
    """Open a node on the network that the flags name."""
    return zenoh.Node(name, namespace, connect=network.connect, listen=network.listen)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Take Ctrl-C and SIGTERM as the ordinary end of what is inside."""
    try:
        yield
    except KeyboardInterrupt:
        signals.accept()


def seldom(warn: Callable[[str], None]) -> Callable[[str], None]:
    """Let a warning through unless one came within the last seconds."""
    last_s = float('-inf')

    def throttled(text: str) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s >= _WARN_EVERY_S:
            last_s = now_s
            warn(text)

    return throttled


def _show(console: Console, name: str, host: Any) -> None:
    """Draw a line that follows the status, or where nobody watches print it when it changes."""
    topics = ', '.join(f'{port} from {topic}' for port, topic in host.topics.items())
    console.print(f'{name} (experimental): {topics}')
    if console.is_terminal:
        with console.status('waiting') as line:
            for status in host.spin():
                signals.check()
                line.update(_line(status))
        return
    before: tuple[Level, str] | None = None
    for status in host.spin():
        signals.check()
        now = status.level, re.sub(r'[\d.]+', '', status.text)  # a new number is no news
        if now != before:
            console.print(_line(status))
        before = now


def _line(status: Status) -> str:
    values = status.values
    latency = f'latency {values["latency_p50_ms"]} ms, p99 {values["latency_p99_ms"]} ms'
    dropped = f'dropped {values["dropped"]}'
    if values['overrun'] != '0':
        dropped += f', overrun {values["overrun"]}'
    style = _STYLE[status.level]
    return f'[{style}]{status.level.name}[/{style}] {escape(status.text)}; {latency}; {dropped}'
