"""Import what the program may import, so that Python keeps the bytecode of that, and not of whole packages.

Run while an image is built, by the program's own interpreter: packages are installed there without bytecode.
"""

import ast
import importlib
import pkgutil
from pathlib import Path

import qsmprep


def named_in(source: str) -> set[str]:
    """Modules that a source imports, also those that its functions import when they are called."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


wanted = {module.name for module in pkgutil.walk_packages(qsmprep.__path__, "qsmprep.")}
for folder in qsmprep.__path__:
    for path in Path(folder).rglob("*.py"):
        wanted |= named_in(path.read_text("utf-8"))
for name in sorted(wanted):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:  # a function or class; or an optional package. A broken one ends the build
        continue
