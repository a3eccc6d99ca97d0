"""Settings as options: those that are secret are on no command line."""

import os
from pathlib import Path

import pytest

from batuta.cli.deployment.plan import DeploymentPlan, OrchestraConfig
from batuta.cli.options import arguments_of, secrets_of
from batuta.conductor import ConductorSettings
from batuta.sdb.settings import SdbSettings
from batuta.service.settings import forget_secrets

SECRET = "s3/cr@t:,x"  # noqa: S105  of no service


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("database_url", f"postgresql://user:{SECRET}@host/name"),
        ("database_url", f"postgresql://host/name?user=user&password={SECRET}"),
        ("nats_url", f"nats://user:{SECRET}@host:4222"),
        ("nats_url", f"tls://a:4222,tls://{SECRET}@host:4222"),
        ("nats_token", SECRET),
        ("token", f"{SECRET}-of-16-letters"),
        ("public_url", f"http://user:{SECRET}@host"),
    ],
)
def test_a_secret_goes_by_the_environment_and_is_forgotten_there(
    monkeypatch: pytest.MonkeyPatch, field: str, value: str
) -> None:
    settings = SdbSettings.model_validate({field: value})
    assert not any(SECRET in word for word in arguments_of(settings))
    assert secrets_of(settings) == {f"BATUTA_{field.upper()}": value}
    for name, secret in secrets_of(settings).items():
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("BATUTA_TLS_CA", "ca.pem")
    before = set(os.environ)
    forget_secrets()
    assert before - set(os.environ) == set(secrets_of(settings))


def test_what_is_no_secret_goes_by_the_command_line() -> None:
    urls = {"a": "http://127.0.0.1:5000/pipeline"}
    settings = ConductorSettings.model_validate({"graph": "g.json", "provider_urls": urls})
    assert "a=http://127.0.0.1:5000/pipeline" in arguments_of(settings)
    assert secrets_of(settings) == {}


@pytest.mark.parametrize("store_url", ["s3://bucket/products", "products"])
def test_the_keys_of_a_bucket_are_for_the_sdb_alone(tmp_path: Path, store_url: str) -> None:
    (tmp_path / "graph.json").write_text('{"inputs": ["A"], "products": {}}')
    config = OrchestraConfig(
        sdb={"port": 0, "store_url": store_url},
        conductor={"port": 0, "graph": "graph.json"},
        dashboard=False,
        simulate={"port": 0},
    )
    with DeploymentPlan(config, tmp_path) as plan:
        assert plan.simulate is not None
        sdb = plan.service("sdb", plan.sdb)
        others = [
            plan.service("conductor", plan.conductor({})),
            plan.service("simulate", plan.simulate),
        ]
    assert not sdb.hidden
    for other in others:
        assert ("AWS_SECRET_ACCESS_KEY" in other.hidden) == store_url.startswith("s3")
