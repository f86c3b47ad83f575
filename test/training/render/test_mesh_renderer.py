import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
pytest.importorskip('embreex', reason="casting into triangles: pip install '.[train]'")

from training.render import Renderer, World, sample_scenes
from training.render.assets import Asset, Assets, Model, columns, model_thing, write_index
from training.render.cameras import View, gather
from training.render.mesh_renderer import MeshRenderer
from training.render.scenes import rng_of
from training.render.solids import Kind, Lamp, Material, Scene, box

WHITE = Material(((0.7, 0.7, 0.7),) * 3)
PANE = WHITE._replace(glass=0.9)
SILVER = WHITE._replace(mirror=0.95)


def camera(eye=(0.0, 0.0, 0.0), target=(0.0, 1.0, 0.0), size=(24, 32)):
    height, width = size
    view = View((30.0, 30.0, (width - 1) / 2, (height - 1) / 2), eye, target, 0, 0.3, (1, 1, 1), 0)
    return gather([view], [0], height, width)


def room(*solids):
    """A wall 3 m ahead, and what stands before it."""
    wall = box((0, 3.5, 0), (9, 0.5, 9), WHITE)
    lamps = [Lamp((0, 0, 1), (1.0, 1.0, 1.0)), *[Lamp((0, 0, 1), (0.0, 0.0, 0.0))] * 2]
    numbered = [s._replace(instance=i) for i, s in enumerate((wall, *solids))]
    return Scene(numbered, lamps)


