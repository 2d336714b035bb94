"""The efficiency of a run now, for its alarms: a board of its own, asked for the same figures as the pages show."""

from pipeline.config.alarms import LIVE
from pipeline.events.types import Event
from pipeline.monitoring.state.board import Board
from pipeline.monitoring.state.live import figures_of


class Efficiency:
    """PE, E, J and LB of the last rounds, as far as they can be told (on GPUs they cannot)."""

    def __init__(self) -> None:
        self._board = Board()

    def take(self, run: str, event: Event) -> None:
        """Takes an event of the run."""
        self._board.take(run, event)

    def values(self, run: str) -> dict[str, float]:
        """Their values by the names that alarms have for them."""
        known = self._board.runs.get(run)
        live = figures_of(known) if known is not None else None
        if live is None:
            return {}
        figures = zip(LIVE, (live.PE, live.E, live.J, live.LB), strict=True)
        return {name: value for name, value in figures if value is not None}
