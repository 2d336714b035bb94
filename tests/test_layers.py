"""The packages of pipeline/ in one order: each imports only those above it, so that a change is felt below it alone."""

import ast
import functools
from collections.abc import Iterable
from pathlib import Path

import pytest

import pipeline

PACKAGE = Path(__file__).resolve().parent.parent / "pipeline"

# From top to bottom.  A package that does not exist yet is made in its place.
ORDER = (
    "formatting",
    "errors",
    "config",  # what can be asked for
    "efficiency",  # formulas and instruments
    "cluster",  # how to get a client
    "events",  # what a run says
    "planning",  # what a run will need
    "runtime",  # one run on a cluster
    "scheduling",  # decisions while it runs
    "monitoring",  # state from events, and what acts on it
    "data",
    "storage",  # files that are whole or not there
    "preprocess",
    "metrics",
    "model",  # the folder
    "scoring",  # one row, fast
    "reports",
    "dashboard",
    "training",  # how rounds are run
    "run",
    "compression",
    "tuning",
    "scaling",  # the experiment
    "inference",
    "serving",
    "exporting",
    "cli",  # with the face of the package, whose table names every verb's module, and through which verbs are called
)
FACE = {"pipeline", "pipeline.__main__"}
# Packages that import no engine, themselves or through others.
PURE = (
    "formatting",
    "errors",
    "config",
    "efficiency",
    "events",
    "planning",
    "scheduling",
    "monitoring.state",
    "monitoring.alarms",
    "data.files",
    "data.formats",
    "data.synthetic",
    "preprocess.statistics",
    "metrics",
    "scoring",
)
ENGINE = {"dask", "distributed", "dask_cuda", "xgboost", "cupy", "bokeh"}
# The only packages that may import a library.
LIBRARIES = {
    "cupy": ("cluster",),  # take pipeline.cluster.devices
    "click": ("cli",),
    "rich": ("cli",),
    "bokeh": ("reports", "dashboard"),
}
# The only module beside the trainers that knows them; the others of pipeline/training/ supervise any trainer.
TABLE_OF_TRAINERS = "pipeline.training.trainers"
# What says something does not know what hears it.
SPEAKERS, HEARERS = ("data", "preprocess", "training"), ("monitoring", "dashboard")


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def imports(name: str) -> frozenset[str]:
    """Every module that a file imports, inside functions too, and every one of ours that a string in it names.

    Imports for type checking alone do not count.
    """
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(MODULES[name].read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve(name, node)
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in MODULES}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # of importlib, a preload, a table
            named = node.value.partition(":")[0]
            found |= {named} & (MODULES.keys() - {"pipeline"})
        pending.extend(ast.iter_child_nodes(node))
    return frozenset(found)


def resolve(name: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def package_of(module: str) -> str:
    """Its name in ORDER."""
    return ORDER[-1] if module in FACE else module.split(".")[1]


def inside(module: str, packages: Iterable[str]) -> bool:
    return any(f"{module}.".startswith(f"pipeline.{package}.") for package in packages)


def supervises(name: str) -> bool:
    """Whether a module lies directly in pipeline/training/."""
    return MODULES[name].parent == PACKAGE / "training" and name != TABLE_OF_TRAINERS


def test_every_package_has_a_place() -> None:
    assert {package_of(name) for name in MODULES} <= set(ORDER)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_come_from_above(name: str) -> None:
    place = ORDER.index(package_of(name))
    below = {imported for imported in imports(name) & MODULES.keys() if ORDER.index(package_of(imported)) > place}
    assert not below, f"{name} imports {sorted(below)}, which lie below {package_of(name)}"


@pytest.mark.parametrize("name", sorted(name for name in MODULES if inside(name, PURE)))
def test_pure_packages_import_no_engine(name: str) -> None:
    """Neither its libraries, nor a module that imports them."""
    for module in reached(name):
        for imported in imports(module):
            library = imported.partition(".")[0]
            assert library not in ENGINE | {"click", "rich"}, f"{name} -> {module} imports {imported}"


@pytest.mark.parametrize("name", sorted(name for name in MODULES if supervises(name)))
def test_what_supervises_knows_no_trainer(name: str) -> None:
    """Neither XGBoost, nor a trainer, nor a module that imports them."""
    for module in reached(name):
        package = module.rpartition(".")[0] if MODULES[module].name != "__init__.py" else module
        assert not package.startswith("pipeline.training."), f"{name} reaches {module}"
        assert "xgboost" not in {imported.partition(".")[0] for imported in imports(module)}, f"{name} -> {module}"


def reached(name: str) -> set[str]:
    """A module and all of ours that it imports, themselves or through others."""
    seen: set[str] = set()
    pending = [name]
    while pending:
        module = pending.pop()
        if module in seen:
            continue
        seen.add(module)
        pending.extend(imported for imported in imports(module) & MODULES.keys() if imported not in FACE)
    return seen


@pytest.mark.parametrize("name", sorted(MODULES))
def test_libraries_of_few_packages(name: str) -> None:
    libraries = {imported.partition(".")[0] for imported in imports(name)}
    wrong = [library for library, packages in LIBRARIES.items() if library in libraries and not inside(name, packages)]
    assert not wrong, f"{name} imports {wrong}"


@pytest.mark.parametrize("name", sorted(name for name in MODULES if inside(name, SPEAKERS)))
def test_an_emitter_does_not_know_its_handlers(name: str) -> None:
    wrong = {imported for imported in imports(name) if inside(imported, HEARERS)}
    assert not wrong, f"{name} imports {wrong}, which reads its events"


def test_no_verb_has_the_name_of_a_module() -> None:
    """`import pipeline.train` would put the module in the function's place."""
    names = {name.split(".")[1] for name in MODULES.keys() - FACE}
    assert not names & set(pipeline.__all__)


def test_the_rules_would_be_noticed() -> None:
    """Imports inside functions, and modules that are named, are found."""
    assert "pipeline.config.alarms" in imports("pipeline.config.job")
    assert "pipeline.training.xgboost.trainer" in imports("pipeline.run.modules")
    assert "pipeline.run.train" in imports("pipeline.cli.main")
    assert "pipeline.training.xgboost.rounds" in reached("pipeline.training.trainers")
