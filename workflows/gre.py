"""The pipeline of one run: the stages of the consensus paper, joined."""

from __future__ import annotations

from collections.abc import Mapping

from nipype.pipeline.engine import Workflow

from qsmprep.interfaces.masking import FindHead
from qsmprep.workflows.background import init_background_wf
from qsmprep.workflows.field import init_field_wf
from qsmprep.workflows.inversion import chi_name, init_inversion_wf, maps_beside
from qsmprep.workflows.masking import init_brain_mask_wf, init_phase_masks_wf
from qsmprep.workflows.outputs import RELAXATION, SOURCES, SPIN_ECHO, init_outputs_wf
from qsmprep.workflows.phase import init_phase_wf
from qsmprep.workflows.plan import RunPlan
from qsmprep.workflows.quality import connect_quality
from qsmprep.workflows.regions import init_regions_wf, measures_regions
from qsmprep.workflows.relaxometry import corrects_gradient, init_r2prime_wf, init_relaxometry_wf
from qsmprep.workflows.report import connect_figures, init_figures_wf
from qsmprep.workflows.segmentation import init_segmentation_wf, lays_segmentations
from qsmprep.workflows.separation import init_separation_wf, separates
from qsmprep.workflows.spaces import init_spaces_wf
from qsmprep.workflows.weighting import IMAGES, init_weighting_wf, weights_images


