"""What connects stages to the world: the only importers of rclpy, rosbags and zenoh."""
