import re

import numpy as np
import pytest
from documents import facts

from qsmprep import registry
from qsmprep.report import citation
from qsmprep.report.acquisition import describe_acquisition
from qsmprep.report.bibliography import CONSENSUS, SOFTWARE_CITATIONS, parse_bibtex, references
from qsmprep.report.citation import write_citation_files
from qsmprep.report.deviations import DEVIATIONS, deviations_of
from qsmprep.report.methods import methods_prose
from qsmprep.report.record import parse_run


def methods_text(*records):
    return methods_prose(records).markdown()


def citation_keys(*records):
    return methods_prose(records).citation_keys()


def test_every_parameter_is_written_with_its_unit(record):
    text = methods_text(record)
    for words in ("fraction = 0.5", "gradient = 0", "radius max = 9 mm", "alpha1 = 0.0005", "weak harmonic"):
        assert words in text
    assert "all defaults: alpha1" in text and "all defaults: radius max" not in text


def test_acquisition_stands_first_and_the_steps_in_their_order(record):
    text = methods_text(record)
    order = ["3 T Siemens", "TE1:ΔTE:TEmax = 4:4:12 ms", "1 x 1 x 1.2 mm", "qsmprep 0.1.0", "ROMEO", "BET", "V-SHARP",
             "FANSI", "whole brain", "mean before subtraction 0.0125 ppm, standard deviation 0.0375 ppm",
             "numpy 2.4.6"]  # fmt: skip
    places = [text.index(words) for words in order]
    assert places == sorted(places)


def test_what_the_data_do_not_tell_is_left_to_the_authors(record):
    text = methods_text(record)
    assert "to be added by the authors: pixel bandwidth, acquired matrix, scan duration." in text
    assert "excluding data" in text


COMPLETE = {
    "MagneticFieldStrength": 3, "Manufacturer": "Siemens", "ManufacturersModelName": "Prisma",
    "SoftwareVersions": "syngo MR XA30", "TransmitCoilName": "Body", "ReceiveCoilName": "Head_32",
    "NumberReceiveCoilActiveElements": 32, "MRAcquisitionType": "3D", "ScanningSequence": "GR", "SequenceVariant": "SP",
    "RepetitionTime": 0.033, "FlipAngle": 15, "ReadoutPolarity": "monopolar", "FlowCompensation": False,
    "PixelBandwidth": 220, "EllipticalShutter": True, "BaseResolution": 256, "AcquisitionMatrixPE": 176,
    "ParallelAcquisitionTechnique": "GRAPPA", "ParallelReductionFactorInPlane": 2, "AcquisitionDuration": 346,
}  # fmt: skip


def test_the_acquisition_reads_as_the_sample_of_the_paper(record):
    affine, times = np.diag([1.0, 1.0, 1.0, 1.0]), [0.005, 0.011, 0.017, 0.023, 0.029]
    record["acquisition"] = describe_acquisition(COMPLETE, affine=affine, shape=(176, 256, 144), echo_times_s=times)
    assert (
        "Images were acquired on a 3 T Siemens Prisma scanner (software syngo MR XA30) with the transmit coil Body and "
        "the receive coil Head_32 (32 channels). A 3D spoiled multi-echo gradient echo sequence was used with axial "
        "orientation: TR = 33 ms; five monopolar echoes; TE1:ΔTE:TEmax = 5:6:29 ms; no flow compensation; flip angle = "
        "15°; pixel bandwidth = 220 Hz/pixel; elliptical shutter; field of view = 176 (LR) x 256 (AP) x 144 (HF) mm; "
        "acquisition matrix = 256 readout, 176 phase encoding; image matrix = 176 x 256 x 144; voxel size = 1 x 1 x 1 "
        "mm; acceleration = GRAPPA, in plane 2; acquisition time = 5 min 46 s."
    ) in methods_prose([record]).plain()


