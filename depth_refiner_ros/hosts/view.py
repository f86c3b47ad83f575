"""Shows a live pipeline in a browser, through the web viewer of Rerun.

The viewer is served by a process of its own, for Rerun's SDK serves on every interface, while its
command line binds to the given address. Pictures are sent painted and packed: a slow browser then
holds megabytes, not gigabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
import importlib
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np

from ..data import DepthImage, ProvenanceImage, UInt8Array
from ..pictures import Scale, depth_scale, paint_provenance

LISTEN = '127.0.0.1:9090'
"""Where the page is served by default; its data comes from the port behind it."""

_PERIOD_S = 0.1
_START_S = 20.0
_MEMORY = '200MB'  # what the server keeps for browsers that come late
_TIMELINE = 'stamp'


class View:
    """Sends frames to a Rerun recording: before, after, provenance and latency.

    Called as `Watch` is. At most ten frames a second are sent, and nothing that goes wrong here
    reaches the pipeline.

    Args:
        rerun: The module of the SDK.
        stream: Its recording.
        warn: Called once, with a sentence, if the view ends.
    """

    def __init__(self, rerun: Any, stream: Any, warn: Callable[[str], None]) -> None:
        self._rerun, self._stream, self._warn = rerun, stream, warn
        self._scale: Scale | None = None
        self._next_s = float('-inf')

    def __call__(
        self, values: Mapping[str, Any], outputs: Mapping[str, Any], latency_s: float
    ) -> None:
        """Send a frame, if it is time."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + _PERIOD_S
        try:
            self._send(values, outputs, latency_s)
        except Exception as error:  # a robot's depth must outlive any picture of it
            self._next_s = float('inf')
            self._warn(f'the view has ended: {type(error).__name__}: {error}')

    def _send(
        self, values: Mapping[str, Any], outputs: Mapping[str, Any], latency_s: float
    ) -> None:
        before = values['depth']
        self._stream.set_time(_TIMELINE, timestamp=before.header.stamp_ns * 1e-9)
        self._picture('before', self._painted(before))
        depths = [value for value in outputs.values() if isinstance(value, DepthImage)]
        if depths:
            self._picture('after', self._painted(depths[-1]))
        marks = [value for value in outputs.values() if isinstance(value, ProvenanceImage)]
        if marks:
            self._picture('provenance', paint_provenance(marks[-1].provenance))
        self._stream.log('latency_ms', self._rerun.Scalars(1e3 * latency_s))

    def _painted(self, depth: DepthImage) -> UInt8Array:
        known_m = depth.depth_m[np.isfinite(depth.depth_m)]
        if self._scale is None and known_m.size:  # once, so that colours keep their meaning
            near_m, far_m = np.percentile(known_m, [1, 99])
            self._scale = depth_scale(0.8 * float(near_m), 1.2 * float(far_m))
        return (self._scale or depth_scale(0.5, 5.0)).paint(depth.depth_m)

    def _picture(self, name: str, rgb: UInt8Array) -> None:
        _, octets = cv2.imencode('.jpg', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        image = self._rerun.EncodedImage(contents=octets.tobytes(), media_type='image/jpeg')
        self._stream.log(name, image)


def sdk() -> Any:
    """Import rerun.

    Raises:
        ValueError: If it cannot be.
    """
    try:
        return importlib.import_module('rerun')
    except ImportError as error:
        raise ValueError(
            f"the view needs rerun-sdk ({error}): pip install 'depth_refiner_ros[view]'"
        ) from None


@contextmanager
def served(listen: str, warn: Callable[[str], None]) -> Iterator[tuple[View, str]]:
    """Serve a view while the context lasts; gives the view, and where to open it.

    Args:
        listen: Address and port of the page; its data comes from the next port.
        warn: Called with a sentence if the view ends.

    Raises:
        ValueError: If rerun-sdk is missing, or it cannot serve there.
    """
    rerun = sdk()
    address, port = _endpoint(listen)
    loopback = ipaddress.ip_address(address).is_loopback
    for each in (port, port + 1):
        _check_free(address, each)
    command = [sys.executable, '-m', 'rerun_cli', '--serve-web', '--bind', address]
    command += ['--web-viewer-port', str(port), '--port', str(port + 1)]
    command += ['--server-memory-limit', _MEMORY]
    if not loopback:  # by default only pages of this machine may read the data
        command += ['--cors-allow-origin', f'http://*:{port}']
    process = subprocess.Popen(
        command,
        # Rerun counts how it is used, except under CI.
        env=os.environ | {'CI': 'true', 'RUST_LOG': 'error'},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us, who then end it and what it started
    )
    stream = rerun.RecordingStream('depth_refiner')
    try:
        _wait_until_served(process, address, (port, port + 1))
        stream.connect_grpc(_data('127.0.0.1' if loopback else address, port + 1))
        stream.send_blueprint(_layout())
        host = address if loopback else socket.gethostname()
        page = f'http://{host}:{port}/?url={quote(_data(host, port + 1), safe="")}'
        yield View(rerun, stream, warn), page
    finally:
        stream.disconnect()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _data(host: str, port: int) -> str:
    return f'rerun+http://{host}:{port}/proxy'


def _endpoint(listen: str) -> tuple[str, int]:
    address, _, port = listen.rpartition(':')
    try:
        ipaddress.IPv4Address(address)
        if not 0 < int(port) < 65535:
            raise ValueError(port)
    except ValueError:
        raise ValueError(
            f'a view listens on an IPv4 address and a port, as {LISTEN}, not on {listen!r}'
        ) from None
    return address, int(port)


def _check_free(address: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise ValueError(
                f'cannot serve a view at {address}:{port}: {error.strerror}'
            ) from None


def _wait_until_served(process: Any, address: str, ports: tuple[int, ...]) -> None:
    end_s = time.monotonic() + _START_S
    for port in ports:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((address, port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > end_s:
                raise ValueError(f'the viewer of Rerun does not start at {address}:{port}')
            time.sleep(0.05)


def _layout() -> Any:
    views = importlib.import_module('rerun.blueprint')
    pictures = [
        views.Spatial2DView(origin=name, name=name) for name in ('before', 'after', 'provenance')
    ]
    latency = views.TimeSeriesView(origin='latency_ms', name='latency, ms')
    return views.Blueprint(
        views.Grid(*pictures, latency, grid_columns=2),
        views.TimePanel(state='collapsed', timeline=_TIMELINE),
        collapse_panels=True,
    )
