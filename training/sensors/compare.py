"""Compare the simulated depth cameras with recordings of real ones.

    python -m training.sensors.compare --data FOLDER --output DIR

Every recording is compared with simulations of the same views: its own depth, with holes filled
and noise smoothed away, is the truth that the simulated camera is shown. That truth inherits the
sensor's own mistakes (fattened outlines, guessed surfaces in holes), and knows nothing of
materials: the luminance of the colour image stands for infrared reflectance. What the sensor
lost on black, glossy and transparent things is therefore in the truth, but not in its
reflectance, and simulated holes must be expected to be fewer. Scenes whose truth is exact, a
scanner's and ray-cast ones, are compared with the recordings that resemble them most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
import json
import math
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
import tyro

from depth_refiner_ros import simulation
from depth_refiner_ros.data import PinholeCamera
from depth_refiner_ros.filters.inpaint import inpaint
from depth_refiner_ros.folders import Folder
from depth_refiner_ros.geometry import register_color

from . import (
    ActiveStereo,
    ActiveStereoParameters,
    StructuredLight,
    StructuredLightParameters,
    TimeOfFlight,
    TimeOfFlightParameters,
    View,
    statistics,
)
from .statistics import Image, Mask, Samples

T = TypeVar('T', bound=np.generic)
Model = StructuredLight | ActiveStereo | TimeOfFlight
Build = Callable[[bool, tuple[int, ...], torch.Generator], Model]


def _structured_light(
    registered: bool, shape: tuple[int, ...], generator: torch.Generator
) -> Model:
    parameters = replace(
        StructuredLightParameters(),
        registered_share=float(registered),
        registered_margin_px=(0.0, 0.0),
    )
    return StructuredLight(parameters, shape, generator)


def _active_stereo(registered: bool, shape: tuple[int, ...], generator: torch.Generator) -> Model:
    parameters = replace(
        ActiveStereoParameters(),
        registered_share=float(registered),
        registered_margin_px=(0.0, 0.0),
    )
    return ActiveStereo(parameters, shape, generator)


def _time_of_flight(registered: bool, shape: tuple[int, ...], generator: torch.Generator) -> Model:
    return TimeOfFlight(TimeOfFlightParameters(), shape, generator)


MODELS: Mapping[str, Build] = {
    'structured_light': _structured_light,
    'active_stereo': _active_stereo,
    'time_of_flight': _time_of_flight,
}


class Recording(NamedTuple):
    """A recording and what it is compared with.

    Attributes:
        model: Key of `MODELS`.
        registered: Whether its images were registered to the colour camera.
        frames: At most this many, evenly spaced.
        still: Whether camera and scene rest.
        turned: Whether the camera was upside down, and its images were turned.
    """

    model: str
    registered: bool
    frames: int = 12
    still: bool = False
    turned: bool = False


RECORDINGS: Mapping[str, Recording] = {
    'kinect_v1_kitchen': Recording('structured_light', False),
    'xtion_static_1': Recording('structured_light', False, 15, still=True),
    'kinect_v1_nyu': Recording('structured_light', True),
    'kinect_v1_rooms': Recording('structured_light', True),
    'xtion_ycb': Recording('structured_light', True),
    'realsense_tabletop': Recording('active_stereo', True),
    'realsense_grasp': Recording('active_stereo', True, turned=True),
    'hands_kinect_v2': Recording('time_of_flight', False),
}

EXACT: Mapping[str, tuple[str, ...]] = {
    'ray_cast_room': ('kinect_v1_kitchen', 'xtion_static_1'),
    'scanner_clutter': ('realsense_tabletop',),
    'rendered_for_kinect_v1': ('kinect_v1_kitchen', 'xtion_static_1'),
    'rendered_for_registered_kinect_v1': ('kinect_v1_nyu', 'kinect_v1_rooms', 'xtion_ycb'),
    'rendered_for_realsense': ('realsense_tabletop', 'realsense_grasp'),
    'rendered_for_kinect_v2': ('hands_kinect_v2',),
}
"""Scenes of known depth, and the recordings that resemble them."""


@dataclass
class Settings:
    """Compare the simulated depth cameras with recordings of real ones."""

    data: Path
    """Folder that holds the recordings."""
    output: Path
    """Folder for numbers (JSON, Markdown) and pictures (PNG); created."""
    cameras: int = 4
    """Simulated cameras for each frame."""
    seed: int = 0
    """Picks the cameras and their noise."""
    recordings: tuple[str, ...] = tuple(RECORDINGS)
    """Names of the recordings to use."""


class Real(NamedTuple):
    """A recording, and the scene it may have seen.

    Attributes:
        frames_m: (H, W) each.
        still: (H, W), where nothing moves, if camera and scene rest.
        inside: Rows and columns without the margins that no frame has measurements in.
        scenes: What the camera may have seen: one of each frame, or one for all.
        referenced_m: Frames and their references, where there are some.
    """

    frames_m: list[Image]
    still: Mask | None
    inside: tuple[slice, slice]
    scenes: list[View]
    referenced_m: list[tuple[Image, Image]]


# ----------------------------------------------------------------------------------- recordings


def read(path: Path, recording: Recording) -> Real:
    """Read a recording and guess the scene behind it."""
    folder = Folder(path)
    count = min(recording.frames, len(folder))
    numbers = [round(number) for number in np.linspace(0, len(folder) - 1, count)]
    frames = [folder.read(number) for number in numbers]
    depths_m = [np.array(frame.depth.depth_m) for frame in frames]
    camera = frames[0].camera
    still = None
    seen = np.any([np.isfinite(depth_m) for depth_m in depths_m], axis=0)

    scenes_m = depths_m
    if recording.still:
        mask = cv2.imread(str(path / 'static_mask.png'), cv2.IMREAD_GRAYSCALE)
        still = np.ones(seen.shape, np.bool_) if mask is None else np.asarray(mask > 0)
        middle = np.median(np.nan_to_num(np.stack(depths_m)), axis=0)
        scenes_m = [np.where(middle > 0, middle, np.nan).astype(np.float32)]
    matrix = _matrix(camera)
    scenes = []
    for number, (scene_m, frame) in enumerate(zip(scenes_m, frames, strict=False)):
        truth_m = _guessed_truth(scene_m, recording.model)
        if frame.color is None:
            reflectance = _random_reflectance(truth_m.shape, number)
        else:
            rgb = np.asarray(frame.color.rgb)
            if folder.color_from_depth is not None:
                color_camera = frame.color_camera or camera
                rgb = register_color(rgb, color_camera, truth_m, camera, folder.color_from_depth)
            reflectance = _reflectance(rgb, truth_m.shape)
        if recording.turned:
            truth_m, reflectance = _turned(truth_m), _turned(reflectance)
        scenes.append(_view(truth_m, matrix, reflectance))
    if recording.turned:
        # The principal points of the recordings are central enough to stay where they are.
        depths_m = [_turned(depth_m) for depth_m in depths_m]
        seen = _turned(seen)
    referenced_m = []
    for number, name in enumerate(folder.names):
        if (path / 'reference' / f'{name}.png').exists():
            frame = folder.read(number)
            assert frame.reference is not None
            pair = np.array(frame.depth.depth_m), np.array(frame.reference.depth_m)
            referenced_m.append(pair)
    inside = (_extent(seen.any(axis=1)), _extent(seen.any(axis=0)))
    return Real(depths_m, still, inside, scenes, referenced_m)


def _turned(image: npt.NDArray[T]) -> npt.NDArray[T]:
    return np.ascontiguousarray(image[::-1, ::-1])


def _reflectance(rgb: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> Image:
    """Guess infrared from visible light; dyes that look dark often are not."""
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    gray = cv2.resize(gray, shape[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(0.15 + 0.7 * np.sqrt(gray / 255), np.float32)


def _random_reflectance(shape: tuple[int, ...], seed: int) -> Image:
    """Dark and bright patches, for recordings without colour."""
    coarse = np.random.default_rng(seed).standard_normal((7, 8), np.float32)
    field = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(0.35 * np.exp(field), 0.02, 1), np.float32)


def _extent(used: Mask) -> slice:
    at = np.flatnonzero(used)
    return slice(int(at[0]), int(at[-1]) + 1)


def _matrix(camera: PinholeCamera) -> npt.NDArray[np.float32]:
    return np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]], np.float32)


def _guessed_truth(depth_m: Image, model: str) -> Image:
    """Fill the holes of a sensor's depth and smooth its noise, in inverse depth."""
    filled_m = inpaint(depth_m, max_hole_px=0, max_distance_m=0).depth_m
    inverse: Image = np.asarray(1 / np.maximum(filled_m, 0.1), np.float32)
    # Twice the noise of Kinects and RealSenses, 0.1 px and 0.1 px / (600 px * 0.05 m).
    reach = 0.012 if model == 'active_stereo' else 0.008
    for _ in range(2):
        inverse = np.asarray(cv2.bilateralFilter(inverse, 11, reach, 5), np.float32)
    return np.asarray(1 / inverse, np.float32)


