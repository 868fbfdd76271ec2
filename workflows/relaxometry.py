"""Graphs of relaxometry: R2*, T2* and S0 from gradient echoes; R2 from spin echoes; R2' from both."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Workflow

from qsmprep.engine.node import Node
from qsmprep.engine.resources import COMPILED_GB, FILES_GB
from qsmprep.findings import document
from qsmprep.interfaces.relaxometry import FitRelaxation, FitSpinEcho, MapR2prime, RegisterSpinEcho
from qsmprep.interfaces.reuse import ReuseR2star
from qsmprep.workflows.plan import RunPlan
from qsmprep.workflows.reuse import taken_over


def corrects_gradient(plan: RunPlan) -> bool:
    """Whether the fit of R2* needs the total field."""
    return plan.settings.steps["r2star"].field_gradient != "none"


def init_relaxometry_wf(*, plan: RunPlan, name: str = "relaxometry_wf") -> Workflow:
    """Relaxation maps of one run; where R2* made elsewhere is taken over, S0 and misfit are still those of the fit.

    Inputs
    ------
    magnitude : of the echoes used.
    mask : the brain.
    total_field : in Hz; connected where the loss to its gradient is undone.

    Outputs
    -------
    r2star, t2star, s0 : in 1/s, s, and the magnitude's unit.
    misfit : share of the signal that the decay leaves unexplained.
    """
    workflow = Workflow(name=name)
    inputnode = Node(IdentityInterface(["magnitude", "mask", "total_field"]), name="inputnode")
    outputnode = Node(IdentityInterface(["r2star", "t2star", "s0", "misfit"]), name="outputnode")
    method = plan.settings.method("relaxometry")
    fit = plan.method_node(
        FitRelaxation(echo_times=list(plan.echo_times_s), preparation=plan.step_options("r2star")),
        "fit",
        stage="relaxometry",
        method=method,
        volumes=plan.n_echoes + 7 if method in ("arlo", "log-linear") else 3 * plan.n_echoes + 8,
        light=True,
    )
    workflow.connect([(inputnode, fit, [("magnitude", "magnitude"), ("mask", "mask")])])
    if corrects_gradient(plan):
        workflow.connect([(inputnode, fit, [("total_field", "total_field")])])
    rates = taken_over(workflow, inputnode, plan, "r2star", ReuseR2star, volumes=6) or fit
    workflow.connect([(rates, outputnode, [(output, output) for output in ("r2star", "t2star")])])
    workflow.connect([(fit, outputnode, [(output, output) for output in ("s0", "misfit")])])
    return workflow


def init_r2prime_wf(*, plan: RunPlan, name: str = "r2prime_wf") -> Workflow:
    """R2 of the spin echo scan on the grid of the gradient echoes, and R2'; without the scan what stands in for R2'.

    Inputs
    ------
    r2star : in 1/s.
    mask : the brain.
    magnitude : root sum of squares of the gradient echoes.

    Outputs
    -------
    r2prime : in 1/s.
    r2, spin_echo, transform : R2 in 1/s and magnitude of the spin echo scan, registered, and how; with that scan only.
    """
    workflow = Workflow(name=name)
    inputnode = Node(IdentityInterface(["r2star", "mask", "magnitude"]), name="inputnode")
    outputs = ["r2prime", "r2", "spin_echo", "transform"] if plan.spin_echo else ["r2prime"]
    outputnode = Node(IdentityInterface(outputs), name="outputnode")
    network = plan.networks.get(("r2prime", "network"))
    mapping = MapR2prime(
        options=plan.step_options("r2prime"),
        centre_frequency=plan.centre_frequency_mhz,
        device=plan.device if network else "cpu",
    )
    loaded_gb = COMPILED_GB if network else FILES_GB
    difference = plan.node(mapping, "r2prime", volumes=5, network=network, loaded_gb=loaded_gb)
    workflow.connect(
        [
            (inputnode, difference, [("r2star", "r2star"), ("mask", "mask")]),
            (difference, outputnode, [("r2prime", "r2prime")]),
        ]
    )
    if plan.spin_echo is None:
        return workflow
    scan = plan.spin_echo
    fit = plan.method_node(
        FitSpinEcho(
            magnitude_files=[str(path) for path in scan.files],
            echo_times=list(scan.echo_times_s),
            acquired_in_2d=str(scan.metadata.get("MRAcquisitionType", "")).upper() == "2D",
            notes=[document(note) for note in plan.spin_echo_notes],
        ),
        "fit_spin_echo",
        stage="r2",
        method=plan.settings.method("r2"),
        volumes=3 * len(scan.files) + 11,
    )
    register = plan.node(RegisterSpinEcho(), "register_spin_echo", volumes=16)
    workflow.connect(
        [
            (inputnode, register, [("magnitude", "reference_magnitude"), ("mask", "reference_mask")]),
            (fit, register, [("r2", "r2"), ("magnitude", "magnitude"), ("mask", "mask")]),
            (register, difference, [("r2", "r2")]),
            (register, outputnode, [("r2", "r2"), ("magnitude", "spin_echo"), ("transform", "transform")]),
        ]
    )
    return workflow
