"""Graphs of the consensus masks: the brain (1), reliable phase (2), and the two joined (3)."""

from __future__ import annotations

import math

from nipype.interfaces import fsl
from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Workflow

from qsmprep.engine.node import Node
from qsmprep.engine.resources import FILES_GB
from qsmprep.interfaces.masking import BrainImage, ExtractBrain, FindReliable, ImportMask, JoinMasks
from qsmprep.interfaces.step import parameters
from qsmprep.workflows.plan import RunPlan

BYTES_OF_FLOAT32 = 4


def init_brain_mask_wf(*, plan: RunPlan, name: str = "brain_mask_wf") -> Workflow:
    """Consensus mask 1.

    Inputs
    ------
    magnitude : of all echoes.

    Outputs
    -------
    mask : the brain, from FSL BET, our own BET, a network, a threshold, or a given file.
    """
    workflow = Workflow(name=name)
    inputnode = Node(IdentityInterface(["magnitude"]), name="inputnode")
    outputnode = Node(IdentityInterface(["mask"]), name="outputnode")
    method = plan.settings.method("mask")
    if plan.brain_mask is not None:
        source = plan.brain_mask
        given = plan.node(
            ImportMask(in_file=str(source.path), origin=source.origin), "given", volumes=3, loaded_gb=FILES_GB
        )
        workflow.connect([(inputnode, given, [("magnitude", "like")]), (given, outputnode, [("mask", "mask")])])
        return workflow
    image_name = getattr(plan.settings.options_of("mask", "bet"), "image", "first-echo")
    image = plan.node(BrainImage(image=image_name), "image", volumes=2 * plan.n_echoes, loaded_gb=FILES_GB)
    workflow.connect([(inputnode, image, [("magnitude", "magnitude")])])
    if method == "fsl-bet":
        last = _add_fsl_bet(workflow, image, plan)
    else:
        extract = ExtractBrain(echo_times=list(plan.echo_times_s))
        volumes = 6.0 + plan.n_echoes
        if second := plan.second_mask:
            extract.inputs.trait_set(second_network=str(second.path), second_card=str(second.card))
            volumes += second.needs_gb * 2**30 / (BYTES_OF_FLOAT32 * math.prod(plan.shape))
        last = plan.method_node(extract, "extract", stage="mask", method=method, volumes=volumes, light=True)
        workflow.connect(
            [(image, last, [("out_file", "image")]), (inputnode, last, [("magnitude", "magnitude")])],
        )
    workflow.connect([(last, outputnode, [("mask", "mask")])])
    return workflow


def _add_fsl_bet(workflow: Workflow, image: Node, plan: RunPlan) -> Node:
    """FSL's own BET, followed by the check and the record that every mask gets."""
    options = plan.settings.options_of("mask", "fsl-bet")
    bet = plan.node(
        fsl.BET(
            frac=options.fractional_intensity,
            vertical_gradient=options.vertical_gradient,
            mask=True,
            output_type="NIFTI",
        ),
        "fsl_bet",
        volumes=8,
    )
    used = [
        item for item in parameters(options) if item["name"] in ("fractional_intensity", "vertical_gradient", "image")
    ]
    record = plan.node(
        ImportMask(
            origin=f"FSL BET (version {bet.interface.version or 'unknown'})",
            title="FSL BET",
            citations=["smith2002"],
            parameters=used,
        ),
        "record",
        volumes=3,
    )
    workflow.connect(
        [
            (image, bet, [("out_file", "in_file")]),
            (image, record, [("out_file", "like")]),
            (bet, record, [("mask_file", "in_file")]),
        ]
    )
    return record


def init_phase_masks_wf(*, plan: RunPlan, name: str = "phase_masks_wf") -> Workflow:
    """Consensus masks 2 and 3.

    Inputs
    ------
    brain_mask : consensus mask 1.
    quality, noise : quality map of the unwrapping, noise map of the field.

    Outputs
    -------
    reliable_mask, background_mask : consensus masks 2 and 3.
    eroded_mask : mask 3 eroded, which background field removal works on.
    """
    workflow = Workflow(name=name)
    inputnode = Node(IdentityInterface(["brain_mask", "quality", "noise"]), name="inputnode")
    outputnode = Node(IdentityInterface(["reliable_mask", "background_mask", "eroded_mask"]), name="outputnode")
    reliable = plan.node(
        FindReliable(options=plan.step_options("reliable-mask")), "reliable", volumes=2, loaded_gb=FILES_GB
    )
    join = plan.node(JoinMasks(options=plan.step_options("background-mask")), "join", volumes=2, loaded_gb=FILES_GB)
    source = plan.settings.steps["reliable-mask"].source
    workflow.connect(
        [
            (inputnode, reliable, [("brain_mask", "brain_mask"), (source, source)]),
            (inputnode, join, [("brain_mask", "brain_mask")]),
            (reliable, join, [("mask", "reliable_mask")]),
            (reliable, outputnode, [("mask", "reliable_mask")]),
            (join, outputnode, [("mask", "background_mask"), ("eroded", "eroded_mask")]),
        ]
    )
    return workflow
