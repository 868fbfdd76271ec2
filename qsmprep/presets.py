"""The pipelines that a name stands for: what differs from the defaults, as a document of a settings file."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_CONSENSUS: dict[str, Any] = {
    "coil-combination": {"method": ["auto"]},
    "phase-offset": {"method": ["mcpc-3d-s"]},
    "mask": {"method": ["auto"]},
    "unwrapping": {"method": ["romeo"]},
    "echo-combination": {"method": ["weighted"]},
    "background": {"method": ["v-sharp"]},
    "inversion": {"method": ["fansi"]},
    "relaxometry": {"method": ["auto"]},
    "r2": {"method": ["auto"]},
    "separation": {"method": ["auto"]},
    "swi": {"method": ["none"]},
}
SLOPPY = "sloppy"
PRESETS: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "consensus-fansi": _CONSENSUS,
        # SEPIA 1.2.2.4 as the paper's supporting information S2 runs it: one mask, no deconvolution, FANSI v3's units.
        "sepia": {
            **_CONSENSUS,
            "reliable-mask": {"quality_threshold": 0.0},
            "background": {"method": ["v-sharp"], "v-sharp": {"deconvolution": False, "radius_unit": "voxel"}},
            "weights": {"kind": "noise-median"},
            "inversion": {
                "method": ["fansi"],
                "fansi": {
                    "regularisation_image": "weights",
                    "regularisation_mean": "volume",
                    "weights_top": "maximum",
                    "gradient_per": "voxel",
                    "padding": 0,
                    "kernel": "continuous",
                },
            },
        },
        "consensus-medi": {**_CONSENSUS, "inversion": {"method": ["medi"]}},
        "fast": {**_CONSENSUS, "inversion": {"method": ["rts"]}, "separation": {"method": ["closed-form"]}},
        "accurate": {
            **_CONSENSUS,
            "background": {"method": ["iharperella"]},
            "background-refinement": {"passes": 1},
            "inversion": {"method": ["fansi"]},
        },
        # To see whether a dataset runs at all: every step that has a faster way takes it, and what can be left is.
        SLOPPY: {
            **_CONSENSUS,
            "mask": {"method": ["bet"]},
            "background": {"method": ["v-sharp"], "v-sharp": {"radius_step": 11.0}},
            "inversion": {"method": ["tkd"]},
            "separation": {"method": ["none"]},
            "r2": {"method": ["none"]},
            "roi": {"values": False},
        },
    }
)
DEFAULT_PIPELINE = "consensus-fansi"
