"""Starts the depth pipeline for a camera: ros2 launch depth_refiner_ros pipeline.launch.py -s"""

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, LogInfo, Shutdown
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node, SetParameter
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

# By camera, the frame of its depth: what RViz draws in.
FRAMES = {
    'realsense': 'camera_color_optical_frame',
    'kinect_v1': 'camera_rgb_optical_frame',
    'kinect_v2': 'kinect2_rgb_optical_frame',
    'azure_kinect': 'rgb_camera_link',
    'orbbec': 'camera_color_optical_frame',
    'oak': 'oak_rgb_camera_optical_frame',
    'custom': 'camera_depth_optical_frame',
}
SHOWN = ['points', 'depth_refined/image_rect']
SHOWN += ['depth_inpainted/image_rect', 'depth_inpainted/stddev']


def argument(name, default, description, **constraints):
    return DeclareLaunchArgument(
        name, default_value=default, description=description, **constraints
    )


def is_installed(package):
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        return False
    return True


def generate_launch_description():
    share = FindPackageShare('depth_refiner_ros')
    camera, namespace = LaunchConfiguration('camera'), LaunchConfiguration('namespace')
    preset = [share, '/config/cameras/', camera, '.yaml']
    default_params = PathJoinSubstitution([share, 'config', 'pipeline.yaml'])
    default_rviz = PathJoinSubstitution([share, 'rviz', 'pipeline.rviz'])
    stages = 'refine_depth,inpaint_depth,project_points'
    use_sim_time = ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool)
    driver = LaunchConfiguration('camera_namespace')
    # A driver started in another namespace publishes there, as each driver's documentation says.
    moved = PythonExpression(["'", driver, "' != '' or '", namespace, "'.strip('/') != 'camera'"])
    below = PythonExpression(["'/camera' if '", camera, "' == 'realsense' else ''"])
    moved_to = PythonExpression(
        ["'", driver, "' or '/' + '", namespace, "'.strip('/') + '", below, "'"]
    )
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        arguments=['-d', default_rviz, '-f', LaunchConfiguration('fixed_frame')],
        remappings=[(f'/camera/{topic}', ['/', namespace, f'/{topic}']) for topic in SHOWN],
        parameters=[{'use_sim_time': use_sim_time}],
        condition=IfCondition(LaunchConfiguration('rviz')),
    )
    no_rviz = LogInfo(
        msg='rviz2 is not installed, so only the pipeline starts: '
        'sudo apt install ros-$ROS_DISTRO-rviz2',
        condition=IfCondition(LaunchConfiguration('rviz')),
    )
    return LaunchDescription(
        [
            argument('camera', 'custom', 'Driver whose topics are used.', choices=[*FRAMES]),
            argument('stages', stages, 'Stages to run, in order, separated by commas.'),
            argument('params_file', default_params, "Parameters, on top of the camera's."),
            argument('namespace', 'camera', 'Namespace of the node and of its topics.'),
            argument(
                'camera_namespace',
                '',
                "Namespace of the driver's topics; empty: its default, or, with another "
                'namespace, the same one (RealSense: NAMESPACE/camera).',
            ),
            argument('rviz', 'false', 'Open RViz, if it is installed.', choices=['true', 'false']),
            argument(
                'fixed_frame',
                PythonExpression([str(FRAMES), "['", camera, "']"]),
                'Frame that RViz draws in: the frame_id of the depth.',
            ),
            argument('log_level', 'info', 'debug, info, warn, error or fatal.'),
            argument('use_sim_time', 'false', 'Take time from /clock, as when playing a bag.'),
            SetParameter('camera_namespace', moved_to, condition=IfCondition(moved)),
            Node(
                package='depth_refiner_ros',
                executable='pipeline_node',
                name='depth_refiner',
                namespace=namespace,
                output='screen',
                # Read by rcl itself, which refuses a file that is not there.
                arguments=[
                    *('--ros-args', '--params-file', preset),
                    *('--params-file', LaunchConfiguration('params_file')),
                    *('--log-level', LaunchConfiguration('log_level')),
                ],
                parameters=[
                    {
                        'stages': ParameterValue(LaunchConfiguration('stages'), value_type=str),
                        'use_sim_time': use_sim_time,
                    },
                ],
                # RViz does not outlive it.
                on_exit=Shutdown(reason='the pipeline has ended'),
            ),
            rviz if is_installed('rviz2') else no_rviz,
        ]
    )
