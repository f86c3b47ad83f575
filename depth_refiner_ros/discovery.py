"""Says which topics carry which camera stream: what belongs together, and what is likely meant."""

from __future__ import annotations

from collections.abc import Collection, Mapping
import re

from .messages import COMPRESSED_IMAGE, IMAGE

CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
_TRANSPORTS = ('compressedDepth', 'compressed')

_OWN_OUTPUT = re.compile(
    r'stddev|provenance|reference|depth_(refined|inpainted|estimated)|color_(registered|blurred)'
)
# Depth under names without the word: depthai_ros_driver's stereo/image_raw.
_DEPTH = re.compile(r'depth|(^|/)stereo/image(_raw|_rect)?$', re.IGNORECASE)
_COLOR_TO_DEPTH = re.compile(r'(rgb|colou?r)_to_depth', re.IGNORECASE)
_NOT_COLOR = re.compile(
    r'disparity|infra|confidence|mask|label|segment|(^|[/_])ir\d?([/_]|$)', re.IGNORECASE
)
_COLOR_ENCODING = re.compile(r'rgb|bgr|bayer|yuv|uyvy|yuyv|nv\d\d|8UC[34]')
_NO_COLOR_ENCODING = re.compile(r'(16UC1|16SC1|mono16|32FC\d|32SC\d|64FC\d)\b')

# Directories that name a stream of a camera, and not the camera: depth, aligned_depth_to_color,
# rgb, depth_registered. The sides of a stereo pair do so only right above the image, for arms and
# their cameras are called left and right, too.
_STREAM = re.compile(
    r'(?:(?:depth|colou?r|rgb|stereo|mono|ir\d?|infra\d?|infrared\d?|aligned|unaligned|registered|'
    r'to|hw|sw|image|rect|rectified|raw|resized|publisher)(?:_|$))+',
    re.IGNORECASE,
)
_SIDE = re.compile(r'(left|right)(_(raw|rect|ir|color|rgb))*', re.IGNORECASE)
# What realsense-viewer and the SDK record: /device_0/sensor_0/Depth_0/image/data.
_SDK_IMAGE = re.compile(r'((.*/device_\d+)/sensor_\d+/[^/]+)/image/data')

_IMAGE_OF = {
    'camera': 'depth',
    'stddev': 'depth',
    'provenance': 'depth',
    'color_camera': 'color',
}
"""The port of the image that a port describes."""


def image_topic(topic: str) -> str:
    """Return the base name of an image topic, without its transport."""
    head, _, last = topic.rpartition('/')
    return head if last in _TRANSPORTS else topic


def info_topic(topic: str) -> str:
    """Return where image_pipeline expects the camera_info of an image."""
    return _info_topics(topic)[0]


def _info_topics(topic: str) -> tuple[str, ...]:
    """Return where an image's camera_info may be, the usual place first."""
    image = image_topic(topic)
    if found := _SDK_IMAGE.fullmatch(image):
        return (f'{found[1]}/info/camera_info',)
    return _beside(image, 'camera_info'), f'{image}/camera_info'


def recorded_info(topic: str, recorded: Mapping[str, str]) -> str:
    """Return the camera_info of an image: the recorded one, or where it should have been.

    Args:
        topic: An image topic.
        recorded: Message type by topic name.
    """
    candidates = _info_topics(topic)
    found = (name for name in candidates if recorded.get(name) == CAMERA_INFO)
    return next(found, candidates[0])


def _beside(topic: str, name: str) -> str:
    head, separator, _ = image_topic(topic).rpartition('/')
    return f'{head}{separator}{name}'


def companion_topic(port: str, images: Mapping[str, str]) -> str:
    """Return the topic of a port that describes an image, beside that image.

    Args:
        port: camera, color_camera, stddev or provenance; any other has no such topic.
        images: Topic of the ports depth and color, as far as they are named.

    Returns:
        The topic, or nothing if its image is not named.
    """
    image = images.get(_IMAGE_OF.get(port, ''), '')
    if not image:
        return ''
    return _beside(image, port) if port in ('stddev', 'provenance') else info_topic(image)


def camera_namespace(topic: str) -> str:
    """Return the namespace of an image's camera: what the topics of all its streams begin with.

    /front/depth/image_rect_raw and /front/color/image_raw have /front.
    """
    image = image_topic(topic)
    if found := _SDK_IMAGE.fullmatch(image):
        return found[2]
    parents = image.split('/')[:-1]
    if parents and _SIDE.fullmatch(parents[-1]):
        return '/'.join(parents[:-1])
    while parents and _STREAM.fullmatch(parents[-1]):
        parents.pop()
    return '/'.join(parents)


