"""Starts the depth pipeline for a camera: ros2 launch depth_refiner_ros pipeline.launch.py -s"""

from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

CAMERAS = ['realsense', 'kinect_v1', 'kinect_v2', 'azure_kinect', 'orbbec', 'oak', 'custom']


def argument(name, default, description, **constraints):
    return DeclareLaunchArgument(
        name, default_value=default, description=description, **constraints
    )


def generate_launch_description():
    share = FindPackageShare('depth_refiner_ros')
    preset = [share, '/config/cameras/', LaunchConfiguration('camera'), '.yaml']
    default_params = PathJoinSubstitution([share, 'config', 'pipeline.yaml'])
    default_rviz = PathJoinSubstitution([share, 'rviz', 'pipeline.rviz'])
    stages = 'refine_depth,inpaint_depth,project_points'
    use_sim_time = ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool)
    return LaunchDescription(
        [
            argument('camera', 'custom', 'Driver whose topics are used.', choices=CAMERAS),
            argument('stages', stages, 'Stages to run, in order, separated by commas.'),
            argument('params_file', default_params, "Parameters, on top of the camera's."),
            argument('namespace', 'camera', 'Namespace of the node and of its topics.'),
            argument('rviz', 'false', 'Open RViz.', choices=['true', 'false']),
            argument('log_level', 'info', 'debug, info, warn, error or fatal.'),
            argument('use_sim_time', 'false', 'Take time from /clock, as when playing a bag.'),
            Node(
                package='depth_refiner_ros',
                executable='pipeline_node',
                name='depth_refiner',
                namespace=LaunchConfiguration('namespace'),
                output='screen',
                parameters=[
                    ParameterFile(preset),
                    ParameterFile(LaunchConfiguration('params_file')),
                    {
                        'stages': ParameterValue(LaunchConfiguration('stages'), value_type=str),
                        'use_sim_time': use_sim_time,
                    },
                ],
                arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
            ),
            Node(
                package='rviz2',
                executable='rviz2',
                arguments=['-d', default_rviz],
                parameters=[{'use_sim_time': use_sim_time}],
                condition=IfCondition(LaunchConfiguration('rviz')),
            ),
        ]
    )
