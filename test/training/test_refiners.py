import json

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
onnx = pytest.importorskip('onnx', reason="export needs onnx: pip install '.[train]'")

from training import refiners
from training.datasets.hands import CROP_PX, SIDE_M
from training.networks.simgan import DepthRefiner, GreyRefiner
from training.refiners import (
    EYES,
    FRAMES,
    HANDS,
    Deployed,
    difference,
    export_refiner,
    load_refiner,
    refined_m,
)

MM_PER_PX = 1e3 * SIDE_M / CROP_PX
HAND_UNITS = {'units': {'depth': 'm - 2 m, 0 in holes', 'refined': 'm - 2 m, 0 in holes'}}


def hands(size=40):
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing='ij')
    disc = (rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (0.4 * size) ** 2
    noise = torch.randn(3, 1, size, size, generator=torch.Generator().manual_seed(0))
    return torch.where(disc, -1.2 + 0.1 * rows / size + 0.002 * noise, 0.0)


def lively(network):
    """Let a refiner change millimetres, and drop some pixels."""
    last = network.layers[-1]
    torch.nn.init.normal_(last.weight, 0, 1.0, generator=torch.Generator().manual_seed(1))
    if last.out_channels > 1:
        last.bias.data[1] = -2.0
    return network.eval()


def small():
    torch.manual_seed(0)
    return lively(DepthRefiner(kernel=3, blocks=2, maps=8))


def settings(**changed):
    given = {
        'domain': 'hands', 'kernel': 3, 'blocks': 2, 'maps': 8, 'direct': False, 'holes': True,
        'grain': True,
    }  # fmt: skip
    return given | changed


def test_exported_it_is_the_same_in_millimetres(tmp_path):
    network, path = small(), tmp_path / 'model.onnx'
    export_refiner(network, path, hands(), {'name': 'x'}, HANDS)
    said = onnx.load(path)
    assert [(i.name, i.type.tensor_type.elem_type) for i in said.graph.input] == [('depth', 1)]
    assert [o.name for o in said.graph.output] == ['refined']
    described = json.loads(said.metadata_props[0].value)
    assert described == {'format': 1, 'name': 'x'} | HAND_UNITS
    # Of other sizes and another number, too; and none of this is the identity.
    depth = torch.cat([hands(56), hands(56)])[:5, :, :48]
    got = load_refiner(path)(depth)
    with torch.no_grad():
        wanted = Deployed(network)(depth)
    off, flipped = difference(got, wanted)
    assert 1e3 * off < 1e-2
    assert flipped < 1e-4
    change_mm = 1e3 * (got - depth)[(got != 0) & (depth != 0)].abs()
    assert change_mm.mean() > 0.3
    dropped = ((got == 0) & (depth != 0)).float().mean()
    assert 0.001 < dropped < 0.5
    assert (got[depth == 0] == 0).all()


def test_eyes_are_exported(tmp_path):
    network, path = lively(GreyRefiner(blocks=1, maps=8)), tmp_path / 'model.onnx'
    images = torch.rand(4, 1, 35, 55)
    export_refiner(network, path, images, {}, EYES)
    with torch.no_grad():
        assert (load_refiner(path, EYES)(images) - Deployed(network)(images)).abs().max() < 1e-5
    with pytest.raises(ValueError, match='refines images in grey, 0 to 1'):
        load_refiner(path)


def test_what_differs_is_not_exported(tmp_path, monkeypatch):
    # What is written is not looked at: exporting takes seconds.
    monkeypatch.setattr(refiners, 'to_onnx', lambda _, path, *__: path.touch())
    monkeypatch.setattr(refiners, 'describe', lambda *_: None)
    monkeypatch.setattr(refiners, '_exported', lambda _: lambda depth: depth + 0.001)
    with pytest.raises(SystemExit, match='differs from PyTorch'):
        export_refiner(small(), tmp_path / 'model.onnx', hands(), {}, HANDS)
    assert not (tmp_path / 'model.onnx').exists()


def test_difference():
    got = torch.tensor([-1.0, 0.0, -1.2, 0.0])
    wanted = torch.tensor([-1.001, 0.0, 0.0, -1.0])
    off, flipped = difference(got, wanted)
    assert off == pytest.approx(0.001, rel=1e-3)
    assert flipped == 0.5
    assert difference(torch.zeros(2), torch.zeros(2)) == (0.0, 0.0)


def test_checkpoints_are_loaded_with_their_best_weights(tmp_path):
    best = small()
    last = DepthRefiner(kernel=3, blocks=2, maps=8)
    path = tmp_path / 'checkpoint.pt'
    state = {
        'settings': settings(), 'refiner': last.state_dict(),
        'best': {'weights': best.state_dict()},
    }  # fmt: skip
    torch.save(state, path)
    with torch.no_grad():
        assert torch.equal(load_refiner(path)(hands()), Deployed(best)(hands()))
        # Before the first validation there is no best.
        torch.save(state | {'best': {'weights': {}}}, path)
        assert torch.equal(load_refiner(path)(hands()), Deployed(last)(hands()))
    assert not load_refiner(path)(hands()).requires_grad
    with pytest.raises(ValueError, match='refined here is m, 0 in holes'):
        load_refiner(path, FRAMES)


def test_what_is_no_refiner_is_refused(tmp_path):
    torch.save({'network': {}}, tmp_path / 'checkpoint.pt')
    with pytest.raises(ValueError, match='has no refiner'):
        load_refiner(tmp_path / 'checkpoint.pt')
    node = onnx.helper.make_node('Identity', ['color'], ['depth_m'])
    info = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1])
        for name in ('color', 'depth_m')
    ]
    graph = onnx.helper.make_graph([node], 'other', info[:1], info[1:])
    opset = [onnx.helper.make_opsetid('', 18)]
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / 'other.onnx'
    )
    with pytest.raises(ValueError, match='in something else'):
        load_refiner(tmp_path / 'other.onnx')


