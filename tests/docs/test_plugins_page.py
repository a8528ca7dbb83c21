"""docs/plugins.md is true: every block in it is run, parsed or compared, and nothing of the contract is missing."""

import configparser
import inspect
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from kube_router.cli.main import COMMANDS, kr
from kube_router.core import api
from kube_router.core.agent_options import option_groups
from kube_router.core.hookspecs import Hooks
from kube_router.core.options import flag_values
from kube_router.core.registry import Registry
from kube_router.events import normalize
from kube_router.events.event import encode, object_decoder
from kube_router.events.model import Object
from kube_router.lab import testkit
from kube_router.lab.testkit import Bench

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plugins.md").read_text()
HOOKS = [name for name in vars(Hooks) if name.startswith("kube_router_")]


class Block(NamedTuple):
    line: int
    language: str
    text: str

    @property
    def named(self) -> str:
        """The file the block is, from the comment in its first line."""
        found = re.match(r"# (\S+\.(?:py|cfg|toml))\n", self.text)
        return found[1] if found else ""


def blocks() -> Iterator[Block]:
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        yield Block(PAGE.count("\n", 0, found.start()) + 1, found[1], found[2])


BLOCKS = tuple(blocks())
PYTHON = [block for block in BLOCKS if block.language == "python"]


def where(block: Block) -> str:
    return f"line {block.line} {block.named}".strip()


def execute(block: Block) -> ModuleType:
    module = ModuleType(Path(block.named).stem or f"block_{block.line}")
    source = compile("\n" * block.line + block.text, "docs/plugins.md", "exec")
    exec(source, vars(module))
    return module


def test_every_block_is_of_a_language_that_is_checked_here() -> None:
    assert {block.language for block in BLOCKS} == {"python", "ini", "toml", "sh"}


@pytest.mark.parametrize("block", PYTHON, ids=where)
def test_every_python_block_runs_and_its_tests_pass(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in PYTHON[: PYTHON.index(block)]:
        if other.named.startswith("kube_router_"):
            monkeypatch.setitem(sys.modules, Path(other.named).stem, execute(other))
    module = execute(block)
    for name, function in vars(module).items():
        if name.startswith("test_"):
            function()


@pytest.mark.parametrize("block", [block for block in BLOCKS if "/" in block.named], ids=where)
def test_a_block_that_is_a_file_is_that_file(block: Block) -> None:
    assert block.text.partition("\n")[2] == (ROOT / block.named).read_text()


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in ("ini", "toml")], ids=where)
def test_every_configuration_block_can_be_parsed(block: Block) -> None:
    if block.language == "toml":
        assert tomllib.loads(block.text)
    else:
        parser = configparser.ConfigParser()
        parser.read_string(block.text)
        assert parser.sections()


COMMAND_LINES = [
    line for block in BLOCKS if block.language == "sh" for line in block.text.splitlines() if line.startswith("kr ")
]


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_every_command_is_one_that_kr_understands(line: str) -> None:
    _, command, *arguments = shlex.split(line)
    assert command in COMMANDS
    if command == "run":
        names = execute(next(block for block in PYTHON if block.named.endswith("names.py")))
        registry = Registry()
        registry.register("names", names, origin="docs/plugins.md")
        groups, _ = option_groups(registry.options())
        assert flag_values(arguments, [option for group in groups for option in group.options])
    else:
        with kr.make_context("kr", [command, *arguments]) as context:
            found = kr.get_command(context, command)
            assert found is not None
            assert found.make_context(command, arguments, parent=context)


# -- what must not be missing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_its_signature(hook: str) -> None:
    written = str(inspect.signature(getattr(Hooks, hook))).replace("(self, ", "(").replace("(self)", "()")
    signature = re.sub(r"[a-z_.]+[.]([A-Za-z]+)", r"\1", written)
    assert f"`{hook}{signature}`" in PAGE


@pytest.mark.parametrize("name", [name for name in api.__all__ if name != "hookimpl"])
def test_every_public_name_is_on_the_page(name: str) -> None:
    assert re.search(rf"\b(api\.{name}|{name})\b", PAGE)


@pytest.mark.parametrize("name", ["resync_s", "deadline_s", "watch", *(vars(api.Context)["__annotations__"])])
def test_every_attribute_that_is_looked_for_or_given_is_on_the_page(name: str) -> None:
    assert re.search(rf"\b{name}\b", PAGE)


@pytest.mark.parametrize("name", testkit.__all__)
def test_every_name_of_the_test_kit_is_on_the_page_or_in_the_kit_s_own_docstring(name: str) -> None:
    assert re.search(rf"\b{name}\b", PAGE + (testkit.__doc__ or ""))


# -- the page's own kind -----------------------------------------------------------------------------------------------

HOSTS = next(block for block in PYTHON if block.named == "kube_router_hosts.py")


def test_the_kind_on_the_page_is_read_from_the_journal_as_it_was_written() -> None:
    bench = Bench("hosts", execute(HOSTS))
    bench.apply("kind: Ingress\nmetadata: {name: shop, namespace: prod}\nspec: {rules: [{host: b.example}]}")
    (put,) = [put for put in bench.state.puts() if put.r == "ingresses"]
    assert isinstance(put.obj, Object)
    assert object_decoder(type(put.obj))(encode(put)) == put


def test_the_kind_on_the_page_fails_as_ours_do() -> None:
    hosts = execute(HOSTS)
    for bad in (b"", b"[]", b'{"metadata": {}}', b'{"metadata": {"name": 7}}', b"\xff"):
        with pytest.raises(api.ObjectError):
            hosts.normalize(bad, str)
    for lean in (b'{"metadata":{"name":"a"}}', b'{"metadata":{"name":"a"},"spec":{"rules":null}}'):
        assert hosts.normalize(lean, str).obj.hosts == ()


def test_the_built_in_kinds_are_all_named() -> None:
    assert [one.kind for one in normalize.BUILTIN if one.kind not in PAGE] == []
