"""depth-refiner import: turn a folder of images into a bag."""

from __future__ import annotations

from dataclasses import dataclass
import math
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from rich.markup import escape
import tyro

from ..config import resolve
from ..folders import Folder
from ..hosts.bag import BagWriter
from ..tum import Intrinsics
from .replay import kept, progress


@dataclass(frozen=True)
class ImportFolder:
    """Turn a folder of images into a recording that replay, RViz and Foxglove open.

    Reads the project's layout (camera.json, depth/, and where there are color/, reference/ and
    poses/), that of TUM RGB-D (depth.txt, rgb.txt, groundtruth.txt) and those of ETH3D, ICL-NUIM
    and OpenLORIS-Scene. Prints what it had to assume and what it left out.
    """

    folder: tyro.conf.Positional[Path]
    """Folder to read."""
    output: Annotated[Path, tyro.conf.arg(aliases=['-o'])]
    """Recording to write: NAME.mcap or NAME.db3 for a single file, any other name for a rosbag2
    folder."""
    namespace: str = '/camera'
    """Namespace of the written topics."""
    rate_hz: float = 30.0
    """Frames a second, where the layout holds no stamps."""
    depth_unit_m: float | None = None
    """Metres of one count of the depth images, in place of what the folder states or is assumed:
    0.001 for millimetres, 0.0002 for TUM RGB-D."""
    camera: str | None = None
    """fx,fy,cx,cy of the depth images in pixels, likewise; fy is negative where the poses have y
    up, as in ICL-NUIM."""
    storage: Literal['mcap', 'sqlite3'] = 'mcap'
    """Format of a rosbag2 folder."""

    def run(self) -> int:
        """Import; return 0."""
        if not 0 < self.rate_hz < math.inf:
            raise ValueError(f'--rate-hz must be greater than 0, got {self.rate_hz:g}')
        console = Console(stderr=True, emoji=False, highlight=False)
        folder = Folder(
            self.folder,
            rate_hz=self.rate_hz,
            depth_unit_m=self.depth_unit_m,
            intrinsics=_intrinsics(self.camera),
        )

        def topic(name: str) -> str:
            return resolve(name, self.namespace)

        with kept(BagWriter(self.output, storage=self.storage), console) as writer:
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
        for remark in folder.remarks:
            console.print(escape(remark), soft_wrap=True)
        return 0


def _intrinsics(camera: str | None) -> Intrinsics | None:
    if camera is None:
        return None
    try:
        fx, fy, cx, cy = (float(word) for word in camera.replace(',', ' ').split())
    except ValueError:
        raise ValueError(
            f'--camera takes fx,fy,cx,cy in pixels, for example 525,525,319.5,239.5; got {camera}'
        ) from None
    return fx, fy, cx, cy
