from __future__ import annotations

import numpy as np
import pytest

from depth_refiner_ros.config import configure
from depth_refiner_ros.data import ColorImage, DepthImage, Header, PinholeCamera
from depth_refiner_ros.evaluation.speed import clips
from depth_refiner_ros.geometry import TransformTree
from depth_refiner_ros.hosts.bag import BagError, BagWriter, open_bag

WIDTH, HEIGHT = 32, 24


def values(stamp_ns, metres=2.0):
    header = Header(stamp_ns, 'camera')
    return {
        'depth': DepthImage(header, np.full((HEIGHT, WIDTH), metres, np.float32), '16UC1'),
        'camera': PinholeCamera(header, WIDTH, HEIGHT, 20.0, 20.0, 16.0, 12.0),
    }


@pytest.mark.parametrize(
    ('count', 'expected'),
    [(1, [0] * 6), (2, [0, 1, 0, 1, 0, 1]), (4, [0, 1, 2, 3, 2, 1, 0, 1, 2, 3])],
)
def test_frames_are_played_back_and_forth(count, expected):
    assert [clips.swept_index(i, count) for i in range(len(expected))] == expected


def test_stamps_go_on_and_are_shared_by_a_frame():
    clip = clips.Clip('made up', [values(7, 1.0), values(3, 2.0)], TransformTree())
    swept = list(clip.swept(4, rate_hz=10))
    stamps_ns = [frame['depth'].header.stamp_ns for frame in swept]
    assert np.diff(stamps_ns).tolist() == [100_000_000] * 3
    assert [frame['camera'].header.stamp_ns for frame in swept] == stamps_ns
    assert [float(frame['depth'].depth_m[0, 0]) for frame in swept] == [1, 2, 1, 2]
    assert clip.values[0]['depth'].header.stamp_ns == 7


def test_simulated_frames_have_what_the_pipeline_takes():
    points = configure({'stages': 'project_points'})
    (frame,) = clips.simulated_frames(1, WIDTH, HEIGHT, points.pipeline).values
    assert sorted(frame) == ['camera', 'color', 'color_camera', 'depth']
    refine = configure({'stages': 'refine_depth'})
    (frame,) = clips.simulated_frames(1, WIDTH, HEIGHT, refine.pipeline).values
    assert sorted(frame) == ['camera', 'depth']
    assert frame['depth'].depth_m.shape == (HEIGHT, WIDTH)


def test_frames_of_a_recording(tmp_path):
    configuration = configure({'stages': 'project_points'})
    topics = {
        port: f'/c/{port}' for port in ('depth', 'camera', 'color', 'color_camera', 'provenance')
    }
    with BagWriter(tmp_path / 'some.mcap') as writer:
        for i in range(5):
            for port, value in values(i * 1_000_000, 1.0 + i).items():
                writer.write(topics[port], i * 1_000_000, value)
    with open_bag(tmp_path / 'some.mcap') as reader:
        clip = clips.recorded_frames(reader, configuration, topics, 3)
    assert clip.source == str(tmp_path / 'some.mcap')
    assert [float(frame['depth'].depth_m[0, 0]) for frame in clip.values] == [1, 2, 3]
    assert all(sorted(frame) == ['camera', 'depth'] for frame in clip.values)


def test_a_recording_without_a_complete_frame_is_refused(tmp_path):
    configuration = configure({'stages': 'project_points'})
    topics = {
        port: f'/c/{port}' for port in ('depth', 'camera', 'color', 'color_camera', 'provenance')
    }
    with BagWriter(tmp_path / 'some.mcap') as writer:
        writer.write('/c/depth', 0, values(0)['depth'])
        writer.write('/c/camera', 0, values(0)['camera'])
    with open_bag(tmp_path / 'some.mcap') as reader, pytest.raises(BagError, match='no complete'):
        clips.recorded_frames(reader, configuration, topics, 0)


def test_frames_in_another_encoding_are_the_same_frames():
    clip = clips.Clip('made up', [values(7)], TransformTree())
    (frame,) = clips.in_encoding(clip, '32FC1').values
    assert frame['depth'].encoding == '32FC1'
    assert frame['camera'] is clip.values[0]['camera']
    assert clip.values[0]['depth'].encoding == '16UC1'


def test_arrays_of_a_frame():
    color = ColorImage(Header(0, 'c'), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    found = clips.arrays({**values(0), 'color': color})
    assert sum(array.nbytes for array in found) == HEIGHT * WIDTH * (4 + 3)
