"""The three rings: numbers know nothing of the engine, the engine nothing of the people."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "pipeline"

NUMBERS = {
    "pipeline.monitoring.alarms.efficiency",
    "pipeline.monitoring.alarms.episodes",
    "pipeline.config.alarms",
    "pipeline.monitoring.alarms.readings",
    "pipeline.planning.assignment",
    "pipeline.monitoring.state.board",
    "pipeline.monitoring.state.bounds",
    "pipeline.monitoring.state.live",
    "pipeline.monitoring.state.measured",
    "pipeline.monitoring.state.naming",
    "pipeline.monitoring.state.pace",
    "pipeline.monitoring.state.restarts",
    "pipeline.monitoring.state.run",
    "pipeline.monitoring.state.stages",
    "pipeline.monitoring.state.thinning",
    "pipeline.monitoring.state.worker_state",
    "pipeline.events.findings",
    "pipeline.data.fragments",
    "pipeline.data.keys",
    "pipeline.efficiency.account",
    "pipeline.scaling.checks",
    "pipeline.scaling.compare",
    "pipeline.efficiency.cost",
    "pipeline.efficiency.definitions",
    "pipeline.efficiency.usl",
    "pipeline.efficiency.machine",
    "pipeline.scaling.paper",
    "pipeline.efficiency.meter",
    "pipeline.efficiency.records",
    "pipeline.efficiency.resample",
    "pipeline.scaling.samples",
    "pipeline.efficiency.sockets",
    "pipeline.efficiency.split",
    "pipeline.efficiency.summary",
    "pipeline.efficiency.traffic",
    "pipeline.scaling.explain",
    "pipeline.scaling.view",
    "pipeline.errors",
    "pipeline.events.types",
    "pipeline.config.job",
    "pipeline.preprocess.apply",
    "pipeline.preprocess.recipe",
    "pipeline.preprocess.statistics.statistics",
    "pipeline.preprocess.transforms",
    "pipeline.config.metric_names",
    "pipeline.metrics.exact",
    "pipeline.config.xgboost",
    "pipeline.config.parameters",
    "pipeline.training.xgboost.sampling",
    "pipeline.config.records",
}
PEOPLE = {
    "pipeline.__main__",
    "pipeline.cli.main",
    "pipeline.dashboard.connection",
    "pipeline.dashboard.pages.curves",
    "pipeline.dashboard.drawing",
    "pipeline.dashboard.pages.efficiency",
    "pipeline.dashboard.theme",
    "pipeline.dashboard.markup",
    "pipeline.dashboard.pages.registry",
    "pipeline.dashboard.replay",
    "pipeline.dashboard.pages.stage_strip",
    "pipeline.dashboard.pages.training",
    "pipeline.dashboard.window",
    "pipeline.dashboard.pages.details",
    "pipeline.dashboard.pages.workers",
    "pipeline.scaling.table",
    "pipeline.scaling.scale",  # writes the report
    "pipeline.cli.notebook",
    "pipeline.cli.options",
    "pipeline.cli.progress",
    "pipeline.cli.scale_options",
    "pipeline.serving",
    "pipeline.cli.output",
    "pipeline.cli.terminal",
    "pipeline.monitoring.follow",
}
ENGINE_LIBRARIES = {"dask", "distributed", "dask_cuda", "xgboost", "cupy", "bokeh"}
PEOPLE_LIBRARIES = {"click", "rich"}
ONLY_CUPY = {"pipeline.cluster.devices"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(name: str) -> set[str]:
    """Every module that a file imports, inside functions too; imports for type checking alone do not count."""
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
        pending.extend(ast.iter_child_nodes(node))
    return found


def resolve(name: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def inside(module: str, rings: set[str]) -> bool:
    return any(module == ring or module.startswith(f"{ring}.") for ring in rings)


def test_the_numbers_exist() -> None:
    assert MODULES.keys() >= NUMBERS, f"moved or gone: {sorted(NUMBERS - MODULES.keys())}"


@pytest.mark.parametrize("name", sorted(NUMBERS & MODULES.keys()))
def test_numbers_import_no_engine(name: str) -> None:
    """Neither its libraries, nor a module that imports them."""
    seen: set[str] = set()
    pending = [name]
    while pending:
        module = pending.pop()
        if module in seen:
            continue
        seen.add(module)
        for imported in imports(module):
            library = imported.partition(".")[0]
            assert library not in ENGINE_LIBRARIES | PEOPLE_LIBRARIES, f"{name} -> {module} imports {imported}"
            if imported in MODULES and imported != "pipeline":  # the package's own face imports everything, lazily
                pending.append(imported)


@pytest.mark.parametrize("name", sorted(name for name in MODULES if not inside(name, PEOPLE)))
def test_engine_imports_no_people(name: str) -> None:
    wrong = {
        imported
        for imported in imports(name)
        if inside(imported, PEOPLE) or imported.partition(".")[0] in PEOPLE_LIBRARIES
    }
    assert not wrong, f"{name} imports {wrong}"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_one_place_imports_cupy(name: str) -> None:
    libraries = {imported.partition(".")[0] for imported in imports(name)}
    assert "cupy" not in libraries or name in ONLY_CUPY, f"{name} imports cupy: take pipeline.cluster.devices"


READERS = {
    "pipeline.monitoring.alarms", "pipeline.dashboard", "pipeline.run.finish", "pipeline.cli.progress", "pipeline.events.recording", "pipeline.run.train",
    "pipeline.monitoring.follow",
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    sorted(name for name in MODULES if inside(name, {"pipeline.data", "pipeline.preprocess", "pipeline.training"})),
)
def test_who_says_something_does_not_know_who_hears_it(name: str) -> None:
    wrong = {imported for imported in imports(name) if inside(imported, READERS)}
    assert not wrong, f"{name} imports {wrong}, which reads its events"
