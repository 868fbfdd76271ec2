import io
import math

import numpy as np
import pytest
from PIL import Image

from qsmprep.report.figures import CHI_WINDOW_PPM, STYLES, mosaic, mosaic_figure, save_mosaic, window_limits
from qsmprep.report.montage import PLANES, outline, plan
from qsmprep.report.window import widened

SHAPE_MM = (24, 30, 20)  # right-left, front-back, top-bottom: told apart by length


def head(axcodes, spacing=(1.0, 1.0, 1.0), marker=None):
    """A box stored with the given voxel axes; the marker counts voxels from the left, the back, the bottom."""
    import nibabel as nib

    shape = tuple(round(mm / s) for mm, s in zip(SHAPE_MM, spacing, strict=True))
    volume = np.zeros(shape, np.float32)
    if marker:
        volume[marker] = 1
    image = nib.Nifti1Image(volume, np.diag([*spacing, 1.0]))
    target = nib.orientations.axcodes2ornt(axcodes)
    turned = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), target))
    assert "".join(nib.aff2axcodes(turned.affine)) == axcodes
    return np.ascontiguousarray(turned.get_fdata(dtype=np.float32)), turned.affine


def bright_tile(layout, volume, plane):
    """Centre of the bright spot in the first tile of a plane that shows it, as shares of the tile from left and top."""
    picture = layout.draw(volume)
    for tile in layout.tiles:
        if tile.plane.name == plane:
            window = picture[tile.row : tile.row + tile.height, tile.column : tile.column + tile.width]
            if window.any():
                rows, columns = np.nonzero(window)
                return (columns.mean() + 0.5) / tile.width, (rows.mean() + 0.5) / tile.height
    raise AssertionError(f"no {plane} slice shows the marker")


def marked(layout, plane):
    """A slice index through which the plane's middle tile goes."""
    tiles = [tile for tile in layout.tiles if tile.plane.name == plane]
    return tiles[len(tiles) // 2].index


@pytest.mark.parametrize("axcodes", ["RAS", "LAS", "LPS", "PSR", "SAL", "ARI"])
def test_patient_left_and_top_stay_left_and_top_for_any_voxel_order(axcodes):
    empty, affine = head(axcodes)
    layout = plan(empty.shape, affine)
    y, z = marked(layout, "coronal"), marked(layout, "axial")
    left_top, affine = head(axcodes, marker=(2, y, 17))
    across, down = bright_tile(plan(left_top.shape, affine), left_top, "coronal")
    assert across > 0.8 and down < 0.2, "patient's left is on the right of the picture, the top above"
    across, _ = bright_tile(plan(left_top.shape, affine, convention="neurological"), left_top, "coronal")
    assert across < 0.2

    left_front, affine = head(axcodes, marker=(2, 27, z))
    across, down = bright_tile(plan(left_front.shape, affine), left_front, "axial")
    assert across > 0.8 and down < 0.2, "the front is above in an axial slice"


@pytest.mark.parametrize("axcodes", ["RAS", "PSR"])
def test_front_is_on_the_left_of_a_sagittal_slice(axcodes):
    empty, affine = head(axcodes)
    x = marked(plan(empty.shape, affine), "sagittal")
    front_top, affine = head(axcodes, marker=(x, 27, 17))
    across, down = bright_tile(plan(front_top.shape, affine), front_top, "sagittal")
    assert across < 0.2 and down < 0.2


def test_letters_agree_with_the_convention():
    _, affine = head("LPS")
    radiological = {row.plane.name: (row.left, row.right) for row in plan(SHAPE_MM, affine).rows}
    neurological = {
        row.plane.name: (row.left, row.right) for row in plan(SHAPE_MM, affine, convention="neurological").rows
    }
    assert radiological == {"axial": ("R", "L"), "coronal": ("R", "L"), "sagittal": ("A", "P")}
    assert neurological["axial"] == ("L", "R")


def test_anisotropic_voxels_keep_their_shape():
    volume, affine = head("RAS", spacing=(1.0, 1.0, 4.0))
    layout = plan(volume.shape, affine)
    for tile in layout.tiles:
        expected = SHAPE_MM[tile.plane.across] / SHAPE_MM[tile.plane.down]
        assert tile.width / tile.height == pytest.approx(expected, rel=0.02)


def test_only_measured_values_are_shown():
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(20, 24, 9)).astype(np.float32)
    layout = plan(volume.shape, np.diag([1.0, 0.7, 2.6, 1]))
    picture = layout.draw(volume, fill=np.nan)
    assert np.isin(picture[np.isfinite(picture)], volume).all()


