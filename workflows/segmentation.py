"""Graph of segmentations: the T1w image and the label images onto the grid of the maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype.interfaces.utility import IdentityInterface, Merge
from nipype.pipeline.engine import Workflow

from qsmprep.bids.anatomy import Atlas, OwnTemplate, Segmentation
from qsmprep.engine.node import Node
from qsmprep.engine.resources import FILES_GB
from qsmprep.findings import document
from qsmprep.interfaces.regions import SaveSegmentation
from qsmprep.interfaces.segmentation import LaySegmentation, RegisterT1w
from qsmprep.workflows.plan import RunPlan

INPUTS = ["magnitude", "brain_mask"]
OUTPUTS = ["labels", "origins", "t1w"]


def lays_segmentations(plan: RunPlan) -> bool:
    """Whether there is something to lay on the grid, or to register an atlas by."""
    return bool(plan.anatomy.segmentations) or plan.anatomy.needs_t1w


def init_segmentation_wf(*, plan: RunPlan, name: str = "segmentation_wf") -> Workflow:
    """Segmentations of a run onto the grid of the maps, each written with its table.

    Inputs
    ------
    magnitude : root sum of squares of the echoes.
    brain_mask : consensus mask 1.

    Outputs
    -------
    labels, origins : label images on the grid, and how each came there; in the order of the plan.
    t1w : the T1w image on the grid, where one is registered.
    """
    workflow = Workflow(name=name)
    inputnode, outputnode = (Node(IdentityInterface(fields), name=node)
                             for node, fields in (("inputnode", INPUTS), ("outputnode", OUTPUTS)))  # fmt: skip
    anatomy, register = plan.anatomy, None
    if anatomy.needs_t1w:
        interface = RegisterT1w(t1w=str(anatomy.t1w), rigid=plan.settings.steps["roi"].registration)
        register = plan.node(interface, "register_t1w", volumes=16)
        workflow.connect([(inputnode, register, [("magnitude", "magnitude"), ("brain_mask", "mask")])])
        workflow.connect([(register, outputnode, [("t1w", "t1w")])])
    laid = []
    for number, item in enumerate(anatomy.segmentations, start=1):
        interface = LaySegmentation(
            in_file=str(item.path), label=item.label, placement=item.placement, notes=as_documents(item)
        )
        node = plan.node(interface, f"lay_{number}", volumes=8)
        workflow.connect([(inputnode, node, [("magnitude", "magnitude")])])
        if item.placement == "t1w":
            workflow.connect([(register, node, [("transform", "transform")])])
        connect_saving(workflow, node, item, plan)
        laid.append(node)
    for output, target in (("labels", "labels"), ("origin", "origins")) if laid else ():
        merge = plan.node(Merge(len(laid)), f"merge_{target}", volumes=0.1, loaded_gb=FILES_GB)
        for number, node in enumerate(laid, start=1):
            workflow.connect(node, output, merge, f"in{number}")
        workflow.connect(merge, "out", outputnode, target)
    return workflow


def connect_saving(workflow: Workflow, laid: Node, item: Segmentation | Atlas | OwnTemplate, plan: RunPlan) -> None:
    """Write what a node laid on the grid, beside its table."""
    interface = SaveSegmentation(
        label=item.label, region_names=names_as_text(item), sources=_sources(item.path, plan.bids_dir),
        reference=str(plan.run.files[0].relative_to(plan.bids_dir)), output_dir=str(plan.output_dir),
        prefix=plan.prefix,
    )  # fmt: skip
    save = plan.node(interface, f"save_{laid.name.removeprefix('lay_')}", volumes=3, loaded_gb=FILES_GB)
    workflow.connect([(laid, save, [("labels", "labels"), ("origin", "origin")])])


def names_as_text(item: Segmentation | Atlas | OwnTemplate) -> dict[str, str]:
    """Names by number as a node's input takes them."""
    return {str(index): name for index, name in item.names.items()}


def as_documents(item: Segmentation | Atlas) -> list[dict[str, Any]]:
    """Notes as a node's input takes them."""
    return [document(note) for note in item.notes]


def _sources(path: Path | None, bids_dir: Path) -> list[str]:
    """URI of a file of the dataset; nothing for one elsewhere, whose place on this machine tells nobody anything."""
    return [f"bids:raw:{path.relative_to(bids_dir).as_posix()}"] if path and bids_dir in path.parents else []
