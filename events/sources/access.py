"""How the API server is reached and who we are to it: kubeconfig, in-cluster service account, ``--master``.

kubernetes-asyncio reads kubeconfig and the service account. What it gets wrong for an agent that runs for months is
mended here (seen in 36.1):

* a token's trailing newline ends up in the header: tokens are stripped;
* ``tokenFile`` is read once and loses against ``token``: as in client-go it wins, and is read again every minute, as
  is the service account's token;
* a context without a user is a TypeError with https: it is given an empty one;
* CA and client certificate are loaded once: ``Login.changed`` tells that a file has changed and that the client must
  be built anew. So it is after a 401, which also runs an exec plugin or an OIDC refresh again: there is one way to
  renew everything, and no refresh task that could die;
* Python's NO_PROXY knows no CIDRs, so that a cluster IP goes to the proxy: ``proxy_for`` decides as Go does.

With ``--master`` the server's address is replaced, in and out of the cluster: in-cluster the usual address is a
ClusterIP which this very agent programs, and a fresh node needs another way in. For one that knew the endpoints of that
Service, ``Login`` says what their certificates are verified for: what in-cluster clients know the API server by, with a
kubeconfig the name or address of its server. There are no others where TLS is not spoken or not verified, nor where the
server's URL has a path, since a proxy stands there.
"""

import ipaddress
import os
import time
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kube_router.events.errors import ConfigError
from kube_router.events.sources.library import Library, library
from kube_router.events.sources.servers import Server

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_TTL_S = 60
SERVICE_ADDRESS = "the Service's address"


@dataclass(frozen=True, slots=True)
class Access:
    """What the operator says: both empty is the in-cluster service account."""

    kubeconfig: str = ""
    master: str = ""
    service_account: Path = SERVICE_ACCOUNT


