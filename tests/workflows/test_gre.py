"""The graph of a run: what the settings put into it, and what each node states it needs."""

import dataclasses

import pytest
import tomli_w
import torch

from qsmprep import registry, settings
from qsmprep.app.planning import plan_run, settings_here
from qsmprep.bids.query import find_runs
from qsmprep.cli.parser import parse
from qsmprep.engine.share import wants_gpu
from qsmprep.nets.network import Network, build_module
from qsmprep.nets.spec import Channel, NetworkSpec
from qsmprep.nets.unet_spec import UnetSpec
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions
from qsmprep.presets import PRESETS
from qsmprep.weights.store import save_network
from qsmprep.workflows.gre import init_gre_wf
from qsmprep.workflows.outputs import written_keys


@pytest.fixture(scope="module")
def bids(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("graph") / "bids", SimulationOptions(voxel_size="8", mese=True))


def planned(bids, *words):
    request, chosen = parse([str(bids), str(bids.parent / "out"), "participant", *words])
    found = find_runs(bids)
    (run,) = found.runs
    return plan_run(run, request, chosen, threads=2, device="cpu", spin_echoes=found.spin_echoes)


def nodes(plan):
    workflow = init_gre_wf(plan=plan)
    return {name: workflow.get_node(name) for name in workflow.list_node_names()}


def test_every_step_states_memory_and_threads(bids):
    for name, node in nodes(planned(bids)).items():
        if not name.endswith(("inputnode", "outputnode", "_outlines")):
            assert node.mem_gb > 0, name
            assert 1 <= (node.n_procs or 1) <= 2, name


# Coils are combined where their images are single ones: tests/integration/test_coils.py.
@pytest.mark.parametrize("stage", [stage for stage in registry.stages() if stage != "coil-combination"])
def test_every_registered_method_can_be_put_into_the_graph(bids, stage, tiny_weights, monkeypatch):
    monkeypatch.setenv("QSMPREP_WEIGHTS", str(tiny_weights))
    for method in registry.names(stage):
        graph = nodes(planned(bids, f"--{stage}", method))
        chosen = [node for node in graph.values() if getattr(node.inputs, "method", None) == method]
        assert chosen, method


def test_weights_are_inputs_of_their_node_and_bounded_by_the_memory(bids, tiny_weights, monkeypatch):
    monkeypatch.setenv("QSMPREP_WEIGHTS", str(tiny_weights))
    words = ("--inversion", "qsmnet", "--r2", "none", "--r2prime-fallback", "network")
    graph = nodes(planned(bids, *words))
    node = graph["inversion_wf.invert_qsmnet"]
    assert node.inputs.network == str(tiny_weights / "qsmnet.safetensors")
    assert node.inputs.card == str(tiny_weights / "qsmnet.json")
    assert node.inputs.memory_gb == 0
    assert graph["r2prime_wf.r2prime"].inputs.network == str(tiny_weights / "r2primenet.safetensors")
    before = node.inputs.get_hashval()[1]
    node.inputs.card = str(tiny_weights / "lpcnn.json")
    assert node.inputs.get_hashval()[1] != before


def test_weights_that_do_not_fit_are_refused_in_the_plan(bids, tiny_weights, monkeypatch):
    monkeypatch.setenv("QSMPREP_WEIGHTS", str(tiny_weights))
    for words in (("--inversion", "modl", "--modl-weights", "qsmnet"),
                  ("--background", "sharqnet", "--sharqnet-weights", "none-such"),
                  ("--mask", "net", "--net-weights", "qsmnet"),
                  ("--separation", "chi-sepnet-r2s", "--chi-sepnet-r2s-weights", "chi-sepnet-r2p"),
                  ("--r2", "none", "--r2prime-fallback", "network", "--r2prime-weights", "lpcnn")):  # fmt: skip
        with pytest.raises(ValueError, match="-weights"):
            planned(bids, *words)
    with pytest.raises(ValueError, match="choose another --background"):
        planned(bids, "--background", "sharqnet", "--separation", "decompose")


