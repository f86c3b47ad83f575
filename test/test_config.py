from __future__ import annotations

import re
import textwrap

import numpy as np
import pytest

from depth_refiner_ros import config
from depth_refiner_ros.config import (
    camera_names,
    camera_preset,
    configure,
    encoded_as,
    pipeline_type,
    port_topics,
    read_parameters,
    resolve,
    share_folder,
)
from depth_refiner_ros.data import ColorImage, DepthImage, Header
from depth_refiner_ros.parameters import parameter_values
from depth_refiner_ros.stage import Topic, topic_inputs
from depth_refiner_ros.stages import STAGES


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / 'p.yaml'
        path.write_text(content)
        return path

    return write


# ------------------------------------------------------------------------------ files


@pytest.mark.parametrize(
    'content',
    [
        '/**: {ros__parameters: {slop_s: 0.1, refine_depth: {temporal_filter: false}}}',
        '/**:\n  ros__parameters:\n    slop_s: 0.1\n    refine_depth.temporal_filter: false\n',
        'my_node: {ros__parameters: {slop_s: 0.1, refine_depth: {temporal_filter: false}}}',
        'slop_s: 0.1\nrefine_depth: {temporal_filter: false}',
        '/**: {ros__parameters: {slop_s: 0.5, refine_depth: {temporal_filter: false}}}\n'
        'node: {ros__parameters: {slop_s: 0.1}}',
    ],
)
def test_a_parameter_file_in_every_form(file, content):
    assert read_parameters(file(content)) == {
        'slop_s': 0.1,
        'refine_depth.temporal_filter': False,
    }


@pytest.mark.parametrize(
    'content',
    ['', '# nothing\n', '{}', '/**: {ros__parameters: {}}', '/**:\n  ros__parameters:\n'],
)
def test_an_empty_file_changes_nothing(file, content):
    assert read_parameters(file(content)) == {}


@pytest.mark.parametrize(
    'content',
    [
        'a: [',
        '- 1',
        'words',
        '3',
        '/**: {ros__parameters: 3}',
        '/**: {ros__parameters: [a]}',
        '\0',
    ],
)
def test_a_file_of_another_form(file, content):
    with pytest.raises(ValueError, match=r'p\.yaml') as caught:
        read_parameters(file(content))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('content', ['/**:', 'topics:', 'refine_depth:\ninpaint_depth: ~'])
def test_empty_blocks_change_nothing(file, content):
    configuration = configure(read_parameters(file(content)))
    assert configuration.host == config.HostParameters()
    assert configuration.topics == {}
    plain = configure().parameters
    assert parameter_values(configuration.parameters) == parameter_values(plain)


def test_the_example_of_the_module_works(file):
    example = re.search(r'\n( +/\*\*:.*?)\n\Z', config.__doc__, re.S)[1]
    configuration = configure(read_parameters(file(textwrap.dedent(example))))
    assert configuration.topics == {'depth': '/camera/depth/image_rect_raw'}
    assert configuration.parameters.refine_depth.sensor == 'realsense_d400'
    assert not configuration.parameters.refine_depth.temporal_filter


def test_numbers_and_lists_as_ros_and_people_write_them(file):
    values = read_parameters(file('slop_s: 1e-2\nstages: [refine_depth, project_points]'))
    configuration = configure(values)
    assert configuration.host.slop_s == 0.01
    assert list(configuration.pipeline.stage_types) == ['refine_depth', 'project_points']


def test_what_is_given_twice_is_refused(file):
    text = 'refine_depth: {sensor: kinect_v1}\nrefine_depth: {temporal_filter: false}'
    with pytest.raises(ValueError, match='refine_depth is given twice'):
        read_parameters(file(text))


@pytest.mark.parametrize(
    ('word', 'value'),
    [('no', False), ('Off', False), ('false', False), ('yes', True), ('ON', True)],
)
def test_words_for_bools(file, word, value):
    for quote in ('', '"'):
        content = f'refine_depth: {{temporal_filter: {quote}{word}{quote}}}'
        configuration = configure(read_parameters(file(content)))
        assert configuration.parameters.refine_depth.temporal_filter is value


