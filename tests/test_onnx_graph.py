"""What exported graphs look like from outside."""

import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from deepisp_cli.network import DeepISP, NetworkConfig
from deepisp_cli.training.onnx_graph import to_onnx
from deepisp_cli.training.quantise import measure


@pytest.mark.parametrize("eight_bit", [False, True])
def test_each_node_has_a_name_of_its_own(eight_bit):
    """ONNX Runtime before 1.22 takes no others."""
    torch.manual_seed(0)
    network = DeepISP(NetworkConfig(fold=2, dilations=(1,) * 5, width=20, high_blocks=1)).eval()
    statistics = measure(network, [torch.rand(1, 3, 64, 64)]) if eight_bit else None
    nodes = onnx.load_from_string(to_onnx(network, statistics)).graph.node
    assert [node.name for node in nodes] == [node.output[0] for node in nodes]
    assert len({node.name for node in nodes}) == len(nodes) > 20
    assert any(node.op_type == "QLinearConv" for node in nodes) == eight_bit
