"""Opening images: what nibabel remarks about a header is told with the file's name, once."""

import logging
import struct

import nibabel as nib
import numpy as np
import pytest

from qsmprep.bids.images import open_image
from qsmprep.bids.segmentation import read_labels


@pytest.fixture
def odd_header(tmp_path):
    """An image whose header gives its own size wrongly, which nibabel mends and remarks."""
    path = tmp_path / "odd.nii"
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[:4] = struct.pack("<i", 349)
    path.write_bytes(content)
    return path


def test_a_remark_about_a_header_names_the_file_once(odd_header, caplog):
    with caplog.at_level(logging.WARNING):
        open_image(odd_header)
        open_image(odd_header)
    assert [record.name for record in caplog.records] == ["qsmprep"]
    assert caplog.records[0].getMessage().startswith(f"{odd_header}: its header")
    assert "sizeof_hdr" in caplog.records[0].getMessage()


def test_nan_of_a_label_image_is_outside(tmp_path):
    labels = np.full((4, 4, 4), np.nan, np.float32)
    labels[1:3, 1:3, 1:3] = 5
    path = tmp_path / "labels.nii.gz"
    nib.save(nib.Nifti1Image(labels, np.eye(4)), path)
    assert set(np.unique(read_labels(path).labels)) == {0, 5}
    labels[1, 1, 1] = 4.5
    nib.save(nib.Nifti1Image(labels, np.eye(4)), path)
    with pytest.raises(ValueError, match=r"4\.5 is no label"):
        read_labels(path)
