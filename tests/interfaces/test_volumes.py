"""Images of four dimensions taken apart."""

import nibabel as nib
import numpy as np

from qsmprep.interfaces.images import copy_volume


def test_a_volume_is_copied_with_its_stored_numbers_scaling_and_place(tmp_path):
    affine = np.array([[-2.0, 0, 0.1, 5], [0, 2, 0, -7], [0.1, 0, 3, 2], [0, 0, 0, 1]])
    numbers = np.arange(5 * 4 * 3 * 2, dtype=np.int16).reshape(5, 4, 3, 2)
    image = nib.Nifti1Image(numbers, affine)
    image.set_sform(affine, 2)
    image.header.set_slope_inter(0.5, -20)
    image.to_filename(tmp_path / "echoes.nii.gz")
    copied = nib.load(copy_volume(tmp_path / "echoes.nii.gz", 1, tmp_path / "one.nii"))
    assert np.array_equal(copied.dataobj.get_unscaled(), numbers[..., 1])
    assert np.allclose(copied.get_fdata(), numbers[..., 1] * 0.5 - 20)
    assert np.allclose(copied.affine, affine, atol=1e-6)
    assert int(copied.header["sform_code"]) == 2
