"""The comparison with peers as a page that is read in a minute: a panel and a line per question, ours and theirs.

Of each tool the best of its variants is shown, question by question. ``summary.py`` writes the page.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.rows import TOOLS
from benchmarks.shared.pictures import panels
from benchmarks.shared.rows import Result
from swarm.plots.charts import BLUE, GRAY

OURS = "dask-swarm"
_AHEAD = 1.02  # ratio of two figures that are not said to be the same
Figures = dict[str, float]  # by tool


@dataclass(frozen=True)
class Question:
    """What a user asks, and each tool's figure.

    Attributes:
        asked: The question.
        unit: Of the figures; ``%`` follows the number.
        form: Of a figure.
        high: Whether more is better.
        figures: By tool, the best of its variants.
        about: What was run.
    """

    asked: str
    unit: str
    form: str
    high: bool
    figures: Figures
    about: str

    @property
    def ordered(self) -> list[str]:
        """The tools, the best first; of equals ours."""
        return sorted(
            self.figures, key=lambda tool: (-1 if self.high else 1) * self.figures[tool] + 1e-9 * (tool != OURS)
        )

    def said(self, tool: str) -> str:
        """A tool's figure."""
        return f"{self.figures[tool]:{self.form}}{' ' * bool(self.unit)}{self.unit}"


def questions(found: Mapping[str, Result]) -> Iterator[Question]:
    """What users ask, as far as it was measured."""
    if "answers" in found:
        rows = found["answers"]["in_flight"]["8"]["50"]
        names = {"SurrogatePSO": OURS, "Optuna TPE": "Optuna", "Random": "random search"}
        regrets = {names[row["method"]]: row["regret"] for row in rows if row["method"] in names}
        yield Question(
            "How far from the best after 50 trainings?", "", ".3f", False, regrets,
            "median regret on twelve functions and tables of trained networks (0 the best known, 1 the median "
            "configuration), 8 in flight, 11 seeds; each tool's default",
        )  # fmt: skip
    measures: tuple[tuple[str, str, str, str, bool, Callable[[Result], float | None], str], ...] = (
        ("peers-stragglers", "How far from the best at equal slot time?", "", ".1e", False,
         lambda row: row["best"], "squared distance from the optimum of a function of four parameters; 32 s of 8 "
         "sleeping slots, trainings of 1.5 s, of which a tenth takes ten times as long"),
        ("peers-repeats", "How often is trained what was trained before?", "of 200", ".0f", False,
         lambda row: row["repeated"], "200 evaluations in a space of 36 points"),
        ("peers-faults", "A training is killed: what else is done twice?", "of 32", ".0f", False,
         lambda row: row["worker"]["twice"], "finished trainings of 1 s, 4 slots"),
        ("peers-faults", "All is killed, and called again: what is done twice?", "of 32", ".0f", False,
         lambda row: row["everything"]["twice"], "finished trainings of 1 s, 4 slots"),
        ("peers-faults", "Is the answer then that of an undisturbed run?", "%", ".0f", True,
         lambda row: 100.0 * row["everything"]["same"], "share of the runs in which all was killed"),
        ("peers-stragglers", "How busy are the slots, trainings of 1.5 s?", "%", ".1f", True,
         lambda row: 100 * row["utilisation"], "8 sleeping slots, a tenth of the trainings takes ten times as long"),
        ("peers-utilisation", "How busy are the slots, trainings of 0.15 s?", "%", ".1f", True,
         lambda row: 100 * row["utilisation"], "the same with shorter trainings, counted from when "
         "all slots are in use"),
        ("peers-overhead", "How many evaluations of no length a second?", "", ",.0f", True,
         lambda row: row["per_second"], "2 slots; ours keeps journal and archive in SQLite"),
        ("peers-utilisation", "How long from the call to the first training?", "s", ".1f", False,
         lambda row: row["start_up"], "8 slots on 2 cores; with `isolation: thread` ours begins with one call, and "
         "the other slots follow seconds later"),
    )  # fmt: skip
    for name, asked, unit, form, high, figure, about in measures:
        if name in found:
            many = unit == "%" and high and "answer" in asked
            variants = best(found[name], figure, high, statistics.mean if many else statistics.median)
            said = [about, f"ours: {variants[OURS][1]}"]
            if beside := found[name].get("beside"):
                said.append(f"beside it: {beside}")
            figures = {tool: value for tool, (value, _) in variants.items()}
            yield Question(asked, unit, form, high, figures, "; ".join(said))


