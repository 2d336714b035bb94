"""No module of pipeline/ has state of a run: what changes while the program runs lies in objects that are passed on.

What a run keeps on a worker or the scheduler lies in their sessions (`pipeline.runtime.worker_session`).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "pipeline"

# State of a process, not of a run.
ALLOWED = {
    "cluster.devices._PROBING": "a lock: the GPUs are tried once a process",
    "cluster.interrupts._ending": "whether the first signal has come: signal handlers belong to the process",
    "cluster.interrupts.abandoned": "threads that may never end: the process has to end without waiting for them",
    "cluster.launchers.plain_nanny.PlainNanny.exit_codes": "of workers that end before the cluster's start returns it",
    "cluster.launchers.plain_nanny._HIDDEN_MAIN": "nannies start in parallel, and the process has one main module",
    "cluster.launchers.plain_nanny._FORKING": "nannies start in parallel, and Dask's configuration is the process's",
    "cluster.launchers.fork_server._lock": "guards the next four",
    "cluster.launchers.fork_server._users": "how many clusters use Python's fork server, of which a process has one",
    "cluster.launchers.fork_server._started": "what that was started with",
    "cluster.launchers.fork_server._preloads": "of the user's own fork server, to be given back",
    "cluster.launchers.fork_server._early": "where a server that has no cluster yet writes its stderr",
    "data.files.waiting._told": "a context variable: each thread and task has its own value",
    "data.schema.expressions._SESSION": "DuckDB's session of each thread, without data",
    "model.inference._MAKING": "a lock: XGBoost's configuration belongs to the process",
    "monitoring.prometheus.BOARDS": "prometheus_client has one registry a process; schedulers add and remove theirs",
    "monitoring.prometheus._COLLECTOR": "what is registered there; it holds nothing",
    "runtime.channel._lock": "guards the subscriptions",
    "runtime.channel._listening": "subscriptions by client, gone with it: Dask has one handler a topic and client",
    "runtime.task_ledger._open": "the open sections of each thread, as its call stack",
}
CONSTRUCTORS = {  # of objects that change
    "dict", "list", "set", "bytearray", "deque", "defaultdict", "Counter", "OrderedDict", "local", "Lock", "RLock",
    "Event", "Condition", "Queue", "SimpleQueue", "count", "cycle", "ContextVar", "WeakKeyDictionary", "WeakSet",
    "WeakValueDictionary",
}  # fmt: skip
MUTATORS = {
    "append", "appendleft", "add", "update", "pop", "popitem", "popleft", "setdefault", "clear", "extend", "insert",
    "remove", "discard",
}  # fmt: skip
Named = dict[str, ast.expr]


def classes_that_change(trees: dict[str, ast.Module]) -> set[str]:
    """Names of the package's classes whose objects change: they set their attributes after their construction."""
    found = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not any("frozen=True" in ast.unparse(d) for d in node.decorator_list):
                bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                if not bases & {"NamedTuple", "Enum", "StrEnum", "BaseModel", "Strict", "Section"}:
                    found.add(node.name)
    return found


def assigned(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, str, ast.expr]]:
    """Qualified name, name and value of every assignment of a module and its classes."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from assigned(node.body, f"{prefix}{node.name}.")
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            if isinstance(target, ast.Name) and node.value is not None:  # type: ignore[attr-defined]
                yield f"{prefix}{target.id}", target.id, node.value  # type: ignore[attr-defined]
        if isinstance(node, (ast.If, ast.Try)):
            yield from assigned(node.body, prefix)


def is_made_to_change(value: ast.expr, changing: set[str]) -> bool:
    if isinstance(value, (ast.Dict, ast.List, ast.Set)):
        return not ast.unparse(value).strip("[]{}")  # an empty one is there to be filled
    return isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] in CONSTRUCTORS | changing


def changed_names(tree: ast.Module) -> set[str]:
    """Names that the module assigns as global, or whose objects it changes."""
    found: set[str] = set()
    for node in ast.walk(tree):
        changed: ast.AST | None = None
        if isinstance(node, ast.Global):
            found |= set(node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            changed = node.func.value
        elif isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(node.ctx, (ast.Store, ast.Del)):
            changed = node.value
        if isinstance(changed, ast.Name):
            found.add(changed.id)
    return found - {name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for name in own_names(node)}


def own_names(function: ast.FunctionDef) -> set[str]:
    """Arguments and variables of a function."""
    names = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    names |= {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    outer = {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}
    return names - outer


def state_in(trees: dict[str, ast.Module]) -> set[str]:
    changing = classes_that_change(trees)
    found = set()
    for module, tree in trees.items():
        changed = changed_names(tree)
        for full, name, value in assigned(tree.body):
            if is_made_to_change(value, changing) or (name == full and name in changed):
                found.add(f"{module}.{full}")
    return found


def test_no_module_has_state_of_a_run() -> None:
    trees = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        trees[module] = ast.parse(path.read_text(encoding="utf-8"))
    found = state_in(trees)
    assert found - ALLOWED.keys() == set(), "put it into a session, or pass it on; see ALLOWED"
    assert ALLOWED.keys() - found == set(), "no longer there"


@pytest.mark.parametrize(
    "code",
    [
        "STATES: dict[str, int] = {}",
        "STATES = dict()",
        "states = collections.deque(maxlen=3)",
        "lock = threading.Lock()",
        "NUMBERS = {1: 2}\ndef f():\n    NUMBERS[2] = 3",
        "NUMBERS = [1]\ndef f():\n    NUMBERS.append(2)",
        "number = 0\ndef f():\n    global number\n    number = 1",
        "class Store:\n    def __init__(self): self.runs = {}\nSTORE = Store()",
        "class Store:\n    runs: ClassVar[list[int]] = []",
        "try:\n    import fast\nexcept ImportError:\n    pass\nelse:\n    pass\nKEPT = weakref.WeakKeyDictionary()",
    ],
)
def test_state_is_noticed(code: str) -> None:
    assert state_in({"m": ast.parse(code)})


@pytest.mark.parametrize(
    "code",
    [
        "NAMES = {'a': 1}",
        "NAMES = frozenset({1})",
        "PATTERN = re.compile('x')",
        "@dataclass(frozen=True)\nclass Note:\n    text: str\nWAITING = Note('x')",
        "@functools.cache\ndef f():\n    return 1",
        "@dataclass\nclass Run:\n    notes: list = field(default_factory=list)",
        "NUMBERS = [1]\ndef f(NUMBERS):\n    NUMBERS.append(2)",
    ],
)
def test_constants_and_caches_are_none(code: str) -> None:
    assert not state_in({"m": ast.parse(code)})
