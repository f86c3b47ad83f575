"""Parameter files, camera presets and the parameters that hosts have beside those of stages.

One YAML file serves every host, in the form ROS reads:

    /**:
      ros__parameters:
        topics: {depth: /camera/depth/image_rect_raw}
        refine_depth: {sensor: realsense_d400, temporal_filter: false}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
import re
from typing import Any

import yaml

from .data import DepthEncoding, DepthImage
from .discovery import companion_topic
from .parameters import Parameters, declared_parameters, parameter, updated_parameters
from .stage import Pipeline, Stage, Topic, compose, parameters_of, topic_inputs
from .stages import STAGES
from .synchronizer import DEADLINE_S, SLOP_S

DEFAULT_STAGES = 'refine_depth,inpaint_depth,project_points'


@dataclass(frozen=True, kw_only=True)
class HostParameters(Parameters):
    """Parameters of every host: how messages are paired and written."""

    stages: str = parameter(
        DEFAULT_STAGES, 'Stages to run, in order, separated by commas.', live=False
    )
    slop_s: float = parameter(
        SLOP_S,
        'Largest difference of stamps that are paired.',
        unit='s',
        range=(0, 1),
        live=False,
    )
    deadline_s: float = parameter(
        DEADLINE_S, 'Longest wait for an optional input.', unit='s', range=(0, 10), live=False
    )
    frame_deadline_s: float = parameter(
        0.0,
        'Longest time from the arrival of a frame to its result; a live host warns while frames '
        'take longer. 0 sets no deadline.',
        unit='s',
        range=(0, 60),
    )
    keep_camera_rate: bool = parameter(
        True,
        'With model: auto, a live host uses the model only if the first frames with it take at '
        "most 80 % of the camera's period; false uses it regardless. Replays do not depend on the "
        'clock.',
    )
    depth_encoding: str = parameter(
        'same',
        'Encoding of published depth: that of the input, millimetres or metres.',
        choices=('same', '16UC1', '32FC1'),
    )
    image_transport: str = parameter(
        'raw',
        'Transport of colour input (ROS nodes; a bag states its own).',
        choices=('raw', 'compressed'),
        live=False,
    )
    depth_image_transport: str = parameter(
        'raw',
        'Transport of depth input (ROS nodes; a bag states its own).',
        choices=('raw', 'compressedDepth', 'compressed'),
        live=False,
    )
    camera_namespace: str = parameter(
        '',
        "Namespace of the camera's driver, for topics.* that do not begin with a slash; empty: "
        'that of the node.',
        live=False,
    )
    depth_unit_m: float = parameter(
        0.0,
        'Metres of one count of input depth, where the driver departs from REP 118: 0.00025 for '
        'an L515. 0: the unit that the recording states, else that of the encoding, 16UC1 '
        'millimetres and 32FC1 metres. Depth goes out in the unit of its encoding.',
        unit='m',
        range=(0, 1),
        live=False,
    )
    autostart: bool = parameter(True, 'Configure and activate at once (ROS nodes).', live=False)


def pipeline_type(stages: str) -> type[Pipeline]:
    """Make the pipeline that a comma-separated list of stage names describes.

    Raises:
        ValueError: If a name is unknown or given twice.
    """
    names = [name.strip() for name in stages.split(',') if name.strip()]
    types: dict[str, type[Stage]] = {}
    for name in names:
        if name not in STAGES:
            raise ValueError(f'unknown stage {name!r}; known: {", ".join(STAGES)}')
        if name in types:
            raise ValueError(f'stage {name!r} is listed twice')
        types[name] = STAGES[name]
    return compose(types)


def read_parameters(path: Path) -> dict[str, Any]:
    """Read a parameter file into dotted names.

    Sections for all nodes (`/**`, `/*`) and for any node count, in the order of the file; a file
    without `ros__parameters` is read as parameters at its top level.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not YAML of that form.
    """
    try:
        content = _yaml(path.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = ' '.join(str(error).split())
        raise ValueError(f'{path} is not a parameter file: {reason}') from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f'{path} is not a parameter file: expected names and values')
    sections = [
        section['ros__parameters']
        for section in content.values()
        if isinstance(section, dict) and 'ros__parameters' in section
    ]
    values: dict[str, Any] = {}
    for section in sections or [content]:
        if section is None:
            continue
        if not isinstance(section, dict):
            raise ValueError(f'{path}: ros__parameters must hold names and values')
        values.update(_flattened(section))
    return values


def parameter_value(text: str) -> Any:
    """Read one value as a parameter file would; nothing is an empty text.

    Raises:
        ValueError: If it is no value.
    """
    try:
        return _yaml(text) if text else ''
    except yaml.YAMLError as error:
        raise ValueError(f'{text!r} is no value: {error}') from None


class _Loader(yaml.SafeLoader):
    """Reads YAML as ROS does where PyYAML does not: 1e-3 is a number."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [name.value for name, _ in node.value if name.tag != 'tag:yaml.org,2002:merge']
        if twice := [name for name in names if names.count(name) > 1]:
            # PyYAML takes the last of them in silence.
            raise yaml.constructor.ConstructorError(
                None, None, f'{twice[0]} is given twice', node.start_mark
            )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile(r'[-+]?[0-9]+[eE][-+]?[0-9]+$'), list('-+0123456789')
)


