"""How fast a pipeline runs here: its stages, the hosts around it, and against what.

On a shared machine a time says little. So everything is timed by the clock and in processor time,
in turns with two references on the same frames: copying the frame's own bytes, which no pipeline
can undercut, and librealsense's filters, which users run today. A reference is repeated until it
takes about as long as the pipeline, ratios are taken turn by turn, and their median is reported:
what slows one turn down slows both sides of its ratio.

Rates and latencies are those of ros2_benchmark (NVIDIA-ISAAC-ROS/ros2_benchmark on GitHub): frames
are sent at a fixed rate, back and forth as in its SWEEPING mode; a frame's latency runs from the
moment it is sent; jitter is the change from one interval between results to the next; the peak
rate is the highest with fewer than 5 % of the frames missed. Three things differ. The search goes
on until it knows the rate to 5 %: its own 5 Hz are a third of what a CPU does here. A mean rate
divides by the intervals, not by the frames. And fixed rates beyond the peak are measured too, for
that latency stays bounded there is the point of a live host.
"""
