"""Triton GPU kernels of the competition and of dissection, and their eager definitions.

operations/     one file per operation: kernels, launch, registration with torch under ``torch.ops.lwta``
eager/          definitions in PyTorch, which the kernels must equal, and the code that runs on a CPU
triton_parts/   parts that several kernels use: layout of blocks, noise, products, launches
transforms.py   forms of the operations, named ``transformable_…``, that the transforms of `torch.func` accept
flops.py        what `torch.utils.flop_counter` counts for the operations

Users call `lwta.functional`, which checks arguments, follows autocast, and documents the operations.
"""

from lwta.kernels import flops as flops
from lwta.kernels.operations.concept_log_p import concept_log_p
from lwta.kernels.operations.concept_logsumexp import concept_logsumexp
from lwta.kernels.operations.concept_similarity import concept_similarity
from lwta.kernels.operations.kl_to_uniform import kl_to_uniform, transformable_kl_to_uniform
from lwta.kernels.operations.linear_winners import linear_winners, transformable_linear_winners
from lwta.kernels.operations.lwta import lwta, transformable_lwta
from lwta.kernels.operations.mlp import mlp, transformable_mlp
from lwta.kernels.operations.winners import index_dtype, transformable_winners, winners
from lwta.kernels.operations.winners_linear import transformable_winners_linear, winners_linear
from lwta.kernels.operations.winners_sum import winners_sum

__all__ = [
    "concept_log_p",
    "concept_logsumexp",
    "concept_similarity",
    "index_dtype",
    "kl_to_uniform",
    "linear_winners",
    "lwta",
    "mlp",
    "transformable_kl_to_uniform",
    "transformable_linear_winners",
    "transformable_lwta",
    "transformable_mlp",
    "transformable_winners",
    "transformable_winners_linear",
    "winners",
    "winners_linear",
    "winners_sum",
]
