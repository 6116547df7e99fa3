"""Python functions: which of them run, which values they use and assign, and digests of their syntax."""

from __future__ import annotations

import ast
import dis
import inspect
import linecache
import re
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from functools import cached_property, lru_cache, partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch

from lwta.support.digests import checksum

LIBRARIES = ("torch", "lwta")  # however they are installed; their versions are facts of the manifest
INSTALLED = re.compile(r"[\\/](?:site|dist)-packages[\\/]")
MUTATORS = frozenset({"append", "add", "clear", "extend", "insert", "pop", "popleft", "remove", "setdefault", "update"})
KEEPS_VALUES = frozenset({"detach_", "requires_grad_", "retain_grad_", "share_memory_"})


def functions_of(value: Any) -> Iterator[FunctionType]:
    """Yield the Python functions that run where a value is called, or read as an attribute."""
    if isinstance(value, FunctionType):
        yield value
    elif isinstance(value, MethodType | staticmethod | classmethod):
        yield from functions_of(value.__func__)
    elif isinstance(value, property):
        yield from functions_of(value.fget)
    elif isinstance(value, cached_property | partial):
        yield from functions_of(value.func)
    elif isinstance(value, type) and issubclass(value, torch.autograd.Function):
        yield from functions_of(inspect.getattr_static(value, "forward"))


def reached(function: FunctionType, owner: type | None, own: bool) -> Iterator[tuple[str, Any]]:
    """Yield name and value of everything that a function may use: closure cells, methods, globals, modules' functions.

    For a function of a library only two kinds are yielded: methods, which the user's class may have overridden, and the
    functions that it wraps.

    Args:
        function: function to look into.
        owner: class of which it is a method; None for a function outside of classes.
        own: whether the function is the user's own code.
    """
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not bound yet
            continue
        if own or isinstance(value, FunctionType | MethodType):
            yield name, value
    names = names_used(function)
    modules = []
    for name in names:
        if owner is not None:
            method = inspect.getattr_static(owner, name, None)
            if method is not None and (own or any(functions_of(method))):
                yield name, method
        if own and name in function.__globals__:
            value = function.__globals__[name]
            modules += [value] if isinstance(value, ModuleType) and _is_own_module(value) else []
            yield name, value
    for module in modules:
        yield from ((name, vars(module)[name]) for name in names if name in vars(module))


def names_used(function: FunctionType) -> list[str]:
    """Names of attributes, and of variables outside a function, that it uses."""
    return sorted({name for code in _codes(function.__code__) for name in code.co_names})


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of a function, and of the functions that are defined within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def names_assigned(code: CodeType) -> set[str]:
    """Return the names that a function assigns: attributes, variables outside itself, and buffers that it registers."""
    stores = ("STORE_ATTR", "STORE_GLOBAL", "STORE_DEREF", "DELETE_ATTR")
    names: set[str] = set()
    for part in _codes(code):
        names |= {instruction.argval for instruction in dis.get_instructions(part) if instruction.opname in stores}
        if {"register_buffer", "setattr"} & {*part.co_names}:
            names |= {constant for constant in part.co_consts if isinstance(constant, str)}
    return names


def names_altered(function: FunctionType) -> set[str]:
    """Return the names of the attributes and variables that a function alters in place, such as caches and logs.

    They are found in its source: names whose items it sets or deletes, or of which it calls one of `MUTATORS` or a
    method that changes a tensor in place.
    """
    names: set[str] = set()
    known_as: dict[str, str] = {}
    for node in ast.walk(_parsed(function) or ast.Module([], [])):
        holder: Any = None
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            holder = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            holder = node.func.value if node.func.attr in MUTATORS or _is_in_place(node.func.attr) else None
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute):  # cache = self.cache
            known_as |= {target.id: node.value.attr for target in node.targets if isinstance(target, ast.Name)}
        if isinstance(holder, ast.Attribute | ast.Name):
            names.add(holder.attr if isinstance(holder, ast.Attribute) else holder.id)
    local = {name for code in _codes(function.__code__) for name in code.co_varnames}
    return (names - local) | {known_as[name] for name in names & known_as.keys()}


def acts(function: FunctionType) -> bool:
    """Return whether a hook returns something, or changes tensors in place: by a method or by item."""
    before = None
    for instruction in dis.get_instructions(function.__code__):
        if instruction.opname == "RETURN_CONST" and instruction.argval is not None:
            return True
        none = before is not None and before.opname == "LOAD_CONST" and before.argval is None
        if instruction.opname == "RETURN_VALUE" and (not none or instruction.is_jump_target):
            return True
        before = instruction
    return any(map(_is_in_place, function.__code__.co_names)) or _sets_items(function)


