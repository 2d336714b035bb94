"""Computes a run's current efficiency for its alarms, from a board of its own, with the same figures as the pages."""

from pipeline.config.alarms import LIVE
from pipeline.events.types import Event
from pipeline.monitoring.state.live import figures_of
from pipeline.monitoring.state.run_store import RunStore


class EfficiencySignals:
    """Efficiency: PE, E, J and LB of the last rounds, as far as they can be measured (on GPUs they cannot)."""

    def __init__(self) -> None:
        self._store = RunStore()

    def take(self, run: str, event: Event) -> None:
        """Applies an event of the run."""
        self._store.apply(run, event)

    def values(self, run: str) -> dict[str, float]:
        """The figures by their alarm names."""
        known = self._store.runs.get(run)
        live = figures_of(known) if known is not None else None
        if live is None:
            return {}
        figures = zip(LIVE, (live.PE, live.E, live.J, live.LB), strict=True)
        return {name: value for name, value in figures if value is not None}
