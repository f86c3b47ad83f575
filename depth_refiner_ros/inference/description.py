"""Reads how a published model is used: NAME.yaml beside NAME.onnx.

Models of this package take and return metres. Others take normalised pictures of a size of their
own and return disparity, inverse depth up to scale and shift, or metres of another camera. A
description says which, so that one adapter (`described`) serves them all; docs/models.md explains
every key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
import math
from pathlib import Path
import re
from typing import Any, Literal

import numpy.typing as npt
import yaml

from .model import ModelError
from .signature import Signature

FORMAT = 1
"""Version of the schema."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Stage = Literal['estimate_depth', 'inpaint_depth']
Role = Literal['color', 'depth', 'mask', 'rays', 'intrinsics', 'constant']
Kind = Literal[
    'metric', 'inverse_metric', 'log', 'points', 'disparity', 'affine_inverse', 'affine'
]
Triple = tuple[float, float, float]

_CHANNELS: Mapping[str, int] = {'color': 3, 'depth': 1, 'mask': 1, 'rays': 3}
_LAYOUTS = ('NCHW', 'NHWC', 'CHW', 'HWC', 'NHW', 'HW')
_DTYPES = ('float32', 'float16', 'uint8', 'int32', 'int64')
_FOCAL = re.compile(r'none|width/f|f\*baseline|f/[0-9]+(\.[0-9]+)?')


@dataclass(frozen=True)
class Part:
    """Channels of an input that carry one thing.

    Attributes:
        role: What they carry.
        order: Order of the channels of colour: 'rgb' or 'bgr'.
        range: What white is before mean and std: 1 or 255.
        mean: Subtracted from colour.
        std: By which colour is divided then.
        form: How measured depth is given: 'metres', 'inverse' or 'log'.
        hole: What measured depth is where nothing was measured, or where a mask is 0.
        complete: Measured depth may have no holes; the classical filter fills them first.
    """

    role: Role
    order: Literal['rgb', 'bgr'] = 'rgb'
    range: float = 1.0
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    form: Literal['metres', 'inverse', 'log'] = 'metres'
    hole: float = 0.0
    complete: bool = False


@dataclass(frozen=True)
class Input:
    """An input of the graph.

    Attributes:
        parts: What it carries, one after the other along its channels.
        layout: Layout of its dimensions.
        dtype: As NumPy names it.
        size: Height and width of its own, px; None for the size of the model.
        value: Value of a constant.
        dimensions: Dimensions of a constant: 0, or so many of length one.
    """

    parts: tuple[Part, ...]
    layout: str = 'NCHW'
    dtype: str = 'float32'
    size: tuple[int, int] | None = None
    value: float = 0.0
    dimensions: int = 0

    @property
    def role(self) -> Role:
        """What it carries first."""
        return self.parts[0].role


@dataclass(frozen=True)
class Size:
    """The size in which a model takes a picture.

    Attributes:
        rule: 'keep' the camera's; 'stretch' to height and width; 'short_side': as small as covers
            height and width, the aspect kept; 'letterbox': as large as fits into them, the rest
            padded.
        height: Px.
        width: Px.
        multiple: Both sides are multiples of it, px.
        padding: Colour around a letterboxed picture, 0 to 255.
        interpolation: Interpolation of colour.
    """

    rule: Literal['keep', 'stretch', 'short_side', 'letterbox']
    height: int = 0
    width: int = 0
    multiple: int = 1
    padding: Triple = (0.0, 0.0, 0.0)
    interpolation: Literal['nearest', 'linear', 'cubic', 'area'] = 'linear'


@dataclass(frozen=True)
class Output:
    """An output of the graph that is used.

    Attributes:
        name: Name of the output.
        role: 'depth', 'mask' or 'confidence'.
        kind: What the numbers of 'depth' are.
        layout: Layout of points.
        focal: By what metric values of the model are multiplied: 'none', 'f/300', 'width/f',
            'f*baseline'; f is the focal length of the picture in the model's size.
        baseline_m: Baseline of 'f*baseline'.
        valid_m: What is nearer or farther is no depth.
        sense: Whether large values are 'valid' pixels or 'invalid' ones: of a mask of sky, or of
            a confidence that is an uncertainty.
        activation: Applied first: 'none', 'sigmoid' or 'exp'.
        threshold: Threshold of a mask, or of the confidence from which depth is used; 0 uses all.
    """

    name: str
    role: Literal['depth', 'mask', 'confidence']
    kind: Kind = 'metric'
    layout: str = 'NCHW'
    focal: str = 'none'
    baseline_m: float = 0.0
    valid_m: tuple[float, float] = (0.01, 100.0)
    sense: Literal['valid', 'invalid'] = 'valid'
    activation: Literal['none', 'sigmoid', 'exp'] = 'none'
    threshold: float = 0.0


