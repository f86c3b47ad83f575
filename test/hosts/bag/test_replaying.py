from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from depth_refiner_ros.config import pipeline_type
from depth_refiner_ros.data import (
    DepthImage,
    Header,
    PinholeCamera,
    RigidTransform,
)
from depth_refiner_ros.hosts.bag import (
    BagError,
    BagWriter,
    Frames,
    Summary,
    open_bag,
    record,
    replay,
    waiting,
)
from depth_refiner_ros.stage import topic_inputs
from depth_refiner_ros.stages.refine_depth import RefineDepth, RefineDepthParameters

from .recordings import (
    CAMERA,
    DEPTH,
    HEADER,
    TOPICS,
    VALUES,
    at,
    frames,
    read,
    write,
)


def replayed(path, **options):
    pipeline = pipeline_type('project_points')()
    with open_bag(path) as reader:
        paired = Frames(reader, topic_inputs(type(pipeline)), TOPICS, **options)
        return paired, list(replay(paired, pipeline))


def test_every_frame_comes_out_with_its_own_inputs(tmp_path):
    path = write(tmp_path / 'x.mcap', frames(20, color=True))
    paired, results = replayed(path)
    assert paired.frame_count == len(results) == 20
    assert paired.topics == {'depth': '/depth', 'camera': '/camera_info', 'color': '/color'}
    for i, result in enumerate(results):
        stamp_ns = i * 33_000_000 + 1
        assert result.inputs['depth'].header.stamp_ns == stamp_ns
        assert result.inputs['camera'].header.stamp_ns == stamp_ns
        assert result.outputs['project_points.points'].header.stamp_ns == stamp_ns


def test_frames_out_of_order_are_put_in_order(tmp_path):
    items = list(frames(6, info=False))
    items[2], items[3] = (
        (items[3][0], items[2][1], items[3][2]),
        (items[2][0], items[3][1], items[2][2]),
    )
    infos = [('/camera_info', 300_000_000, at(CAMERA, 1))]
    _, results = replayed(write(tmp_path / 'x.mcap', items + infos))
    stamps = [r.inputs['depth'].header.stamp_ns for r in results]
    assert stamps == [i * 33_000_000 + 1 for i in range(6)]


