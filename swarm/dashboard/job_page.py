"""A page about one job at a time, whose figures are rebuilt when another job is chosen."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence

from bokeh.layouts import column
from bokeh.models.layouts import LayoutDOM
from bokeh.models.widgets import Div

from swarm.dashboard.board import Shown, Shows
from swarm.dashboard.live import Page
from swarm.plots.axes import Axis, axes
from swarm.service.published.snapshot import View
from swarm.space.space import Space

NOTHING = "Nothing to see yet."


class JobPage(Page):
    """A tab about one job; its figures are rebuilt when another job is chosen."""

    sizing: str = "stretch_width"

    def __init__(self, board: Shows) -> None:
        super().__init__(board)
        self._said = Div(text=NOTHING, disable_math=True, sizing_mode="stretch_width")
        self.root = column(self._said, sizing_mode=self.sizing)
        self._kind: object = None

    def update(self, job: str | None) -> None:
        """What there is to see of this job."""
        shown = None if job is None else self.board.shown.get(job)
        if shown is None or shown.view is None or not shown.view.points:
            self._kind = None
            self.root.children = [self._said]
            self._said.text = NOTHING
            return
        kind = (job, shown.job, self.kind(shown.view))
        if self._kind != kind:
            self._kind = kind
            self._coming = iter(self.figures(axes(Space.parse(shown.job["space"])), shown))
            self._there: list[LayoutDOM] = []
        come = next(self._coming, None)  # one at a time, so that the scheduler's loop comes round in between
        said = self.draw(shown.view, job)
        if self._said.text != said:
            self._said.text = said
        if come is not None:  # now that there is something to draw: a legend cannot be drawn of nothing
            self._there.append(come)
        if self.root.children != [self._said, *self._there]:
            self.root.children = [self._said, *self._there]

    def kind(self, view: View) -> object:
        """Of what the choice of figures depends."""
        return None

    @abstractmethod
    def figures(self, axes: Sequence[Axis], shown: Shown) -> Iterable[LayoutDOM]:
        """Make the sources, and then the figures, for these hyper-parameters."""

    @abstractmethod
    def draw(self, view: View, job: object) -> str:
        """Bring their sources up to date; what is said above them, as HTML."""
