"""Graph that writes a run's derivatives under their BIDS names."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Workflow

from qsmprep.bids.outputs import OUTPUTS
from qsmprep.engine.node import Node
from qsmprep.engine.resources import FILES_GB
from qsmprep.interfaces.outputs import SaveOutput, SaveTransform
from qsmprep.workflows.inversion import chi_name, maps_beside
from qsmprep.workflows.plan import RunPlan
from qsmprep.workflows.separation import separates
from qsmprep.workflows.weighting import IMAGES, weights_images

ALWAYS = ("total_field", "local_field", "magnitude", "brain_mask", "reliable_mask", "background_mask", "qsm_mask")
RELAXATION = ("r2star", "t2star", "s0", "misfit")
SPIN_ECHO = ("r2", "r2prime")
SOURCES = ("para", "dia")


def written_keys(plan: RunPlan) -> dict[str, tuple[str, str | None]]:
    """What the run writes: input name -> (key of the table of outputs, desc that replaces the table's)."""
    keys: dict[str, tuple[str, str | None]] = {key: (key, None) for key in ALWAYS}
    if plan.settings.method("relaxometry") != "none":
        keys |= {key: (key, None) for key in RELAXATION}
    if plan.spin_echo:
        keys |= {key: (key, None) for key in SPIN_ECHO}
    if separates(plan):
        keys |= {key: (key, None) for key in SOURCES}
    if weights_images(plan):
        keys |= {key: (key, None) for key in IMAGES}
    for i, method in enumerate(plan.settings.methods["inversion"]):
        keys[chi_name(i)] = ("chi", None if i == 0 else method)
    for name, (i, output) in maps_beside(plan).items():
        keys[name] = (output, None if i == 0 else plan.settings.methods["inversion"][i] + OUTPUTS[output].desc)
    return keys


def init_outputs_wf(*, plan: RunPlan, name: str = "outputs_wf") -> Workflow:
    """Save every derivative of a run.

    Inputs
    ------
    One file for each key of `written_keys`, and with a spin echo scan `transform`.
    """
    workflow = Workflow(name=name)
    keys = written_keys(plan)
    inputnode = Node(IdentityInterface([*keys, "transform"] if plan.spin_echo else list(keys)), name="inputnode")
    raw_sources = [str(path.relative_to(plan.bids_dir)) for path in plan.run.files]
    spin_echo = [str(path.relative_to(plan.bids_dir)) for path in plan.spin_echo.files] if plan.spin_echo else []
    for input_name, (key, desc) in keys.items():
        save = SaveOutput(
            key=key,
            output_dir=str(plan.output_dir),
            prefix=plan.prefix,
            raw_sources=spin_echo if key == "r2" else raw_sources,
            available=sorted({key for key, _ in keys.values()}),
            software=plan.software,
        )
        if desc:
            save.inputs.desc = desc
        volumes = 0.5 if key.endswith("mask") else 3
        node = plan.node(save, f"save_{input_name}", volumes=volumes, loaded_gb=FILES_GB)
        workflow.connect([(inputnode, node, [(input_name, "in_file")])])
    if plan.spin_echo:
        save = SaveTransform(output_dir=str(plan.output_dir), prefix=plan.prefix, moving=spin_echo[0],
                             reference=raw_sources[0])  # fmt: skip
        saved = plan.node(save, "save_transform", volumes=0.1, loaded_gb=FILES_GB)
        workflow.connect([(inputnode, saved, [("transform", "in_file")])])
    return workflow