def init_gre_wf(*, plan: RunPlan) -> Workflow:
    """Gradient-echo images of one run to field maps, susceptibility, relaxation maps, masks and figures.

    Everything it needs is in the plan; its results leave through `outputs_wf` and `figures_wf`.
    """
    workflow = Workflow(name=plan.name)
    phase, brain, field = init_phase_wf(plan=plan), init_brain_mask_wf(plan=plan), init_field_wf(plan=plan)
    masks, background = init_phase_masks_wf(plan=plan), init_background_wf(plan=plan)
    inversion, outputs = init_inversion_wf(plan=plan), init_outputs_wf(plan=plan)
    workflow.connect(
        [
            (phase, brain, [("outputnode.magnitude", "inputnode.magnitude")]),
            (phase, field, [("outputnode.phase", "inputnode.phase"), ("outputnode.magnitude", "inputnode.magnitude")]),
            (brain, masks, [("outputnode.mask", "inputnode.brain_mask")]),
            (field, masks, [("outputnode.quality", "inputnode.quality"), ("outputnode.noise", "inputnode.noise")]),
            (field, background, [("outputnode.total_field", "inputnode.total_field"),
                                 ("outputnode.noise", "inputnode.noise")]),
            (masks, background, [("outputnode.eroded_mask", "inputnode.mask")]),
            (phase, inversion, [("outputnode.phase", "inputnode.phase"),
                                ("outputnode.magnitude", "inputnode.magnitude"),
                                ("outputnode.magnitude_rss", "inputnode.magnitude_rss")]),
            (field, inversion, [("outputnode.total_field", "inputnode.total_field"),
                                ("outputnode.noise", "inputnode.noise")]),
            (masks, inversion, [("outputnode.eroded_mask", "inputnode.total_mask")]),
            (background, inversion, [("outputnode.local_field", "inputnode.local_field"),
                                     ("outputnode.mask", "inputnode.mask")]),
            (phase, outputs, [("outputnode.magnitude_rss", "inputnode.magnitude")]),
            (brain, outputs, [("outputnode.mask", "inputnode.brain_mask")]),
            (field, outputs, [("outputnode.total_field", "inputnode.total_field")]),
            (masks, outputs, [("outputnode.reliable_mask", "inputnode.reliable_mask"),
                              ("outputnode.background_mask", "inputnode.background_mask")]),
            (background, outputs, [("outputnode.local_field", "inputnode.local_field")]),
            (inversion, outputs, [("outputnode.mask", "inputnode.qsm_mask"), *_chi_maps(plan)]),
        ]
    )  # fmt: skip
    _connect_field_mask(workflow, plan, phase, brain, field)
    stages = {"phase": phase, "brain": brain, "field": field, "masks": masks,
              "background": background, "inversion": inversion}  # fmt: skip
    if plan.settings.method("relaxometry") != "none":
        stages["relaxometry"] = relaxometry = init_relaxometry_wf(plan=plan)
        maps = [(f"outputnode.{key}", f"inputnode.{key}") for key in RELAXATION]
        workflow.connect(
            [
                (phase, relaxometry, [("outputnode.magnitude", "inputnode.magnitude")]),
                (brain, relaxometry, [("outputnode.mask", "inputnode.mask")]),
                (relaxometry, inversion, [("outputnode.r2star", "inputnode.r2star")]),
                (relaxometry, outputs, maps),
            ]
        )
        if corrects_gradient(plan):
            workflow.connect([(field, relaxometry, [("outputnode.total_field", "inputnode.total_field")])])
    if plan.spin_echo or separates(plan):
        stages["r2prime"] = r2prime = init_r2prime_wf(plan=plan)
        workflow.connect(
            [
                (phase, r2prime, [("outputnode.magnitude_rss", "inputnode.magnitude")]),
                (brain, r2prime, [("outputnode.mask", "inputnode.mask")]),
                (relaxometry, r2prime, [("outputnode.r2star", "inputnode.r2star")]),
            ]
        )
        if plan.spin_echo:
            found = [(f"outputnode.{key}", f"inputnode.{key}") for key in (*SPIN_ECHO, "transform")]
            workflow.connect([(r2prime, outputs, found)])
    if separates(plan):
        stages["separation"] = separation = init_separation_wf(plan=plan)
        workflow.connect(
            [
                (phase, separation, [("outputnode.magnitude", "inputnode.magnitude"),
                                     ("outputnode.magnitude_rss", "inputnode.magnitude_rss")]),
                (field, separation, [("outputnode.unwrapped", "inputnode.unwrapped")]),
                (masks, separation, [("outputnode.eroded_mask", "inputnode.total_mask")]),
                (background, separation, [("outputnode.local_field", "inputnode.local_field"),
                                          ("outputnode.mask", "inputnode.mask")]),
                (inversion, separation, [("outputnode.chi", "inputnode.chi"), ("outputnode.mask", "inputnode.chi_mask"),
                                         ("outputnode.weights", "inputnode.weights"),
                                         ("outputnode.residual", "inputnode.residual")]),
                (relaxometry, separation, [("outputnode.r2star", "inputnode.r2star")]),
                (r2prime, separation, [("outputnode.r2prime", "inputnode.r2prime")]),
                (separation, outputs, [(f"outputnode.{key}", f"inputnode.{key}") for key in SOURCES]),
            ]
        )  # fmt: skip
    if weights_images(plan):
        stages["weighting"] = weighting = init_weighting_wf(plan=plan)
        workflow.connect(
            [
                (phase, weighting, [(f"outputnode.{key}", f"inputnode.{key}")
                                    for key in ("magnitude", "phase", "magnitude_rss")]),
                (brain, weighting, [("outputnode.mask", "inputnode.mask")]),
                (field, weighting, [("outputnode.total_field", "inputnode.total_field")]),
                (background, weighting, [("outputnode.local_field", "inputnode.local_field"),
                                         ("outputnode.mask", "inputnode.local_mask")]),
                (inversion, weighting, [("outputnode.chi", "inputnode.chi"),
                                        ("outputnode.mask", "inputnode.chi_mask")]),
                (weighting, outputs, [(f"outputnode.{key}", f"inputnode.{key}") for key in IMAGES]),
            ]
        )  # fmt: skip
    if lays_segmentations(plan):
        stages["segmentation"] = _connect_segmentation(workflow, plan, stages)
    if measures_regions(plan):
        stages["regions"] = _connect_regions(workflow, plan, stages)
    if plan.spaces:
        stages["spaces"] = _connect_spaces(workflow, plan, stages)
    connect_quality(workflow, stages, plan)
    connect_figures(workflow, init_figures_wf(plan=plan), stages, plan)
    return workflow


