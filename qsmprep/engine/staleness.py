"""A key that changes when the code of a step changes, because nipype's cache looks at inputs only."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from functools import cache
from pathlib import Path

ROOT = "qsmprep"
# How a step is found, configured and run, not what it computes: a change there leaves results as they are.
PLUMBING = tuple(
    f"qsmprep.{name}" for name in ("registry", "options", "numerics.threads", "engine", "app", "cli", "weights")
)


@cache
def algo_version(*module_names: str) -> str:
    """Short hash of the source of modules and of every qsmprep module they import, directly or not.

    Parameters
    ----------
    *module_names : modules or packages; a package counts with all modules inside it. Nothing is imported but the
        packages above them.

    Returns
    -------
    Twelve hexadecimal digits, the same in every process and on every machine with the same source.

    Raises
    ------
    ModuleNotFoundError
        For a name without source.
    """
    sources: dict[str, bytes] = {}
    waiting = [inside for name in module_names for inside in _modules_inside(name)]
    while waiting:
        name = waiting.pop()
        if name not in sources:
            sources[name], imported = _read(name)
            waiting.extend(imported)
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(f"{name} {len(sources[name])}\n".encode())
        digest.update(sources[name])
    return digest.hexdigest()[:12]


@cache
def _read(name: str) -> tuple[bytes, tuple[str, ...]]:
    """Source, and names of the qsmprep modules imported anywhere in it (inside functions too)."""
    path = _source_file(name)
    # Line ends differ between a checkout on Windows and a wheel.
    source = path.read_bytes().replace(b"\r\n", b"\n")
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imported: dict[str, None] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= dict.fromkeys(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            origin = importlib.util.resolve_name(origin, package) if node.level else origin
            if _is_ours(origin):
                imported |= dict.fromkeys(_module_or_parent(origin, alias.name) for alias in node.names)
    ours = (target for target in imported if _is_ours(target) and not _is_plumbing(target))
    return source, tuple(ours)


def _is_ours(name: str) -> bool:
    return name == ROOT or name.startswith(f"{ROOT}.")


def _is_plumbing(name: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in PLUMBING)


def _module_or_parent(package: str, name: str) -> str:
    """`from package import name` reads the module package.name when there is one, else the package itself."""
    try:
        found = importlib.util.find_spec(f"{package}.{name}")
    except ModuleNotFoundError:  # `package` is a plain module
        found = None
    return f"{package}.{name}" if found else package


def _modules_inside(name: str) -> list[str]:
    path = _source_file(name)
    if path.name != "__init__.py":
        return [name]
    found = []
    for file in path.parent.rglob("*.py"):
        parts = file.relative_to(path.parent).with_suffix("").parts
        found.append(".".join([name, *(part for part in parts if part != "__init__")]))
    return found


def _source_file(name: str) -> Path:
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded is None:
        spec = importlib.util.find_spec(name)
        loaded = spec.origin if spec else None
    if loaded is None or not loaded.endswith(".py"):
        raise ModuleNotFoundError(f"No source found for {name!r}, so a change of it could not be noticed.")
    return Path(loaded)
