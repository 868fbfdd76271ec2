"""A slab of a head gives the map of the head, away from where it is cut."""

import numpy as np

import qsmprep
from qsmprep.numerics.dipole import b0_direction_from_affine
from qsmprep.phantom.head import simulate_head
from qsmprep.phantom.options import SimulationOptions

VOXEL_MM = 4.0
SLAB = slice(10, 34)  # 96 mm


def test_a_slab_gives_the_map_of_the_head_away_from_its_cut_ends():
    head = simulate_head(SimulationOptions(voxel_size="4"))
    scan = qsmprep.Scan(
        (VOXEL_MM,) * 3,
        b0_direction_from_affine(head.affine),
        tuple(map(float, head.echo_times_s)),
        head.centre_frequency_mhz,
    )
    document = {"separation": {"method": "none"}, "relaxometry": {"method": "none"}}

    def reconstructed(part):
        images = (head.magnitude[..., part], head.phase[..., part])
        return qsmprep.reconstruct(*images, scan, options=document, brain=head.brain_mask[..., part])

    whole, slab = reconstructed(slice(None)), reconstructed(SLAB)
    chi, mask = whole.chi_ppm[..., SLAB], slab.masks.qsm & whole.masks.qsm[..., SLAB]
    slices = np.arange(mask.shape[2])
    from_cut_mm = VOXEL_MM * (0.5 + np.minimum(slices, slices[::-1]))

    def error(chosen):
        inside = mask & chosen
        return np.linalg.norm((slab.chi_ppm - chi)[inside]) / np.linalg.norm(chi[inside])

    assert error(from_cut_mm > 24) < 0.06
    assert error(from_cut_mm < 12) > error(from_cut_mm > 24)
    assert not mask[..., [0, -1]].any()
