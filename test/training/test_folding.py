import copy

import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
onnx = pytest.importorskip('onnx', reason="export needs onnx: pip install '.[train]'")

from torch import nn

from training.folding import attach, folded, pairs, read_back
from training.networks.blocks import Residual, convolution
from training.onnx_export import halve_weights, to_onnx


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(convolution(3, 8), Residual(8), nn.Conv2d(8, 1, 1))

    def forward(self, values):
        return self.network(values)


def seasoned():
    """A network whose batch norms have seen something."""
    torch.manual_seed(0)
    network = Small()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 3)
    return network


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    network = seasoned()
    path = tmp_path_factory.mktemp('folded') / 'small.onnx'
    module = folded(network)
    to_onnx(module, path, (torch.rand(1, 3, 8, 8),), ('values',), ('found',), {})
    halve_weights(path)
    attach(path, network.network)
    return network, path


def test_it_finds_batch_norms_in_sequences_and_residuals():
    assert list(pairs(Small())) == [
        ('network.0.0', 'network.0.1'),
        ('network.1.second', 'network.1.norm'),
        ('network.1.first.0', 'network.1.first.1'),
    ]


def test_a_folded_network_computes_the_same_and_has_no_batch_norm():
    network = seasoned().eval()
    single = folded(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in single.modules())
    values = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(single(values), network(values), rtol=1e-4, atol=1e-5)
    # The network itself stays as it was.
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_what_is_read_back_computes_the_same_before_and_while_it_is_trained(exported):
    network, path = exported
    found = Small()
    read_back(found.network, path)
    values = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for mode in (False, True):  # running statistics, and those of the batch
        wanted = copy.deepcopy(network).train(mode)(values)
        # Weights are stored in half precision: three digits.
        torch.testing.assert_close(found.train(mode)(values), wanted, rtol=5e-3, atol=5e-3)


def test_a_file_of_another_network_is_refused(exported):
    _, path = exported
    with pytest.raises(SystemExit, match='another network'):
        read_back(nn.Sequential(convolution(3, 9)), path)


def test_a_file_without_statistics_is_refused(exported, tmp_path):
    _, path = exported
    model = onnx.load(str(path))
    del model.metadata_props[:]
    bare = tmp_path / 'bare.onnx'
    onnx.save(model, str(bare))
    with pytest.raises(SystemExit, match='no statistics of batch norm'):
        read_back(Small().network, bare)


def test_no_file_is_one_sentence(tmp_path):
    with pytest.raises(SystemExit, match='cannot be read'):
        read_back(Small().network, tmp_path / 'none.onnx')