@dataclass(frozen=True)
class ModelDescription:
    """How a model is used.

    Attributes:
        name: Name of the model.
        stage: Which stage it is for.
        inputs: Inputs of the graph, by name.
        size: The size in which it takes a picture.
        outputs: That are used.
        ignored: Outputs that are not.
        licence: Licence of the weights.
        source: Where its authors keep it.
        stddev_share: Standard deviation of its depth, a share of it.
        tolerances: How far each output may be from ONNX Runtime's on another back end.
    """

    name: str
    stage: Stage
    inputs: Mapping[str, Input]
    size: Size
    outputs: tuple[Output, ...]
    ignored: tuple[str, ...] = ()
    licence: str = ''
    source: str = ''
    stddev_share: float = 0.1
    tolerances: Mapping[str, float] = field(default_factory=dict)

    @property
    def depth(self) -> Output:
        """The output that depth comes from."""
        return next(output for output in self.outputs if output.role == 'depth')

    def size_of(self, inputs: Mapping[str, npt.NDArray[Any]]) -> tuple[int, int]:
        """Return height and width, px, of the pictures that the graph is given."""
        for name, each in self.inputs.items():
            if each.size is None and each.role not in ('intrinsics', 'constant'):
                shape = inputs[name].shape
                return shape[each.layout.index('H')], shape[each.layout.index('W')]
        raise ModelError(f'{self.name} is given no picture')

    @property
    def needs_camera(self) -> bool:
        """Whether its depth depends on the intrinsics of the camera."""
        roles = {each.role for each in self.inputs.values()}
        return bool(roles & {'rays', 'intrinsics'}) or self.depth.focal != 'none'

    def parts(self, role: Role) -> list[Part]:
        """Return what its inputs carry of a role."""
        return [part for each in self.inputs.values() for part in each.parts if part.role == role]


def description_path(model: Path) -> Path:
    """Return where the description of an ONNX file lies."""
    return model.with_suffix('.yaml')


def described_at(model: Path) -> ModelDescription | None:
    """Return the description beside an ONNX file; None if there is none.

    Raises:
        ModelError: As `read_description`.
    """
    path = description_path(model)
    return read_description(path) if path.exists() else None


