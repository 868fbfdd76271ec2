"""Weights are read exactly as they were written, or refused with a message that says what to do."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from qsmprep.nets.network import Network, build_module
from qsmprep.nets.spec import Channel, NetworkSpec, to_document
from qsmprep.nets.unet_spec import UnetSpec
from qsmprep.nets.unrolled_spec import UnrolledSpec
from qsmprep.weights import search, store
from qsmprep.weights.card import digest
from qsmprep.weights.search import find_weights, known_weights
from qsmprep.weights.store import check_file, load_network, save_network

FACTS = {"licence": "Apache-2.0", "statement": "trained by a test", "seeds": [1], "scores": {"nrmse": 0.5}}
UNET = NetworkSpec("small", "inversion", UnetSpec(width=2, levels=1), (Channel("tissue-field", 0.0, 0.01),),
                   (Channel("chi", 0.001, 0.03),))  # fmt: skip
MODL = NetworkSpec(
    "unrolled",
    "inversion",
    UnrolledSpec(width=2, blocks=1, norm_epsilon=1e-3),
    (Channel("tissue-field"),),
    (Channel("chi33", -0.002, 0.026), Channel("off-diagonal-field", 0.0, 0.004)),
)


class Touch:
    """Makes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def network(spec=UNET):
    torch.manual_seed(0)
    module = build_module(spec)
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return Network(spec, module)


@pytest.fixture
def saved(tmp_path):
    return save_network(network(), tmp_path / "small", facts=FACTS)


def change_card(path, **values):
    card = path.with_suffix(".json")
    document = {**json.loads(card.read_text()), **values}
    card.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


def rehash(path):
    change_card(path, sha256=digest(path.read_bytes()))


@pytest.mark.parametrize("spec", [UNET, MODL], ids=["unet", "unrolled"])
def test_what_was_saved_is_read(tmp_path, spec):
    given = network(spec)
    path = save_network(given, tmp_path / spec.name, facts=FACTS)
    assert path == tmp_path / f"{spec.name}.safetensors"
    for name in (path, str(path), path.with_suffix(".json")):
        found = load_network(name)
    assert found.spec == spec and not found.module.training
    assert found.card["statement"] == FACTS["statement"] and found.card["scores"] == FACTS["scores"]
    theirs = found.module.state_dict()
    for key, tensor in given.module.state_dict().items():
        assert key.endswith("num_batches_tracked") or torch.equal(theirs[key], tensor)
    if spec.unrolled:
        assert found.module.mean.tolist() == pytest.approx([-0.002, 0.0])
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{spec.name}.json", f"{spec.name}.safetensors"]


def test_counters_are_left_out_and_the_same_weights_make_the_same_file(saved, tmp_path):
    assert not [name for name in load_file(saved) if name.endswith("num_batches_tracked")]
    again = save_network(network(), tmp_path / "again", facts=FACTS)
    assert again.read_bytes() == saved.read_bytes()


def test_half_precision_halves_the_file_and_is_read_as_single(tmp_path, saved):
    half = save_network(network(), tmp_path / "half", facts=FACTS, dtype=torch.float16)
    assert {tensor.dtype for tensor in load_file(half).values()} == {torch.float16}
    assert sum(t.nbytes for t in load_file(half).values()) * 2 == sum(t.nbytes for t in load_file(saved).values())
    exact, rounded = load_network(saved).module.state_dict(), load_network(half).module.state_dict()
    for name, tensor in exact.items():
        assert rounded[name].dtype == tensor.dtype
        assert torch.allclose(rounded[name].float(), tensor.float(), rtol=1e-3, atol=1e-6)


def test_what_half_precision_cannot_hold_is_refused(tmp_path):
    given = network()
    given.module.out.bias.data.fill_(1e6)
    with pytest.raises(ValueError, match=r"out\.bias holds numbers that are not finite"):
        save_network(given, tmp_path / "half", facts=FACTS, dtype=torch.float16)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fact", ["licence", "statement"])
def test_a_card_without_a_mandatory_fact_is_not_written(tmp_path, fact):
    with pytest.raises(ValueError, match=fact):
        save_network(network(), tmp_path / "small", facts={**FACTS, fact: " "})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("facts", [{"sha256": "0"}, {"scores": float("nan")}, {"seeds": object()}])
def test_facts_that_a_card_cannot_hold_are_refused(tmp_path, facts):
    with pytest.raises(ValueError, match="The card of"):
        save_network(network(), tmp_path / "small", facts={**FACTS, **facts})
    assert not list(tmp_path.iterdir())


def test_reading_draws_no_random_numbers(saved):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    load_network(saved)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("place", [0, 9, -1])
def test_one_changed_bit_is_found(saved, place):
    content = bytearray(saved.read_bytes())
    content[place] ^= 1
    saved.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{saved.name} is not the file that its card describes.*fetch both again"):
        load_network(saved)


def test_a_truncated_file_is_refused_even_with_a_card_of_its_own(saved):
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not the file that its card describes"):
        load_network(saved)
    rehash(saved)
    with pytest.raises(ValueError, match=r"small\.safetensors is not a safetensors file"):
        load_network(saved)


def test_the_hash_is_compared_before_anything_is_parsed(saved, monkeypatch):
    monkeypatch.setattr(store, "parse_tensors", lambda content: pytest.fail("parsed"))
    change_card(saved, sha256="0" * 64)
    with pytest.raises(ValueError, match="not the file that its card describes"):
        load_network(saved)


