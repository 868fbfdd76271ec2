"""Graph that brings the maps of a run into the spaces of templates and writes them there."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Workflow

from qsmprep.bids.space_files import IN_TEMPLATE
from qsmprep.bids.spaces import PlannedSpace
from qsmprep.engine.node import Node
from qsmprep.engine.resources import FILES_GB
from qsmprep.interfaces.spaces import (
    ICBM_PAGE,
    OUTLINES,
    TEMPLATEFLOW_PAGE,
    LayMaps,
    RegisterSpace,
    SaveInSpace,
    SaveSpaceTransforms,
)
from qsmprep.workflows.plan import RunPlan

INPUTS = ["magnitude", "brain_mask", "qsm_mask", "chi", "r2star", "para", "dia", "sources_mask", "t1w"]
REGISTRATION_GB = 0.5  # of a process that registers on a grid of its own
LAID_GB = 0.4  # of one that resamples to a millimetre in a template's field of view


def shown_name(space: str) -> str:
    """The output of the graph that a picture of a space shows."""
    return f"shown_{space}"


def outline_names(space: str) -> dict[str, str]:
    """What an outline of the template is called -> the output of the graph."""
    return {name.replace("_", " "): f"{name}_{space}" for name in OUTLINES}


def written_in_template(plan: RunPlan) -> list[str]:
    """Keys of the maps that a run writes in a template."""
    there = {"r2star": plan.settings.method("relaxometry") != "none"}
    there |= dict.fromkeys(("para", "dia"), plan.settings.method("separation") != "none")
    return [key for key in IN_TEMPLATE if there.get(key, True)]


def init_spaces_wf(*, plan: RunPlan, name: str = "spaces_wf") -> Workflow:
    """Maps of a run to each space of the plan, written with the transforms.

    Inputs
    ------
    magnitude, brain_mask, qsm_mask, chi : root sum of squares of the echoes, consensus masks 1 and 4, susceptibility.
    r2star, para, dia, sources_mask, t1w : connected where there are such.

    Outputs
    -------
    Of each space, what its picture shows: `shown_name` and `outline_names`.
    """
    workflow = Workflow(name=name)
    names = [planned.space.name for planned in plan.spaces]
    outputs = [output for space in names for output in (shown_name(space), *outline_names(space).values())]
    inputnode, outputnode = (Node(IdentityInterface(fields), name=node)
                             for node, fields in (("inputnode", INPUTS), ("outputnode", outputs)))  # fmt: skip
    for planned in plan.spaces:
        space = planned.space.name
        register = _register(workflow, inputnode, planned, plan)
        shown = [("shown", shown_name(space)), *((outline, f"{outline}_{space}") for outline in OUTLINES)]
        workflow.connect([(register, outputnode, shown)])
        for resolution in planned.space.resolutions:
            _lay_and_save(workflow, inputnode, register, planned, resolution, plan)
    return workflow


def _register(workflow: Workflow, inputnode: Node, planned: PlannedSpace, plan: RunPlan) -> Node:
    """The node that registers the head to a template, connected, with the node that writes the transforms."""
    space = planned.space.name
    interface = RegisterSpace(space=space, source=planned.source, citations=list(planned.citations))
    images = [("magnitude", "magnitude"), ("chi", "chi"), ("brain_mask", "mask")]
    if planned.t1w:
        interface.inputs.template = str(planned.t1w)
        images += [("t1w", "t1w")] if plan.anatomy.needs_t1w else []
    if planned.mask:
        interface.inputs.template_mask = str(planned.mask)
    node = plan.node(interface, f"register_{space}", volumes=6, loaded_gb=REGISTRATION_GB)
    workflow.connect([(inputnode, node, images)])
    save = SaveSpaceTransforms(space=space, output_dir=str(plan.output_dir), prefix=plan.prefix, software=plan.software)
    saved = plan.node(save, f"save_transforms_{space}", volumes=1, loaded_gb=FILES_GB)
    workflow.connect([(node, saved, [("transform", "transform"), ("inverse", "inverse")])])
    return node


# More than 8 parameters would follow from taking the plan apart: the graph, its nodes, and what is laid where.
def _lay_and_save(
    workflow: Workflow, inputnode: Node, register: Node, planned: PlannedSpace, resolution: str, plan: RunPlan
) -> None:
    """The nodes that resample the maps to a template at one resolution and write them, connected."""
    space, keys = planned.space.name, written_in_template(plan)
    lay = LayMaps(space=space, resolution=resolution, keys=keys)
    if planned.t1w:
        lay.inputs.template = str(planned.t1w)
    ending = f"{space}_{resolution or 'native'}"
    laid = plan.node(lay, f"lay_{ending}", volumes=4, loaded_gb=LAID_GB)
    images = [*keys, *(["sources_mask"] if "para" in keys else [])]
    workflow.connect([(inputnode, laid, [(image, image) for image in images]),
                      (register, laid, [("transform", "transform")])])  # fmt: skip
    page = f"{TEMPLATEFLOW_PAGE}/tpl-{space}/{planned.t1w.name}" if planned.t1w else ICBM_PAGE
    save = SaveInSpace(
        keys=keys, space=space, resolution=resolution, reference=page, output_dir=str(plan.output_dir),
        prefix=plan.prefix, software=plan.software,
    )  # fmt: skip
    saved = plan.node(save, f"save_{ending}", volumes=3, loaded_gb=FILES_GB)
    workflow.connect([(laid, saved, [("files", "files")])])
