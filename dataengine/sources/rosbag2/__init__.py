"""ROS 2 bags: folders and files."""
