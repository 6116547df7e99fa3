"""A layer with competition that is itself what `torch.fx` traces."""

import pytest
import torch
from torch import fx, nn

from lwta import LWTA, LWTAConv2d, LWTALinear


@pytest.mark.parametrize("layer", [LWTA(4), LWTALinear(8, 16, 4), LWTAConv2d(3, 8, 3, competitors=4)])
def test_a_layer_by_itself_is_refused_with_what_to_do(layer: nn.Module) -> None:
    with pytest.raises(ValueError, match=rf"{type(layer).__name__} is traced as a part .*nn\.Sequential"):
        fx.symbolic_trace(layer)


def test_what_is_advised_works() -> None:
    assert fx.symbolic_trace(nn.Sequential(LWTA(4)))(torch.rand(2, 8)).shape == (2, 8)