# ------------------------------------------------------------------------- depth of any training


def scene():
    """A wall at 2.5 m with a hole, and a tilted hand before it, metres."""
    depth_m = np.full((60, 80), 2.5, np.float32)
    depth_m[5:10, 5:10] = np.nan
    depth_m[20:40, 30:60] = 0.7 + 0.0007 * np.arange(20, dtype=np.float32)[:, None]
    return depth_m, depth_m < 1


@pytest.mark.parametrize('mm_per_px', [MM_PER_PX, 3.0, 0.7])
def test_what_is_not_changed_survives(mm_per_px):
    depth_m, hand = scene()
    same = refined_m(lambda depth: depth, depth_m, hand, mm_per_px)
    np.testing.assert_array_equal(same, depth_m)
    assert same.dtype == np.float32


@pytest.mark.parametrize('mm_per_px', [MM_PER_PX, 3.0, 0.7])
def test_a_hand_is_refined_at_the_scale_of_crops(mm_per_px):
    depth_m, hand = scene()
    shapes = []

    def refine(depth):
        shapes.append(depth.shape)
        assert set((depth == 0).unique().tolist()) == {False, True}
        assert (depth[depth != 0] < -1.28).all()
        return torch.where(depth != 0, depth + 0.003, 0.0)

    found = refined_m(refine, depth_m, hand, mm_per_px)
    scale = mm_per_px / MM_PER_PX
    assert shapes == [(1, 1, round(60 * scale), round(80 * scale))]
    np.testing.assert_array_equal(found[~hand], depth_m[~hand])
    moved_mm = 1e3 * (found - depth_m)[hand]
    # At the outline the nearest pixel of a coarser crop may be beside the hand.
    assert np.mean(np.abs(moved_mm - 3) < 1e-3) > (0.999 if scale >= 1 else 0.85)


def test_dropped_pixels_are_holes():
    depth_m, hand = scene()

    def drop(depth):
        kept = depth.clone()
        kept[..., :, 45:] = 0
        return kept

    found = refined_m(drop, depth_m, hand, MM_PER_PX)
    assert np.isnan(found[20:40, 45:60]).all()
    np.testing.assert_array_equal(found[:, :45], depth_m[:, :45])
    np.testing.assert_array_equal(found[~hand], depth_m[~hand])


def test_surfaces_have_no_stairs_and_nothing_between_them():
    rows = np.arange(20, dtype=np.float32)[:, None]
    crop = np.repeat(-1.3 + 0.002 * rows, 20, 1)
    crop[:, 10:] += 0.05
    crop[:, 15:] = 0
    fine = refiners._resized(crop, (60, 60))
    steps_mm = 1e3 * np.abs(np.diff(fine[3:-3, :28], axis=0))
    assert steps_mm.max() < 1.0  # of 2 mm in the crop
    near = fine[:, :44]
    between = (near > -1.3 + 0.042) & (near < -1.25 - 0.001)
    assert not between.any()
    assert set(np.unique((fine != 0).sum(1))) == {45}


def test_nothing_to_refine():
    depth_m, hand = scene()
    nothing = refined_m(lambda _: pytest.fail('called'), depth_m, hand & False, 1.0)
    np.testing.assert_array_equal(nothing, depth_m)
