"""Use it from your node: picks the nearest point that a gripper may trust.

Subscribes to the cloud and to the depth, standard deviation and provenance beside it, leaves out
what was invented or is uncertain, and publishes the nearest point that has enough neighbours at
the same distance to be a surface. Run it beside the pipeline:

    ros2 launch depth_refiner_ros pipeline.launch.py camera:=realsense
    python3 examples/pick_nearest_point.py --ros-args -r __ns:=/camera
"""

from cv_bridge import CvBridge
from geometry_msgs.msg import PointStamped
from message_filters import Subscriber, TimeSynchronizer
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import Image, PointCloud2
from sensor_msgs_py import point_cloud2

from depth_refiner_ros.data import trusted


class PickNearestPoint(Node):
    """Publishes the nearest trustworthy point as `grasp_point`."""

    def __init__(self):
        super().__init__('pick_nearest_point')
        self.max_stddev_m = self.declare_parameter('max_stddev_m', 0.005).value
        self.min_neighbours = self.declare_parameter('min_neighbours', 30).value
        self.bridge = CvBridge()
        self.publisher = self.create_publisher(PointStamped, 'grasp_point', 1)
        # All four carry the stamp of the depth frame they were made from.
        self.synchronizer = TimeSynchronizer(
            [
                Subscriber(self, PointCloud2, 'points'),
                Subscriber(self, Image, 'depth_inpainted/image_rect'),
                Subscriber(self, Image, 'depth_inpainted/stddev'),
                Subscriber(self, Image, 'depth_inpainted/provenance'),
            ],
            queue_size=5,
        )
        self.synchronizer.registerCallback(self.on_frame)

    def on_frame(self, cloud, depth, stddev, provenance):
        depth_m = self.bridge.imgmsg_to_cv2(depth).astype(np.float32)
        if depth.encoding == '16UC1':
            depth_m *= 1e-3
        stddev_m = self.bridge.imgmsg_to_cv2(stddev)
        seen = trusted(self.bridge.imgmsg_to_cv2(provenance))  # measured or refined
        sure = seen & (stddev_m < self.max_stddev_m) & (depth_m > 0)
        if sure.sum() < self.min_neighbours:
            self.get_logger().info('nothing to grasp', throttle_duration_sec=5.0)
            return
        # The nearest distance that enough pixels share, so that a stray one is not grasped.
        nearest_m = np.partition(depth_m[sure], self.min_neighbours - 1)
        row, column = np.argwhere(sure & (depth_m <= nearest_m[self.min_neighbours - 1]))[0]
        points = point_cloud2.read_points_numpy(
            cloud, ('x', 'y', 'z'), reshape_organized_cloud=True
        )
        x, y, z = points.reshape(cloud.height, cloud.width, 3)[row, column]
        message = PointStamped(header=cloud.header)
        message.point.x, message.point.y, message.point.z = float(x), float(y), float(z)
        self.publisher.publish(message)


def main():
    rclpy.init()
    try:
        rclpy.spin(PickNearestPoint())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
