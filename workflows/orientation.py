"""Graph that joins several orientations of one head: registration to one of them, then COSMOS or STI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from nipype.interfaces.utility import IdentityInterface, Merge
from nipype.pipeline.engine import Workflow

from qsmprep.bids.outputs import TENSOR, figures_folder, output_path
from qsmprep.engine.node import Node
from qsmprep.interfaces.orientation import ChisepCosmos, Cosmos, RegisterOrientation, Sti
from qsmprep.interfaces.outputs import SaveOutput
from qsmprep.interfaces.reference import Reference
from qsmprep.interfaces.report import DrawFigure
from qsmprep.numerics.units import GYROMAGNETIC_RATIO_MHZ_PER_T
from qsmprep.report.crash import DRAWING
from qsmprep.report.figures import STYLES
from qsmprep.workflows.outputs import SOURCES
from qsmprep.workflows.plan import RunPlan
from qsmprep.workflows.report import window_node

NEEDED = {"local_field": ("background_wf", "local_field"), "mask": ("background_wf", "mask"),
          "noise": ("field_wf", "noise"), "magnitude": ("phase_wf", "magnitude_rss"),
          "brain_mask": ("brain_mask_wf", "mask")}  # fmt: skip
R2PRIME = {"r2prime": ("r2prime_wf", "r2prime")}  # for the separation of sources
STI_MAPS = ("anisotropy", *TENSOR, "offdiagonal")
PICTURES: Mapping[str, tuple[tuple[str, str, str, str], ...]] = {
    "cosmos": (("cosmos", "cosmos_reference", "chi", "Susceptibility by COSMOS"),),
    "sti": (("sti", "sti_reference", "chi", "Mean susceptibility of the tensor"),
            ("anisotropy", "sti_join", "anisotropy", "Magnetic susceptibility anisotropy")),
    "chisep-cosmos": (("paramagnetic", "chisep_cosmos_join", "para", "Paramagnetic, several orientations"),
                      ("diamagnetic", "chisep_cosmos_join", "dia", "Diamagnetic, several orientations")),
}  # fmt: skip


@dataclass(frozen=True)
class OrientationPlan:
    """The runs of a session that are joined.

    Attributes
    ----------
    prefix : stem of the output names.
    runs : plans of the runs, the reference first.
    methods : cosmos, sti, chisep-cosmos.
    """

    prefix: str
    runs: tuple[RunPlan, ...]
    methods: tuple[str, ...]

    @property
    def name(self) -> str:
        """A name that nipype accepts for the graph; no run bears it."""
        return self.prefix.replace("-", "_") + "_orientations"

    @property
    def needed(self) -> Mapping[str, tuple[str, str]]:
        """What the graph takes of each run: name -> stage and output."""
        return {**NEEDED, **R2PRIME} if "chisep-cosmos" in self.methods else NEEDED

    @property
    def title(self) -> str:
        """What records and messages call it."""
        return f"{self.prefix}_orientations"


def connect_orientations(workflow: Workflow, plan: OrientationPlan, graphs: Mapping[str, Workflow]) -> None:
    """Add the graph of a session's orientations to the graphs of its runs, by name of the run's plan."""
    joined = init_orientation_wf(plan=plan)
    for number, run in enumerate(plan.runs):
        fields = [(f"{stage}.outputnode.{output}", f"inputnode.{name}_{number}")
                  for name, (stage, output) in plan.needed.items()]  # fmt: skip
        workflow.connect([(graphs[run.name], joined, fields)])


def init_orientation_wf(*, plan: OrientationPlan) -> Workflow:
    """Tissue fields of several orientations to joint maps, written under their names.

    Inputs
    ------
    local_field_i, mask_i, noise_i, magnitude_i, brain_mask_i : of run i; run 0 is the reference.
    """
    workflow = Workflow(name=plan.name)
    first, count = plan.runs[0], len(plan.runs)
    inputnode = Node(IdentityInterface([f"{name}_{i}" for name in plan.needed for i in range(count)]), name="inputnode")
    extra = [name for name in R2PRIME if name in plan.needed]
    merged = {
        name: Node(Merge(count), name=f"all_{name}") for name in ("local_field", "mask", "noise", "transform", *extra)
    }
    options = first.settings.steps["orientation"]
    for i, run in enumerate(plan.runs):
        register = RegisterOrientation(
            centre_frequency=run.centre_frequency_mhz,
            b0_direction=run.b0,
            label=run.prefix,
            is_reference=i == 0,
            smallest_correlation=options.smallest_correlation,
        )
        node = run.node(register, f"register_{i}", volumes=16)
        own = [(f"{name}_{i}", name) for name in ("local_field", "mask", "noise", "magnitude", *extra)]
        workflow.connect(
            [(inputnode, node, [*own, ("magnitude_0", "reference_magnitude"),
                                ("brain_mask_0", "reference_mask")])]
        )  # fmt: skip
        workflow.connect([(node, merge, [(name, f"in{i + 1}")]) for name, merge in merged.items()])
    if "cosmos" in plan.methods:
        join = _joining(workflow, Cosmos(), "cosmos", plan, merged)
        reference = _reference(workflow, join, "chi", "cosmos", plan)
        _save(workflow, reference, "chi", "cosmos", plan)
        _save(workflow, join, "mask", "cosmos_mask", plan)
    if "sti" in plan.methods:
        join = _joining(workflow, Sti(), "sti", plan, merged)
        reference = _reference(workflow, join, "mean", "sti", plan)
        _save(workflow, reference, "chi", "sti", plan)
        for name in STI_MAPS:
            _save(workflow, join, name, name, plan)
        _save(workflow, join, "mask", "sti_mask", plan)
    if "chisep-cosmos" in plan.methods:
        strength = first.centre_frequency_mhz / GYROMAGNETIC_RATIO_MHZ_PER_T
        interface = ChisepCosmos(field_strength=strength, relaxometric=first.step_options("relaxometric"))
        join = _joining(workflow, interface, "chisep-cosmos", plan, merged)
        for name in SOURCES:
            _save(workflow, join, name, name, plan)
    _draw(workflow, plan)
    return workflow


def _draw(workflow: Workflow, plan: OrientationPlan) -> None:
    """Draw the pictures, those of a method in one window."""
    first = plan.runs[0]
    windows: dict[str, Node] = {}
    for label, source, output, title in pictures_of(plan):
        style, method = "source" if output in SOURCES else "chi", method_of(source)
        file = str(first.output_dir / figures_folder(plan.prefix) / figure_file(plan, label))
        node = first.node(
            DrawFigure(out_file=file, display={**STYLES[style], "title": title, "thumbnail": style == "chi"}),
            f"{DRAWING}{label}",
            volumes=5,
        )
        image, mask = workflow.get_node(source), workflow.get_node(f"{source.rpartition('_')[0]}_join")
        workflow.connect([(image, node, [(output, "in_file")]), (mask, node, [("mask", "mask")])])
        if method in windows:
            workflow.connect([(image, windows[method], [(output, "other_file")])])
        else:
            windows[method] = window_node(first, f"window_{method.replace('-', '_')}", style=style, label=method)
            workflow.connect(
                [(image, windows[method], [(output, "in_file")]), (mask, windows[method], [("mask", "mask")])]
            )
        workflow.connect([(windows[method], node, [("window", "window")])])


def method_of(source: str) -> str:
    """The method that a node belongs to.

    >>> method_of("chisep_cosmos_join")
    'chisep-cosmos'
    """
    return source.rpartition("_")[0].replace("_", "-")


def pictures_of(plan: OrientationPlan) -> list[tuple[str, str, str, str]]:
    """Name, node, output and title of each picture."""
    return [picture for method in plan.methods for picture in PICTURES[method]]


def figure_file(plan: OrientationPlan, label: str) -> str:
    """File name of a picture."""
    return f"{plan.prefix}_desc-{label}_Chimap.png"


def _joining(workflow: Workflow, interface, method: str, plan: OrientationPlan, merged: Mapping[str, Node]) -> Node:
    first, settings = plan.runs[0], plan.runs[0].settings
    interface.inputs.trait_set(
        options=asdict(settings.steps[method]), weighting=settings.steps["orientation"].weighting, device=first.device
    )
    volumes = (8 if method == "cosmos" else 16) * len(plan.runs) + 40
    node = first.node(interface, f"{method.replace('-', '_')}_join", volumes=volumes, threads=first.threads)
    wanted = [name for name in merged if name not in R2PRIME or method == "chisep-cosmos"]
    workflow.connect([(merged[name], node, [("out", f"{name}s")]) for name in wanted])
    return node


def _reference(workflow: Workflow, join: Node, output: str, method: str, plan: OrientationPlan) -> Node:
    first = plan.runs[0]
    reference = Reference(options={"region": first.settings.steps["reference"].main}, label=method, joint=True)
    node = first.node(reference, f"{method}_reference", volumes=4)
    workflow.connect([(join, node, [(output, "chi"), ("mask", "mask")])])
    return node


def _save(workflow: Workflow, source: Node, output: str, key: str, plan: OrientationPlan) -> None:
    """Write one map; its parents are the fields, masks and magnitudes of all runs."""
    first = plan.runs[0]
    parents: tuple[str, ...] = ("qsm_mask",) if key.endswith("_mask") else ("local_field", "qsm_mask", "magnitude")
    parents += ("r2star",) if key in SOURCES else ()
    sources = [f"bids::{output_path(parent, run.prefix).as_posix()}" for run in plan.runs for parent in parents]
    save = SaveOutput(
        key=key, output_dir=str(first.output_dir), prefix=plan.prefix, sources=sources, software=first.software
    )
    node = first.node(save, f"save_{key}", volumes=4)
    workflow.connect([(source, node, [(output, "in_file")])])
