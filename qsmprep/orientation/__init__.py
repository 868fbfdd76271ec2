"""Several orientations of the head in the magnet: rigid registration, COSMOS, susceptibility tensor imaging."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.findings import Warning
from qsmprep.numerics.convergence import Convergence
from qsmprep.rooms import make_room

make_room(__name__, Orientations="inputs")


@dataclass(frozen=True)
class OrientationMap:
    """What COSMOS makes.

    Attributes
    ----------
    chi_ppm : (n0, n1, n2) float32, susceptibility in ppm, 0 outside the mask.
    mask : (n0, n1, n2) bool, where it is valid.
    condition : condition number of the directions of B0, see `qsmprep.orientation.directions`.
    convergence : how the solver ended.
    warnings : what the reader should worry about.
    """

    chi_ppm: np.ndarray
    mask: np.ndarray
    condition: float
    convergence: Convergence
    warnings: tuple[Warning, ...] = ()


@dataclass(frozen=True)
class TensorMaps:
    """What susceptibility tensor imaging makes; every image float32 (n0, n1, n2), 0 outside the mask.

    Attributes
    ----------
    tensor_ppm : (6, n0, n1, n2) components 11, 22, 33, 12, 13, 23 in voxel axes, ppm.
    mean_ppm : a third of the trace.
    anisotropy_ppm : magnetic susceptibility anisotropy, the largest eigenvalue less the mean of the other two.
    chi11_ppm, chi22_ppm, chi33_ppm, chi12_ppm, chi13_ppm, chi23_ppm : components in the laboratory frame, whose third
        axis is B0.
    laboratory_axes : (3, 3) rows: x, y, z of that frame as unit vectors in voxel axes.
    offdiagonal_ppm : field of chi13 and chi23, in ppm; the whole field is that of chi33 as a scalar plus this.
    mask : bool, where they are valid.
    condition : condition number of the directions of B0, see `qsmprep.orientation.directions`.
    convergence : how the solver ended.
    warnings : what the reader should worry about.
    """

    tensor_ppm: np.ndarray
    mean_ppm: np.ndarray
    anisotropy_ppm: np.ndarray
    chi11_ppm: np.ndarray
    chi22_ppm: np.ndarray
    chi33_ppm: np.ndarray
    chi12_ppm: np.ndarray
    chi13_ppm: np.ndarray
    chi23_ppm: np.ndarray
    offdiagonal_ppm: np.ndarray
    laboratory_axes: np.ndarray
    mask: np.ndarray
    condition: float
    convergence: Convergence
    warnings: tuple[Warning, ...] = ()
