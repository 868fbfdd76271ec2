"""A key that changes when the code that a step can reach changes, because nipype's cache looks at inputs only.

What a step reaches is followed from definition to definition (a function, a class, a constant of a module), not from
file to file: a node's class shares its module with other nodes, and a module holds more than each of its users needs.
Imports inside functions count, those for type checkers do not, and neither do annotations.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import symtable
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = "qsmprep"
# How a step is found, configured and run, not what it computes: a change there leaves results as they are.
PLUMBING = tuple(
    f"{ROOT}.{name}"
    for name in ("registry", "options", "rooms", "engine", "numerics.threads", "numerics.progress", "app", "cli")
)
DEFINING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
Import = tuple[str, str]  # a module, and a name of it; "" for the module itself


@dataclass(frozen=True)
class Statement:
    """A statement at the top of a module: its text, the names it uses, and what is imported inside it."""

    text: str
    uses: frozenset[str]
    imports: tuple[Import, ...]


@dataclass(frozen=True)
class Module:
    """A module's definitions by name, the names it imports, and the statements that act when it is imported."""

    definitions: dict[str, tuple[Statement, ...]]
    imports: dict[str, Import]
    acting: tuple[Statement, ...]


@cache
def algo_version(*names: str, apart: Sequence[str] = ()) -> str:
    """Short hash of the source of definitions and of every definition of qsmprep that they use, directly or not.

    Parameters
    ----------
    *names : "module.definition", a module with all its definitions, or a package with all modules inside it. Nothing is
        imported but the packages above them.
    apart : definitions, modules or packages that are named by those but never reached by the node in question.

    Returns
    -------
    Twelve hexadecimal digits, the same in every process and on every machine with the same source.

    Raises
    ------
    ModuleNotFoundError
        For a name without source.
    """
    digest = hashlib.sha256()
    for label, text in sorted(_Reach((*PLUMBING, *apart)).of(names).items()):
        digest.update(f"{label} {len(text)}\n{text}".encode())
    return digest.hexdigest()[:12]


def reached(*names: str, apart: Sequence[str] = ()) -> frozenset[str]:
    """The definitions that the key of `algo_version` covers, as "module.definition"."""
    return frozenset(_Reach((*PLUMBING, *apart)).of(names))


class _Reach:
    """Follows definitions; `apart` are not entered."""

    def __init__(self, apart: Sequence[str]):
        self._apart = apart
        self._found: dict[str, str] = {}
        self._waiting: list[Import] = []

    def of(self, names: Sequence[str]) -> dict[str, str]:
        """Label -> text of everything that the names reach."""
        self._waiting = [part for name in names for part in _parts(name)]
        while self._waiting:
            self._enter(*self._waiting.pop())
        return self._found

    def _enter(self, name: str, definition: str) -> None:
        module = _read(name)
        if not definition:
            self._waiting += [(name, inside) for inside in module.definitions]
        self._take(name, "", module.acting)
        if definition in module.definitions:
            self._take(name, definition, module.definitions[definition])
        elif definition in module.imports:
            self._follow(module.imports[definition])

    def _take(self, name: str, definition: str, statements: Sequence[Statement]) -> None:
        label = f"{name}.{definition}"
        if label in self._found or not statements:
            return
        imports = _read(name).imports
        used = sorted(use for statement in statements for use in statement.uses if use in imports)
        origins = [f"{use} is {'.'.join(imports[use])}\n" for use in used]
        self._found[label] = "".join([*(statement.text for statement in statements), *origins])
        for statement in statements:
            self._waiting += [(name, use) for use in statement.uses if use in _read(name).definitions]
            for target in (*statement.imports, *(imports[use] for use in statement.uses if use in imports)):
                self._follow(target)

    def _follow(self, target: Import) -> None:
        """Enter what was imported, if it is ours and not apart; a name may be a module of a package."""
        origin, name = target
        if not _is_inside(origin, (ROOT,)) or _is_inside(f"{origin}.{name}".rstrip("."), self._apart):
            return
        if name and name not in (known := _read(origin)).definitions and name not in known.imports:
            origin, name = f"{origin}.{name}", ""
        self._waiting.append((origin, name))


