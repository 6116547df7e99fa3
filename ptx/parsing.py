"""PTX text as data: parameters, registers, and basic blocks of instructions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ptx.errors import PtxError
from ptx.numbers import BITS, TYPES

_STATEMENT = re.compile(r"\s*(?:([{}])|([\w$]+):(?!:)|((?:[^;{}]|\{[^{}]*\})*);)")
_JUMPS = ("bra", "ret", "exit")
_BARRIERS = ("bar", "barrier")


@dataclass(frozen=True)
class Instruction:
    """One instruction, as it is written."""

    opcode: str
    """Full name, such as ld.global.v4.b32."""
    operands: tuple[str, ...]
    """Operands as text; registers of an inner scope have names of their own."""
    guard: str | None = None
    """Predicate under which it runs."""
    negated: bool = False
    """Whether it runs where the predicate is false."""

    @property
    def name(self) -> str:
        """First part of the full name."""
        return self.opcode.partition(".")[0]

    @property
    def parts(self) -> list[str]:
        """All parts of the full name."""
        return self.opcode.split(".")

    @property
    def kind(self) -> str:
        """Last part of the full name: the type."""
        return self.opcode.rpartition(".")[2]

    def __str__(self) -> str:
        guard = f"@{'!' * self.negated}{self.guard} " if self.guard else ""
        return f"{guard}{self.opcode} {', '.join(self.operands)}"

    @property
    def ends_block(self) -> bool:
        """Whether threads may part or wait behind it."""
        return self.name in _JUMPS or (self.name in _BARRIERS and "warp" not in self.opcode)


@dataclass
class Entry:
    """Kernel as parsed: what it takes, what registers it has, and its basic blocks."""

    name: str
    parameters: dict[str, str]
    """Type by name, in the order in which they are passed."""
    threads: int
    """Threads of a program."""
    registers: dict[str, np.dtype[Any]] = field(default_factory=dict)
    """Type of each register: bits of its size, or bool."""
    labels: dict[str, int] = field(default_factory=dict)
    """Number of the block that each label begins."""
    blocks: list[list[Instruction]] = field(default_factory=lambda: [[]])


def operands(text: str) -> tuple[str, ...]:
    """Split operands at the commas outside brackets."""
    out, depth = [""], 0
    for character in text:
        depth += (character in "{[(") - (character in "}])")
        if character == "," and depth == 0:
            out.append("")
        else:
            out[-1] += character
    return tuple(operand.strip() for operand in out if operand.strip())


def elements(operand: str) -> list[str]:
    """Return the elements of a vector {a, b}; a scalar is a vector of one."""
    return list(operands(operand[1:-1])) if operand.startswith("{") else [operand]


def parse(ptx: str) -> Entry:
    """Parse the first kernel of a PTX module.

    Raises:
        PtxError: there is no kernel in the text, or a statement has no meaning here.
    """
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", ptx, flags=re.DOTALL)
    text = re.sub(r"^\s*\.(loc|file)\b[^\n]*$", "", text, flags=re.MULTILINE)
    found = re.search(r"\.entry\s+([\w$]+)\s*\((.*?)\)([^{]*)\{", text, re.DOTALL)
    if found is None:
        raise PtxError("no .entry in the text")
    name, parameters, directives = found.groups()
    threads = re.search(r"\.(?:reqntid|maxntid)\s+(\d+)", directives)
    entry = Entry(
        name,
        {given: kind for kind, given in re.findall(r"\.param\s+\.(\w+)[^,]*?([\w$]+)\s*(?:,|$)", parameters.strip())},
        int(threads.group(1)) if threads else 128,
    )
    body = text[found.end() :]
    _Body(entry, set(re.findall(r"\bbra(?:\.uni)?\s+([\w$]+)", body))).read(body)
    return entry


class _Body:
    """Reader of a kernel's body: scopes, declarations, labels, instructions."""

    def __init__(self, entry: Entry, targets: set[str]) -> None:
        self._entry, self._targets = entry, targets
        self._scopes: list[dict[str, str]] = [{}]
        self._opened = 0

    def read(self, text: str) -> None:
        for brace, label, statement in _statements(text):
            if brace == "{":
                self._opened += 1
                self._scopes.append({})
            elif brace == "}":
                self._scopes.pop()
                if not self._scopes:
                    return
            elif label in self._targets:
                self._entry.labels[label] = self._new_block()
            elif label:  # of debugging, to which nothing jumps
                continue
            else:
                self._statement(" ".join(statement.split()))
        raise PtxError(f"{self._entry.name}: no end")

    def _new_block(self) -> int:
        blocks = self._entry.blocks
        if blocks[-1]:
            blocks.append([])
        return len(blocks) - 1

    def _statement(self, statement: str) -> None:
        if statement.startswith(".reg"):
            self._declare(statement)
        elif statement and not statement.startswith(".pragma"):
            instruction = self._instruction(statement)
            self._entry.blocks[-1].append(instruction)
            if instruction.ends_block:
                self._entry.blocks.append([])

    def _declare(self, statement: str) -> None:
        kind, names = re.fullmatch(r"\.reg\s+\.(\w+)\s+(.*)", statement).groups()  # type: ignore[union-attr]
        dtype = TYPES[kind] if kind == "pred" else BITS[TYPES[kind].itemsize]
        for name in operands(names):
            stem, _, number = name.rstrip(">").partition("<")
            for own in [f"{stem}{k}" for k in range(int(number))] if number else [stem]:
                unique = own if len(self._scopes) == 1 else f"{own}@{self._opened}"
                self._scopes[-1][own] = unique
                self._entry.registers[unique] = dtype

    def _instruction(self, statement: str) -> Instruction:
        guard, negated = None, False
        if statement.startswith("@"):
            condition, _, statement = statement[1:].partition(" ")
            guard, negated = self._unique(condition.lstrip("!")), condition.startswith("!")
        opcode, _, rest = statement.strip().partition(" ")
        rest = re.sub(r"[%\w$]+", lambda found: self._unique(found.group()), rest)
        return Instruction(opcode, operands(rest), guard, negated)

    def _unique(self, name: str) -> str:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        return name


def _statements(text: str) -> Iterator[tuple[str | None, str | None, str]]:
    """Cut a body into braces, labels and statements."""
    position = 0
    while found := _STATEMENT.match(text, position):
        yield found.group(1), found.group(2), found.group(3) or ""
        position = found.end()
    raise PtxError(f"no statement: {text[position : position + 80].strip()!r}")