def middle(image):
    return image[0, :, image.shape[2] // 2, image.shape[3] // 2].tolist()


def test_depth_and_normal_of_a_wall_are_exact():
    found = MeshRenderer(None)([room()], camera())
    # Depth is along the optical axis, so that of a wall ahead is the same everywhere.
    np.testing.assert_allclose(found.depth_m.numpy(), 3, rtol=1e-6)
    np.testing.assert_allclose(
        found.normals.numpy(), np.broadcast_to([[[[0]], [[0]], [[-1]]]], (1, 3, 24, 32)), atol=1e-6
    )
    assert not bool(found.glass.any())
    assert not bool(found.mirror.any())


def test_a_pane_is_seen_and_seen_through():
    found = MeshRenderer(None)([room(box((0, 1.01, 0), (0.2, 0.01, 0.2), PANE))], camera())
    assert middle(found.glass) == [True]
    assert middle(found.depth_m) == [pytest.approx(1)]
    assert middle(found.behind_m) == [pytest.approx(3)]
    assert middle(found.instances) == [1]
    # Beside it there is only the wall.
    assert found.glass[0, 0, 0, 0].item() is False
    assert found.instances[0, 0, 0, 0].item() == 0


def test_a_mirror_shows_the_depth_of_the_path():
    back = box((0, -1.5, 0), (9, 0.5, 9), WHITE)
    mirror = box((0, 2.02, 0), (0.2, 0.02, 0.2), SILVER)
    found = MeshRenderer(None)([room(mirror, back)], camera())
    assert middle(found.mirror) == [True]
    assert middle(found.depth_m) == [pytest.approx(2)]
    # 2 m there, and 3 m back to the wall 1 m behind the camera.
    assert middle(found.behind_m) == [pytest.approx(5, rel=1e-4)]


def test_what_stands_before_a_lamp_throws_a_shadow():
    scene = room(box((0, 1.5, 0.5), (0.4, 0.4, 0.02), WHITE))
    scene.ambient = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    scene.lamps[0] = Lamp((0, 1.5, 3.0), (1.0, 1.0, 1.0), 0.01)
    floor = box((0, 0, -1.5), (9, 9, 0.5), WHITE)
    scene.solids.append(floor._replace(instance=2))
    light = MeshRenderer(None)([scene], camera((0, -1, 0.4), (0, 1.5, -1), (48, 64))).rgb
    on_floor = light[0, 1, :, 32]
    # The middle row looks at the floor straight below the plate, the last rows at what is nearer.
    assert on_floor[24] < 0.3 * on_floor[44]


def test_it_agrees_with_the_analytic_renderer():
    scenes, cameras = sample_scenes(3, [1, 4], height=48, width=64, views=2)
    found = MeshRenderer(None)(scenes, cameras)
    wanted = Renderer()(World.from_scenes(scenes), cameras)
    off = (found.depth_m / wanted.depth_m - 1).abs()
    # What is round has facets here, and edges fall to either side.
    assert off.nanquantile(0.9) < 1e-3
    assert (found.instances == wanted.instances).float().mean() > 0.97
    for name in ('normals', 'albedo', 'ir_reflectance'):
        a, b = getattr(found, name), getattr(wanted, name)
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert (a - b).abs().median() < 0.02, name
    for name in ('rgb', 'behind_m', 'glass', 'mirror', 'specular', 'shininess'):
        assert getattr(found, name).shape == getattr(wanted, name).shape
        assert getattr(found, name).dtype == getattr(wanted, name).dtype


@pytest.fixture
def assets(tmp_path):
    """One model: a square table top, half of it red and half black glass of a screen."""
    (tmp_path / 'models').mkdir()
    square = [[-0.5, -0.5, 0], [0.5, -0.5, 0.4], [0.5, 0.5, 0.4]]
    other = [[-0.5, -0.5, 0], [0.5, 0.5, 0.4], [-0.5, 0.5, 0]]
    model = Model(
        np.array([square, other], np.float32),
        np.tile(np.array([-0.37, 0, 0.93], np.float32), (2, 3, 1)),
        np.zeros((2, 3, 2), np.float32),
        np.array([0, 1]),
        np.array(
            [columns(red=0.8, green=0.1, blue=0.1), columns(red=0.01, ir_reflectance=0.02)],
            np.float32,
        ),
        np.zeros((0, 256, 256, 3), np.uint8),
    )
    np.savez(tmp_path / 'models' / 'ramp.npz', **model._asdict())
    ramp = Asset('ramp', 'Ramp', 'table', (1.0, 1.0, 0.4), 0.4, 0.0, 'Ann', 'CC0 1.0', 'here')
    write_index(tmp_path, [ramp])
    return Assets(tmp_path)


def test_models_have_their_place_size_and_materials(assets):
    (solid,) = model_thing(rng_of(0, 5), assets.all[0]).solids
    assert solid.kind is Kind.MODEL
    solid = solid._replace(
        center_m=(0, 2, 0), half_m=(1, 1, 0.2), material=Material(((1.0, 1.0, 1.0),) * 3)
    )
    # From above: twice as wide as it was made, and as high; at its middle it is at z = 0.
    found = MeshRenderer(assets)([room(solid)], camera((0, 2, 2), (0, 2.001, 0), (25, 33)))
    assert middle(found.depth_m) == [pytest.approx(2, abs=0.02)]
    right, left = found.albedo[0, :, 14, 20], found.albedo[0, :, 10, 10]
    assert right.tolist() == pytest.approx([0.8, 0.1, 0.1], abs=1e-6)
    assert left[0].item() == pytest.approx(0.01, abs=1e-6)
    assert found.ir_reflectance[0, 0, 10, 10] < 0.05


def test_a_model_without_assets_is_refused(assets):
    (solid,) = model_thing(rng_of(0, 5), assets.all[0]).solids
    with pytest.raises(ValueError, match='no assets'):
        MeshRenderer(None)([room(solid)], camera())
    with pytest.raises(ValueError, match='MeshRenderer'):
        World.from_scenes([room(solid)])


def test_scenes_are_furnished_and_the_same_again(assets):
    scenes, _ = sample_scenes(0, range(8), assets=assets)
    named = [solid.model for scene in scenes for solid in scene.solids if solid.model]
    assert set(named) == {'ramp'}
    again, _ = sample_scenes(0, range(8), assets=assets)
    assert [s.solids for s in again] == [s.solids for s in scenes]
    # Some scenes stay as they are without models.
    bare, _ = sample_scenes(0, range(8))
    same = [a.solids == b.solids for a, b in zip(scenes, bare, strict=True)]
    assert 0 < sum(same) < 8


def test_without_an_index_it_says_how_to_get_one(tmp_path):
    with pytest.raises(FileNotFoundError, match='make assets'):
        Assets(tmp_path)