def camera_topics(
    topics: Mapping[str, str], encodings: Mapping[str, str] | None = None
) -> dict[str, list[str]]:
    """Return the candidates for every input port, the likeliest first.

    Depth that has its camera_info comes before depth that has none, depth that is registered to
    colour before depth that is not, rectified before raw. Colour is that of the camera whose
    depth comes first.

    Args:
        topics: Message type by topic name.
        encodings: Encoding of images, or format of compressed ones, by topic name, as far as
            known: a name that promises colour may hold something else.

    Returns:
        Base topic names for the ports depth, camera, color and color_camera. A camera_info belongs
        to the first image of its kind and is missing where the recording has none beside it.
    """
    images = _images(topics, encodings or {})
    depth = sorted(
        (topic for topic, encoding in images.items() if _is_depth(topic, encoding)),
        key=lambda topic: _depth_rank(topic, topics),
    )
    color = _color_of(depth[0] if depth else '', images)
    found = {'depth': depth, 'color': color}
    for port, image in (('camera', depth), ('color_camera', color)):
        infos = [recorded_info(topic, topics) for topic in image[:1]]
        found[port] = [topic for topic in infos if topics.get(topic) == CAMERA_INFO]
    return found


def _images(topics: Mapping[str, str], encodings: Mapping[str, str]) -> dict[str, str]:
    """Return the encoding of every image that is no output of this package, '' if unknown."""
    images: dict[str, str] = {}
    for topic, kind in topics.items():
        if kind in (IMAGE, COMPRESSED_IMAGE) and not _OWN_OUTPUT.search(topic):
            name = image_topic(topic)
            images[name] = images.get(name) or encodings.get(topic, '')
    return images


def _is_depth(topic: str, encoding: str) -> bool:
    if not _DEPTH.search(topic) or _COLOR_TO_DEPTH.search(topic):
        return False
    return not _COLOR_ENCODING.match(encoding)


def _is_color(topic: str, encoding: str) -> bool:
    if _NOT_COLOR.search(topic) or _NO_COLOR_ENCODING.match(encoding):
        return False
    if _COLOR_TO_DEPTH.search(topic) or not _DEPTH.search(topic):
        return True
    # Colour in the namespace of a depth camera, as simulators publish it.
    return bool(_COLOR_ENCODING.match(encoding))


def _color_of(depth: str, images: Mapping[str, str]) -> list[str]:
    """Return the colour images of the camera that a depth image belongs to; of all without one."""
    return sorted(
        (
            topic
            for topic, encoding in images.items()
            if _is_color(topic, encoding)
            and (not depth or camera_namespace(topic) == camera_namespace(depth))
        ),
        key=lambda topic: _color_rank(topic, depth),
    )


def _is_registered(topic: str) -> bool:
    return any(word in topic for word in ('aligned', 'registered', 'depth_to_'))


def _depth_rank(topic: str, topics: Mapping[str, str]) -> tuple[bool, bool, bool, str]:
    calibrated = topics.get(recorded_info(topic, topics)) == CAMERA_INFO
    return not calibrated, not _is_registered(topic), 'rect' not in topic, topic


def _color_rank(topic: str, depth: str) -> tuple[bool, bool, bool, str]:
    # Of colour moved to the depth and colour as it is, that which looks through the depth's lens.
    moved = bool(_COLOR_TO_DEPTH.search(topic))
    named = any(word in topic.lower() for word in ('color', 'rgb'))
    return moved == _is_registered(depth), not named, 'rect' not in topic, topic


def guessed_topics(
    wanted: Mapping[str, str],
    recorded: Mapping[str, str],
    fixed: Collection[str] = (),
    encodings: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Replace topics that a recording does not have by the likeliest of those it has.

    The depth decides which camera is read. What is not fixed comes from that camera's namespace,
    and a camera_info from beside its image; where there is none, its topic is one that the
    recording lacks, never another image's.

    Args:
        wanted: Absolute topic by port.
        recorded: Message type by name of the topics that have messages.
        fixed: Ports that are not to be guessed.
        encodings: See `camera_topics`.
    """
    topics = dict(wanted)
    bases = {image_topic(name) for name in recorded}
    guesses = camera_topics(recorded, encodings)
    if 'depth' in topics and 'depth' not in fixed and topics['depth'] not in bases:
        topics['depth'] = next(iter(guesses['depth']), topics['depth'])
    depth = topics.get('depth', '')
    depth = depth if depth in bases else ''

    def is_elsewhere(topic: str) -> bool:
        return bool(depth) and camera_namespace(topic) != camera_namespace(depth)

    color = topics.get('color') or _beside(topics.get('color_camera', ''), 'image')
    if 'color' not in fixed and (color not in bases or is_elsewhere(color)):
        near = next(iter(_color_of(depth, _images(recorded, encodings or {}))), '')
        if near:
            color = near
        elif is_elsewhere(color):
            color = f'{camera_namespace(depth)}/color/image_rect'
    if 'color' in topics:
        topics['color'] = color
    for port, image in _IMAGE_OF.items():
        if port not in topics or port in fixed:
            continue
        described = color if image == 'color' else depth
        if not described:
            continue
        if port in ('stddev', 'provenance'):
            topics[port] = _beside(described, port)
        elif image in topics or topics[port] not in recorded or is_elsewhere(topics[port]):
            topics[port] = recorded_info(described, recorded)
    return topics