def test_yaml_runs_no_code(file):
    with pytest.raises(ValueError, match='not a parameter file'):
        read_parameters(file('a: !!python/object/apply:os.getcwd []'))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_parameters(tmp_path / 'no.yaml')
    with pytest.raises(IsADirectoryError):
        read_parameters(tmp_path)


# ----------------------------------------------------------------------------- configure


def test_later_sources_win():
    configuration = configure(
        {'slop_s': 0.1, 'refine_depth.spatial_strength': 0.5, 'topics.depth': '/a'},
        {'slop_s': 0.2, 'topics.depth': '/b'},
    )
    assert configuration.host.slop_s == 0.2
    assert configuration.parameters.refine_depth.spatial_strength == 0.5
    assert configuration.topics == {'depth': '/b'}


def test_whole_numbers_serve_as_floats_and_nothing_else_is_converted():
    assert configure({'slop_s': 1}).host.slop_s == 1.0
    for value in ('0.1', True, None, [0.1], {'a': 1}):
        with pytest.raises(ValueError, match='slop_s'):
            configure({'slop_s': value})
    with pytest.raises(ValueError, match='must be a bool'):
        configure({'refine_depth.temporal_filter': 1})


def test_stages_that_do_not_run_are_checked_and_left_out():
    values = {'stages': 'project_points', 'refine_depth.spatial_strength': 0.5}
    configuration = configure(values)
    assert list(configuration.pipeline.stage_types) == ['project_points']
    assert not hasattr(configuration.parameters, 'refine_depth')
    with pytest.raises(ValueError, match='between 0 and 1'):
        configure(values | {'refine_depth.spatial_strength': 7.0})


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ({'slops': 0.1}, 'did you mean slop_s'),
        ({'refine_depth.sensr': 'x'}, 'did you mean refine_depth.sensor'),
        ({'refine_depth': 3}, 'unknown parameter refine_depth'),
        ({'refinedepth.sensor': 'kinect_v1'}, 'unknown parameter refinedepth.sensor'),
        ({'slop_s': float('nan')}, 'finite'),
        ({'slop_s': None}, 'slop_s has no value'),
        ({'inpaint_depth.model': None}, "write '' for an empty text"),
        ({'inpaint_depth.model': False}, 'put it in quotes'),
        ({'refine_depth.temporal_filter': 'maybe'}, 'must be a bool'),
        ({'stages': [3]}, "unknown stage '3'"),
        ({'slop_s': 1.0001}, 'between 0 and 1 s'),
        ({'depth_encoding': '8UC1'}, 'one of same, 16UC1, 32FC1'),
        ({'stages': 'polish'}, 'known: '),
        ({'stages': 'project_points,project_points'}, 'twice'),
        ({'stages': ' , '}, 'at least one stage'),
        ({'topics.colour': '/x'}, 'known: '),
        ({'topics.depth': 1}, 'must be the name of a topic'),
        ({'topics': '/x'}, 'unknown parameter topics'),
    ],
)
def test_what_is_refused(values, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - each its own words
        configure(values)
    assert words in str(caught.value)


def test_what_only_ros_reads_is_left_alone():
    configure({'use_sim_time': True, 'qos_overrides./points.publisher.depth': 5})


def test_stage_names_may_have_blanks_and_keep_their_order():
    pipeline = pipeline_type(' inpaint_depth , project_points,')
    assert list(pipeline.stage_types) == ['inpaint_depth', 'project_points']


# ------------------------------------------------------------------------------- topics


@pytest.mark.parametrize(
    ('topic', 'namespace', 'resolved'),
    [
        ('points', '/camera', '/camera/points'),
        ('points', 'camera/', '/camera/points'),
        ('points', '/a/b', '/a/b/points'),
        ('points', '', '/points'),
        ('points', '/', '/points'),
        ('/points', '/camera', '/points'),
    ],
)
def test_resolve(topic, namespace, resolved):
    assert resolve(topic, namespace) == resolved


def test_port_topics():
    inputs = {'depth': Topic(DepthImage, 'depth/image'), 'color': Topic(ColorImage, 'color/image')}
    assert port_topics(inputs, {'color': 'rgb'}, 'ns') == {
        'depth': '/ns/depth/image',
        'color': '/ns/rgb',
    }


def test_what_describes_a_named_image_is_read_beside_it():
    inputs = topic_inputs(pipeline_type('inpaint_depth'))
    topics = port_topics(inputs, {'depth': '/head/depth/image_raw'}, 'ns')
    assert topics['camera'] == '/head/depth/camera_info'
    assert topics['stddev'] == '/head/depth/stddev'
    assert topics['color_camera'] == '/ns/color/camera_info'


def test_a_presets_camera_info_does_not_describe_another_image():
    preset = {'topics.depth': '/a/image', 'topics.camera': '/a/camera_info'}
    assert configure(preset, {'topics.depth': '/b/image'}).topics == {'depth': '/b/image'}
    both = configure(preset, {'topics.depth': '/b/image', 'topics.camera': '/c/camera_info'})
    assert both.topics == {'depth': '/b/image', 'camera': '/c/camera_info'}
    assert configure(preset, {'slop_s': 0.1}).topics['camera'] == '/a/camera_info'


def test_the_unit_of_depth_is_metres_of_a_count():
    assert configure({'depth_unit_m': 0.00025}).host.depth_unit_m == 0.00025
    with pytest.raises(ValueError, match='depth_unit_m'):
        configure({'depth_unit_m': 1000.0})


def test_encoded_as():
    depth = DepthImage(Header(1, 'a'), np.ones((2, 2), np.float32), '16UC1')
    assert encoded_as(depth, 'same') is depth
    assert encoded_as(depth, '16UC1') is depth
    assert encoded_as(depth, '32FC1').encoding == '32FC1'
    assert encoded_as('no depth', '32FC1') == 'no depth'


# ------------------------------------------------------------------------------- presets


@pytest.mark.parametrize('camera', camera_names())
def test_every_preset_configures_every_stage(camera):
    for name in STAGES:
        configure(camera_preset(camera), {'stages': name})


def test_the_shipped_parameter_file_is_valid():
    values = read_parameters(share_folder('config') / 'pipeline.yaml')
    assert configure(values).host == config.HostParameters()


def test_unknown_preset_and_folder(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r'known: .*realsense'):
        camera_preset('webcam')
    with pytest.raises(ValueError, match='unknown camera'):
        camera_preset('../pipeline')
    with pytest.raises(FileNotFoundError, match='without its folder'):
        share_folder('no_such_folder')


def test_share_folder_of_an_installation(monkeypatch, tmp_path):
    package = tmp_path / 'lib/python3/site-packages/depth_refiner_ros'
    share = tmp_path / 'share/depth_refiner_ros/config'
    for folder in (package, share):
        folder.mkdir(parents=True)
    monkeypatch.setattr(config, '__file__', str(package / 'config.py'))
    assert share_folder('config') == share


def test_topics_lie_in_the_namespace_of_the_cameras_driver():
    preset = camera_preset('realsense')
    assert configure(preset).topics['depth'] == '/camera/camera/aligned_depth_to_color/image_raw'
    moved = configure(preset, {'camera_namespace': '/front/camera', 'topics.color': '/c/image'})
    assert moved.topics['camera'] == '/front/camera/aligned_depth_to_color/camera_info'
    assert moved.topics['color'] == '/c/image'
    assert configure(camera_preset('azure_kinect')).topics['color'] == '/rgb/image_raw'
    assert configure({'topics.depth': 'depth/image'}).topics['depth'] == 'depth/image'


def test_a_stage_parameter_without_its_stage_is_found():
    with pytest.raises(ValueError, match=r'did you mean refine_depth\.sensor or inpaint_depth'):
        configure({'sensor': 'kinect_v2'})
