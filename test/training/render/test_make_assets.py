"""The assets are made from packages as registries carry them: tiny ones, written by hand."""

import io
from pathlib import Path
import subprocess
import tarfile
import zipfile

import cv2
import numpy as np
import pytest

pytest.importorskip('scipy', reason="training needs scipy: pip install '.[train]'")

from training.render import make_assets, sweet_home
from training.render.assets import MATERIAL_COLUMNS, Asset, credits_of
from training.render.make_assets import Package, fetched, surfaces, unpack_deb

ROOT = Path(__file__).parents[3]

CATALOGUE = """id=test
name#1=Glass table
category#1=Living room
model#1=/things/table.obj
width#1=120
depth#1=80
height#1=40
creator#1=Ann
name#2=Truck
category#2=Vehicles
model#2=/things/table.obj
width#2=120
depth#2=80
height#2=40
name#3=Bill 10\\u20ac
category#3=Miscellaneous
model#3=/things/table.obj
width#3=12
depth#3=8
height#3=4
elevation#3=110.5
"""
# A quad 2 x 1 in x and z, at a height of 3, its front edge (+z) of glass; y is up.
OBJ = """mtllib table.mtl
v -1 3 -0.5
v 1 3 -0.5
v 1 3 0.5
v -1 3 0.5
v -1 1 0.5
vt 0 0
vt 1 0
vt 1 1
usemtl wood
f 1/1 3/3 2/2
usemtl Glass
f -5 -2 -3
f 4 5 3
"""
MTL = """newmtl wood
Kd 1 0.5 0
map_Kd wood.png
newmtl Glass
Kd 0 0 1
d 0.2
"""


@pytest.fixture
def library(tmp_path):
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[..., 2] = 200  # red, in the order of OpenCV
    path = tmp_path / 'Scopia.sh3f'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('PluginFurnitureCatalog.properties', CATALOGUE)
        archive.writestr('things/table.obj', OBJ)
        archive.writestr('things/table.mtl', MTL)
        archive.writestr('things/wood.png', cv2.imencode('.png', picture)[1].tobytes())
    return path


def test_furniture_is_read_in_its_size_with_its_materials(library):
    found = list(sweet_home.read(library.parent))
    assert [asset.title for asset, _ in found] == ['Glass table', 'Bill 10€']
    asset, model = found[0]
    assert (asset.role, asset.size_m, asset.top_m) == ('table', (1.2, 0.8, 0.4), 0.4)
    assert (asset.author, asset.licence) == ('Ann', 'CC BY 3.0')
    corners = model.corners_m
    np.testing.assert_allclose(corners.min((0, 1)), [-0.6, -0.4, 0], atol=1e-6)
    np.testing.assert_allclose(corners.max((0, 1)), [0.6, 0.4, 0.4], atol=1e-6)
    # Their front is at +z, ours at -y: the triangle of wood lies behind.
    wood = corners[model.materials[model.material][:, 3] >= 0]
    np.testing.assert_allclose(wood[0, :, 1], [0.4, -0.4, 0.4], atol=1e-6)
    glass = model.materials[model.material][:, MATERIAL_COLUMNS.index('glass')]
    assert glass.tolist() == pytest.approx([0, 0.8, 0.8])
    assert model.pictures.shape == (1, 256, 256, 3)
    assert model.pictures[0, 100, 100].tolist() == [200, 0, 0]


def test_what_hangs_is_known_by_its_elevation(library):
    hung = list(sweet_home.read(library.parent))[1][0]
    assert (hung.role, hung.elevation_m) == ('hung', 1.105)


def test_materials_that_matter_to_sensors_are_known_by_their_names():
    def of(name, column, **entry):
        return sweet_home.material(name, entry, -1)[MATERIAL_COLUMNS.index(column)]

    assert of('bathroom_mirror', 'mirror') > 0.9
    assert of('windowGlass', 'glass') == 0  # the name of a frame may end like this
    assert of('window_glass', 'glass') > 0.7
    assert of('pane', 'glass', d='0.1') > 0.7
    assert of('rubber', 'ir_reflectance', kd='0.01 0.01 0.01') < 0.1
    assert of('wall', 'ir_reflectance', kd='0.9 0.9 0.9') > 0.6
    assert of('chrome legs', 'specular') > 0.3


