"""depth-refiner import: turn a folder of images into a bag."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from rich.markup import escape
import tyro

from ..config import resolve
from ..folders import Folder
from ..hosts.bag import BagWriter
from .replay import progress


@dataclass(frozen=True)
class ImportFolder:
    """Turn a folder of images into a recording that replay, RViz and Foxglove open.

    Reads the project's layout (camera.json, depth/, and where there are color/, reference/ and
    poses/) and that of TUM RGB-D (depth.txt, rgb.txt, groundtruth.txt).
    """

    folder: tyro.conf.Positional[Path]
    """Folder to read."""
    output: Annotated[Path, tyro.conf.arg(aliases=['-o'])]
    """Recording to write: NAME.mcap for a single file, any other name for a rosbag2 folder."""
    namespace: str = '/camera'
    """Namespace of the written topics."""
    rate_hz: float = 30.0
    """Frames a second, where the layout holds no stamps."""
    storage: Literal['mcap', 'sqlite3'] = 'mcap'
    """Format of a rosbag2 folder."""

    def run(self) -> int:
        """Import; return 0."""
        if not self.rate_hz > 0:
            raise ValueError(f'--rate-hz must be greater than 0, got {self.rate_hz:g}')
        console = Console(stderr=True, emoji=False, highlight=False)
        folder = Folder(self.folder, rate_hz=self.rate_hz)

        def topic(name: str) -> str:
            return resolve(name, self.namespace)

        with BagWriter(self.output, storage=self.storage) as writer:
            for i, frame in enumerate(progress(folder, 'import', len(folder), console)):
                log_ns = frame.depth.header.stamp_ns
                if i == 0 and folder.color_from_depth is not None:
                    # The depth frame hangs from the world, so the colour frame from it.
                    depth_from_color = folder.color_from_depth.inverse()
                    writer.write_transforms('/tf_static', log_ns, [depth_from_color])
                if frame.world_from_camera is not None:
                    writer.write_transforms('/tf', log_ns, [frame.world_from_camera])
                writer.write(topic('depth/camera_info'), log_ns, frame.camera)
                writer.write(topic('depth/image_rect'), log_ns, frame.depth)
                if frame.color is not None:
                    writer.write(topic('color/image_rect'), log_ns, frame.color)
                if frame.color_camera is not None:
                    writer.write(topic('color/camera_info'), log_ns, frame.color_camera)
                if frame.reference is not None:
                    writer.write(topic('reference/image_rect'), log_ns, frame.reference)
        paths = f'{self.folder} -> {self.output}'
        console.print(f'{len(folder)} frames: {escape(paths)}', soft_wrap=True)
        return 0
