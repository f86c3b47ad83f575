"""Runs a pipeline as a ROS 2 lifecycle node."""

from __future__ import annotations

import array
from collections.abc import Callable, Iterable
from functools import cache, partial
import signal
from typing import Any, TypeVar

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np
import numpy.typing as npt
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
    qos_profile_sensor_data,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rosidl_runtime_py.utilities import get_message

from ..config import Configuration, HostParameters, configure, port_topic
from ..data import DepthImage
from ..kernels import compile_kernels
from ..messages import COMPRESSED_IMAGE, IMAGE, MESSAGE_TYPE, MessageFamily, encode, transforms
from ..stage import (
    Declared,
    FrameLookup,
    Topic,
    declared_parameters,
    parameter_values,
    topic_inputs,
    updated_parameters,
)
from .live import Level, LiveRunner, Status
from .memory import keep_freed_memory

RosNode = TypeVar('RosNode', bound=Node)


@cache
def message_class(name: str) -> Any:
    """Return the class of a message, by a name like sensor_msgs/msg/Image."""
    return get_message(name)


def _make(name: str, /, **fields: Any) -> Any:
    """Build a message, assigning fields after construction.

    The generated constructor copies `uint8[]` element by element; assigning an `array.array` to
    the finished message does not.
    """
    message = message_class(name)()
    for field, value in fields.items():
        setattr(message, field, value)
    return message


def _octets(values: npt.NDArray[Any]) -> array.array[int]:
    packed = array.array('B')
    packed.frombytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return packed


def _floats(values: Iterable[float]) -> list[float]:
    return [float(value) for value in values]


FAMILY = MessageFamily(make=_make, octets=_octets, floats=_floats)

_TF_TYPE = 'tf2_msgs/msg/TFMessage'
_QOS_OVERRIDES = QoSOverridingOptions.with_default_policies()