def _yaml(text: str) -> Any:
    return yaml.load(text, _Loader)


_MOST_VALUES, _DEEPEST = 10_000, 8  # aliases let a few lines of YAML stand for endless trees


def _flattened(tree: Mapping[str, Any], prefix: str = '', depth: int = 1) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            if depth == _DEEPEST:
                raise ValueError(
                    f'parameters are nested more than {_DEEPEST} deep: {prefix}{name}'
                )
            flat.update(_flattened(value, f'{prefix}{name}.', depth + 1))
        else:
            flat[f'{prefix}{name}'] = value
        if len(flat) > _MOST_VALUES:
            raise ValueError(f'more than {_MOST_VALUES} parameters')
    return flat


# What only the ROS host reads: other hosts let a shared file keep it.
_ROS_ONLY = ('use_sim_time', 'start_type_description_service', 'qos_overrides.')


@dataclass(frozen=True)
class Configuration:
    """Everything a host needs to run: what, with which parameters, on which topics.

    Attributes:
        host: The host's parameters.
        pipeline: The class of the pipeline.
        parameters: An instance of the pipeline's parameters.
        topics: Topic of an input port, where it is not the stage's own.
    """

    host: HostParameters
    pipeline: type[Pipeline]
    parameters: Any
    topics: Mapping[str, str]


_COMPANIONS = {
    'topics.depth': ('topics.camera', 'topics.stddev', 'topics.provenance'),
    'topics.color': ('topics.color_camera',),
}


