"""The stage of docs/write_a_stage.md: by hand, over a bag, and the page beside the file."""

from pathlib import Path
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest

from depth_refiner_ros.data import (
    DepthImage,
    Header,
    PinholeCamera,
    ProvenanceImage,
    StddevImage,
)
from depth_refiner_ros.stages import STAGES

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / 'examples' / 'mask_uncertain.py'
HEADER = Header(1_000_000_000, 'camera_depth_optical_frame')
CAMERA = PinholeCamera(HEADER, 4, 1, 10.0, 10.0, 1.5, 0.0)


@pytest.fixture
def stage(monkeypatch):
    for name, kind in STAGES.items():
        monkeypatch.setitem(STAGES, name, kind)
    found = runpy.run_path(str(EXAMPLE))
    assert STAGES.pop('mask_uncertain') is found['MaskUncertain']
    return found['MaskUncertain'](found['MaskUncertainParameters'](max_stddev_m=0.01))


def row(kind, values, dtype):
    return kind(HEADER, np.array([values], dtype))


def test_keeps_what_is_measured_and_certain(stage):
    outputs = stage(
        row(DepthImage, [1.0, 2.0, 3.0, 4.0], np.float32),
        CAMERA,
        row(StddevImage, [0.002, 0.01, 0.02, 0.002], np.float32),
        row(ProvenanceImage, [1, 2, 2, 3], np.uint8),
    )
    np.testing.assert_array_equal(outputs['depth'].depth_m, [[1.0, 2.0, np.nan, np.nan]])
    assert outputs['camera'].header == outputs['depth'].header == HEADER


def test_companions_of_another_depth_are_refused(stage):
    other = StddevImage(HEADER, np.zeros((2, 4), np.float32))
    depth = row(DepthImage, [1.0] * 4, np.float32)
    with pytest.raises(ValueError, match='stddev'):
        stage(depth, CAMERA, other, row(ProvenanceImage, [1] * 4, np.uint8))


def test_replays_a_bag(tmp_path):
    bags = pytest.importorskip('depth_refiner_ros.hosts.bag', reason='needs rosbags')
    from rosbags.highlevel import AnyReader

    from depth_refiner_ros.messages import decode
    from depth_refiner_ros.simulation import simulate

    with bags.BagWriter(tmp_path / 'in.mcap') as writer:
        for frame in simulate(2, width=96, height=72):
            stamp_ns = frame.depth.header.stamp_ns
            writer.write('/camera/depth/camera_info', stamp_ns, frame.camera)
            writer.write('/camera/depth/image_rect', stamp_ns, frame.depth)
    command = [sys.executable, EXAMPLE, 'replay', tmp_path / 'in.mcap', '-o']
    command += [tmp_path / 'out.mcap', '--stages', 'refine_depth,mask_uncertain']
    command += ['--mask-uncertain.max-stddev-m', '0.01', '--depth-encoding', '32FC1']
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr

    kinds = {
        '/camera/depth_refined/image_rect': DepthImage,
        '/camera/depth_refined/stddev': StddevImage,
        '/camera/depth_refined/provenance': ProvenanceImage,
        '/camera/depth_masked/image_rect': DepthImage,
    }
    found = {topic: [] for topic in kinds}
    with AnyReader([tmp_path / 'out.mcap']) as reader:
        for connection, _, raw in reader.messages():
            if kind := kinds.get(connection.topic):
                found[connection.topic].append(
                    decode(kind, reader.deserialize(raw, connection.msgtype))
                )
    refined, stddev, provenance, masked = found.values()
    assert len(masked) == 2
    for before, spread, origin, after in zip(refined, stddev, provenance, masked, strict=True):
        certain = (spread.stddev_m <= 0.01) & np.isin(origin.provenance, (1, 2))
        assert 0.1 < certain.mean() < 0.9
        expected_m = np.where(certain, before.depth_m, np.nan)
        np.testing.assert_array_equal(after.depth_m, expected_m)


def test_the_page_shows_the_file():
    page = (ROOT / 'docs' / 'write_a_stage.md').read_text(encoding='utf-8')
    source = EXAMPLE.read_text(encoding='utf-8')
    blocks = re.findall(r'^```python\n(.*?)^```', page, re.DOTALL | re.MULTILINE)
    shown = [block for block in blocks if 'MaskUncertain' in block]
    assert len(shown) >= 3
    for block in shown:
        assert block.strip() in source
