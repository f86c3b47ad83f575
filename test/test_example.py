"""The example picks what is trustworthy; ROS itself is stood in for."""

from pathlib import Path
import runpy
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[1] / 'examples' / 'pick_nearest_point.py'
ROS = {
    'cv_bridge': ['CvBridge'],
    'geometry_msgs.msg': ['PointStamped'],
    'message_filters': ['Subscriber', 'TimeSynchronizer'],
    'rclpy': [],
    'rclpy.executors': ['ExternalShutdownException'],
    'rclpy.node': ['Node'],
    'sensor_msgs.msg': ['Image', 'PointCloud2'],
    'sensor_msgs_py': ['point_cloud2'],
}


@pytest.fixture
def pick(monkeypatch):
    """The example's class, with ROS's names empty."""
    for name, members in ROS.items():
        module = ModuleType(name)
        for member in members:
            setattr(module, member, type(member, (), {}))
        monkeypatch.setitem(sys.modules, name, module)
    found = runpy.run_path(str(EXAMPLE))
    point = type('PointStamped', (), {'__init__': lambda self, header: None})
    monkeypatch.setitem(found['PickNearestPoint'].on_frame.__globals__, 'PointStamped', point)
    clouds = SimpleNamespace(read_points_numpy=lambda cloud, *_, **__: cloud.points)
    monkeypatch.setitem(found['PickNearestPoint'].on_frame.__globals__, 'point_cloud2', clouds)
    point.point = SimpleNamespace()
    return found['PickNearestPoint']


@pytest.mark.parametrize('code', [0, 3, 4, 5, 6, 7])
def test_nothing_invented_is_picked(pick, code):
    # Every origin nearer than the other: 1 m is invented, 2 m measured.
    depth_m = np.full((4, 4), 2.0, np.float32)
    depth_m[:2] = 1.0
    marks = np.where(depth_m == 1, code, 2).astype(np.uint8)
    cloud = SimpleNamespace(
        header=None, height=4, width=4, points=np.dstack([depth_m, depth_m, depth_m])
    )
    published = []
    node = SimpleNamespace(
        bridge=SimpleNamespace(imgmsg_to_cv2=lambda image: image.array),
        max_stddev_m=0.005,
        min_neighbours=5,
        publisher=SimpleNamespace(publish=lambda message: published.append(message.point.z)),
    )
    images = [
        SimpleNamespace(array=array, encoding='32FC1')
        for array in (depth_m, np.full((4, 4), 0.001, np.float32), marks)
    ]
    pick.on_frame(node, cloud, *images)
    assert published == [2.0]
