"""Graph of dipole inversion: data weights, one or several inversions, and the reference."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Workflow

from qsmprep import registry
from qsmprep.engine.node import Node
from qsmprep.engine.resources import FILES_GB
from qsmprep.interfaces.field import DataWeights
from qsmprep.interfaces.inversion import BESIDE, IMAGES, Invert
from qsmprep.interfaces.reference import Reference
from qsmprep.workflows.memory import volumes_of
from qsmprep.workflows.plan import RunPlan
from qsmprep.workflows.segmentation import names_as_text

INPUTS = ["local_field", "total_field", "noise", "mask", "total_mask", "phase", "magnitude", "magnitude_rss", "r2star",
          "segmentations"]  # fmt: skip
WEIGHED = ("weights", "residual")


def init_inversion_wf(*, plan: RunPlan, name: str = "inversion_wf") -> Workflow:
    """Tissue field, or what a single-step method starts from, to referenced susceptibility, once for each method.

    Inputs
    ------
    local_field, total_field, noise : in Hz.
    mask, total_mask : consensus masks 4 and 3: where the tissue field and the total field are valid.
    phase, magnitude, magnitude_rss : all echoes, and their root sum of squares.
    r2star : in 1/s; not connected where there is none.
    segmentations : label images on the grid, in which reference regions are measured; not connected without any.

    Outputs
    -------
    chi, chi2, chi3, ... : referenced susceptibility in ppm of the chosen methods, in order.
    expected_error, offdiagonal, ... : what the network of the first, the second (expected_error2), ... gives besides.
    mask, weights, residual : where the main map is valid, the data weights, and the relative residual they know of.
    """
    workflow = Workflow(name=name)
    methods = plan.settings.methods["inversion"]
    inputnode = Node(IdentityInterface(INPUTS), name="inputnode")
    beside = maps_beside(plan)
    outputs = [*(chi_name(i) for i in range(len(methods))), *beside, "mask", "weights", "residual"]
    outputnode = Node(IdentityInterface(outputs), name="outputnode")
    weighing: dict[str, Node] = {}
    for i, method in enumerate(methods):
        wanted = images_of(method, relaxation=has_relaxation(plan))
        mask = "mask" if "mask" in wanted else "total_mask"
        if mask not in weighing and (i == 0 or set(wanted) & set(WEIGHED)):
            weighing[mask] = _weighing(workflow, inputnode, mask, plan)
        invert, reference = _inversion(method, plan, label=method if i else "")
        direct = [(image, image) for image in wanted if image not in WEIGHED]
        workflow.connect([(inputnode, invert, direct)])
        if weighed := [(image, image) for image in wanted if image in WEIGHED]:
            workflow.connect([(weighing[mask], invert, weighed)])
        workflow.connect([(invert, reference, [("chi", "chi"), ("mask", "mask")])])
        workflow.connect([(reference, outputnode, [("chi", chi_name(i))])])
        if told := [(output, name) for name, (number, output) in beside.items() if number == i]:
            workflow.connect([(invert, outputnode, told)])
        if has_relaxation(plan):
            workflow.connect([(inputnode, reference, [("r2star", "r2star")])])
        if plan.anatomy.segmentations:
            workflow.connect([(inputnode, reference, [("segmentations", "segmentations")])])
        if i == 0:
            workflow.connect([(invert, outputnode, [("mask", "mask")])])
            workflow.connect([(weighing[mask], outputnode, [("weights", "weights")])])
            if has_relaxation(plan):
                workflow.connect([(weighing[mask], outputnode, [("residual", "residual")])])
    return workflow


def images_of(method: str, *, relaxation: bool) -> tuple[str, ...]:
    """Inputs of `Invert` that hold the images an inversion takes, of those there are."""
    parameters = registry.find("inversion", method).inputs()
    missing = () if relaxation else ("r2star", "residual")
    return tuple(image for name, image in IMAGES.items() if name in parameters and image not in missing)


def has_relaxation(plan: RunPlan) -> bool:
    """Whether R2* is mapped."""
    return plan.settings.method("relaxometry") != "none"


def chi_name(index: int) -> str:
    """Output name of the map of the inversion of that index: chi, chi2, chi3, ..."""
    return "chi" if index == 0 else f"chi{index + 1}"


def maps_beside(plan: RunPlan) -> dict[str, tuple[int, str]]:
    """What networks give besides susceptibility: output name -> (number of the method from 0, output of `Invert`)."""
    found = {}
    for i, method in enumerate(plan.settings.methods["inversion"]):
        network = plan.networks.get(("inversion", method))
        for quantity, output in BESIDE.items():
            if network is not None and quantity in network.gives:
                found[output if i == 0 else f"{output}{i + 1}"] = (i, output)
    return found


def _weighing(workflow: Workflow, inputnode: Node, mask: str, plan: RunPlan) -> Node:
    """The node of data weights over one of the masks, connected."""
    interface = DataWeights(echo_times=list(plan.echo_times_s), options=plan.step_options("weights"))
    weigh = plan.node(interface, "weigh" if mask == "mask" else "weigh_total", volumes=plan.n_echoes + 9)
    fields = [(field, field) for field in ("noise", "total_field", "phase", "magnitude")]
    workflow.connect([(inputnode, weigh, [*fields, (mask, "mask")])])
    if has_relaxation(plan):
        workflow.connect([(inputnode, weigh, [("r2star", "r2star")])])
    return weigh


def _inversion(method: str, plan: RunPlan, *, label: str) -> tuple[Node, Node]:
    """The nodes of one inversion and of its reference."""
    interface = Invert(
        echo_times=list(plan.echo_times_s), centre_frequency=plan.centre_frequency_mhz, b0_direction=plan.b0
    )
    name = method.replace("-", "_")
    volumes = volumes_of("inversion", method)
    invert = plan.method_node(interface, f"invert_{name}", stage="inversion", method=method, volumes=volumes)
    laid = plan.anatomy.segmentations
    reference = Reference(options=plan.step_options("reference"), label=label, labels=[item.label for item in laid],
                          region_names=[names_as_text(item) for item in laid])  # fmt: skip
    if region := plan.reference_region:
        reference.inputs.trait_set(segmentation=str(region.path), index=region.index, region_name=region.name)
    return invert, plan.node(reference, f"reference_{name}", volumes=5 + 2 * len(laid), loaded_gb=FILES_GB)
