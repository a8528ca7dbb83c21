"""How the API server is reached: kubeconfig, service account, --master, proxies."""

import json
import os
from pathlib import Path

import pytest

from kube_router.events.errors import ConfigError
from kube_router.events.sources.access import Access, Login, check, log_in, proxy_for
from kube_router.events.sources.servers import Server

CA = "-----BEGIN CERTIFICATE-----\nnot read here\n-----END CERTIFICATE-----\n"


@pytest.fixture(autouse=True)
def _outside_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("KUBERNETES_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def kubeconfig(folder: Path, user: dict[str, object] | None, server: str = "https://10.0.0.1:6443") -> Access:
    context = {"cluster": "c"} if user is None else {"cluster": "c", "user": "u"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server, "insecure-skip-tls-verify": True}}],
        "users": [] if user is None else [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": context}],
        "current-context": "x",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return Access(kubeconfig=str(path))


def service_account(folder: Path) -> Path:
    (folder / "token").write_text("first\n")
    (folder / "ca.crt").write_text(CA)
    return folder


async def bearer(login: Login) -> str:
    settings = await login.configuration.auth_settings()
    return str(settings["BearerToken"]["value"])


async def test_a_kubeconfig_gives_server_and_token(tmp_path: Path) -> None:
    login = await log_in(kubeconfig(tmp_path, {"token": "secret\n"}))
    assert login.configuration.host == "https://10.0.0.1:6443"
    assert await bearer(login) == "Bearer secret"


async def test_a_context_without_a_user_is_anonymous_not_an_error(tmp_path: Path) -> None:
    login = await log_in(kubeconfig(tmp_path, None))
    assert await login.configuration.auth_settings() == {}


async def test_a_token_file_wins_over_a_token_and_lies_beside_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "tok").write_text("from file\n")
    login = await log_in(kubeconfig(tmp_path, {"token": "inline", "tokenFile": "tok"}))
    assert await bearer(login) == "Bearer from file"


async def test_an_exec_plugin_is_run(tmp_path: Path) -> None:
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "from plugin"},
    }
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "echo", "args": [json.dumps(answer)]}
    assert await bearer(await log_in(kubeconfig(tmp_path, {"exec": plugin}))) == "Bearer from plugin"


async def test_a_failing_exec_plugin_is_told_in_words(tmp_path: Path) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "false"}
    with pytest.raises(ConfigError, match="process returned 1"):
        await log_in(kubeconfig(tmp_path, {"exec": plugin}))


async def test_master_replaces_the_kubeconfigs_server(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, {"token": "t"}).kubeconfig
    login = await log_in(Access(kubeconfig=path, master="https://192.0.2.1:6443/"))
    assert login.configuration.host == "https://192.0.2.1:6443"


async def test_master_alone_uses_the_service_account_where_there_is_one(tmp_path: Path) -> None:
    login = await log_in(Access(master="192.0.2.1:6443", service_account=service_account(tmp_path)))
    assert login.configuration.host == "https://192.0.2.1:6443"
    assert login.configuration.ssl_ca_cert == str(tmp_path / "ca.crt")
    assert await bearer(login) == "Bearer first"


async def test_master_alone_is_anonymous_outside_of_a_cluster(tmp_path: Path) -> None:
    login = await log_in(Access(master="127.0.0.1:8080", service_account=tmp_path))
    assert login.configuration.host == "http://127.0.0.1:8080"
    assert await login.configuration.auth_settings() == {}


async def test_in_cluster_the_token_is_stripped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00:96::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    login = await log_in(Access(service_account=service_account(tmp_path)))
    assert login.configuration.host == "https://[fd00:96::1]:443"
    assert await bearer(login) == "Bearer first"


async def test_a_token_file_is_read_again_after_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("kube_router.events.sources.access.time.monotonic", lambda: now)
    login = await log_in(Access(master="192.0.2.1", service_account=service_account(tmp_path)))
    (tmp_path / "token").write_text("second\n")
    assert await bearer(login) == "Bearer first"
    now += 60
    assert await bearer(login) == "Bearer second"
    (tmp_path / "token").write_text("")
    now += 60
    assert await bearer(login) == "Bearer second"


async def test_a_replaced_ca_is_noticed(tmp_path: Path) -> None:
    login = await log_in(Access(master="192.0.2.1", service_account=service_account(tmp_path)))
    assert not login.changed()
    (tmp_path / "new").write_text(CA + CA)
    (tmp_path / "new").replace(tmp_path / "ca.crt")
    assert login.changed()


def test_a_missing_kubeconfig_is_the_operators_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        check(Access(kubeconfig=str(tmp_path / "none")))


