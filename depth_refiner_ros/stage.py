"""What a stage declares, how stages compose, and how every host pairs their inputs.

A stage is a plain class that knows no middleware: `Parameters`, `inputs`, `outputs`, and a call
from one value per input to one value per output. A host (ROS node, bag, live network) connects the
declared topics and needs to know nothing else about it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass, replace
import difflib
import math
import time
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar, get_type_hints

from .data import (
    ColorImage,
    DepthImage,
    PinholeCamera,
    Provenance,
    ProvenanceImage,
    RigidTransform,
    at_most,
    check_companions_fit,
    origins,
)
from .geometry import TransformTree

ParameterValue = bool | int | float | str

# ---------------------------------------------------------------------------------- parameters


def parameter(
    default: Any,
    description: str,
    *,
    unit: str = '',
    range: tuple[float, float] | None = None,  # noqa: A002 - the field's own word
    choices: tuple[str, ...] = (),
    live: bool = True,
) -> Any:
    """Declare a field of a stage's parameters: its command line flag, ROS descriptor and docs.

    Args:
        default: A bool, int, float or str; its type is the parameter's.
        description: One sentence that says what turning it does.
        unit: Unit of the value, as written after a number: 'm', 's', 'px'.
        range: Lowest and highest value allowed, both included.
        choices: The words allowed.
        live: Whether a running stage takes a new value; else it is read when the stage is built.
    """
    metadata = {
        'description': description,
        'unit': unit,
        'range': range,
        'choices': choices,
        'live': live,
    }
    return field(default=default, metadata=metadata)


_BOOLS = dict.fromkeys(('true', 'yes', 'on', 'y'), True)
_BOOLS |= dict.fromkeys(('false', 'no', 'off', 'n'), False)
"""The words for a bool, as ROS reads them; a command line knows nothing but words."""

_ARTICLE: dict[type, str] = {bool: 'a', int: 'an', float: 'a', str: 'a'}


class Declared(NamedTuple):
    """One declared parameter, as hosts, the command line and the docs read it."""

    name: str
    type: type
    default: ParameterValue
    description: str
    unit: str
    range: tuple[float, float] | None
    choices: tuple[str, ...]
    live: bool

    def checked(self, value: Any) -> ParameterValue:
        """Return a value as this parameter's type.

        Raises:
            ValueError: If it is of another type, out of range or not among the choices.
        """
        if self.type is float and type(value) is int:
            value = float(value)
        if value is None:
            empty = "; write '' for an empty text" if self.type is str else ''
            raise ValueError(f'parameter {self.name} has no value{empty}')
        if self.type is bool and isinstance(value, str):
            value = _BOOLS.get(value.lower(), value)
        if self.type is str and isinstance(value, bool):
            raise ValueError(
                f'parameter {self.name} must be a str, and YAML reads on, off, yes and no as true '
                'or false; put it in quotes'
            )
        if not isinstance(value, bool | int | float | str) or type(value) is not self.type:
            raise ValueError(
                f'parameter {self.name} must be {_ARTICLE[self.type]} {self.type.__name__}, '
                f'got {value!r} ({type(value).__name__})'
            )
        unit = f' {self.unit}' if self.unit else ''
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f'parameter {self.name} must be a finite number, got {value}')
        if self.range and not self.range[0] <= float(value) <= self.range[1]:
            low, high = self.range
            raise ValueError(
                f'parameter {self.name} must be between {low:g} and {high:g}{unit}, '
                f'got {value:g}{unit}'
            )
        if self.choices and value not in self.choices:
            raise ValueError(
                f'parameter {self.name} must be one of {", ".join(self.choices)}, got {value!r}'
            )
        return value


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters of a stage: a frozen dataclass whose fields are made by `parameter`."""

    def __post_init__(self) -> None:
        for declared in _own_declared(type(self)):
            object.__setattr__(self, declared.name, declared.checked(getattr(self, declared.name)))


def _own_declared(cls: type) -> Iterator[Declared]:
    for item in fields(cls):
        if 'description' in item.metadata:
            default: Any = item.default
            yield Declared(item.name, type(default), default, **item.metadata)


def declared_parameters(cls: type[Parameters]) -> dict[str, Declared]:
    """Return the parameters of a stage, or of all stages of a pipeline under dotted names."""
    found = {declared.name: declared for declared in _own_declared(cls)}
    hints = get_type_hints(cls)
    for item in fields(cls):
        if is_dataclass(hints[item.name]):
            for name, declared in declared_parameters(hints[item.name]).items():
                dotted = f'{item.name}.{name}'
                found[dotted] = declared._replace(name=dotted)
    return found