def _is_in_place(name: str) -> bool:
    """Whether a method of this name changes a tensor in place."""
    return name.endswith("_") and not name.endswith("__") and name not in KEEPS_VALUES


def _sets_items(hook: FunctionType) -> bool:
    """Whether a hook assigns to the inputs or outputs that it is given, or to their items."""
    code = hook.__code__
    given = code.co_varnames[: code.co_argcount - len(hook.__defaults__ or ())][-2:]
    for node in ast.walk(_parsed(hook) or ast.Module([], [])):
        target: Any = node.target if isinstance(node, ast.AugAssign) else None
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            target = node
        while isinstance(target, ast.Subscript):
            target = target.value
        if isinstance(target, ast.Name) and target.id in given:
            return True
    return False


def digest_of_source(function: FunctionType) -> str:
    """Return a digest of a function's syntax, the same whatever its comments and docstring, in every Python version.

    For a function without source it is the digest of the bytecode; for one that is no statement of its own, such as a
    lambda, that of the source text.
    """
    source, tree = _source(function), _parsed(function)
    if source is None:
        return checksum(bytecode(function.__code__))
    return checksum(source if tree is None else _syntax(tree))


def _source(function: FunctionType) -> str | None:
    try:
        source = inspect.getsource(function.__code__)
    except (OSError, TypeError):
        return None
    return textwrap.dedent(source) if is_current(function.__code__) else None


def is_current(code: CodeType) -> bool:
    """Whether the file of a function still holds its code: files are edited while networks of theirs are in use."""
    return code in _compiled("".join(linecache.getlines(code.co_filename)), code.co_filename)


@lru_cache(maxsize=64)
def _compiled(text: str, file: str) -> frozenset[CodeType]:
    """The code of all functions in a file."""
    try:
        return frozenset(_codes(compile(text, file, "exec", dont_inherit=True)))
    except (SyntaxError, ValueError, RecursionError):
        return frozenset()


def _parsed(function: FunctionType) -> ast.AST | None:
    try:
        return ast.parse(_source(function) or "")
    except (SyntaxError, RecursionError):
        return None


def _syntax(node: Any) -> str:
    """Return a syntax tree as text, without empty fields and docstrings."""
    if isinstance(node, list):
        return f"[{' '.join(map(_syntax, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
        fields["body"] = node.body[1:]
    shown = {name: value for name, value in fields.items() if value not in (None, []) and name not in ("ctx", "kind")}
    return f"{type(node).__name__}({' '.join(f'{name}={_syntax(value)}' for name, value in shown.items())})"


def bytecode(code: CodeType) -> str:
    """Return the bytecode of a function as text that is the same in every process."""
    return f"{code.co_code.hex()} {code.co_names} {[_constant(constant) for constant in code.co_consts]}"


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return bytecode(value)
    # the order in a set differs between processes
    return f"frozenset({{{', '.join(sorted(map(repr, value)))}}})" if isinstance(value, frozenset) else repr(value)


def is_method(function: FunctionType, owner: type | None) -> bool:
    """Return whether a function was written in the module of a class, or in that of a class it inherits from."""
    return owner is not None and any(base.__module__ == function.__module__ for base in owner.__mro__)


def is_own(function: FunctionType) -> bool:
    """Return whether a function is the user's own code, not that of Python or of an installed library."""
    return _is_own_place(str(function.__globals__.get("__name__", "")), function.__code__.co_filename)


def is_own_class(kind: type) -> bool:
    """Return whether a class is the user's own code, not that of Python or of an installed library."""
    return _is_own_place(kind.__module__, getattr(sys.modules.get(kind.__module__), "__file__", None) or "")


def _is_own_module(module: ModuleType) -> bool:
    return _is_own_place(module.__name__, getattr(module, "__file__", None) or "")


def _is_own_place(module: str, file: str) -> bool:
    """Return whether code of a module is neither Python's nor an installed library's.

    Args:
        module: name of the module.
        file: file of the code; empty for code that was typed in interactively.
    """
    if module.partition(".")[0] in (*LIBRARIES, *sys.builtin_module_names) or INSTALLED.search(file):
        return False
    return not file.startswith(("<frozen", sysconfig.get_paths()["stdlib"]))
