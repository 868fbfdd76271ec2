"""Names of FreeSurfer's labels, which FastSurfer and SynthSeg share: what aseg and the Desikan-Killiany cortex need."""

from __future__ import annotations

_BOTH_SIDES = {  # left, right
    "Cerebral-White-Matter": (2, 41),
    "Cerebral-Cortex": (3, 42),
    "Lateral-Ventricle": (4, 43),
    "Inf-Lat-Vent": (5, 44),
    "Cerebellum-White-Matter": (7, 46),
    "Cerebellum-Cortex": (8, 47),
    "Thalamus": (10, 49),
    "Caudate": (11, 50),
    "Putamen": (12, 51),
    "Pallidum": (13, 52),
    "Hippocampus": (17, 53),
    "Amygdala": (18, 54),
    "Accumbens-area": (26, 58),
    "VentralDC": (28, 60),
    "vessel": (30, 62),
    "choroid-plexus": (31, 63),
}
_MIDLINE = {
    14: "3rd-Ventricle", 15: "4th-Ventricle", 16: "Brain-Stem", 24: "CSF", 72: "5th-Ventricle",
    77: "WM-hypointensities", 78: "Left-WM-hypointensities", 79: "Right-WM-hypointensities",
    80: "non-WM-hypointensities", 85: "Optic-Chiasm",
    251: "CC_Posterior", 252: "CC_Mid_Posterior", 253: "CC_Central", 254: "CC_Mid_Anterior", 255: "CC_Anterior",
}  # fmt: skip
# Cortical areas by their number above 1000 (left) and 2000 (right).
_CORTEX = {
    1: "bankssts", 2: "caudalanteriorcingulate", 3: "caudalmiddlefrontal", 5: "cuneus", 6: "entorhinal", 7: "fusiform",
    8: "inferiorparietal", 9: "inferiortemporal", 10: "isthmuscingulate", 11: "lateraloccipital",
    12: "lateralorbitofrontal", 13: "lingual", 14: "medialorbitofrontal", 15: "middletemporal", 16: "parahippocampal",
    17: "paracentral", 18: "parsopercularis", 19: "parsorbitalis", 20: "parstriangularis", 21: "pericalcarine",
    22: "postcentral", 23: "posteriorcingulate", 24: "precentral", 25: "precuneus", 26: "rostralanteriorcingulate",
    27: "rostralmiddlefrontal", 28: "superiorfrontal", 29: "superiorparietal", 30: "superiortemporal",
    31: "supramarginal", 32: "frontalpole", 33: "temporalpole", 34: "transversetemporal", 35: "insula",
}  # fmt: skip

LABEL_NAMES: dict[int, str] = dict(
    sorted(
        {
            **_MIDLINE,
            **{left: f"Left-{name}" for name, (left, _) in _BOTH_SIDES.items()},
            **{right: f"Right-{name}" for name, (_, right) in _BOTH_SIDES.items()},
            **{1000 + number: f"ctx-lh-{name}" for number, name in _CORTEX.items()},
            **{2000 + number: f"ctx-rh-{name}" for number, name in _CORTEX.items()},
        }.items()
    )
)
