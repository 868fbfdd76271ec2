"""Where results of other programs come into the graph."""

from __future__ import annotations

from typing import Any

from nipype.pipeline.engine import Workflow

from qsmprep.engine.node import Node
from qsmprep.interfaces.step import Step
from qsmprep.workflows.plan import RunPlan


def taken_over(
    workflow: Workflow, inputnode: Node, plan: RunPlan, kind: str, interface: type[Step], *, volumes: float
) -> Node | None:
    """The node that takes over a result of a kind, connected to phase, magnitude and mask; None where there is none.

    The input node has `mask`, and `phase` and `magnitude` where the interface asks for them.
    """
    if (given := plan.reused.get(kind)) is None:
        return None
    inputs: dict[str, Any] = {
        "in_file": str(given.path),
        "unit": given.unit,
        "told": given.told,
        "origin": given.origin,
    }
    traits = interface.input_spec().traits()
    if "echo_times" in traits:
        inputs |= {"echo_times": list(plan.echo_times_s), "centre_frequency": plan.centre_frequency_mhz}
    node = plan.node(interface(**inputs), f"reuse_{kind.replace('-', '_')}", volumes=volumes)
    images = [name for name in ("phase", "magnitude", "mask") if name in traits and hasattr(inputnode.inputs, name)]
    workflow.connect([(inputnode, node, [(name, name) for name in images])])
    return node
