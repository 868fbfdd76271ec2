"""Where the default pipeline departs from the consensus paper's example: one list, for the report and the docs.

The example is SEPIA 1.2.2.4 as the paper's supporting information S2 runs it; the preset `sepia` comes nearest to it.
"""

from __future__ import annotations

from dataclasses import dataclass

from qsmprep.report.record import RecordedStep, Run
from qsmprep.stages import stage_of


@dataclass(frozen=True)
class Deviation:
    """One departure.

    Attributes
    ----------
    stage, method : where it is; no method: whatever runs there.
    example : what the paper's example does.
    here : what qsmprep does, and why.
    option : flags that bring the example's way back; empty where nothing does.
    unless : (parameter, value) of the step with which the departure is gone.
    """

    stage: str
    method: str
    example: str
    here: str
    option: str = ""
    unless: tuple[str, str] = ("", "")


# fmt: off
DEVIATIONS = (
    Deviation("phase-offset", "mcpc-3d-s",
              "MCPC-3D-S of ROMEO 3.5.6, which smooths the offset as it is",
              "its own MCPC-3D-S: a second-order trend is taken out before smoothing and put back, two passes, reliable voxels alone; otherwise the offset bends at the rim of the mask",
              "--no-mcpc-3d-s-trend --mcpc-3d-s-passes 1", ("trend", "no")),
    Deviation("mask", "bet",
              "BET of FSL on the first echo, f 0.5, g 0",
              "its own BET with the same meaning of f and g, where FSL is not installed",
              "--mask fsl-bet"),
    Deviation("unwrapping", "romeo",
              "ROMEO 3.5.6; every voxel of the brain mask is unwrapped in time",
              "its own ROMEO; voxels that are uncertain in time are unwrapped anew in space",
              "--romeo-temporal-uncertain 0"),
    Deviation("reliable-mask", "",
              "no mask 2; the paper's text: a threshold of 1/noise at its mean over the field of view, or of ROMEO's quality without a number",
              "ROMEO's quality above 0.2, then a majority vote of 3x3x3 voxels",
              "--reliable-mask-quality-threshold 0, or --reliable-mask-source noise --no-reliable-mask-majority", ("quality_threshold", "0")),
    Deviation("background", "v-sharp",
              "V-SHARP of SEPIA 1.2.2.4, which does not deconvolve",
              "the published V-SHARP, deconvolved with a threshold of 0.1: without it the slow part of the tissue field is lost, and with a smaller one (SEPIA later: 0.05) its errors grow",
              "--no-v-sharp-deconvolution", ("deconvolution", "no")),
    Deviation("background", "v-sharp",
              "radii of 12 to 1 voxels; the paper's sample paragraph: mm",
              "radii of 12 to 1 mm: 12 voxels of 2.8 mm are 34 mm, with which the cerebellum comes out dark at the end of a slab",
              "--v-sharp-radius-unit voxel", ("radius_unit", "voxel")),
    Deviation("inversion", "fansi",
              "the continuous dipole kernel",
              "the discrete one, which goes with differences of neighbouring voxels: where the slab is tilted the continuous one differs by a third from the field of voxels",
              "--fansi-kernel continuous", ("kernel", "continuous")),
    Deviation("weights", "",
              "1/noise scaled to a median of 1, outliers smoothed",
              "1/noise scaled to a mean of 1",
              "--weights-kind noise-median", ("kind", "noise-median")),
    Deviation("inversion", "fansi",
              "FANSI v3: susceptibility and harmonic field in turn",
              "the same cost, both solved together at each frequency, over-relaxed: the same minimum in fewer iterations"),
    Deviation("inversion", "fansi",
              "regularisation weights of the data weights' gradient",
              "of the magnitude's gradient",
              "--fansi-regularisation-image weights", ("regularisation_image", "weights")),
    Deviation("inversion", "fansi",
              "these weights are relative to the gradient's mean over the whole volume",
              "relative to its mean in the mask, and 1 across the mask's rim",
              "--fansi-regularisation-mean volume", ("regularisation_mean", "volume")),
    Deviation("inversion", "fansi",
              "data weights over their maximum",
              "over their 99.9th percentile, clipped: single bright vessels do not set the scale",
              "--fansi-weights-top maximum", ("weights_top", "maximum")),
    Deviation("inversion", "fansi",
              "gradients as differences of neighbours",
              "per mm; the same for voxels of 1 mm",
              "--fansi-gradient-per voxel", ("gradient_per", "voxel")),
    Deviation("inversion", "fansi", "no padding", "16 voxels of zeros on each axis", "--fansi-padding 0", ("padding", "0")),
    Deviation("inversion", "medi",
              "MEDI toolbox of 2020-01-15: Gauss-Newton and conjugate gradients",
              "alternating directions on the same cost, which reach the same value in a quarter of the transforms"),
    Deviation("inversion", "medi", "no padding", "16 voxels of zeros on each axis", "--medi-padding 0", ("padding", "0")),
)
# fmt: on


def deviations_of(run: Run) -> tuple[Deviation, ...]:
    """The departures that a run's steps have."""
    steps = [(stage_of(step.stage).name, step) for step in run.steps]
    return tuple(
        deviation
        for deviation in DEVIATIONS
        if any(stage == deviation.stage and _holds(deviation, step) for stage, step in steps)
    )


def _holds(deviation: Deviation, step: RecordedStep) -> bool:
    if deviation.method and step.method != deviation.method:
        return False
    name, value = deviation.unless
    return not any(parameter.name == name and parameter.value == value for parameter in step.parameters)
