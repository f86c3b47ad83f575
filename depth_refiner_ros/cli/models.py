"""depth-refiner models: published models, from an .onnx file to metres."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import rich.box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
import tyro
import yaml

from ..data import PinholeCamera
from ..inference.described import depth_of, model_values
from ..inference.description import (
    ModelDescription,
    description_path,
    parse_description,
    read_description,
)
from ..inference.loading import load_model
from ..inference.model import ModelError, model_path, shipped_models
from ..inference.onnx_file import OnnxFile, read_graph, read_onnx
from ..inference.parity import reference_frames, store_frames
from ..inference.published import published_models, recognise, write_description
from ..pictures import Panel, depth_scale, read_png, sheet, write_png
from ..simulation import simulate
from .info import output_console

_FRAMES = 2
"""Views of the simulated room that a back end must reproduce."""
_TOLERANCE = 0.005
"""How far a back end may be from ONNX Runtime, as a share of what an output spans."""


@dataclass(frozen=True)
class Models:
    """Use a published model: describe it once, then name its file where a stage takes a model.

    Depth Anything, Metric3D, UniDepth, Depth Pro, MiDaS, ZoeDepth and PromptDA are known; nothing
    is downloaded, docs/models.md says where each is kept and how it is exported.

        depth-refiner models list
        depth-refiner models describe metric3d_v2
        depth-refiner models add depth_anything_v2_vits.onnx
        depth-refiner models add model.onnx --as depth_anything_v2_metric_indoor
        depth-refiner models check model.onnx --picture room.png --camera 525,525,319.5,239.5
    """

    action: tyro.conf.Positional[Literal['list', 'describe', 'check', 'add']]
    """`list`: what is known. `describe`: print how a model is used. `add`: recognise an .onnx file
    and write its description beside it. `check`: run a file and show what comes out."""
    model: tyro.conf.Positional[str] = ''
    """An .onnx file; to describe, also a name of the list."""
    as_: Annotated[str, tyro.conf.arg(name='as', metavar='NAME')] = ''
    """Which published model it is, where its inputs and outputs leave it open."""
    picture: Path | None = None
    """Colour picture (.png) to check with; without it a simulated room."""
    camera: str = ''
    """fx,fy,cx,cy of that picture, pixels."""
    output: Path | None = None
    """Where the sheet of `check` goes; NAME.check.png beside the model by default."""

    def run(self) -> int:
        """Do it; return 0."""
        console = output_console()
        if self.action == 'list':
            console.print(_listed())
            return 0
        if not self.model:
            raise ModelError(f'models {self.action} needs an .onnx file or a name; models list')
        if self.action == 'describe':
            console.print(_described(self.model), soft_wrap=True)
        elif self.action == 'add':
            self._add(console)
        else:
            self._check(console)
        return 0

    def _add(self, console: Console) -> None:
        path = model_path(self.model)
        target = description_path(path)
        if target.exists():
            raise ModelError(f'{target} exists; delete it to describe {path.name} anew')
        file = read_graph(path)
        recognition = recognise(file, self.as_ or None)
        content = recognition.content
        description = parse_description(content, str(target))
        console.print(
            f'{path.name} is {description.name}: {recognition.published.note}', soft_wrap=True
        )
        for text in recognition.assumed:
            console.print(f'assumed: {text}', soft_wrap=True)
        if find_spec('onnxruntime') is not None:
            content['tolerances'] = _frames_stored(file, description)
            console.print(
                f'{path.with_suffix(".npz").name}: two frames that every back end must reproduce '
                'before it serves'
            )
        else:
            console.print(
                'no frames to compare back ends with were stored: pip install onnxruntime'
            )
        write_description(content, target)
        console.print(f'{target.name}: how it is used', soft_wrap=True)
        console.print(f'use it: {description.stage}.model: {path.resolve()}', soft_wrap=True)
        console.print(f'try it: depth-refiner models check {path}', soft_wrap=True)

    def _check(self, console: Console) -> None:
        path = model_path(self.model)
        file = read_onnx(path)
        if file.description is None:
            raise ModelError(f'{path} is not described: depth-refiner models add {path}')
        given: dict[str, npt.NDArray[Any]]
        if self.picture:
            if file.description.parts('depth'):
                raise ModelError(
                    f'{file.description.name} needs measured depth beside the colour; check it '
                    'without --picture, in a simulated room'
                )
            given = {'color': read_png(self.picture), 'intrinsics': _intrinsics(self.camera)}
        else:
            frame = next(simulate(1))
            given = {
                'color': frame.color.rgb,
                'intrinsics': _numbers(frame.camera),
                'depth_m': frame.depth.depth_m,
            }
        lines: list[str] = []
        model = load_model(path, log=lines.append)
        try:
            outputs = model(**given)
        except ModelError:
            raise
        except Exception as error:  # a back end's exceptions share no base class
            height, width = given['color'].shape[:2]
            raise ModelError(
                f'{path} does not run on {width}x{height} with size.rule '
                f'{file.description.size.rule}: {str(error).splitlines()[0]}'
            ) from None
        depth_m, stddev_m = outputs['estimate_m'], outputs['stddev_m']
        known = np.isfinite(depth_m)
        if not known.any():
            raise ModelError(
                f'{file.description.name} gives no depth within {file.description.depth.valid_m} '
                f'm: is its kind {file.description.depth.kind} right?'
            )
        near_m, median_m, far_m = np.quantile(depth_m[known], (0.01, 0.5, 0.99))
        relative = model.ambiguity != 'none'
        unit = ' (of no unit: relative)' if relative else ' m'
        console.print(escape(lines[0]), soft_wrap=True)
        console.print(
            f'{100 * known.mean():.1f} % of the pixels have depth, from {near_m:.2f} to '
            f'{far_m:.2f}, median {median_m:.2f}{unit}'
        )
        target = self.output or path.with_suffix('.check.png')
        scale = depth_scale(float(near_m), max(float(far_m), float(near_m) + 1e-3))
        panels = [
            Panel('colour', given['color']),
            Panel('depth', scale.paint(depth_m), scale._replace(unit='' if relative else 'm')),
        ]
        if not self.picture and not relative:
            truth = Panel('truth', scale.paint(frame.truth_m), scale)
            panels.append(truth)
        write_png(target, sheet([panels], title=file.description.name))
        console.print(f'picture: {target}; median stddev {np.median(stddev_m[known]):.3f}{unit}')


def _frames_stored(file: OnnxFile, description: ModelDescription) -> dict[str, float]:
    """Store the frames that back ends must reproduce; return how far they may be off.

    Raises:
        ModelError: If the model does not run, or puts out what is not described.
    """
    views = list(simulate(_FRAMES, rate_hz=1.0))
    frames = [
        model_values(description, view.color.rgb, _numbers(view.camera), view.depth.depth_m)
        for view in views
    ]
    tolerances = store_frames(file, frames, _TOLERANCE)
    try:
        for view, frame in zip(views, reference_frames(file.path), strict=True):
            depth_of(description, frame, view.depth.depth_m.shape, _numbers(view.camera))
    except ModelError:
        file.path.with_suffix('.npz').unlink()
        raise
    return tolerances


def _numbers(camera: PinholeCamera) -> npt.NDArray[np.float32]:
    return np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float32)


def _intrinsics(text: str) -> npt.NDArray[np.float32]:
    try:
        numbers = [float(part) for part in text.split(',')]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or not np.isfinite(numbers).all() or min(numbers[:2]) <= 0:
        raise ModelError(f'--camera must be fx,fy,cx,cy of the picture, pixels, got {text!r}')
    return np.array(numbers, np.float32)


def _listed() -> Table:
    table = Table(box=rich.box.SIMPLE_HEAD)
    for name in ('model', 'for', 'licence', 'what it is'):
        table.add_column(name)
    for name in shipped_models():
        stage = read_onnx(model_path(name)).metadata.stage
        table.add_row(name, stage, 'Apache-2.0', 'Comes with this package.')
    for published in published_models().values():
        description = published.description
        table.add_row(published.name, description.stage, description.licence, published.note)
    return table


def _described(name: str) -> str:
    known = published_models()
    if name in known:
        content = dict(known[name].content)
        return escape(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    path = model_path(name)
    beside = description_path(path)
    if beside.exists():
        read_description(beside)
        return escape(beside.read_text(encoding='utf-8'))
    file = read_graph(path)
    return escape(
        f'{file.metadata.name}: {file.metadata.description or "not described"}\n{file.signature}'
    )
