"""Import what we use of kubernetes-asyncio: configuration, authentication and the ApiClient, not its 800 models.

``import kubernetes_asyncio`` pulls in every API and model: 0.64 s and 65 MB per node agent, against 0.25 s and 31 MB
for what is needed here (version 36.1). The package has no supported partial import, so this module, and only this one,
puts empty packages under the names ``kubernetes_asyncio``, ``.client`` and ``.client.models`` and then imports the
few submodules. Any failure of that undoes it and imports the package as its authors meant. A process that wants the
whole package, for a third-party plugin that uses its models, sets ``KR_FULL_IMPORT=1``.
"""

import importlib
import importlib.util
import logging
import os
import sys
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

logger = logging.getLogger(__name__)

PACKAGE = "kubernetes_asyncio"
_HOLLOW = {PACKAGE: (), f"{PACKAGE}.client": ("client",), f"{PACKAGE}.client.models": ("client", "models")}


@dataclass(frozen=True, slots=True)
class Library:
    """The names we use. The library has no usable types, so Any it is, and only here and in access.py."""

    Configuration: Any
    ApiClient: Any
    ConfigException: type[Exception]
    load_incluster_config: Any
    KubeConfigMerger: Any
    KubeConfigLoader: Any
    ConfigNode: Any


@cache
def library() -> Library:
    """Return the library, imported at the first call (blocking: a quarter of a second)."""
    if os.environ.get("KR_FULL_IMPORT", "") not in ("", "0") or PACKAGE in sys.modules:
        return _import()
    before = set(sys.modules)
    try:
        _hollow_out()
        return _import()
    except Exception:
        logger.exception(f"slim_import_failed package={PACKAGE} now=importing the whole package")
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == PACKAGE:
                del sys.modules[name]
        return _import()


def _hollow_out() -> None:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"{PACKAGE} is not installed")
    root = spec.submodule_search_locations[0]
    for name, folders in _HOLLOW.items():
        module = ModuleType(name)
        module.__path__ = [os.path.join(root, *folders)]
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    client = sys.modules[f"{PACKAGE}.client"]
    # The library's config modules take these two from the client package, whose __init__ has not run.
    client.Configuration = importlib.import_module(f"{PACKAGE}.client.configuration").Configuration  # type: ignore[attr-defined]
    client.ApiClient = importlib.import_module(f"{PACKAGE}.client.api_client").ApiClient  # type: ignore[attr-defined]


def _import() -> Library:
    client = importlib.import_module(f"{PACKAGE}.client")
    config = importlib.import_module(f"{PACKAGE}.config")
    kube_config = importlib.import_module(f"{PACKAGE}.config.kube_config")
    return Library(
        Configuration=client.Configuration,
        ApiClient=client.ApiClient,
        ConfigException=config.ConfigException,
        load_incluster_config=config.load_incluster_config,
        KubeConfigMerger=kube_config.KubeConfigMerger,
        KubeConfigLoader=kube_config.KubeConfigLoader,
        ConfigNode=kube_config.ConfigNode,
    )
