"""Recognises published models by what goes into their graphs and what comes out.

How each of them is used lies in models/published: a description as any other, with the names that
exporters give its inputs and outputs (`names`) and its files (`files`, a regular expression).
"""

from __future__ import annotations

from collections.abc import Mapping
import difflib
from functools import cache
from pathlib import Path
import re
from typing import Any, NamedTuple

import yaml

from .description import ModelDescription, check_signature, parse_description
from .model import MODELS, ModelError
from .onnx_file import OnnxFile
from .signature import Signature, TensorType

PUBLISHED = MODELS / 'published'

_STEREO = (
    'it takes two pictures of a stereo pair; the stages take one camera. Publish its depth with '
    'the stereo node of its authors, and refine that'
)
_UNSERVED: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({'left', 'right'}), _STEREO),
    (frozenset({'left_image', 'right_image'}), _STEREO),
    (
        frozenset({'points', 'metric_scale'}),
        'it puts out points up to a shift and a focal length that are solved outside of the graph '
        '(MoGe), which is not supported',
    ),
)


class Published(NamedTuple):
    """A published model, as it is shipped.

    Attributes:
        name: Name of the model.
        note: What its depth is, one sentence.
        description: How it is used, under its own names.
        content: The document it was read from.
    """

    name: str
    note: str
    description: ModelDescription
    content: Mapping[str, Any]

    def alternatives(self, name: str) -> list[str]:
        """Return the names that exporters give an input or output."""
        return [str(one) for one in self.content['names'].get(name, [name])]


class Recognition(NamedTuple):
    """What a file was taken for.

    Attributes:
        published: The model.
        content: Its description under the names, types and sizes of this file.
        assumed: What the file does not say and was assumed, a sentence each.
    """

    published: Published
    content: dict[str, Any]
    assumed: list[str]


@cache
def published_models() -> dict[str, Published]:
    """Return what is shipped about published models, by name."""
    found = {}
    for path in sorted(PUBLISHED.glob('*.yaml')):
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
        description = parse_description(content, str(path))
        found[path.stem] = Published(path.stem, content['note'], description, content)
    return found


def recognise(file: OnnxFile, name: str | None = None) -> Recognition:
    """Find out which published model a file is.

    Args:
        file: Looked into by `read_graph`.
        name: A published model that the user says it is; None to find out.

    Raises:
        ModelError: If it is none of them, or could be several; the text names them.
    """
    signature = file.signature
    for telling, why in _UNSERVED:
        if telling <= {*signature.inputs, *signature.outputs}:
            raise ModelError(f'{file.path}: {why}.')
    known = published_models()
    if name is not None and name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f'did you mean {near[0]}?' if near else f'known: {", ".join(known)}'
        raise ModelError(f'no published model {name}; {hint}')
    candidates = {
        each.name: names
        for each in known.values()
        if (names := _matched(each, signature)) is not None
    }
    if name is not None:
        if name not in candidates:
            raise ModelError(
                f'{file.path} is no {name}: {_mismatch(known[name], signature)}; it has '
                f'{signature}'
            )
        return _recognition(known[name], candidates[name], file, [f'that it is {name}, as given'])
    if not candidates:
        raise ModelError(
            f'{file.path} is no model that is known here: {signature}. Write '
            f'{file.path.with_suffix(".yaml")} for it; docs/models.md says how'
        )
    # More of what comes out is more of a proof.
    most = max(len(names) for names in candidates.values())
    best = [each for each, names in candidates.items() if len(names) == most]
    if len(best) == 1:
        return _recognition(known[best[0]], candidates[best[0]], file, [])
    by_file = [
        each
        for each in best
        if re.search(known[each].content.get('files', '(?!)'), file.path.stem)
    ]
    if len(by_file) == 1:
        assumed = [f'that it is {by_file[0]}, by the name of the file']
        return _recognition(known[by_file[0]], candidates[by_file[0]], file, assumed)
    raise ModelError(
        f'{file.path} could be {", ".join(by_file or best)}, which have the same inputs and '
        'outputs: name it with --as NAME'
    )


