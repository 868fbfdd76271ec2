"""The group page: what its template shows of a study. One file, no network, every text of the data escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from qsmprep.analysis.group_statistics import Interval
from qsmprep.report.group.lines import BADGES, MAIN_NUMBERS, MOST_WORDS, OUTLIER, TO_DO, first_step, run_lines
from qsmprep.report.group.penalty import penalty_sentence
from qsmprep.report.group.plots import MOST_LANES, Number, StripPlot, strip_plot
from qsmprep.report.group.quality import in_order, main_metrics
from qsmprep.report.group.regions import MAP_TITLES, Mean, RegionOfStudy
from qsmprep.report.group.runs import RUN_VERDICTS, GroupRun, centre_frequency_mhz, letters
from qsmprep.report.group.summary import Group
from qsmprep.report.group.trends import MedianLine, TimeAxis, differing, drawn, median_lines, time_axis

HEADINGS = {
    "chi": "Susceptibility",
    "chi_para": "Paramagnetic susceptibility",
    "chi_dia": "Diamagnetic susceptibility",
    "r2star": "R2*",
}
STYLE, SCRIPTS = "group.css", ("group.js", "group_trends.js")
MOST_OFTEN = 3  # words named on top
MOST_NAMES = 12  # runs named in a line; more are counted


@dataclass(frozen=True)
class Figure:
    """A strip plot with its heading and what is said below it."""

    name: str
    heading: str
    unit: str
    text: str
    plot: StripPlot
    outliers: tuple[tuple[str, str, str], ...]
    values: np.ndarray
    main: bool = True


def render_group(group: Group) -> str:
    """The page as HTML text."""
    folder = resources.files("qsmprep.data")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, *scripts = (folder.joinpath(name).read_text(encoding="utf-8") for name in (STYLE, *SCRIPTS))
    script = "".join(scripts)
    runs = group.runs
    axis, (lines, words) = time_axis(runs), run_lines(group)
    often = Counter(r.word for line in lines for r in line.reasons if r.kind != OUTLIER).most_common(MOST_OFTEN)
    figures, of_regions = quality_figures(group), region_figures(group)
    sited = any(run.site != run.scanner for run in runs)
    pairs = {(run.scanner, run.site) for run in runs}
    # Where each site has one scanner of its own, a table by site would repeat that by scanner.
    by_site = any(len(set(names)) < len(pairs) for names in zip(*pairs, strict=True))
    shown = drawn(runs, group.metrics, axis, by_site, [*figures, *(figure for _, own in of_regions for figure in own)])
    return environment.get_template("group.html").render(
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        study=group.study,
        subjects=len({run.subject for run in runs}),
        sessions=len({(run.subject, run.session) for run in runs if run.session}),
        scanners=scanner_lines(runs),
        verdicts=[(verdict, RUN_VERDICTS.index(verdict), BADGES[verdict], n) for verdict, n in _verdicts(runs)],
        steps=first_step(lines),
        to_do=TO_DO,
        runs=lines,
        words=words,
        often=[(word, count) for word, count in often if count > 1],
        most_words=MOST_WORDS,
        numbers=[(group.metrics.index(metric), metric) for metric in main_metrics(group.metrics)[:MAIN_NUMBERS]],
        dated=any(run.acquired.time for run in runs),
        data=Markup(_in_script(shown)),
        axis=axis,
        timed=bool(np.isfinite(axis.days).any()),
        main=main_metrics(group.metrics),
        metrics=in_order(group.metrics),
        medians=(found := medians(group, axis, by_site)),
        differing=differing(found),
        figures=figures,
        differences=group.differences,
        penalty=penalty_sentence(group.runs),
        most_names=MOST_NAMES,
        site_words=group.site_words,
        left_out=[run.name for run in runs if not run.counts and run.results.regions],
        sites=list(dict.fromkeys(run.site for run in runs)),
        sited=sited,
        by_site=by_site,
        ages=any(math.isfinite(run.age) for run in runs),
        sexes=sorted({run.sex for run in runs if run.sex}),
        aged=any(region.age for region in group.regions),
        in_sites=any(region.age_in_sites for region in group.regions),
        region_lines=[region_line(region) for region in group.regions if region.everyone.n],
        empty=sum(not region.everyone.n for region in group.regions),
        region_figures=of_regions,
        repeats=group.repeats,
    )


def scanner_lines(runs: Sequence[GroupRun]) -> list[dict[str, Any]]:
    """Scanners with their runs, subjects and centre frequency, mean and standard deviation (consensus table 4)."""
    names = list(dict.fromkeys(run.scanner for run in runs))
    lines = []
    for letter, name in zip(letters(len(names)), names, strict=True):
        own = [run for run in runs if run.scanner == name]
        found = np.array([centre_frequency_mhz(run) for run in own])
        found = found[np.isfinite(found)]
        lines.append(
            {
                "letter": letter,
                "name": name,
                "runs": len(own),
                "subjects": len({run.subject for run in own}),
                "sites": sorted({run.site for run in own} - {name}),
                "measured": found.size,
                "mean": f"{found.mean():.5f}" if found.size else "",
                "sd": f"{round(1000 * found.std(ddof=1), 6):.3g}" if found.size > 1 else "",
            }
        )
    return lines


def medians(group: Group, axis: TimeAxis, by_site: bool) -> list[tuple[str, list[MedianLine]]]:
    """The medians of every number by scanner and, where these are not the sites, by site; none of a single group."""
    kinds = [("Scanner", [run.scanner for run in group.runs], True)]
    kinds += [("Site", [run.site for run in group.runs], False)] if by_site else []
    return [
        (title, median_lines(in_order(group.metrics), names, axis, lettered=lettered))
        for title, names, lettered in kinds
        if group.metrics
    ]


def quality_figures(group: Group) -> list[Figure]:
    """A strip plot for each quality number, a lane for each scanner."""
    names = list(dict.fromkeys(run.scanner for run in group.runs))
    members = {name: [run.number for run in group.runs if run.scanner == name] for name in names}
    lanes = [
        (f"{letter} · {name}", name, members[name]) for letter, name in zip(letters(len(names)), names, strict=True)
    ]
    if len(lanes) > MOST_LANES:
        lanes = []
    lanes = lanes if len(lanes) > 1 else [("", "all runs", [run.number for run in group.runs])]
    figures = []
    for i, metric in enumerate(group.metrics):
        why = [metric.why(run.number) for run in group.runs]
        number = Number(
            metric.title,
            metric.shown_unit,
            metric.values,
            why,
            [any(flag.metric == metric.name for flag in run.flags) for run in group.runs],
            (("lower", metric.low), ("upper", metric.high)),
        )
        plot = strip_plot(number, group.runs, lanes)
        if plot:
            far = tuple((run.name, run.report, text) for run, text in zip(group.runs, why, strict=True) if text)
            words = (metric.title, metric.shown_unit, metric.description)
            figures.append(Figure(f"number-{i + 1}", *words, plot, far, metric.values, metric.main))
    return figures


def region_figures(group: Group) -> list[tuple[str, list[Figure]]]:
    """For each map the strip plots of its main regions, a lane for each site, with quartiles."""
    sites = list(dict.fromkeys(run.site for run in group.runs))
    counted = [run.number for run in group.runs if run.counts]
    lanes = [(site, site, [n for n in counted if group.runs[n].site == site]) for site in sites]
    lanes = lanes if 1 < len(lanes) <= MOST_LANES else [("", "all runs", counted)]
    several = len({region.segmentation for region in group.regions}) > 1
    found: dict[str, list[Figure]] = {}
    for i, region in enumerate(group.regions):
        if not region.is_main:
            continue
        values = np.where([run.counts for run in group.runs], region.values, np.nan)
        number = Number(region.title, region.unit, values, [""] * len(group.runs), [False] * len(group.runs))
        plot = strip_plot(number, group.runs, lanes, boxes=True)
        if plot:
            title = HEADINGS.get(region.quantity, region.quantity)
            heading = region.name.replace("_", " ")
            text = region.segmentation if several else ""
            figure = Figure(f"region-{i + 1}", heading, region.unit, text, plot, (), values)
            found.setdefault(title, []).append(figure)
    return list(found.items())


def region_line(region: RegionOfStudy) -> dict[str, Any]:
    """A region in the tables: means, slopes and agreement in words. What is small beside 1 ppm is given in ppb."""
    agreement = region.agreement
    factor, decimals = (1000.0, 2) if region.unit == "ppm" else (1.0, 3)
    within = agreement.within_sd if agreement else None
    return {
        "segmentation": region.segmentation,
        "name": region.name.replace("_", " "),
        "map": MAP_TITLES.get(region.quantity, region.quantity),
        "unit": region.unit,
        "small_unit": "ppb" if region.unit == "ppm" else region.unit,
        "everyone": mean_words(region.everyone, region.unit),
        "n": region.everyone.n,
        "by_site": [(mean_words(mean, region.unit), mean.n) for mean in region.by_site.values()],
        "by_sex": [(mean_words(mean, region.unit), mean.n) for mean in region.by_sex.values()],
        "age": interval_words(region.age.slope, factor, decimals) if region.age else "",
        "age_n": region.age.n if region.age else "",
        "age_in_sites": interval_words(region.age_in_sites.slope, factor, decimals) if region.age_in_sites else "",
        "agreement": agreement,
        "icc": [interval_words(icc) for icc in (agreement.icc_1, agreement.icc_2, agreement.icc_3)]
        if agreement
        else [],
        "within_sd": interval_words(within, factor, decimals) if within else "",
        "repeatability": f"{factor * agreement.repeatability:.{decimals}f}" if agreement else "",
    }


def mean_words(mean: Mean, unit: str) -> str:
    """Mean and standard deviation over subjects, to 0.1 ppb or two decimals; empty where there is no value.

    >>> mean_words(Mean(-0.0123, 0.00456, 12), "ppm")
    '−0.0123 ± 0.0046'
    """
    if not mean.n:
        return ""
    decimals = 4 if unit == "ppm" else 2
    text = _fixed(mean.mean, decimals)
    return f"{text} ± {mean.sd:.{decimals}f}" if math.isfinite(mean.sd) else text


def interval_words(interval: Interval | None, factor: float = 1.0, decimals: int = 2) -> str:
    """An estimate and its 95 % interval, times a factor; empty where there is none."""
    if interval is None or not math.isfinite(interval.value):
        return ""
    value, low, high = (_fixed(factor * number, decimals) for number in (interval.value, interval.low, interval.high))
    known = math.isfinite(interval.low) and math.isfinite(interval.high)
    return f"{value} ({low} to {high})" if known else value


def _fixed(value: float, decimals: int) -> str:
    """A number to so many decimals, with a true minus sign, which 0 does not have."""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if math.isfinite(value) and not float(text) else text.replace("-", "−")


def _verdicts(runs: Sequence[GroupRun]) -> list[tuple[str, int]]:
    counts = Counter(run.verdict for run in runs)
    return [(verdict, counts[verdict]) for verdict in reversed(RUN_VERDICTS) if counts[verdict]]


def _in_script(document: Any) -> str:
    """An object as JSON inside a script element, which none of its texts can end."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _hash(text: str) -> str:
    """What the page's content security policy calls a text that may be applied or run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