class TokenFile:
    """A bearer token in a file that somebody else keeps fresh."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = float("-inf")

    def __call__(self, configuration: Any) -> None:
        """Put the token into the configuration (the library's ``refresh_api_key_hook``)."""
        if time.monotonic() - self._read_at < TOKEN_TTL_S:
            return
        token = self._path.read_text().strip()
        if token:  # A writer that truncates first must not log us out.
            configuration.api_key["BearerToken"] = f"Bearer {token}"
            self._read_at = time.monotonic()


@dataclass(frozen=True, slots=True)
class Login:
    """A configuration ready for use, and the files it was made from as they were.

    ``servers`` are those that are known without asking any, best first. ``endpoints`` is what the certificates of the
    API server's endpoints are verified for, "" where those are not to be asked.
    """

    configuration: Any
    files: Mapping[str, int]
    servers: tuple[Server, ...] = ()
    endpoints: str = ""

    def configured(self, server: Server) -> Any:
        """Return the configuration for one of the servers: the same credentials, which renew themselves for all."""
        made = copy(self.configuration)
        made.host, made.tls_server_name = server.url, server.name or None
        made.proxy = self.configuration.proxy or proxy_for(server.url, os.environ)
        return made

    def changed(self) -> bool:
        """Tell whether a file has been replaced since."""
        return any(_stamp(path) != stamp for path, stamp in self.files.items())


def check(access: Access) -> None:
    """Raises ConfigError for what cannot work however long one waits."""
    if access.kubeconfig:
        _merged(library(), access.kubeconfig)
    elif not access.master and not os.environ.get("KUBERNETES_SERVICE_HOST"):
        raise ConfigError(
            "no API server: neither --kubeconfig nor --master is given, and this is no pod "
            "(KUBERNETES_SERVICE_HOST is not set)"
        )


async def log_in(access: Access) -> Login:
    """Read everything anew. Raises ConfigError, saying what is missing."""
    lib = library()
    configuration = lib.Configuration()
    files: list[str | None] = []
    try:
        if access.kubeconfig:
            files += await _load_kubeconfig(lib, access.kubeconfig, configuration)
        elif not access.master or access.service_account.joinpath("token").exists():
            _load_service_account(lib, access, configuration)
    except ConfigError:
        raise
    except Exception as error:
        # The library raises whatever its parts raise: KeyError, AssertionError, yaml's and the exec plugin's errors.
        raise ConfigError(f"{access.kubeconfig or 'service account'}: {type(error).__name__}: {error}") from error
    in_cluster = "" if access.kubeconfig or not configuration.ssl_ca_cert else _service_address(os.environ)
    what = "kubeconfig" if access.kubeconfig else SERVICE_ADDRESS
    if access.master:
        configuration.host, what = _server(access.master, secure=bool(configuration.ssl_ca_cert)), "--master"
    files += [configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file]
    usual = Server(configuration.host, what, configuration.tls_server_name or "")
    others = [Server(in_cluster, SERVICE_ADDRESS)] if in_cluster and what == "--master" else []
    return Login(
        configuration,
        {path: _stamp(path) for path in files if path},
        servers=(usual, *others),
        endpoints=_name_at_endpoints(others[0] if others else usual, verified=configuration.verify_ssl),
    )


def _service_address(environ: Mapping[str, str]) -> str:
    """Return the URL by which pods know the API server, "" where this is none."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}" if host and port else ""


def _name_at_endpoints(known: Server, *, verified: bool) -> str:
    parts = urlsplit(known.url)
    if parts.scheme != "https" or not verified or parts.path not in ("", "/"):
        return ""
    return known.name or parts.hostname or ""


def _load_service_account(lib: Library, access: Access, configuration: Any) -> None:
    environ: Mapping[str, str] = os.environ
    if access.master:
        environ = {"KUBERNETES_SERVICE_HOST": "replaced.by.master", "KUBERNETES_SERVICE_PORT": "443"}
    token = access.service_account / "token"
    lib.load_incluster_config(
        client_configuration=configuration,
        try_refresh_token=False,
        token_filename=str(token),
        cert_filename=str(access.service_account / "ca.crt"),
        environ=environ,
    )
    _use_token_file(configuration, token)


async def _load_kubeconfig(lib: Library, path: str, configuration: Any) -> list[str]:
    merged = _merged(lib, path)
    loader = lib.KubeConfigLoader(config_dict=merged.config, config_base_path=None)
    user = loader._user
    if user is None:
        loader._user = lib.ConfigNode("user", {})
    await loader.load_and_set(configuration)
    if user is not None and user.safe_get("tokenFile"):
        _use_token_file(configuration, Path(user.path or path).parent / str(user["tokenFile"]))
    elif "BearerToken" in configuration.api_key:
        configuration.api_key["BearerToken"] = configuration.api_key["BearerToken"].strip()
    return [str(name) for name in merged.paths]


def _merged(lib: Library, path: str) -> Any:
    try:
        merged = lib.KubeConfigMerger(path)
    except Exception as error:
        raise ConfigError(f"kubeconfig {path}: {error}") from error
    if merged.config is None:
        raise ConfigError(f"kubeconfig {path}: there is no such file")
    return merged


def _use_token_file(configuration: Any, path: Path) -> None:
    hook = TokenFile(path)
    hook(configuration)
    configuration.refresh_api_key_hook = hook


def _server(master: str, *, secure: bool) -> str:
    """Return the base URL; without a scheme TLS is spoken where there is a CA to check it with."""
    if "://" not in master:
        master = f"{'https' if secure else 'http'}://{master}"
    return master.rstrip("/")


def _stamp(path: str) -> int:
    """Return what changes with the file; 0 where there is none. Kubernetes swaps a symlink: follow it."""
    try:
        found = os.stat(path)
    except OSError:
        return 0
    return hash((found.st_mtime_ns, found.st_ino, found.st_size))


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the proxy to use for a URL, None for none: HTTPS_PROXY, HTTP_PROXY and NO_PROXY as Go reads them.

    NO_PROXY is a comma list of ``*``, addresses, CIDRs, host names and domains, each but a CIDR with an optional port.
    Loopback is never proxied.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = environ.get(f"{parts.scheme}_proxy") or environ.get(f"{parts.scheme.upper()}_PROXY")
    if not proxy or host == "localhost":
        return None
    address = _address(host)
    if address is not None and address.is_loopback:
        return None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    excluded = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if any(_excludes(entry.strip().lower(), host, address, port) for entry in excluded.split(",")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _excludes(entry: str, host: str, address: Address | None, port: int) -> bool:
    if not entry or entry == "*":
        return entry == "*"
    if address is not None and "/" in entry:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, _, wanted = entry.rpartition(":") if entry.count(":") == 1 else (entry, "", "")
    if wanted and wanted != str(port):
        return False
    if address is not None:
        return _address(name.strip("[]")) == address
    suffix = name.removeprefix("*")
    return host == suffix.removeprefix(".") or host.endswith(suffix if suffix.startswith(".") else f".{suffix}")


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