def test_two_cameras_of_one_name_are_one_stream(tmp_path):
    """Two publishers on one topic are two connections of a ROS 1 bag."""
    from rosbags.rosbag1 import Writer as Writer1
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    header = store.types['std_msgs/msg/Header']
    time = store.types['builtin_interfaces/msg/Time']
    with Writer1(tmp_path / 'x.bag') as writer:
        kind = 'sensor_msgs/msg/Image'
        images = [
            writer.add_connection('/depth', kind, typestore=store, callerid=f'/driver{i}')
            for i in range(2)
        ]
        info_kind = 'sensor_msgs/msg/CameraInfo'
        info = writer.add_connection('/camera_info', info_kind, typestore=store)
        for i in range(4):
            stamped = header(seq=i, stamp=time(sec=i + 1, nanosec=0), frame_id='optical')
            image = store.types[kind](
                header=stamped,
                height=4,
                width=6,
                encoding='16UC1',
                is_bigendian=0,
                step=12,
                data=np.full(24, 1500, np.uint16).view(np.uint8),
            )
            matrix = np.array([5.0, 0, 2.5, 0, 5.0, 1.5, 0, 0, 1])
            camera = store.types[info_kind](
                header=stamped,
                height=4,
                width=6,
                distortion_model='plumb_bob',
                D=np.zeros(5),
                K=matrix,
                R=np.eye(3).ravel(),
                P=np.zeros(12),
                binning_x=0,
                binning_y=0,
                roi=store.types['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False),
            )
            t = (i + 1) * 10**9
            writer.write(info, t, store.serialize_ros1(camera, info_kind))
            writer.write(images[i % 2], t, store.serialize_ros1(image, kind))
    paired, results = replayed(tmp_path / 'x.bag')
    assert paired.frame_count == len(results) == 4


def logged(items, late_ns):
    """Record the topics named in `late_ns` so much later."""
    moved = [(topic, t + late_ns.get(topic, 0), value) for topic, t, value in items]
    return sorted(moved, key=lambda item: item[1])


@pytest.mark.parametrize('late', ['/depth', '/color', '/camera_info'])
@pytest.mark.parametrize('memory_bytes', [0, 300, 1 << 20])
def test_what_is_recorded_late_is_waited_for(tmp_path, monkeypatch, late, memory_bytes):
    monkeypatch.setattr(waiting, 'MEMORY_BYTES', memory_bytes)
    items = logged(frames(90, color=True), {late: 1_500_000_000})
    _, results = replayed(write(tmp_path / 'x.mcap', items))
    stamps = [{v.header.stamp_ns for v in r.inputs.values() if v is not None} for r in results]
    assert stamps == [{i * 33_000_000 + 1} for i in range(90)]
    # a calibration moves no frame: depth and colour were there
    delay_ns = 0 if late == '/camera_info' else 1_500_000_000
    assert [r.log_ns for r in results] == [i * 33_000_000 + 1 + delay_ns for i in range(90)]


def test_a_calibration_at_the_end_serves_from_the_start(tmp_path):
    items = [*frames(90, info=False), ('/camera_info', 10**10, at(CAMERA, 10**10))]
    _, results = replayed(write(tmp_path / 'x.mcap', items))
    assert [r.log_ns for r in results] == [i * 33_000_000 + 1 for i in range(90)]


def test_only_what_a_frame_needs_is_held(tmp_path, monkeypatch):
    most = []
    put = waiting.Waiting.put

    def counted(self, *args):
        put(self, *args)
        most.append(len(self._held))

    monkeypatch.setattr(waiting.Waiting, 'put', counted)
    colors = [('/color', t, at(VALUES['/color'], t)) for t in range(5, 3_000_000_000, 10_000_000)]
    items = sorted([*frames(90), *colors], key=lambda item: item[1])
    paired, results = replayed(write(tmp_path / 'x.mcap', items))
    assert len(results) == paired.frame_count == 90
    assert max(most) <= 4


def test_without_stamps_the_time_of_recording_serves(tmp_path):
    items = [(topic, t, at(value, 0)) for topic, t, value in frames(10, color=True)]
    paired, results = replayed(write(tmp_path / 'x.mcap', items))
    assert paired.synchronizer.unstamped == ['depth', 'camera', 'color']
    assert [r.inputs['color'] is not None for r in results] == [True] * 10
    stamps = [r.outputs['project_points.points'].header.stamp_ns for r in results]
    assert stamps == [i * 33_000_000 + 1 for i in range(10)]


def test_a_new_size_takes_the_calibration_that_fits(tmp_path):
    small = PinholeCamera(HEADER, 3, 2, 5.0, 5.0, 1.0, 0.5)
    items = []
    for i in range(10):
        t = i * 33_000_000
        size = (4, 6) if i < 5 else (2, 3)
        if i in (0, 8):
            items.append(('/camera_info', t, at(CAMERA if i < 5 else small, t)))
        items.append(('/depth', t, DepthImage(Header(t, 'optical'), np.ones(size, np.float32))))
    with open_bag(write(tmp_path / 'x.mcap', items)) as reader:
        pipeline = pipeline_type('refine_depth')
        topics = {'depth': '/depth', 'camera': '/camera_info'} | {
            port: '/none' for port in topic_inputs(pipeline) if port not in ('depth', 'camera')
        }
        found = list(replay(Frames(reader, topic_inputs(pipeline), topics), pipeline()))
    assert [r.inputs['camera'].width for r in found] == [6] * 5 + [3] * 5


def test_the_first_transform_serves_the_frames_before_it(tmp_path):
    path = tmp_path / 'x.mcap'
    with BagWriter(path) as writer:
        for topic, t, value in frames(3):
            writer.write(topic, t, value)
        for i, t in enumerate((40_000_000, 50_000_000)):
            placed = RigidTransform(Header(t, '/a'), 'b', np.eye(3), np.full(3, 1.0 + i))
            writer.write_transforms('/tf', t, [placed])
    with open_bag(path) as reader:
        found = Frames(reader, topic_inputs(pipeline_type('project_points')), TOPICS)
        x_m = [found.transforms.lookup('a', 'b').translation_m[0] for _ in found]
    assert x_m == [1, 1, 2]


@pytest.mark.parametrize('late_ns', [0, 40_000_000])
def test_refine_depth_gets_the_pose_of_its_own_time(tmp_path, monkeypatch, late_ns):
    """tf comes at 20 Hz and, if late, 40 ms after its stamp; the camera drives 1 m/s along x."""
    asked = []

    def noted(self, depth, camera, fixed_from_camera=None, **_):
        pose = fixed_from_camera
        asked.append(None if pose is None else pose.translation_m[0])
        return {'depth': depth, 'camera': camera}

    monkeypatch.setattr(RefineDepth, '__call__', noted)
    items = [
        (topic, log_ns + 200_000_000, at(value, value.header.stamp_ns + 200_000_000))
        for topic, log_ns, value in frames(8)
    ]
    poses = [
        (
            t + late_ns,
            RigidTransform(Header(t, 'odom'), 'optical', np.eye(3), np.array([1e-9 * t, 0, 0])),
        )
        for t in range(0, 600_000_000, 50_000_000)
    ]
    path = tmp_path / 'x.mcap'
    with BagWriter(path) as writer:
        for _, t, entry in sorted(
            [(t, t, (topic, value)) for topic, t, value in items]
            + [(t, t, pose) for t, pose in poses],
            key=lambda item: item[0],
        ):
            if isinstance(entry, RigidTransform):
                writer.write_transforms('/tf', t, [entry])
            else:
                writer.write(entry[0], t, entry[1])
    pipeline = pipeline_type('refine_depth')
    topics = {'depth': '/depth', 'camera': '/camera_info'} | {
        port: '/none' for port in topic_inputs(pipeline) if port not in ('depth', 'camera')
    }
    parameters = RefineDepthParameters(motion='tf', fixed_frame='odom')
    with open_bag(path) as reader:
        found = Frames(reader, topic_inputs(pipeline), topics)
        stamps = [
            r.inputs['depth'].header.stamp_ns
            for r in replay(found, pipeline(pipeline.Parameters(refine_depth=parameters)))
        ]
    assert asked == pytest.approx([1e-9 * stamp for stamp in stamps], abs=1e-9)


def test_slop_decides_whether_colour_belongs_to_a_frame(tmp_path):
    items = list(frames(4))
    colors = [
        ('/color', t, at(VALUES['/color'], t + 15_000_000))
        for topic, t, _ in items
        if 'de' in topic
    ]
    path = write(tmp_path / 'x.mcap', sorted(items + colors, key=lambda item: item[1]))
    _, results = replayed(path, slop_s=0.02)
    assert [r.inputs['color'] is None for r in results][1:] == [False] * 3
    _, results = replayed(path, slop_s=0.01)
    assert all(r.inputs['color'] is None for r in results)


def test_keep_sees_exactly_what_is_no_input(tmp_path):
    path = write(tmp_path / 'x.mcap', [*frames(3), ('/more', 99, DEPTH)])
    kept = []
    _, results = replayed(path, keep=lambda c, log_ns, raw: kept.append((c.topic, log_ns)))
    assert kept == [('/more', 99)]
    assert len(results) == 3


def test_what_a_stage_refuses_names_the_frame(tmp_path):
    small = PinholeCamera(HEADER, 3, 2, 5.0, 5.0, 1.0, 1.0)
    items = [('/camera_info', 1, at(small, 1)), ('/depth', 1, at(DEPTH, 2_500_000_000))]
    path = write(tmp_path / 'x.mcap', items)
    with pytest.raises(BagError, match=r'frame at 2\.500000 s: the image is 6x4'):
        replayed(path)


def test_missing_and_wrong_inputs(tmp_path):
    path = write(tmp_path / 'x.mcap', frames(1, info=False))
    with pytest.raises(BagError, match='no /camera_info for the port camera; it has /depth'):
        replayed(path)
    path = write(tmp_path / 'y.mcap', [('/depth', 1, CAMERA), ('/camera_info', 1, CAMERA)])
    with pytest.raises(BagError, match='/depth is a sensor_msgs/msg/CameraInfo'):
        replayed(path)


def test_record_writes_outputs_under_the_namespace(tmp_path):
    path = write(tmp_path / 'x.mcap', frames(3))
    pipeline = pipeline_type('refine_depth,project_points')()
    with open_bag(path) as reader, BagWriter(tmp_path / 'y.mcap') as writer:
        results = record(
            replay(Frames(reader, topic_inputs(type(pipeline)), TOPICS), pipeline),
            writer,
            pipeline.outputs,
            '/ns',
            depth_encoding='32FC1',
            only=['refine_depth.depth', 'project_points.points'],
        )
        assert len(list(results)) == 3
    messages = read(tmp_path / 'y.mcap')
    assert {topic for topic, _, _ in messages} == {'/ns/depth_refined/image_rect', '/ns/points'}
    assert {m.encoding for t, _, m in messages if 'image' in t} == {'32FC1'}


def test_summary_counts_frames_and_stages():
    summary = Summary()
    for seconds in (1.0, 3.0):
        summary.add(SimpleNamespace(last_s={'a': seconds}))
    summary.finish()
    assert summary.frames == 2
    assert summary.stage_s == {'a': [1.0, 3.0]}
    assert summary.wall_s > 0


def test_damage_in_the_middle_costs_only_what_comes_after_it(tmp_path, monkeypatch):
    path = write(tmp_path / 'x.mcap', frames(6))
    with open_bag(path) as reader:
        read_all = type(reader).messages

        def cut(self, *args):
            for i, item in enumerate(read_all(self, *args)):
                if i == 8:
                    raise BagError('damaged')
                yield item

        monkeypatch.setattr(type(reader), 'messages', cut)
        pipeline = pipeline_type('project_points')()
        results = replay(Frames(reader, topic_inputs(type(pipeline)), TOPICS), pipeline)
        assert len([next(results) for _ in range(4)]) == 4
        with pytest.raises(BagError, match='damaged'):
            next(results)