def test_a_kubeconfig_that_is_no_yaml_is_the_operators_error(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("{")
    with pytest.raises(ConfigError, match="broken"):
        check(Access(kubeconfig=str(tmp_path / "broken")))


def test_no_way_to_an_api_server_is_the_operators_error() -> None:
    with pytest.raises(ConfigError, match="neither --kubeconfig nor --master"):
        check(Access())


# -- which servers there are -------------------------------------------------------------------------------------------


def in_a_pod(monkeypatch: pytest.MonkeyPatch, host: str = "10.96.0.1") -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")


async def test_in_a_pod_endpoints_are_verified_for_the_address_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_a_pod(monkeypatch, "fd00:96::1")
    login = await log_in(Access(service_account=service_account(tmp_path)))
    assert [str(server) for server in login.servers] == ["https://[fd00:96::1]:443 (the Service's address)"]
    assert login.endpoints == "fd00:96::1"


async def test_master_in_a_pod_comes_before_the_service_and_is_verified_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_a_pod(monkeypatch)
    login = await log_in(Access(master="192.0.2.1:6443", service_account=service_account(tmp_path)))
    assert login.servers == (
        Server("https://192.0.2.1:6443", "--master"),
        Server("https://10.96.0.1:443", "the Service's address"),
    )
    assert login.endpoints == "10.96.0.1"


async def test_with_a_kubeconfig_its_server_is_first_and_its_credentials_go_to_no_service_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_a_pod(monkeypatch)
    access = verifying(tmp_path, server="https://api.example.com:6443")
    login = await log_in(access)
    assert login.servers == (Server("https://api.example.com:6443", "kubeconfig"),)
    assert login.endpoints == "api.example.com"
    by_master = await log_in(Access(kubeconfig=access.kubeconfig, master="https://192.0.2.9"))
    assert (by_master.servers, by_master.endpoints) == ((Server("https://192.0.2.9", "--master"),), "192.0.2.9")


async def test_the_name_that_a_kubeconfig_gives_its_server_holds_at_endpoints_too(tmp_path: Path) -> None:
    login = await log_in(verifying(tmp_path, server="https://10.0.0.1:6443", **{"tls-server-name": "kubernetes"}))
    assert login.servers == (Server("https://10.0.0.1:6443", "kubeconfig", "kubernetes"),)
    assert login.endpoints == "kubernetes"
    configuration = login.configured(Server("https://192.0.2.1:6443", "endpoint", login.endpoints))
    assert (configuration.host, configuration.tls_server_name) == ("https://192.0.2.1:6443", "kubernetes")
    assert login.configuration.host == "https://10.0.0.1:6443"


@pytest.mark.parametrize(
    "cluster",
    [
        {"server": "https://10.0.0.1:6443", "insecure-skip-tls-verify": True},
        {"server": "http://10.0.0.1:8080"},
        {"server": "https://rancher.example.com/k8s/clusters/c-1"},
    ],
)
async def test_without_tls_that_is_verified_or_behind_a_path_no_endpoint_is_asked(
    tmp_path: Path, cluster: dict[str, object]
) -> None:
    assert (await log_in(verifying(tmp_path, **cluster))).endpoints == ""


async def test_a_token_renews_itself_for_every_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("kube_router.events.sources.access.time.monotonic", lambda: now)
    in_a_pod(monkeypatch)
    login = await log_in(Access(service_account=service_account(tmp_path)))
    here, there = (Login(login.configured(Server(f"https://192.0.2.{n}", "")), {}) for n in (1, 2))
    (tmp_path / "token").write_text("second\n")
    now += 60
    assert [await bearer(each) for each in (here, there, login)] == ["Bearer second"] * 3


async def test_the_proxy_is_decided_for_each_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_pod(monkeypatch)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "10.96.0.0/12")
    login = await log_in(Access(service_account=service_account(tmp_path)))
    usual, other = login.servers[0], Server("https://192.0.2.1:6443", "endpoint", "10.96.0.1")
    assert [login.configured(server).proxy for server in (usual, other)] == [None, "http://proxy:3128"]


def verifying(folder: Path, **cluster: object) -> Access:
    """Return the access of a kubeconfig whose cluster is this."""
    config = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (folder / "kubeconfig").write_text(json.dumps(config))
    return Access(kubeconfig=str(folder / "kubeconfig"))


@pytest.mark.parametrize(
    ("url", "no_proxy", "proxied"),
    [
        ("https://10.96.0.1:443", "", True),
        ("https://10.96.0.1:443", "10.96.0.0/12", False),
        ("https://10.96.0.1:443", "example.com, 10.96.0.1", False),
        ("https://10.96.0.1:443", "10.96.0.1:443", False),
        ("https://10.96.0.1:443", "10.96.0.1:6443", True),
        ("https://10.96.0.1:443", "10.97.0.0/16", True),
        ("https://10.96.0.1:443", "not/acidr", True),
        ("https://[fd00:96::1]:443", "fd00:96::/112", False),
        ("https://[fd00:96::1]:443", "10.96.0.0/12", True),
        ("https://api.example.com", "example.com", False),
        ("https://api.example.com", ".example.com", False),
        ("https://example.com", "*.example.com", False),
        ("https://badexample.com", "example.com", True),
        ("https://10.96.0.1", "*", False),
        ("https://127.0.0.1:6443", "", False),
        ("https://localhost:6443", "", False),
        ("http://10.96.0.1", "", False),
    ],
)
def test_no_proxy_is_read_as_go_reads_it(url: str, no_proxy: str, proxied: bool) -> None:
    environ = {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": no_proxy}
    assert proxy_for(url, environ) == ("http://proxy:3128" if proxied else None)