class StageNode(LifecycleNode):  # type: ignore[misc]
    """A lifecycle node around a pipeline.

    Its parameters are those of the host, `topics.<port>` and `<stage>.<parameter>`, all declared
    with description and range; those of the stages can be changed while it runs.

    Args:
        stages: Stages to run, separated by commas; None reads the parameter `stages`.
        name: Name of the node.
        kwargs: Passed to `rclpy.node.Node`.

    Raises:
        ValueError: If a parameter is unknown or has a value that is not allowed.
    """

    def __init__(self, stages: str | None, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        given = {key: parameter.value for key, parameter in self._parameter_overrides.items()}
        if stages is not None:
            given['stages'] = stages
        # Everything is checked before it is declared: rclpy ignores what is misspelled, and
        # refuses a whole number in a YAML file where a float is meant.
        self._configuration = configure(given)
        self._pipeline_type = self._configuration.pipeline
        self._inputs = topic_inputs(self._pipeline_type)
        self._declare_parameters()
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._runner: LiveRunner | None = None
        self._pipeline: Any = None
        self._image_publishers: dict[str, Any] = {}
        self._inputs_now: list[Any] = []
        self._poll_timer: Any = None
        # Not through diagnostic_updater: by default it names two cameras' nodes alike.
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 1)
        self.create_timer(1.0, self._publish_status)

    # -- parameters

    def _declare_parameters(self) -> None:
        configuration = self._configuration
        for parameters in (configuration.host, configuration.parameters):
            values = parameter_values(parameters)
            for name, declared in declared_parameters(type(parameters)).items():
                self.declare_parameter(
                    name, values[name], descriptor(declared), ignore_override=True
                )
        for port, topic in self._inputs.items():
            text = f'Topic of the input {port}; empty: {topic.name}'
            of_topic = ParameterDescriptor(description=text, read_only=True)
            self.declare_parameter(f'topics.{port}', '', of_topic)

    def _on_set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        old = self._configuration
        of_host = declared_parameters(HostParameters)
        of_stages = declared_parameters(self._pipeline_type.Parameters)
        try:
            host = updated_parameters(
                old.host, {p.name: p.value for p in parameters if p.name in of_host}
            )
            stages = updated_parameters(
                old.parameters, {p.name: p.value for p in parameters if p.name in of_stages}
            )
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._configuration = Configuration(host, old.pipeline, stages, old.topics)
        if self._runner is not None:
            self._runner.configuration = self._configuration
        return SetParametersResult(successful=True)

    # -- lifecycle; rclpy swallows what these callbacks raise, so each says it first

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Build the pipeline and its publishers."""
        try:
            compile_kernels(say=self.get_logger().info)
            self._pipeline = self._pipeline_type(self._configuration.parameters)
        except (ValueError, OSError) as error:
            self.get_logger().error(f'cannot configure: {error}')
            return TransitionCallbackReturn.FAILURE
        for port, topic in self._pipeline_type.outputs.items():
            self._image_publishers[port] = self.create_lifecycle_publisher(
                message_class(MESSAGE_TYPE[topic.type]),
                topic.name,
                QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE),
                qos_overriding_options=_QOS_OVERRIDES,
            )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and subscribe."""
        result = super().on_activate(state)
        topics = {port: self._topic(port) for port in self._inputs}
        logger = self.get_logger()
        self._runner = LiveRunner(
            self._pipeline,
            self._configuration,
            topics,
            publish=lambda port, value: self._image_publishers[port].publish(
                encode(value, FAMILY)
            ),
            wanted=self._subscribed_outputs,
            publishers=self.count_publishers,
            warn=lambda text: logger.warning(text, throttle_duration_sec=5.0),
        )
        self._inputs_now = [self._subscribe(port, topic) for port, topic in self._inputs.items()]
        if any(isinstance(item, FrameLookup) for item in self._pipeline_type.inputs.values()):
            for name, durability in (
                ('/tf_static', QoSDurabilityPolicy.TRANSIENT_LOCAL),
                ('/tf', QoSDurabilityPolicy.VOLATILE),
            ):
                qos = QoSProfile(depth=100, durability=durability)
                self._inputs_now.append(
                    self.create_subscription(
                        message_class(_TF_TYPE), name, self._on_transforms, qos
                    )
                )
        half_deadline_s = self._configuration.host.deadline_s / 2
        self._poll_timer = self.create_timer(max(half_deadline_s, 0.005), self._runner.poll)
        logger.info('active: ' + ', '.join(f'{p} from {topic}' for p, topic in topics.items()))
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, so that an inactive node costs no bandwidth, and stop the worker."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the pipeline and its publishers."""
        for publisher in self._image_publishers.values():
            self.destroy_lifecycle_publisher(publisher)
        self._image_publishers.clear()
        self._pipeline = None
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, whatever the state was."""
        self._stop()
        return super().on_shutdown(state)

    def destroy_node(self) -> None:
        """Stop the worker before what it publishes with goes."""
        self._stop()
        super().destroy_node()

    def _stop(self) -> None:
        for subscription in self._inputs_now:
            self.destroy_subscription(subscription)
        self._inputs_now.clear()
        if self._poll_timer is not None:
            self.destroy_timer(self._poll_timer)
            self._poll_timer = None
        if self._runner is not None:
            self._runner.stop()
            self._runner = None

    # -- messages

    def _topic(self, port: str) -> str:
        name = port_topic(port, self._inputs[port], self._configuration.topics)
        return str(self.resolve_topic_name(name))

    def _subscribe(self, port: str, topic: Topic) -> Any:
        host = self._configuration.host
        message_type, name = MESSAGE_TYPE[topic.type], self._topic(port)
        depth = topic.type is DepthImage
        transport = host.depth_image_transport if depth else host.image_transport
        if message_type == IMAGE and transport != 'raw':
            message_type, name = COMPRESSED_IMAGE, f'{name}/{transport}'
        return self.create_subscription(
            message_class(message_type),
            name,
            partial(self._on_message, port),
            qos_profile_sensor_data,
            qos_overriding_options=_QOS_OVERRIDES,
        )

    def _on_message(self, port: str, message: Any) -> None:
        if self._runner is not None:
            self._runner.feed(port, message)

    def _on_transforms(self, message: Any) -> None:
        if self._runner is not None:
            self._runner.tree.update(transforms(message))

    def _subscribed_outputs(self) -> list[str]:
        return [
            port
            for port, publisher in self._image_publishers.items()
            if publisher.get_subscription_count() > 0
        ]

    def _publish_status(self) -> None:
        runner = self._runner
        level, text, values = runner.status() if runner else Status(Level.OK, 'inactive', {})
        stages = ', '.join(self._pipeline_type.stage_types)
        status = DiagnosticStatus(
            level=bytes([level]),
            name=f'{self.get_fully_qualified_name()}: {stages}',
            message=text,
            hardware_id='none',
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)
        if level > Level.OK:
            self.get_logger().warning(text, throttle_duration_sec=10.0)


def descriptor(declared: Declared) -> ParameterDescriptor:
    """Return what `ros2 param describe` prints of a parameter."""
    unit = f' [{declared.unit}]' if declared.unit else ''
    described = ParameterDescriptor(
        description=f'{declared.description}{unit}', read_only=not declared.live
    )
    if declared.choices:
        described.additional_constraints = f'One of {", ".join(declared.choices)}'
    if declared.range:
        low, high = declared.range
        if declared.type is int:
            described.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
        else:
            described.floating_point_range = [
                FloatingPointRange(from_value=float(low), to_value=float(high))
            ]
    return described


def run(stages: str | None, name: str, args: list[str] | None = None) -> int:
    """Run a node of stages until it is told to stop; return the exit code.

    The node configures and activates itself unless its parameter `autostart` is false, so that
    `ros2 run` works at once: launch_ros' own autostart is newer than Jazzy.
    """
    keep_freed_memory()
    return spin(name, lambda: StageNode(stages, name), args, ready=_started)


def spin(
    name: str,
    make: Callable[[], RosNode],
    args: list[str] | None = None,
    *,
    ready: Callable[[RosNode], bool] = lambda node: True,
) -> int:
    """Run a node until it is told to stop.

    Args:
        name: Of the node.
        make: Makes it; a ValueError is said instead of a traceback.
        args: Of the command line.
        ready: Whether the node is to be run, asked once.

    Returns:
        The exit code: 1 if it is not ready, 2 if it could not be made.
    """
    rclpy.init(args=args)
    node: RosNode | None = None
    try:
        node = make()
        if not ready(node):
            return 1
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except ValueError as error:
        rclpy.logging.get_logger(name).fatal(str(error))
        return 2
    finally:
        # Under ros2 launch Ctrl-C comes twice, from the terminal and from launch.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _started(node: StageNode) -> bool:
    if not node.get_parameter('autostart').value:
        return True
    success = TransitionCallbackReturn.SUCCESS
    return bool(node.trigger_configure() == success and node.trigger_activate() == success)
