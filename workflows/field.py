"""Graph from wrapped phase to the total field: unwrapping and echo combination, in either order."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Workflow

from qsmprep.engine.node import Node
from qsmprep.interfaces.field import CombineEchoes, FieldOfFit, FitField
from qsmprep.interfaces.reuse import ReuseTotalField, ReuseUnwrapped
from qsmprep.interfaces.unwrap import Unwrap
from qsmprep.workflows.plan import RunPlan
from qsmprep.workflows.reuse import taken_over


def init_field_wf(*, plan: RunPlan, name: str = "field_wf") -> Workflow:
    """Total field in Hz.

    Where a total field made elsewhere is taken over, what the scan gives of it tells its noise alone; where unwrapped
    phase is, the unwrapping tells its quality map alone.

    Inputs
    ------
    phase, magnitude : of the echoes used.
    mask : where to unwrap.

    Outputs
    -------
    total_field, noise : in Hz.
    unwrapped : unwrapped phase, the echoes' or the fitted one.
    quality : quality map of the unwrapping in [0, 1].
    """
    workflow = Workflow(name=name)
    inputnode = Node(IdentityInterface(["phase", "magnitude", "mask"]), name="inputnode")
    outputnode = Node(IdentityInterface(["total_field", "noise", "unwrapped", "quality"]), name="outputnode")
    unwrap = plan.method_node(
        Unwrap(),
        "unwrap",
        stage="unwrapping",
        method=plan.settings.method("unwrapping"),
        volumes=3 * plan.n_echoes + 8,
    )
    unwrapped = unwrap
    if taken := taken_over(workflow, inputnode, plan, "unwrapped", ReuseUnwrapped, volumes=6 * plan.n_echoes):
        unwrapped = taken
    workflow.connect(
        [
            (inputnode, unwrap, [("magnitude", "magnitude"), ("mask", "mask")]),
            (unwrap, outputnode, [("quality", "quality")]),
            (unwrapped, outputnode, [("unwrapped", "unwrapped")]),
        ]
    )
    if plan.settings.method("echo-combination") == "nonlinear-fit":
        last = _fit_then_unwrap(workflow, inputnode, unwrap, plan)
    else:
        last = _unwrap_then_combine(workflow, inputnode, unwrap, unwrapped, plan)
    total_field = taken_over(workflow, inputnode, plan, "total-field", ReuseTotalField, volumes=2 * plan.n_echoes + 12)
    workflow.connect(
        [
            (total_field or last, outputnode, [("field", "total_field")]),
            (last, outputnode, [("noise", "noise")]),
        ]
    )
    return workflow


def _unwrap_then_combine(workflow: Workflow, inputnode: Node, unwrap: Node, unwrapped: Node, plan: RunPlan) -> Node:
    unwrap.inputs.echo_times = list(plan.echo_times_s)
    combine = plan.method_node(
        CombineEchoes(echo_times=list(plan.echo_times_s)),
        "combine",
        stage="echo-combination",
        method=plan.settings.method("echo-combination"),
        volumes=3 * plan.n_echoes + 6,
        light=True,
    )
    workflow.connect(
        [
            (inputnode, unwrap, [("phase", "phase")]),
            (inputnode, combine, [("magnitude", "magnitude"), ("mask", "mask")]),
            (unwrapped, combine, [("unwrapped", "phase")]),
        ]
    )
    return combine


def _fit_then_unwrap(workflow: Workflow, inputnode: Node, unwrap: Node, plan: RunPlan) -> Node:
    times = plan.echo_times_s
    spacing = times[1] - times[0] if len(times) > 1 else times[0]
    unwrap.inputs.echo_times = [spacing]
    fit = plan.method_node(
        FitField(echo_times=list(times)), "fit", stage="echo-combination", method="nonlinear-fit",
        volumes=4 * plan.n_echoes + 8,
    )  # fmt: skip
    scale = plan.node(FieldOfFit(), "scale", volumes=4)
    workflow.connect(
        [
            (inputnode, fit, [("phase", "phase"), ("magnitude", "magnitude"), ("mask", "mask")]),
            (fit, unwrap, [("phase_per_spacing", "phase")]),
            (unwrap, scale, [("unwrapped", "phase")]),
            (fit, scale, [("noise", "noise"), ("spacing_s", "echo_spacing")]),
        ]
    )
    return scale
