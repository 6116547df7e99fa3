"""Operands of the reductions over images of their cosines to concepts."""

import torch

# images, concepts, neurons, features
SHAPES = [(1, 1, 1, 1), (3, 5, 2, 7), (70, 9, 33, 20), (65, 130, 5, 40), (300, 20, 130, 16), (600, 3, 4, 33)]


def unit_rows(rows: int, features: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, features), dim=1).to(device, dtype)


def memberships(k: int, start: float = 0.998, end: float = 0.97) -> torch.Tensor:
    return start - torch.arange(k) / max(k, 1) * (start - end)


def top_images(neurons: int, k: int, images: int, device: torch.device) -> torch.Tensor:
    """Rows of images with none among them, most often at the end."""
    top = torch.randint(0, images, (neurons, k))
    return top.masked_fill_(torch.arange(k) >= torch.randint(0, k + 1, (neurons, 1)), -1).to(device)


def close(got: torch.Tensor, exact: torch.Tensor, eager: torch.Tensor, rounding: float) -> None:
    """At most twice the error of eager float32, and what rounding alone may do where eager is exact by luck."""
    assert got.dtype == torch.float32
    assert got.shape == exact.shape
    assert (got.cpu().double() - exact).norm() <= 2 * (eager.double() - exact).norm() + rounding


def similarity_operands(
    images: int, concepts: int, neurons: int, features: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, ...]:
    i, t = unit_rows(images, features, dtype, device), unit_rows(concepts, features, dtype, device)
    centre = i.float().mean(0) @ t.float().t() if images else torch.zeros(concepts, device=device)
    return i, t, torch.randn(images, neurons).to(device), centre
