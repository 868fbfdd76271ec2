"""Graph from wrapped phase to the total field: unwrapping and echo combination, in either order."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Workflow

from qsmprep.engine.node import Node
from qsmprep.interfaces.field import CombineEchoes, FieldOfFit, FitField
from qsmprep.interfaces.unwrap import Unwrap
from qsmprep.workflows.plan import RunPlan


def init_field_wf(*, plan: RunPlan, name: str = "field_wf") -> Workflow:
    """Total field in Hz.

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
        volumes=5 * plan.n_echoes + 15,
    )
    workflow.connect(
        [
            (inputnode, unwrap, [("magnitude", "magnitude"), ("mask", "mask")]),
            (unwrap, outputnode, [("unwrapped", "unwrapped"), ("quality", "quality")]),
        ]
    )
    combine = _fit_then_unwrap if plan.settings.method("echo-combination") == "nonlinear-fit" else _unwrap_then_combine
    combine(workflow, inputnode, unwrap, outputnode, plan)
    return workflow


def _unwrap_then_combine(workflow: Workflow, inputnode: Node, unwrap: Node, outputnode: Node, plan: RunPlan) -> None:
    unwrap.inputs.echo_times = list(plan.echo_times_s)
    combine = plan.method_node(
        CombineEchoes(echo_times=list(plan.echo_times_s)),
        "combine",
        stage="echo-combination",
        method=plan.settings.method("echo-combination"),
        volumes=4 * plan.n_echoes + 5,
        light=True,
    )
    workflow.connect(
        [
            (inputnode, unwrap, [("phase", "phase")]),
            (inputnode, combine, [("magnitude", "magnitude"), ("mask", "mask")]),
            (unwrap, combine, [("unwrapped", "phase")]),
            (combine, outputnode, [("field", "total_field"), ("noise", "noise")]),
        ]
    )


def _fit_then_unwrap(workflow: Workflow, inputnode: Node, unwrap: Node, outputnode: Node, plan: RunPlan) -> None:
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
            (scale, outputnode, [("field", "total_field"), ("noise", "noise")]),
        ]
    )
