"""Objective of training for networks with competition."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from lwta.network import competitions, kl_divergence


class ELBOLoss(nn.Module):
    """Negative evidence lower bound, up to constants: cross-entropy + λ·Σ_layers KL(π ‖ uniform).

    DISCOVER, arXiv 2310.04929, eq. 7, with the weight λ on its KL terms; π = softmax(h) in each block.
    The KL of a layer is its mean over blocks, images and positions, at the network's last forward pass.

    Args:
        model: the network whose layers compete; with λ > 0 they must be built with ``track_kl=True``.
        kl_weight: λ ≥ 0; with 0 the KL is neither needed nor computed.
        label_smoothing: share of the target that is spread over all classes.

    Shape:
        Logits (N, classes), targets (N,) int64 or (N, classes) probabilities, to a 0-dim tensor.

    Raises:
        ValueError: ``kl_weight`` is negative, or layers do not track their KL.

    Example:
        >>> import torch
        >>> from lwta import LWTA
        >>> model = nn.Sequential(nn.Linear(4, 8), LWTA(2, track_kl=True), nn.Linear(8, 3))
        >>> loss = ELBOLoss(model, kl_weight=0.1)(model(torch.randn(5, 4)), torch.zeros(5, dtype=torch.int64))
        >>> loss.backward()
    """

    def __init__(self, model: nn.Module, *, kl_weight: float = 0.0, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if kl_weight < 0:
            raise ValueError(f"kl_weight must be at least 0, got {kl_weight}")
        untracked = [name for name, layer in competitions(model) if not layer.track_kl]
        if kl_weight and untracked:
            raise ValueError(
                f"kl_weight needs track_kl=True in every competitive layer; {untracked[0]!r} does not have it"
            )
        self._model = (model,)  # in a tuple, so that its parameters do not become the loss's own
        self.kl_weight = kl_weight
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch, after the forward pass that returned ``logits``.

        Raises:
            ValueError: ``kl_weight`` is positive, and the network has seen no forward pass.
        """
        loss = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        return loss + self.kl_weight * kl_divergence(self._model[0]) if self.kl_weight else loss

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"kl_weight={self.kl_weight}, label_smoothing={self.label_smoothing}"
