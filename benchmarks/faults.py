"""Faults put into compiled kernels, one at a time: does the executor report them?

Each kernel is compiled for each target and executed without a fault, then once for every fault. A barrier, wait or
fence is equivalent to none if it orders nothing, by `ordering`, which looks at every use of shared memory of the launch
without fault: all others must be reported, and those not. Faults of stores, masks and shuffles must be reported or
change the result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from tqdm import tqdm

from benchmarks.ordering import Ordering
from lwta.kernels.operations import (
    concept_log_p,
    concept_logsumexp,
    concept_similarity,
    kl_to_uniform,
    linear_winners,
    lwta,
    winners_linear,
    winners_sum,
)
from ptx import Options, PtxError, executing
from ptx.driver import TARGETS
from ptx.launch import translated
from ptx.parsing import Instruction
from ptx.program import Program

SAMPLED = 4
"""Stores, masks and shuffles of a kernel that are broken, of each kind."""

IDLE = "no thread executes it"
UNUSED = "nothing uses what it loads"
"""Reasons for which a store can be moved and a mask inverted."""

Call = Callable[[], object]


def _linear_winners() -> Call:
    x, weight, bias = torch.randn(70, 256), torch.randn(24, 256) / 16, torch.randn(24)
    seed = torch.tensor(2**40 + 17)
    arguments = [tensor.bfloat16() for tensor in (x, weight, bias)]
    return lambda: linear_winners.launch_forward(*arguments, 2, "sample", seed)


def _winners_linear() -> Call:
    value, index = torch.randn(70, 160).bfloat16(), torch.randint(0, 2, (70, 160), dtype=torch.uint8)
    weight = torch.randn(40, 320).bfloat16()
    return lambda: winners_linear.launch_expand(value, index, weight, None, 2)


def _winners_sum() -> Call:
    value, index = torch.randn(300, 24).bfloat16(), torch.randint(0, 2, (300, 24), dtype=torch.uint8)
    x = torch.randn(300, 40).bfloat16()
    return lambda: winners_sum.launch(value, index, x, 2)


def _kl_to_uniform() -> Call:
    x = torch.randn(2, 24, 7, 7)
    return lambda: kl_to_uniform.launch_forward(x, 12, 1)


def _lwta_forward() -> Call:
    x, seed = torch.randn(2, 24, 7, 7), torch.tensor(2**40 + 17)
    return lambda: lwta.launch_forward(x, 12, "sample", 1.0, 1, seed)


def _lwta_backward() -> Call:
    grad, x, seed = torch.randn(1, 600, 2, 2), torch.randn(1, 600, 2, 2), torch.tensor(2**40 + 17)
    return lambda: lwta.launch_backward(grad, x, 300, "sample", 1.0, 1, seed)


def _concept_similarity() -> Call:
    images, texts = torch.randn(150, 192).bfloat16() / 14, torch.randn(32, 192).bfloat16() / 14
    weights, centre = torch.randn(150, 16), torch.randn(32) / 14
    return lambda: concept_similarity.launch(images, texts, weights, centre, 3)


def _concept_logsumexp() -> Call:
    images, texts = torch.randn(40, 256).bfloat16() / 16, torch.randn(200, 256).bfloat16() / 16
    return lambda: concept_logsumexp.launch(images, texts, 10.0)


def _concept_log_p() -> Call:
    images, texts = torch.randn(150, 256).bfloat16() / 16, torch.randn(40, 256).bfloat16() / 16
    top, p = torch.randint(0, 150, (1, 200)), torch.rand(200) * 0.9 + 0.05
    return lambda: concept_log_p.launch(images, texts, torch.full((150,), 3.0), top, p, 10.0)


SUBJECTS: dict[str, Callable[[], Call]] = {
    "lwta forward, U = 12": _lwta_forward,
    "lwta backward, U = 300": _lwta_backward,
    "kl_to_uniform": _kl_to_uniform,
    "linear_winners": _linear_winners,
    "winners_linear": _winners_linear,
    "winners_sum": _winners_sum,
    "concept_similarity": _concept_similarity,
    "concept_logsumexp": _concept_logsumexp,
    "concept_log_p": _concept_log_p,
}
"""Launches, one program each where it can be, in which loops turn several times and pipelines fill."""

# ---- faults


class Fault(NamedTuple):
    """A way to break an instruction."""

    name: str
    pattern: str
    """What is broken, as a regular expression for the text of a kernel."""
    broken: Callable[[re.Match[str]], str]
    """What takes its place."""
    probe: Callable[[re.Match[str]], str] | None = None
    """What takes its place to see whether any thread executes it: then it is reported."""


class OrderFault(NamedTuple):
    """A way to break what orders threads."""

    fault: Fault
    opcode: str
    """How the full names of the broken instructions begin; there are as many as the pattern finds."""
    spares: Callable[[Ordering, Instruction], str]
    """Why a launch can spare such an instruction as it is; empty if it cannot."""


def _left_out(match: re.Match[str]) -> str:
    return ""


ORDER = (
    OrderFault(
        Fault("barrier left out", r"bar\.sync\s+0;", _left_out),
        "bar.sync",
        Ordering.spares_barrier,
    ),
    OrderFault(
        Fault("wait for copies left out", r"cp\.async\.wait_group\s+\d+;", _left_out),
        "cp.async.wait_group",
        lambda ordering, wait: ordering.spares_wait(wait, None),
    ),
    OrderFault(
        Fault(
            "wait for copies of one group fewer",
            r"cp\.async\.wait_group\s+(\d+);",
            lambda match: f"cp.async.wait_group {int(match[1]) + 1};",
        ),
        "cp.async.wait_group",
        lambda ordering, wait: ordering.spares_wait(wait, 1),
    ),
    OrderFault(
        Fault("wait for products left out", r"wgmma\.wait_group\.sync\.aligned\s+\d+;", _left_out),
        "wgmma.wait_group",
        lambda ordering, wait: ordering.spares_wait(wait, None),
    ),
    OrderFault(
        Fault("fence of shared memory left out", r"fence\.proxy\.async\S*;", _left_out),
        "fence.proxy.async",
        Ordering.spares_fence,
    ),
    OrderFault(
        Fault("fence of registers left out", r"wgmma\.fence\.sync\.aligned;", _left_out),
        "wgmma.fence",
        lambda ordering, fence: "",  # there is one before each chain of products
    ),
)
"""Faults of what orders threads."""


def _one_element_on(match: re.Match[str]) -> str:
    offset = int(match["offset"] or 0) + int(match["bits"]) // 8
    return f"{match['opcode']} [{match['base']}+{offset}]"


RESULT = (
    Fault(
        "store moved by one element",
        r"(?P<opcode>st\.(?:global|shared)\.(?:v\d\.)?[a-z](?P<bits>\d+))\s+"
        r"\[\s*(?P<base>[%\w$]+)\s*(?:\+\s*(?P<offset>-?\d+))?\s*\]",
        _one_element_on,
        lambda match: f"{match['opcode']} [4294967280]",
    ),
    Fault(
        "mask of a load or store inverted",
        r"@(!?)(%p\d+\s+(?:ld|st)\.)",
        lambda match: f"@{'' if match[1] else '!'}{match[2]}",
    ),
    Fault(
        "mask of a copy inverted",
        r"(selp\.b32\s+%r\d+, )(\d+), 0(, %p\d+;)",
        lambda match: f"{match[1]}0, {match[2]}{match[3]}",
    ),
    Fault(
        "shuffle from another distance",
        r"(shfl\.sync\.bfly\.b32\s+%\w+, %\w+, )(\d+)(,)",
        lambda match: f"{match[1]}{ {1: 2, 2: 1, 4: 8, 8: 4, 16: 8}[int(match[2])] }{match[3]}",
    ),
)
"""Faults of what is computed."""


# ---- what becomes of them


class Outcome(NamedTuple):
    """What became of a fault."""

    fault: str
    line: int
    """Line of the kernel's text that it is in."""
    report: str
    """What the executor reported; empty if nothing."""
    changed: bool
    """Whether the result is another, where nothing was reported."""
    spared: str
    """Why the launch can spare what the fault takes away; empty if it cannot."""