def test_the_box_of_the_mask_is_shown():
    mask = np.zeros((60, 60, 60), bool)
    mask[30:50, 10:40, 20:30] = True
    layout = plan(mask.shape, np.eye(4), region=mask)
    for tile in layout.tiles:
        assert (30 - 6, 10 - 6, 20 - 6)[tile.plane.through] <= tile.index < (50 + 6, 40 + 6, 30 + 6)[tile.plane.through]


def test_susceptibility_is_shown_in_the_window_of_the_consensus():
    chi = np.linspace(-1, 1, 1000, dtype=np.float32).reshape(10, 10, 10)
    figure = mosaic_figure(chi, np.eye(4), mask=np.ones(chi.shape, bool), **STYLES["chi"])
    assert CHI_WINDOW_PPM == (-0.2, 0.2)
    picture, bar = figure.axes
    assert bar.get_ylim() == (-0.2, 0.2)
    assert STYLES["chi"]["cmap"] == "gray"
    shown = picture.images[0].get_array()
    layout = plan(chi.shape, np.eye(4))
    values = layout.draw(chi, fill=np.nan)
    inside = np.abs(values) < 0.19
    linear = (values[inside] + 0.2) / 0.4 * 255
    assert np.abs(shown[inside][:, 0].astype(float) - linear).max() < 2  # levels of grey
    assert (shown[values > 0.2] == 255).all() and (shown[values < -0.2] == 0).all()


def test_an_automatic_window_is_that_of_the_consensus_until_an_area_saturates():
    mask = np.ones((24, 24, 24), bool)
    chi = np.random.default_rng(0).normal(0, 0.05, mask.shape).astype(np.float32)
    chi[3, 3, :] = 1.5  # a vessel of one voxel
    assert widened(CHI_WINDOW_PPM, [chi], mask) == CHI_WINDOW_PPM
    chi[10:16, 10:16, 10:16] = 0.42  # a bleed
    assert widened(CHI_WINDOW_PPM, [chi], mask) == (-0.45, 0.45)
    assert widened(CHI_WINDOW_PPM, [chi * 0, -chi], mask) == (-0.45, 0.45)
    assert widened((0.0, 0.1), [chi.clip(0), -chi.clip(max=0)], mask) == (0.0, 0.45)
    assert widened(CHI_WINDOW_PPM, [chi], np.zeros_like(mask)) == CHI_WINDOW_PPM
    outside = mask.copy()
    outside[9:17, 9:17, 9:17] = False
    assert widened(CHI_WINDOW_PPM, [chi], outside) == CHI_WINDOW_PPM


def test_outside_of_the_mask_and_not_a_number_are_black():
    volume = np.ones((12, 12, 12), np.float32)
    mask = np.zeros(volume.shape, bool)
    mask[3:9, 3:9, 3:9] = True
    volume[5, 5, 5] = np.nan
    shown = mosaic_figure(volume, np.eye(4), mask=mask, window=(0, 1)).axes[0].images[0].get_array()
    drawn = plan(volume.shape, np.eye(4), region=mask).draw(mask & np.isfinite(volume))
    assert (shown[drawn] == 255).all() and (shown[~drawn] == 0).all()


def test_windows():
    values = np.append(np.linspace(-2, 4, 6001), [np.nan, np.inf, 1e9]).astype(np.float32).reshape(-1, 1, 1)
    low, high = window_limits(values, None, "symmetric")
    assert low == -high and 3.5 < high < 4.1
    assert window_limits(values, None, "positive")[0] == 0
    assert window_limits(np.zeros((4, 4, 4)), None, None) == (-0.5, 0.5)
    assert window_limits(np.full((4, 4, 4), np.nan), None, "symmetric") == (0, 1)
    assert STYLES["phase"]["window"] == (-math.pi, math.pi)
    assert STYLES["quality"]["window"] == (0, 1)
    with pytest.raises(ValueError, match="empty"):
        window_limits(values, None, (1, 1))
    with pytest.raises(ValueError, match="Unknown window"):
        window_limits(values, None, "wide")


