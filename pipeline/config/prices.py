"""Defines the prices of workers: the user's own, read from TOML and validated once.

    currency = "EUR"          # shown behind amounts; may be left out

    [mode.on_demand]          # at least one of the three modes
    worker_hour = 0.40

    [mode.reserved]
    worker_hour = 0.25
    minimum_hours = 1         # each worker is paid for so long at least

    [mode.spot]
    worker_hour = 0.12
    losses_per_hour = 0.05    # of one worker: how often it is taken away in an hour

A worker is a worker process of the run: where a machine runs several, `worker_hour` is their share of its price.
"""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from pipeline.config.job import Section
from pipeline.config.limited_file import read_limited
from pipeline.config.quantities import LARGEST_AMOUNT, LONGEST_SECONDS
from pipeline.config.validation_messages import Origins, explain
from pipeline.errors import JobError

LARGEST_NBYTES = 64 * 2**10  # of the file
MOST_LOSSES = 3_600.0  # of a worker in an hour: one a second
Mode = Literal["on_demand", "reserved", "spot"]
Price = Annotated[float, Field(strict=True, ge=0, le=LARGEST_AMOUNT)]


class OnDemand(Section):
    """Workers that are paid for while the run lasts."""

    worker_hour: Price = Field(description="price of one worker for one hour, e.g. 0.40")


class Reserved(Section):
    """Workers that are paid for a minimum time."""

    worker_hour: Price = Field(description="price of one worker for one hour, e.g. 0.40")
    minimum_hours: Annotated[float, Field(strict=True, ge=0, le=LONGEST_SECONDS / 3_600)] = Field(
        description="hours that each worker is paid for at least, e.g. 1"
    )


class Spot(Section):
    """Workers that their provider may take away at any time."""

    worker_hour: Price = Field(description="price of one worker for one hour, e.g. 0.40")
    losses_per_hour: Annotated[float, Field(strict=True, ge=0, le=MOST_LOSSES)] = Field(
        description="how often one worker is taken away in an hour, e.g. 0.05"
    )


class Modes(Section):
    """The ways to pay for workers that the user has a price for."""

    on_demand: OnDemand | None = Field(None, description="paid while the run lasts: worker_hour")
    reserved: Reserved | None = Field(None, description="paid for a minimum time: worker_hour, minimum_hours")
    spot: Spot | None = Field(None, description="may be taken away: worker_hour, losses_per_hour")


class Prices(Section):
    """What workers cost; at least one mode has a price."""

    currency: Annotated[str, Field(max_length=20)] = Field("", description="text shown behind amounts, e.g. EUR")
    mode: Modes = Field(description="the prices, each a table, e.g. [mode.on_demand]")

    @pydantic.field_validator("mode")
    @classmethod
    def _any(cls, mode: Modes) -> Modes:
        if mode == Modes():
            raise ValueError("give a price: [mode.on_demand], [mode.reserved] or [mode.spot] with worker_hour")
        return mode

    def amount(self, cost: float) -> str:
        """An amount of money with its currency; two significant digits where it is less than 1.

        >>> prices = Prices(currency="EUR", mode=Modes(on_demand=OnDemand(worker_hour=0.4)))
        >>> prices.amount(1234.5), prices.amount(0.00783)
        ('1,234.50 EUR', '0.0078 EUR')
        """
        return f"{cost:,.2f} {self.currency}".rstrip() if cost >= 1 else f"{cost:.2g} {self.currency}".rstrip()


def load_prices(path: str | os.PathLike[str]) -> Prices:
    """The prices in a TOML file; JobError names the file, the key, what was found and what is allowed."""
    file = Path(os.path.expanduser(path))
    content = read_limited(file, LARGEST_NBYTES, "prices", JobError)
    try:
        table = tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # of TOML, UTF-8, whole numbers of 5,000 digits, ...
        raise JobError(f"{file}: not a readable TOML file: {error}") from None
    table.setdefault("mode", {})  # so that the error says what to give
    try:
        return Prices.model_validate(table)
    except pydantic.ValidationError as error:
        raise JobError(explain(error, table, Prices, Origins(str(file), table, []))) from None