def exact_scenes(name: str, data: Path) -> list[View]:
    """Return scenes whose depth is known; none where what they are made of is missing."""
    if name == 'ray_cast_room':
        return _ray_cast_room()
    if name.startswith('rendered'):
        return _rendered_scenes()
    if not (data / name).is_dir():
        return []
    scenes: list[View] = []
    for frame in Folder(data / name):
        depth_m = inpaint(np.array(frame.depth.depth_m), max_hole_px=0, max_distance_m=0).depth_m
        reflectance = (
            _random_reflectance(depth_m.shape, len(scenes))
            if frame.color is None
            else _reflectance(np.asarray(frame.color.rgb), depth_m.shape)
        )
        scenes.append(_view(depth_m, _matrix(frame.camera), reflectance))
    return scenes


def _ray_cast_room(frames: int = 6) -> list[View]:
    scenes = []
    for frame in simulation.simulate(frames=frames, seed=1, rate_hz=0.5):
        rendering = simulation.render(simulation.ROOM, frame.camera, frame.world_from_camera)
        view = _view(rendering.depth_m, _matrix(frame.camera))
        echo = torch.from_numpy(rendering.echo)[None, None] * view.depth_m.square()
        reflectance = (echo / view.facing().clamp_min(0.1)).nan_to_num(0).clamp(0, 1)
        lit = torch.from_numpy(~rendering.shadow)[None, None]
        scenes.append(replace(view, reflectance=reflectance, lit=lit))
    return scenes