def _connect_field_mask(workflow: Workflow, plan: RunPlan, phase: Workflow, brain: Workflow, field: Workflow) -> None:
    """Map the field in the brain, or in the whole head where a network is given no mask."""
    if not plan.maps_head:
        workflow.connect([(brain, field, [("outputnode.mask", "inputnode.mask")])])
        return
    head = plan.node(FindHead(), "head", volumes=4 + plan.n_echoes)
    workflow.connect(
        [
            (phase, head, [("outputnode.magnitude", "magnitude")]),
            (brain, head, [("outputnode.mask", "brain_mask")]),
            (head, field, [("mask", "inputnode.mask")]),
        ]
    )


def _connect_segmentation(workflow: Workflow, plan: RunPlan, stages: Mapping[str, Workflow]) -> Workflow:
    """Bring the segmentations onto the grid, where the reference regions are measured in them."""
    segmentation = init_segmentation_wf(plan=plan)
    workflow.connect(
        [
            (stages["phase"], segmentation, [("outputnode.magnitude_rss", "inputnode.magnitude")]),
            (stages["brain"], segmentation, [("outputnode.mask", "inputnode.brain_mask")]),
        ]
    )
    if plan.anatomy.segmentations:
        workflow.connect([(segmentation, stages["inversion"], [("outputnode.labels", "inputnode.segmentations")])])
    return segmentation


def _connect_regions(workflow: Workflow, plan: RunPlan, stages: Mapping[str, Workflow]) -> Workflow:
    """Measure the maps there are in regions."""
    regions = init_regions_wf(plan=plan)
    inputs = {
        "phase": [("magnitude_rss", "magnitude")],
        "brain": [("mask", "brain_mask")],
        "inversion": [("chi", "chi"), ("mask", "mask")],
        "relaxometry": [("r2star", "r2star")],
        "separation": [("para", "para"), ("dia", "dia"), ("mask", "sources_mask")],
        "segmentation": [("labels", "labels"), ("origins", "origins")] if plan.anatomy.segmentations else [],
    }
    if plan.anatomy.needs_t1w:
        inputs["segmentation"].append(("t1w", "t1w"))
    for stage, images in inputs.items():
        if stage in stages:
            connected = [(f"outputnode.{output}", f"inputnode.{target}") for output, target in images]
            workflow.connect([(stages[stage], regions, connected)])
    return regions


def _connect_spaces(workflow: Workflow, plan: RunPlan, stages: Mapping[str, Workflow]) -> Workflow:
    """Bring the maps there are into the spaces of templates."""
    spaces = init_spaces_wf(plan=plan)
    inputs = {
        "phase": [("magnitude_rss", "magnitude")],
        "brain": [("mask", "brain_mask")],
        "inversion": [("chi", "chi"), ("mask", "qsm_mask")],
        "relaxometry": [("r2star", "r2star")],
        "separation": [("para", "para"), ("dia", "dia"), ("mask", "sources_mask")],
        "segmentation": [("t1w", "t1w")] if plan.anatomy.needs_t1w else [],
    }
    for stage, images in inputs.items():
        if stage in stages:
            connected = [(f"outputnode.{output}", f"inputnode.{target}") for output, target in images]
            workflow.connect([(stages[stage], spaces, connected)])
    return spaces


def _chi_maps(plan: RunPlan) -> list[tuple[str, str]]:
    names = [chi_name(i) for i in range(len(plan.settings.methods["inversion"]))]
    return [(f"outputnode.{name}", f"inputnode.{name}") for name in (*names, *maps_beside(plan))]
