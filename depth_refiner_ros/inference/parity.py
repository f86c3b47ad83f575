"""Back ends must agree before they serve.

Beside NAME.onnx lies NAME.npz: frames, and what ONNX Runtime made of them on a CPU when the model
was exported. Compilers miscompile and low precision loses slopes, silently; a back end that does
not reproduce these frames is not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
import zipfile

import numpy as np
import numpy.typing as npt

from .model import Model, ModelError
from .onnx_file import OnnxFile

MEDIAN_SHARE = 2e-4
"""Median difference allowed, as a share of the depth: below any depth camera's noise."""
P99_SHARE = 3e-3
"""99th percentile allowed. Ties between two surfaces may fall otherwise: they are fewer.

A back end that keeps float32 where depth is computed differs by a millionth; bfloat16 throughout
passes a gate of 1 % on easy frames, and misplaces pixels by decimetres on hard ones.
"""
PROBABILITY = 0.05
"""99th percentile allowed where an output is no depth."""

Frame = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class ParityReport:
    """How far a back end is from ONNX Runtime on a CPU.

    Attributes:
        agrees: Whether it may serve.
        text: The figures, one sentence.
        median_mm: Median difference of all depth outputs, worst of the frames.
        p99_mm: The same.
    """

    agrees: bool
    text: str
    median_mm: float
    p99_mm: float


def reference_frames(model_path: Path) -> list[Frame]:
    """Return the frames stored with a model, inputs and outputs by name; there may be none.

    Raises:
        ModelError: If the file is damaged.
    """
    path = model_path.with_suffix('.npz')
    if not path.exists():
        return []
    frames: dict[str, Frame] = {}
    try:
        with path.open('rb') as file, np.load(file, allow_pickle=False) as stored:
            for key in stored.files:
                number, _, name = key.partition('/')
                frames.setdefault(number, {})[name] = stored[key]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f'{path} is damaged ({error}); copy it again beside the model') from None
    return [frames[number] for number in sorted(frames)]


def store_frames(file: OnnxFile, inputs: Sequence[Frame], tolerance: float) -> dict[str, float]:
    """Store what ONNX Runtime makes of some frames, for other back ends to reproduce.

    Args:
        file: The model; NAME.npz comes beside it.
        inputs: Inputs of its graph, by name.
        tolerance: Share of what an output spans that other back ends may be off.

    Returns:
        That tolerance in each output's unit.

    Raises:
        ModelError: If ONNX Runtime is missing or cannot run the model, or if what it puts out is
            not finite anywhere.
    """
    from .onnx_runtime import OnnxRuntimeModel

    model = OnnxRuntimeModel(file)
    stored: dict[str, npt.NDArray[Any]] = {}
    spans: dict[str, float] = {}
    for number, frame in enumerate(inputs):
        try:
            outputs = model(**frame)
        except Exception as error:  # its exceptions share no base class
            raise ModelError(f'ONNX Runtime cannot run {file.path}: {error}') from None
        for name, values in outputs.items():
            finite = values[np.isfinite(values)].astype(np.float64)
            if not finite.size:
                raise ModelError(f'{file.path} puts out {name} without a finite number')
            low, high = np.quantile(finite, (0.01, 0.99))
            spans[name] = max(spans.get(name, 0.0), float(high - low), 1e-6)
        arrays = {**frame, **outputs}
        stored |= {f'{number}/{name}': values for name, values in arrays.items()}
    np.savez_compressed(file.path.with_suffix('.npz'), **stored)  # type: ignore[arg-type]
    return {name: float(f'{tolerance * span:.3g}') for name, span in spans.items()}


def resized(
    frame: Frame, inputs: Sequence[str], size: tuple[int, int], file: OnnxFile | None = None
) -> Frame:
    """Return the inputs of a frame in another height and width, px; nothing is blended.

    Args:
        frame: A frame of a model.
        inputs: Names of its inputs.
        size: Height and width, px.
        file: The model, which knows how its inputs are laid out; None for (H, W) and (H, W, C).
    """
    found = {}
    for name in inputs:
        image = frame[name]
        plain = (0, 1) if image.ndim >= 2 else None
        axes = file.image_axes(name, image.ndim) if file else plain
        for axis, length in zip(axes or (), size, strict=False):
            image = image.take(np.arange(length) * image.shape[axis] // length, axis)
        found[name] = np.array(image, order='C')
    return found


def check_parity(
    model: Model,
    frames: list[Frame],
    inputs: tuple[str, ...],
    tolerances: Mapping[str, float] | None = None,
) -> ParityReport:
    """Compare a model with stored frames.

    Args:
        model: What shall serve.
        frames: See `reference_frames`.
        inputs: Names of the inputs; what else a frame holds are outputs.
        tolerances: 99th percentiles allowed of outputs, in their units, where the model knows
            better than this module what a difference means.
    """
    median_mm = p99_mm = 0.0
    problems: list[str] = []
    for frame in frames:
        got = model(**{name: frame[name] for name in inputs})
        for name, want in frame.items():
            if name in inputs:
                continue
            have = np.asarray(got[name], np.float32)
            if have.shape != want.shape:
                problems.append(f'{name} has shape {have.shape}, not {want.shape}')
                continue
            known = np.isfinite(want)
            if not np.array_equal(known, np.isfinite(have)):
                problems.append(f'{name} is not finite at other pixels')
                continue
            off = np.abs(have - want)[known]
            if not off.size:
                continue
            p99 = float(np.quantile(off, 0.99))
            limit = (tolerances or {}).get(name)
            if limit is not None and p99 > limit:
                problems.append(f'{name} differs by {p99:.4f} (99th percentile)')
            if not name.endswith('_m'):
                if limit is None and p99 > PROBABILITY:
                    problems.append(f'{name} differs by {p99:.3f}')
                continue
            median_mm = max(median_mm, 1e3 * float(np.median(off)))
            p99_mm = max(p99_mm, 1e3 * p99)
            if name != 'estimate_m' or limit is not None:
                continue
            share = off / np.abs(want[known])
            if np.median(share) > MEDIAN_SHARE or np.quantile(share, 0.99) > P99_SHARE:
                problems.append(
                    f'{name} differs by {100 * np.median(share):.2f} % (median), '
                    f'{100 * np.quantile(share, 0.99):.1f} % (99th percentile)'
                )
    metres = any(name.endswith('_m') for frame in frames for name in frame if name not in inputs)
    figures = (
        f'median {median_mm:.3f} mm, 99 % within {p99_mm:.2f} mm on {len(frames)} frames'
        if metres
        else f'outputs compared with ONNX Runtime on {len(frames)} frames'
    )
    text = f'{figures}: {"; ".join(dict.fromkeys(problems))}' if problems else figures
    return ParityReport(not problems, text, median_mm, p99_mm)
