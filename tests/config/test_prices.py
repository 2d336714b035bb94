"""The user's prices: what is accepted, and the errors for what is not."""

from pathlib import Path

import pytest

from pipeline.config.prices import Modes, OnDemand, Prices, Reserved, Spot, load_prices
from pipeline.errors import JobError

ALL = """
currency = "EUR"
[mode.on_demand]
worker_hour = 0.40
[mode.reserved]
worker_hour = 0.25
minimum_hours = 1
[mode.spot]
worker_hour = 0.12
losses_per_hour = 0.05
"""


@pytest.fixture
def prices_file(tmp_path: Path) -> Path:
    return tmp_path / "prices.toml"


def told(path: Path) -> str:
    """The error for the prices in this file, without the file's name, which it begins with."""
    with pytest.raises(JobError) as caught:
        load_prices(path)
    said = str(caught.value)
    assert caught.value.exit_code == 2
    assert said.startswith(f"{path}: ")
    return said.removeprefix(f"{path}: ")


def test_prices_of_all_modes(prices_file: Path) -> None:
    prices_file.write_text(ALL, encoding="utf-8")
    assert load_prices(prices_file) == Prices(
        currency="EUR",
        mode=Modes(
            on_demand=OnDemand(worker_hour=0.4),
            reserved=Reserved(worker_hour=0.25, minimum_hours=1),
            spot=Spot(worker_hour=0.12, losses_per_hour=0.05),
        ),
    )


def test_one_mode_is_enough_and_a_price_may_be_0(prices_file: Path) -> None:
    prices_file.write_text("\ufeff[mode.spot]\r\nworker_hour = 0\r\nlosses_per_hour = 1e-3\r\n", encoding="utf-8")
    prices = load_prices(str(prices_file))
    assert prices.mode.spot == Spot(worker_hour=0, losses_per_hour=0.001)
    assert (prices.currency, prices.mode.on_demand, prices.mode.reserved) == ("", None, None)


PRICE = "price of one worker for one hour, e.g. 0.40"
NONE = "mode: give a price: [mode.on_demand], [mode.reserved] or [mode.spot] with worker_hour"
WRONG = {
    # unknown keys, with the nearest, with the table they belong to, with all there are
    "[mode.sport]\nworker_hour = 1": "unknown key mode.sport; did you mean spot?",
    "[mode.on_demand]\nworker_hours = 1": "mode.on_demand.worker_hour is missing; unknown key mode.on_demand.worker_hours; did you mean worker_hour?",
    "[spot]\nworker_hour = 1": f"{NONE}; unknown key spot; did you mean mode.spot?",
    "[mode.on_demand]\nworker_hour = 1\ncurrency = 'EUR'": "unknown key mode.on_demand.currency; did you mean currency, above the first table?",
    "worker_hour = 1": f"{NONE}; unknown key worker_hour; known: currency, mode",
    # numbers
    "[mode.on_demand]\nworker_hour = -0.1": f"mode.on_demand.worker_hour = -0.1: expected >= 0.0 ({PRICE})",
    "[mode.on_demand]\nworker_hour = nan": f"mode.on_demand.worker_hour = nan: expected a finite number ({PRICE})",
    "[mode.on_demand]\nworker_hour = inf": f"mode.on_demand.worker_hour = inf: expected a finite number ({PRICE})",
    "[mode.on_demand]\nworker_hour = 1e13": f"mode.on_demand.worker_hour = 10000000000000.0: expected <= 1000000000000.0 ({PRICE})",
    "[mode.on_demand]\nworker_hour = '0.4'": f"mode.on_demand.worker_hour = '0.4': expected a number ({PRICE})",
    "[mode.on_demand]\nworker_hour = true": f"mode.on_demand.worker_hour = True: expected a number ({PRICE})",
    "[mode.spot]\nworker_hour = 1\nlosses_per_hour = -1": "mode.spot.losses_per_hour = -1: expected >= 0.0 (how often one worker is taken away in an hour, e.g. 0.05)",
    "[mode.reserved]\nworker_hour = 1\nminimum_hours = 1e9": "mode.reserved.minimum_hours = 1000000000.0: expected <= 87600.0 (hours that each worker is paid for at least, e.g. 1)",
    # what is missing, or of another type
    "": NONE,
    "currency = 'EUR'\n[mode]": NONE,
    "[mode.spot]": "mode.spot.worker_hour is missing; mode.spot.losses_per_hour is missing",
    "[mode]\non_demand = 0.4": "mode.on_demand = 0.4: expected a table (paid while the run lasts: worker_hour)",
    "mode = 3": "mode = 3: expected a table (the prices, each a table, e.g. [mode.on_demand])",
    "currency = 3\n[mode.on_demand]\nworker_hour = 1": "currency = 3: expected a text (text shown behind amounts, e.g. EUR)",
    # no TOML
    "[mode.on_demand": "not a readable TOML file: Expected ']' at the end of a table declaration (at end of document)",
    f"x = {'[' * 3_000}": "not a readable TOML file: ",
    f"x = {'1' * 5_000}": "not a readable TOML file: ",
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:60])
def test_the_error_for_wrong_prices(prices_file: Path, text: str) -> None:
    prices_file.write_text(text, encoding="utf-8")
    said, wanted = told(prices_file), WRONG[text]
    assert said.startswith(wanted) if wanted.endswith(": ") else said == wanted


def test_a_number_of_any_size_is_refused(prices_file: Path) -> None:
    prices_file.write_text(f"[mode.on_demand]\nworker_hour = 1{'0' * 400}", encoding="utf-8")
    assert told(prices_file).startswith("mode.on_demand.worker_hour = 1000")


def test_a_file_that_cannot_be_read(prices_file: Path) -> None:
    assert told(prices_file) == "cannot be read: No such file or directory"
    assert told(prices_file.parent) == "cannot be read: Is a directory"
    prices_file.write_bytes(b"currency = '\xff'")
    assert told(prices_file).startswith("not a readable TOML file: 'utf-8' codec can't decode")
    prices_file.write_bytes(b" " * 65_537)
    assert told(prices_file) == "65,537 bytes, but at most 65,536 bytes of prices are read"
    with pytest.raises(JobError, match=r"x00b: not the name of a file"):
        load_prices("a\0b")


def test_home_is_home(prices_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prices_file.write_text(ALL, encoding="utf-8")
    monkeypatch.setenv("HOME", str(prices_file.parent))
    assert load_prices("~/prices.toml").currency == "EUR"


def test_prices_are_frozen(prices_file: Path) -> None:
    prices_file.write_text(ALL, encoding="utf-8")
    with pytest.raises(ValueError, match="frozen"):
        load_prices(prices_file).currency = "USD"  # type: ignore[misc]