def test_a_mesh_with_too_many_triangles_gets_fewer_and_keeps_its_size():
    x, y = np.meshgrid(np.linspace(0, 1, 60), np.linspace(0, 1, 60), indexing='ij')
    grid = np.stack([x, y, 0.1 * np.sin(9 * x)], 2)
    a, b, c = grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:]
    corners = np.stack([a, b, c], 2).reshape(-1, 3, 3)
    found, whole = sweet_home.simplified(corners, 800)
    assert 200 < len(found) <= 800
    assert len(found) == len(whole)
    assert np.abs(found - corners[whole]).max() < 0.05
    np.testing.assert_allclose(found.max((0, 1))[:2], 1, atol=0.03)


def test_no_library_is_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no \.sh3f library'):
        next(sweet_home.read(tmp_path))


def test_a_debian_package_is_unpacked(tmp_path):
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode='w:xz') as archive:
        info = tarfile.TarInfo('./usr/share/x/hello.txt')
        info.size = 5
        archive.addfile(info, io.BytesIO(b'hello'))
    data = b'!<arch>\n'
    for name, content in (('debian-binary', b'2.0'), ('data.tar.xz', inner.getvalue())):
        data += f'{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n'.encode()
        data += content + b'\n' * (len(content) % 2)
    package = tmp_path / 'x.deb'
    package.write_bytes(data)
    unpack_deb(package, tmp_path / 'out')
    assert (tmp_path / 'out/usr/share/x/hello.txt').read_bytes() == b'hello'
    package.write_bytes(b'PK')
    with pytest.raises(ValueError, match='no Debian package'):
        unpack_deb(package, tmp_path)


def test_another_package_than_the_known_one_is_refused(tmp_path):
    (tmp_path / 'x.whl').write_bytes(b'other')
    with pytest.raises(SystemExit, match='SHA-256 differs'):
        fetched(Package('x.whl', '0' * 64, ('false',)), tmp_path)


def test_a_tool_that_is_missing_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r'by other means\. no-such-tool is not installed'):
        fetched(Package('x.whl', '0' * 64, ('no-such-tool',)), tmp_path / 'new')


def test_a_failed_fetch_says_why(tmp_path):
    command = ('sh', '-c', 'echo no route >&2; exit 1')
    with pytest.raises(SystemExit, match='no route'):
        fetched(Package('x.whl', '0' * 64, command), tmp_path)


def test_pictures_of_things_are_no_surfaces(tmp_path):
    image = cv2.imencode('.png', np.full((4, 4, 3), 9, np.uint8))[1].tobytes()
    path = tmp_path / 'x.whl'
    with zipfile.ZipFile(path, 'w') as archive:
        for name in ('assets/textures/clay.png', 'assets/textures/can.png', 'other/clay.png'):
            archive.writestr(f'robosuite/{name}', image)
    assert [asset.name for asset, _ in surfaces(path)] == ['robosuite-clay']


def test_credits_name_every_author_once_for_a_licence():
    def asset(title, author, licence):
        return Asset(title, title, 'small', (1, 1, 1), 0, 0, author, licence, 'a package')

    assets = [asset('a', 'Ann', 'CC0'), asset('b', 'Ann', 'CC0'), asset('c', 'Bob', 'CC BY')]
    assert credits_of(assets) == ['- CC BY, a package: Bob (1).', '- CC0, a package: Ann (2).']


def test_nothing_of_the_assets_is_in_the_repository():
    listed = subprocess.run(
        ['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip('not a git repository')
    files = [Path(name) for name in listed.stdout.split('\0') if name]
    assert not [f for f in files if f.parts[0] == 'data']
    kinds = {'.obj', '.mtl', '.sh3f', '.deb', '.whl', '.tgz', '.glb', '.exr', '.pth', '.ply'}
    assert not [f for f in files if f.suffix.lower() in kinds]
    known = {package.sha256 for package in make_assets.PACKAGES.values()}
    large = [f for f in files if (ROOT / f).is_file() and (ROOT / f).stat().st_size > 1 << 20]
    assert not [f for f in large if make_assets.digest(ROOT / f) in known]
    ignored = subprocess.run(
        ['git', 'check-ignore', '-q', 'data/assets/assets.json'], cwd=ROOT, check=False
    )
    assert ignored.returncode == 0
