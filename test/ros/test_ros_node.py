"""The lifecycle node, in process, driven as ros2cli and other nodes would drive it."""

import array
from dataclasses import replace
import time

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import pytest
from rcl_interfaces.srv import DescribeParameters
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from depth_refiner_ros.config import HostParameters, configure
from depth_refiner_ros.data import ColorImage, DepthImage, Header, PinholeCamera, RigidTransform
from depth_refiner_ros.hosts.ros_node import FAMILY, StageNode
from depth_refiner_ros.messages import encode, encode_compressed, transforms_message
from depth_refiner_ros.parameters import declared_parameters, parameter_values
from depth_refiner_ros.stage import topic_inputs

WIDTH, HEIGHT = 64, 48
SUCCESS = TransitionCallbackReturn.SUCCESS


@pytest.fixture
def ros():
    rclpy.init(args=['--ros-args', '-r', '__ns:=/camera'])
    yield
    rclpy.try_shutdown()


class Robot:
    """A node under test beside a camera and a consumer, all on one executor."""

    def __init__(self, stages='refine_depth,inpaint_depth,project_points', overrides=()):
        self.node = StageNode(stages, 'depth_refiner', parameter_overrides=list(overrides))
        self.peer = rclpy.create_node('peer')
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.executor.add_node(self.peer)
        self.received = {}
        self.stamp_ns = 1_000_000_000

    def start(self):
        assert self.node.trigger_configure() == SUCCESS
        assert self.node.trigger_activate() == SUCCESS

    def publisher(self, message_type, topic):
        return self.peer.create_publisher(message_type, topic, 1)

    def depth_publishers(self):
        return (
            self.publisher(Image, 'depth/image_rect'),
            self.publisher(CameraInfo, 'depth/camera_info'),
        )

    def listen(self, message_type, topic, qos=1):
        self.received[topic] = []
        self.peer.create_subscription(message_type, topic, self.received[topic].append, qos)

    def spin(self, until, timeout_s=10.0):
        end_s = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < end_s, 'timed out'
            self.executor.spin_once(timeout_sec=0.02)

    def matched(self, *publishers):
        """Wait until the node hears the camera and the consumer hears the node."""
        listened = [t for t in self.received if t != '/diagnostics']
        self.spin(
            lambda: (
                all(p.get_subscription_count() for p in publishers)
                and len(self.node._subscribed_outputs()) == len(listened)
            )
        )

    def frame(self, encoding='16UC1'):
        self.stamp_ns += 33_000_000
        header = Header(self.stamp_ns, 'camera_depth_optical_frame')
        depth_m = np.full((HEIGHT, WIDTH), 1.5, np.float32)
        depth_m[20:24, 30:36] = np.nan
        camera = PinholeCamera(header, WIDTH, HEIGHT, 60.0, 60.0, 31.5, 23.5)
        return DepthImage(header, depth_m, encoding), camera

    def close(self):
        self.node.destroy_node()
        self.peer.destroy_node()


@pytest.fixture
def robot(ros):
    made = []

    def make(**kwargs):
        made.append(Robot(**kwargs))
        return made[-1]

    yield make
    for item in made:
        item.close()


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
def test_answers_in_kind(robot, encoding):
    r = robot()
    r.start()
    images, infos = r.depth_publishers()
    r.listen(Image, 'depth_inpainted/image_rect')
    r.listen(CameraInfo, 'depth_inpainted/camera_info')
    r.listen(PointCloud2, 'points')
    r.matched(images, infos)
    depth, camera = r.frame(encoding)

    images.publish(encode(depth, FAMILY))
    infos.publish(encode(camera, FAMILY))
    r.spin(lambda: all(r.received.values()))
    out = r.received['depth_inpainted/image_rect'][0]
    assert out.encoding == encoding
    assert (out.header.stamp.sec, out.header.stamp.nanosec) == (1, 33_000_000)
    assert out.header.frame_id == 'camera_depth_optical_frame'
    pixels = np.frombuffer(out.data, np.uint16 if encoding == '16UC1' else np.float32)
    np.testing.assert_allclose(pixels, 1500 if encoding == '16UC1' else 1.5, rtol=1e-3)
    assert r.received['depth_inpainted/camera_info'][0].k[0] == 60.0
    assert r.received['points'][0].height == HEIGHT


