"""Graph of background field removal."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Workflow

from qsmprep.engine.node import Node
from qsmprep.interfaces.background import RemoveBackground
from qsmprep.interfaces.reuse import ReuseTissueField
from qsmprep.workflows.memory import REFINEMENT, volumes_of
from qsmprep.workflows.plan import RunPlan
from qsmprep.workflows.reuse import taken_over


def init_background_wf(*, plan: RunPlan, name: str = "background_wf") -> Workflow:
    """Total field to tissue field, or one made elsewhere.

    Inputs
    ------
    total_field, noise : in Hz.
    mask : consensus mask 3.

    Outputs
    -------
    local_field : tissue field in Hz.
    mask : consensus mask 4.
    """
    workflow = Workflow(name=name)
    inputnode = Node(IdentityInterface(["total_field", "noise", "mask"]), name="inputnode")
    outputnode = Node(IdentityInterface(["local_field", "mask"]), name="outputnode")
    if taken := taken_over(workflow, inputnode, plan, "tissue-field", ReuseTissueField, volumes=6):
        workflow.connect([(taken, outputnode, [("local_field", "local_field"), ("mask", "mask")])])
        return workflow
    method, refinement = plan.settings.method("background"), plan.step_options("background-refinement")
    remove = plan.method_node(
        RemoveBackground(
            b0_direction=plan.b0,
            echo_spacing=plan.echo_spacing_s,
            echo_times=list(plan.echo_times_s),
            centre_frequency=plan.centre_frequency_mhz,
            refinement=refinement,
        ),
        "remove",
        stage="background",
        method=method,
        volumes=volumes_of("background", method) + (REFINEMENT if refinement["passes"] else 0),
    )
    workflow.connect(
        [
            (inputnode, remove, [("total_field", "total_field"), ("noise", "noise"), ("mask", "mask")]),
            (remove, outputnode, [("local_field", "local_field"), ("mask", "mask")]),
        ]
    )
    return workflow
