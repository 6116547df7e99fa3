"""Triton GPU kernels of the competition, one file per operation, and their eager PyTorch definition.

Each operation is registered with torch under ``torch.ops.lwta`` (fake, autograd and, where the type matters, autocast
rules). Users call `lwta.functional`, which checks arguments and documents them.
"""

from lwta.kernels import reference
from lwta.kernels.kl_to_uniform import kl_to_uniform
from lwta.kernels.lwta import lwta
from lwta.kernels.winners import index_dtype, winners

__all__ = ["index_dtype", "kl_to_uniform", "lwta", "reference", "winners"]