def test_same_pixels_as_the_bag_host(robot, tmp_path):
    bag = pytest.importorskip('depth_refiner_ros.hosts.bag')
    r = robot(stages='inpaint_depth')
    r.start()
    images, infos = r.depth_publishers()
    r.listen(Image, 'depth_inpainted/image_rect')
    r.matched(images, infos)
    depth, camera = r.frame()
    with bag.BagWriter(tmp_path / 'in.mcap') as writer:
        writer.write('/depth', 1, depth)
        writer.write('/info', 1, camera)
    configuration = configure({'stages': 'inpaint_depth'})
    pipeline = configuration.pipeline(configuration.parameters)
    topics = dict.fromkeys(topic_inputs(configuration.pipeline), '/none')
    topics |= {'depth': '/depth', 'camera': '/info'}
    with bag.open_bag(tmp_path / 'in.mcap') as reader:
        frames = bag.Frames(reader, topic_inputs(type(pipeline)), topics)
        (result,) = bag.replay(frames, pipeline)
    expected = encode(result.outputs['inpaint_depth.depth'], FAMILY)
    images.publish(encode(depth, FAMILY))
    infos.publish(encode(camera, FAMILY))
    r.spin(lambda: r.received['depth_inpainted/image_rect'])
    assert r.received['depth_inpainted/image_rect'][0] == expected


def test_compressed_depth_transport(robot):
    r = robot(overrides=[Parameter('depth_image_transport', value='compressedDepth')])
    r.start()
    images = r.publisher(CompressedImage, 'depth/image_rect/compressedDepth')
    infos = r.publisher(CameraInfo, 'depth/camera_info')
    r.listen(Image, 'depth_refined/image_rect')
    r.matched(images, infos)
    depth, camera = r.frame()
    images.publish(encode_compressed(depth, FAMILY, 'rvl'))
    infos.publish(encode(camera, FAMILY))
    r.spin(lambda: r.received['depth_refined/image_rect'])


def test_every_parameter_is_described_and_equal_in_struct_and_node(robot):
    r = robot()
    node = r.node
    configuration = node._configuration
    for parameters in (configuration.host, configuration.parameters):
        values = parameter_values(parameters)
        for name, declared in declared_parameters(type(parameters)).items():
            assert node.get_parameter(name).value == values[name]
            descriptor = node.describe_parameter(name)
            assert descriptor.description.startswith(declared.description)
            assert descriptor.read_only == (not declared.live)
    client = r.peer.create_client(DescribeParameters, 'depth_refiner/describe_parameters')
    future = client.call_async(DescribeParameters.Request(names=['project_points.stride_px']))
    r.spin(future.done)
    (described,) = future.result().descriptors
    assert (described.integer_range[0].from_value, described.integer_range[0].to_value) == (1, 64)


def test_live_parameter_takes_effect_and_bad_ones_are_refused(robot):
    r = robot(stages='project_points')
    r.start()
    images, infos = r.depth_publishers()
    r.listen(PointCloud2, 'points')
    r.matched(images, infos)

    def cloud():
        r.received['points'].clear()
        depth, camera = r.frame()
        images.publish(encode(depth, FAMILY))
        infos.publish(encode(camera, FAMILY))
        r.spin(lambda: r.received['points'])
        return r.received['points'][-1]

    assert cloud().width == WIDTH
    (result,) = r.node.set_parameters([Parameter('project_points.stride_px', value=4)])
    assert result.successful
    assert cloud().width == WIDTH // 4
    (result,) = r.node.set_parameters([Parameter('project_points.stride_px', value=65)])
    assert not result.successful
    assert '65' in result.reason
    assert cloud().width == WIDTH // 4


def test_refuses_a_word_that_is_no_choice(robot):
    r = robot()
    (result,) = r.node.set_parameters([Parameter('refine_depth.sensor', value='nokia')])
    assert not result.successful
    assert 'must be one of kinect_v1' in result.reason


