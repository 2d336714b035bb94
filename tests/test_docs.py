"""The documentation follows the code: generated parts, files that are named, links, and the examples a newcomer runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")])
README_LINES = 200
RECIPES, RECIPE_LINES = 12, 6
TOY_ROWS, TOY_ROUNDS = 3_000, 4
# A fenced block that a reader runs: neither marked `text`, nor output or a job.
EXAMPLE = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_generated_parts_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, "-m", "tools.readme", "--check"], cwd=ROOT, check=False)
    assert done.returncode == 0, "python -m tools.readme writes them"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    wrong = [link for link in links if not (page.parent / link.partition("#")[0]).exists()]
    named = re.findall(r"`((?:pipeline|tests|benchmarks|faults|tools|workflows|docs)/[\w/.-]+\.\w+)`", text)
    wrong += [name for name in named if "NAME" not in name and not (ROOT / name).exists()]
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_anchors_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+#[^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        heads = re.findall(r"^#+ (.+)$", ((page.parent / target) if target else page).read_text("utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}, link


def test_the_recipes_are_short() -> None:
    _, _, recipes = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Recipes")
    found = re.split(r"^### ", recipes, flags=re.MULTILINE)[1:]
    assert len(found) == RECIPES
    for recipe in found:
        title, *lines = filter(None, recipe.splitlines())
        assert len(lines) <= RECIPE_LINES, title


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_the_examples_run(page: str, tmp_path: Path) -> None:
    """At toy size, in order, in one folder."""
    examples = EXAMPLE.findall((ROOT / page).read_text(encoding="utf-8"))
    assert examples
    (tmp_path / "workflows").symlink_to(ROOT / "workflows")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for language, code in examples:
        code = re.sub(r"(--rows |rows=)[\d_]+", rf"\g<1>{TOY_ROWS}", code)
        code = re.sub(r"(rounds ?= ?)\d+", rf"\g<1>{TOY_ROUNDS}", code)
        script = tmp_path / ("example.py" if language == "python" else "example.sh")
        script.write_text(code, encoding="utf-8")
        command = [sys.executable, script.name] if language == "python" else ["bash", "-e", script.name]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, f"{code}\n{done.stderr}"


def test_11_the_page_of_the_source_articles_says_what_is_not_built() -> None:
    lines = (ROOT / "docs" / "source-articles.md").read_text(encoding="utf-8").splitlines()
    rows = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in lines if line.startswith("| ")}
    missing = [
        "convolutional networks on images", "hybrid (data and model) parallelism", "several clouds", "FPGA, ASIC"
    ]  # fmt: skip
    assert all(rows[name].startswith("not built") for name in missing)
    assert "pipeline plan" in rows["resource planning, R = D/B x T/C x 1/k"]