@pytest.mark.parametrize("kind", ["pickle", "old pickle", "torch", "hdf5", "random", "empty"])
@pytest.mark.parametrize("carded", [True, False], ids=["with card", "without card"])
def test_other_formats_under_our_suffix_are_refused_and_nothing_is_run(saved, tmp_path, kind, carded):
    trap = tmp_path / "trap"
    if kind == "torch":
        torch.save({"state_dict": Touch(trap)}, saved)
    else:
        saved.write_bytes({
            "pickle": pickle.dumps(Touch(trap)),
            "old pickle": pickle.dumps(Touch(trap), 0),
            "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(600),
            "random": bytes(range(256)),
            "empty": b"",
        }[kind])  # fmt: skip
    if carded:
        rehash(saved)
    else:
        saved.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match=r"small\.safetensors is .*qsmprep-tools weights import"):
        load_network(saved)
    assert not trap.exists()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".h5", ".pth.tar"])
def test_other_suffixes_are_refused_and_nothing_is_run(tmp_path, suffix):
    trap, path = tmp_path / "trap", tmp_path / f"net{suffix}"
    torch.save(Touch(trap), path)
    with pytest.raises(ValueError, match="qsmprep-tools weights import"):
        load_network(path)
    assert not trap.exists()


def test_a_tensor_of_another_shape_is_told_by_name(saved):
    change_card(saved, spec={**to_document(UNET), "architecture": {**to_document(UNET)["architecture"], "width": 3}})
    with pytest.raises(ValueError, match=r"encoder\.0\.0\.weight has the shape \(2, 1, 3, 3, 3\).* needs \(3, 1"):
        load_network(saved)


def rewrite(path, **tensors):
    kept = {**load_file(path), **tensors}
    save_file({name: tensor for name, tensor in kept.items() if tensor is not None}, path)
    rehash(path)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"out.bias": None}, "out.bias is missing"),
        ({"surplus": torch.zeros(1)}, "surplus is not part"),
        ({"out.bias": torch.tensor([float("nan")])}, "out.bias holds numbers that are not finite"),
        ({"out.bias": torch.tensor([1])}, "out.bias holds torch.int64"),
    ],
    ids=["missing", "surplus", "nan", "integers"],
)
def test_tensors_that_are_not_the_networks_are_refused(saved, tensors, message):
    rewrite(saved, **tensors)
    with pytest.raises(ValueError, match=message):
        load_network(saved)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("", "not JSON"),
        ("[1]", "not a JSON object"),
        ("{}", "format None"),
        ('{"format": NaN}', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("\xff", "format|not JSON"),
    ],
)
def test_a_missing_or_malformed_card_is_refused(saved, text, message):
    card = saved.with_suffix(".json")
    card.unlink()
    if text is not None:
        card.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"small\.json.*({message})"):
        load_network(saved)


@pytest.mark.parametrize(
    "values",
    [
        {"format": 2},
        {"sha256": "short"},
        {"sha256": None},
        {"statement": None},
        {"licence": 3},
        {"spec": None},
        {"spec": {"name": "x"}},
        {"spec": {**to_document(UNET), "task": "cooking"}},
        {"spec": {**to_document(UNET), "architecture": {**to_document(UNET)["architecture"], "width": 2.5}}},
        {"spec": {**to_document(UNET), "architecture": {**to_document(UNET)["architecture"], "width": 10**15}}},
        {"file": "../small.safetensors"},
        {"file": "/etc/passwd"},
        {"file": "small.pth"},
        {"file": "other.safetensors"},
    ],
    ids=str,
)
def test_a_card_that_says_nonsense_is_refused(saved, values):
    change_card(saved, **values)
    with pytest.raises(ValueError, match="small"):
        load_network(saved)


def test_names_are_looked_for_in_the_users_folder_first(tmp_path, monkeypatch):
    mine, shipped = tmp_path / "mine", tmp_path / "shipped"
    monkeypatch.setattr(search, "shipped_folder", lambda: shipped)
    monkeypatch.delenv("QSMPREP_WEIGHTS", raising=False)
    assert known_weights() == []
    for name in ("a", "b"):
        save_network(network(), shipped / name, facts=FACTS)
    assert find_weights("a") == shipped / "a.safetensors"
    hiding = save_network(network(), mine / "a", facts=FACTS)
    monkeypatch.setenv("QSMPREP_WEIGHTS", str(mine))
    assert find_weights("a") == hiding
    assert [(name, origin) for name, _, origin in known_weights()] == [
        ("a", "QSMPREP_WEIGHTS"), ("b", "shipped with qsmprep")
    ]  # fmt: skip
    assert load_network("b").spec == UNET


@pytest.mark.parametrize("name", ["../small", "small/../small", "/small", "nothing", "", "small.safetensors", "*"])
def test_a_bad_name_is_told_with_the_known_ones(tmp_path, monkeypatch, name):
    mine = tmp_path / "mine"
    save_network(network(), tmp_path / "small", facts=FACTS)
    save_network(network(), mine / "known-one", facts=FACTS)
    monkeypatch.setenv("QSMPREP_WEIGHTS", str(mine))
    with pytest.raises(ValueError, match=r"known-one.*qsmprep-tools weights list"):
        load_network(name)


def test_a_folder_of_weights_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("QSMPREP_WEIGHTS", str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"QSMPREP_WEIGHTS is .*none"):
        known_weights()


def test_a_name_cannot_lead_out_of_its_folder(tmp_path):
    with pytest.raises(ValueError, match="cannot name weights"):
        save_network(network(), tmp_path / "..", facts=FACTS)


def test_a_module_that_is_not_the_described_one_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match=r"is missing|has the shape|not part"):
        save_network(Network(UNET, network(MODL).module), tmp_path / "small", facts=FACTS)


def test_a_checked_file_is_summed_up(saved):
    checked = check_file(saved)
    assert checked.card.spec == UNET and checked.size == saved.stat().st_size
    assert checked.numbers == sum(tensor.numel() for tensor in load_file(saved).values())
