"""Where option values come from, which one wins, and what is said about wrong ones."""

from importlib.metadata import entry_points
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube_router.core.agent_options import AGENT, node_name, option_groups
from kube_router.core.kube_router_flags import UNSERVED
from kube_router.core.options import Group, Kind, Option, Options, Value, from_text, resolve, to_text
from kube_router.core.registry import GROUP, Registry
from kube_router.core.usage import markdown, usage
from kube_router.events.errors import ConfigError
from kube_router.plugins.proxy.options import OPTIONS as PROXY

GROUPS, _ = option_groups({"proxy": PROXY})


def options(*argv: str, environ: dict[str, str] | None = None, groups: tuple[Group, ...] = GROUPS) -> Options:
    return resolve(argv, groups, environ=environ or {})


def error_of(*argv: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        options(*argv, environ=environ)
    return str(error.value)


def test_defaults_are_kube_router_s() -> None:
    effective = options()
    assert effective.number("health-port") == 20244
    assert effective.text("metrics-path") == "/metrics"
    assert effective.seconds("ipvs-sync-period") == 300
    assert effective.number("journal-size") == 128 * 1024 * 1024
    assert effective.flag("run-proxy")
    assert effective.public() == {}
    assert effective.warnings == ()


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "kr.yaml"
    file.write_text("health-port: 1\nmetrics-port: 1\nipvs-sync-period: 1m\nexcluded-cidrs: [10.0.0.0/8, 'fd00::/8']\n")
    environ = {"KR_HEALTH_PORT": "2", "KR_METRICS_PORT": "2", "KR_CONFIG": str(file)}
    effective = options("--health-port=3", environ=environ)
    assert effective.number("health-port") == 3
    assert effective.number("metrics-port") == 2
    assert effective.seconds("ipvs-sync-period") == 60
    assert effective.texts("excluded-cidrs") == ("10.0.0.0/8", "fd00::/8")


def test_a_list_given_twice_grows_and_replaces_what_the_environment_says() -> None:
    effective = options(
        "--excluded-cidrs=10.0.0.0/8,11.0.0.0/8",
        "--excluded-cidrs",
        "12.0.0.0/8",
        environ={"KR_EXCLUDED_CIDRS": "1.0.0.0/8"},
    )
    assert effective.texts("excluded-cidrs") == ("10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8")


def test_kube_router_s_names_of_the_plugins_switches_are_aliases() -> None:
    assert not options("--run-service-proxy=false").flag("run-proxy")
    assert not options("--run-proxy=false").flag("run-proxy")


def test_kube_router_s_flags_that_nobody_serves_are_named_in_one_warning() -> None:
    effective = options(
        "--run-router=true", "--enable-overlay=false", "--peer-router-ips=192.0.2.1", environ={"KR_HAIRPIN_MODE": "1"}
    )
    assert effective.warnings == (
        "accepted without effect, not served yet: --enable-overlay, --hairpin-mode, --peer-router-ips, --run-router",
    )
    assert effective.public() == {}


def test_switching_off_what_is_not_there_needs_no_warning() -> None:
    assert options("--run-router=false", "--run-firewall=false").warnings == ()


def test_a_flag_that_nobody_serves_is_checked_all_the_same() -> None:
    assert error_of("--bgp-port", "x") == "flag --bgp-port: 'x' is not a whole number"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--health-port=x"], "flag --health-port: 'x' is not a whole number"),
        (["--health-port=70000"], "flag --health-port: the value 70000 is not a port (0-65535)"),
        (["--ipvs-sync-period=5"], "flag --ipvs-sync-period: '5' is not a duration: its unit is missing; "
                                   "write 30s, 5m or 1h30m"),
        (["--ipvs-sync-period=0"], "flag --ipvs-sync-period: the value has to be greater than 0"),
        (["--masquerade-all=yes"], "flag --masquerade-all: 'yes' is not a boolean: write true or false"),
        (["--masquerade-all", "false"], "unexpected argument 'false'; to give the switch a value write "
                                        "--masquerade-all=false"),
        (["stray"], "unexpected argument 'stray'"),
        (["--masqurade-all"], "unknown flag --masqurade-all; did you mean --masquerade-all?"),
        (["--run-service-proxi"], "unknown flag --run-service-proxi; did you mean --run-service-proxy?"),
        (["--excluded-cidrs=10.0.0.0/8,x"], "flag --excluded-cidrs: the value holds 'x', which is no CIDR such as "
                                            "10.0.0.0/8"),
        (["-v", "x"], "flag -v: 'x' is not a whole number"),
        (["--journal-size=1"], "flag --journal-size: the value has to be at least 1MiB"),
        (["--master=https://admin:hunter2@example.org"], "flag --master: the value must not hold credentials; "
                                                         "put them into a kubeconfig"),
        (["--config=/does/not/exist"], "config file '/does/not/exist': No such file or directory"),
    ],
)  # fmt: skip
def test_an_error_names_the_flag_and_says_what_to_write(argv: list[str], message: str) -> None:
    assert error_of(*argv) == message