def test_outlines_differ_in_colour_and_none_hides_another():
    mask = np.zeros((40, 40, 40), bool)
    mask[8:32, 8:32, 8:32] = True
    smaller = np.zeros_like(mask)
    smaller[14:26, 14:26, 14:26] = True
    figure = mosaic_figure(
        mask.astype(np.float32), np.eye(4), contours=[("brain", mask), ("same", mask), ("inner", smaller)]
    )
    shown = figure.axes[0].images[0].get_array().reshape(-1, 3)
    coloured = {tuple(pixel) for pixel in np.unique(shown, axis=0) if len(set(pixel)) > 1}
    assert len(coloured) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["brain", "same", "inner"]


def test_outline_is_the_edge():
    area = np.zeros((9, 9), bool)
    area[2:7, 2:7] = True
    edge = outline(area)
    assert edge.sum() == 16 and not edge[3:6, 3:6].any()


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 40, 2), (160, 12, 1)])
def test_odd_shapes_give_a_picture(shape):
    png = mosaic(np.ones(shape, np.float32), np.diag([0.5, 3, 1, 1]), title="$x")
    assert Image.open(io.BytesIO(png)).size[0] > 100


def test_wrong_input_is_named(tmp_path):
    with pytest.raises(ValueError, match="three axes"):
        mosaic(np.ones((2, 3, 4, 5)), np.eye(4))
    with pytest.raises(ValueError, match="shape"):
        mosaic(np.ones((3, 4, 5)), np.eye(4), mask=np.ones((3, 4, 6), bool))
    with pytest.raises(ValueError, match="convention"):
        mosaic(np.ones((3, 4, 5)), np.eye(4), convention="other")


def test_an_empty_mask_shows_the_whole_field_of_view_in_black():
    assert mosaic(np.ones((5, 6, 7)), np.eye(4), mask=np.zeros((5, 6, 7), bool))


def test_file_is_small_and_the_same_every_time(tmp_path):
    rng = np.random.default_rng(1)
    volume = rng.normal(size=(80, 100, 90)).astype(np.float32)
    paths = [save_mosaic(tmp_path / f"{k}.png", volume, np.diag([2, 2, 2, 1]), **STYLES["field"]) for k in (1, 2)]
    first, second = (path.read_bytes() for path in paths)
    assert first == second and len(first) < 1_500_000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1.png", "2.png"]


@pytest.mark.parametrize("size", [0.35, 0.5, 0.7, 1.0, 2.8])
def test_every_voxel_of_a_slice_has_its_pixel_however_fine(size):
    shape = tuple(round(length / size) for length in (150, 190, 150))
    layout = plan(shape, np.diag([size, size, size, 1]))
    for plane in PLANES:
        down, across = layout.samples[plane.name]
        assert set(down) == set(range(shape[plane.down])) and set(across) == set(range(shape[plane.across]))
        tiles = [tile for tile in layout.tiles if tile.plane == plane]
        assert len(tiles) >= (3 if plane.name == "axial" else 2)
    assert max(layout.shape) < 1600


@pytest.mark.parametrize("axcodes", ["RAS", "LPI", "PSR"])
def test_a_slice_tells_where_it_lies(axcodes):
    volume, affine = head(axcodes, marker=(2, 27, 17))
    layout = plan(volume.shape, affine)
    straight = plan(*(lambda v, a: (v.shape, a))(*head("RAS", marker=(2, 27, 17))))
    assert [tile.place for tile in layout.tiles] == [tile.place for tile in straight.tiles]
    axial = [tile.place for tile in layout.tiles if tile.plane.name == "axial"]
    assert all(place[0] in "SI" and place[2:].isdigit() for place in axial) and len(set(axial)) == len(axial)
