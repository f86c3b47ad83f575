from __future__ import annotations

import pytest

from depth_refiner_ros.discovery import (
    CAMERA_INFO,
    camera_namespace,
    camera_topics,
    companion_topic,
    guessed_topics,
    image_topic,
    info_topic,
)
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


DRIVERS_APART = [
    # (image, where its camera's topics begin, its camera_info)
    ('/camera/camera/aligned_depth_to_color/image_raw', '/camera/camera', 'beside'),
    ('/camera/camera/infra1/image_rect_raw', '/camera/camera', 'beside'),
    ('/camera/depth_registered/image_raw/compressedDepth', '/camera', 'beside'),
    ('/camera/depth/image_rect_raw/republished', '/camera', 'beside'),
    ('/kinect2/qhd/image_depth_rect', '/kinect2/qhd', 'beside'),
    ('/depth_to_rgb/image_raw', '', 'beside'),
    ('/k4a/rgb_to_depth/image_raw', '/k4a', 'beside'),
    ('/oak/stereo/image_raw', '/oak', 'beside'),
    ('/stereo_publisher/stereo/depth', '', 'beside'),
    ('/color_publisher/color/image', '', 'beside'),
    ('/zed/zed_node/depth/depth_registered', '/zed/zed_node', 'beside'),
    ('/zed/zed_node/rgb/color/rect/image', '/zed/zed_node', 'beside'),
    ('/zed/zed_node/left/image_rect_color', '/zed/zed_node', 'beside'),
    ('/left/depth/image_raw', '/left', 'beside'),
    ('/robot/arm/right/color/image_raw', '/robot/arm/right', 'beside'),
    ('/front_depth_camera/depth/image_raw', '/front_depth_camera', 'beside'),
    ('/camera/depth_image', '/camera', 'beside'),
    (
        '/device_0/sensor_0/Depth_0/image/data',
        '/device_0',
        '/device_0/sensor_0/Depth_0/info/camera_info',
    ),
]


@pytest.mark.parametrize(('topic', 'namespace', 'info'), DRIVERS_APART)
def test_the_namespace_of_a_camera(topic, namespace, info):
    assert camera_namespace(topic) == namespace
    if info == 'beside':
        info = f'{image_topic(topic).rpartition("/")[0]}/camera_info'
    assert info_topic(topic) == info


WANTED = {
    'depth': '/camera/depth/image_rect',
    'camera': '/camera/depth/camera_info',
    'color': '/camera/color/image_rect',
    'color_camera': '/camera/color/camera_info',
    'provenance': '/camera/depth/provenance',
}


def test_a_camera_info_is_that_of_its_own_image_even_where_the_stages_name_is_recorded():
    aligned = '/camera/aligned_depth_to_color'
    topics = recorded(
        ['/camera/depth/image_rect_raw', f'{aligned}/image_raw'],
        ['/camera/depth/camera_info', f'{aligned}/camera_info'],
    )
    found = guessed_topics(WANTED, topics)
    assert found['depth'] == f'{aligned}/image_raw'
    assert found['camera'] == f'{aligned}/camera_info'
    assert found['provenance'] == f'{aligned}/provenance'
    # Depth without its own camera_info comes last, and where it is named, has none.
    del topics[f'{aligned}/camera_info']
    assert guessed_topics(WANTED, topics)['depth'] == '/camera/depth/image_rect_raw'
    named = WANTED | {'depth': f'{aligned}/image_raw'}
    found = guessed_topics(named, topics, fixed=['depth'])
    assert found['camera'] == f'{aligned}/camera_info'


def test_colour_is_never_that_of_another_camera():
    topics = recorded(
        ['/front/depth/image_raw', '/rear/color/image_raw', '/rear/depth/image_raw'],
        ['/front/depth/camera_info', '/rear/color/camera_info', '/rear/depth/camera_info'],
    )
    found = guessed_topics(WANTED, topics)
    assert found['depth'] == '/front/depth/image_raw'
    assert found['color'] not in topics
    assert found['color_camera'] not in topics
    named = WANTED | {'depth': '/rear/depth/image_raw'}
    found = guessed_topics(named, topics, fixed=['depth'])
    assert found['color'] == '/rear/color/image_raw'
    assert found['color_camera'] == '/rear/color/camera_info'
    # Nor the stages' own colour beside another camera's depth.
    topics = recorded(['/head/depth/image_raw', WANTED['color']], ['/head/depth/camera_info'])
    assert guessed_topics(WANTED, topics)['color'] not in topics


def test_colour_moved_to_the_depth_goes_with_depth_that_was_not_moved():
    color = ['/rgb/image_raw', '/rgb_to_depth/image_raw']
    for depth, best in (('/depth/image_raw', color[1]), ('/depth_to_rgb/image_raw', color[0])):
        found = camera_topics(recorded([depth, *color]))
        assert (found['depth'], found['color'][0]) == ([depth], best)


def test_one_camera_info_may_serve_depth_and_colour():
    topics = recorded(['/camera/depth_image', '/camera/image'], ['/camera/camera_info'])
    found = guessed_topics(WANTED, topics)
    assert found['depth'] == '/camera/depth_image'
    assert found['color'] == '/camera/image'
    assert found['camera'] == found['color_camera'] == '/camera/camera_info'


def test_encodings_tell_what_names_do_not():
    topics = recorded(['/depth_camera/image_raw', '/depth_camera/depth/image_raw', '/a/thermal'])
    encodings = {'/depth_camera/image_raw': 'bgr8', '/a/thermal': 'mono16'}
    found = camera_topics(topics, encodings)
    assert found['depth'] == ['/depth_camera/depth/image_raw']
    assert found['color'] == ['/depth_camera/image_raw']
    assert camera_topics({'/a/thermal': IMAGE}, encodings)['color'] == []


def test_what_describes_a_named_image_lies_beside_it():
    images = {'depth': '/head/depth/image_raw/compressedDepth', 'color': 'rgb'}
    assert companion_topic('camera', images) == '/head/depth/camera_info'
    assert companion_topic('provenance', images) == '/head/depth/provenance'
    assert companion_topic('color_camera', images) == 'camera_info'
    assert companion_topic('stddev', {}) == companion_topic('depth', images) == ''