def best(
    result: Result, figure: Callable[[Result], float | None], high: bool, middle: Callable[[list[float]], float]
) -> dict[str, tuple[float, str]]:
    """Each tool's best figure, and the variant that has it."""
    runs: dict[tuple[str, str], list[float]] = {}
    for row in result["rows"]:
        if "error" not in row and (value := figure(row)) is not None:  # None: nothing was trained in time
            runs.setdefault((TOOLS.get(row["tool"], OURS), row["variant"]), []).append(float(value))
    found: dict[str, tuple[float, str]] = {}
    for (tool, variant), values in runs.items():
        value = middle(values)
        if tool not in found or (value > found[tool][0] if high else value < found[tool][0]):
            found[tool] = value, variant
    return found


def page(found: Mapping[str, Result], picture: str) -> str:
    """The page.

    Args:
        found: Results by benchmark.
        picture: Where the figure is, relative to the page.
    """
    asked = list(questions(found))
    lines = ["| question | dask-swarm | the best of the others | |", "|---|---|---|---|"]
    for one in asked:
        other = next(tool for tool in one.ordered if tool != OURS)
        lines.append(f"| {one.asked} | {one.said(OURS)} | {one.said(other)}, {other} | {_verdict(one, other)} |")
    versions = {TOOLS[tool]: v for name in found for tool, v in found[name].get("tools", {}).items() if tool in TOOLS}
    tools = ", ".join(f"{tool} {version}" for tool, version in sorted(versions.items()))
    return (
        "# Compared with others\n\n"
        "All tools ran the same trainings on the same machine in turn, each as its own documentation says, and of each "
        f"tool the best of its variants counts: {tools}. Slots are processes that sleep, on two cores.\n\n"
        f"![A panel per question, ours in blue; the arrow says whether more or less is better]({picture})\n\n"
        + "\n".join(lines)
        + "\n\n"
        + "\n".join(f"- {one.asked} {one.about[0].upper()}{one.about[1:]}." for one in asked)
        + "\n\nEvery figure with its spread, and how to measure it again: `benchmarks/README.md`. `python "
        "benchmarks/summary.py` writes both from the results.\n"
    )


def _verdict(one: Question, other: str) -> str:
    ours, theirs = one.figures[OURS], one.figures[other]
    if max(ours, theirs) <= _AHEAD * min(ours, theirs):
        return "the same"
    return "ours is ahead" if (ours > theirs) is one.high else "**not ahead**"


def draw(found: Mapping[str, Result], file: Path) -> None:
    """A panel per question, the best tool on top."""
    asked = list(questions(found))
    figure, axes = panels(13.5, 2.3 * math.ceil(len(asked) / 3), rows=math.ceil(len(asked) / 3), columns=3)
    for panel, one in zip(axes, asked, strict=False):
        tools = one.ordered[::-1]
        values = [one.figures[tool] for tool in tools]
        bars = panel.barh(tools, values, color=[BLUE if tool == OURS else GRAY for tool in tools])
        panel.bar_label(bars, [one.said(tool) for tool in tools], padding=3, fontsize=8)
        panel.set_title(f"{one.asked} {'↑' if one.high else '↓'}", fontsize=9.5, loc="left")
        panel.set_xlim(0, 1.25 * max(values) or 1)
        panel.set_xticks([])
        panel.grid(visible=False)
        panel.spines[["bottom"]].set_visible(False)
    for panel in axes[len(asked) :]:
        panel.set_visible(False)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(h_pad=0.12)
    figure.savefig(file, dpi=90)
