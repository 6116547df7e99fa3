"""Correlation of a neuron's activation with the contrast of a concept."""

from __future__ import annotations

import torch
from torch import Tensor

from lwta.dissection.moments.moments import Statistics
from lwta.dissection.similarity.base import FromMoments, contrasts


class Correlation(FromMoments):
    """Pearson correlation of a neuron's activation with the contrast of a concept, over the images.

    The contrast of a concept on an image is how much more the image resembles its text than all texts on average; by
    the cosine alone some images resemble any text. It is linear in the image's embedding, so the correlation follows
    from the moments of the layer: r_im = cov(a_i, f)·u_m / (σ_i·√(u_m·cov(f)·u_m)), u_m = t_m − t̄. The label is the
    word that a neuron follows best over the whole range of its activation, be it other neurons' word as well.

    Example:
        >>> from lwta.dissection.recording.activations import DenseActivations
        >>> from lwta.dissection.recording.recording import Shard
        >>> correlation = Correlation()
        >>> correlation.update(Shard(torch.arange(2), torch.eye(2), DenseActivations(torch.tensor([[3.0], [4.0]]))))
        >>> correlation.finalize(torch.eye(2))
        tensor([[-1.,  1.]])
    """

    name = "correlation"

    def scores(self, statistics: Statistics, text_features: Tensor) -> Tensor:
        """Return the correlations, (D, M) float32; NaN for a constant neuron, 0 with a constant concept.

        Raises:
            ValueError: there is only one concept, which is no contrast.
        """
        return correlations(statistics, statistics.cross, text_features)


def correlations(statistics: Statistics, cross: Tensor, text_features: Tensor) -> Tensor:
    """Return the correlations of neurons, given by their covariances with the embeddings, with all concepts.

    Args:
        statistics: moments of the layer.
        cross: (D, d), `Statistics.cross` or an estimate of it.
        text_features: (M, d) float32 normalised text embeddings.

    Returns:
        (D, M) float32; NaN for a constant neuron, 0 with a constant concept.

    Raises:
        ValueError: there is only one concept.
    """
    found = cross.float() @ standardised(statistics, text_features).float().T
    return found.masked_fill_((statistics.deviations == 0)[:, None], float("nan"))


def check_contrast(concepts: int) -> None:
    """Check that there are as many concepts as a contrast takes.

    Raises:
        ValueError: there is only one.
    """
    if concepts < 2:
        raise ValueError(
            f"concepts must hold at least two words, got {concepts}: a label is what a neuron follows more than the "
            'other words of the list; "cos" and other published similarities take one'
        )


def standardised(statistics: Statistics, text_features: Tensor) -> Tensor:
    """Return the contrast of each concept in units of its standard deviation over the images, (M, d) float64.

    Raises:
        ValueError: there is only one concept.
    """
    check_contrast(len(text_features))
    directions = contrasts(text_features.double())
    scales = statistics.scales(directions)[:, None]
    return torch.where(scales > 0, directions / scales, 0)