@pytest.mark.parametrize("masked", [True, False])
def test_the_field_is_mapped_in_the_whole_head_for_a_network_without_a_mask_alone(bids, tmp_path, monkeypatch, masked):
    torch.manual_seed(0)
    channels = (Channel("total-field"),), (Channel("tissue-field"),)
    spec = NetworkSpec("mine", "background", UnetSpec(width=2, levels=1), *channels, masked=masked)
    save_network(Network(spec, build_module(spec)), tmp_path / "mine", facts={"licence": "x", "statement": "y"})
    monkeypatch.setenv("QSMPREP_WEIGHTS", str(tmp_path))
    plan = planned(bids, "--background", "sharqnet", "--sharqnet-weights", "mine")
    assert plan.maps_head is not masked
    assert ("head" in nodes(plan)) is not masked
    assert "head" not in nodes(planned(bids))


def test_options_of_the_command_line_reach_the_node(bids):
    graph = nodes(planned(bids, "--fansi-alpha1", "2e-4", "--v-sharp-max-radius", "6"))
    assert graph["inversion_wf.invert_fansi"].inputs.options["alpha1"] == 2e-4
    assert graph["background_wf.remove"].inputs.options["max_radius"] == 6


def test_several_inversions_share_all_nodes_before_them(bids):
    one, three = nodes(planned(bids)), nodes(planned(bids, "--inversion", "fansi", "tkd", "rts"))
    extra = {name for name in set(three) - set(one) if not name.startswith(("outputs_wf", "figures_wf"))}
    assert extra == {f"inversion_wf.{kind}_{method}" for kind in ("invert", "reference") for method in ("tkd", "rts")}


def test_what_is_written_follows_the_settings(bids):
    keys = written_keys(planned(bids, "--relaxometry", "none", "--inversion", "medi", "fansi"))
    assert "r2star" not in keys
    assert keys["chi"] == ("chi", None)
    assert keys["chi2"] == ("chi", "fansi")


def test_auto_is_resolved_before_the_graph_is_built(bids):
    plan = planned(bids)
    assert plan.settings.method("mask") in ("bet", "fsl-bet")
    assert plan.settings.method("relaxometry") == "arlo"
    assert plan.settings.method("r2") == "epg"
    assert plan.settings.method("separation") == "chisep-medi"
    assert planned(bids, "--r2", "none").spin_echo is None
    assert "mask-method" in [note.code for note in plan.notes]
    uneven = planned(bids, "--echoes", "1,2,4")
    assert uneven.settings.method("relaxometry") == "log-linear"


def test_settings_of_a_run_make_the_same_plan_again_with_its_notes(bids, tmp_path, monkeypatch):
    document = settings.to_document(settings_here(parse(["data", "out", "participant"])[1], "cpu"))
    file = tmp_path / "qsmprep.toml"
    file.write_text(tomli_w.dumps(document), "utf-8")
    first = planned(bids)
    monkeypatch.setenv("PATH", str(tmp_path))  # elsewhere FSL is installed, which `auto` would take
    (tmp_path / "bet").touch(mode=0o755)
    again = planned(bids, "--config-file", str(file))
    assert again.notes == first.notes
    assert again.second_mask == first.second_mask is not None
    assert again.settings.methods == first.settings.methods
    assert planned(bids, "--config-file", str(file), "--mask", "auto").settings.method("mask") == "fsl-bet"
    with pytest.raises(ValueError, match="decided"):
        settings.build({"decided": {"mask": "robust"}})


def test_unwrapping_in_time_without_offset_removal_is_told(bids):
    def told(*words):
        return "offset-assumed-zero" in [note.code for note in planned(bids, *words).notes]

    assert told("--phase-offset", "none")
    assert not told()
    assert not told("--phase-offset", "none", "--romeo-individual")


def test_the_centre_frequency_is_the_recorded_one(bids):
    plan = planned(bids, "--field-strength", "7")
    assert plan.centre_frequency_mhz == pytest.approx(3 * 42.577478)
    assert "ImagingFrequency" in plan.frequency_source


def test_presets_differ_in_what_they_say():
    assert {name: settings.build({"pipeline": name}).method("inversion") for name in PRESETS} == {
        "consensus-fansi": "fansi",
        "sepia": "fansi",
        "consensus-medi": "medi",
        "fast": "rts",
        "accurate": "fansi",
        "sloppy": "tkd",
    }


def test_only_what_can_run_on_a_gpu_takes_its_turn_there(bids):
    graph = nodes(dataclasses.replace(planned(bids), device="cuda"))
    turns = {name for name, node in graph.items() if wants_gpu(node)}
    assert {"inversion_wf.invert_fansi", "background_wf.remove", "separation_wf.separate"} <= turns
    assert not turns & {"field_wf.unwrap", "relaxometry_wf.fit", "r2prime_wf.r2prime", "phase_wf.offset"}
