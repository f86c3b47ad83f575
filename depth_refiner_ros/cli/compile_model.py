"""depth-refiner compile: make a model fast on this machine's GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import time
from typing import Annotated, Any, Literal

import numpy.typing as npt
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
import tyro

from ..config import Configuration, camera_preset, configure, read_parameters
from ..disk_cache import cache_folder
from ..filters.resizing import model_inputs
from ..geometry import registered
from ..hosts import bag as bags
from ..inference import compiling
from ..inference.model import Model, model_path
from ..inference.onnx_file import OnnxFile, read_onnx
from ..inference.progress import Progress as CompileProgress
from ..stage import topic_inputs
from ..stages.inpaint_depth import InpaintDepthParameters
from .info import output_console
from .replay import topics_of

_CALIBRATION_FRAMES = 24
_WATCH_S = 0.1


@dataclass(frozen=True)
class Compile:
    """Compile a model with TensorRT for the NVIDIA GPU of this machine.

    Takes minutes. The result is compared with ONNX Runtime before it is kept; from then on
    `inpaint_depth.device: auto` takes it. It fits this GPU, driver and version of TensorRT only:
    after an update compile again. Ctrl-C cancels.

        depth-refiner compile depth_small
        depth-refiner compile depth_small --size 424 240 --size 640 360
        depth-refiner compile depth_small --precision int8 --calibrate mine.mcap
    """

    model: tyro.conf.Positional[str]
    """Name of a shipped model, or the path of an .onnx file."""
    precision: Literal['fp16', 'int8'] = 'fp16'
    """What convolutions compute in; all that computes depth stays float32."""
    size: Annotated[
        tuple[tuple[int, int], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar='WIDTH HEIGHT', help_behavior_hint='(repeatable)'),
    ] = ()
    """Width and height of what the model is given besides its own sizes, pixels:
    `inpaint_depth.model_reduction` 2 gives it half of the camera's."""
    calibrate: Annotated[Path | None, tyro.conf.arg(metavar='BAG', help_behavior_hint='')] = None
    """Recording from which int8 learns how large values become; needed once."""
    params: Path | None = None
    """Parameter file that names the recording's topics, in the form ROS reads."""
    camera: str | None = None
    """Preset of config/cameras that names the recording's topics."""
    namespace: str = '/camera'
    """Namespace of the stages' own topic names, as in replay."""

    def run(self) -> int:
        """Compile; return 0."""
        file = read_onnx(model_path(self.model))
        if self.calibrate and self.precision != 'int8':
            raise ValueError('--calibrate is for --precision int8; fp16 needs no calibration')
        if not all(16 <= side_px <= 8192 for size in self.size for side_px in size):
            raise ValueError(f'--size must be between 16 and 8192 pixels, got {self.size}')
        configuration = configure(
            camera_preset(self.camera) if self.camera else {},
            read_parameters(self.params) if self.params else {},
            {'stages': 'register_color'},
        )
        compiling.require_compiler()
        messages: list[str] = []

        def work(progress: CompileProgress) -> Model:
            if self.calibrate:
                frames = _frames(self.calibrate, configuration, self)
                messages.append(_calibrated(file, frames, progress))
            sizes = [(height, width) for width, height in self.size]
            return compiling.compile_model(
                file, self.precision, sizes=sizes, progress=progress, log=messages.append
            )

        console = output_console()
        started_s = time.perf_counter()
        model = _watched(compiling.Compilation(work), Console(stderr=True, emoji=False))
        for text in messages:
            console.print(escape(text), soft_wrap=True)
        sizes = ', '.join(f'{width}x{height}' for height, width in getattr(model, 'sizes', ()))
        console.print(
            f'{escape(model.name)} is ready for {model.back_end}: {sizes}; '
            f'{time.perf_counter() - started_s:.0f} s, kept in {escape(str(cache_folder()))}',
            soft_wrap=True,
        )
        return 0


def _watched(compilation: compiling.Compilation, console: Console) -> Model:
    """Show how far a compilation is until it ends; Ctrl-C cancels it."""
    bar = Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task('prepare', total=1.0)
        try:
            while compilation.running:
                progress = compilation.progress
                bar.update(task, description=progress.step, completed=progress.share)
                compilation.wait(_WATCH_S)
        except KeyboardInterrupt:
            compilation.cancel()
            raise
    return compilation.result()


def _calibrated(
    file: OnnxFile, frames: Iterator[dict[str, npt.NDArray[Any]]], progress: CompileProgress
) -> str:
    progress.tell('calibrate', 0.0)

    def counted() -> Iterator[dict[str, npt.NDArray[Any]]]:
        for number, frame in enumerate(frames, 1):
            yield frame
            progress.tell('calibrate', min(number / _CALIBRATION_FRAMES, 1.0))

    found = compiling.calibrate(file, counted(), progress)
    return f'{file.metadata.name} was calibrated on {found.frames} frames'


def _frames(
    path: Path, configuration: Configuration, command: Compile
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Yield frames from all over a recording as the model is given them.

    Raises:
        BagError: If the recording cannot be read or has no depth.
    """
    pipeline = configuration.pipeline(configuration.parameters)
    reduction = InpaintDepthParameters().model_reduction
    host = configuration.host
    with bags.open_bag(path) as reader:
        guess = command.camera is None
        topics = topics_of(reader, configuration, command.namespace, guess=guess)
        frames = bags.Frames(
            reader,
            topic_inputs(configuration.pipeline),
            topics,
            slop_s=host.slop_s,
            depth_unit_m=host.depth_unit_m,
        )
        step = max(1, frames.frame_count // _CALIBRATION_FRAMES)
        for number, (_, matched) in enumerate(frames):
            if number % step:
                continue
            try:
                values = frames.decoded(matched)
                outputs = pipeline(frames.transforms, **values)
            except (LookupError, ValueError) as error:
                raise bags.BagError(f'{path}: {error}') from None
            depth, color = values['depth'], values.get('color')
            if 'register_color.color' in outputs:
                color = outputs['register_color.color']
            elif color is not None and not registered(
                color, depth, values.get('color_camera'), values['camera']
            ):
                color = None
            yield model_inputs(depth.depth_m, None if color is None else color.rgb, reduction)
