"""The steps that can be run by themselves on files: which node does each, and what it takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

# Image that a step takes -> what it is. The names are those of the nodes' inputs.
IMAGES: Mapping[str, str] = MappingProxyType(
    {
        "phase": "wrapped phase of the echoes [rad]",
        "unwrapped": "unwrapped phase of the echoes [rad]",
        "magnitude": "magnitude of the echoes",
        "magnitude_rss": "root sum of squares of the magnitude over the echoes",
        "image": "magnitude image of the head, as that of the first echo",
        "mask": "mask in which the step works",
        "total_field": "total field",
        "total_mask": "mask in which the total field is valid",
        "local_field": "tissue field",
        "noise": "noise of the total field",
        "weights": "data weights, at most 1 (default: one everywhere)",
        "residual": "relative residual of the signal model",
        "r2star": "R2* [1/s]",
        "r2prime": "R2' [1/s]",
        "chi": "susceptibility [ppm]",
        "chi_mask": "mask in which susceptibility is valid (default: that of --mask)",
    }
)
FIELDS = ("total_field", "local_field", "noise")  # images in the unit of --unit
OF_ECHOES = ("phase", "unwrapped", "magnitude")  # several files, or the fourth axis of one


@dataclass(frozen=True)
class SingleStep:
    """A step by itself.

    Attributes
    ----------
    text : what it does, for the help.
    node : module and class of the node.
    needs, takes : images of `IMAGES` that must and that may be given.
    gives : output of the node -> its unit; "" for a mask, None for what has none. The first is the main one.
    stage : of the registry; "" where the step has no methods.
    method : the default.
    without : methods that cannot be run by this step alone.
    traits : image -> input of the node, where they differ.
    section : step of the settings whose options it has, where it has no methods.
    """

    text: str
    node: str
    needs: tuple[str, ...]
    takes: tuple[str, ...]
    gives: Mapping[str, str | None]
    stage: str = ""
    method: str = ""
    without: tuple[str, ...] = ()
    traits: Mapping[str, str] = field(default_factory=dict)
    section: str = ""

    def outputs(self, main: Path) -> list[Path]:
        """The images that it writes: the main one, and those of its further results beside it."""
        stem = main.name.removesuffix(".gz").removesuffix(".nii")
        further = [main.with_name(f"{stem}_{name.replace('_', '')}.nii.gz") for name in list(self.gives)[1:]]
        return [main, *further]


_INVERSION = ("local_field", "mask", "total_field", "total_mask", "phase", "magnitude", "weights", "noise", "residual",
              "magnitude_rss", "r2star")  # fmt: skip
_SEPARATION = ("chi_mask", "local_field", "r2star", "weights", "residual", "magnitude_rss", "magnitude")
STEPS: Mapping[str, SingleStep] = MappingProxyType(
    {
        "phase-offset": SingleStep(
            "remove the part of the phase that does not grow with echo time", "phase.RemovePhaseOffset",
            ("phase", "magnitude"), (), {"phase": "rad"}, "phase-offset", "mcpc-3d-s",
        ),
        "unwrapping": SingleStep(
            "unwrap the phase", "unwrap.Unwrap",
            ("phase",), ("magnitude", "mask"), {"unwrapped": "rad", "quality": None}, "unwrapping", "romeo",
        ),
        "field": SingleStep(
            "combine the unwrapped phase of the echoes to the total field", "field.CombineEchoes",
            ("unwrapped", "magnitude"), ("mask",), {"field": "Hz", "noise": "Hz"}, "echo-combination", "weighted",
            without=("nonlinear-fit",), traits={"unwrapped": "phase"},
        ),
        "mask": SingleStep(
            "find the brain", "masking.ExtractBrain", ("image",), ("magnitude",), {"mask": ""}, "mask", "bet",
        ),
        "background": SingleStep(
            "remove the background field", "background.RemoveBackground",
            ("total_field", "mask"), ("noise",), {"local_field": "Hz", "mask": ""}, "background", "v-sharp",
        ),
        "inversion": SingleStep(
            "map susceptibility, where no region is zero yet (see reference)", "inversion.Invert",
            (), _INVERSION, {"chi": "ppm", "mask": ""}, "inversion", "fansi",
        ),
        "reference": SingleStep(
            "set where susceptibility is zero", "reference.Reference", ("chi", "mask"), ("r2star",), {"chi": "ppm"},
            section="reference",
        ),
        "relaxometry": SingleStep(
            "fit the decay of the magnitude", "relaxometry.FitRelaxation", ("magnitude",), ("mask",),
            {"r2star": "1/s", "t2star": "s", "s0": None, "misfit": None}, "relaxometry", "arlo",
        ),
        "separation": SingleStep(
            "separate para- and diamagnetic susceptibility", "separation.Separate",
            ("chi", "mask", "r2prime"), _SEPARATION, {"para": "ppm", "dia": "ppm", "mask": ""}, "separation",
            "closed-form", without=("decompose",),
        ),
    }
)  # fmt: skip
