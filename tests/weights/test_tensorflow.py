"""TensorFlow 1 checkpoints are read without TensorFlow, and damage never goes unseen."""

import numpy as np
import pytest
from bundles import field, write_checkpoint

from qsmprep.weights.snappy import decompress
from qsmprep.weights.tensorflow import checksum, read_checkpoint


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    names = [f"net/conv{n}/{kind}" for n in range(30) for kind in ("weights", "biases")]
    made = {name: random.normal(size=random.integers(1, 4, 3)).astype(np.float32) for name in names}
    return made | {"step": np.array(7, np.int64), "power": np.array(0.5, np.float32)}


def test_the_checksum_is_that_of_the_format():
    # RFC 3720 gives 0xE3069283 for these digits; stored checksums are turned by 15 bits and shifted.
    crc = 0xE3069283
    assert checksum(np.frombuffer(b"123456789", np.uint8)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.parametrize("snappy", [False, True], ids=["plain", "snappy"])
def test_every_tensor_of_single_precision_is_found_whatever_the_file_that_is_named(tmp_path, arrays, snappy):
    index = write_checkpoint(tmp_path / "network.ckpt", arrays, snappy=snappy)
    found = read_checkpoint(index)
    assert list(found) == sorted(name for name in arrays if name != "step")
    for name, array in found.items():
        assert np.array_equal(array, arrays[name]) and array.shape == arrays[name].shape
    assert read_checkpoint(tmp_path / "network.ckpt.data-00000-of-00001").keys() == found.keys()
    assert read_checkpoint(tmp_path / "network.ckpt").keys() == found.keys()


@pytest.mark.parametrize("snappy", [False, True], ids=["plain", "snappy"])
def test_one_changed_byte_of_the_index_or_of_the_numbers_is_seen(tmp_path, arrays, snappy):
    index = write_checkpoint(tmp_path / "n", arrays, snappy=snappy)
    whole = read_checkpoint(index)
    random = np.random.default_rng(1)
    for path in (index, tmp_path / "n.data-00000-of-00001"):
        content = path.read_bytes()
        for at in random.integers(0, len(content), 40):
            changed = bytearray(content)
            changed[at] ^= 0x10
            path.write_bytes(changed)
            try:
                found = read_checkpoint(index)
            except ValueError as error:
                assert str(tmp_path) in str(error)
            else:  # a byte that nothing refers to: filling in the footer, numbers of another kind
                assert all(np.array_equal(found[name], whole[name]) for name in whole) and found.keys() == whole.keys()
        path.write_bytes(content)


@pytest.mark.parametrize("length", [0, 10, 47, 48, 100, 500])
def test_files_that_are_cut_off_are_refused(tmp_path, arrays, length):
    index = write_checkpoint(tmp_path / "n", arrays)
    index.write_bytes(index.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"n\.index is not the index"):
        read_checkpoint(index)


def test_missing_files_and_other_kinds_of_checkpoint_are_told(tmp_path, arrays):
    index = write_checkpoint(tmp_path / "n", arrays)
    (tmp_path / "n.data-00000-of-00001").unlink()
    with pytest.raises(ValueError, match=r"data-00000-of-00001 cannot be read"):
        read_checkpoint(index)
    with pytest.raises(ValueError, match=r"none\.index cannot be read"):
        read_checkpoint(tmp_path / "none.index")
    for header in (field(1, 2), field(1, 1) + field(2, 1)):
        with pytest.raises(ValueError, match="several parts or of another byte order"):
            read_checkpoint(write_checkpoint(tmp_path / "n", arrays, header=header))


def test_numbers_that_lie_beyond_the_file_are_refused(tmp_path, arrays):
    index = write_checkpoint(tmp_path / "n", arrays)
    data = tmp_path / "n.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-12])
    with pytest.raises(ValueError, match="is not all there"):
        read_checkpoint(index)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 12, bytes([3, 0]), bytes([4, 1, 9]), bytes([200, 200, 200, 1, 0, 65]), bytes([2, 0, 65]),
     bytes([5, 0, 65, 2, 0, 0])],
    ids=["empty", "endless length", "no literal", "copy of nothing", "too large", "too short", "copy from nowhere"],
)  # fmt: skip
def test_damaged_compression_is_refused(content):
    with pytest.raises(ValueError, match=r"block|number"):
        decompress(content, 1000)