def _rendered_scenes(count: int = 12) -> list[View]:
    """Scenes of training.render; a package of its own, so that either works without the other."""
    try:
        from ..render import Renderer, sample_batch
    except ImportError:
        return []
    world, cameras = sample_batch(0, range(count))
    seen = Renderer(shadows=False)(world, cameras)
    view = View(
        seen.depth_m,
        cameras.intrinsics,
        seen.normals,
        seen.ir_reflectance,
        seen.specular,
        seen.glass,
        seen.mirror,
        seen.behind_m,
    )
    return [_chosen(view, slice(number, number + 1)) for number in range(count)]


# ----------------------------------------------------------------------------------- simulation


def _view(
    depth_m: Image, matrix: npt.NDArray[np.float32], reflectance: Image | None = None
) -> View:
    def batch(image: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(image)[None, None]

    return View(
        batch(depth_m),
        torch.from_numpy(matrix)[None],
        reflectance=None if reflectance is None else batch(reflectance),
    )


def _chosen(view: View, which: slice | list[int]) -> View:
    given = {name: value for name, value in vars(view).items() if value is not None}
    return View(**{name: value[which] for name, value in given.items()})


def simulate(
    scenes: Sequence[View], build: Build, registered: bool, cameras: int, frames: int, seed: int
) -> list[list[Image]]:
    """Return what each of several cameras sees of each scene, that many frames of it."""
    generator = torch.Generator().manual_seed(seed)
    sequences: list[list[Image]] = []
    for scene in scenes:
        view = _chosen(scene, [0] * cameras)
        with torch.inference_mode():
            model = build(registered, tuple(view.shape), generator)
            seen = [model(view, generator)[:, 0].numpy() for _ in range(frames)]
        sequences += [[frame[camera] for frame in seen] for camera in range(cameras)]
    return sequences


# ----------------------------------------------------------------------------------- comparison


class Row(NamedTuple):
    """One statistic of one recording beside its simulation.

    Attributes:
        real: Mean.
        simulated: Mean.
        low: 5 % of the simulated cameras have a smaller mean.
        high: 5 % have a greater one.
        wasserstein: Between all samples, in the statistic's unit.
        relative: The same as a share of the spread of the real samples (5 % to 95 %), or of their
            mean where there is none.
    """

    real: float
    simulated: float
    low: float
    high: float
    wasserstein: float
    relative: float

    @property
    def covered(self) -> bool:
        """Whether the real mean lies among those of the simulated cameras."""
        return self.low <= self.real <= self.high


def compare(
    real: Mapping[str, Samples], simulated: Iterable[Mapping[str, Samples]]
) -> dict[str, Row]:
    """Compare the statistics of a recording with those of simulated cameras."""
    cameras = list(simulated)
    rows = {}
    for name in statistics.UNITS:
        each = [camera[name] for camera in cameras if name in camera and camera[name].size]
        if name not in real or not each:
            continue
        truth = real[name][np.isfinite(real[name])]
        pooled = np.concatenate(each)
        means = np.array([np.nanmean(samples) for samples in each])
        apart = statistics.wasserstein(truth, pooled)
        low, high = np.quantile(truth, (0.05, 0.95))
        spread = high - low if truth.size > 20 and high > low else abs(truth.mean())
        rows[name] = Row(
            float(truth.mean()),
            float(np.nanmean(means)),
            float(np.quantile(means, 0.05)),
            float(np.quantile(means, 0.95)),
            apart,
            apart / max(float(spread), 1e-9),
        )
    return rows


def main(settings: Settings) -> dict[str, dict[str, Row]]:
    """Compare, write numbers and pictures, and return the rows of each recording.

    Raises:
        SystemExit: A recording has no settings, or none is there.
    """
    unknown = sorted(set(settings.recordings) - set(RECORDINGS))
    if unknown:
        listed = ', '.join(RECORDINGS)
        raise SystemExit(f'Unknown recordings: {", ".join(unknown)}. Known are {listed}.')
    if not any((settings.data / name).is_dir() for name in settings.recordings):
        names = ', '.join(settings.recordings)
        raise SystemExit(f'{settings.data} holds none of the recordings {names}.')
    settings.output.mkdir(parents=True, exist_ok=True)
    tables: dict[str, dict[str, Row]] = {}
    samples: dict[str, tuple[Mapping[str, Samples], list[Mapping[str, Samples]]]] = {}
    curves: dict[str, Mapping[str, Samples]] = {}
    reals: dict[str, Mapping[str, Samples]] = {}
    for name in settings.recordings:
        recording, path = RECORDINGS[name], settings.data / name
        if not path.is_dir():
            print(f'{name}: not in {settings.data}, skipped')
            continue
        real = read(path, recording)
        frames = len(real.frames_m) if recording.still else 1
        sequences = simulate(
            real.scenes,
            MODELS[recording.model],
            recording.registered,
            settings.cameras,
            frames,
            settings.seed,
        )
        rows, columns = real.inside
        still = None if real.still is None else real.still[rows, columns]

        def cut(images: Sequence[Image], inside: tuple[slice, slice] = real.inside) -> list[Image]:
            return [np.ascontiguousarray(image[inside]) for image in images]

        reals[name] = statistics.measured(cut(real.frames_m), still)
        shifts = [statistics.fattening(*pair) for pair in real.referenced_m]
        if shifts:
            pooled = [shift['fattening_px'] for shift in shifts if shift]
            reals[name] = {**reals[name], 'fattening_px': np.concatenate(pooled)}
        truths_m = [
            scene.depth_m[0, 0].numpy() for scene in real.scenes for _ in range(settings.cameras)
        ]
        simulated: list[Mapping[str, Samples]] = [
            statistics.measured(cut(sequence), still, cut([truth_m]))
            for sequence, truth_m in zip(sequences, truths_m, strict=True)
        ]
        samples[name] = reals[name], simulated
        tables[name] = compare(reals[name], simulated)
        curves[name] = _noise_curves(real.frames_m, [frame for s in sequences for frame in s[:1]])
        _picture(settings.output / f'{name}.png', real, sequences)
        _print_table(name, tables[name])
    for name, counterparts in EXACT.items():
        known = [reals[other] for other in counterparts if other in reals]
        scenes = exact_scenes(name, settings.data) if known else []
        if not scenes:
            continue
        recording = RECORDINGS[counterparts[0]]
        sequences = simulate(
            scenes,
            MODELS[recording.model],
            recording.registered,
            settings.cameras,
            1,
            settings.seed,
        )
        merged: Mapping[str, Samples] = {
            key: np.concatenate([each[key] for each in known if key in each])
            for key in {key for each in known for key in each}
        }
        simulated = [statistics.measured(sequence) for sequence in sequences]
        title = f'{name} / {"+".join(counterparts)}'
        samples[name] = merged, simulated
        tables[title] = compare(merged, simulated)
        _print_table(title, tables[title])
    _write(settings, tables, curves)
    for name, (measured, each) in samples.items():
        _plot(settings.output / f'{name}_statistics.png', name, measured, each)
    return tables


def _noise_curves(real_m: Sequence[Image], simulated_m: Sequence[Image]) -> dict[str, Samples]:
    """Return median noise in bins of distance, metres."""
    edges_m = np.array([0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0])
    curves = {'distance_m': (edges_m[:-1] + edges_m[1:]) / 2}
    for name, frames in (('real_m', real_m), ('simulated_m', simulated_m)):
        depth_m = np.concatenate([frame.ravel() for frame in frames])
        stddev_m = np.concatenate([statistics.surface_stddev_m(f).ravel() for f in frames])
        curves[name] = statistics.noise_by_distance(depth_m, stddev_m, edges_m)
    return curves


# --------------------------------------------------------------------------------------- report


def _summary(tables: Mapping[str, Mapping[str, Row]]) -> tuple[float, int, int]:
    """Median relative distance, statistics covered, and all."""
    rows = [row for table in tables.values() for row in table.values()]
    relative = [row.relative for row in rows if math.isfinite(row.relative)]
    return float(np.median(relative)), sum(row.covered for row in rows), len(rows)


def _lines(table: Mapping[str, Row]) -> list[str]:
    lines = [
        '| statistic | unit | real | simulated (5 to 95 % of cameras) | Wasserstein | relative |',
        '|---|---|---|---|---|---|',
    ]
    for name, row in table.items():
        mark = '' if row.covered else ' (outside)'
        lines.append(
            f'| {name} | {statistics.UNITS[name]} | {row.real:.3g} | {row.simulated:.3g} '
            f'({row.low:.3g} to {row.high:.3g}){mark} | {row.wasserstein:.3g} | '
            f'{row.relative:.2f} |'
        )
    return lines


def _print_table(name: str, table: Mapping[str, Row]) -> None:
    print(f'\n{name}\n' + '\n'.join(_lines(table)), flush=True)


def _write(
    settings: Settings,
    tables: Mapping[str, Mapping[str, Row]],
    curves: Mapping[str, Mapping[str, Samples]],
) -> None:
    relative, covered, count = _summary(tables)
    text = ['# Simulated depth cameras beside real ones', '', str(__doc__).split('\n\n')[2], '']
    text += [
        f'Median relative Wasserstein distance {relative:.2f}; the real mean is within 5 % to '
        f'95 % of the simulated cameras for {covered} of {count} statistics.',
        '',
    ]
    for name, table in tables.items():
        text += [f'## {name}', '', *_lines(table), '']
    for name, curve in curves.items():
        text += [
            f'## {name}: noise by distance, mm',
            '',
            '| m | real | simulated |',
            '|---|---|---|',
        ]
        for z_m, a_m, b_m in zip(*curve.values(), strict=True):
            if np.isfinite(a_m) or np.isfinite(b_m):
                text.append(f'| {z_m:.2f} | {1000 * a_m:.2f} | {1000 * b_m:.2f} |')
        text.append('')
    (settings.output / 'sensors.md').write_text('\n'.join(text))
    document = {
        'settings': {'cameras': settings.cameras, 'seed': settings.seed},
        'parameters': {
            'structured_light': asdict(StructuredLightParameters()),
            'active_stereo': asdict(ActiveStereoParameters()),
            'time_of_flight': asdict(TimeOfFlightParameters()),
        },
        'median_relative_wasserstein': relative,
        'covered': covered,
        'statistics': count,
        'rows': {
            name: {key: {**row._asdict(), 'covered': row.covered} for key, row in table.items()}
            for name, table in tables.items()
        },
        'noise_by_distance': {
            name: {
                key: [None if math.isnan(v) else float(v) for v in values]
                for key, values in curve.items()
            }
            for name, curve in curves.items()
        },
    }
    (settings.output / 'sensors.json').write_text(json.dumps(document, indent=1))
    print(f'\nMedian relative distance {relative:.3f}, covered {covered} of {count}.')
    print(f'Wrote {settings.output}/sensors.md, sensors.json and pictures.')


def _picture(path: Path, real: Real, sequences: Sequence[Sequence[Image]]) -> None:
    """The middle frame, real beside simulated, and a crop of each, four times as large."""
    middle = len(real.scenes) // 2
    cameras = len(sequences) // len(real.scenes)
    shown = [
        real.frames_m[middle if len(real.scenes) > 1 else 0],
        *(sequences[middle * cameras + camera][0] for camera in range(min(2, cameras))),
        real.scenes[middle].depth_m[0, 0].numpy(),
    ]
    inverse = [statistics.inverse_depth(image) for image in shown]
    low, high = np.quantile(inverse[3], (0.01, 0.99))
    panels = []
    for image in inverse:
        level = np.clip((image - low) / (high - low), 0, 1) * 255
        panel = cv2.applyColorMap(level.astype(np.uint8), cv2.COLORMAP_TURBO)
        panel[image == 0] = 0
        panels.append(panel)
    # The crop with most outline in it.
    height, width = inverse[0].shape
    size = (height // 4, width // 4)
    slope = (np.abs(np.diff(inverse[3], axis=1, prepend=0)) > 0.08).astype(np.float32)
    density = cv2.blur(slope, (size[1], size[0]))
    row = int(np.argmax(density.max(axis=1)))
    column = int(np.argmax(density[row]))
    top = min(max(row - size[0] // 2, 0), height - size[0])
    left = min(max(column - size[1] // 2, 0), width - size[1])
    crops = [
        cv2.resize(
            panel[top : top + size[0], left : left + size[1]],
            (size[1] * 4, size[0] * 4),
            interpolation=cv2.INTER_NEAREST,
        )
        for panel in panels
    ]
    fitted = [panel[: size[0] * 4, : size[1] * 4] for panel in panels]
    texts = ('real', 'simulated', 'another camera', 'its truth')
    for panel, text in zip(fitted, texts, strict=True):
        cv2.putText(panel, text, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
    cv2.imwrite(str(path), np.vstack([np.hstack(fitted), np.hstack(crops)]))


def _plot(
    path: Path,
    name: str,
    real: Mapping[str, Samples],
    simulated: Sequence[Mapping[str, Samples]],
) -> None:
    """Draw the cumulative distributions of every statistic."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    keys = [key for key in statistics.UNITS if key in real and any(key in s for s in simulated)]
    columns = 4
    figure, axes = pyplot.subplots(
        math.ceil(len(keys) / columns), columns, figsize=(15, 2.9 * math.ceil(len(keys) / columns))
    )
    at = np.linspace(0, 1, 400)
    for axis, key in zip(axes.flat, keys, strict=False):
        for camera in simulated:
            if key in camera and np.isfinite(camera[key]).any():
                axis.plot(
                    np.nanquantile(camera[key], at), at, color='tab:orange', alpha=0.25, lw=0.8
                )
        pooled = np.concatenate([s[key] for s in simulated if key in s])
        axis.plot(np.nanquantile(pooled, at), at, color='tab:red', label='simulated')
        axis.plot(np.nanquantile(real[key], at), at, color='black', label='real')
        limit = np.nanquantile(np.concatenate([pooled, real[key]]), (0.002, 0.99))
        if limit[1] > limit[0]:
            axis.set_xlim(limit[0] - 0.05 * (limit[1] - limit[0]), limit[1])
        axis.set_title(f'{key} [{statistics.UNITS[key]}]', fontsize=9)
    for axis in axes.flat[len(keys) :]:
        axis.set_axis_off()
    axes.flat[0].legend()
    figure.suptitle(name)
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    pyplot.close(figure)


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__, prog='python -m training.sensors.compare'))
