"""The rules of CONTRIBUTING.md that a machine can hold us to. Each count stands at zero and stays there."""

import ast
import configparser
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("events", "core", "plugins", "cli", "lab", "examples", "benchmarks")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "build" not in path.parts)
TREES = {path: ast.parse(path.read_text()) for path in SOURCES}

PURE_NAMES = (
    "model", "event", "normalize", "normalize_*", "wire", "line", "state", "delta", "wanted", "plan", "render", "blame",
)  # fmt: skip
FILE_LINES_MAX = 350
FUNCTION_LINES_MAX = 60
PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/plugin.py"))
SECTIONS = (
    "What it does",
    "Options",
    "Events it needs",
    "Kernel objects it owns",
    "Metrics",
    "Takeover",
    "Limits",
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def said_pure(tree: ast.Module) -> bool:
    """Say whether the module's first sentence ends in ``(pure)``."""
    return bool(re.search(r"\(pure\)\s*\.?(\s|$)", (ast.get_docstring(tree) or "").split("\n\n")[0]))


def named_pure(path: Path) -> bool:
    inside = path.relative_to(ROOT).parts[0] in ("events", "core", "plugins")
    return inside and any(fnmatch(path.stem, pattern) for pattern in PURE_NAMES)


PURE = {path: tree for path, tree in TREES.items() if named_pure(path) or said_pure(tree)}


# -- purity ------------------------------------------------------------------------------------------------------------

IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval", "breakpoint"})
IMPURE_METHODS = frozenset({
    "now", "utcnow", "today", "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "unlink",
})  # fmt: skip
IMPURE_MODULES = frozenset({
    "anyio", "asyncio", "logging", "os", "pathlib", "random", "secrets", "select", "shutil", "signal", "socket",
    "subprocess", "tempfile", "threading", "time", "uuid",
})  # fmt: skip


def impurities(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Return line and words for each thing in a module that no pure one may have."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield getattr(node, "lineno", 0), "async"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            yield node.lineno, f"{node.func.id}()"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in IMPURE_METHODS:
            yield node.lineno, f".{node.func.attr}()"
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, f"import {its.name}") for its in node.names if top(its.name) in IMPURE_MODULES)
        elif isinstance(node, ast.ImportFrom) and top(node.module or "") in IMPURE_MODULES:
            yield node.lineno, f"from {node.module} import"


def top(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("path", PURE, ids=name)
def test_a_pure_file_does_no_io_reads_no_clock_and_does_not_wait(path: Path) -> None:
    assert list(impurities(PURE[path])) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("import time", "import time", id="clock"),
        pytest.param("from os import path", "from os import", id="os"),
        pytest.param("print(1)", "print()", id="print"),
        pytest.param("def f(d):\n    return d.now()", ".now()", id="now"),
        pytest.param("def f():\n    import random", "import random", id="inside a function"),
        pytest.param("async def f():\n    pass", "async", id="async"),
        pytest.param("with open('f') as f:\n    pass", "open()", id="open"),
    ],
)
def test_the_purity_check_sees_what_it_is_to_see(text: str, found: str) -> None:
    assert found in [words for _, words in impurities(ast.parse(text))]


def test_every_file_that_is_pure_by_its_name_is_under_the_import_contract() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / "setup.cfg")
    listed = contracts["importlinter:contract:pure"]["source_modules"].split()
    unlisted = [
        name(path)
        for path in PURE
        if named_pure(path) and not any(fnmatch(module(path), pattern) for pattern in listed)
    ]
    assert unlisted == []


def module(path: Path) -> str:
    return ".".join(("kube_router", *path.relative_to(ROOT).with_suffix("").parts))


# -- size and shape ----------------------------------------------------------------------------------------------------


def functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(function: Function) -> int:
    """Return the lines of a function without its docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def test_no_function_is_longer_than_a_screen() -> None:
    long = {
        f"{name(path)}:{function.lineno} {function.name}": length(function)
        for path, tree in TREES.items()
        for function in functions(tree)
        if length(function) > FUNCTION_LINES_MAX
    }
    assert long == {}


def test_no_file_holds_more_than_one_idea() -> None:
    lines = {name(path): path.read_text().count("\n") for path in SOURCES}
    assert {path: count for path, count in lines.items() if count > FILE_LINES_MAX} == {}


def test_no_error_is_caught_by_no_name_or_passed_over_in_silence() -> None:
    silent = [
        f"{name(path)}:{node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or all(isinstance(one, ast.Pass) for one in node.body))
    ]
    assert silent == []


def test_no_task_is_started_outside_a_task_group() -> None:
    created = [
        f"{name(path)}:{node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("create_task", "ensure_future")
    ]
    assert created == []


# -- documentation -----------------------------------------------------------------------------------------------------


def test_every_module_says_what_it_is() -> None:
    assert [name(path) for path, tree in TREES.items() if not ast.get_docstring(tree)] == []


def test_a_package_file_holds_a_docstring_and_nothing_else() -> None:
    more = [name(path) for path, tree in TREES.items() if path.name == "__init__.py" and len(tree.body) != 1]
    assert more == []


@pytest.mark.parametrize("folder", PLUGINS, ids=name)
def test_every_plugin_has_a_page_with_the_same_sections(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert [section for section in SECTIONS if f"\n## {section}\n" not in text] == []


def test_every_link_in_a_page_leads_somewhere() -> None:
    pages = [path for path in ROOT.rglob("*.md") if not {".venv", "build"} & set(path.relative_to(ROOT).parts)]
    dead = [
        f"{name(page)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert dead == []


def test_decision_records_are_numbered_without_gaps_or_repeats() -> None:
    names = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(each[:4]) for each in names] == list(range(1, len(names) + 1))
