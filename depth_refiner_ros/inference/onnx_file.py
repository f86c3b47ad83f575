"""Looks into ONNX files before anything else opens them.

A model from a stranger shall not be able to read other files, load code or take all memory. The
few fields that tell are read here, straight from protobuf's wire format: the package does not need
the `onnx` library for it, and no parser of a back end has seen the file yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
import json
from pathlib import Path
from typing import Any

from .model import ModelError

METADATA_KEY = 'depth_refiner'
LARGEST_BYTES = 512 * 1024 * 1024

# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_METADATA, _MODEL_FUNCTIONS = 7, 8, 14, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_ATTRIBUTE, _NODE_OP, _NODE_DOMAIN = 5, 4, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_DEEPEST = 8

# Standard operators that run code or touch files do not exist; control flow does, and may not end.
_FORBIDDEN = frozenset({'Loop', 'Scan'})
_DOMAINS = frozenset({'', 'ai.onnx'})


@dataclass(frozen=True)
class ModelMetadata:
    """What a model says of itself.

    Attributes:
        name: Of the model.
        stage: Which stage it is for.
        description: One sentence.
        sizes: Heights and widths it shall be warmed up for, px.
        units: Unit of each input and output.
        commit: Of the code that trained it.
        licence: Of the weights.
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
    """A file that was looked into.

    Attributes:
        path: Of the file.
        metadata: What it says of itself.
        operators: All that it uses.
    """

    path: Path
    metadata: ModelMetadata
    operators: frozenset[str]


def read_onnx(path: Path) -> OnnxFile:
    """Look into an ONNX file.

    Raises:
        ModelError: If it is damaged, too large, or asks for what no model of this package needs.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise ModelError(
                f'{path} has {size >> 20} MiB; at most {LARGEST_BYTES >> 20} are read'
            )
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise ModelError(f'{path} cannot be read: {error.strerror or error}') from None
    found = _Found()
    try:
        _model(data, found)
    except (_MalformedError, UnicodeDecodeError):
        raise ModelError(
            f'{path} is no ONNX file or is damaged; copy it again, and if it came by Git LFS '
            'check that it is more than a pointer'
        ) from None
    if not found.operators:
        raise ModelError(f'{path} is no ONNX file or holds no graph')
    if found.external:
        raise ModelError(
            f'{path} keeps weights in other files, which is not allowed; save it as one file: '
            'onnx.save(model, path, save_as_external_data=False)'
        )
    strange = sorted(found.domains - _DOMAINS)
    if strange or found.functions:
        raise ModelError(
            f'{path} uses operators outside of standard ONNX '
            f'({", ".join(strange) or "functions of its own"}), which is not allowed; export it '
            'with standard operators only'
        )
    if forbidden := sorted(found.operators & _FORBIDDEN):
        raise ModelError(f'{path} uses {", ".join(forbidden)}, which is not allowed')
    return OnnxFile(path, _metadata(path, found.metadata), frozenset(found.operators))


def _metadata(path: Path, texts: dict[str, str]) -> ModelMetadata:
    if METADATA_KEY not in texts:
        return ModelMetadata(path.stem)
    try:
        told = json.loads(texts[METADATA_KEY])
        if told.get('format') != 1:
            raise ValueError(f'format {told.get("format")!r}')
        return ModelMetadata(
            name=str(told.get('name', path.stem)),
            stage=str(told.get('stage', '')),
            description=str(told.get('description', '')),
            sizes=tuple((int(h), int(w)) for h, w in told.get('sizes', ())),
            units={str(k): str(v) for k, v in told.get('units', {}).items()},
            commit=str(told.get('commit', '')),
            licence=str(told.get('licence', '')),
            data=str(told.get('data', '')),
            tolerances={str(k): float(v) for k, v in told.get('tolerances', {}).items()},
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
    external: bool = False
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
    for number, value in _fields(data):
        if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != 0):
            found.external = True
