"""Small recordings, and what is in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from depth_refiner_ros.data import (
    ColorImage,
    DepthImage,
    Header,
    PinholeCamera,
    PointCloud,
    Provenance,
    ProvenanceImage,
    StddevImage,
)
from depth_refiner_ros.hosts.bag import (
    BagWriter,
    open_bag,
)

HEADER = Header(1_700_000_000_123_456_789, 'optical')
SHAPE = (4, 6)
CAMERA = PinholeCamera(HEADER, 6, 4, 5.0, 5.0, 2.5, 1.5)
DEPTH = DepthImage(HEADER, np.full(SHAPE, 1.5, np.float32), '16UC1')
VALUES = {
    '/depth': DEPTH,
    '/stddev': StddevImage(HEADER, np.full(SHAPE, 0.01, np.float32)),
    '/provenance': ProvenanceImage(HEADER, np.full(SHAPE, Provenance.REFINED, np.uint8)),
    '/color': ColorImage(HEADER, np.full((*SHAPE, 3), (1, 2, 3), np.uint8)),
    '/camera_info': CAMERA,
    '/points': PointCloud(HEADER, np.ones((*SHAPE, 3), np.float32)),
}
TOPICS = {
    'depth': '/depth',
    'camera': '/camera_info',
    'color': '/color',
    'color_camera': '/color_info',
    'provenance': '/p',
    'stddev': '/s',
}

NAMES = [('bare.mcap', 'mcap'), ('bare.db3', 'mcap'), ('folder', 'mcap'), ('folder', 'sqlite3')]


def at(value, stamp_ns, frame_id='optical'):
    return replace(value, header=Header(stamp_ns, frame_id))


def read(path):
    with open_bag(path) as reader:
        return [
            (c.topic, log_ns, reader.deserialize(raw, c.msgtype))
            for c, log_ns, raw in reader.messages()
        ]


def write(path, items, **options):
    with BagWriter(path, **options) as writer:
        for topic, log_ns, value in items:
            writer.write(topic, log_ns, value)
    return path


def frames(count, *, period_ns=33_000_000, color=False, info=True):
    for i in range(count):
        t = i * period_ns + 1
        if info:
            yield '/camera_info', t, at(CAMERA, t)
        yield '/depth', t, at(DEPTH, t)
        if color:
            yield '/color', t, at(VALUES['/color'], t)
