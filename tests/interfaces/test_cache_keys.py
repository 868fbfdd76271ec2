"""A change of a file of the code makes those nodes be computed anew that can reach what it says, and no others."""

import ast
from copy import deepcopy
from importlib import import_module

import pytest

from qsmprep import registry
from qsmprep.engine import staleness
from qsmprep.interfaces.step import MethodStep, Step

ROOMS = ("background", "coils", "field", "inversion", "masking", "orientation", "phase", "quality", "reference",
         "regions", "relaxometry", "report", "reuse", "segmentation", "separation", "unwrap", "volumes",
         "weighting")  # fmt: skip
KINDS = [
    kind
    for room in ROOMS
    for kind in vars(import_module(f"qsmprep.interfaces.{room}")).values()
    if isinstance(kind, type) and kind.__module__ == f"qsmprep.interfaces.{room}" and hasattr(kind, "_run_interface")
    and hasattr(kind.input_spec(), "algo_version") and not kind.__name__.startswith("_")
]  # fmt: skip


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """Every node that has a key: "Invert fansi", "SelectEchoes"; with weights where its method works by a network."""
    weights = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    weights.write_bytes(b"")
    made = {}
    for kind in KINDS:
        if not issubclass(kind, MethodStep):
            made[kind.__name__] = kind()
            continue
        for method in registry.METHODS:
            if method.stage == kind.stage:
                network = {"network": str(weights)} if method.needs_network() else {}
                made[f"{kind.__name__} {method.name}"] = kind(method=method.name, **network)
    from qsmprep.interfaces.inversion import Invert
    from qsmprep.interfaces.relaxometry import MapR2prime
    from qsmprep.interfaces.separation import EchoSusceptibility

    made["Invert qsmnet adapted by dann"] = Invert(method="qsmnet", network=str(weights), options={"adapt": "dann"})
    made["MapR2prime network"] = MapR2prime(network=str(weights))
    made["EchoSusceptibility"] = EchoSusceptibility(background="sharp")
    return made


@pytest.fixture
def changed(nodes, monkeypatch):
    """A function: the nodes whose key changes when every definition of a module is changed."""
    before = keys(nodes)

    def changed(module):
        path, read = staleness._source_file(module), staleness._read
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        edited = staleness.take_apart(with_every_definition_changed(path.read_text("utf-8")), package)
        with monkeypatch.context() as patched:
            patched.setattr(staleness, "_read", lambda name: edited if name == module else read(name))
            staleness.algo_version.cache_clear()
            after = keys(nodes)
        staleness.algo_version.cache_clear()
        return {name for name in nodes if after[name] != before[name]}

    return changed


def keys(nodes):
    for node in nodes.values():
        node.inputs.get_hashval()
        if not isinstance(node, Step):  # the key of a picture is that of its class
            node.inputs.algo_version = type(node)().inputs.algo_version
    return {name: node.inputs.algo_version for name, node in nodes.items()}


def with_every_definition_changed(source):
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            lines[node.end_lineno - 1] += "  # changed"
    return "\n".join(lines) + "\n"


def test_the_pictures_the_masks_and_the_maps_are_all_there(nodes):
    assert {kind.__name__ for kind in KINDS} <= {name.split()[0] for name in nodes}
    assert {"DrawFigure", "ExtractBrain bet", "Invert fansi", "RemoveBackground v-sharp"} <= set(nodes)


@pytest.mark.parametrize(
    "module",
    [
        "registry", "options", "cli.parser", "app.planning", "engine.pool", "engine.staleness", "numerics.threads",
        "numerics.progress", "report.page", "report.methods", "phantom.vendor", "phantom.dataset", "training.loop",
        "bids.query",
    ],
)  # fmt: skip
def test_what_computes_no_map_changes_no_key(changed, module):
    assert changed(f"qsmprep.{module}") == set()


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("inversion.fansi", {"Invert fansi"}),
        ("inversion.tkd", {"Invert tkd"}),
        ("background.pdf", {"RemoveBackground pdf"}),
        ("background.sharp", {"RemoveBackground sharp", "EchoSusceptibility"}),
        ("inversion.rts", {"Invert rts", "EchoSusceptibility"}),
        ("masking.bet", {"BrainImage", "ExtractBrain bet", "FindHead", "PreparePhase"}),
        ("masking.ventricles", {"Invert medi0", "MeasureRegions", "Reference"}),
        (
            "phase.sign",
            {"CombineCoils aspire", "CombineCoils mcpc-3d-s-coils", "JoinVolumes", "PreparePhase", "Reference"},
        ),
        ("analysis.atlas", {"LayAtlas"}),
        ("relaxometry.r2primenet", {"MapR2prime network"}),
        ("training.synthetic", {"Invert qsmnet adapted by dann"}),
        ("phantom.scanner", {"Invert qsmnet adapted by dann"}),
        ("report.figures", {"ChooseWindow", "DrawFigure"}),
        ("report.montage", {"DrawFigure"}),
    ],
)
def test_a_change_reaches_the_nodes_that_use_it(changed, module, expected):
    assert changed(f"qsmprep.{module}") == expected


