"""Imports point one way: cli -> workflows -> interfaces -> steps -> shared numerics."""

import ast
from pathlib import Path

import pytest

from qsmprep import registry

ROOT = Path(__file__).parents[1]
STEPS = ("phase", "unwrap", "field", "masking", "background", "inversion", "orientation", "relaxometry",
         "separation", "nets", "analysis", "quality")  # fmt: skip
NUMERICS = ("numerics", "options", "scan", "findings", "rooms")
AROUND = (
    "bids",
    "engine",
    "report",
    "phantom",
    "training",
    "registry",
    "settings",
    "stages",
    "pipeline",
    "data",
    "weights",
)
FORBIDDEN_IN_STEPS = ("nipype", "bids", "nibabel", "pathlib", "os", "matplotlib", "rich", "argparse")


def layer(module: str) -> int:
    room = module.split(".")[1] if "." in module else ""
    for rank, rooms in enumerate((NUMERICS, STEPS, AROUND, ("interfaces",), ("workflows",), ("app",), ("cli",))):
        if room in rooms:
            return rank
    return 0  # the package itself holds only its version


def modules():
    for folder, package in (
        ("qsmprep", "qsmprep"),
        ("interfaces", "qsmprep.interfaces"),
        ("workflows", "qsmprep.workflows"),
    ):
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT / folder).with_suffix("")
            yield ".".join((package, *relative.parts)).removesuffix(".__init__"), path


def imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [
                f"{node.module}.{alias.name}" if node.module == "qsmprep" else node.module for alias in node.names
            ]
    return names


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_point_one_way(module, path):
    for name in imported(path):
        if name.split(".")[0] == "qsmprep":
            assert layer(name) <= layer(module), f"{module} imports {name}, which stands above it"


@pytest.mark.parametrize(
    "module", [m for m, _ in modules() if m.split(".")[1:2] and m.split(".")[1] in STEPS + NUMERICS]
)
def test_steps_know_arrays_only(module):
    path = dict(modules())[module]
    allowed = {"os"} if module == "qsmprep.numerics.threads" else set()
    for name in imported(path):
        assert name.split(".")[0] not in set(FORBIDDEN_IN_STEPS) - allowed, f"{module} imports {name}"


def test_every_python_file_belongs_to_a_room():
    known = {*STEPS, *NUMERICS, *AROUND, "interfaces", "workflows", "app", "cli"}
    for module, _ in modules():
        assert module == "qsmprep" or module.split(".")[1] in known, f"{module} has no place in the design"


def test_no_vague_file_names():
    vague = {"utils", "helpers", "misc", "common"}
    assert not [path for _, path in modules() if path.stem in vague]


@pytest.mark.parametrize("method", registry.METHODS, ids=lambda m: f"{m.stage}-{m.name}")
def test_registered_methods_exist(method):
    options_type = method.options_type()
    assert callable(method.load())
    if options_type is not None:
        assert "options" in __import__("inspect").signature(method.load()).parameters
        options_type()


def test_packages_are_all_named_in_pyproject():
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"])
    present = {module for module, path in modules() if path.name == "__init__.py"}
    assert listed == present
