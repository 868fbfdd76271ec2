"""The ventricles' fluid is found by its low R2*, noise or not, and the sulci's is not."""

import numpy as np
import pytest

from qsmprep.masking.ventricles import MINIMUM_VOXELS, csf_mask, enough_csf
from qsmprep.phantom.head import simulate_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.relaxometry.arlo import arlo

SCANS = {
    "thin slices": SimulationOptions(voxel_size="2,2,1"),
    "tilted": SimulationOptions(voxel_size="2", tilt_x=20.0, variation=0.05, seed=3, peak_snr=50.0),
}


@pytest.fixture(scope="module", params=list(SCANS))
def scan(request):
    """A simulated head and R2* as a scanner's noise leaves it, sulcal fluid included."""
    head = simulate_head(SCANS[request.param])
    mask = head.brain_mask | head.region("outer_csf")
    return head, arlo(head.magnitude, echo_times_s=head.echo_times_s, mask=mask).r2star


def test_finds_the_ventricles(scan):
    head, r2star = scan
    found = csf_mask(r2star, head.brain_mask, voxel_size_mm=head.voxel_size_mm)
    truth = head.region("ventricle") & head.brain_mask
    overlap = np.count_nonzero(found & truth)
    assert 2 * overlap / (np.count_nonzero(found) + np.count_nonzero(truth)) > 0.8
    assert overlap > 0.95 * np.count_nonzero(found)
    assert enough_csf(found) is found


def test_leaves_the_fluid_of_the_sulci_out(scan):
    head, r2star = scan
    sulci = head.region("outer_csf")
    found = csf_mask(r2star, head.brain_mask | sulci, voxel_size_mm=head.voxel_size_mm)
    assert found.any() and not np.any(found & sulci)


def uniform_tissue(shape=(48, 48, 48), rate=18.0):
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    mask = sum((x - (n - 1) / 2) ** 2 for x, n in zip(axes, shape, strict=True)) < 22**2
    return np.where(mask, np.float32(rate), 0), mask


def test_tissue_alone_has_no_fluid_and_is_refused_with_number_and_remedy():
    r2star, mask = uniform_tissue()
    found = csf_mask(r2star, mask, voxel_size_mm=(2, 2, 2))
    assert not found.any() and found.dtype == bool
    with pytest.raises(ValueError, match=r"Only 0 voxels .* raise the R2\*"):
        enough_csf(found)
    found[0, 0, : MINIMUM_VOXELS - 1] = True
    with pytest.raises(ValueError, match=f"Only {np.count_nonzero(found)} voxels"):
        enough_csf(found)


def test_keeps_the_three_largest_pieces_and_unknown_voxels_are_no_fluid():
    r2star, mask = uniform_tissue()
    boxes = [((12, 20, 20), 8), ((28, 20, 20), 7), ((20, 30, 20), 6), ((20, 14, 30), 4)]
    for (a, b, c), size in boxes:
        r2star[a : a + size, b : b + size, c : c + size] = 2
    found = csf_mask(r2star, mask, voxel_size_mm=(1, 1, 1))
    assert [bool(found[a + 2, b + 2, c + 2]) for (a, b, c), _ in boxes] == [True, True, True, False]
    for unknown in (0, np.nan, -1):
        blank = np.where(r2star == 2, unknown, r2star)
        assert not csf_mask(blank, mask, voxel_size_mm=(1, 1, 1)).any()


def test_order_of_the_axes_does_not_matter():
    r2star, mask = uniform_tissue()
    r2star[16:24, 20:25, 14:30] = 3
    found = csf_mask(r2star, mask, voxel_size_mm=(1, 1.5, 2))
    turned = csf_mask(r2star.transpose(2, 0, 1), mask.transpose(2, 0, 1), voxel_size_mm=(2, 1, 1.5))
    assert found.any() and np.array_equal(turned, found.transpose(2, 0, 1))


def test_a_mask_that_fills_the_volume_has_no_surface():
    r2star = np.full((24, 24, 24), 18, np.float32)
    r2star[8:16, 8:16, 8:16] = 2
    assert np.count_nonzero(csf_mask(r2star, np.ones(r2star.shape), voxel_size_mm=(1, 1, 1))) > 300


def test_wrong_input_is_refused():
    r2star, mask = uniform_tissue((8, 8, 8))
    with pytest.raises(ValueError, match="one shape"):
        csf_mask(r2star[1:], mask, voxel_size_mm=(1, 1, 1))
    with pytest.raises(ValueError, match="mask is empty"):
        csf_mask(r2star, mask & False, voxel_size_mm=(1, 1, 1))
    with pytest.raises(ValueError, match="must be positive"):
        csf_mask(r2star, mask, voxel_size_mm=(1, 1, 1), largest_r2star=0)
