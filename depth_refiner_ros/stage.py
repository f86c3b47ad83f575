"""What a stage declares, and how stages compose to a pipeline.

A stage is a plain class that knows no middleware: `Parameters`, `inputs`, `outputs`, and a call
from one value per input to one value per output. A host (ROS node, bag, live network) connects the
declared topics and needs to know nothing else about it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, make_dataclass, replace
import time
from typing import Any, ClassVar, Protocol

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
from .parameters import Parameters


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


@dataclass(frozen=True, slots=True)
class PoseLookup:
    """An input that tf answers: where the frame of a port sat in a fixed one, at its value's time.

    It is None where tf does not know, or the parameter is empty.

    Attributes:
        source: Port whose frame is placed.
        parameter: Parameter of the stage that names the fixed frame.
    """

    source: str
    parameter: str


Input = Topic | FrameLookup | PoseLookup


class StageModel(Protocol):
    """A model of a stage, as its host sees it.

    Attributes:
        waits: Whether a frame waits until the model is loaded; else it is loaded beside.
        trouble: Why it does not run; empty if it does, or has not been asked to.
        back_end: What ran the last frame; empty if nothing did.
        note: Why that was chosen, once it was.
    """

    waits: bool
    trouble: str
    back_end: str
    note: str

    @property
    def loading(self) -> str:
        """What is being loaded or compiled; empty if nothing is."""


@dataclass
class Capabilities:
    """What a stage has beside its call: a memory, models. By default it has neither.

    Attributes:
        remembers: Whether what it puts out depends on earlier frames.
        models: What it runs; the first one's back end is that of the stage.
        otherwise: The back end that is reported where no model runs, such as 'classical'.
        remark: What the stage adds to the notes of its models.
        unnamed_model: The model that it chose by itself for the last frame; empty if it did not.
        declined: Why it must not take such a model, which a live host sets; empty if it may.
    """

    remembers: bool = False
    models: tuple[StageModel, ...] = ()
    otherwise: str = ''
    remark: str = ''
    unnamed_model: str = ''
    declined: str = ''

    @property
    def trouble(self) -> str:
        """Why a model does not run; empty if all do."""
        return '; '.join(dict.fromkeys(each.trouble for each in self.models if each.trouble))

    @property
    def loading(self) -> str:
        """Which models are being loaded; empty if none is."""
        return ', '.join(each.loading for each in self.models if each.loading)

    @property
    def back_end(self) -> str:
        """What ran the last frame; empty without models."""
        running = self.models[0].back_end if self.models and not self.trouble else ''
        return running or self.otherwise

    @property
    def note(self) -> str:
        """Why these back ends were chosen, once they were."""
        texts = (*(each.note for each in self.models), self.remark)
        return ' '.join(text for text in texts if text)

    def load_beside(self) -> None:
        """Do without models while they are loaded."""
        for model in self.models:
            model.waits = False


class Stage(Protocol):
    """A callable from one value per input to one value per output, with declared parameters.

    `parameters` may be replaced between two calls; what is declared `live` then takes effect.
    `capabilities` say what a host needs to know beside that: `Capabilities()` of most stages.
    """

    Parameters: ClassVar[Any]
    inputs: ClassVar[Mapping[str, Input]]
    outputs: ClassVar[Mapping[str, Topic]]
    capabilities: Capabilities
    parameters: Any

    def __init__(self, parameters: Any) -> None: ...

    def __call__(self, *args: Any, **values: Any) -> Mapping[str, Any]:
        """Return one value per output, or fewer where there is none."""


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
        remembers: Whether what a stage puts out depends on earlier frames.
        last_s: Seconds each stage took in the last call, by name.
        last_cpu_s: Processor time of all threads of the process meanwhile, by name.
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
        self.remembers = any(each.remembers for each in self.capabilities.values())
        self.last_s: dict[str, float] = {}
        self.last_cpu_s: dict[str, float] = {}
        self.left_out: dict[str, str] = {}
        self.without_provenance = 0
        self._provenance_comes = False

    @property
    def capabilities(self) -> dict[str, Capabilities]:
        """What every stage has beside its call, by name."""
        return {name: stage.capabilities for name, stage in self.stages.items()}

    @property
    def troubles(self) -> dict[str, str]:
        """What keeps stages from doing their best, by name: they run, but not as configured."""
        return {name: each.trouble for name, each in self.capabilities.items() if each.trouble}

    @property
    def loading(self) -> dict[str, str]:
        """Which models stages are doing without while they are loaded, by name."""
        return {name: each.loading for name, each in self.capabilities.items() if each.loading}

    @property
    def notes(self) -> dict[str, str]:
        """What was chosen to run models and why, by stage."""
        return {name: each.note for name, each in self.capabilities.items() if each.note}

    @property
    def status(self) -> dict[str, str]:
        """What stages did in the last call, as `<stage>.<what>`."""
        return {
            f'{name}.{what}': text
            for name, stage in self.stages.items()
            for what, text in getattr(stage, 'status', {}).items()
        }

    @property
    def back_ends(self) -> dict[str, str]:
        """What runs the model of every stage that can have one, by name."""
        return {name: each.back_end for name, each in self.capabilities.items() if each.models}

    @property
    def unnamed_models(self) -> dict[str, str]:
        """The models of the last call that ran without being named, by stage."""
        found = self.capabilities.items()
        return {name: each.unnamed_model for name, each in found if each.unnamed_model}

    def load_beside(self) -> None:
        """Let stages do without their models while these are loaded: for a host in a hurry."""
        for each in self.capabilities.values():
            each.load_beside()

    def decline_models(self, why: str) -> None:
        """Have stages leave models that are not named, for a reason; without one, take them."""
        for each in self.capabilities.values():
            if each.models:
                each.declined = why

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
        return dict(self.outputs_in_turn(transforms, **values))

    def outputs_in_turn(
        self,
        transforms: TransformTree | None = None,
        wanted: Collection[str] | None = None,
        **values: Any,
    ) -> Iterator[tuple[str, Any]]:
        """Run the stages that are needed, and yield every output as soon as it is there.

        Args:
            transforms: What answers the stages' frame lookups.
            wanted: Names of the outputs that somebody wants; None: all of them.
            values: One value per input; optional ones may be left out.

        Yields:
            Name, `<stage>.<port>`, and value.

        Raises:
            LookupError: If tf does not connect two frames that a stage looks up.
            ValueError: If a value does not fit the others.
        """
        self.left_out = {}
        values.update(self._companions(values))
        lost = False
        for name in self.needed(wanted):
            stage = self.stages[name]
            started_s, started_cpu_s = time.perf_counter(), time.process_time()
            results = self._results(stage, values, transforms or TransformTree())
            self.last_cpu_s[name] = time.process_time() - started_cpu_s
            self.last_s[name] = time.perf_counter() - started_s
            if lost and (provenance := results.get('provenance')) is not None:
                marks = at_most(provenance.provenance, Provenance.INPAINTED)
                results = {**results, 'provenance': replace(provenance, provenance=marks)}
            # What a stage leaves out is gone: its input must not pass for its output.
            replaced = {port: results.get(port) for port in stage.outputs}
            if 'depth' in replaced:
                replaced = {**dict.fromkeys(_COMPANIONS), **replaced}
                lost |= bool(values.get('provenance')) and replaced['provenance'] is None
            values.update(replaced)
            for port, value in results.items():
                yield f'{name}.{port}', value

    def needed(self, wanted: Collection[str] | None) -> list[str]:
        """Return the stages whose outputs are wanted, and those that these build on, in order."""
        if wanted is None:
            return list(self.stages)
        found: list[str] = []
        read: set[str] = set()
        for name, stage in reversed(self.stages.items()):
            ports = set(stage.outputs)
            if not (ports & read or any(f'{name}.{port}' in wanted for port in ports)):
                continue
            found.append(name)
            if 'depth' in ports:
                ports.update(_COMPANIONS)
            read = (read - ports) | set(stage.inputs)
        return found[::-1]

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


def needs_tf(pipeline: Pipeline) -> bool:
    """Tell whether a stage asks for something that tf answers."""
    for stage in pipeline.stages.values():
        for item in stage.inputs.values():
            if isinstance(item, FrameLookup):
                return True
            if isinstance(item, PoseLookup) and getattr(stage.parameters, item.parameter):
                return True
    return False


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
        if isinstance(lookup, PoseLookup):
            fixed, placed = getattr(stage.parameters, lookup.parameter), values.get(lookup.source)
            found[port] = None
            if fixed and placed is not None:
                header = placed.header
                found[port] = tree.lookup_at(fixed, header.frame_id, header.stamp_ns)
            continue
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
