"""Graph of phase preparation: radians, sign, phase offset, choice of echoes."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Workflow

from qsmprep.engine.node import Node
from qsmprep.findings import Note, document
from qsmprep.interfaces.phase import PreparePhase, RemovePhaseOffset, SelectEchoes
from qsmprep.workflows.plan import RunPlan


def init_phase_wf(*, plan: RunPlan, name: str = "phase_wf") -> Workflow:
    """Read the echoes and prepare their phase.

    Outputs
    -------
    magnitude, phase : all echoes used; phase in rad, offset removed.
    magnitude_rss : root sum of squares over echoes.
    """
    workflow = Workflow(name=name)
    outputnode = Node(IdentityInterface(["magnitude", "phase", "magnitude_rss"]), name="outputnode")
    prepare = plan.node(PreparePhase(**_files(plan)), "prepare", volumes=5 * plan.n_echoes, threads=plan.threads)
    prepare.inputs.phase_sign = plan.settings.steps["input"].phase_sign
    prepare.inputs.bipolar = plan.settings.steps["input"].bipolar
    prepare.inputs.manufacturer = plan.run.manufacturer
    prepare.inputs.echo_times = [echo.echo_time_s for echo in plan.run.echoes]
    prepare.inputs.centre_frequency = plan.centre_frequency_mhz
    text = f"Centre frequency {plan.centre_frequency_mhz:.6g} MHz: {plan.frequency_source}."
    source = Note("frequency-source", text)
    prepare.inputs.notes = [document(note) for note in (*plan.notes, source)]
    last = prepare
    method = plan.settings.method("phase-offset")
    if method != "none" and len(plan.run.echoes) > 1:
        offset = plan.method_node(
            RemovePhaseOffset(), "offset", stage="phase-offset", method=method, volumes=4 * plan.n_echoes + 10
        )
        offset.inputs.echo_times = [echo.echo_time_s for echo in plan.run.echoes]
        offset.inputs.bipolar = plan.settings.steps["input"].bipolar == "mcpc-3d-s"
        workflow.connect([(last, offset, [("magnitude", "magnitude"), ("phase", "phase")])])
        last = offset
    chosen = plan.settings.steps["input"].echo_numbers()
    if chosen is not None:
        select = plan.node(SelectEchoes(echoes=list(chosen)), "select", volumes=4 * plan.n_echoes)
        workflow.connect([(last, select, [("magnitude", "magnitude"), ("phase", "phase")])])
        last = select
    workflow.connect(
        [
            (last, outputnode, [("magnitude", "magnitude"), ("phase", "phase")]),
            (prepare, outputnode, [("magnitude_rss", "magnitude_rss")]),
        ]
    )
    return workflow


def _files(plan: RunPlan) -> dict[str, str | list[str]]:
    echoes = plan.run.echoes
    if not plan.run.is_complex:
        return {
            "magnitude_files": [str(echo.magnitude) for echo in echoes],
            "phase_files": [str(echo.phase) for echo in echoes],
            "units": str(echoes[0].metadata.get("phase", {}).get("Units", "")),
        }
    return {
        "real_files": [str(echo.real) for echo in echoes],
        "imaginary_files": [str(echo.imaginary) for echo in echoes],
    }
