"""Graph of regional values: atlases onto the grid of the maps, the maps measured in regions."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface, Merge
from nipype.pipeline.engine import Workflow

from qsmprep.bids.anatomy import Atlas, OwnTemplate, Segmentation
from qsmprep.engine.node import Node
from qsmprep.engine.resources import FILES_GB
from qsmprep.interfaces.regions import MeasureRegions, SaveRegions
from qsmprep.interfaces.segmentation import LayAtlas
from qsmprep.interfaces.template import OUTLINES, LayTemplate
from qsmprep.workflows.plan import RunPlan
from qsmprep.workflows.segmentation import as_documents, connect_saving, names_as_text

INPUTS = ["magnitude", "brain_mask", "mask", "chi", "r2star", "para", "dia", "sources_mask", "labels", "origins", "t1w"]
OUTPUTS = [*OUTLINES, "frame"]


def measures_regions(plan: RunPlan) -> bool:
    """Whether a table of regional values is made."""
    return plan.settings.steps["roi"].values


def init_regions_wf(*, plan: RunPlan, name: str = "regions_wf") -> Workflow:
    """Maps to a table of their values in regions, which is written beside them with the atlases used.

    Inputs
    ------
    magnitude : root sum of squares of the echoes.
    brain_mask, mask : consensus masks 1 and 4.
    chi : referenced susceptibility of the main inversion in ppm.
    r2star, para, dia, sources_mask : connected where there are such maps.
    labels, origins, t1w : of `init_segmentation_wf`, connected where there are such.

    Outputs
    -------
    Where the package's template is registered: masks of the groups in `OUTLINES`, and `frame`, the box around nuclei.
    """
    workflow = Workflow(name=name)
    inputnode, outputnode = (Node(IdentityInterface(fields), name=node)
                             for node, fields in (("inputnode", INPUTS), ("outputnode", OUTPUTS)))  # fmt: skip
    anatomy = plan.anatomy
    measure = plan.node(
        MeasureRegions(options=plan.step_options("roi"), csf_r2star=plan.settings.steps["reference"].csf_r2star),
        "measure",
        volumes=11 + 2 * len(anatomy.segmentations),
        loaded_gb=FILES_GB,
    )
    there = ["chi", "mask", "brain_mask", *_further_maps(plan)]
    workflow.connect([(inputnode, measure, [(image, image) for image in there])])
    save = plan.node(
        SaveRegions(output_dir=str(plan.output_dir), prefix=plan.prefix), "save_table", volumes=0.1, loaded_gb=FILES_GB
    )
    workflow.connect([(measure, save, [("table", "table"), ("columns", "columns")])])
    regions: list[Segmentation | Atlas | OwnTemplate] = [*anatomy.segmentations, *anatomy.atlases]
    regions += [anatomy.template] if anatomy.template else []
    if not regions:
        return workflow
    measure.inputs.labels = [item.label for item in regions]
    measure.inputs.region_names = [names_as_text(item) for item in regions]
    atlases = _lay_atlases(workflow, inputnode, plan)
    if anatomy.template:
        measure.inputs.registered = anatomy.template.label
        atlases.append(_lay_template(workflow, inputnode, outputnode, anatomy.template, plan))
    for given, output, target in (("labels", "labels", "segmentations"), ("origins", "origin", "origins")):
        sources = [(inputnode, given)] if anatomy.segmentations else []
        sources += [(node, output) for node in atlases]
        merge = plan.node(Merge(len(sources)), f"merge_{target}", volumes=0.1, loaded_gb=FILES_GB)
        for number, (node, field) in enumerate(sources, start=1):
            workflow.connect(node, field, merge, f"in{number}")
        workflow.connect(merge, "out", measure, target)
    return workflow


def _further_maps(plan: RunPlan) -> list[str]:
    sources = ["para", "dia", "sources_mask"] if plan.settings.method("separation") != "none" else []
    return (["r2star"] if plan.settings.method("relaxometry") != "none" else []) + sources


def _lay_atlases(workflow: Workflow, inputnode: Node, plan: RunPlan) -> list[Node]:
    """The nodes that lay the atlases on the grid, connected, each with the node that writes its result."""
    laid = []
    for number, atlas in enumerate(plan.anatomy.atlases, start=1):
        interface = LayAtlas(
            in_file=str(atlas.path), template=str(atlas.template), label=atlas.label, notes=as_documents(atlas)
        )
        node = plan.node(interface, f"lay_atlas_{number}", volumes=60, threads=plan.threads)
        images = [("magnitude", "magnitude"), ("chi", "chi"), ("brain_mask", "mask")]
        images += [("t1w", "t1w")] if plan.anatomy.needs_t1w else []
        workflow.connect([(inputnode, node, images)])
        connect_saving(workflow, node, atlas, plan)
        laid.append(node)
    return laid


TEMPLATE_GB = 0.44  # of a process that registers the template, on a grid of its own


def _lay_template(workflow: Workflow, inputnode: Node, outputnode: Node, template: OwnTemplate, plan: RunPlan) -> Node:
    """The node that lays the package's template on the grid, connected, with the node that writes its result."""
    node = plan.node(LayTemplate(), "lay_template", volumes=3, loaded_gb=TEMPLATE_GB)
    images = [("magnitude", "magnitude"), ("chi", "chi"), ("brain_mask", "mask")]
    workflow.connect([(inputnode, node, images), (node, outputnode, [(name, name) for name in OUTPUTS])])
    connect_saving(workflow, node, template, plan)
    return node
