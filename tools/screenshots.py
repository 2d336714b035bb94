"""Takes README's pictures of the dashboard, docs/training.png and docs/efficiency.png, while the flights workflow
trains.

python -m tools.screenshots [DATA]    DATA: where nycflights13 is; default: data/nycflights13
"""

import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.dashboard.browser import Browser, chromium, missing, until

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 1280
HEIGHTS = {"training": 930, "efficiency": 640}  # without the tables below, which contain names of folders
ROUND = 150  # the first round with enough to show
# So that the best round is some rounds behind, and the rounds continue.
SLOWLY = ("--set", "training.params.learning_rate=0.02", "--set", "training.early_stopping=300")


def reached(tab: Browser) -> bool:
    """Whether the training has reached the wanted round."""
    said = re.search(r"round ([\d,]+) of", tab.words())
    return said is not None and int(said[1].replace(",", "")) >= ROUND


def main() -> None:
    if reason := missing():
        raise SystemExit(reason)
    source = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "data/nycflights13").resolve()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "pipeline", "train", "workflows/flights.toml", "--set", f"data.source={source}",
            "--workers", "2", "--threads", "1", "--rounds", "600", *SLOWLY, "--out", f"{folder}/model",
        ]  # fmt: skip
        with (
            subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            ) as training,
            chromium(Path(folder, "profile"), "--hide-scrollbars") as tab,
        ):
            try:
                link = next(found[0] for line in training.stderr or () if (found := re.search(r"http://\S+", line)))
                tab.open(link)
                until(lambda: reached(tab), f"round {ROUND}")
                for page, height in HEIGHTS.items():
                    tab.open(link.replace("training", page))
                    tab.picture(ROOT / f"docs/{page}.png", WIDTH, height)
            finally:
                training.send_signal(signal.SIGINT)
                training.communicate()


if __name__ == "__main__":
    main()