def configure(*sources: Mapping[str, Any]) -> Configuration:
    """Build a configuration from flat parameters, later sources overriding earlier ones.

    Blocks of stages that are not run are checked too, then left unused, so that one file can
    serve several pipelines and still has its misspellings found.

    Raises:
        ValueError: If a name is unknown, or a value has the wrong type or is out of range.
    """
    values: dict[str, Any] = {}
    for source in sources:
        for image, companions in _COMPANIONS.items():
            if image in source and source[image] != values.get(image):
                # What a preset says of its own image does not describe another one.
                for companion in companions:
                    values.pop(companion, None)
        values.update(source)
    topics: dict[str, str] = {}
    of_host: dict[str, Any] = {}
    of_stages: dict[str, Any] = {}
    for name, value in values.items():
        is_empty = value is None and (name in (*STAGES, 'topics') or name.startswith('/'))
        if is_empty or name.startswith(_ROS_ONLY):
            continue
        if name == 'stages' and isinstance(value, list | tuple):
            value = ','.join(map(str, value))
        head, _, rest = name.partition('.')
        if head == 'topics' and rest:
            topics[rest] = value
        elif head in STAGES and rest:
            of_stages[name] = value
        else:
            of_host[name] = value
    for name in of_host:
        if stages := [stage for stage, kind in STAGES.items() if _has(kind, name)]:
            near = ' or '.join(f'{stage}.{name}' for stage in stages)
            raise ValueError(f'unknown parameter {name}; did you mean {near}?')
    host = updated_parameters(HostParameters(), of_host)
    updated_parameters(parameters_of(STAGES)(), of_stages)
    pipeline = pipeline_type(host.stages)
    parameters = updated_parameters(
        pipeline.Parameters(),
        {k: v for k, v in of_stages.items() if k.partition('.')[0] in pipeline.stage_types},
    )
    known = {port for stage in STAGES.values() for port in topic_inputs(stage)}
    for port, topic in topics.items():
        if port not in known:
            raise ValueError(f'unknown port topics.{port}; known: {", ".join(sorted(known))}')
        if not isinstance(topic, str):
            raise ValueError(f'topics.{port} must be the name of a topic, got {topic!r}')
        if topic and host.camera_namespace:
            topics[port] = resolve(topic, host.camera_namespace)
    return Configuration(host, pipeline, parameters, topics)


def _has(stage: type[Stage], parameter_name: str) -> bool:
    return parameter_name in declared_parameters(stage.Parameters)


def encoded_as(value: Any, encoding: str) -> Any:
    """Return a value with the encoding that `depth_encoding` names, if it is a depth image."""
    if encoding == 'same' or not isinstance(value, DepthImage) or value.encoding == encoding:
        return value
    wanted: DepthEncoding = '16UC1' if encoding == '16UC1' else '32FC1'
    return DepthImage(value.header, value.depth_m, wanted)


def resolve(topic: str, namespace: str) -> str:
    """Return the absolute name of a topic in a namespace."""
    return (
        topic if topic.startswith('/') else f'/{namespace.strip("/")}/{topic}'.replace('//', '/')
    )


def port_topics(
    inputs: Mapping[str, Topic], topics: Mapping[str, str], namespace: str
) -> dict[str, str]:
    """Return the absolute topic of every input port."""
    return {
        port: resolve(port_topic(port, topic, topics), namespace) for port, topic in inputs.items()
    }


def port_topic(port: str, topic: Topic, topics: Mapping[str, str]) -> str:
    """Return the topic of an input port: the one it was given, else that beside its given image.

    Args:
        port: The port.
        topic: What its stage declares, which serves where nothing is given.
        topics: The topics that were given, by port.
    """
    return topics.get(port) or companion_topic(port, topics) or topic.name


def share_folder(name: str) -> Path:
    """Return a folder that is installed under share/: config, launch, rviz.

    Found beside the package in a checkout, else under the prefix it was installed to.

    Raises:
        FileNotFoundError: If the installation lacks it.
    """
    package = Path(__file__).resolve().parent
    candidates = [package.parent / name] + [
        parent / 'share' / package.name / name for parent in package.parents
    ]
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f'{package.name} was installed without its folder {name}')


def camera_preset(camera: str) -> dict[str, Any]:
    """Read the preset of a camera: its driver's topics and its sensor's noise model.

    Raises:
        ValueError: If there is no preset of that name.
    """
    presets = camera_names()
    if camera not in presets:
        raise ValueError(f'unknown camera {camera!r}; known: {", ".join(presets)}')
    return read_parameters(share_folder('config') / 'cameras' / f'{camera}.yaml')


def camera_names() -> Sequence[str]:
    """Return the names of the camera presets."""
    return sorted(path.stem for path in (share_folder('config') / 'cameras').glob('*.yaml'))
