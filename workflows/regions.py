"""Graph of regional values: segmentations and atlases onto the grid of the maps, the maps measured in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype.interfaces.utility import IdentityInterface, Merge
from nipype.pipeline.engine import Workflow

from qsmprep.bids.anatomy import Atlas, Segmentation
from qsmprep.engine.node import Node
from qsmprep.findings import document
from qsmprep.interfaces.regions import MeasureRegions, SaveRegions, SaveSegmentation
from qsmprep.interfaces.segmentation import LayAtlas, LaySegmentation, RegisterT1w
from qsmprep.workflows.plan import RunPlan

INPUTS = ["magnitude", "brain_mask", "mask", "chi", "r2star", "para", "dia", "sources_mask"]


def measures_regions(plan: RunPlan) -> bool:
    """Whether a table of regional values is made."""
    return plan.settings.steps["roi"].values


def init_regions_wf(*, plan: RunPlan, name: str = "regions_wf") -> Workflow:
    """Maps to a table of their values in regions, which is written beside them with the segmentations used.

    Inputs
    ------
    magnitude : root sum of squares of the echoes.
    brain_mask, mask : consensus masks 1 and 4.
    chi : referenced susceptibility of the main inversion in ppm.
    r2star, para, dia, sources_mask : connected where there are such maps.
    """
    workflow = Workflow(name=name)
    inputnode = Node(IdentityInterface(INPUTS), name="inputnode")
    anatomy = plan.anatomy
    measure = plan.node(
        MeasureRegions(options=plan.step_options("roi"), csf_r2star=plan.settings.steps["reference"].csf_r2star),
        "measure",
        volumes=12 + 2 * len(anatomy.segmentations),
    )
    there = ["chi", "mask", "brain_mask", *_further_maps(plan)]
    workflow.connect([(inputnode, measure, [(image, image) for image in there])])
    save = plan.node(SaveRegions(output_dir=str(plan.output_dir), prefix=plan.prefix), "save_table", volumes=0.1)
    workflow.connect([(measure, save, [("table", "table"), ("columns", "columns")])])
    laid = _lay_all(workflow, inputnode, plan)
    if laid:
        regions: list[Segmentation | Atlas] = [*anatomy.segmentations, *anatomy.atlases]
        measure.inputs.labels = [item.label for item in regions]
        measure.inputs.region_names = [_as_text(item) for item in regions]
        for output, target in (("labels", "segmentations"), ("origin", "origins")):
            merge = plan.node(Merge(len(laid)), f"merge_{target}", volumes=0.1)
            for number, node in enumerate(laid, start=1):
                workflow.connect(node, output, merge, f"in{number}")
            workflow.connect(merge, "out", measure, target)
    return workflow


def _further_maps(plan: RunPlan) -> list[str]:
    sources = ["para", "dia", "sources_mask"] if plan.settings.method("separation") != "none" else []
    return (["r2star"] if plan.settings.method("relaxometry") != "none" else []) + sources


def _lay_all(workflow: Workflow, inputnode: Node, plan: RunPlan) -> list[Node]:
    """The nodes whose labels lie on the grid, connected, each with the node that writes its result."""
    anatomy = plan.anatomy
    laid, register = [], None
    if anatomy.needs_t1w:
        interface = RegisterT1w(t1w=str(anatomy.t1w), rigid=plan.settings.steps["roi"].registration)
        register = plan.node(interface, "register_t1w", volumes=16)
        workflow.connect([(inputnode, register, [("magnitude", "magnitude"), ("brain_mask", "mask")])])
    for number, item in enumerate(anatomy.segmentations, start=1):
        interface = LaySegmentation(
            in_file=str(item.path), label=item.label, placement=item.placement, notes=_documents(item)
        )
        node = plan.node(interface, f"lay_{number}", volumes=8)
        workflow.connect([(inputnode, node, [("magnitude", "magnitude")])])
        if item.placement == "t1w":
            workflow.connect([(register, node, [("transform", "transform")])])
        laid.append(node)
    for number, atlas in enumerate(anatomy.atlases, start=1):
        interface = LayAtlas(
            in_file=str(atlas.path), template=str(atlas.template), label=atlas.label, notes=_documents(atlas)
        )
        node = plan.node(interface, f"lay_atlas_{number}", volumes=60, threads=plan.threads)
        images = [("magnitude", "magnitude"), ("chi", "chi"), ("brain_mask", "mask")]
        workflow.connect([(inputnode, node, images)])
        if register is not None:
            workflow.connect([(register, node, [("t1w", "t1w")])])
        laid.append(node)
    regions: list[Segmentation | Atlas] = [*anatomy.segmentations, *anatomy.atlases]
    for node, region in zip(laid, regions, strict=True):
        interface = SaveSegmentation(
            label=region.label, region_names=_as_text(region), sources=_sources(region.path, plan.bids_dir),
            reference=str(plan.run.files[0].relative_to(plan.bids_dir)), output_dir=str(plan.output_dir),
            prefix=plan.prefix,
        )  # fmt: skip
        save = plan.node(interface, f"save_{node.name.removeprefix('lay_')}", volumes=4)
        workflow.connect([(node, save, [("labels", "labels"), ("origin", "origin")])])
    return laid


def _as_text(item: Segmentation | Atlas) -> dict[str, str]:
    """Names by number as a node's input takes them."""
    return {str(index): name for index, name in item.names.items()}


def _documents(item: Segmentation | Atlas) -> list[dict[str, Any]]:
    """Notes as a node's input takes them."""
    return [document(note) for note in item.notes]


def _sources(path: Path, bids_dir: Path) -> list[str]:
    """URI of a file of the dataset; nothing for one elsewhere, whose place on this machine tells nobody anything."""
    return [f"bids:raw:{path.relative_to(bids_dir).as_posix()}"] if bids_dir in path.parents else []
