"""Looks into ONNX files before anything else opens them.

A model from a stranger shall not be able to read other files, load code or take all memory. The
few fields that tell are read here, straight from protobuf's wire format: the package does not need
the `onnx` library for it, and no parser of a back end has seen the file yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
import hashlib
import json
import mmap
from pathlib import Path
from typing import Any

import numpy.typing as npt

from .description import (
    ModelDescription,
    check_signature,
    description_path,
    read_description,
)
from .model import ModelError
from .signature import Signature, TensorType

METADATA_KEY = 'depth_refiner'
LARGEST_BYTES = 2 * 1024**3
"""What protobuf allows one file; larger models keep their weights in files beside it."""

# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_METADATA, _MODEL_FUNCTIONS = 7, 8, 14, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SPARSE = 1, 5, 11, 12, 15
_NODE_ATTRIBUTE, _NODE_OP, _NODE_DOMAIN = 5, 4, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_TENSOR_NAME, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 8, 13, 14
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR = 1, 2, 1
_TENSOR_TYPE_DTYPE, _TENSOR_TYPE_SHAPE, _SHAPE_DIMENSION = 1, 2, 1
_DIMENSION_LENGTH, _DIMENSION_NAME = 1, 2
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_DTYPES = {
    1: 'float32',
    2: 'uint8',
    3: 'int8',
    6: 'int32',
    7: 'int64',
    9: 'bool',
    10: 'float16',
    11: 'float64',
}
_DEEPEST = 8

# Standard operators that run code or touch files do not exist; control flow does, and may not end.
_FORBIDDEN = frozenset({'Loop', 'Scan'})
_DOMAINS = frozenset({'', 'ai.onnx'})


@dataclass(frozen=True)
class ModelMetadata:
    """Metadata of a model.

    Attributes:
        name: Name of the model.
        stage: Which stage it is for.
        description: One sentence.
        sizes: Heights and widths it is compiled for unless others are named, px.
        units: Unit of each input and output.
        commit: Commit of the code that trained it.
        licence: Licence of the weights.
        data: What it was trained on.
        tolerances: How far an output, 99 % of it, may be from ONNX Runtime's, where that is known
            better than `parity` guesses; in its unit.
    """

    name: str
    stage: str = ''
    description: str = ''
    sizes: tuple[tuple[int, int], ...] = ()
    units: dict[str, str] = field(default_factory=dict)
    commit: str = ''
    licence: str = ''
    data: str = ''
    tolerances: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class OnnxFile:
    """A file that was inspected.

    Attributes:
        path: Path of the file.
        metadata: What it says of itself.
        operators: All that it uses.
        signature: Its inputs and outputs.
        weights: Files beside it that hold its weights.
        description: How it is used, if it is not a model of this package.
    """

    path: Path
    metadata: ModelMetadata
    operators: frozenset[str]
    signature: Signature
    weights: tuple[Path, ...] = ()
    description: ModelDescription | None = None

    def size_of(self, inputs: Mapping[str, npt.NDArray[Any]]) -> tuple[int, int]:
        """Return height and width, px, of the images that the graph is given."""
        describe = self.description
        return image_size(inputs) if describe is None else describe.size_of(inputs)

    def image_axes(self, name: str, dimensions: int) -> tuple[int, int] | None:
        """Return the axes of height and width of an input; None if it has no size of the images.

        Args:
            name: Name of the input.
            dimensions: Dimensions of the input.
        """
        if self.description is None:
            return (0, 1) if dimensions >= 2 else None
        each = self.description.inputs[name]
        if each.size is not None or each.role in ('intrinsics', 'constant'):
            return None
        return each.layout.index('H'), each.layout.index('W')

    def input_shape(self, name: str, shape: Sequence[int], size: tuple[int, int]) -> Any:
        """Return the shape of an input for images of a size.

        Args:
            name: Name of the input.
            shape: As the graph declares it, -1 where it is free.
            size: Height and width, px.

        Raises:
            ModelError: If other lengths than height and width are free.
        """
        layout = self.description.inputs[name].layout if self.description else 'HWC'[: len(shape)]
        lengths = dict(zip('HW', size, strict=True)) | {'N': 1}
        found = [
            lengths.get(letter, length) if length < 0 else length
            for letter, length in zip(layout, shape, strict=False)
        ]
        if len(layout) != len(shape) or min(found, default=1) < 0:
            raise ModelError(
                f'{name} has shape {tuple(shape)}; height and width, as {layout}, must be its '
                'only free dimensions'
            )
        return tuple(found)


def image_size(inputs: Mapping[str, npt.NDArray[Any]]) -> tuple[int, int]:
    """Return height and width, px, of the images that a model of this package is given."""
    height, width = next(iter(inputs.values())).shape[:2]
    return height, width


def file_hash(file: OnnxFile) -> str:
    """Return a digest of a model with its weights."""
    found = hashlib.sha256()
    for path in (file.path, *file.weights):
        with path.open('rb') as content:
            while block := content.read(1 << 20):
                found.update(block)
    return found.hexdigest()


def read_onnx(path: Path) -> OnnxFile:
    """Look into an ONNX file, and into the description beside it if there is one.

    Raises:
        ModelError: If it is damaged, too large, needs what no model of this package needs, or
            is not what its description says.
    """
    file = read_graph(path)
    beside = description_path(path)
    if not beside.exists():
        return file
    description = read_description(beside)
    check_signature(description, file.signature, str(beside))
    metadata = ModelMetadata(
        description.name,
        stage=description.stage,
        licence=description.licence,
        tolerances=dict(description.tolerances),
    )
    return replace(file, metadata=metadata, description=description)


def read_graph(path: Path) -> OnnxFile:
    """Look into an ONNX file alone, whatever may describe it.

    Raises:
        ModelError: As `read_onnx`.
    """
    found = _Found()
    try:
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise ModelError(
                f'{path} has {size >> 20} MiB; at most {LARGEST_BYTES >> 20} are read'
            )
        with path.open('rb') as file:
            # Mapped, since of gigabytes of weights only the names are read.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b''
        _model(memoryview(data), found)
    except OSError as error:
        raise ModelError(f'{path} cannot be read: {error.strerror or error}') from None
    except (_MalformedError, UnicodeDecodeError):
        raise ModelError(
            f'{path} is no ONNX file or is damaged; copy it again, and if it came by Git LFS '
            'check that it is more than a pointer'
        ) from None
    if not found.operators:
        raise ModelError(f'{path} is no ONNX file or holds no graph')
    weights = tuple(_weights(path, name) for name in sorted(found.external))
    strange = sorted(found.domains - _DOMAINS)
    if strange or found.functions:
        raise ModelError(
            f'{path} uses operators outside of standard ONNX '
            f'({", ".join(strange) or "functions of its own"}), which is not allowed; export it '
            'with standard operators only'
        )
    if forbidden := sorted(found.operators & _FORBIDDEN):
        raise ModelError(f'{path} uses {", ".join(forbidden)}, which is not allowed')
    return OnnxFile(
        path,
        _metadata(path, found.metadata),
        frozenset(found.operators),
        Signature(
            {k: v for k, v in found.inputs.items() if k not in found.constants}, found.outputs
        ),
        weights,
    )


def _weights(path: Path, name: str) -> Path:
    """Return a file of weights: one that lies beside the model, and no other file of a machine."""
    found = path.parent / name
    if not name or Path(name).name != name or found.is_symlink():
        raise ModelError(
            f'{path} keeps weights in {name or "other files"}, which is not allowed but in its '
            'own folder; save it as one file: '
            'onnx.save(model, path, save_as_external_data=False)'
        )
    if not found.is_file():
        raise ModelError(f'{path} keeps its weights in {name}, which is not beside it; copy both')
    return found


def _metadata(path: Path, texts: dict[str, str]) -> ModelMetadata:
    if METADATA_KEY not in texts:
        return ModelMetadata(path.stem)
    try:
        stored = json.loads(texts[METADATA_KEY])
        if stored.get('format') != 1:
            raise ValueError(f'format {stored.get("format")!r}')
        return ModelMetadata(
            name=str(stored.get('name', path.stem)),
            stage=str(stored.get('stage', '')),
            description=str(stored.get('description', '')),
            sizes=tuple((int(h), int(w)) for h, w in stored.get('sizes', ())),
            units={str(k): str(v) for k, v in stored.get('units', {}).items()},
            commit=str(stored.get('commit', '')),
            licence=str(stored.get('licence', '')),
            data=str(stored.get('data', '')),
            tolerances={str(k): float(v) for k, v in stored.get('tolerances', {}).items()},
        )
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f'{path} describes itself in a way this version does not understand ({error}); '
            'export it with this version of training/depth/export.py'
        ) from None


class _MalformedError(Exception):
    """The bytes are not protobuf."""


@dataclass
class _Found:
    operators: set[str] = field(default_factory=set)
    domains: set[str] = field(default_factory=set)
    metadata: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, TensorType] = field(default_factory=dict)
    outputs: dict[str, TensorType] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    external: set[str] = field(default_factory=set)
    functions: bool = False


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise _MalformedError
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield number and value of every field: bytes where it has a length, else an integer."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        value: Any
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value, at = 0, at + length
        else:
            raise _MalformedError
        if number == 0 or at > len(data):
            raise _MalformedError
        yield number, value


def _bytes(value: Any) -> memoryview:
    if not isinstance(value, memoryview):
        raise _MalformedError
    return value


def _text(value: Any) -> str:
    return str(_bytes(value), 'utf-8')


def _model(data: memoryview, found: _Found) -> None:
    for number, value in _fields(data):
        if number == _MODEL_GRAPH:
            _graph(_bytes(value), found, 0)
        elif number == _MODEL_OPSET:
            entry = dict(_fields(_bytes(value)))
            found.domains.add(_text(entry[1]) if 1 in entry else '')
        elif number == _MODEL_METADATA:
            entry = dict(_fields(_bytes(value)))
            if _ENTRY_KEY in entry and _ENTRY_VALUE in entry:
                found.metadata[_text(entry[_ENTRY_KEY])] = _text(entry[_ENTRY_VALUE])
        elif number == _MODEL_FUNCTIONS:
            found.functions = True


def _graph(data: memoryview, found: _Found, depth: int) -> None:
    if depth > _DEEPEST:
        raise _MalformedError
    for number, value in _fields(data):
        if number == _GRAPH_NODE:
            _node(_bytes(value), found, depth)
        elif number == _GRAPH_INITIALIZER:
            _tensor(_bytes(value), found)
        elif number in (_GRAPH_INPUT, _GRAPH_OUTPUT) and depth == 0:
            name, tensor = _value(_bytes(value))
            (found.inputs if number == _GRAPH_INPUT else found.outputs)[name] = tensor
        elif number == _GRAPH_SPARSE:
            for _, part in _fields(_bytes(value)):
                if isinstance(part, memoryview):
                    _tensor(part, found)


def _node(data: memoryview, found: _Found, depth: int) -> None:
    for number, value in _fields(data):
        if number == _NODE_OP:
            found.operators.add(_text(value))
        elif number == _NODE_DOMAIN:
            found.domains.add(_text(value))
        elif number == _NODE_ATTRIBUTE:
            for part, inner in _fields(_bytes(value)):
                if part in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                    _tensor(_bytes(inner), found)
                elif part in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                    _graph(_bytes(inner), found, depth + 1)


def _tensor(data: memoryview, found: _Found) -> None:
    location: str | None = None
    for number, value in _fields(data):
        if number == _TENSOR_NAME:
            found.constants.add(_text(value))
        elif number == _TENSOR_EXTERNAL:
            entry = dict(_fields(_bytes(value)))
            if _ENTRY_KEY in entry and _text(entry[_ENTRY_KEY]) == 'location':
                location = _text(entry.get(_ENTRY_VALUE, b''))
            location = location or ''
        elif number == _TENSOR_LOCATION and value != 0:
            location = location or ''
    if location is not None:
        found.external.add(location)


def _value(data: memoryview) -> tuple[str, TensorType]:
    """Return the name of a graph's input or output, and what it is."""
    name, dtype = '', 0
    shape: list[int | str] = []
    for number, value in _fields(data):
        if number == _VALUE_NAME:
            name = _text(value)
        elif number == _VALUE_TYPE:
            for kind, tensor in _fields(_bytes(value)):
                if kind != _TYPE_TENSOR:
                    continue
                for part, inner in _fields(_bytes(tensor)):
                    if part == _TENSOR_TYPE_DTYPE:
                        dtype = inner
                    elif part == _TENSOR_TYPE_SHAPE:
                        shape = [_length(_bytes(one)) for _, one in _fields(_bytes(inner))]
    return name, TensorType(_DTYPES.get(dtype, ''), tuple(shape))


def _length(data: memoryview) -> int | str:
    entry = dict(_fields(data))
    if _DIMENSION_LENGTH in entry:
        return int(entry[_DIMENSION_LENGTH])
    return _text(entry[_DIMENSION_NAME]) if _DIMENSION_NAME in entry else '?'
