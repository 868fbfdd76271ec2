"""From a map back to the raw files: every output names what it was made of, by what, and with which checksum."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

CHI, FIELD = "bids::sub-01/anat/sub-01_Chimap.nii.gz", "bids::sub-01/fmap/sub-01_desc-total_fieldmap.nii.gz"


class Provenance:
    """What the files of a finished run tell, read without the code that wrote them."""

    def __init__(self, out):
        self.out = out
        self.objects = {}
        for path in (out / "prov" / "prov-sub01").glob("*.json"):
            for objects in json.loads(path.read_text("utf-8")).values():
                self.objects |= {one["Id"]: one for one in objects}

    def entity(self, name):
        path = self.out / name.removeprefix("bids::")
        sidecar = path.with_name(path.name.removesuffix(".nii.gz") + ".json")
        told = json.loads(sidecar.read_text("utf-8")) if name not in self.objects else self.objects[name]
        return told if "Digest" in told or "GeneratedBy" in told else None

    def behind(self, name):
        """Everything that an output comes from: activities and entities by their names."""
        found, waiting = {}, [name]
        while waiting:
            one = waiting.pop()
            if one in found:
                continue
            if one.startswith("bids::logs/"):
                assert (self.out / one.removeprefix("bids::")).is_file()
                continue
            found[one] = told = self.objects[one] if one.startswith("bids::prov#") else self.entity(one)
            for key in ("GeneratedBy", "Used", "AssociatedWith", "InformedBy"):
                value = told.get(key, []) if isinstance(told, dict) else []
                waiting += [value] if isinstance(value, str) else value
        return found


@pytest.fixture(scope="module")
def prov(finished):
    return Provenance(finished.out)


def test_a_map_leads_back_to_the_raw_files_and_their_checksums(prov, finished):
    found = prov.behind(CHI)
    inversion = prov.objects[found[CHI]["GeneratedBy"]]
    (fansi,) = [step for step in inversion["Steps"] if step["Stage"] == "inversion"]
    assert (fansi["Method"], fansi["Parameters"]["alpha1"]) == ("fansi", 5e-4)
    assert "bids::sub-01/fmap/sub-01_desc-local_fieldmap.nii.gz" in inversion["Used"]
    stages = [step["Stage"] for step in prov.objects[found[FIELD]["GeneratedBy"]]["Steps"]]
    assert stages[-1] == "echo-combination" and "unwrapping" in stages
    raw = {name.removeprefix("bids:raw:"): told["Digest"]["sha256"]
           for name, told in found.items() if name.startswith("bids:raw:")}  # fmt: skip
    images = sorted((finished.bids / "sub-01" / "anat").glob("*.nii.gz"))
    assert raw == {path.relative_to(finished.bids).as_posix(): sha256(path.read_bytes()).hexdigest() for path in images}
    assert {"numpy", "qsmprep"} <= {told.get("Label") for told in found.values()}
    assert any("InstructionSets" in told for told in found.values())


def test_every_output_is_traced_with_its_checksum(prov, finished):
    files = [path for path in (finished.out / "sub-01").rglob("*") if path.is_file()]
    names = {path.name for path in files}
    for path in files:
        stem = path.name.removesuffix(".json")
        if path.suffix == ".json" and names & {f"{stem}.nii.gz", f"{stem}.tsv"}:  # it describes that file
            continue
        name = f"bids::{path.relative_to(finished.out).as_posix()}"
        found = prov.behind(name)
        assert found[name]["Digest"]["sha256"] == sha256(path.read_bytes()).hexdigest(), name
        assert any(one.startswith("bids:raw:") for one in found), name
    assert "bids::sub-01.html" in prov.objects


def test_the_record_holds_the_checksums_of_the_inputs(finished):
    record = json.loads((finished.out / "sub-01" / "figures" / "sub-01_record.json").read_text("utf-8"))
    assert sorted(record["checksums"]) == sorted(record["inputs"])
    path = Path(finished.bids, record["inputs"][0])
    assert record["checksums"][record["inputs"][0]] == sha256(path.read_bytes()).hexdigest()


def test_provenance_is_a_group_a_run_in_the_table(finished):
    lines = (finished.out / "prov" / "provenance.tsv").read_text("utf-8").splitlines()
    assert [line.split("\t")[0] for line in lines] == ["provenance_label", "prov-sub01"]
