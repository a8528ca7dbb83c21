"""The import of kubernetes-asyncio without its models, and the ways out of it. Each in a fresh interpreter."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import logging, sys
logging.basicConfig(level=logging.ERROR)
{before}
from kube_router.events.sources import library as module
{between}
found = module.library()
assert found.ApiClient.__name__ == "ApiClient" and found.load_incluster_config and found.KubeConfigLoader
import kubernetes_asyncio.client
print(hasattr(kubernetes_asyncio.client, "CoreV1Api"), len(sys.modules))
"""


def run(before: str = "", between: str = "", **environ: str) -> tuple[bool, int]:
    """Return whether the whole package was imported, and the number of modules."""
    program = PROGRAM.format(before=before, between=between)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    whole, modules = done.stdout.split()
    return whole == "True", int(modules)


def test_the_import_leaves_the_models_out() -> None:
    whole, modules = run()
    assert not whole
    assert modules < 600


@pytest.mark.parametrize(
    ("before", "between", "environ"),
    [
        pytest.param("", "", {"KR_FULL_IMPORT": "1"}, id="the operator wants the whole package"),
        pytest.param("import kubernetes_asyncio", "", {}, id="somebody has imported it before"),
        pytest.param("", "module._HOLLOW = {'kubernetes_asyncio': ('nowhere',)}", {}, id="the layout is another"),
    ],
)
def test_the_whole_package_is_imported_where(before: str, between: str, environ: dict[str, str]) -> None:
    whole, modules = run(before, between, **environ)
    assert whole
    assert modules > 1000