@pytest.mark.parametrize(
    ("stage", "method", "words"),
    [("unwrapping", "laplacian", "4.a"), ("background", "lbv", "6.a"), ("reference", "none", "8.c")],
)
def test_only_a_chain_that_follows_the_consensus_is_said_to(record, stage, method, words):
    whole = methods_text(record)
    assert "The processing follows the consensus recommendations" in whole
    next(step for step in record["steps"] if step["stage"] == stage)["method"] = method
    text = methods_text(record)
    assert "follows the consensus" not in text
    assert "departs from the consensus recommendations" in text and words in text


def test_a_departure_from_the_example_is_listed_until_its_option_is_set(record):
    record["steps"][3]["method"] = "v-sharp"
    names = [found.option for found in deviations_of(parse_run(record))]
    assert "--no-v-sharp-deconvolution" in names
    given = {"name": "deconvolution", "value": False, "default": False}
    record["steps"][3]["parameters"] = [given]
    assert "--no-v-sharp-deconvolution" not in [found.option for found in deviations_of(parse_run(record))]


def test_the_flags_of_the_departures_exist():
    from qsmprep.cli.parser import build_parser

    known = {flag for action in build_parser()._actions for flag in action.option_strings}
    for deviation in DEVIATIONS:
        for flag in re.findall(r"--[\w-]+", deviation.option):
            assert flag in known or flag.replace("--", "--no-", 1) in known, flag


def test_citations_are_those_of_the_methods_that_ran(record):
    keys = citation_keys(record)
    assert keys[0] == CONSENSUS
    assert {"smith2002", "dymerska2021", "li2011", "wu2012", "milovic2018", "bids2016", "numpy2020"} <= set(keys)
    assert "liu2012" not in keys


def test_a_key_without_a_publication_is_not_cited(record):
    record["steps"][4]["citations"] = ["milovic2018", "nobody1900"]
    assert "[@milovic2018]" in methods_text(record) and "nobody1900" not in methods_text(record)


def test_markup_in_the_data_stays_text(record):
    record["acquisition"]["vendor"] = {"value": "[@liu2012] <b>*x*", "source": "sidecar Manufacturer"}
    text = methods_text(record)
    assert r"\[@liu2012\] \<b\>\*x\*" in text
    assert "[@liu2012] <b>*x*" in methods_prose([record]).plain()
    assert "[@liu2012] &lt;b&gt;*x*" in methods_prose([record]).html()
    assert "liu2012" not in citation_keys(record)


def test_runs_with_the_same_settings_share_one_text(record):
    second = {**record, "run": "sub-02"}
    once, twice = methods_text(record), methods_text(record, second)
    assert twice == once
    other = {**second, "steps": [{**record["steps"][3], "parameters": []}]}
    merged = methods_text(record, second, other)
    assert merged.count("Images were acquired") == 1
    assert merged.count("reconstructed with qsmprep") == 2
    assert "*sub-01_run-1, sub-02*:" in merged or "*sub-01_run-1*:" in merged


def test_failed_runs_are_left_out_unless_all_failed(record):
    failed = {**record, "run": "sub-09", "status": "failed", "steps": []}
    assert methods_text(record, failed) == methods_text(record)
    assert "did not finish" in methods_text(failed)


def test_citation_files(record, tmp_path):
    paths = write_citation_files(tmp_path / "logs", [record, record])
    assert [path.name for path in paths] == ["CITATION.md", "CITATION.bib", "CITATION.html"]
    bib = {entry.key for entry in parse_bibtex(paths[1].read_text())}
    assert bib == set(citation_keys(record))
    page = paths[2].read_text()
    assert re.findall(r'(?:src|href)="(?!#|https://doi\.org/)[^"]*"', page) == []
    assert "Milovic et al., 2018" in page and "[@" not in page
    assert paths[0].read_text() == methods_text(record, record)


def test_an_unknown_step_is_described_too(record):
    record["steps"].append({"stage": "source {x} separation", "title": "chi-separation", "parameters": []})
    assert "Source {x} separation: chi-separation." in methods_text(record)


