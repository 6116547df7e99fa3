"""Triton GPU kernels of the competition and of dissection, one file per operation, and their eager definitions.

Each operation is registered with torch under ``torch.ops.lwta`` with fake and autograd rules. Users call
`lwta.functional`, which checks arguments, follows autocast, and documents them. The forms named ``transformable_…`` are
the same operations where transforms of `torch.func` may be active.
"""

from lwta.kernels import dissection_reference, reference
from lwta.kernels.concept_information import concept_log_p, concept_logsumexp
from lwta.kernels.concept_similarity import concept_similarity
from lwta.kernels.kl_to_uniform import kl_to_uniform, transformable_kl_to_uniform
from lwta.kernels.linear_winners import linear_winners, transformable_linear_winners
from lwta.kernels.lwta import lwta, transformable_lwta
from lwta.kernels.mlp import mlp, transformable_mlp
from lwta.kernels.winners import index_dtype, transformable_winners, winners
from lwta.kernels.winners_linear import transformable_winners_linear, winners_linear
from lwta.kernels.winners_sum import winners_sum

__all__ = [
    "concept_log_p",
    "concept_logsumexp",
    "concept_similarity",
    "dissection_reference",
    "index_dtype",
    "kl_to_uniform",
    "linear_winners",
    "lwta",
    "mlp",
    "reference",
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