def test_an_error_of_the_environment_names_the_variable() -> None:
    assert error_of(environ={"KR_HEALTH_PORT": "x"}) == "environment KR_HEALTH_PORT: 'x' is not a whole number"


def test_a_misspelt_variable_is_a_warning_and_a_foreign_one_is_nothing() -> None:
    environ = {"KR_HEALTH_PROT": "1", "KR_WEB_SERVICE_HOST": "10.96.0.7", "HEALTH_PORT": "x"}
    assert options(environ=environ).warnings == (
        "environment KR_HEALTH_PROT is no option; did you mean KR_HEALTH_PORT?",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("health-prot: 1", "health-prot: there is no such option; did you mean health-port?"),
        ("health-port: true", "health-port: has to be a text or a number in quotes"),
        ("health-port: x", "health-port: 'x' is not a whole number"),
        ("masquerade-all: 1.5", "masquerade-all: has to be true or false"),
        ("excluded-cidrs: [10.0.0.0/8, true]", "excluded-cidrs: its items have to be texts; put quotes around them"),
        ("excluded-cidrs: [10.0.0.0/99]", "excluded-cidrs: the value holds '10.0.0.0/99', which is no CIDR such as "
                                          "10.0.0.0/8"),
        ("run-proxy: true\nrun-service-proxy: true", "run-service-proxy: given twice, here and under its other name"),
        ("config: other.yaml", "config: only a flag can say this"),
        ("version: true", "version: only a flag can say this"),
    ],
)  # fmt: skip
def test_an_error_of_the_config_file_names_file_and_key(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "kr.yaml"
    file.write_text(content)
    assert error_of("--config", str(file)) == f"{file}: {message}"


@pytest.mark.parametrize("content", ["[1, 2]", "just a text", "{", "a: b: c", "\x00", "!!python/object:os.system {}"])
def test_a_config_file_that_is_no_mapping_is_an_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "kr.yaml"
    file.write_text(content)
    assert error_of("--config", str(file)).startswith(f"config file {file}: not ")


def test_an_empty_config_file_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "kr.yaml"
    file.write_text("# nothing yet\n")
    assert options("--config", str(file)).number("health-port") == 20244


def test_help_and_version_work_whatever_environment_and_file_say() -> None:
    environ = {"KR_HEALTH_PORT": "x", "KR_CONFIG": "/does/not/exist"}
    assert options("--help", environ=environ).flag("help")
    assert options("-V", environ=environ).flag("version")


def test_the_journal_gets_what_differs_from_the_defaults_and_no_secret() -> None:
    secret = Option("token", "text", "", "a secret", secret=True)
    groups, _ = option_groups({"proxy": PROXY, "names": (secret,)})
    effective = options(
        "--token=hunter2", "--masquerade-all", "--ipvs-sync-period=90s", "--excluded-cidrs=10.0.0.0/8,11.0.0.0/8",
        groups=groups,
    )  # fmt: skip
    assert effective.public() == {
        "masquerade-all": "true", "ipvs-sync-period": "1m30s", "excluded-cidrs": "10.0.0.0/8,11.0.0.0/8"
    }  # fmt: skip


def test_an_error_does_not_print_a_secret() -> None:
    secret = Option("pin", "int", 0, "a secret", secret=True)
    with pytest.raises(ConfigError) as error:
        resolve(["--pin=hunter2"], [Group("agent", (*AGENT, secret))], environ={})
    assert str(error.value) == "flag --pin: the value is not a whole number"


def test_a_plugin_cannot_redefine_another_s_option_but_may_share_it() -> None:
    mine = Option("masquerade-all", "text", "", "something else")
    groups, warnings = option_groups({"proxy": PROXY, "shares": (PROXY[0],), "takes": (mine,)})
    assert warnings == ("plugin takes: option --masquerade-all is defined otherwise already; the first one stands",)
    assert options("--masquerade-all", groups=groups).flag("masquerade-all")


def test_a_third_party_s_plugin_gets_its_switch() -> None:
    groups, _ = option_groups({"names": ()})
    assert options(groups=groups).flag("run-names")
    assert not options("--run-names=false", groups=groups).flag("run-names")


@pytest.mark.parametrize(
    ("argv", "environ", "expected"),
    [
        (["--hostname-override=a"], {"NODE_NAME": "b"}, "a"),
        ([], {"KR_HOSTNAME_OVERRIDE": "c", "NODE_NAME": "b"}, "c"),
        ([], {"NODE_NAME": "b"}, "b"),
    ],
)
def test_the_node_s_name_is_the_override_else_the_environment_s(
    argv: list[str], environ: dict[str, str], expected: str
) -> None:
    assert node_name(options(*argv, environ=environ), environ) == expected


def test_a_node_s_name_that_cannot_be_one_is_an_error() -> None:
    with pytest.raises(ConfigError, match="cannot be one"):
        node_name(options("--hostname-override=a b"), {})


def test_every_flag_of_kube_router_has_a_default_of_its_own_kind() -> None:
    for option in (*UNSERVED, *AGENT, *PROXY):
        assert from_text(option, to_text(option, option.default), where="default") == option.default
    assert len({option.name for option in UNSERVED}) == len(UNSERVED)


def test_every_flag_of_kube_router_is_accepted() -> None:
    names = ["cache-sync-timeout", "cleanup-config", "health-addr", "health-port", "help", "hostname-override",
             "kubeconfig", "master", "metrics-addr", "metrics-path", "metrics-port", "v", "version"]  # fmt: skip
    accepted = {name for group in GROUPS for option in group.options for name in (option.name, *option.aliases)}
    assert accepted >= {*names, *(option.name for option in UNSERVED)}


def test_the_help_names_every_option_and_stays_within_a_terminal() -> None:
    text = usage("kube-router", GROUPS)
    for group in GROUPS:
        for option in group.options:
            assert f"--{option.name}" in text
    assert max(map(len, text.splitlines())) <= 90


def test_the_page_of_options_is_current() -> None:
    page = Path(__file__).parents[3] / "docs" / "options.md"
    ours = [point for point in entry_points(group=GROUP) if point.dist is not None and point.dist.name == "kube-router"]
    groups, _ = option_groups(Registry(ours).options())
    assert page.read_text() == markdown(groups), "run: kr options > docs/options.md"


ARGUMENTS = st.sampled_from(
    [f"--{option.name}" for group in GROUPS for option in group.options] + ["-v", "-V", "-h", "--", "-", "=", "true"]
)
EQUALS = st.builds(lambda flag, text: f"{flag}={text}", ARGUMENTS, st.text(max_size=12))


@given(st.lists(st.one_of(ARGUMENTS, EQUALS, st.text(max_size=12)), max_size=6))
def test_no_command_line_makes_resolve_raise_anything_but_config_error(argv: list[str]) -> None:
    try:
        effective = options(*argv)
    except ConfigError:
        return
    assert isinstance(effective.number("health-port"), int)


@given(st.dictionaries(st.sampled_from([option.variable for option in AGENT]), st.text(max_size=12)))
def test_no_environment_makes_resolve_raise_anything_but_config_error(environ: dict[str, str]) -> None:
    environ.pop("KR_CONFIG", None)
    try:
        options(environ=environ)
    except ConfigError as error:
        assert str(error).startswith("environment KR_")  # noqa: PT017  (most environments are fine)


VALUES: dict[Kind, st.SearchStrategy[Value]] = {
    "bool": st.booleans(),
    "int": st.integers(-(2**63), 2**63 - 1),
    "text": st.text(max_size=20),
    "duration": st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000),
    "texts": st.lists(st.text("abc, \"'", max_size=5), max_size=4).map(tuple),
    "size": st.integers(0, 2**60),
}


@given(st.data())
def test_a_value_survives_the_journal_s_head(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(VALUES)))
    value = data.draw(VALUES[kind])
    option = Option("x", kind, "", "")
    assert from_text(option, to_text(option, value), where="here") == value
