"""Draws a moving picture of a recording: colour, depth as measured, depth as published.

    python tools/animate.py docs/before_after.webp                  # the recording of the demo
    python tools/animate.py mine.webp --recording demo/refined.mcap

The recording must hold colour, the camera's depth and the inpainted depth, as that of
`depth-refiner demo` does. Hue is distance. The surface is lit from above left, so noise shows as
roughness. Frames run forward and back, so the picture has no seam. Pillow writes it
(`pip install pillow`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
import tempfile
from typing import Any

import cv2
import numpy as np
from rosbags.highlevel import AnyReader

from depth_refiner_ros.cli import main as depth_refiner
from depth_refiner_ros.data import ColorImage, DepthImage, Float32Array, PinholeCamera, UInt8Array
from depth_refiner_ros.geometry import points_from_depth
from depth_refiner_ros.messages import decode
from depth_refiner_ros.pictures import NO_VALUE, depth_scale, draw_text

try:
    from PIL import Image
except ModuleNotFoundError:
    raise SystemExit('Pillow writes the picture: pip install pillow') from None

TOPICS: dict[str, type[Any]] = {
    '/camera/color/image_rect': ColorImage,
    '/camera/depth/image_rect': DepthImage,
    '/camera/depth_inpainted/image_rect': DepthImage,
    '/camera/depth_inpainted/camera_info': PinholeCamera,
}
TITLES = ('colour', 'depth as measured', 'depth as published')
PANEL_PX, GAP_PX, TITLE_PX = (320, 240), 4, 24
TO_LIGHT = np.array([-0.5, -0.6, -0.62], np.float32)
REACH_PX = 4
"""Slopes are taken between the pixels this far to either side."""


def frames(recording: Path) -> Iterator[list[Any]]:
    """Yield what was recorded with one stamp on all of TOPICS, in their order."""
    waiting: dict[int, dict[str, Any]] = {}
    with AnyReader([recording]) as reader:
        for connection, _, raw in reader.messages():
            if (kind := TOPICS.get(connection.topic)) is None:
                continue
            value = decode(kind, reader.deserialize(raw, connection.msgtype))
            parts = waiting.setdefault(value.header.stamp_ns, {})
            parts[connection.topic] = value
            if len(parts) == len(TOPICS):
                yield [parts[topic] for topic in TOPICS]
                del waiting[value.header.stamp_ns]


def lit(depth_m: Float32Array, camera: PinholeCamera) -> UInt8Array:
    """Return depth, (H, W) metres, painted by distance and lit as a dull surface, (H, W, 3)."""
    points_m = points_from_depth(depth_m, camera)
    reach = ((REACH_PX, REACH_PX), (REACH_PX, REACH_PX), (0, 0))
    padded_m = np.pad(points_m, reach, mode='reflect', reflect_type='odd')
    inner = slice(REACH_PX, -REACH_PX)
    right_m = padded_m[inner, 2 * REACH_PX :] - padded_m[inner, : -2 * REACH_PX]
    down_m = padded_m[2 * REACH_PX :, inner] - padded_m[: -2 * REACH_PX, inner]
    normals = np.cross(down_m, right_m)
    length = np.maximum(np.linalg.norm(normals, axis=2), 1e-12)
    light = np.clip(normals @ TO_LIGHT / length, 0, 1)
    # Beside a hole there is no slope: the light of a surface that faces the camera.
    light = np.where(np.isnan(light), -TO_LIGHT[2], light)[..., None]
    painted = depth_scale(0.8, 4.0).paint(depth_m)
    return np.asarray(
        np.where(np.isnan(depth_m)[..., None], NO_VALUE, painted * (0.3 + 0.7 * light)), np.uint8
    )


def picture(parts: list[Any]) -> UInt8Array:
    """Return the panels of one frame side by side."""
    color, before, after, camera = parts
    rgb = np.full((PANEL_PX[1] + TITLE_PX, 3 * PANEL_PX[0] + 2 * GAP_PX, 3), 255, np.uint8)
    shown = (color.rgb, lit(before.depth_m, camera), lit(after.depth_m, camera))
    for number, (title, panel) in enumerate(zip(TITLES, shown, strict=True)):
        left = number * (PANEL_PX[0] + GAP_PX)
        small = cv2.resize(panel, PANEL_PX, interpolation=cv2.INTER_AREA)
        rgb[TITLE_PX:, left : left + PANEL_PX[0]] = small
        draw_text(rgb[:TITLE_PX, left : left + PANEL_PX[0]], title, (2, 17), size_px=13)
    return rgb


def animate(recording: Path, output: Path, step: int, rate_hz: float, quality: int) -> None:
    """Write the moving picture of a recording."""
    shown = [
        Image.fromarray(picture(parts))
        for number, parts in enumerate(frames(recording))
        if number % step == 0
    ]
    if not shown:
        raise SystemExit(f'{recording} has no frame with all of {", ".join(TOPICS)}')
    there_and_back = [*shown, *shown[-2:0:-1]]
    output.parent.mkdir(parents=True, exist_ok=True)
    there_and_back[0].save(
        output,
        save_all=True,
        append_images=there_and_back[1:],
        duration=round(1000 / rate_hz),
        loop=0,
        quality=quality,
        method=6,
    )
    print(f'{output}: {len(there_and_back)} pictures, {output.stat().st_size / 1e6:.2f} MB')


def main() -> None:
    """Read the arguments; simulate a recording where none is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('output', type=Path, help='picture to write, NAME.webp')
    parser.add_argument('--recording', type=Path, help='bag; default: one made by the demo')
    parser.add_argument('--step', type=int, default=3, help='show every n-th frame')
    parser.add_argument('--rate-hz', type=float, default=10, help='pictures a second')
    parser.add_argument('--quality', type=int, default=50, help='of WebP, 0 to 100')
    arguments = parser.parse_args()
    settings = arguments.output, arguments.step, arguments.rate_hz, arguments.quality
    if arguments.recording:
        animate(arguments.recording, *settings)
        return
    with tempfile.TemporaryDirectory() as folder:
        if depth_refiner(['demo', '--output', folder]) != 0:
            raise SystemExit('the demo failed')
        animate(Path(folder) / 'refined.mcap', *settings)


if __name__ == '__main__':
    main()
