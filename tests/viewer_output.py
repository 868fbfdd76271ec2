"""An output folder with one small run, for tests of the viewer."""

import numpy as np
from PIL import Image

from qsmprep.bids.outputs import output_path, write_image

PREFIX = "sub-01_ses-2_run-1"
SHAPE = (22, 26, 20)
# Stored from left to right and from top to bottom, voxels of 4 x 4 x 5 mm, as some scanners do.
AFFINE = np.array([[4.0, 0, 0, -44], [0, 4.0, 0, -50], [0, 0, -5.0, 45], [0, 0, 0, 1]])


def head(shape=SHAPE):
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return sum(axis**2 for axis in grid) < 0.7


def make_output(root):
    """Maps of one run: every voxel of susceptibility has a value of its own."""
    inside = head()
    ramp = np.linspace(-0.2, 0.2, inside.size, dtype=np.float32).reshape(SHAPE) * inside
    for key, volume in {
        "chi": ramp,
        "para": np.clip(ramp, 0, None),
        "local_field": 20 * ramp,
        "magnitude": 100 * (1 + inside),
        "r2star": 20.0 * inside,
    }.items():
        write_image(root / output_path(key, PREFIX), volume, AFFINE)
    write_image(root / output_path("chi", PREFIX, desc="fansi-tgv"), -ramp, AFFINE)
    for key in ("brain_mask", "qsm_mask"):
        write_image(root / output_path(key, PREFIX), inside, AFFINE, mask=True)
    anat = (root / output_path("chi", PREFIX)).parent
    labels = np.where(inside, 1017, 0)
    labels[SHAPE[0] // 2 :] *= 2
    write_image(anat / f"{PREFIX}_desc-tiny_dseg.nii.gz", labels, AFFINE)
    (anat / f"{PREFIX}_desc-tiny_dseg.tsv").write_text("index\tname\n1017\t<i>Left & low</i>\n2034\tRight\n")
    (anat / f"{PREFIX}_Chimap.json").write_text('{"EstimationAlgorithm": "<script>alert(1)</script>"}')
    (anat / f"{PREFIX}_qc.json").write_text('{"verdict": "do not use"}')
    (root / "sub-01.html").write_text("<!DOCTYPE html><title>sub-01</title><p>report")
    (anat / f"{PREFIX}_desc-roi_stats.tsv").write_text(table_of(ramp, labels, inside))
    figures = root / "sub-01/ses-2/figures"
    figures.mkdir()
    Image.new("L", (40, 30), 90).save(figures / f"{PREFIX}_desc-chi_Chimap.png")
    return ramp


def table_of(ramp, labels, inside):
    """Regional values of susceptibility as a run writes them; the left region has no valid voxel."""
    right = ramp[(labels == 2034) & inside]
    numbers = f"{right.size}\t{right.size}\t0\t{right.mean():.6g}\t{right.std():.6g}"
    return (
        "segmentation\tindex\tname\tmap\tunit\tn\tn_region\texcluded_share\tmean\tsd\n"
        f"tiny\t2034\tRight\tchi\tppm\t{numbers}\n"
        "tiny\t1017\tLeft\tchi\tppm\t0\t50\t1\tn/a\tn/a\n"
        "reference\t1\twhole_brain\tchi\tppm\t9\t9\t0\t0\t0.1\n"
    )
