"""The public names: listed alike everywhere, whole, and none of them means two things."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
import typing
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import streamerge

PACKAGE = Path(streamerge.__file__).parent
MODULES = sorted(
    name for _, name, _ in pkgutil.walk_packages(streamerge.__path__, "streamerge.") if not name.endswith("__main__")
)


def imported_for_type_checkers() -> dict[str, str]:
    """Name -> module, of the imports that only type checkers see."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    found = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname is None
            found[alias.name] = f"{node.module}"
    return found


class TestLists:
    def test_agree(self) -> None:
        modules = {name: f"streamerge.{module}" for module, names in streamerge._MODULES.items() for name in names}
        assert sum(map(len, streamerge._MODULES.values())) == len(modules)
        assert imported_for_type_checkers() == modules
        assert len(set(streamerge.__all__)) == len(streamerge.__all__)
        assert set(streamerge.__all__) == set(modules)
        assert streamerge.__all__ == sorted(streamerge.__all__)

    def test_each_name_is_its_modules_own(self) -> None:
        for name, module in imported_for_type_checkers().items():
            found = getattr(streamerge, name)
            assert found is getattr(importlib.import_module(module), name)
            assert getattr(found, "__module__", module) in (module, "types", "typing")

    def test_dir_lists_them_before_they_are_imported(self) -> None:
        script = "import sys, streamerge; print(*dir(streamerge)); print(*sys.modules)"
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        listed, loaded = (set(line.split()) for line in run.stdout.splitlines())
        assert listed >= set(streamerge.__all__)
        assert {name for name in listed - set(streamerge.__all__) if not name.startswith("_")} <= {
            "TYPE_CHECKING",
            "annotations",
            "importlib",
        }
        assert {name for name in loaded if name.startswith("streamerge.")} == set()

    def test_other_names_are_none(self) -> None:
        with pytest.raises(AttributeError, match="no attribute 'merger'"):
            _ = streamerge.merger


# --- what annotations mention -----------------------------------------------------------------------


def own_names() -> dict[str, object]:
    """All that modules of the package define or import, by name: what annotations may name."""
    found: dict[str, object] = {}
    for name in MODULES:
        module = importlib.import_module(name)
        found.update((key, value) for key, value in vars(module).items() if not key.startswith("__"))
    return found


def functions_of(public: object) -> Iterator[Callable[..., object]]:
    """A public function; or a public class's methods and properties, those that it inherits too."""
    if isinstance(public, FunctionType):
        yield public
    if not isinstance(public, type):
        return
    for cls in public.__mro__:
        if not cls.__module__.startswith("streamerge"):
            continue
        for name, member in vars(cls).items():
            if name.startswith("_") and name != "__init__":
                continue
            inner = member.fget if isinstance(member, property) else inspect.unwrap(getattr(member, "__func__", member))
            if isinstance(inner, FunctionType):
                yield inner


def mentioned(annotation: object) -> Iterator[type]:
    """The classes of the package that an annotation mentions."""
    if isinstance(annotation, type) and annotation.__module__.startswith("streamerge"):
        yield annotation
    arguments = tuple(annotation) if isinstance(annotation, list | tuple) else typing.get_args(annotation)
    if isinstance(annotation, typing.TypeVar) and annotation.__bound__ is not None:
        arguments = (annotation.__bound__,)
    origin = typing.get_origin(annotation)
    for argument in (*arguments, *([origin] if isinstance(origin, type) else [])):
        yield from mentioned(argument)


def hints(of: Callable[..., object] | type, names: dict[str, object]) -> dict[str, object]:
    """The annotations, also those whose names are imported for type checkers alone."""
    module = sys.modules[of.__module__]
    return typing.get_type_hints(of, {**names, **vars(module)})


@pytest.mark.parametrize("name", streamerge.__all__)
def test_all_classes_of_a_signature_are_public(name: str) -> None:
    """Who writes a program that is type-checked must be able to name them."""
    public, names = getattr(streamerge, name), own_names()
    missing = set()
    annotations: dict[str, object] = {}
    if not isinstance(public, type | FunctionType):
        annotations[name] = public  # an alias
    if isinstance(public, type):
        annotations.update((key, hint) for key, hint in hints(public, names).items() if not key.startswith("_"))
    for function in functions_of(public):
        annotations.update((f"{function.__qualname__}: {key}", hint) for key, hint in hints(function, names).items())
    for where, annotation in annotations.items():
        for cls in mentioned(annotation):
            if cls.__name__ not in streamerge.__all__:
                missing.add(f"{cls.__name__} ({where})")
    assert missing == set()


# --- one name, one thing ----------------------------------------------------------------------------


def test_no_class_is_defined_twice() -> None:
    names = Counter(
        node.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name: count for name, count in names.items() if count > 1} == {}


def test_no_module_is_called_like_a_function() -> None:
    """``streamerge.merge`` would be the one or the other, depending on what has been imported."""
    functions = {name for name in streamerge.__all__ if isinstance(getattr(streamerge, name), FunctionType)}
    assert functions >= {"merge", "open_tar", "open_image", "layer_files"}
    assert {part for name in MODULES for part in name.split(".")[1:]} & functions == set()
    for name in streamerge.__all__:
        assert not isinstance(getattr(streamerge, name), ModuleType)
