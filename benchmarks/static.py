"""Speed without a GPU: what the machine code of every kernel shows.

On an H200 a kernel that moves 4 bytes an element is limited by memory only below about 31 instructions an element, one
that moves 6 bytes below about 46 (33.4·10¹² lane-instructions/s against 4.3·10¹² B/s), and in either case with at most
4 special-function (MUFU) instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from benchmarks.aot import TARGETS, Launch, Sass, compile_launch, disassemble, record
from lwta.kernels.operations import (
    concept_log_p,
    concept_logsumexp,
    concept_similarity,
    kl_to_uniform,
    linear_winners,
    lwta,
    winners,
    winners_linear,
    winners_sum,
)

COMPETITORS = (2, 4, 8, 12, 16, 24)
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
TOKENS, WIDTH = 64 * 197, 768  # the hidden layer of DeiT-T on 64 images
STAGE = (64, 192, 56, 56)  # a stage of a convolutional network, NCHW
IMAGES, CONCEPTS, FEATURES, TOP = 20_000, 2_000, 512, 100  # a probe and a CLIP


class Subject(NamedTuple):
    """A kernel to look at: its name in the table, and the launch that shows it."""

    name: str
    call: Callable[[], object]


def subjects(competitors: int, dtype: torch.dtype) -> Iterator[Subject]:
    """The kernels over blocks, for one U and type."""
    rows = torch.empty(TOKENS, WIDTH, dtype=dtype, device="meta")
    images = torch.empty(STAGE, dtype=dtype, device="meta")
    seed = torch.empty((), dtype=torch.int64, device="meta")
    for layout, x in (("", rows), ("_nchw", images)):
        for mode in ("sample", "argmax"):
            settings: tuple[Any, ...] = (competitors, mode, 1.67, 1, seed)
            yield Subject(f"lwta_forward_{mode}{layout}", lambda x=x, s=settings: lwta.launch_forward(x, *s))
            yield Subject(f"lwta_backward_{mode}{layout}", lambda x=x, s=settings: lwta.launch_backward(x, x, *s))
            yield Subject(
                f"winners_forward_{mode}{layout}",
                lambda x=x, mode=mode: winners.launch_forward(x, competitors, mode, 1, seed),
            )
        yield Subject(f"kl_forward{layout}", lambda x=x: kl_to_uniform.launch_forward(x, competitors, 1))
        yield Subject(
            f"kl_backward{layout}",
            lambda x=x: kl_to_uniform.launch_backward(x, x, competitors, 1),
        )


def linear_subjects(competitors: int, dtype: torch.dtype) -> Iterator[Subject]:
    """The kernels with a matrix product, at the size of DeiT-T: 192 features in, 768 units, 192 out."""
    x = torch.empty(TOKENS, WIDTH // 4, dtype=dtype, device="meta")
    weight = torch.empty(WIDTH, WIDTH // 4, dtype=dtype, device="meta")
    bias = torch.empty(WIDTH, dtype=dtype, device="meta")
    seed = torch.empty((), dtype=torch.int64, device="meta")
    for mode in ("sample", "argmax"):
        yield Subject(
            f"linear_winners_{mode}",
            lambda mode=mode: linear_winners.launch_forward(x, weight, bias, competitors, mode, seed),
        )
    value = torch.empty(TOKENS, WIDTH // competitors, dtype=dtype, device="meta")
    index = torch.empty(value.shape, dtype=torch.uint8, device="meta")
    for name, launch in (("expand", winners_linear.launch_expand), ("gather", winners_linear.launch_gather)):
        yield Subject(
            f"winners_linear_{name}",
            lambda launch=launch: launch(value, index, weight.t(), bias[: WIDTH // 4], competitors),
        )
    value = torch.empty(IMAGES, WIDTH // competitors, dtype=dtype, device="meta")
    index = torch.empty(value.shape, dtype=torch.uint8, device="meta")
    features = torch.empty(IMAGES, FEATURES, dtype=dtype, device="meta")
    yield Subject("winners_sum", lambda: winners_sum.launch(value, index, features, competitors))


def concept_subjects(dtype: torch.dtype) -> Iterator[Subject]:
    """The kernels over images and concepts, which know no competitors; embeddings of a type, all else float32."""
    images, texts = (torch.empty(rows, FEATURES, dtype=dtype, device="meta") for rows in (IMAGES, CONCEPTS))
    weights = torch.empty(IMAGES, WIDTH, device="meta")
    top = torch.empty(WIDTH, TOP, dtype=torch.int64, device="meta")
    vector = torch.empty(IMAGES, device="meta")
    for power in (1, 3):
        yield Subject(
            f"concept_similarity_{power}",
            lambda power=power: concept_similarity.launch(images, texts, weights, vector[:CONCEPTS], power),
        )
    yield Subject("concept_logsumexp", lambda: concept_logsumexp.launch(images, texts, 10.0))
    yield Subject(
        "concept_log_p",
        lambda: concept_log_p.launch(images, texts, vector, top, vector[:TOP], 10.0),
    )


def run(
    targets: tuple[str, ...] = tuple(TARGETS),
    dtypes: tuple[torch.dtype, ...] = DTYPES,
    competitors: tuple[int, ...] = COMPETITORS,
    only: str = "",
) -> list[dict[str, Any]]:
    """Compile every kernel whose name begins with ``only`` for every target; a row for each.

    Shared memory is that of a program. Instructions, widths, registers and spills are read from the machine code of
    NVIDIA targets and None elsewhere; competitors are None for the kernels that know none.
    """
    rows = []
    jobs: list[tuple[int | None, torch.dtype, Subject]] = [
        (U, dtype, subject)
        for U in competitors
        for dtype in dtypes
        for subject in (*subjects(U, dtype), *linear_subjects(U, dtype))
    ]
    jobs += [(None, dtype, subject) for dtype in dtypes for subject in concept_subjects(dtype)]
    jobs = [job for job in jobs if job[2].name.startswith(only)]
    for U, dtype, subject in tqdm(jobs, desc="compiling", unit="kernel"):
        for target in targets:
            (launch,) = record(subject.call, target)
            kernel = compile_launch(launch, target)
            row = {
                "kernel": subject.name,
                "target": target,
                "dtype": str(dtype).removeprefix("torch."),
                "competitors": U,
                "shared_bytes": kernel.metadata.shared,
            }
            sass = disassemble(kernel) if target.startswith("sm_") else None
            rows.append({**row, **_figures(launch, sass)})
    return rows


FIGURES = (
    "instructions_per_element",
    "mufu_per_element",
    "load_bits",
    "store_bits",
    "registers",
    "spills",
    "tensor_core_instructions",
)


def _figures(launch: Launch, sass: Sass | None) -> dict[str, Any]:
    if sass is None:
        return dict.fromkeys(FIGURES)
    elements = _elements(launch.arguments) / (32 * launch.options["num_warps"])
    figures = (
        round(sum(sass.instructions.values()) / elements, 1),
        round(sass.count("MUFU") / elements, 2),
        _tensor_width(sass, "LDG"),
        _tensor_width(sass, "STG"),
        sass.registers,
        sass.spills,
        sass.count("HGMMA", "HMMA"),
    )
    return dict(zip(FIGURES, figures, strict=True))


def _elements(arguments: dict[str, Any]) -> int:
    """Elements that a program's code, taken once, deals with.

    Of the kernels with a product those are the responses of one pass through its loops, so that their figure is an
    upper bound of what stands beside the product; of those for dissection, a tile of images by units or concepts, its
    products included.
    """
    if "INSTANCES" in arguments:
        return int(arguments["INSTANCES"] * arguments["SPAN"])
    if "IMAGES" in arguments or "RANKS" in arguments:
        images = arguments["IMAGES"] if "IMAGES" in arguments else arguments["NEURONS"] * arguments["RANKS"]
        columns = arguments["CONCEPTS"] if "CONCEPTS" in arguments else arguments["BLOCKS"] * arguments["COMPETITORS"]
        return int(images * columns)
    if "ROWS" in arguments and "FEATURES" in arguments:
        return int(arguments["ROWS"] * arguments["BLOCKS"] * arguments["COMPETITORS"])
    return int(arguments.get("ROWS", arguments["BLOCKS"]) * arguments["OUTPUTS"])


def _tensor_width(sass: Sass, prefix: str) -> int:
    """Width in bits of most of the loads or stores: a kernel has one more load, of the seed, and stores of indices."""
    numbers = {name: number for name, number in sass.instructions.items() if name.startswith(prefix)}
    most = max(numbers, key=lambda name: (numbers[name], sass.widths(name)))
    return sass.widths(most)[-1]
