"""Guesses which topics of a recording or a live graph carry which camera stream."""

from __future__ import annotations

from collections.abc import Collection, Mapping
import re

from .messages import COMPRESSED_IMAGE, IMAGE

CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
_TRANSPORTS = ('compressedDepth', 'compressed')
_NOT_COLOR = re.compile(
    r'depth|disparity|infra|stddev|provenance|reference|(^|[/_])ir\d?([/_]|$)', re.IGNORECASE
)
_NOT_DEPTH = re.compile(r'stddev|provenance|reference|depth_refined|depth_inpainted')


def image_topic(topic: str) -> str:
    """Return the base name of an image topic, without its transport."""
    head, _, last = topic.rpartition('/')
    return head if last in _TRANSPORTS else topic


def info_topic(topic: str) -> str:
    """Return where image_pipeline expects the camera_info of an image."""
    return f'{image_topic(topic).rpartition("/")[0]}/camera_info'


def camera_topics(topics: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the candidates for every input port, the likeliest first.

    Depth that is registered to colour comes before depth that is not, rectified before raw.

    Args:
        topics: Message type by topic name.

    Returns:
        Base topic names for the ports depth, camera, color and color_camera. A camera_info belongs
        to the first image of its kind and is missing where the recording has none beside it.
    """
    images = {image_topic(t) for t, kind in topics.items() if kind in (IMAGE, COMPRESSED_IMAGE)}
    depth = [t for t in images if 'depth' in t.lower() and not _NOT_DEPTH.search(t)]
    color = [t for t in images if not _NOT_COLOR.search(t)]
    found = {'depth': sorted(depth, key=_depth_rank), 'color': sorted(color, key=_color_rank)}
    for port, image in (('camera', 'depth'), ('color_camera', 'color')):
        infos = [info_topic(t) for t in found[image][:1]]
        found[port] = [t for t in infos if topics.get(t) == CAMERA_INFO]
    return found


def _depth_rank(topic: str) -> tuple[bool, bool, str]:
    registered = any(word in topic for word in ('aligned', 'registered', 'depth_to_'))
    return not registered, 'rect' not in topic, topic


def _color_rank(topic: str) -> tuple[bool, bool, str]:
    named = any(word in topic for word in ('color', 'rgb'))
    return not named, 'rect' not in topic, topic


def guessed_topics(
    wanted: Mapping[str, str], recorded: Mapping[str, str], fixed: Collection[str] = ()
) -> dict[str, str]:
    """Replace topics that a recording does not have by the likeliest of those it has.

    Args:
        wanted: Absolute topic by port.
        recorded: Message type by topic name.
        fixed: Ports that are not to be guessed.
    """
    topics = dict(wanted)
    bases = {image_topic(name) for name in recorded}
    guesses = camera_topics(recorded)
    for port in wanted:
        if port in fixed or topics[port] in bases or not guesses.get(port):
            continue
        if port in ('camera', 'color_camera'):
            # A calibration belongs to its image: never pair one camera's with another's.
            image = topics.get('depth' if port == 'camera' else 'color')
            topics[port] = info_topic(image) if image else guesses[port][0]
        else:
            topics[port] = guesses[port][0]
    return topics
