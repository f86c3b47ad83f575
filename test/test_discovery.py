from __future__ import annotations

import pytest

from depth_refiner_ros.discovery import CAMERA_INFO, camera_topics, image_topic, info_topic
from depth_refiner_ros.messages import COMPRESSED_IMAGE, IMAGE


def recorded(images, infos=(), compressed=()):
    return (
        dict.fromkeys(images, IMAGE)
        | dict.fromkeys(infos, CAMERA_INFO)
        | dict.fromkeys(compressed, COMPRESSED_IMAGE)
    )


@pytest.mark.parametrize(
    ('topic', 'base', 'info'),
    [
        ('/a/image', '/a/image', '/a/camera_info'),
        ('/a/image/compressed', '/a/image', '/a/camera_info'),
        ('/a/image/compressedDepth', '/a/image', '/a/camera_info'),
        ('/image', '/image', '/camera_info'),
        ('/a/compressed_image', '/a/compressed_image', '/a/camera_info'),
    ],
)
def test_names_beside_an_image(topic, base, info):
    assert image_topic(topic) == base
    assert info_topic(topic) == info


# What drivers publish, and what a replay should take of it.
DRIVERS = {
    'realsense2_camera': (
        recorded(
            [
                '/camera/camera/aligned_depth_to_color/image_raw',
                '/camera/camera/color/image_raw',
                '/camera/camera/depth/image_rect_raw',
                '/camera/camera/infra1/image_rect_raw',
            ],
            [
                '/camera/camera/aligned_depth_to_color/camera_info',
                '/camera/camera/color/camera_info',
                '/camera/camera/depth/camera_info',
            ],
        ),
        '/camera/camera/aligned_depth_to_color/image_raw',
        '/camera/camera/color/image_raw',
    ),
    'openni2_camera': (
        recorded(
            [
                '/camera/depth/image_raw',
                '/camera/depth_registered/image_raw',
                '/camera/rgb/image_raw',
                '/camera/ir/image',
            ],
            ['/camera/depth_registered/camera_info', '/camera/rgb/camera_info'],
        ),
        '/camera/depth_registered/image_raw',
        '/camera/rgb/image_raw',
    ),
    'azure_kinect': (
        recorded(
            ['/depth_to_rgb/image_raw', '/depth/image_raw', '/rgb/image_raw', '/ir/image_raw'],
            ['/depth_to_rgb/camera_info', '/rgb/camera_info'],
        ),
        '/depth_to_rgb/image_raw',
        '/rgb/image_raw',
    ),
    'kinect2_bridge': (
        recorded(
            ['/kinect2/qhd/image_color_rect', '/kinect2/sd/image_ir_rect'],
            ['/kinect2/qhd/camera_info'],
            ['/kinect2/qhd/image_depth_rect/compressedDepth'],
        ),
        '/kinect2/qhd/image_depth_rect',
        '/kinect2/qhd/image_color_rect',
    ),
}


@pytest.mark.parametrize('driver', DRIVERS)
def test_topics_of_common_drivers(driver):
    topics, depth, color = DRIVERS[driver]
    found = camera_topics(topics)
    assert found['depth'][0] == depth
    assert found['color'][0] == color
    assert found['camera'] == [info_topic(depth)]
    assert found['color_camera'] == [info_topic(color)]


def test_infrared_is_no_colour_but_names_that_only_contain_ir_are():
    for topic in ('/ir/image', '/a/image_ir', '/a/ir1/image', '/a/infra2/image', '/a/IR/image'):
        assert camera_topics(recorded([topic]))['color'] == []
    for topic in ('/irobot/rgb/image', '/fir/image', '/first/image'):
        assert camera_topics(recorded([topic]))['color'] == [topic]


def test_capitals():
    found = camera_topics(recorded(['/Cam/Depth/Image', '/Cam/RGB/Image']))
    assert found['depth'] == ['/Cam/Depth/Image']
    assert found['color'] == ['/Cam/RGB/Image']


def test_own_outputs_are_no_inputs():
    outputs = [
        f'/camera/{stage}/{name}'
        for stage in ('depth_refined', 'depth_inpainted')
        for name in ('image_rect', 'stddev', 'provenance')
    ]
    found = camera_topics(recorded([*outputs, '/camera/reference/image_rect']))
    assert found == {'depth': [], 'color': [], 'camera': [], 'color_camera': []}


def test_a_camera_info_of_another_type_or_place_is_not_taken():
    topics = recorded(['/a/depth/image'], ['/b/depth/camera_info'])
    assert camera_topics(topics)['camera'] == []
    assert camera_topics(topics | {'/a/depth/camera_info': IMAGE})['camera'] == []


def test_other_types_and_nothing():
    assert camera_topics({'/depth': 'std_msgs/msg/String'})['depth'] == []
    assert camera_topics({})['color'] == []


def test_order_does_not_depend_on_the_recording():
    images = ['/b/depth/image_raw', '/a/depth/image_raw', '/a/depth/image_rect']
    for order in (images, images[::-1]):
        found = camera_topics(recorded(order))['depth']
        assert found == ['/a/depth/image_rect', '/a/depth/image_raw', '/b/depth/image_raw']
