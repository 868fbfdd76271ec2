"""Graph of relaxometry: R2*, T2* and S0 from the magnitude."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from qsmprep.interfaces.relaxometry import FitRelaxation
from qsmprep.workflows.plan import RunPlan


def init_relaxometry_wf(*, plan: RunPlan, name: str = "relaxometry_wf") -> Workflow:
    """Relaxation maps of one run.

    Inputs
    ------
    magnitude : of the echoes used.
    mask : the brain.

    Outputs
    -------
    r2star, t2star, s0 : in 1/s, s, and the magnitude's unit.
    """
    workflow = Workflow(name=name)
    inputnode = Node(IdentityInterface(["magnitude", "mask"]), name="inputnode")
    outputnode = Node(IdentityInterface(["r2star", "t2star", "s0"]), name="outputnode")
    fit = plan.method_node(
        FitRelaxation(echo_times=list(plan.echo_times_s)),
        "fit",
        stage="relaxometry",
        method=plan.settings.method("relaxometry"),
        volumes=2 * plan.n_echoes + 6,
        light=True,
    )
    workflow.connect(
        [
            (inputnode, fit, [("magnitude", "magnitude"), ("mask", "mask")]),
            (fit, outputnode, [("r2star", "r2star"), ("t2star", "t2star"), ("s0", "s0")]),
        ]
    )
    return workflow
