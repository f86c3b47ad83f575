"""The web view: what it shows, where it listens, and that it can fail without harm."""

from __future__ import annotations

from pathlib import Path
import socket
from types import SimpleNamespace
import urllib.request

import cv2
import numpy as np
import pytest

from depth_refiner_ros.data import DepthImage, Header, Provenance, ProvenanceImage
from depth_refiner_ros.hosts import view
from depth_refiner_ros.hosts.view import View
from depth_refiner_ros.pictures import NO_VALUE, PROVENANCE_COLORS

HEADER = Header(1_700_000_000_000_000_000, 'camera')


class Stream:
    """Keeps what is logged, painted pictures as pixels."""

    def __init__(self):
        self.times, self.logged = [], []

    def set_time(self, timeline, *, timestamp):
        self.times.append((timeline, timestamp))

    def log(self, name, value):
        self.logged.append((name, value))


def picture(*, contents, media_type):
    assert media_type == 'image/jpeg'
    return cv2.imdecode(np.frombuffer(contents, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


RERUN = SimpleNamespace(EncodedImage=picture, Scalars=float)


def frame():
    before_m = np.full((48, 64), 2.0, np.float32)
    before_m[16:32, 16:32] = np.nan
    after_m = np.full((48, 64), 2.0, np.float32)
    marks = np.full((48, 64), Provenance.MEASURED, np.uint8)
    marks[16:32, 16:32] = Provenance.INPAINTED
    outputs = {
        'inpaint_depth.depth': DepthImage(HEADER, after_m),
        'inpaint_depth.provenance': ProvenanceImage(HEADER, marks),
    }
    return {'depth': DepthImage(HEADER, before_m), 'color': None}, outputs


def close(pixel, color):
    return np.abs(pixel.astype(int) - color).max() < 12  # JPEG


def test_shows_before_after_provenance_and_latency():
    stream = Stream()
    View(RERUN, stream, pytest.fail)(*frame(), 0.0125)
    assert stream.times == [('stamp', 1_700_000_000.0)]
    shown = dict(stream.logged)
    assert list(shown) == ['before', 'after', 'provenance', 'latency_ms']
    assert close(shown['before'][24, 24], NO_VALUE)
    assert not close(shown['before'][4, 4], NO_VALUE)
    assert close(shown['after'][24, 24], shown['before'][4, 4].astype(int))
    assert close(shown['provenance'][24, 24], PROVENANCE_COLORS[Provenance.INPAINTED])
    assert close(shown['provenance'][4, 4], PROVENANCE_COLORS[Provenance.MEASURED])
    assert shown['latency_ms'] == 12.5


def test_shows_ten_frames_a_second_at_most(monkeypatch):
    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr(view, 'time', SimpleNamespace(monotonic=lambda: clock.now_s))
    stream = Stream()
    shown = View(RERUN, stream, pytest.fail)
    for _ in range(30):
        shown(*frame(), 0.01)
        clock.now_s += 1 / 30
    assert 8 <= len(stream.times) <= 10


def test_a_view_that_fails_ends_once_and_quietly():
    warnings = []
    shown = View(RERUN, object(), warnings.append)
    for _ in range(3):
        shown(*frame(), 0.01)
    assert len(warnings) == 1
    assert warnings[0].startswith('the view has ended: AttributeError')


def test_without_the_sdk(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'rerun', None)
    with pytest.raises(ValueError, match=r"pip install 'depth_refiner_ros\[view\]'"):
        view.served(view.LISTEN, print).__enter__()


@pytest.mark.parametrize('listen', ['9090', 'localhost:9090', '127.0.0.1:0', '127.0.0.1:x', ''])
def test_where_it_cannot_listen(monkeypatch, listen):
    monkeypatch.setattr(view, 'sdk', lambda: None)
    with pytest.raises(ValueError, match=r'as 127\.0\.0\.1:9090, not on'):
        view.served(listen, print).__enter__()


def free_pair():
    """A port that is free, like the one behind it."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(('127.0.0.1', 0))
            port = first.getsockname()[1]
            try:
                second.bind(('127.0.0.1', port + 1))
            except OSError:
                continue
            return port


def test_a_port_that_is_taken_is_named(monkeypatch):
    monkeypatch.setattr(view, 'sdk', lambda: None)
    port = free_pair()
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', port + 1))
        taken.listen()
        with pytest.raises(ValueError, match=f'cannot serve a view at 127.0.0.1:{port + 1}'):
            view.served(f'127.0.0.1:{port}', print).__enter__()


def listening(port):
    """The addresses that anything listens on at a port, as the kernel has them."""
    rows = [
        line.split()[1:4]
        for name in ('tcp', 'tcp6')
        for line in Path(f'/proc/net/{name}').read_text().splitlines()[1:]
    ]
    return {
        local.split(':')[0]
        for local, _, state in rows
        if state == '0A' and int(local.split(':')[1], 16) == port
    }


def test_serves_the_page_and_its_data_on_loopback_and_ends():
    rerun = pytest.importorskip('rerun', reason="pip install 'depth_refiner_ros[view]'")
    port = free_pair()
    with view.served(f'127.0.0.1:{port}', pytest.fail) as (shown, page):
        assert page == (
            f'http://127.0.0.1:{port}/?url=rerun%2Bhttp%3A%2F%2F127.0.0.1%3A{port + 1}%2Fproxy'
        )
        with urllib.request.urlopen(page, timeout=120) as answer:
            assert b'Rerun' in answer.read()
        with urllib.request.urlopen(f'http://127.0.0.1:{port}/re_viewer_bg.wasm') as answer:
            assert answer.read(4) == b'\0asm'  # the whole viewer comes from here: no internet
        if Path('/proc/net/tcp').exists():
            assert listening(port) == listening(port + 1) == {'0100007F'}
        shown(*frame(), 0.01)
        shown._stream.flush()
        assert isinstance(shown._stream, rerun.RecordingStream)
    with pytest.raises(OSError, match=r'refused|reset'):
        urllib.request.urlopen(page, timeout=120)