def test_host_parameter_that_is_not_live_is_read_only(robot):
    r = robot()
    (result,) = r.node.set_parameters([Parameter('slop_s', value=0.5)])
    assert not result.successful


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('refine_depth.spatial_strenght', 1.0, 'did you mean refine_depth.spatial_strength'),
        ('refine_depth.spatial_strength', 3.0, 'must be between 0 and 1'),
        ('topics.dept', '/x', 'unknown port topics.dept'),
        ('stages', 'refine', "unknown stage 'refine'"),
    ],
)
def test_bad_parameter_file_is_one_sentence(ros, name, value, message):
    with pytest.raises(ValueError, match=message):
        StageNode(None, 'bad', parameter_overrides=[Parameter(name, value=value)])


def test_whole_number_serves_where_a_float_is_meant(robot):
    r = robot(overrides=[Parameter('inpaint_depth.max_hole_px', value=40)])
    assert r.node.get_parameter('inpaint_depth.max_hole_px').value == 40.0


def test_lifecycle_round_trip_and_no_subscription_while_inactive(robot):
    r = robot()
    images = r.publisher(Image, 'depth/image_rect')
    r.listen(Image, 'depth_refined/image_rect')
    r.start()
    r.matched(images)
    assert r.node.trigger_deactivate() == SUCCESS
    r.spin(lambda: images.get_subscription_count() == 0)
    assert r.node.trigger_cleanup() == SUCCESS
    r.start()
    r.matched(images)
    assert r.node.trigger_shutdown() == SUCCESS


def test_only_what_somebody_wants_is_subscribed_to(robot, monkeypatch):
    monkeypatch.setattr('depth_refiner_ros.hosts.ros_node._LINGER_S', 0.1)
    r = robot()
    images = r.publisher(Image, 'depth/image_rect')
    infos = r.publisher(CameraInfo, 'depth/camera_info')
    r.start()
    r.spin(infos.get_subscription_count)  # a calibration may come once only
    assert images.get_subscription_count() == 0
    infos.publish(encode(r.frame()[1], FAMILY))
    r.spin(lambda: infos.get_subscription_count() == 0)
    listener = r.peer.create_subscription(Image, 'depth_refined/image_rect', lambda m: None, 1)
    r.spin(lambda: images.get_subscription_count() and infos.get_subscription_count())
    r.peer.destroy_subscription(listener)
    r.spin(lambda: not (images.get_subscription_count() or infos.get_subscription_count()))


@pytest.mark.parametrize('latched', [True, False])
def test_a_calibration_published_once(robot, latched):
    """Before the node starts, latched; or once it runs, and not kept by anybody."""
    r = robot(stages='inpaint_depth')
    images = r.publisher(Image, 'depth/image_rect')
    durability = QoSDurabilityPolicy.TRANSIENT_LOCAL if latched else QoSDurabilityPolicy.VOLATILE
    infos = r.peer.create_publisher(
        CameraInfo, 'depth/camera_info', QoSProfile(depth=1, durability=durability)
    )
    _, camera = r.frame()
    if latched:
        infos.publish(encode(camera, FAMILY))
    r.start()
    if not latched:
        r.spin(infos.get_subscription_count)
        infos.publish(encode(camera, FAMILY))
    r.listen(Image, 'depth_inpainted/image_rect')
    r.matched(images)

    def filled():
        images.publish(encode(r.frame()[0], FAMILY))
        r.executor.spin_once(timeout_sec=0.02)
        return r.received['depth_inpainted/image_rect']

    r.spin(filled)
    assert r.node._runner.status().values['received.camera'] == '1'
    assert r.node._runner.status().values['duplicated'] == '0'