def parameter_values(parameters: Parameters) -> dict[str, ParameterValue]:
    """Return the values of a parameters instance under the names of `declared_parameters`."""
    values = {}
    for name in declared_parameters(type(parameters)):
        value: Any = parameters
        for part in name.split('.'):
            value = getattr(value, part)
        values[name] = value
    return values


_P = TypeVar('_P', bound=Parameters)


def updated_parameters(parameters: _P, changes: Mapping[str, Any]) -> _P:
    """Return parameters with some values changed.

    Args:
        parameters: What to start from.
        changes: New values under the names of `declared_parameters`.

    Raises:
        ValueError: If a name is unknown, or a value has the wrong type or is out of range.
    """
    declared = declared_parameters(type(parameters))
    for name, value in changes.items():
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1)
            hint = f'did you mean {near[0]}?' if near else f'known: {", ".join(declared)}'
            raise ValueError(f'unknown parameter {name}; {hint}')
        parameters = _with_value(parameters, name.split('.'), declared[name].checked(value))
    return parameters


def _with_value(parameters: Any, path: list[str], value: ParameterValue) -> Any:
    if len(path) > 1:
        return replace(
            parameters, **{path[0]: _with_value(getattr(parameters, path[0]), path[1:], value)}
        )
    return replace(parameters, **{path[0]: value})


# -------------------------------------------------------------------------------- stages


@dataclass(frozen=True, slots=True)
class Topic:
    """A port of a stage: the value type it carries and its ROS name, relative to the namespace.

    Attributes:
        type: A class of `data`.
        name: Relative topic name.
        optional: The stage runs without it when it does not come.
        latched: It changes rarely (a calibration): the last one serves where none has the frame's
            own stamp.
    """

    type: type
    name: str
    optional: bool = False
    latched: bool = False


@dataclass(frozen=True, slots=True)
class FrameLookup:
    """An input that tf answers: where the frame of one port sits in the frame of another.

    Attributes:
        target: Port whose frame is the parent.
        source: Port whose frame is placed in it.
    """

    target: str
    source: str


Input = Topic | FrameLookup


class Stage(Protocol):
    """A callable from one value per input to one value per output, with declared parameters.

    `parameters` may be replaced between two calls; what is declared `live` then takes effect.
    A stage that runs models has a `back_end`, what runs them at present, a `note`, why that was
    chosen, a `trouble`, why none does, and `loading`, which are being loaded; hosts tell them.
    """

    Parameters: ClassVar[Any]
    inputs: ClassVar[Mapping[str, Input]]
    outputs: ClassVar[Mapping[str, Topic]]
    parameters: Any

    def __init__(self, parameters: Any) -> None: ...

    def __call__(self, *args: Any, **values: Any) -> Mapping[str, Any]:
        """Return one value per output, or fewer where there is nothing to say."""


_COMPANIONS = ('stddev', 'provenance')
"""Ports whose values describe the image on port depth."""
_GUIDES = (ColorImage, PinholeCamera)
"""Types of optional inputs that depth can do without."""


