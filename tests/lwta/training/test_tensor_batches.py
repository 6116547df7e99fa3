"""Images in memory, and labels that do not fit them."""

import pytest
import torch

from lwta.training import TensorBatches


@pytest.mark.parametrize("targets", [torch.zeros(3), torch.zeros(2).long(), torch.zeros(3, 2).long()])
def test_targets_that_are_no_labels_of_the_inputs_are_refused(targets: torch.Tensor) -> None:
    """Fewer targets than inputs left images out in silence."""
    with pytest.raises(ValueError, match=r"targets must be int64 of shape \(3,\), .*, got torch\.(float32|int64) of"):
        TensorBatches(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), targets, 2)
