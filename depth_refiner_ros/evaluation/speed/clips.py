"""Frames that are fed to a pipeline over and over, simulated or from a recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...config import Configuration, encoded_as
from ...data import DepthEncoding, DepthImage
from ...geometry import TransformTree
from ...hosts import bag as bags
from ...invocation import command
from ...simulation import EPOCH_NS, simulate
from ...stage import Pipeline, topic_inputs
from .timing import Watch, unwatched

NAMESPACE = 'bench'
"""Where the hosts look for the frames' topics."""

_RATE_HZ = 30.0  # of the stamps, where nothing waits for them


class Clip(NamedTuple):
    """What is fed to a pipeline, over and over.

    Attributes:
        source: Where they come from, for the report.
        values: One value per input port for every frame; optional ones may be missing.
        transforms: What answers the stages' frame lookups.
    """

    source: str
    values: Sequence[Mapping[str, Any]]
    transforms: TransformTree

    def swept(self, count: int, rate_hz: float = _RATE_HZ) -> Iterator[dict[str, Any]]:
        """Yield frames back and forth, so that neighbours in time stay neighbours.

        Their stamps go on and on; all values of a frame share one.
        """
        for number in range(count):
            stamp_ns = EPOCH_NS + round(number * 1e9 / rate_hz)
            yield {
                port: replace(value, header=replace(value.header, stamp_ns=stamp_ns))
                for port, value in self.values[swept_index(number, len(self.values))].items()
            }


def swept_index(number: int, count: int) -> int:
    """Return which of `count` items is due at a step of playing them back and forth."""
    period = max(2 * count - 2, 1)
    return min(number % period, period - number % period) if count > 1 else 0


def simulated_frames(
    count: int, width: int, height: int, pipeline: type[Pipeline], watch: Watch = unwatched
) -> Clip:
    """Simulate the frames a pipeline takes: depth, the camera's calibration and colour.

    Raises:
        ValueError: If the pipeline needs an input that the simulated camera does not have.
    """
    ports = topic_inputs(pipeline)
    found = []
    for frame in watch(simulate(count, width=width, height=height), 'simulate', count):
        values = {
            'depth': frame.depth,
            'camera': frame.camera,
            'color': frame.color,
            'color_camera': frame.camera,
        }
        found.append({port: value for port, value in values.items() if port in ports})
    missing = [p for p, t in ports.items() if not t.optional and p not in found[0]]
    if missing:
        raise ValueError(
            f'the simulated camera has no {missing[0]}, which these stages need; name a bag'
        )
    return Clip('simulated', found, TransformTree())


def recorded_frames(
    reader: bags.Recording,
    configuration: Configuration,
    topics: Mapping[str, str],
    count: int,
    watch: Watch = unwatched,
) -> Clip:
    """Read the first frames of a recording, paired as a replay would pair them.

    Args:
        reader: An open recording.
        configuration: The pipeline, and how to pair.
        topics: Absolute topic of every input port.
        count: How many frames at most.
        watch: See `Watch`.

    Raises:
        BagError: If the recording lacks a required topic, or holds no complete frame.
    """
    found = bags.Frames(
        reader,
        topic_inputs(configuration.pipeline),
        topics,
        slop_s=configuration.host.slop_s,
        depth_unit_m=configuration.host.depth_unit_m,
    )
    path = reader.paths[0]
    values = []
    for _, matched in watch(islice(found, count), 'read', min(count, found.frame_count)):
        try:
            decoded = found.decoded(matched)
        except ValueError as error:
            raise bags.BagError(f'{path}: {error}') from None
        values.append({port: value for port, value in decoded.items() if value is not None})
    if not values:
        raise bags.BagError(
            f'{path} holds no complete frame; {command("doctor RECORDING")} tells why'
        )
    return Clip(str(path), values, found.transforms)


def arrays(values: Mapping[str, Any]) -> list[npt.NDArray[Any]]:
    """Return the arrays that a frame's values hold."""
    held = [getattr(value, item.name) for value in values.values() for item in fields(value)]
    return [array for array in held if isinstance(array, np.ndarray)]


def first_outputs(
    configuration: Configuration, clip: Clip, only: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what the pipeline makes of the first frame, as it would be published."""
    pipeline = configuration.pipeline(configuration.parameters)
    outputs = pipeline(clip.transforms, **clip.values[0])
    encoding = configuration.host.depth_encoding
    return {
        port: encoded_as(value, encoding)
        for port, value in outputs.items()
        if not only or port in only
    }


def in_encoding(clip: Clip, encoding: DepthEncoding) -> Clip:
    """Return the frames with their depth in an encoding."""
    values = [
        {
            port: replace(value, encoding=encoding) if isinstance(value, DepthImage) else value
            for port, value in frame.items()
        }
        for frame in clip.values
    ]
    return clip._replace(values=values)


def write_frames(
    path: Path, frames: Sequence[Mapping[str, Any]], topics: Mapping[str, str]
) -> None:
    """Write frames as a recording."""
    with bags.BagWriter(path) as writer:
        for frame in frames:
            for port, value in frame.items():
                writer.write(topics[port], value.header.stamp_ns, value)
