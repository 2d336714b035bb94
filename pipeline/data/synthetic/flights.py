"""Generates flights-like rows: airports, aircraft, weather, delays that build up over the day; a signal and much noise.

What is known only after departure (dep_delay, taxi_out) is in the data, as in real files: a job has to exclude it.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

FIRST_DAY = np.datetime64("2015-01-01", "s")
DAY_SECONDS = 86_400
FLIGHTS_PER_DAY = 2_740  # a million rows are a year
AIRPORTS, HUBS, AIRCRAFT = 420, 24, 6_000
CARRIERS = ("AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "NK", "OO", "UA", "US", "VX", "WN", "YV")
WORLD, DAY, ROWS = 1, 2, 3  # purposes of random streams, combined with the seed

Floats = np.ndarray
Rng = np.random.Generator


def make_flights(seed: int, index: int, first_row: int, rows: int) -> pa.Table:
    """`rows` flights in order of schedule, starting where the first `first_row` flights at a steady rate end."""
    rng = np.random.default_rng((seed, ROWS, index))
    world = _make_world(seed)
    when = _schedule(rng, first_row, rows)
    flights = _route(rng, world, when)
    weather = _weather(seed, flights.day, flights.origin)
    return _table(rng, world, flights, weather)


@dataclass(frozen=True)
class _World:
    """Values shared by all rows of a seed; effects are in minutes of delay."""

    codes: list[str]  # airport codes; the first HUBS are origins
    position: Floats  # (AIRPORTS, 2) degrees
    popularity: Floats  # (AIRPORTS,) sums to one
    airport_effect: Floats
    tails: list[str]
    owner: np.ndarray  # carrier of each aircraft
    tail_effect: Floats
    carrier_effect: Floats


@dataclass(frozen=True)
class _Flights:
    scheduled: np.ndarray  # datetime64[s]
    day: np.ndarray  # days since the first
    hour: np.ndarray
    origin: np.ndarray
    dest: np.ndarray
    tail: np.ndarray
    miles: Floats


@dataclass(frozen=True)
class _Weather:
    temperature: Floats  # Celsius
    wind: Floats  # knots
    visibility: Floats  # miles
    precipitation: Floats  # mm


def _make_world(seed: int) -> _World:
    rng = np.random.default_rng((seed, WORLD))
    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    numbers = rng.choice(26**3, AIRPORTS, replace=False)
    rank = np.arange(1, AIRPORTS + 1)
    owner_share = 1 / np.arange(1, len(CARRIERS) + 1)
    return _World(
        codes=["".join(letters[[n // 676, n // 26 % 26, n % 26]]) for n in numbers],
        position=np.column_stack([rng.uniform(25, 49, AIRPORTS), rng.uniform(-124, -67, AIRPORTS)]),
        popularity=rank**-0.8 / np.sum(rank**-0.8),
        airport_effect=rng.normal(0, 5, AIRPORTS),
        tails=[f"N{100 + n}{letters[n % 24]}{letters[n // 24 % 24]}" for n in range(AIRCRAFT)],
        owner=rng.choice(len(CARRIERS), AIRCRAFT, p=owner_share / owner_share.sum()),
        tail_effect=rng.normal(0, 4, AIRCRAFT),
        carrier_effect=rng.normal(0, 6, len(CARRIERS)),
    )


def _schedule(rng: Rng, first_row: int, rows: int) -> np.ndarray:
    """Scheduled departures, sorted: the days follow the row numbers, the hours a daily pattern."""
    days = (first_row + np.arange(rows)) // FLIGHTS_PER_DAY
    hours = np.arange(5, 24)
    habit = np.exp(-(((hours - 8) / 2.5) ** 2)) + np.exp(-(((hours - 17) / 3.5) ** 2)) + 0.15
    minutes = rng.choice(hours, rows, p=habit / habit.sum()) * 60 + rng.integers(0, 12, rows) * 5
    return np.sort(FIRST_DAY + (days * DAY_SECONDS + minutes * 60).astype("timedelta64[s]"))


def _route(rng: Rng, world: _World, scheduled: np.ndarray) -> _Flights:
    rows = len(scheduled)
    since = (scheduled - FIRST_DAY).astype(np.int64)
    hubs = world.popularity[:HUBS] / world.popularity[:HUBS].sum()
    origin = rng.choice(HUBS, rows, p=hubs)
    dest = rng.choice(AIRPORTS, rows, p=world.popularity)
    dest = np.where(dest == origin, (dest + 1) % AIRPORTS, dest)
    return _Flights(
        scheduled=scheduled,
        day=since // DAY_SECONDS,
        hour=since % DAY_SECONDS // 3600,
        origin=origin,
        dest=dest,
        tail=(AIRCRAFT * rng.random(rows) ** 1.5).astype(np.int64),  # some aircraft fly much more than others
        miles=_miles(world.position[origin], world.position[dest]),
    )


def _miles(start: Floats, stop: Floats) -> Floats:
    """Great-circle distances between (rows, 2) positions in degrees."""
    (north, west), (other_north, other_west) = np.radians(start).T, np.radians(stop).T
    half = np.sin((other_north - north) / 2) ** 2
    half = half + np.cos(north) * np.cos(other_north) * np.sin((other_west - west) / 2) ** 2
    return 2 * 3_959 * np.arcsin(np.sqrt(half))


def _weather(seed: int, day: np.ndarray, origin: np.ndarray) -> _Weather:
    """The weather of each day at each hub: the same for all files that hold flights of that day."""
    first = int(day[0])
    draws = np.stack([
        np.random.default_rng((seed, DAY, number)).normal(size=(HUBS, 4)) for number in range(first, int(day[-1]) + 1)
    ])  # fmt: skip
    cold, gust, haze, rain = draws[day - first, origin].T
    season = np.cos(2 * np.pi * (day % 365 - 200) / 365)
    storm = np.maximum(rain - 0.8, 0)
    return _Weather(
        temperature=12 + 13 * season + 5 * cold,
        wind=np.abs(9 + 5 * gust + 6 * storm),
        visibility=np.clip(10 - 2.5 * np.maximum(haze - 0.5, 0) ** 2 - 4 * storm, 0.1, 10),
        precipitation=6 * storm**1.5,
    )


def _delays(rng: Rng, world: _World, flights: _Flights, weather: _Weather) -> tuple[Floats, Floats]:
    """(departure delay, chance of a cancellation): steady effects, bad weather, and rare long disruptions."""
    rows = len(flights.day)
    builds_up = (flights.hour - 5) / 18
    steady = world.carrier_effect[world.owner[flights.tail]] + world.tail_effect[flights.tail]
    steady = steady + world.airport_effect[flights.origin] * 2 * builds_up + world.airport_effect[flights.dest]
    fog_and_wind = (weather.visibility < 4) & (weather.wind > 14)
    ice = (weather.temperature < 0) & (weather.precipitation > 0)
    friday = (flights.day + 4) % 7 == 1  # the first of January 2015 was a Thursday
    weight = -2.9 + 2.4 * builds_up + 0.16 * weather.precipitation + 1.2 * fog_and_wind + 1.5 * ice
    weight = weight + 0.4 * friday + 0.04 * steady
    chance = 1 / (1 + np.exp(-weight))
    disrupted = rng.random(rows) < chance
    delay = -5 + 0.5 * steady + rng.normal(0, 7, rows) + disrupted * rng.exponential(48, rows)
    return delay, 0.06 * chance**1.5


def _table(rng: Rng, world: _World, flights: _Flights, weather: _Weather) -> pa.Table:
    rows = len(flights.day)
    delay, cancel_chance = _delays(rng, world, flights, weather)
    cancelled = rng.random(rows) < cancel_chance
    arrival = delay + rng.normal(-3, 9, rows) - 0.004 * flights.miles
    minutes = 35 + flights.miles / 7.6 + rng.normal(0, 4, rows)
    taxi = rng.gamma(6, 2.5, rows) + 4 * (weather.temperature < 0)

    def numbers(values: Floats, missing: np.ndarray, decimals: int = 0) -> pa.Array:
        return pa.array(np.round(values, decimals).astype(np.float32), mask=missing)

    def sometimes(share: float) -> np.ndarray:
        return rng.random(rows) < share

    def texts(levels: list[str], codes: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
        indices = pa.array(codes.astype(np.int32), mask=missing)
        return pa.DictionaryArray.from_arrays(indices, pa.array(levels)).dictionary_decode()

    never = np.zeros(rows, dtype=bool)
    return pa.table({
        "scheduled": pa.array(flights.scheduled).cast(pa.timestamp("us")),
        "carrier": texts(list(CARRIERS), world.owner[flights.tail]),
        "flight": pa.array(rng.integers(1, 6_000, rows).astype(np.int32)),
        "tailnum": texts(world.tails, flights.tail, sometimes(0.01)),
        "origin": texts(world.codes, flights.origin),
        "dest": texts(world.codes, flights.dest),
        "distance": numbers(flights.miles, never),
        "scheduled_minutes": pa.array(np.round(minutes).astype(np.int16)),
        "temperature": numbers(weather.temperature, sometimes(0.02), 1),
        "wind": numbers(weather.wind, sometimes(0.03), 1),
        "visibility": numbers(weather.visibility, sometimes(0.02), 1),
        "precipitation": numbers(weather.precipitation, sometimes(0.05), 1),
        "dep_delay": numbers(delay, cancelled),
        "taxi_out": numbers(taxi, cancelled),
        "arr_delay": numbers(arrival, cancelled | sometimes(0.002)),
    })  # fmt: skip
