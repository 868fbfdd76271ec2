"""The tissues of the simulated head: susceptibility, relaxation and water content."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RELAXOMETRIC_CONSTANT_3T = 114.0  # 1/s per ppm at 3 T; grows in proportion to B0
R2_AT_3T_OVER_7T = 0.65
PROPERTIES = ("chi_para", "chi_dia", "r2", "r2prime", "r1", "m0", "brain", "foreign", "fat")


@dataclass(frozen=True)
class Tissue:
    """One tissue.

    Attributes
    ----------
    label : index in the label map.
    name : its name in the segmentation table.
    para, dia : magnitudes of the positive and the negative susceptibility, both >= 0, ppm.
    t2_7t_ms : T2 at 7 T in ms; 0 for no signal.
    r1_3t : R1 at 3 T in 1/s.
    r1_ratio : R1 at 7 T over R1 at 3 T.
    m0 : proton density relative to water.
    fat : share of the signal that fat gives, whose frequency is lower.
    place : "brain" for what the brain mask holds, "foreign" for bone and air, else "outside".
    """

    label: int
    name: str
    para: float
    dia: float
    t2_7t_ms: float
    r1_3t: float
    r1_ratio: float
    m0: float
    place: str = "brain"
    fat: float = 0.0

    def properties(self, field_strength_t: float) -> tuple[float, ...]:
        """Values in the order of PROPERTIES at a field strength, linear between 3 T and 7 T and beyond."""
        way = (field_strength_t - 3.0) / 4.0
        r2 = 1000.0 / self.t2_7t_ms * (R2_AT_3T_OVER_7T + (1 - R2_AT_3T_OVER_7T) * way) if self.t2_7t_ms else 0.0
        strength = RELAXOMETRIC_CONSTANT_3T * field_strength_t / 3.0
        # Bone and air have no signal of which static dephasing could be seen; fat's susceptibility is no dipoles in it.
        r2prime = 0.0 if self.place == "foreign" or self.fat else strength * (self.para + self.dia)
        r1 = self.r1_3t * (1 + (self.r1_ratio - 1) * way)
        place = (self.place == "brain", self.place == "foreign")
        return (self.para, self.dia, r2, r2prime, r1, self.m0, *place, self.fat)


# fmt: off
TISSUES = {tissue.name: tissue for tissue in (
    Tissue(0, "background", 9.2, 0.0, 0.0, 1.0, 1.0, 0.0, "foreign"),
    Tissue(1, "caudate", 0.0527, 0.0087, 57.5, 0.85, 0.759, 0.80),
    Tissue(2, "globus_pallidus", 0.1437, 0.0132, 41.5, 0.85, 0.733, 0.80),
    Tissue(3, "putamen", 0.0471, 0.0091, 50.4, 0.85, 0.742, 0.80),
    Tissue(4, "red_nucleus", 0.1109, 0.0109, 44.1, 0.85, 0.65, 0.80),
    Tissue(5, "dentate_nucleus", 0.1684, 0.0164, 71.7, 0.85, 0.65, 0.80),
    Tissue(6, "substantia_nigra", 0.1224, 0.0114, 47.3, 0.85, 0.65, 0.80),
    Tissue(7, "thalamus", 0.0509, 0.0309, 56.6, 0.85, 0.739, 0.80),
    Tissue(8, "white_matter", 0.0059, 0.0359, 45.5, 1.2, 0.725, 0.70),
    Tissue(9, "grey_matter", 0.0392, 0.0192, 84.7, 0.75, 0.736, 0.82),
    Tissue(10, "ventricle", 0.0275, 0.0085, 1030.0, 0.25, 1.005, 1.0),
    Tissue(11, "vein", 0.30, 0.0, 97.5, 0.6, 0.757, 0.80),
    Tissue(12, "outer_csf", 0.0275, 0.0085, 1030.0, 0.25, 1.005, 1.0, "outside"),
    Tissue(13, "bone", 0.0, 2.1, 1.0, 1.0, 1.0, 0.10, "foreign"),
    Tissue(14, "air", 9.2, 0.0, 0.0, 1.0, 1.0, 0.0, "foreign"),
    Tissue(15, "muscle", 0.0, 0.0, 30.0, 0.7, 0.8, 0.75, "outside"),
    Tissue(16, "calcification", 0.0, 3.3, 30.0, 0.85, 0.75, 0.30),
    Tissue(17, "bleed", 1.0, 0.0, 40.0, 0.85, 0.75, 0.70),
    Tissue(18, "fat", 0.65, 0.0, 70.0, 3.3, 0.9, 0.90, "outside", 1.0),
    Tissue(19, "marrow", 0.30, 0.10, 40.0, 2.8, 0.9, 0.60, "outside", 0.6),
    Tissue(20, "skin", 0.0, 0.05, 40.0, 0.9, 0.9, 0.60, "outside"),
    Tissue(21, "vitreous", 0.0, 0.0, 900.0, 0.25, 1.0, 1.0, "outside"),
)}
# fmt: on
DEEP_GREY = (
    "caudate",
    "globus_pallidus",
    "putamen",
    "red_nucleus",
    "dentate_nucleus",
    "substantia_nigra",
    "thalamus",
)


def label_names() -> dict[int, str]:
    """Index to name of every label a simulated head may hold."""
    return {tissue.label: tissue.name for tissue in TISSUES.values()}


def property_table(names: tuple[str, ...], field_strength_t: float) -> np.ndarray:
    """(len(names), len(PROPERTIES)) float32 table of the named tissues."""
    return np.array([TISSUES[name].properties(field_strength_t) for name in names], np.float32)