def _matched(published: Published, signature: Signature) -> dict[str, str] | None:
    """Return the names in a file by the names of a description, or None if it does not fit."""
    description = published.description
    found: dict[str, str] = {}
    for name in description.inputs:
        names = [one for one in published.alternatives(name) if one in signature.inputs]
        if not names:
            return None
        found[name] = names[0]
    if set(signature.inputs) - set(found.values()):
        return None
    for output in description.outputs:
        names = [one for one in published.alternatives(output.name) if one in signature.outputs]
        if not names:
            if output.role == 'depth':
                return None
            continue
        found[output.name] = names[0]
    for name in description.ignored:
        names = [one for one in published.alternatives(name) if one in signature.outputs]
        if names:
            found[name] = names[0]
    required = {output.name for output in description.outputs if output.role == 'mask'}
    if not required <= set(found) or set(signature.outputs) - set(found.values()):
        return None
    for name in description.inputs:
        if _layout(signature.inputs[found[name]].shape, _channels(published, name)) is None:
            return None
    return found


def _mismatch(published: Published, signature: Signature) -> str:
    for name in published.description.inputs:
        if not any(one in signature.inputs for one in published.alternatives(name)):
            return f'no input is called {" or ".join(published.alternatives(name))}'
    depth = published.description.depth.name
    if not any(one in signature.outputs for one in published.alternatives(depth)):
        return f'no output is called {" or ".join(published.alternatives(depth))}'
    return 'it takes or puts out more, or other channels'


def _channels(published: Published, name: str) -> int:
    counts = {'color': 3, 'rays': 3, 'depth': 1, 'mask': 1}
    return sum(counts.get(part.role, 0) for part in published.description.inputs[name].parts)


def _layout(shape: tuple[int | str, ...], channels: int) -> str | None:
    """Return how an input of these channels is laid out; None if it cannot be."""
    if not channels:
        return 'NCHW'
    for layout in ('NCHW', 'NHWC', 'CHW', 'HWC', 'NHW', 'HW'):
        if len(layout) != len(shape) or ('C' not in layout and channels != 1):
            continue
        if 'C' not in layout or shape[layout.index('C')] == channels:
            return layout
    return 'NCHW' if not shape else None


def _recognition(
    published: Published, names: dict[str, str], file: OnnxFile, assumed: list[str]
) -> Recognition:
    """Put the names, types and sizes of a file into a description."""
    source = published.content
    content = {
        key: value for key, value in source.items() if key not in ('names', 'files', 'note')
    }
    content['inputs'] = {}
    size = dict(source['size'])
    fixed_sizes = []
    for name in published.description.inputs:
        tensor = file.signature.inputs[names[name]]
        described = dict(source['inputs'][name])
        layout = _layout(tensor.shape, _channels(published, name)) or 'NCHW'
        if layout != 'NCHW':
            described['layout'] = layout
        if tensor.dtype and tensor.dtype != 'float32':
            described['dtype'] = tensor.dtype
        fixed = _fixed_size(tensor, layout)
        fixed_sizes.append(fixed)
        if fixed and 'size' in described:
            described['size'] = list(fixed)
        elif fixed:
            size.update(height=fixed[0], width=fixed[1])
            size.pop('multiple', None)
            if size['rule'] in ('keep', 'short_side'):
                size['rule'] = 'stretch'
        content['inputs'][names[name]] = described
    if size == source['size'] and not all(fixed_sizes):
        assumed = [
            *assumed,
            f'that it wants {size["width"]}x{size["height"]} px ({size["rule"]}); the file takes '
            'any size',
        ]
    content['size'] = size
    content['outputs'] = {
        names[name]: value for name, value in source['outputs'].items() if name in names
    }
    check_signature(
        parse_description(content, str(file.path)), file.signature, f'published {published.name}'
    )
    return Recognition(published, content, assumed)


def _fixed_size(tensor: TensorType, layout: str) -> tuple[int, int] | None:
    if len(tensor.shape) != len(layout):
        return None
    height, width = tensor.shape[layout.index('H')], tensor.shape[layout.index('W')]
    if isinstance(height, int) and isinstance(width, int):
        return height, width
    return None


def write_description(content: Mapping[str, Any], path: Path) -> None:
    """Write a description, whole or not at all."""
    beside = path.with_name(path.name + '.partial')
    beside.write_text(
        yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True), encoding='utf-8'
    )
    beside.replace(path)
