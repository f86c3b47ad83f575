"""Fetch the furniture, the people and the pictures that furnished rooms are made of.

    python -m training.render.make_assets data/assets

They come from package registries by these registries' own tools (apt-get, pip), are checked by
their hashes, and are converted into one folder that git ignores. AUTHORS.md in it lists what was
brought, by whom and under which licence; it goes into the cards of models that learn from it.

Where there is no apt-get, fetch the Debian package sweethome3d-furniture by other means and put
it into the folder `packages` below the output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import hashlib
import io
from pathlib import Path
import shutil
import subprocess
import sys
import tarfile
import tempfile
from typing import NamedTuple
import zipfile

import numpy as np
import numpy.typing as npt
from rich.progress import track
import tyro

from . import sweet_home
from .assets import FOLDER, Asset, Model, credits_of, write_index


class Package(NamedTuple):
    """A package of a registry.

    Attributes:
        file: Its name as it is fetched.
        sha256: What it must be.
        command: What fetches it into the current folder.
    """

    file: str
    sha256: str
    command: tuple[str, ...]


def _pip(requirement: str) -> tuple[str, ...]:
    return (sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', requirement)


PACKAGES = {
    'sweethome3d-furniture': Package(
        'sweethome3d-furniture_1.8-1_all.deb',
        '3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668',
        ('apt-get', 'download', 'sweethome3d-furniture=1.8-1'),
    ),
    'robosuite': Package(
        'robosuite-1.5.2-py3-none-any.whl',
        'b9e02df55de8949739de6ba1d196d2ba59cf33c51a76efcfbe5c2f73cdcf99ce',
        _pip('robosuite==1.5.2'),
    ),
}

_NO_SURFACES = {'bread', 'can', 'cereal', 'glass', 'lemon', 'soda'}
"""Pictures among robosuite's that are of a thing."""


@dataclass
class Settings:
    """Fetch the furniture, the people and the pictures that furnished rooms are made of."""

    folder: tyro.conf.Positional[Path] = FOLDER
    """Folder to write to; packages that lie in its subfolder `packages` are not fetched again."""
    keep_packages: bool = True
    """Keep what was fetched, 280 MB, so that the next run needs no network."""


def fetched(package: Package, folder: Path) -> Path:
    """Return a package, fetched unless it is there.

    Raises:
        SystemExit: If it cannot be fetched, or is not the one that was asked for.
    """
    path = folder / package.file
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        done = None
        if shutil.which(package.command[0]):
            done = subprocess.run(
                package.command, cwd=folder, capture_output=True, text=True, check=False
            )
        if not path.exists():
            why = done.stderr.strip() if done else f'{package.command[0]} is not installed.'
            raise SystemExit(
                f'{package.file} could not be fetched. Put it into {folder} by other means. {why}'
            )
    if digest(path) != package.sha256:
        raise SystemExit(
            f'{path} is not the package that is known here: its SHA-256 differs. Delete it, and '
            'run this again.'
        )
    return path


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open('rb') as file:
        for part in iter(lambda: file.read(1 << 20), b''):
            found.update(part)
    return found.hexdigest()


def unpack_deb(package: Path, folder: Path) -> None:
    """Unpack the files of a Debian package: an ar archive with a tar archive in it.

    Raises:
        ValueError: If it is none.
    """
    data = package.read_bytes()
    if data[:8] != b'!<arch>\n':
        raise ValueError(f'{package} is no Debian package.')
    place = 8
    while place < len(data):
        name, size = data[place : place + 16].decode().strip(), int(data[place + 48 : place + 58])
        if name.startswith('data.tar'):
            member = io.BytesIO(data[place + 60 : place + 60 + size])
            with tarfile.open(fileobj=member) as archive:
                archive.extractall(folder, filter='data')
            return
        place += 60 + size + size % 2
    raise ValueError(f'{package} holds no files.')


def surfaces(wheel: Path) -> Iterator[tuple[Asset, npt.NDArray[np.uint8]]]:
    """Yield the pictures of robosuite that show a surface."""
    with zipfile.ZipFile(wheel) as archive:
        for path in sorted(archive.namelist()):
            if '/assets/textures/' not in path or not path.endswith('.png'):
                continue
            name = Path(path).stem
            picture = sweet_home.decoded(archive.read(path))
            if name not in _NO_SURFACES and picture is not None:
                asset = Asset(
                    f'robosuite-{name}', name, 'surface', (0.0, 0.0, 0.0), 0.0, 0.0,
                    'The robosuite authors', 'MIT', 'robosuite (PyPI)',
                )  # fmt: skip
                yield asset, picture


def main(settings: Settings) -> None:
    """Fetch, convert, list."""
    packages = settings.folder / 'packages'
    paths = {name: fetched(package, packages) for name, package in PACKAGES.items()}
    models, pictures = settings.folder / 'models', settings.folder / 'surfaces'
    for folder in (models, pictures):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    assets: list[Asset] = []

    def keep(asset: Asset, model: Model) -> None:
        np.savez(models / f'{asset.name}.npz', **model._asdict())
        assets.append(asset)

    with tempfile.TemporaryDirectory() as unpacked:
        unpack_deb(paths['sweethome3d-furniture'], Path(unpacked))
        for asset, model in track(sweet_home.read(Path(unpacked)), 'Furniture'):
            keep(asset, model)
    for asset, picture in surfaces(paths['robosuite']):
        np.save(pictures / f'{asset.name}.npy', picture)
        assets.append(asset)
    write_index(settings.folder, assets)
    lines = ['# Authors and licences of the assets', '', *credits_of(assets), '']
    (settings.folder / 'AUTHORS.md').write_text('\n'.join(lines))
    if not settings.keep_packages:
        shutil.rmtree(packages)
    count = {
        role: sum(a.role == role for a in assets) for role in sorted({a.role for a in assets})
    }
    print(f'{settings.folder}: {len(assets)} assets: ' + ', '.join(
        f'{number} {role}' for role, number in count.items()
    ) + '. AUTHORS.md says whose they are.')  # fmt: skip


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__))