def test_a_network_is_named_with_its_weights_and_its_training(record):
    record["steps"][4]["facts"] = facts(
        network="mine", network_weights="mine_2.safetensors", network_sha256=32 * "ab",
        network_statement="Trained on simulated heads; not validated in vivo.",
    )  # fmt: skip
    text = methods_text(record)
    assert "with the weights mine_2.safetensors of the network mine (SHA-256 abababababab; " in text
    assert "Trained on simulated heads; not validated in vivo)" in text


def test_no_run():
    assert "No run" in methods_text()


@pytest.mark.parametrize("method", registry.METHODS, ids=lambda method: f"{method.stage}-{method.name}")
def test_every_method_has_its_publication(method):
    assert set(method.citations) <= set(references())


def test_the_bibliography_is_complete_and_readable():
    entries = references()
    assert {CONSENSUS, "bids2016", *SOFTWARE_CITATIONS.values()} <= set(entries)
    dois = [entry.fields["doi"] for entry in entries.values() if "doi" in entry.fields]
    assert len(dois) == len(set(dois))
    for entry in entries.values():
        assert entry.authors and entry.fields["title"]
        assert not re.search(r"[{}\\]", entry.long())
        assert "doi" not in entry.fields or re.fullmatch(r"10\.\d{4,}/\S+", entry.fields["doi"])


def test_references_read_as_a_person_writes_them():
    kames = references()["kames2018"]
    assert kames.short() == "Kames et al., 2018"
    assert kames.long() == (
        "Kames C., Wiggermann V. and Rauscher A. (2018). Rapid two-step dipole inversion for susceptibility mapping "
        "with sparsity priors. NeuroImage 167:276–283."
    )
    assert references()["schofield2003"].short() == "Schofield and Zhu, 2003"
    assert references()["smith2002"].short() == "Smith, 2002"
    assert references()[CONSENSUS].short() == "QSM Consensus Organization Committee et al., 2024"


def test_the_bibliography_reads_what_bibtex_allows():
    text = r"""@string{mrm = "Magnetic Resonance in Medicine"}
    @comment{left out}
    @Article(muller2020, Author = "M{\"u}ller, Jean-Luc and {The {QSM} Group} and de la Cruz, Ana B. and others",
      title = {Susceptibility of {MR} \& more}, journal = mrm, year = 2020, pages = {1--9}, DOI = {10.1/a_b})"""
    (entry,) = parse_bibtex(text)
    assert entry.short() == "Müller et al., 2020" and entry.url == "https://doi.org/10.1/a_b"
    assert entry.long() == (
        "Müller J.-L., The QSM Group, de la Cruz A.B., et al. (2020). Susceptibility of MR & more. "
        "Magnetic Resonance in Medicine, pages 1–9."
    )
    assert entry.bibtex.startswith("@Article(muller2020") and entry.bibtex.endswith("{10.1/a_b})")


@pytest.mark.parametrize("text", ["@article{a, title = {never closed}", "@article{a, year = 1}\n@article{a, year = 2}"])
def test_a_bibliography_that_cannot_be_read_is_refused(text):
    with pytest.raises(ValueError, match="no BibTeX"):
        parse_bibtex(text)


def test_a_command_leaves_the_text_to_the_group_level_where_many_others_ran(record, write_record, monkeypatch):
    monkeypatch.setattr(citation, "MOST_OTHERS", 2)
    for number in range(4):
        output = write_record({**record, "run": f"sub-01_run-{number}"}, pictures=False)
    assert not citation.is_left_to_group(output, own=2) and citation.is_left_to_group(output, own=1)


def test_results_of_a_job_that_ended_meanwhile_are_described_too(record, write_record, monkeypatch):
    """Of two jobs that end at once, the later writer may have read before the other's results were there."""
    output, others = write_record(record), [{**record, "run": "sub-01_run-2", "software": {"qsmprep": "9.9"}}]

    def write_late(*words, **more):
        paths = write_citation_files(*words, **more)
        if others:
            write_record(others.pop())
        return paths

    monkeypatch.setattr(citation, "write_citation_files", write_late)
    citation.describe_results(output)
    assert "9.9" in (output / "logs" / "CITATION.md").read_text()