@pytest.mark.parametrize("module", ["nets.unet", "nets.inference", "weights.store", "weights.card"])
def test_what_networks_are_made_of_reaches_all_nodes_with_a_network_and_no_other(changed, nodes, module):
    with_network = {name for name, node in nodes.items() if getattr(node.inputs, "network", None)}
    if module == "nets.inference":  # masks need no field, kernel or turn
        with_network -= {"ExtractBrain net"}
    assert changed(f"qsmprep.{module}") == with_network
    assert "Invert qsmnet" in with_network and "Invert fansi" not in with_network


@pytest.mark.parametrize(
    ("module", "reached", "left"),
    [
        (
            "numerics.admm",
            {"Invert fansi", "Invert l1-qsm", "Invert medi"},
            {"Invert tkd", "ExtractBrain bet", "RemoveBackground v-sharp", "Unwrap romeo"},
        ),
        (
            "numerics.fourier",
            {"Invert fansi", "Invert tkd", "RemoveBackground pdf", "RemoveBackground v-sharp", "Unwrap laplacian"},
            {"Unwrap romeo", "ExtractBrain bet", "FitRelaxation arlo", "SelectEchoes", "DrawFigure"},
        ),
        (
            "numerics.krylov",
            {"Invert ilsqr", "RemoveBackground pdf", "Cosmos", "EchoSusceptibility"},
            {"Invert fansi", "Invert tkd", "RemoveBackground sharp"},
        ),
        (
            "settings",  # the defaults of steps without alternatives
            {"Reference", "FitRelaxation arlo", "Separate closed-form"},
            {"Invert fansi", "ExtractBrain bet", "RemoveBackground pdf"},
        ),
        ("interfaces.inversion", {"Invert fansi"}, {"Reference", "RemoveBackground pdf", "Separate closed-form"}),
    ],
)
def test_shared_code_reaches_its_users_only(changed, module, reached, left):
    found = changed(f"qsmprep.{module}")
    assert reached <= found and not left & found


def test_every_node_follows_its_own_class_and_what_all_share(changed, nodes):
    assert changed("qsmprep.interfaces.step") == set(nodes) - {"DrawFigure"}
    assert changed("qsmprep.interfaces.images") >= set(nodes) - {"MapR2prime network"}


def test_the_key_is_that_of_the_method_chosen_last(nodes):
    node = type(nodes["Invert fansi"])(method="tkd")
    assert _key(node) == _key(nodes["Invert tkd"])
    node.inputs.method = "fansi"
    assert _key(node) == _key(nodes["Invert fansi"])
    node.inputs.options = {"adapt": "dann"}
    copied = deepcopy(node)
    copied.inputs.method = "tkd"
    copied.inputs.options = {}
    assert _key(copied) == _key(nodes["Invert tkd"])


def _key(node):
    node.inputs.get_hashval()
    return node.inputs.algo_version


@pytest.mark.parametrize("method", registry.METHODS, ids=lambda method: f"{method.stage}-{method.name}")
def test_the_key_follows_every_method_and_its_options(nodes, method):
    used = [node for name, node in nodes.items() if isinstance(node, MethodStep) and node.stage == method.stage]
    (node, *_) = [node for node in used if node.inputs.method == method.name]
    reached = staleness.reached(*node.code(node.inputs), apart=node.not_reached(node.inputs))
    assert f"{method.module}.{method.function}" in reached
    assert not method.options_class or f"{method.module}.{method.options_class}" in reached


def test_a_method_without_a_network_reaches_none(nodes):
    for name, node in nodes.items():
        if isinstance(node, Step) and not getattr(node.inputs, "network", None):
            reached = staleness.reached(*node.code(node.inputs), apart=node.not_reached(node.inputs))
            assert not [label for label in reached if label.startswith(("qsmprep.nets.", "qsmprep.weights."))], name