def read_description(path: Path) -> ModelDescription:
    """Read a description.

    Raises:
        ModelError: If it cannot be read, or says what this version does not understand.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise ModelError(f'{path} cannot be read: {error.strerror or error}') from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelError(f'{path} is no YAML: {" ".join(str(error).split())}') from None
    return parse_description(content, str(path))


def parse_description(content: Any, where: str) -> ModelDescription:
    """Turn a parsed YAML document into a description.

    Args:
        content: The document.
        where: Named in errors.

    Raises:
        ModelError: If a key is missing, unknown or of the wrong kind.
    """
    top = _Block(content, where, '')
    version = top.take('format', 0)
    if version != FORMAT:
        raise ModelError(
            f'{where} has format {version!r}; this version of depth_refiner_ros reads format '
            f'{FORMAT}'
        )
    inputs = {
        name: _input(top.inner('inputs').inner(name)) for name in top.inner('inputs').names()
    }
    outputs = [
        _output(name, top.inner('outputs').inner(name)) for name in top.inner('outputs').names()
    ]
    # The last three are for recognising published models, see `published`.
    top.taken.update(('format', 'inputs', 'outputs', 'note', 'names', 'files'))
    tolerances = top.inner('tolerances', optional=True)
    description = ModelDescription(
        name=top.text('name'),
        stage=top.choice('stage', ('estimate_depth', 'inpaint_depth')),
        inputs=inputs,
        size=_size(top.inner('size')),
        outputs=tuple(output for output in outputs if output is not None),
        ignored=tuple(
            name
            for name, output in zip(top.inner('outputs').names(), outputs, strict=True)
            if output is None
        ),
        licence=top.text('licence', ''),
        source=top.text('source', ''),
        stddev_share=top.number('stddev_share', 0.1, low=0.0, high=1.0),
        tolerances={name: tolerances.number(name, low=0.0) for name in tolerances.names()},
    )
    top.taken.update(('size', 'tolerances'))
    top.close()
    _check(description, where)
    return description


def _check(description: ModelDescription, where: str) -> None:
    roles = [part.role for each in description.inputs.values() for part in each.parts]
    if 'color' not in roles and 'depth' not in roles:
        raise ModelError(f'{where}: no input takes colour or depth; say role: color')
    if description.stage == 'inpaint_depth' and 'depth' not in roles:
        raise ModelError(
            f'{where}: a model for inpaint_depth needs an input of role depth; without one it is '
            'for estimate_depth'
        )
    if description.stage == 'estimate_depth' and {'depth', 'mask'} & set(roles):
        raise ModelError(
            f'{where}: estimate_depth gives a model colour alone; one that takes measured depth '
            'is for inpaint_depth'
        )
    kinds = [output.role for output in description.outputs]
    for role in ('depth', 'mask', 'confidence'):
        if kinds.count(role) > 1 or (role == 'depth' and not kinds.count(role)):
            raise ModelError(
                f'{where}: {"exactly" if role == "depth" else "at most"} one output has role '
                f'{role}, found {kinds.count(role)}; give the others role: ignored'
            )
    depth, size = description.depth, description.size
    if depth.kind in ('affine', 'affine_inverse') and depth.focal != 'none':
        raise ModelError(
            f'{where}: outputs.{depth.name}.focal is for metric kinds; {depth.kind} has no metres'
        )
    if depth.kind == 'disparity' and depth.focal != 'f*baseline':
        raise ModelError(
            f'{where}: outputs.{depth.name}: disparity needs focal: f*baseline and baseline_m; '
            'what is inverse depth up to scale and shift is kind: affine_inverse'
        )
    if depth.focal == 'f*baseline' and depth.baseline_m <= 0:
        raise ModelError(f'{where}: outputs.{depth.name}.baseline_m must be given, metres')
    if size.rule != 'keep' and not (size.height > 0 and size.width > 0):
        raise ModelError(f'{where}: size.rule {size.rule} needs size.height and size.width, px')
    if size.height % size.multiple or size.width % size.multiple:
        raise ModelError(
            f'{where}: size {size.width}x{size.height} is no multiple of {size.multiple}'
        )


class _Block:
    """A mapping of the document, whose keys are taken one by one."""

    def __init__(self, content: Any, where: str, path: str) -> None:
        if not isinstance(content, Mapping):
            raise ModelError(
                f'{where}: {path or "the document"} must be a mapping of keys to values, got '
                f'{_short(content)}'
            )
        self.content = content
        self.where = where
        self.path = path
        self.taken: set[str] = set()

    def key(self, name: str) -> str:
        return f'{self.path}.{name}' if self.path else name

    def take(self, name: str, default: Any = None) -> Any:
        self.taken.add(name)
        return self.content.get(name, default)

    def names(self) -> list[str]:
        return [str(name) for name in self.content]

    def wrong(self, name: str, wanted: str) -> ModelError:
        if name not in self.content:
            return ModelError(f'{self.where}: {self.key(name)} is missing; it must be {wanted}')
        got = _short(self.content[name])
        return ModelError(f'{self.where}: {self.key(name)} must be {wanted}, got {got}')

    def inner(self, name: str, *, optional: bool = False) -> _Block:
        content = self.take(name, {} if optional else None)
        if not isinstance(content, Mapping):
            raise self.wrong(name, 'a mapping of keys to values')
        return _Block(content, self.where, self.key(name))

    def text(self, name: str, default: str | None = None) -> str:
        value = self.take(name, default)
        if not isinstance(value, str) or (default is None and not value):
            raise self.wrong(name, 'a text')
        return value

    def choice(self, name: str, choices: Iterable[Any], default: Any = None) -> Any:
        value = self.take(name, default)
        if value not in tuple(choices):
            raise self.wrong(name, f'one of {", ".join(map(str, choices))}')
        return value

    def number(
        self,
        name: str,
        default: float | None = None,
        *,
        low: float = -math.inf,
        high: float = math.inf,
    ) -> float:
        value = self.take(name, default)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or not low <= value <= high
        ):
            bounds = '' if (low, high) == (-math.inf, math.inf) else f' from {low:g} to {high:g}'
            raise self.wrong(name, f'a number{bounds}')
        return float(value)

    def whole(self, name: str, default: int | None = None) -> int:
        value = self.number(name, default, low=0, high=16384)
        if value != int(value):
            raise self.wrong(name, 'a whole number')
        return int(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, 'true or false')
        return value

    def numbers(self, name: str, count: int, default: Any = None) -> Any:
        value = self.take(name, default)
        good = (
            isinstance(value, list | tuple)
            and len(value) == count
            and all(isinstance(one, int | float) and not isinstance(one, bool) for one in value)
            and all(math.isfinite(one) for one in value)
        )
        if not good:
            raise self.wrong(name, f'a list of {count} numbers')
        return tuple(float(one) for one in value)

    def close(self) -> None:
        """Check that nothing is left."""
        strange = [str(name) for name in self.content if name not in self.taken]
        if strange:
            raise ModelError(
                f'{self.where}: {self.key(strange[0])} is not known here; known: '
                f'{", ".join(sorted(self.taken))}'
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def _input(block: _Block) -> Input:
    together = block.take('concatenated')
    if together is None:
        parts: tuple[Part, ...] = (_part(block),)
    else:
        if not isinstance(together, list) or not together:
            raise block.wrong('concatenated', 'a list of what the channels carry')
        blocks = [
            _Block(one, block.where, f'{block.key("concatenated")}[{at}]')
            for at, one in enumerate(together)
        ]
        parts = tuple(_part(one) for one in blocks)
        for one in blocks:
            one.close()
        if any(part.role not in _CHANNELS for part in parts):
            raise block.wrong('concatenated', f'a list of {", ".join(_CHANNELS)}')
    height, width = (int(one) for one in block.numbers('size', 2, (0, 0)))
    found = Input(
        parts,
        layout=block.choice('layout', _LAYOUTS, 'NCHW'),
        dtype=block.choice('dtype', _DTYPES, 'float32'),
        size=(height, width) if height and width else None,
        value=block.number('value', 0.0 if parts[0].role != 'constant' else None),
        dimensions=block.whole('dimensions', 0),
    )
    block.close()
    return found


def _part(block: _Block) -> Part:
    role = block.choice('role', ('color', 'depth', 'mask', 'rays', 'intrinsics', 'constant'))
    mean, std = block.take('mean', (0, 0, 0)), block.take('std', (1, 1, 1))
    return Part(
        role=role,
        order=block.choice('order', ('rgb', 'bgr'), 'rgb'),
        range=float(block.choice('range', (1, 255), 1)),
        mean=IMAGENET_MEAN if mean == 'imagenet' else block.numbers('mean', 3, (0, 0, 0)),
        std=IMAGENET_STD if std == 'imagenet' else block.numbers('std', 3, (1, 1, 1)),
        form=block.choice('form', ('metres', 'inverse', 'log'), 'metres'),
        hole=block.number('hole', 0.0),
        complete=block.flag('complete', False),
    )


def _size(block: _Block) -> Size:
    found = Size(
        rule=block.choice('rule', ('keep', 'stretch', 'short_side', 'letterbox')),
        height=block.whole('height', 0),
        width=block.whole('width', 0),
        multiple=max(1, block.whole('multiple', 1)),
        padding=block.numbers('padding', 3, (0, 0, 0)),
        interpolation=block.choice(
            'interpolation', ('nearest', 'linear', 'cubic', 'area'), 'linear'
        ),
    )
    block.close()
    return found


def _output(name: str, block: _Block) -> Output | None:
    role = block.choice('role', ('depth', 'mask', 'confidence', 'ignored'))
    if role == 'ignored':
        block.close()
        return None
    kinds = ('metric', 'inverse_metric', 'log', 'points', 'disparity', 'affine_inverse', 'affine')
    focal = block.text('focal', 'none')
    if not _FOCAL.fullmatch(focal):
        raise block.wrong('focal', 'none, f/NUMBER, width/f or f*baseline')
    low, high = block.numbers('valid_m', 2, (0.01, 100.0))
    if not 0 <= low < high:
        raise block.wrong('valid_m', 'two distances in metres, the nearer first')
    activation = block.choice('activation', ('none', 'sigmoid', 'exp'), 'none')
    found = Output(
        name,
        role,
        kind=block.choice('kind', kinds, None if role == 'depth' else 'metric'),
        layout=block.choice('layout', _LAYOUTS, 'NCHW'),
        focal=focal,
        baseline_m=block.number('baseline_m', 0.0, low=0.0),
        valid_m=(low, high),
        sense=block.choice('sense', ('valid', 'invalid'), 'valid'),
        activation=activation,
        threshold=block.number('threshold', 0.5 if role == 'mask' else 0.0),
    )
    block.close()
    return found


def check_signature(description: ModelDescription, signature: Signature, where: str) -> None:
    """Check that a description is of this graph.

    Raises:
        ModelError: If an input or output is missing, or has another type or shape than described.
    """
    described, present = set(description.inputs), set(signature.inputs)
    if missing := sorted(described - present):
        raise ModelError(
            f'{where} describes the input {missing[0]}, which the model does not have; it has '
            f'{", ".join(signature.inputs)}'
        )
    if missing := sorted(present - described):
        raise ModelError(
            f'{where} does not describe the input {missing[0]} '
            f'{signature.inputs[missing[0]]} of the model'
        )
    for name, each in description.inputs.items():
        _check_input(name, each, description.size, signature, where)
    outputs = [*(output.name for output in description.outputs), *description.ignored]
    for name in outputs:
        if name not in signature.outputs:
            raise ModelError(
                f'{where} describes the output {name}, which the model does not have; it has '
                f'{", ".join(signature.outputs)}'
            )
    depth = description.depth
    shape = signature.outputs[depth.name].shape
    fewest = 3 if depth.kind == 'points' else 2
    if shape and not fewest <= len(shape) <= 4:
        raise ModelError(
            f'{where}: the output {depth.name} has {len(shape)} dimensions '
            f'{signature.outputs[depth.name]}; depth has {fewest} to 4'
        )


def _check_input(name: str, each: Input, size: Size, signature: Signature, where: str) -> None:
    tensor = signature.inputs[name]
    if tensor.dtype and tensor.dtype != each.dtype:
        raise ModelError(
            f'{where} says that the input {name} is {each.dtype}, but the model takes '
            f'{tensor.dtype}'
        )
    if each.role == 'constant' and len(tensor.shape) != each.dimensions:
        raise ModelError(
            f'{where} says that the constant {name} has {each.dimensions} dimensions, but the '
            f'model takes {len(tensor.shape)}: {tensor}'
        )
    if each.role in ('intrinsics', 'constant') or not tensor.shape:
        return
    if len(tensor.shape) != len(each.layout):
        raise ModelError(
            f'{where} says that the input {name} is {each.layout}, but the model takes '
            f'{len(tensor.shape)} dimensions {tensor}'
        )
    channels = sum(_CHANNELS[part.role] for part in each.parts)
    wanted: dict[str, int] = {'N': 1, 'C': channels}
    if 'C' not in each.layout and channels != 1:
        raise ModelError(f'{where}: {each.layout} of the input {name} has no place for colour')
    if each.size:
        wanted |= {'H': each.size[0], 'W': each.size[1]}
    elif size.rule in ('stretch', 'letterbox'):
        wanted |= {'H': size.height, 'W': size.width}
    for letter, length in zip(each.layout, tensor.shape, strict=True):
        if not isinstance(length, int):
            continue
        if letter in wanted and length != wanted[letter]:
            raise ModelError(
                f'{where} gives the input {name} {wanted[letter]} along {letter} of '
                f'{each.layout}, but the model takes {length}: {tensor}'
            )
        if letter in 'HW' and letter not in wanted:
            raise ModelError(
                f'{where} says size.rule {size.rule}, but the input {name} of the model has a '
                f'fixed size, {tensor}; use rule: stretch or letterbox'
            )
