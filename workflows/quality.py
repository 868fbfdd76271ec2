"""Graph of quality numbers."""

from __future__ import annotations

from collections.abc import Mapping

from nipype.pipeline.engine import Workflow

from qsmprep.engine.node import Node
from qsmprep.engine.resources import FILES_GB
from qsmprep.interfaces.quality import AssessQuality, SaveQuality
from qsmprep.presets import SLOPPY
from qsmprep.workflows.plan import RunPlan

# Input of the node -> stage and output that it comes from.
SOURCES = {
    "brain_mask": ("brain", "outputnode.mask"),
    "reliable_mask": ("masks", "outputnode.reliable_mask"),
    "background_mask": ("masks", "outputnode.background_mask"),
    "qsm_mask": ("inversion", "outputnode.mask"),
    "magnitude": ("phase", "outputnode.magnitude"),
    "phase": ("phase", "outputnode.phase"),
    "input_phase": ("phase", "prepare.phase"),
    "unwrapped": ("field", "outputnode.unwrapped"),
    "total_field_hz": ("field", "outputnode.total_field"),
    "noise_hz": ("field", "outputnode.noise"),
    "tissue_field_hz": ("background", "outputnode.local_field"),
    "chi_ppm": ("inversion", "outputnode.chi"),
    "r2star": ("relaxometry", "outputnode.r2star"),
}


def connect_quality(workflow: Workflow, stages: Mapping[str, Workflow], plan: RunPlan) -> None:
    """Add the node that computes the quality numbers of a run, and the one that writes them."""
    assess = AssessQuality(
        echo_times=list(plan.echo_times_s), centre_frequency=plan.centre_frequency_mhz, b0_direction=plan.b0,
        for_results=plan.settings.pipeline != SLOPPY,
    )  # fmt: skip
    save = SaveQuality(
        output_dir=str(plan.output_dir), prefix=plan.prefix, subject=plan.run.subject, session=plan.run.session,
        software=plan.software,
    )  # fmt: skip
    quality = plan.node(assess, "quality", volumes=4 * plan.n_echoes + 16, loaded_gb=FILES_GB)
    written = Node(save, name="save_quality", mem_gb=FILES_GB, n_procs=1)
    for name, (stage, output) in SOURCES.items():
        if stage in stages:
            workflow.connect(stages[stage], output, quality, name)
    workflow.connect(quality, "out_file", written, "in_file")
