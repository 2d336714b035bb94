"""Imports XGBoost without scikit-learn, Arrow without pandas and NumPy without its compiler, in our own processes.

XGBoost imports scikit-learn, and with it pandas, if it is installed, for wrapper classes that this package does not
use: 1.1 s of processor time and 117 MB in every process (measured; 0.13 s and 31 MB without).  The wrappers and the
plots import scipy.special even without scikit-learn: 0.12 s.  SciPy imports every public name of NumPy, so its Fortran
compiler and its test tools too: 0.1 s.  Arrow imports pandas, if it is installed, to see whether what `pyarrow.array`
receives is one of its objects: 0.3 s.  Meant for workers and for the command line; in a user's own process XGBoost's
scikit-learn classes have to work.
"""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator, Sequence, Set
from types import FrameType, ModuleType
from typing import Any


def install() -> None:
    """Makes `import xgboost` skip its wrappers for scikit-learn and its plots, Arrow skip pandas, and the rarely used
    packages of NumPy load when they are first used.

    Importing any of them by name still works, pandas except in modules of this package.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


WRAPPERS = frozenset({"sklearn", "xgboost.sklearn", "xgboost.plotting"})  # XGBoost does without, if they are missing
RARE = frozenset({"numpy.f2py", "numpy.testing"})


class _Finder(importlib.abc.MetaPathFinder):
    """Hides the wrappers while a thread imports XGBoost, and pandas from Arrow in calls of this package."""

    def __init__(self) -> None:
        self.here = threading.local()
        self.pandas_hidden = False  # from Arrow; not before it has looked once

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name in getattr(self.here, "hidden", ()):
            raise ModuleNotFoundError(f"{name} is left out on purpose", name=name)
        if name == "pandas" and self.pandas_hidden and _is_ours(sys._getframe(1)):
            raise ModuleNotFoundError("pandas is left out on purpose: only Arrow can have looked for it", name=name)
        if name in RARE:
            return _lazy(importlib.machinery.PathFinder.find_spec(name, path, target))
        around = {"xgboost": self._load_xgboost, "pyarrow": self._load_arrow, "pandas": self._load_pandas}.get(name)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target) if around else None
        if around and spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, around)
        return spec

    def _load_xgboost(self, load: Callable[[], None]) -> None:
        with self._hidden(WRAPPERS):
            load()

    def _load_arrow(self, load: Callable[[], None]) -> None:
        """Lets Arrow look for pandas here, once: later it would hold a lock while it looks."""
        load()
        api = getattr(sys.modules["pyarrow.lib"], "_pandas_api", None)
        if api is not None and "pandas" not in sys.modules:
            with self._hidden({"pandas"}):
                self.pandas_hidden = not api.have_pandas

    def _load_pandas(self, load: Callable[[], None]) -> None:
        """Lets Arrow look again when other code imports pandas: it would take its objects for plain sequences."""
        load()
        if self.pandas_hidden:
            _ = sys.modules["pyarrow.lib"]._pandas_api.pd

    @contextlib.contextmanager
    def _hidden(self, names: Set[str]) -> Iterator[None]:
        self.here.hidden = names
        try:
            yield
        finally:
            self.here.hidden = ()


class _Loader(importlib.abc.Loader):
    """A library's own loader, inside `around`."""

    def __init__(self, loader: Any, around: Callable[[Callable[[], None]], None]) -> None:
        self.loader, self.around = loader, around

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)  # package data is read through the loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.around(lambda: self.loader.exec_module(module))


def _lazy(spec: importlib.machinery.ModuleSpec | None) -> importlib.machinery.ModuleSpec | None:
    """Makes the module load when an attribute of it is first used."""
    if spec is not None and spec.loader is not None:
        spec.loader = importlib.util.LazyLoader(spec.loader)
    return spec


def _is_ours(frame: FrameType | None) -> bool:
    """Whether code of this package caused the import in this frame.

    None of it imports pandas by name; Arrow does, from compiled functions, which have no frame, and its own modules.
    """
    while frame is not None and _name(frame).partition(".")[0] in ("importlib", "pyarrow"):
        frame = frame.f_back
    return frame is not None and _name(frame).partition(".")[0] == "pipeline"


def _name(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
