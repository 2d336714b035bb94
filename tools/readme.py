"""Writes the parts of the documentation that follow from the code: the job's fields, the packages, the file tree.

python -m tools.readme          writes them
python -m tools.readme --check  exit code 1 where they are out of date
"""

import argparse
import ast
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeGuard

from pipeline.config.fields import job_fields

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
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


def packages_table() -> str:
    """The packages of pipeline/ in the order of the layer test, with the first lines of their docstrings."""
    layers = ast.parse((ROOT / "tests" / "test_layers.py").read_text(encoding="utf-8"))
    (order,) = (ast.literal_eval(node.value) for node in layers.body if _assigns(node, "ORDER"))
    rows = []
    for name in order:
        package, module = ROOT / "pipeline" / name / "__init__.py", ROOT / "pipeline" / f"{name}.py"
        found = next((path for path in (package, module) if path.exists()), None)
        if found is not None:
            rows.append(f"| {name} | {role(found)} |")
    return "\n".join(["| package | what it is |", "|---|---|", *rows])


def _assigns(node: ast.stmt, name: str) -> TypeGuard[ast.Assign]:
    return isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets)


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "job.md": {"fields": fields_table},
    "architecture.md": {"packages": packages_table, "tree": file_tree},
}


def updated(text: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """The text with its parts rewritten between their markers."""
    for name, write in parts.items():
        pattern = rf"(<!-- {name}[^>]*-->\n).*?(<!-- end of {name} -->)"
        text, count = re.subn(
            pattern, lambda match, write=write: match[1] + write() + "\n" + match[2], text, flags=re.DOTALL
        )
        if count != 1:
            raise SystemExit(f"no part is named {name}")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if something would change")
    check = parser.parse_args().check
    changed = False
    for name, parts in PARTS.items():
        old = (DOCS / name).read_text(encoding="utf-8")
        new = updated(old, parts)
        changed |= new != old
        if not check:
            (DOCS / name).write_text(new, encoding="utf-8")
    return int(changed and check)


if __name__ == "__main__":
    sys.exit(main())
