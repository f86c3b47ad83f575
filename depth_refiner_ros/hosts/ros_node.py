"""Runs a pipeline as a ROS 2 lifecycle node."""

from __future__ import annotations

import array
from collections.abc import Callable, Iterable
from functools import cache, partial
import re
import sys
import time
from typing import Any, TypeVar

import cv2
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
from rclpy.clock import Clock, ClockType

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSPolicyKind,
    QoSProfile,
    QoSReliabilityPolicy,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from rosidl_runtime_py.utilities import get_message

from ..config import Configuration, HostParameters, configure, port_topic
from ..data import DepthImage
from ..kernels import compile_kernels
from ..messages import COMPRESSED_IMAGE, IMAGE, MESSAGE_TYPE, MessageFamily, encode, transforms
from ..parameters import Declared, declared_parameters, parameter_values, updated_parameters
from ..stage import Topic, needs_tf, topic_inputs
from .live import Level, LiveRunner, Status
from .memory import keep_freed_memory
from .stopping import Stopping

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
_QOS_OVERRIDES = QoSOverridingOptions(
    (
        QoSPolicyKind.HISTORY,
        QoSPolicyKind.DEPTH,
        QoSPolicyKind.RELIABILITY,
        QoSPolicyKind.DURABILITY,
    )
)
_LATCHED = QoSProfile(
    depth=1,
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
)
# rclpy's executor asks every handler of an event, two a topic, whenever a message comes: half of
# what waiting costs. QoS that does not match is in the status, and in the other node's log.
_NO_PUBLISHER_EVENTS = PublisherEventCallbacks(use_default_callbacks=False)
_NO_SUBSCRIPTION_EVENTS = SubscriptionEventCallbacks(use_default_callbacks=False)
_TICK_S = 0.2  # how soon a node hears that somebody listens to it, or nobody any more
_STATUS_TICKS = 5
_LINGER_S = 1.0  # inputs stay so long after the last listener: a restarted one finds them


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
        self._inputs_now: dict[str, list[Any]] = {}
        self._last_stamps: dict[str, Any] = {}
        self._heard_s = float('-inf')
        self._clock_ns = -1
        self._ticks = 0
        # Not through diagnostic_updater: by default it names two cameras' nodes alike.
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 1)
        # Steady: with use_sim_time a timer of the node's own clock stands still when that does.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_TICK_S, self._tick, clock=steady)

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
            outputs = self._pipeline_type.outputs
            classes = {p: message_class(MESSAGE_TYPE[t.type]) for p, t in outputs.items()}
        except (ValueError, OSError, ImportError) as error:
            self.get_logger().error(f'cannot configure: {error}')
            return TransitionCallbackReturn.FAILURE
        for port, topic in outputs.items():
            self._image_publishers[port] = self.create_lifecycle_publisher(
                classes[port],
                topic.name,
                QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE),
                qos_overriding_options=_QOS_OVERRIDES,
                event_callbacks=_NO_PUBLISHER_EVENTS,
            )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker; inputs are subscribed to while somebody listens to an output."""
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
            inform=logger.info,
        )
        self._last_stamps.clear()
        self._listen()
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
        for key in list(self._inputs_now):
            self._unsubscribe(key)
        if self._runner is not None:
            self._runner.stop()
            self._runner = None

    # -- messages

    def _topic(self, port: str) -> str:
        name = port_topic(port, self._inputs[port], self._configuration.topics)
        return str(self.resolve_topic_name(name))

    def _listen(self) -> None:
        """Subscribe to what is worked on; while nobody listens, to nothing that comes often.

        A calibration that has not come yet is subscribed to all the same: it may come once only.
        """
        runner = self._runner
        if runner is None:
            return
        now_s = time.monotonic()
        if self._subscribed_outputs():
            self._heard_s = now_s
        active = now_s - self._heard_s < _LINGER_S
        for port, topic in self._inputs.items():
            if active or (topic.latched and not runner.has_received(port)):
                if port not in self._inputs_now:
                    self._inputs_now[port] = self._subscribe(port, topic)
                if topic.latched and not runner.has_received(port):
                    self._subscribe_latched(port)
            else:
                self._unsubscribe(port)
        if not needs_tf(self._pipeline):
            return
        for name, durability in (
            ('/tf_static', QoSDurabilityPolicy.TRANSIENT_LOCAL),
            ('/tf', QoSDurabilityPolicy.VOLATILE),
        ):
            if active and name not in self._inputs_now:
                qos = QoSProfile(depth=100, durability=durability)
                kind = message_class(_TF_TYPE)
                made = self.create_subscription(kind, name, self._on_transforms, qos)
                self._inputs_now[name] = [made]
            elif not active:
                self._unsubscribe(name)

    def _subscribe(self, port: str, topic: Topic) -> list[Any]:
        host = self._configuration.host
        message_type, name = MESSAGE_TYPE[topic.type], self._topic(port)
        depth = topic.type is DepthImage
        transport = host.depth_image_transport if depth else host.image_transport
        if message_type == IMAGE and transport != 'raw':
            message_type, name = COMPRESSED_IMAGE, f'{name}/{transport}'
        # A profile of its own: rclpy writes into it what is overridden.
        qos = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        return [
            self.create_subscription(
                message_class(message_type),
                name,
                partial(self._on_message, port),
                qos,
                qos_overriding_options=_QOS_OVERRIDES,
                event_callbacks=_NO_SUBSCRIPTION_EVENTS,
            )
        ]

    def _subscribe_latched(self, port: str) -> None:
        """Subscribe to what a publisher keeps for those who come late.

        A volatile subscription is not given what was published before it; a transient local one
        is not served by volatile publishers, and both sides warn of it. So the second one is made
        for publishers that serve it.
        """
        name = self._topic(port)
        made = self._inputs_now[port]
        override = f'qos_overrides.{name}.subscription.durability'
        if len(made) > 1 or override in self._parameter_overrides:
            return
        durabilities = [p.qos_profile.durability for p in self.get_publishers_info_by_topic(name)]
        if QoSDurabilityPolicy.TRANSIENT_LOCAL in durabilities:
            kind = message_class(MESSAGE_TYPE[self._inputs[port].type])
            on_message = partial(self._on_message, port)
            made.append(self.create_subscription(kind, name, on_message, _LATCHED))

    def _unsubscribe(self, key: str) -> None:
        for subscription in self._inputs_now.pop(key, ()):
            self.destroy_subscription(subscription)

    def _on_message(self, port: str, message: Any) -> None:
        if self._runner is None:
            return
        if self._inputs[port].latched:
            # Of a latched publisher each message comes twice.
            repeated = self._last_stamps.get(port) == message.header.stamp
            if repeated and self._runner.has_received(port):
                return
            self._last_stamps[port] = message.header.stamp
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

    def _tick(self) -> None:
        self._listen()
        self._ticks += 1
        if self._ticks % _STATUS_TICKS == 0:
            self._publish_status()

    def _status(self) -> Status:
        if self._runner is None:
            return Status(Level.OK, 'inactive', {})
        status = self._runner.status()
        if (trouble := self._clock_trouble()) and status.level < Level.ERROR:
            return Status(Level.WARN, f'{trouble}; {status.text}', status.values)
        return status

    def _clock_trouble(self) -> str:
        """Say what is wrong with simulated time: frames are worked on all the same."""
        if not self.get_parameter('use_sim_time').value:
            return ''
        clock_ns, before_ns = self.get_clock().now().nanoseconds, self._clock_ns
        self._clock_ns = clock_ns
        if not self.count_publishers('/clock'):
            return (
                'use_sim_time is true and no clock is published: start the simulation, play the '
                'bag with --clock, or set use_sim_time to false'
            )
        return 'the clock on /clock stands still' if clock_ns == before_ns else ''

    def _publish_status(self) -> None:
        level, text, values = self._status()
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
        logged = self._runner.warned if self._runner is not None else ''
        if level > Level.OK and not (logged and logged in text):  # the log has it already
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


def run(stages: str | None, name: str, stopping: Stopping, args: list[str] | None = None) -> int:
    """Run a node of stages until a signal stops it; return the exit code.

    The node configures and activates itself unless its parameter `autostart` is false, so that
    `ros2 run` works at once: launch_ros' own autostart is newer than Jazzy.
    """
    keep_freed_memory()
    # Images are small and kernels run beside the publishing: waking OpenCV's threads costs more
    # processor time than they save.
    cv2.setNumThreads(1)
    return spin(name, lambda: StageNode(stages, name), stopping, args, ready=_started)


def spin(
    name: str,
    make: Callable[[], RosNode],
    stopping: Stopping,
    args: list[str] | None = None,
    *,
    ready: Callable[[RosNode], bool] = lambda node: True,
) -> int:
    """Run a node until a signal stops it.

    Args:
        name: Name of the node.
        make: Makes it; a ValueError is logged as one sentence, without a traceback.
        stopping: Tells when to stop.
        args: Arguments of the command line.
        ready: Whether the node is to be run, called once.

    Returns:
        The exit code: 1 if it is not ready, 2 if it could not be made.
    """
    try:
        # rclpy's own handlers end the context under the worker's hands.
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # rclpy has a dozen kinds for what is wrong with a command line
        print(f'{name}: {_first_sentence(error)}', file=sys.stderr)
        return 2
    # Not rclpy.experimental's EventsExecutor: it saves a millisecond of processor time a frame,
    # and can crash where subscriptions come and go (ros2/rclpy#1644), as ours do.
    executor = SingleThreadedExecutor()
    node: RosNode | None = None
    try:
        node = make()
        if not ready(node):
            return 1
        executor.add_node(node)
        stopped = Future()
        stopping.then(lambda: (stopped.set_result(None), executor.wake()))
        executor.spin_until_future_complete(stopped)
    except ValueError as error:
        rclpy.logging.get_logger(name).fatal(str(error))
        return 2
    finally:
        executor.shutdown(timeout_sec=0)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _first_sentence(error: Exception) -> str:
    """Return the message of rcl, without places in its sources."""
    text = ' '.join(str(error).split())
    return re.sub(r',? at (\S+/)?\S+\.(c|cpp|h|hpp):\d+', '', text)


def _started(node: StageNode) -> bool:
    if not node.get_parameter('autostart').value:
        return True
    success = TransitionCallbackReturn.SUCCESS
    return bool(node.trigger_configure() == success and node.trigger_activate() == success)
