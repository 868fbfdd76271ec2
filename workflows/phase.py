"""Graph of phase preparation: radians, sign, phase offset, choice of echoes."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Workflow

from qsmprep.engine.node import Node
from qsmprep.findings import Note, document
from qsmprep.interfaces.coils import CombineCoils
from qsmprep.interfaces.phase import PreparePhase, RemovePhaseOffset, SelectEchoes
from qsmprep.interfaces.volumes import PARTS, JoinVolumes, SplitEchoes
from qsmprep.workflows.plan import RunPlan


def init_phase_wf(*, plan: RunPlan, name: str = "phase_wf") -> Workflow:
    """Read the echoes and prepare their phase.

    Outputs
    -------
    magnitude, phase : all echoes used; phase in rad, offset removed.
    magnitude_rss : root sum of squares over echoes.
    coherence : of the coils, where their images come uncombined.
    """
    workflow = Workflow(name=name)
    outputnode = Node(IdentityInterface(["magnitude", "phase", "magnitude_rss", "coherence"]), name="outputnode")
    of_coils = plan.run.coils is not None
    volumes = plan.run.volumes
    joins = volumes is not None and volumes.holds == "time"
    files = (
        {"units": "rad"} if of_coils or joins else {"units": _files(plan).get("units", "")} if volumes else _files(plan)
    )
    prepare = plan.node(PreparePhase(**files), "prepare", volumes=5 * plan.n_echoes + 5, threads=plan.threads)
    if of_coils:
        combine = _combine_coils(plan)
        joined = [(name, name) for name in ("magnitude_files", "phase_files")]
        workflow.connect([(combine, prepare, joined), (combine, outputnode, [("coherence", "coherence")])])
    if volumes is not None:
        apart = _take_apart(plan)
        given = PARTS[:2] if joins or not plan.run.is_complex else PARTS[2:]
        workflow.connect([(apart, prepare, [(f"{part}_files", f"{part}_files") for part in given])])
    prepare.inputs.phase_sign = plan.settings.steps["input"].phase_sign
    prepare.inputs.bipolar = plan.settings.steps["input"].bipolar
    prepare.inputs.manufacturer = plan.run.manufacturer
    prepare.inputs.slice_phase = plan.settings.steps["input"].slice_phase
    prepare.inputs.slice_axis = plan.slice_axis if plan.in_slices else -1
    prepare.inputs.echo_times = [echo.echo_time_s for echo in plan.run.echoes]
    prepare.inputs.centre_frequency = plan.centre_frequency_mhz
    text = f"Centre frequency {plan.centre_frequency_mhz:.6g} MHz: {plan.frequency_source}."
    source = Note("frequency-source", text)
    prepare.inputs.notes = [document(note) for note in (*plan.notes, source)]
    last = prepare
    method = plan.settings.method("phase-offset")
    if method != "none" and len(plan.run.echoes) > 1:
        offset = plan.method_node(
            RemovePhaseOffset(), "offset", stage="phase-offset", method=method, volumes=3 * plan.n_echoes + 12
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


def _combine_coils(plan: RunPlan) -> Node:
    """The node that combines the coils, which come in single files or along the last axis of those of the echoes."""
    coils, method = plan.run.coils, plan.settings.method("coil-combination")
    combine = CombineCoils(
        **_files(plan), n_coils=0 if coils is None else coils.count, manufacturer=plan.run.manufacturer,
        echo_times=[echo.echo_time_s for echo in plan.run.echoes], coil_options=plan.step_options("coils"),
        notes=[document(note) for note in plan.coil_notes],
    )  # fmt: skip
    return plan.method_node(
        combine, "combine_coils", stage="coil-combination", method=method, volumes=2 * plan.n_echoes + 30
    )


def _take_apart(plan: RunPlan) -> Node:
    """The node that gives one file an echo, of files that hold all echoes or a time series."""
    volumes, files = plan.run.volumes, _files(plan)
    assert volumes is not None
    if volumes.holds == "echoes":
        files.pop("units", None)
        order = [echo.number - 1 for echo in plan.run.echoes if echo.number]
        one = {name: paths[:1] for name, paths in files.items()}
        split = SplitEchoes(**one, order=order, told_by=volumes.told_by)
        return plan.node(split, "split_echoes", volumes=2)
    chosen = -1 if volumes.chosen is None else volumes.chosen
    join = JoinVolumes(**files, n_volumes=volumes.count, chosen=chosen, manufacturer=plan.run.manufacturer)
    return plan.node(join, "join_volumes", volumes=2 * plan.n_echoes + 10)


def _files(plan: RunPlan) -> dict[str, str | list[str]]:
    """Files of each part, echo by echo, and of an echo coil by coil; the unit of the phase."""
    echoes = plan.run.echoes
    parts = ("real", "imaginary") if plan.run.is_complex else ("magnitude", "phase")
    files: dict[str, str | list[str]] = {
        f"{part}_files": [str(path) for echo in echoes for path in echo.coils.get(part, (echo.files[part],))]
        for part in parts
    }
    if not plan.run.is_complex:
        files["units"] = str(echoes[0].metadata.get("phase", {}).get("Units", ""))
    return files
