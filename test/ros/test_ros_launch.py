"""`ros2 launch` of pipeline.launch.py, as a process; needs the package installed."""

import os
from pathlib import Path
import signal
import subprocess
import time

import pytest

packages = pytest.importorskip('ament_index_python.packages')

try:
    packages.get_package_share_directory('depth_refiner_ros')
except packages.PackageNotFoundError:
    pytest.skip('depth_refiner_ros is not installed: colcon build it', allow_module_level=True)


def launch(log: Path, *arguments):
    with log.open('w') as out:
        return subprocess.Popen(
            ['ros2', 'launch', 'depth_refiner_ros', 'pipeline.launch.py', *arguments],
            stdout=out,
            stderr=subprocess.STDOUT,
            # ROS stops on SIGINT, which background jobs of a shell may have been told to ignore.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            start_new_session=True,
        )


def wait_for(log: Path, text: str, timeout_s=30.0):
    end_s = time.monotonic() + timeout_s
    while text not in log.read_text():
        assert time.monotonic() < end_s, log.read_text()
        time.sleep(0.1)


CAMERAS = ['custom', 'realsense', 'kinect_v1', 'kinect_v2', 'azure_kinect', 'orbbec', 'oak']


@pytest.mark.parametrize('camera', CAMERAS)
def test_launches_for_every_camera_and_stops_cleanly(tmp_path, camera):
    log = tmp_path / 'log'
    process = launch(log, f'camera:={camera}')
    try:
        wait_for(log, 'active: depth from /')
    finally:
        # As a terminal does: the node gets its own, and another one from launch.
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=20)
    text = log.read_text()
    assert 'process has finished cleanly' in text
    assert 'Traceback' not in text


def stopped(process):
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=20)


@pytest.mark.parametrize(
    ('arguments', 'depth'),
    [
        (['camera:=realsense'], '/camera/camera/aligned_depth_to_color/image_raw'),
        (
            ['camera:=realsense', 'namespace:=front'],
            '/front/camera/aligned_depth_to_color/image_raw',
        ),
        (['camera:=kinect_v2', 'namespace:=rear'], '/rear/qhd/image_depth_rect'),
        (
            ['camera:=azure_kinect', 'namespace:=rear', 'camera_namespace:=/top'],
            '/top/depth_to_rgb/image_raw',
        ),
        (['namespace:=front'], '/front/depth/image_rect'),
    ],
)
def test_topics_of_a_preset_follow_the_namespace(tmp_path, arguments, depth):
    log = tmp_path / 'log'
    process = launch(log, *arguments)
    try:
        wait_for(log, f'active: depth from {depth},')
    finally:
        stopped(process)


@pytest.mark.parametrize(
    ('argument', 'why'),
    [
        ('params_file:=/no/such.yaml', 'Error opening YAML file'),
        ('log_level:=loud', 'does not use a valid severity level'),
        ('stages:=refine', "unknown stage 'refine'"),
    ],
)
def test_a_launch_that_fails_says_why_and_leaves_nothing(tmp_path, argument, why):
    log = tmp_path / 'log'
    process = launch(log, argument)
    process.wait(timeout=60)
    text = log.read_text()
    assert why in text
    assert 'Traceback' not in text


def test_without_rviz_the_pipeline_starts_alone(tmp_path):
    try:
        packages.get_package_prefix('rviz2')
        pytest.skip('rviz2 is installed here')
    except packages.PackageNotFoundError:
        pass
    log = tmp_path / 'log'
    process = launch(log, 'rviz:=true')
    try:
        wait_for(log, 'active: depth from /')
    finally:
        stopped(process)
    assert 'rviz2 is not installed, so only the pipeline starts' in log.read_text()


def test_stages_argument(tmp_path):
    log = tmp_path / 'log'
    process = launch(log, 'stages:=project_points')
    try:
        wait_for(log, 'active: depth from /camera/depth/image_rect')
    finally:
        os.kill(process.pid, signal.SIGINT)
        process.wait(timeout=20)


def test_misspelled_parameter_is_one_line(tmp_path):
    params = tmp_path / 'p.yaml'
    params.write_text('/**:\n  ros__parameters:\n    refine_depth: {sensors: kinect_v1}\n')
    log = tmp_path / 'log'
    process = launch(log, f'params_file:={params}')
    process.wait(timeout=30)
    text = log.read_text()
    assert 'unknown parameter refine_depth.sensors; did you mean refine_depth.sensor?' in text
    assert 'Traceback' not in text
