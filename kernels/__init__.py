"""Triton GPU kernels of the competition, one file per operation, and their eager PyTorch definition.

Each operation is registered with torch under ``torch.ops.lwta`` with fake and autograd rules. Users call
`lwta.functional`, which checks arguments, follows autocast, and documents them.
"""

from lwta.kernels import reference
from lwta.kernels.kl_to_uniform import kl_to_uniform
from lwta.kernels.linear_winners import linear_winners
from lwta.kernels.lwta import lwta
from lwta.kernels.mlp import mlp
from lwta.kernels.winners import index_dtype, winners
from lwta.kernels.winners_linear import winners_linear

__all__ = [
    "index_dtype",
    "kl_to_uniform",
    "linear_winners",
    "lwta",
    "mlp",
    "reference",
    "winners",
    "winners_linear",
]
