"""Graph that writes a run's derivatives under their BIDS names."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from qsmprep.interfaces.outputs import SaveOutput
from qsmprep.workflows.inversion import chi_name
from qsmprep.workflows.plan import RunPlan

ALWAYS = ("total_field", "local_field", "magnitude", "brain_mask", "reliable_mask", "background_mask", "qsm_mask")
RELAXATION = ("r2star", "t2star", "s0")


def written_keys(plan: RunPlan) -> dict[str, tuple[str, str | None]]:
    """What the run writes: input name -> (key of the table of outputs, desc that replaces the table's)."""
    keys: dict[str, tuple[str, str | None]] = {key: (key, None) for key in ALWAYS}
    if plan.settings.method("relaxometry") != "none":
        keys |= {key: (key, None) for key in RELAXATION}
    for i, method in enumerate(plan.settings.methods["inversion"]):
        keys[chi_name(i)] = ("chi", None if i == 0 else method)
    return keys


def init_outputs_wf(*, plan: RunPlan, name: str = "outputs_wf") -> Workflow:
    """Save every derivative of a run.

    Inputs
    ------
    One file for each key of `written_keys`.
    """
    workflow = Workflow(name=name)
    keys = written_keys(plan)
    inputnode = Node(IdentityInterface(list(keys)), name="inputnode")
    raw_sources = [str(path.relative_to(plan.bids_dir)) for path in plan.run.files]
    for input_name, (key, desc) in keys.items():
        save = SaveOutput(
            key=key,
            output_dir=str(plan.output_dir),
            prefix=plan.prefix,
            raw_sources=raw_sources,
            available=sorted({key for key, _ in keys.values()}),
            software=plan.software,
        )
        if desc:
            save.inputs.desc = desc
        node = plan.node(save, f"save_{input_name}", volumes=4)
        workflow.connect([(inputnode, node, [(input_name, "in_file")])])
    return workflow
