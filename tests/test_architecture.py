"""Imports point one way: cli -> app -> workflows -> interfaces -> what stands around the steps -> steps -> numerics."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import accumulate
from pathlib import Path

import pytest

from qsmprep import registry
from qsmprep.engine.staleness import take_apart

ROOT = Path(__file__).parents[1]
STEPS = ("coils", "phase", "unwrap", "field", "masking", "background", "inversion", "orientation", "relaxometry",
         "separation", "weighting", "nets", "analysis", "quality")  # fmt: skip
NUMERICS = ("numerics", "options", "scan", "findings", "rooms")
AROUND = ("bids", "cluster", "dicom", "engine", "files", "report", "phantom", "training", "registry", "settings",
          "presets", "stages", "pipeline", "results", "data", "weights")  # fmt: skip
# A step imports no other step, but for these: (module, what it imports) -> why.
BY_NETWORK = "works by a network: how networks are described and applied stands in nets"
NEIGHBOURS = {
    ("background.sharqnet", "nets"): BY_NETWORK,
    ("background.refinement", "field.weights"): "the susceptibility of a first tissue field is weighted as any is",
    (
        "background.refinement",
        "inversion",
    ): "a first susceptibility map tells what of the field is the tissue's own",
    ("coils.aspire", "masking.robust"): "the offsets of the coils are told where there is signal",
    ("coils.combination", "phase.smoothing"): "the offsets of the coils are smoothed as any phase offset",
    ("coils.mcpc3ds", "masking.robust"): "the offsets of the coils are told where there is signal",
    ("coils.mcpc3ds", "phase.mcpc3ds"): "MCPC-3D-S of coils trusts the voxels that MCPC-3D-S of one image trusts",
    ("coils.mcpc3ds", "unwrap.romeo"): "MCPC-3D-S unwraps the phase between two echoes",
    ("inversion.autoqsm", "nets"): BY_NETWORK,
    ("inversion.lpcnn", "nets"): BY_NETWORK,
    ("inversion.modl", "nets"): BY_NETWORK,
    ("inversion.network_adaptation", "nets"): BY_NETWORK,
    ("inversion.network_inversion", "nets"): BY_NETWORK,
    ("inversion.qsmnet", "nets"): BY_NETWORK,
    ("masking.net", "nets"): BY_NETWORK,
    ("relaxometry.r2primenet", "nets"): BY_NETWORK,
    ("separation.chisepnet", "nets"): BY_NETWORK,
    ("inversion.medi0", "masking.ventricles"): "MEDI+0 holds the ventricles uniform, and finds them itself",
    ("inversion.autoqsm", "background.vsharp_channel"): "the network is shown the V-SHARP field, as in its training",
    ("orientation.chisep_cosmos", "separation"): "chi-separation COSMOS is a separation, of several orientations",
    ("phase.bipolar", "unwrap.romeo"): "of unevenly spaced echoes the field between echoes 1 and 3 must be known",
    ("phase.fringes", "masking.bet"): "fringes are counted inside the brain, where there are any",
    ("phase.fringes", "masking.morphology"): "fringes are counted inside the head",
    ("phase.fringes", "masking.robust"): "fringes are counted inside the head",
    ("phase.mcpc3ds", "masking.morphology"): "MCPC-3D-S smooths the offset inside a mask of its own",
    ("phase.mcpc3ds", "masking.robust"): "MCPC-3D-S smooths the offset inside a mask of its own",
    ("phase.series", "masking.robust"): "the agreement of volumes is measured where there is signal",
    ("phase.slices", "masking.robust"): "offsets of slices are told where there is signal",
    ("phase.mcpc3ds", "unwrap.romeo"): "MCPC-3D-S unwraps the phase between two echoes",
    ("separation.chisep_ilsqr", "inversion"): "chi-separation of this name is iLSQR for two sources",
    ("separation.chisep_medi", "inversion"): "chi-separation of this name is MEDI for two sources",
}
# An import inside a function, or for type checkers alone, keeps one of these out of a module: CPU seconds of the import
# after that of numpy. For comparison: `qsmprep --help` takes 0.8 s in all, the imports of a run 2.0 s.
HEAVY = {
    "torch": "1.6 s",
    "scipy": "0.3 s (ndimage, fft) to 1.1 s (stats)",
    "numba": "0.2 s",
    "matplotlib": "0.6 s, and only the processes that draw need it",
    "PIL": "comes with matplotlib",
    "SimpleITK": "0.1 s, and only registration needs it",
    "h5py": "only foreign weights need it",
    "rich": "0.06 s, and only a terminal needs it",
    "pydicom": "0.2 s, and only what reads DICOM needs it",
    "ants": "optional",
    "onnx": "optional",
    "onnxruntime": "optional",
}
# What an entry point imports once it can tell in one line that it was stopped.
STARTING = ("qsmprep.cli.run", "qsmprep.cli.parser", "qsmprep.cli.tools", "qsmprep.cli.commands")
AFTER_SIGNALS = {("cli.run", "cli.parser"), ("cli.tools", "cli.commands")}
HEAVY_FOR_HELP = {"nipype": "0.4 s to 0.9 s", "nibabel": "0.1 s", "bids": "0.7 s"}  # a run needs them in any case
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
    assert listed == present | {f"qsmprep.data.{folder}" for folder in ("cluster", "recipes", "viewer", "weights")}


MODULES = dict(modules())


@cache
def imports(module: str) -> tuple[tuple[str, bool], ...]:
    """What a module imports, and whether it does so when it is itself imported."""

    def visit(node, at_once):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, at_once) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                for name in (f"{child.module}.{alias.name}" for alias in child.names):
                    yield (name if name in MODULES else child.module), at_once
            later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            yield from visit(child, at_once and not later and not typing)

    return tuple(dict.fromkeys(visit(ast.parse(MODULES[module].read_text("utf-8")), True)))


@cache
def loaded(module: str) -> frozenset[str]:
    """Every module of qsmprep and every package that importing a module loads, packages above it included."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            if name in MODULES:
                waiting += [above for above in accumulate(name.split("."), "{}.{}".format) if above in MODULES]
                waiting += [target for target, at_once in imports(name) if at_once]
    return frozenset(name if name in MODULES else name.split(".")[0] for name in found)