def test_depth_goes_on_without_colour_that_cannot_be_used(robot):
    r = robot(stages='register_color,inpaint_depth')
    r.start()
    images, infos, colors, color_infos = (
        r.publisher(kind, topic)
        for kind, topic in (
            (Image, 'depth/image_rect'),
            (CameraInfo, 'depth/camera_info'),
            (Image, 'color/image_rect'),
            (CameraInfo, 'color/camera_info'),
        )
    )
    r.listen(Image, 'depth_inpainted/image_rect')
    r.listen(DiagnosticArray, '/diagnostics')
    r.matched(images, infos, colors, color_infos)

    def told(text, encoding, frame_id, octets):
        """Send frames until the status names what is wrong with the colour."""
        depth, camera = r.frame()
        header = Header(depth.header.stamp_ns, frame_id)
        info = encode(replace(camera, header=header), FAMILY)
        color = Image(header=info.header, height=HEIGHT, width=WIDTH, encoding=encoding)
        color.step, color.data = 3 * WIDTH, array.array('B', bytes(octets))
        color_infos.publish(info)
        colors.publish(color)
        infos.publish(encode(camera, FAMILY))
        images.publish(encode(depth, FAMILY))
        for _ in range(5):
            r.executor.spin_once(timeout_sec=0.01)
        statuses = [s for a in r.received['/diagnostics'] for s in a.status]
        return any(text in s.message and s.level == b'\x01' for s in statuses)

    whole = 3 * WIDTH * HEIGHT
    for text, *kind in (
        ("without color: /camera/color/image_rect: encoding 'nv12'", 'nv12', 'a', whole),
        ('without color: /camera/color/image_rect', 'rgb8', 'a', whole // 2),
        ("to 'elsewhere'; publish it on /tf_static", 'rgb8', 'elsewhere', whole),
    ):
        r.received['depth_inpainted/image_rect'].clear()
        r.spin(lambda text=text, kind=kind: told(text, *kind))
        assert r.received['depth_inpainted/image_rect'], text


def test_simulated_time_without_a_clock_is_named_and_stops_nothing(robot):
    r = robot(stages='inpaint_depth', overrides=[Parameter('use_sim_time', value=True)])
    r.start()
    images, infos = r.depth_publishers()
    r.listen(Image, 'depth_inpainted/image_rect')
    r.listen(DiagnosticArray, '/diagnostics')

    def says(text):
        return any(text in s.message for a in r.received['/diagnostics'] for s in a.status)

    r.spin(lambda: says('no clock is published'))
    clock = r.publisher(ClockMessage, '/clock')
    paused = ClockMessage()
    paused.clock.sec = 5
    r.spin(lambda: clock.publish(paused) or says('the clock on /clock stands still'))
    depth, camera = r.frame()
    infos.publish(encode(camera, FAMILY))
    images.publish(encode(depth, FAMILY))
    r.spin(lambda: r.received['depth_inpainted/image_rect'])


def test_a_change_of_resolution_costs_no_frame(robot):
    r = robot(stages='inpaint_depth')
    r.start()
    images, infos = r.depth_publishers()
    r.listen(Image, 'depth_inpainted/image_rect')
    r.matched(images, infos)
    depth, camera = r.frame()
    infos.publish(encode(camera, FAMILY))
    images.publish(encode(depth, FAMILY))
    r.spin(lambda: r.received['depth_inpainted/image_rect'])
    r.stamp_ns += 2_000_000_000  # the driver starts again
    depth, camera = r.frame()
    images.publish(encode(replace(depth, depth_m=depth.depth_m[::2, ::2].copy()), FAMILY))
    for _ in range(20):
        r.executor.spin_once(timeout_sec=0.01)
    halved = replace(camera, width=WIDTH // 2, height=HEIGHT // 2)
    infos.publish(encode(halved, FAMILY))
    r.spin(lambda: len(r.received['depth_inpainted/image_rect']) == 2)
    assert r.received['depth_inpainted/image_rect'][1].width == WIDTH // 2
    assert r.node._runner.failed == 0
    assert r.node._runner.warned == ''


def test_bad_encoding_is_dropped_and_reported(robot):
    r = robot()
    r.start()
    images, infos = r.depth_publishers()
    r.listen(Image, 'depth_refined/image_rect')
    r.listen(DiagnosticArray, '/diagnostics')
    r.matched(images, infos)
    _, camera = r.frame()
    bad = Image(height=1, width=1, encoding='bgr8', step=3, data=array.array('B', [1, 2, 3]))
    info = encode(camera, FAMILY)
    bad.header = info.header
    images.publish(bad)
    infos.publish(info)

    def reported():
        return any(
            status.level == b'\x02' and "'bgr8' is not a depth image" in status.message
            for array_ in r.received['/diagnostics']
            for status in array_.status
        )

    r.spin(reported)


def test_sensor_qos_in_reliable_out(robot):
    r = robot()
    r.start()
    r.listen(Image, 'depth_refined/image_rect')
    r.spin(lambda: r.peer.get_subscriptions_info_by_topic('/camera/depth/image_rect'))
    (info,) = r.peer.get_publishers_info_by_topic('/camera/depth_refined/image_rect')
    assert info.qos_profile.reliability.name == 'RELIABLE'
    (info,) = r.peer.get_subscriptions_info_by_topic('/camera/depth/image_rect')
    assert info.qos_profile.reliability == qos_profile_sensor_data.reliability


def test_autostart_is_declared():
    assert declared_parameters(HostParameters)['autostart'].default is True


def test_qos_overrides_reach_input_and_output(robot):
    r = robot(
        overrides=[
            Parameter(
                'qos_overrides./camera/depth/image_rect.subscription.reliability', value='reliable'
            ),
            Parameter('qos_overrides./camera/points.publisher.reliability', value='best_effort'),
            Parameter(
                'qos_overrides./camera/depth/camera_info.subscription.durability',
                value='transient_local',
            ),
            Parameter(
                'qos_overrides./camera/points.publisher.durability', value='transient_local'
            ),
        ]
    )
    r.start()
    r.listen(PointCloud2, 'points', qos_profile_sensor_data)
    r.spin(lambda: r.peer.get_subscriptions_info_by_topic('/camera/depth/image_rect'))
    (info,) = r.peer.get_subscriptions_info_by_topic('/camera/depth/image_rect')
    assert info.qos_profile.reliability.name == 'RELIABLE'
    (info,) = r.peer.get_publishers_info_by_topic('/camera/points')
    assert info.qos_profile.reliability.name == 'BEST_EFFORT'
    assert info.qos_profile.durability.name == 'TRANSIENT_LOCAL'
    (info,) = r.peer.get_subscriptions_info_by_topic('/camera/depth/camera_info')
    assert info.qos_profile.durability.name == 'TRANSIENT_LOCAL'
    r.spin(lambda: r.peer.get_subscriptions_info_by_topic('/camera/color/image_rect'))
    (info,) = r.peer.get_subscriptions_info_by_topic('/camera/color/image_rect')
    assert info.qos_profile.reliability.name == 'BEST_EFFORT'  # one topic's, not all of them
    assert info.qos_profile.durability.name == 'VOLATILE'


def test_transforms_come_from_tf(robot):
    r = robot(stages='register_color')
    r.start()
    images, infos = r.depth_publishers()
    colors, color_infos = (
        r.publisher(Image, 'color/image_rect'),
        r.publisher(CameraInfo, 'color/camera_info'),
    )
    latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    static = r.peer.create_publisher(TFMessage, '/tf_static', latched)
    r.listen(Image, 'color_registered/image_rect')
    r.matched(images, infos, colors, color_infos, static)
    depth, _ = r.frame()
    there = Header(depth.header.stamp_ns, 'camera_color_optical_frame')
    rgb = np.full((HEIGHT, WIDTH, 3), 99, np.uint8)
    link = RigidTransform(there, depth.header.frame_id, np.eye(3), np.array([0.02, 0, 0]))
    static.publish(transforms_message([link], FAMILY))
    r.spin(lambda: r.node._runner.tree.lookup(there.frame_id, depth.header.frame_id))

    def registered():
        # Colour that has never come is not waited for: the second frame has it for certain.
        depth, camera = r.frame()
        header = Header(depth.header.stamp_ns, there.frame_id)
        color_infos.publish(encode(replace(camera, header=header), FAMILY))
        colors.publish(encode(ColorImage(header, rgb), FAMILY))
        infos.publish(encode(camera, FAMILY))
        images.publish(encode(depth, FAMILY))
        for _ in range(20):
            r.executor.spin_once(timeout_sec=0.01)
        return r.received['color_registered/image_rect']

    r.spin(registered)
    out = r.received['color_registered/image_rect'][0]
    assert (out.encoding, out.header.frame_id) == ('rgb8', depth.header.frame_id)
