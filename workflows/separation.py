"""Graph of source separation."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Workflow

from qsmprep import registry
from qsmprep.engine.node import Node
from qsmprep.interfaces.separation import IMAGES, EchoSusceptibility, Separate
from qsmprep.workflows.memory import volumes_of
from qsmprep.workflows.plan import RunPlan

INPUTS = ["chi", "chi_mask", "mask", "total_mask", "local_field", "r2prime", "r2star", "weights", "residual",
          "magnitude_rss", "magnitude", "unwrapped"]  # fmt: skip


def separates(plan: RunPlan) -> bool:
    """Whether sources are separated."""
    return plan.settings.method("separation") != "none"


def images_of(method: str) -> tuple[str, ...]:
    """Inputs of `Separate` that hold the images a separation takes."""
    parameters = registry.find("separation", method).inputs()
    return tuple(image for name, image in IMAGES.items() if name in parameters)


def init_separation_wf(*, plan: RunPlan, name: str = "separation_wf") -> Workflow:
    """Susceptibility, field and R2' to both sources.

    Inputs
    ------
    chi, chi_mask : referenced susceptibility in ppm of the main inversion, and where it is valid.
    mask, total_mask : consensus masks 4 and 3.
    local_field : in Hz.
    r2prime, r2star : in 1/s.
    weights, residual : of the inversion.
    magnitude_rss, magnitude : root sum of squares of the echoes, and all of them.
    unwrapped : phase of the echoes in rad.

    Outputs
    -------
    para, dia : in ppm, both >= 0.
    mask : where they are valid.
    """
    workflow = Workflow(name=name)
    method = plan.settings.method("separation")
    inputnode = Node(IdentityInterface(INPUTS), name="inputnode")
    outputnode = Node(IdentityInterface(["para", "dia", "mask"]), name="outputnode")
    interface = Separate(
        echo_times=list(plan.echo_times_s), centre_frequency=plan.centre_frequency_mhz, b0_direction=plan.b0,
        relaxometric=plan.step_options("relaxometric"), source=plan.step_options("source"),
    )  # fmt: skip
    volumes = volumes_of("separation", method)
    separate = plan.method_node(interface, "separate", stage="separation", method=method, volumes=volumes)
    wanted = images_of(method)
    direct = [(image, image) for image in wanted if image not in ("echo_chi", "r2prime")]
    always = [(image, image) for image in ("chi", "chi_mask", "mask", "r2prime")]
    workflow.connect([(inputnode, separate, [*always, *direct])])
    if "echo_chi" in wanted:
        removal = plan.settings.method("background")
        echoes = EchoSusceptibility(
            echo_times=list(plan.echo_times_s), centre_frequency=plan.centre_frequency_mhz, b0_direction=plan.b0,
            background=removal, background_options=plan.options("background", removal), device=plan.device,
        )  # fmt: skip
        invert = plan.node(echoes, "invert_echoes", volumes=2 * plan.n_echoes + 40, threads=plan.threads)
        workflow.connect([(inputnode, invert, [("unwrapped", "unwrapped"), ("total_mask", "mask")])])
        workflow.connect([(invert, separate, [("chi", "echo_chi")])])
    workflow.connect([(separate, outputnode, [("para", "para"), ("dia", "dia"), ("mask", "mask")])])
    return workflow
