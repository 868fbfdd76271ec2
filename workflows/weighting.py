"""Graph of susceptibility-weighted images."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Workflow

from qsmprep.engine.node import Node
from qsmprep.interfaces.weighting import WeightByField, WeightBySusceptibility
from qsmprep.workflows.plan import RunPlan

IMAGES = ("swi", "minip", "smwi")
OF_FIELD = ["magnitude", "phase", "mask"]
FIELDS = ["total_field", "local_field", "local_mask"]
OF_SUSCEPTIBILITY = ["magnitude_rss", "chi", "chi_mask"]


def weights_images(plan: RunPlan) -> bool:
    """Whether susceptibility-weighted images are made."""
    return plan.settings.method("swi") != "none"


def init_weighting_wf(*, plan: RunPlan, name: str = "weighting_wf") -> Workflow:
    """Magnitude, field and susceptibility to weighted images.

    Inputs
    ------
    magnitude, phase : of the echoes; phase in rad.
    mask : of the brain.
    total_field, local_field, local_mask : in Hz, and where the local one is valid.
    magnitude_rss, chi, chi_mask : of all echoes; susceptibility in ppm of the main inversion, and where it is valid.

    Outputs
    -------
    swi, minip : weighted by the field or phase, and its minimum over a slab.
    smwi : weighted by susceptibility.
    """
    workflow = Workflow(name=name)
    inputnode = Node(IdentityInterface([*OF_FIELD, *FIELDS, *OF_SUSCEPTIBILITY]), name="inputnode")
    outputnode = Node(IdentityInterface(list(IMAGES)), name="outputnode")
    by_field = WeightByField(
        echo_times=list(plan.echo_times_s), centre_frequency=plan.centre_frequency_mhz, slice_axis=plan.slice_axis,
        slice_axis_source=plan.slice_axis_source, projection=plan.step_options("minip"),
    )  # fmt: skip
    method = plan.settings.method("swi")
    swi = plan.method_node(by_field, "swi", stage="swi", method=method, volumes=2 * plan.n_echoes + 12, light=True)
    by_chi = WeightBySusceptibility(options=plan.step_options("smwi"))
    smwi = plan.node(by_chi, "smwi", volumes=6)
    total = getattr(plan.settings.options_of("swi", method), "field", "total") == "total"
    field, field_mask = ("total_field", "mask") if total else ("local_field", "local_mask")
    workflow.connect(
        [
            (inputnode, swi, [*((key, key) for key in OF_FIELD), (field, "field"), (field_mask, "field_mask")]),
            (inputnode, smwi, [(key, key) for key in OF_SUSCEPTIBILITY]),
            (swi, outputnode, [("swi", "swi"), ("minip", "minip")]),
            (smwi, outputnode, [("smwi", "smwi")]),
        ]
    )
    return workflow