def short(module: str) -> str:
    return module.removeprefix("qsmprep.")


def test_a_step_imports_no_other_step_but_for_a_reason():
    used = set()
    for module in MODULES:
        for target, _ in imports(module):
            room, other = short(module).split(".")[0], short(target).split(".")[0]
            if not (target in MODULES and room in STEPS and other in STEPS and room != other):
                continue
            allowed = {
                entry
                for entry in NEIGHBOURS
                if short(module) == entry[0] and f"{short(target)}.".startswith(f"{entry[1]}.")
            }
            assert allowed, f"{module} imports {target}: numbers that steps share belong in qsmprep.numerics"
            used |= allowed
    assert used == set(NEIGHBOURS), "a reason for an import that is no more"


def test_no_module_imports_itself_by_a_detour():
    graph = {module: {target for target, _ in imports(module) if target in MODULES} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_imports_stand_at_the_top_unless_they_save_time():
    start = set().union(*map(loaded, (*STARTING, *(m.module for m in registry.METHODS))))
    needless = set()
    for module in MODULES:
        heavy = HEAVY | (HEAVY_FOR_HELP if module in start else {})
        for target, at_once in imports(module):
            brings = {target.split(".")[0]} if target not in MODULES else loaded(target) - loaded(module)
            saves = brings & set(heavy)
            if not at_once and (target, True) not in imports(module) and not saves:
                needless.add((short(module), short(target)))
    assert needless == AFTER_SIGNALS


def test_help_answers_without_what_is_slow_to_load():
    for program in STARTING:
        assert not loaded(program) & {*HEAVY, *HEAVY_FOR_HELP}


def test_modules_do_nothing_when_they_are_imported_but_define():
    # so that a node's cache key, which follows definitions, misses nothing
    known = (
        "make_room(",
        'os.environ.setdefault("NIPYPE_NO_ET"',
        "if TOLD in os.environ:",
        'if __name__ == "__main__":',
    )
    for module, path in MODULES.items():
        for statement in take_apart(path.read_text("utf-8"), module).acting:
            assert statement.text.startswith(known), f"{module} acts when it is imported: {statement.text}"


def test_nodes_are_those_of_the_engine_and_nothing_reads_pickles_but_its_pipe():
    # nipype's own keep their results as pickles, which run code when they are read
    for module in MODULES:
        for target, _ in imports(module):
            pickles = target.split(".")[0] in ("pickle", "dill", "cloudpickle", "shelve", "joblib")
            assert not pickles or module in ("qsmprep.engine.pool", "qsmprep.engine.scheduled", "qsmprep.engine.worker")
        names = {
            alias.name
            for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8")))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nipype")
            for alias in node.names
        }
        assert not names & {"Node", "MapNode", "JoinNode", "loadpkl", "savepkl"}, module


MANY = "# More than 8 parameters:"


def test_a_public_function_with_many_parameters_says_why():
    silent = []
    for module, path in MODULES.items():
        lines = path.read_text("utf-8").splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            arguments = node.args
            names = {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)} - {"self", "cls"}
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            above = [line.strip() for line in lines[max(first - 4, 0) : first - 1]]
            if len(names) > 8 and not any(line.startswith(MANY) for line in above):
                silent.append(f"{module}.{node.name}: {len(names)}")
    assert not silent
