"""Graph of dipole inversion: data weights, one or several inversions, and the reference."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from qsmprep.interfaces.field import DataWeights
from qsmprep.interfaces.inversion import Invert, Reference
from qsmprep.workflows.plan import RunPlan


def init_inversion_wf(*, plan: RunPlan, name: str = "inversion_wf") -> Workflow:
    """Tissue field to referenced susceptibility, once for each chosen method.

    Inputs
    ------
    local_field, total_field, noise : in Hz.
    mask : consensus mask 4.
    phase, magnitude, magnitude_rss : all echoes, and their root sum of squares.
    r2star : in 1/s; not connected where there is none.

    Outputs
    -------
    chi, chi2, chi3, ... : referenced susceptibility in ppm of the chosen methods, in order.
    mask, weights : where the main map is valid, and the data weights.
    """
    workflow = Workflow(name=name)
    methods = plan.settings.methods["inversion"]
    inputnode = Node(IdentityInterface(INPUTS), name="inputnode")
    outputnode = Node(
        IdentityInterface([*(chi_name(i) for i in range(len(methods))), "mask", "weights"]), name="outputnode"
    )
    weigh = plan.node(
        DataWeights(echo_times=list(plan.echo_times_s), options=plan.step_options("weights")),
        "weigh",
        volumes=4 * plan.n_echoes + 6,
    )
    weigh_inputs = ["noise", "total_field", "phase", "magnitude", "mask"]
    if plan.settings.method("relaxometry") != "none":
        weigh_inputs.append("r2star")
    workflow.connect([(inputnode, weigh, [(field, field) for field in weigh_inputs])])
    workflow.connect([(weigh, outputnode, [("weights", "weights")])])
    for i, method in enumerate(methods):
        label = method.replace("-", "_")
        invert = plan.method_node(
            Invert(
                echo_times=list(plan.echo_times_s),
                centre_frequency=plan.centre_frequency_mhz,
                b0_direction=plan.b0,
            ),
            f"invert_{label}",
            stage="inversion",
            method=method,
            volumes=40,
        )
        reference = plan.node(
            Reference(options=plan.step_options("reference"), label=method if i else ""),
            f"reference_{label}",
            volumes=4,
        )
        workflow.connect(
            [
                (inputnode, invert, [("local_field", "local_field"), ("mask", "mask"), ("noise", "noise"),
                                     ("magnitude_rss", "magnitude")]),
                (weigh, invert, [("weights", "weights"), ("residual", "residual")]),
                (invert, reference, [("chi", "chi"), ("mask", "mask")]),
                (reference, outputnode, [("chi", chi_name(i))]),
            ]
        )  # fmt: skip
        if plan.settings.method("relaxometry") != "none":
            workflow.connect([(inputnode, reference, [("r2star", "r2star")])])
        if i == 0:
            workflow.connect([(invert, outputnode, [("mask", "mask")])])
    return workflow


INPUTS = ["local_field", "total_field", "noise", "mask", "phase", "magnitude", "magnitude_rss", "r2star"]


def chi_name(index: int) -> str:
    """Output name of the map of the inversion of that index: chi, chi2, chi3, ..."""
    return "chi" if index == 0 else f"chi{index + 1}"