class Pipeline:
    """Stages run one after the other in one process: itself a stage.

    A port is a role: what a stage puts out as `depth` is the `depth` that the stages after it
    take in, handed over without a copy. Every stage's outputs stay outputs of the pipeline, named
    `<stage>.<port>`. Make a pipeline's class with `compose`.

    Depth, its standard deviation and its provenance describe one image. A stage that puts out
    depth and not one of the others ends that one: no later stage gets it. Depth that has lost its
    provenance counts as inpainted from there on.

    Attributes:
        stages: The stages by name.
        last_s: Seconds each stage took in the last call, by name.
        left_out: Why optional inputs were left out of the last call, by port.
        without_provenance: Frames that came without their own provenance although others had it;
            their depth counts as inpainted.
    """

    stage_types: ClassVar[Mapping[str, type[Stage]]]
    Parameters: ClassVar[Any]
    inputs: ClassVar[Mapping[str, Input]]
    outputs: ClassVar[Mapping[str, Topic]]

    def __init__(self, parameters: Any = None) -> None:
        parameters = parameters or self.Parameters()
        self.stages: dict[str, Stage] = {
            name: stage_type(getattr(parameters, name))
            for name, stage_type in self.stage_types.items()
        }
        self.last_s: dict[str, float] = {}
        self.left_out: dict[str, str] = {}
        self.without_provenance = 0
        self._provenance_comes = False

    @property
    def troubles(self) -> dict[str, str]:
        """What keeps stages from doing their best, by name: they run, but not as configured."""
        told = {name: getattr(stage, 'trouble', '') for name, stage in self.stages.items()}
        return {name: trouble for name, trouble in told.items() if trouble}

    @property
    def loading(self) -> dict[str, str]:
        """Which models stages are doing without while they are loaded, by name."""
        told = {name: getattr(stage, 'loading', '') for name, stage in self.stages.items()}
        return {name: text for name, text in told.items() if text}

    def load_beside(self) -> None:
        """Let stages do without their models while these are loaded: for a host in a hurry."""
        for stage in self.stages.values():
            for model in getattr(stage, 'models', ()):
                model.waits = False

    @property
    def notes(self) -> dict[str, str]:
        """What was chosen to run models and why, by stage."""
        told = {name: getattr(stage, 'note', '') for name, stage in self.stages.items()}
        return {name: note for name, note in told.items() if note}

    @property
    def back_ends(self) -> dict[str, str]:
        """What runs the model of every stage that can have one, by name."""
        return {
            name: stage.back_end
            for name, stage in self.stages.items()
            if hasattr(stage, 'back_end')
        }

    @property
    def parameters(self) -> Any:
        """The parameters of every stage, an instance of `Parameters`."""
        return self.Parameters(**{name: stage.parameters for name, stage in self.stages.items()})

    @parameters.setter
    def parameters(self, parameters: Any) -> None:
        for name, stage in self.stages.items():
            stage.parameters = getattr(parameters, name)

    def __call__(self, transforms: TransformTree | None = None, **values: Any) -> dict[str, Any]:
        """Run every stage once.

        Args:
            transforms: What answers the stages' frame lookups.
            values: One value per input; optional ones may be left out.

        Returns:
            All outputs, under `<stage>.<port>`.

        Raises:
            LookupError: If tf does not connect two frames that a stage looks up.
            ValueError: If a value does not fit the others.
        """
        outputs: dict[str, Any] = {}
        self.left_out = {}
        values.update(self._companions(values))
        lost = False
        for name, stage in self.stages.items():
            started_s = time.perf_counter()
            results = self._results(stage, values, transforms or TransformTree())
            self.last_s[name] = time.perf_counter() - started_s
            if lost and (told := results.get('provenance')) is not None:
                marks = at_most(told.provenance, Provenance.INPAINTED)
                results = {**results, 'provenance': replace(told, provenance=marks)}
            # What a stage leaves out is gone: its input must not pass for its output.
            replaced = {port: results.get(port) for port in stage.outputs}
            if 'depth' in replaced:
                replaced = {**dict.fromkeys(_COMPANIONS), **replaced}
                lost |= bool(values.get('provenance')) and replaced['provenance'] is None
            values.update(replaced)
            outputs.update((f'{name}.{port}', value) for port, value in results.items())
        return outputs

    def _results(
        self, stage: Stage, values: Mapping[str, Any], tree: TransformTree
    ) -> Mapping[str, Any]:
        """Run one stage, without its colour if it cannot be run with it."""
        given = {port: values.get(port) for port in stage.inputs}
        try:
            # Looked up per stage: an earlier one may have moved an image into another frame.
            return stage(**{**given, **looked_up(stage, given, tree)})
        except (ValueError, LookupError) as error:
            guides = [
                port
                for port, item in topic_inputs(type(stage)).items()
                if item.optional and item.type in _GUIDES and given[port] is not None
            ]
            if not guides:
                raise
            given.update(dict.fromkeys(guides))
            results = stage(**{**given, **looked_up(stage, given, tree)})
            self.left_out.update(dict.fromkeys(guides, str(error)))
            return results

    def _companions(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what came in beside depth and is of that very image."""
        depth: DepthImage | None = values.get('depth')
        found = {port: values.get(port) for port in _COMPANIONS if port in self.inputs}
        if depth is None:
            return dict.fromkeys(found)
        check_companions_fit(depth, found.get('stddev'), found.get('provenance'))
        for port, value in found.items():
            if value is not None and value.header.stamp_ns != depth.header.stamp_ns:
                found[port] = None
        self._provenance_comes |= values.get('provenance') is not None
        if self._provenance_comes and found.get('provenance') is None:
            self.without_provenance += 1
            marks = at_most(origins(depth, None), Provenance.INPAINTED)
            found['provenance'] = ProvenanceImage(depth.header, marks)
        return found


def compose(stage_types: Mapping[str, type[Stage]]) -> type[Pipeline]:
    """Make the class of a pipeline from the classes of its stages, in order.

    Raises:
        ValueError: If there is no stage, or two stages disagree about what a port carries.
    """
    if not stage_types:
        raise ValueError('a pipeline needs at least one stage')
    inputs: dict[str, Input] = {}
    outputs: dict[str, Topic] = {}
    made: dict[str, Topic] = {}
    ended: set[str] = set()
    for name, stage_type in stage_types.items():
        for port, wanted in stage_type.inputs.items():
            if port in ended:
                continue
            if port in made:
                if not (isinstance(wanted, Topic) and wanted.type is made[port].type):
                    raise ValueError(
                        f'{name} cannot take what an earlier stage puts out on port {port}, '
                        f'a {made[port].type.__name__}'
                    )
                continue
            have = inputs.setdefault(port, wanted)
            if have == wanted:
                continue
            if not (isinstance(have, Topic) and isinstance(wanted, Topic)):
                raise ValueError(f'{name} and an earlier stage expect different {port}')
            if (have.type, have.name) != (wanted.type, wanted.name):
                raise ValueError(
                    f'{name} expects {wanted.name} on port {port}, an earlier stage {have.name}'
                )
            inputs[port] = replace(
                wanted,
                optional=have.optional and wanted.optional,
                latched=have.latched and wanted.latched,
            )
        if 'depth' in stage_type.outputs:
            ended.update(_COMPANIONS)
        ended -= stage_type.outputs.keys()
        made.update(stage_type.outputs)
        outputs.update((f'{name}.{port}', topic) for port, topic in stage_type.outputs.items())
    return type(
        'Pipeline',
        (Pipeline,),
        {
            'stage_types': dict(stage_types),
            'Parameters': parameters_of(stage_types),
            'inputs': inputs,
            'outputs': outputs,
        },
    )


def parameters_of(stage_types: Mapping[str, type[Stage]]) -> type[Parameters]:
    """Make the dataclass that holds the parameters of several stages, one field a stage."""
    return make_dataclass(
        'PipelineParameters',
        [
            (name, stage_type.Parameters, field(default_factory=stage_type.Parameters))
            for name, stage_type in stage_types.items()
        ],
        bases=(Parameters,),
        frozen=True,
        kw_only=True,
    )


def topic_inputs(stage_type: type[Stage] | type[Pipeline]) -> dict[str, Topic]:
    """Return the inputs that arrive as messages."""
    return {p: t for p, t in stage_type.inputs.items() if isinstance(t, Topic)}


def looked_up(
    stage: Stage, values: Mapping[str, Any], tree: TransformTree
) -> dict[str, RigidTransform | None]:
    """Answer a stage's frame lookups for one set of values.

    Returns:
        A transform per lookup port; None where a port the lookup refers to has no value.

    Raises:
        LookupError: If tf does not connect the two frames.
    """
    found: dict[str, RigidTransform | None] = {}
    for port, lookup in stage.inputs.items():
        if not isinstance(lookup, FrameLookup):
            continue
        target, source = values.get(lookup.target), values.get(lookup.source)
        if target is None or source is None:
            found[port] = None
            continue
        target_frame, source_frame = target.header.frame_id, source.header.frame_id
        found[port] = tree.lookup(target_frame, source_frame)
        if found[port] is None:
            raise LookupError(
                f'no transform from {source_frame!r} to {target_frame!r}; publish it on '
                '/tf_static (ros2 run tf2_ros static_transform_publisher) '
                'or check the two frame_ids'
            )
    return found


# ------------------------------------------------------------------------------- pairing

T = TypeVar('T')

SLOP_S = 0.02
"""Default slop: more than half the interval of two free-running cameras at 30 Hz."""
DEADLINE_S = 0.05
"""Default wait for an optional input."""

_SILENT_NS = 1_000_000_000
JUMP_NS = 500_000_000
"""A clock that goes back by more has jumped: a bag loops, a simulation restarts."""
_GAPS_KEPT = 8


def anchor_of(inputs: Mapping[str, Topic]) -> str:
    """Return the port whose messages are the frames: the first required one.

    Raises:
        ValueError: If no input is required.
    """
    for port, topic in inputs.items():
        if not (topic.optional or topic.latched):
            return port
    raise ValueError('a stage needs an input that is neither optional nor latched')


class _Waiting:
    """Marks an input that may still come."""


_WAITING = _Waiting()


class _Port(Generic[T]):
    """Recent messages of one input, ordered by stamp."""

    def __init__(self, topic: Topic, queue_size: int) -> None:
        self.topic = topic
        self.items: deque[tuple[int, T]] = deque(maxlen=queue_size)
        self.gaps_ns: deque[int] = deque(maxlen=_GAPS_KEPT)
        self.newest_ns: int | None = None
        self.last: T | None = None

    def add(self, stamp_ns: int, item: T) -> bool:
        """Insert a message; False if one with its stamp is there already."""
        if self.newest_ns is not None and stamp_ns < self.newest_ns - JUMP_NS:
            self.forget()
        if any(stamp == stamp_ns for stamp, _ in self.items):
            return False
        if self.newest_ns is None or stamp_ns > self.newest_ns:
            if self.newest_ns is not None:
                self.gaps_ns.append(stamp_ns - self.newest_ns)
            self.newest_ns, self.last = stamp_ns, item
            self.items.append((stamp_ns, item))
        else:
            self.items.append((stamp_ns, item))
            self.items = deque(sorted(self.items, key=lambda pair: pair[0]), self.items.maxlen)
        return True

    def forget_before(self, stamp_ns: int) -> None:
        while self.items and self.items[0][0] < stamp_ns:
            self.items.popleft()

    def forget(self) -> None:
        self.items.clear()
        self.gaps_ns.clear()
        self.newest_ns = None

    def match(self, stamp_ns: int, slop_ns: int, overdue: bool) -> T | _Waiting | None:
        """Return the message for a stamp, None if there will be none, or `_WAITING`."""
        near = min(self.items, key=lambda pair: abs(pair[0] - stamp_ns), default=None)
        if near is not None and near[0] == stamp_ns:
            return near[1]
        if near is not None and abs(near[0] - stamp_ns) > slop_ns:
            near = None
        fallback = near[1] if near else (self.last if self.topic.latched else None)
        required = not self.topic.optional and fallback is None
        if self.newest_ns is None:
            return _WAITING if required else fallback
        if required:
            return _WAITING if self.newest_ns <= stamp_ns + slop_ns else None
        if overdue or self.newest_ns >= stamp_ns or stamp_ns - self.newest_ns > _SILENT_NS:
            return fallback
        # Nothing nearer can come if even the port's shortest interval leads past the frame.
        useful_until_ns = stamp_ns + (abs(near[0] - stamp_ns) - 1 if near else slop_ns)
        expected_ns = self.newest_ns + min(self.gaps_ns, default=1)
        return _WAITING if expected_ns <= useful_until_ns else fallback


class Synchronizer(Generic[T]):
    """Pairs the messages of a stage's inputs by stamp: one rule for all live hosts.

    `message_filters` cannot serve: its Python module imports rclpy, and two pairing rules would
    make hosts differ. A recording is paired by the same rule in `pairing.RecordingSynchronizer`,
    which knows what is still to come and need not wait.

    The first required input is the *anchor*; every set that comes out belongs to one anchor frame,
    and sets come out in the order of their stamps. The rule for every other input:

    1. A message with the anchor's own stamp is taken at once.
    2. Else the nearest within `slop_s` is taken as soon as nothing nearer can come: a later
       message is there, or even the input's shortest recent interval leads past the anchor.
    3. A `latched` input (a calibration) falls back to its last message of any age.
    4. An `optional` input that has been silent for a second, or that never spoke, is not waited
       for; else it is waited for until `deadline_s` after the anchor arrived, then left out.
    5. A required input is waited for until it has spoken past the anchor without a match; then
       the anchor is dropped and counted as unmatched.

    A second message with the same stamp on the same input is ignored. An anchor older than the
    last set is ignored as late, unless it is more than half a second older: then the clock has
    jumped (a bag loops, a simulation restarts) and everything starts anew. A queue holds at most
    `queue_size` messages; the oldest go first, and what can pair no more goes at once.

    Time is what the host says it is (`now_ns`).

    Args:
        inputs: The stage's inputs that arrive as messages.
        slop_s: Largest difference of stamps, seconds, that still counts as the same moment.
        deadline_s: Longest wait for an optional input, seconds.
        queue_size: Messages remembered per input.

    Raises:
        ValueError: If no input is required.
    """

    def __init__(
        self,
        inputs: Mapping[str, Topic],
        *,
        slop_s: float = SLOP_S,
        deadline_s: float = DEADLINE_S,
        queue_size: int = 30,
    ) -> None:
        self.anchor = anchor_of(inputs)
        self.unmatched = self.late = self.duplicated = self.jumps = 0
        self._slop_ns = round(slop_s * 1e9)
        self._deadline_ns = round(deadline_s * 1e9)
        self._queue_size = queue_size
        self._ports: dict[str, _Port[T]] = {
            port: _Port(topic, queue_size) for port, topic in inputs.items() if port != self.anchor
        }
        self._pending: deque[tuple[int, T, int]] = deque()  # stamp, message, time of arrival
        self._newest_anchor_ns: int | None = None
        self._last_set_ns: int | None = None

    def feed(self, port: str, stamp_ns: int, item: T, now_ns: int) -> list[dict[str, Any]]:
        """Take one message in; return the sets it completes, usually none or one."""
        if port == self.anchor:
            self._add_anchor(stamp_ns, item, now_ns)
        elif not self._ports[port].add(stamp_ns, item):
            self.duplicated += 1
        return self.poll(now_ns)

    def poll(self, now_ns: int) -> list[dict[str, Any]]:
        """Return the sets that are complete now that time has passed."""
        sets = []
        while self._pending:
            stamp_ns, item, arrived_ns = self._pending[0]
            matched = self._match(stamp_ns, overdue=now_ns - arrived_ns >= self._deadline_ns)
            if any(matched[p] is None and not self._ports[p].topic.optional for p in matched):
                self._pending.popleft()
                self.unmatched += 1
                continue
            if any(isinstance(value, _Waiting) for value in matched.values()):
                break
            self._pending.popleft()
            self._last_set_ns = stamp_ns
            for port in self._ports.values():
                port.forget_before(stamp_ns - self._slop_ns)
            sets.append({self.anchor: item, **matched})
        return sets

    def finish(self) -> list[dict[str, Any]]:
        """Return what is complete without waiting any longer, and forget the rest: the end."""
        sets = self.poll(now_ns=1 << 62)
        self.unmatched += len(self._pending)
        self._pending.clear()
        return sets

    def due_ns(self) -> int | None:
        """Return when `poll` may have more without another message; None if nothing waits."""
        return self._pending[0][2] + self._deadline_ns if self._pending else None

    def forget(self, port: str) -> None:
        """Forget what has come in on a port other than the anchor, its last message too."""
        self._ports[port].forget()
        self._ports[port].last = None

    def missing(self) -> list[str]:
        """Return the required inputs from which nothing has come yet."""
        silent = [
            p for p, s in self._ports.items() if s.newest_ns is None and not s.topic.optional
        ]
        return silent if self._newest_anchor_ns is not None else [self.anchor, *silent]

    def _match(self, stamp_ns: int, *, overdue: bool) -> dict[str, T | _Waiting | None]:
        return {
            name: port.match(stamp_ns, self._slop_ns, overdue)
            for name, port in self._ports.items()
        }

    def _add_anchor(self, stamp_ns: int, item: T, now_ns: int) -> None:
        newest_ns = self._newest_anchor_ns
        if newest_ns is not None and stamp_ns < newest_ns - JUMP_NS:
            self._start_anew(stamp_ns)
        elif any(stamp == stamp_ns for stamp, _, _ in self._pending) or (
            stamp_ns == self._last_set_ns
        ):
            self.duplicated += 1
            return
        elif self._last_set_ns is not None and stamp_ns < self._last_set_ns:
            self.late += 1
            return
        newest_ns = self._newest_anchor_ns
        in_order = newest_ns is None or stamp_ns > newest_ns
        self._newest_anchor_ns = stamp_ns if in_order else self._newest_anchor_ns
        self._pending.append((stamp_ns, item, now_ns))
        if not in_order:
            self._pending = deque(sorted(self._pending, key=lambda entry: entry[0]))
        if len(self._pending) > self._queue_size:
            self._pending.popleft()
            self.unmatched += 1

    def _start_anew(self, stamp_ns: int) -> None:
        self.jumps += 1
        self.unmatched += len(self._pending)
        self._pending.clear()
        self._newest_anchor_ns = self._last_set_ns = None
        for port in self._ports.values():
            if port.newest_ns is not None and port.newest_ns > stamp_ns + JUMP_NS:
                port.forget()
