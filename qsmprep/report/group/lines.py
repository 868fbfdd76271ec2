"""The lines of the table of runs: why each is to be looked at, in short words, and its main numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from qsmprep.bids.outputs import figures_folder
from qsmprep.report.group.plots import figure
from qsmprep.report.group.quality import Metric, main_metrics, outliers_of
from qsmprep.report.group.runs import RUN_VERDICTS, GroupRun, letters
from qsmprep.report.group.short_words import short_word
from qsmprep.report.group.summary import Group
from qsmprep.report.thumbnail import read_thumbnail
from qsmprep.report.viewer import is_prefix

BADGES = {"usable": "ok", "check": "warned", "do not use": "failed", "failed": "failed", "not judged": "plain"}
ERROR, FLAG, OUTLIER = "error", "flag", "far"
MOST_WORDS = 2  # of a line; more are counted
MAIN_NUMBERS = 4  # of a line
MAPS = ("chi", "cosmos", "sti")  # susceptibility by names of pictures: the first that is there is shown
IN_WORDS = {
    "failed": ("failed", "failed"),
    "do not use": ("must not be used", "must not be used"),
    "check": ("needs a look", "need a look"),
    "not judged": ("was not judged", "were not judged"),
    "usable": ("is usable", "are usable"),
}
TO_DO = {
    "failed": "Open the words under “Why to look”: they say what stopped the run. Then run qsmprep again for it.",
    "do not use": "Leave the map out until it is made anew. The words under “Why to look” say what to do.",
    "check": "Open the words under “Why to look”, then the report, and decide whether the map may be used.",
    "not judged": "There are no quality numbers: look at the report before the map is used.",
    "usable": "Look down the small maps for one that is unlike the others.",
}
NO_RUN_AGAIN = "Open its report: it names the step that stopped and what to do; then run qsmprep again for it."


@dataclass(frozen=True)
class Reason:
    """Why a run is to be looked at: a word or two, what they stand for, and what to do.

    `kind` is ERROR of a step that failed, FLAG of a number beyond its limit, OUTLIER of one far from the other runs'.
    """

    word: str
    kind: str
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Line:
    """A line of the table of runs.

    Attributes
    ----------
    run : it; rank : of its verdict, worst first; badge : the colour of its verdict.
    scanner, site : their numbers; letter : of the scanner.
    reasons : why it is to be looked at; words : the numbers of their words among all that the table has.
    thumbnail : a JPEG in base64, picture : the large one that it leads to; empty where there is none.
    numbers : (text, kind of the reason it is for, "" for none) of the main numbers.
    age, date : in words, empty where not known.
    """

    run: GroupRun
    rank: int
    badge: str
    scanner: int
    site: int
    letter: str
    reasons: tuple[Reason, ...]
    words: tuple[int, ...]
    thumbnail: str
    picture: str
    numbers: tuple[tuple[str, str], ...]
    age: str
    date: str


def run_lines(group: Group) -> tuple[list[Line], list[tuple[str, int]]]:
    """The lines, worst first, and the words of all reasons with the number of runs that have each."""
    scanners = list(dict.fromkeys(run.scanner for run in group.runs))
    sites = list(dict.fromkeys(run.site for run in group.runs))
    names = letters(len(scanners))
    reasons = [reasons_of(run, group.metrics) for run in group.runs]
    counted = Counter(word for own in reasons for word in {reason.word for reason in own})
    words = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    number = {word: i for i, (word, _) in enumerate(words)}
    main = main_metrics(group.metrics)[:MAIN_NUMBERS]
    lines = []
    for run, own in zip(group.runs, reasons, strict=True):
        flagged = {flag.metric for flag in run.flags}
        picture, thumbnail = _map_of(run, group)
        lines.append(
            Line(
                run,
                RUN_VERDICTS.index(run.verdict),
                BADGES[run.verdict],
                scanners.index(run.scanner),
                sites.index(run.site),
                names[scanners.index(run.scanner)],
                own,
                tuple(dict.fromkeys(number[reason.word] for reason in own)),
                thumbnail,
                picture,
                tuple(
                    (
                        figure(metric.values[run.number]),
                        FLAG if metric.name in flagged else OUTLIER if metric.stands_out(run.number) else "",
                    )
                    for metric in main
                ),
                figure(run.age),
                run.acquired.time[:10],
            )
        )
    # Sorting keeps the order of names among equals.
    return sorted(lines, key=lambda line: (line.rank, -_count(line, ERROR, FLAG), -_count(line, OUTLIER))), words


def reasons_of(run: GroupRun, metrics: Sequence[Metric]) -> tuple[Reason, ...]:
    """Errors first, then numbers beyond a limit, then those far from the other runs' that are within it."""
    titles = {metric.name: metric.title for metric in metrics}
    found = [
        Reason(f"failed: {error.step}" if error.step else "failed", ERROR, error.message, NO_RUN_AGAIN)
        for error in (run.record.errors if run.record is not None else ())
    ]
    found += [
        Reason(short_word(flag.metric, titles.get(flag.metric, flag.metric)), FLAG, flag.message, flag.remedy)
        for flag in run.flags
    ]
    flagged = {flag.metric for flag in run.flags}
    for metric in outliers_of(run.number, metrics):
        if metric.name not in flagged:
            value = f"{figure(metric.values[run.number])} {metric.shown_unit}".rstrip()
            median = figure(metric.median)
            text = f"{metric.title} is {value}, far from the other runs (median {median}; {metric.why(run.number)})."
            found.append(Reason(short_word(metric.name, metric.title), OUTLIER, text, metric.remedy))
    return tuple(found)


def first_step(lines: Sequence[Line]) -> tuple[str, str]:
    """How many runs have which verdict, and what to begin with, each in a sentence."""
    counts = Counter(line.run.verdict for line in lines)
    told = [
        f"{counts[verdict]:,} {one if counts[verdict] == 1 else many}"
        for verdict, (one, many) in IN_WORDS.items()
        if counts[verdict]
    ]
    listed = ", ".join(told[:-1]) + (" and " if told[:-1] else "") + told[-1]
    worst = next(verdict for verdict in RUN_VERDICTS if counts[verdict])
    begin = "Nothing must be done." if worst == "usable" else "Begin with the first line of the table, the worst run."
    return (f"Of {len(lines):,} runs, {listed}." if len(lines) > 1 else f"The one run: {listed}."), begin


def _count(line: Line, *kinds: str) -> int:
    return sum(reason.kind in kinds for reason in line.reasons)


def _map_of(run: GroupRun, group: Group) -> tuple[str, str]:
    """Address of the picture of a run's map, and its thumbnail; none of a failed run: old ones may lie there."""
    if run.verdict == "failed" or not is_prefix(run.name):
        return "", ""
    for name in MAPS:
        path = figures_folder(run.name) / f"{run.name}_desc-{name}_Chimap.png"
        thumbnail = read_thumbnail(group.study.output_dir / path)
        if thumbnail:
            return quote(path.as_posix()), thumbnail
    return "", ""