def _parts(name: str) -> list[Import]:
    """The modules, or the one definition, of a name."""
    parent, _, last = name.rpartition(".")
    if parent and _has_source(parent) and last in _read(parent).definitions:
        return [(parent, last)]
    path = _source_file(name)
    if path.name != "__init__.py":
        return [(name, "")]
    inside = (file.relative_to(path.parent).with_suffix("").parts for file in path.parent.rglob("*.py"))
    return [(".".join([name, *(part for part in parts if part != "__init__")]), "") for parts in inside]


@cache
def _read(name: str) -> Module:
    """A module, taken apart."""
    path = _source_file(name)
    # Line ends differ between a checkout on Windows and a wheel.
    source = path.read_bytes().replace(b"\r\n", b"\n").decode("utf-8")
    return take_apart(source, name if path.name == "__init__.py" else name.rpartition(".")[0])


def take_apart(source: str, package: str) -> Module:
    """The statements of a module's source; `package` is the one that relative imports start from."""
    lines = source.splitlines(keepends=True)
    future = "from __future__ import annotations\n" if "from __future__ import annotations\n" in lines else ""
    definitions: dict[str, tuple[Statement, ...]] = {}
    imports: dict[str, Import] = {}
    acting: list[Statement] = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= dict(_imported(node, package))
        elif not (_is_docstring(node) or _is_for_type_checkers(node)):
            first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", ()))])
            text = "".join(lines[first - 1 : node.end_lineno])
            inside = tuple(target for _, target in _imports_inside(node, package)) if "import " in text else ()
            statement = Statement(text, frozenset(_used(future + text)), inside)
            bound = _bound(node)
            definitions |= {word: (*definitions.get(word, ()), statement) for word in bound}
            if not bound or not isinstance(node, DEFINING):
                acting.append(statement)
    return Module(definitions, imports, tuple(acting))


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, Import]]:
    """Name bound by an import -> what it is."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0], (alias.name, "")
        return
    origin = "." * node.level + (node.module or "")
    origin = importlib.util.resolve_name(origin, package) if node.level else origin
    for alias in node.names:
        yield alias.asname or alias.name, (origin, alias.name)


def _imports_inside(node: ast.AST, package: str) -> Iterator[tuple[str, Import]]:
    """Imports inside a statement, but for those for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield from _imported(child, package)
        elif not _is_for_type_checkers(child):
            yield from _imports_inside(child, package)


def _used(source: str) -> Iterator[str]:
    """Names that a statement takes from its module, as Python itself resolves them."""
    tables = [symtable.symtable(source, "statement", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (symbol.is_global() or table.get_type() == "module"):
                yield symbol.get_name()


def _bound(node: ast.stmt) -> set[str]:
    """Names that a statement at the top of a module gives a value to."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    names = {item.id for item in ast.walk(node) if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)}
    inside = (item for item in ast.walk(node) if isinstance(item, ast.FunctionDef | ast.ClassDef))
    imported = {name for name, _ in _imports_inside(node, "")} if isinstance(node, ast.If | ast.Try) else set()
    return names | {item.name for item in inside} | imported


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING"


def _is_inside(name: str, places: Sequence[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def _has_source(name: str) -> bool:
    try:
        return _source_file(name).suffix == ".py"
    except ModuleNotFoundError:
        return False


def _source_file(name: str) -> Path:
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded is None:
        spec = importlib.util.find_spec(name)
        loaded = spec.origin if spec else None
    if loaded is None or not loaded.endswith(".py"):
        raise ModuleNotFoundError(f"No source found for {name!r}, so a change of it could not be noticed.")
    return Path(loaded)
