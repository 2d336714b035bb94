"""Writes the parts of README.md that follow from the code: the fields of a job, and the file tree.

python -m tools.readme          writes them
python -m tools.readme --check  exit code 1 where they are out of date
"""

import ast
import re
import sys
from pathlib import Path

from pipeline.config.fields import job_fields

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
FOLDERS = ("pipeline", "workflows", "benchmarks", "faults", "tools")


def fields_table() -> str:
    """Every field of the job as a Markdown table."""
    rows = [
        f"| `{name}` | `{field.default}` | {field.description.replace('|', '&#124;')} |"
        for name, field in job_fields().items()
    ]
    return "\n".join(["| field | default | what it says |", "|---|---|---|", *rows])


def file_tree() -> str:
    """The files with their roles, which are the first lines of their docstrings."""
    lines = [line for folder in FOLDERS if (ROOT / folder).is_dir() for line in _tree(ROOT / folder, 0)]
    lines += [f"{'tests/':<30} mirrors pipeline/; real data through PIPELINE_DATA or ../shared/data"]
    return "\n".join(["```", *lines, "```"])


def _tree(folder: Path, depth: int) -> list[str]:
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".py", ".toml", ".sh")]
    init = folder / "__init__.py"
    lines = [_line(f"{folder.name}/", depth, role(init) if init in files else "")]
    lines += [_line(path.name, depth + 1, role(path)) for path in files if path != init]
    for below in sorted(path for path in folder.iterdir() if path.is_dir()):
        if any(below.glob("*.py")):
            lines += _tree(below, depth + 1)
    return lines


def _line(name: str, depth: int, said: str) -> str:
    return f"{'  ' * depth + name:<30} {said}".rstrip()


def role(path: Path) -> str:
    """The first sentence of a module's docstring, or of the comment a file begins with."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        paragraph = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0]
    else:
        paragraph = "\n".join(re.findall(r"^#(?!!) ?(.*)", text, re.MULTILINE)).partition("\n\n")[0]
    return re.split(r"(?<=[.?])\s", " ".join(paragraph.split()))[0].removesuffix(".")


def updated(text: str) -> str:
    """The README with both parts written anew between their markers."""
    for name, part in (("fields", fields_table()), ("tree", file_tree())):
        pattern = rf"(<!-- {name}[^>]*-->\n).*?(<!-- end of {name} -->)"
        text, count = re.subn(
            pattern, lambda match, part=part: match[1] + part + "\n" + match[2], text, flags=re.DOTALL
        )
        if count != 1:
            raise SystemExit(f"README.md has no part named {name}")
    return text


def main() -> int:
    old = README.read_text(encoding="utf-8")
    new = updated(old)
    if "--check" in sys.argv[1:]:
        return int(new != old)
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
