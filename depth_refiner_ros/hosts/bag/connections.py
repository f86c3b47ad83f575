"""What a recording says of a topic beside its name and type; ROS 1, rosbag2 and MCAP differ."""

from __future__ import annotations

from rosbags.interfaces import Connection, Qos, QosDurability


def encoding(connection: Connection) -> str:
    """Return what a topic's messages are serialized with: cdr, ros1, or as MCAP names it."""
    return getattr(connection.ext, 'serialization_format', 'ros1')


def offered_qos(connection: Connection) -> list[Qos]:
    """Return the QoS profiles that a topic was offered with; none of ROS 1."""
    return getattr(connection.ext, 'offered_qos_profiles', None) or []


def is_latched(connection: Connection) -> bool:
    """Return whether who comes late was sent the last message."""
    return (
        connection.topic == '/tf_static'
        or bool(getattr(connection.ext, 'latching', False))
        or any(qos.durability is QosDurability.TRANSIENT_LOCAL for qos in offered_qos(connection))
    )
