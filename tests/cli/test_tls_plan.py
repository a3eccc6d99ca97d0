"""The TLS of an orchestra, checked before anything is started."""

from pathlib import Path
from typing import Any

import pytest

from batuta.cli.deployment.plan import DeploymentPlan, OrchestraConfig
from batuta.errors import ConfigurationError
from tests.support.certificates import Authority, Validity

TOKEN = "a" * 16


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


def config_of(authority: Authority, **others: Any) -> OrchestraConfig:
    services = {"sdb": {"port": 0}, "conductor": {"port": 0}, "dashboard": False}
    tls = {"cert": "pki/service.pem", "key": "pki/service-key.pem", "ca": "pki/ca.pem"}
    given = {"token": TOKEN, "tls": tls, **services, **others}
    assert authority.ca.name == "ca.pem"
    return OrchestraConfig.model_validate(given)


def problems_of(config: OrchestraConfig, folder: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as refused:
        DeploymentPlan(config, folder, problems=["another"]).close()
    return refused.value.problems[1:]


def plan_of(config: OrchestraConfig, folder: Path) -> DeploymentPlan:
    graph = folder / "graph.json"
    graph.write_text('{"inputs": ["A"], "products": {}}')
    conductor = {**config.conductor, "graph": str(graph)}
    return DeploymentPlan(config.model_copy(update={"conductor": conductor}), folder)


def test_all_addresses_follow_the_certificate(authority: Authority, tmp_path: Path) -> None:
    authority.pair(hosts=["localhost"])
    with plan_of(config_of(authority), tmp_path) as plan:
        sdb, conductor = plan.sdb, plan.conductor({})
        assert sdb.url.startswith("https://localhost:")
        assert conductor.settings.sdb_url == sdb.url
        assert plan.nats_url.startswith("tls://127.0.0.1:")
        assert plan.nats_config.tls_name == "localhost"
        command = plan.service("conductor", conductor).command
    for option, value in (
        ("--tls-cert", tmp_path / "pki" / "service.pem"),
        ("--tls-key", tmp_path / "pki" / "service-key.pem"),
        ("--tls-ca", authority.ca),
        ("--nats-tls-ca", authority.ca),
        ("--nats-tls-name", "localhost"),
    ):
        assert command[command.index(option) + 1] == str(value)


def test_a_service_may_have_a_certificate_of_its_own(authority: Authority, tmp_path: Path) -> None:
    authority.pair()
    authority.pair("own", hosts=["localhost"])
    own = {"port": 0, "tls_cert": "pki/own.pem", "tls_key": "pki/own-key.pem"}
    with plan_of(config_of(authority, sdb=own), tmp_path) as plan:
        assert plan.sdb.url.startswith("https://localhost:")
        assert plan.conductor({}).url.startswith("https://127.0.0.1:")


def test_an_expired_certificate_is_one_mistake(authority: Authority, tmp_path: Path) -> None:
    authority.pair(validity=Validity(-90, -1))
    (line,) = problems_of(config_of(authority), tmp_path)
    assert line.startswith(f"tls.cert {tmp_path}/pki/service.pem: expired on 20")


def test_services_that_would_not_trust_each_other_are_one_mistake(
    authority: Authority, tmp_path: Path
) -> None:
    authority.pair()
    Authority(tmp_path / "other")
    tls = {"cert": "pki/service.pem", "key": "pki/service-key.pem", "ca": "other/ca.pem"}
    (line,) = problems_of(config_of(authority, tls=tls), tmp_path)
    assert "the services do not trust their own certificate, as that of 127.0.0.1" in line
    assert "tls.ca names the file of its authority" in line


def test_a_service_that_its_certificate_does_not_lead_to_is_a_mistake(
    authority: Authority, tmp_path: Path
) -> None:
    authority.pair(hosts=["nowhere.invalid"])
    lines = problems_of(config_of(authority), tmp_path)
    assert [line.split(":")[0] for line in lines] == ["sdb", "conductor"]
    assert "it cannot be reached as nowhere.invalid" in lines[0]


def test_a_name_that_a_service_without_a_token_does_not_answer_under_is_a_mistake(
    authority: Authority, tmp_path: Path
) -> None:
    authority.pair(hosts=["nowhere.invalid"])
    lines = problems_of(config_of(authority, token=None), tmp_path)
    assert [line.split(":")[0] for line in lines] == ["sdb", "conductor"]
    assert "without a token it answers under the names of this machine alone" in lines[0]


def test_a_token_in_clear_over_a_network_is_warned_of_once(tmp_path: Path) -> None:
    everywhere = {"host": "0.0.0.0", "port": 0}  # noqa: S104  what is warned of
    services = {"sdb": everywhere, "conductor": everywhere, "dashboard": False}
    config = OrchestraConfig.model_validate({"token": TOKEN, **services})
    with plan_of(config, tmp_path) as plan:
        (line,) = plan.warnings
    assert line.startswith("sdb (0.0.0.0), conductor (0.0.0.0): no tls: ")


def test_the_tls_of_another_nats_is_that_of_its_clients(
    authority: Authority, tmp_path: Path
) -> None:
    pair = authority.pair("client")
    config = OrchestraConfig.model_validate(
        {
            "nats_url": "tls://nats.example.org:4222",
            "nats_tls_ca": "pki/ca.pem",
            "nats_tls_cert": str(pair.cert),
            "nats_tls_key": str(pair.key),
            "sdb": {"port": 0},
            "conductor": {"port": 0},
            "dashboard": False,
        }
    )
    with plan_of(config, tmp_path) as plan:
        assert plan.nats_config.tls_ca == authority.ca
        command = plan.service("sdb", plan.sdb).command
    assert command[command.index("--nats-tls-cert") + 1] == str(pair.cert)
    assert "--tls-cert" not in command