class _Seen(NamedTuple):
    """What is seen of an execution: a report, or another result."""

    report: str
    changed: bool


class Faulted:
    """A kernel for a target, to put faults into.

    Args:
        call: launches the kernel.
        target: "sm_80" or "sm_90".
    """

    def __init__(self, call: Call, target: str) -> None:
        self._call, self._target = call, target
        trace: list[Any] = []
        with executing(target, Options(trace=trace)) as session:
            self._result = _tensors(call())
        (launched,) = session.launches
        self._text = launched.text
        self._program = translated(self._text)
        self._trace = trace

    @cached_property
    def _ordering(self) -> Ordering:
        return Ordering(self._program, self._trace)

    def order(self) -> Iterator[Outcome]:
        """Yield the outcome of every fault of what orders threads."""
        for fault, opcode, spares in ORDER:
            found = list(re.finditer(fault.pattern, self._text))
            instructions = _instructions(self._program, opcode)
            if len(instructions) != len(found):
                raise RuntimeError(f"{fault.name}: {len(found)} in the text, {len(instructions)} in the program")
            for match, instruction in zip(found, instructions, strict=True):
                yield self._outcome(fault, match, spares(self._ordering, instruction))

    def result(self) -> Iterator[Outcome]:
        """Yield the outcome of some faults of what is computed, spread evenly over the kernel."""
        for fault in RESULT:
            found = list(re.finditer(fault.pattern, self._text))
            for k in sorted({k * len(found) // SAMPLED for k in range(SAMPLED)} if found else ()):
                outcome = self._outcome(fault, found[k], "")
                if not outcome.report and not outcome.changed:
                    outcome = outcome._replace(spared=self._spared(fault, found[k]))
                yield outcome

    def _spared(self, fault: Fault, match: re.Match[str]) -> str:
        """Return why a fault of what is computed has no consequence; empty if nothing is known."""
        if fault.probe is not None:
            return "" if self._execute(match, fault.probe).report else IDLE
        loaded = re.match(r"global\.[a-z]\d+ \{ (%\w+) \}", self._text[match.end() :])
        if loaded is None or not match[0].endswith("ld."):
            return ""
        uses = len(re.findall(rf"{loaded[1]}\b", self._text))
        return UNUSED if uses == 2 else ""  # the load, and the default before it

    def _outcome(self, fault: Fault, match: re.Match[str], spared: str) -> Outcome:
        line = self._text[: match.start()].count("\n") + 1
        return Outcome(fault.name, line, *self._execute(match, fault.broken), spared)

    def _execute(self, match: re.Match[str], broken: Callable[[re.Match[str]], str]) -> _Seen:
        """Execute the kernel with something else in the place of a match."""
        text = self._text[: match.start()] + broken(match) + self._text[match.end() :]
        try:
            with executing(self._target) as session:
                session.change = lambda _: text
                result = _tensors(self._call())
        except PtxError as error:
            return _Seen(str(error), False)
        finally:
            translated.cache_clear()  # of no use to anybody else
        return _Seen("", not all(torch.equal(a, b) for a, b in zip(result, self._result, strict=True)))


def _tensors(result: object) -> list[Tensor]:
    return [x.clone() for x in tree_leaves(result) if isinstance(x, Tensor)]


def _instructions(program: Program, opcode: str) -> list[Instruction]:
    return [each for each in chain.from_iterable(program.entry.blocks) if each.opcode.startswith(opcode)]


def subject(name: str, target: str) -> Faulted:
    """Return a kernel of `SUBJECTS`, compiled for a target and launched on the same numbers every time."""
    torch.manual_seed(0)
    return Faulted(SUBJECTS[name](), target)


def run() -> Iterator[dict[str, Any]]:
    """Yield how many faults of each kind were put into each kernel, and what became of them."""
    for name in tqdm(SUBJECTS, desc="breaking", unit="kernel"):
        for target in TARGETS:
            faulted = subject(name, target)
            outcomes = [*faulted.order(), *faulted.result()]
            for fault in dict.fromkeys(outcome.fault for outcome in outcomes):
                some = [outcome for outcome in outcomes if outcome.fault == fault]
                yield {
                    "kernel": name,
                    "target": target,
                    "fault": fault,
                    "injected": len(some),
                    "reported": sum(bool(outcome.report) for outcome in some),
                    "changed": sum(outcome.changed for outcome in some),
                    "equivalent": sum(bool(outcome.spared) for outcome in some),
                    "reasons": sorted({outcome.spared for outcome in some} - {""}),
                }
