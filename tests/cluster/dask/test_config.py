"""The configuration of the dask modes: every key, type and default, and messages for mistakes."""

import json
import subprocess
import sys
from typing import Any

import psutil
import pytest

from batuta.cluster import check_configuration
from batuta.cluster.dask.config import seconds_of
from batuta.cluster.dask.jobs.options import batch_job_options
from batuta.errors import ConfigurationError

COMMON: dict[str, Any] = {
    "task_timeout": 600,
    "profiling": None,
    "on_tile_failure": "raise",
    "resume": False,
    "use_memory_logger": False,
}
WORKERS: dict[str, Any] = {
    "nb_workers": 2,
    "max_ram_per_worker": 2000,
    "walltime": "00:59:00",
    "activate_dashboard": False,
    "python": None,
    "local_directory": None,
}
JOBS: dict[str, Any] = {
    "interface": None,
    "job_extra_directives": (),
    "job_script_prologue": (),
    "worker_extra_args": (),
    "processes_per_job": 1,
    "cores_per_job": None,
    "scheduler_port": None,
    "tls": True,
}
NEEDED: dict[str, dict[str, Any]] = {
    "local_dask": {},
    "pbs_dask": {},
    "slurm_dask": {"account": "observatory"},
    "dask": {"scheduler_address": "tls://head:8786"},
}
OWN: dict[str, dict[str, Any]] = {
    "local_dask": {**WORKERS, "mp_mode": "forkserver"},
    "pbs_dask": {**WORKERS, **JOBS, "account": None, "queue": None, "resource_spec": None},
    "slurm_dask": {**WORKERS, **JOBS, "account": "observatory", "qos": None, "partition": None},
    "dask": {
        "scheduler_address": "tls://head:8786",
        "tls_ca_file": None,
        "tls_cert": None,
        "tls_key": None,
    },
}
MODES = tuple(NEEDED)
JOB_MODES = ("pbs_dask", "slurm_dask")
NUMBER = "a number above 0"
WHOLE = "a whole number above 0"
YES_NO = "true or false"
DURATION = "a non-zero duration as 'HH:MM:SS'"
TEXT = "a single-line string"
TEXTS = "a list of single-line strings"
NAMES = "names separated by commas, without spaces"
ADDRESS = "an address such as tls://host:8786"


def complete(mode: str, **keys: Any) -> dict[str, Any]:
    return {"mode": mode, **NEEDED[mode], **keys}


def problems(conf: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        check_configuration(conf)
    return list(caught.value.problems)


@pytest.mark.parametrize("mode", MODES)
def test_every_key_has_its_default(mode: str) -> None:
    assert check_configuration(complete(mode)).as_dict() == {
        "mode": mode,
        **COMMON,
        **OWN[mode],
    }


@pytest.mark.parametrize("mode", MODES)
def test_a_checked_configuration_can_be_checked_again(mode: str) -> None:
    config = check_configuration(complete(mode, use_memory_logger=True))
    assert check_configuration(config.as_dict()) == config


@pytest.mark.parametrize("mode", JOB_MODES)
def test_keys_accept_values_other_than_their_defaults(mode: str) -> None:
    keys = {
        "nb_workers": 40,
        "max_ram_per_worker": 1500.5,
        "walltime": "120:00:59",
        "use_memory_logger": True,
        "activate_dashboard": True,
        "python": "/opt/batuta/bin/python",
        "local_directory": "$TMPDIR",
        "interface": "ib0",
        "job_extra_directives": ["--exclusive", "--constraint=haswell"],
        "job_script_prologue": ["module load gdal", "ulimit -n 4096"],
        "worker_extra_args": ["--resources", "GPU=1"],
        "processes_per_job": 4,
        "cores_per_job": 16,
        "scheduler_port": 40200,
        "tls": False,
    }
    found = check_configuration(complete(mode, **keys)).as_dict()
    assert {
        name: list(found[name]) if isinstance(found[name], tuple) else found[name] for name in keys
    } == keys


@pytest.mark.parametrize("qos", ["long", "long,night", "a,b,c-1"])
def test_qos_is_a_list_of_names_separated_by_commas(qos: str) -> None:
    assert check_configuration(complete("slurm_dask", qos=qos)).as_dict()["qos"] == qos


def test_slurm_requires_an_account() -> None:
    assert problems({"mode": "slurm_dask"}) == [f"account: missing, {TEXT} expected"]
    assert problems({"mode": "slurm_dask", "account": None}) == [
        f"account: None given, {TEXT} expected"
    ]


def test_dask_requires_the_address_of_a_scheduler() -> None:
    assert problems({"mode": "dask"}) == [f"scheduler_address: missing, {ADDRESS} expected"]


@pytest.mark.parametrize("mode", ["local_dask", "pbs_dask", "slurm_dask"])
@pytest.mark.parametrize(
    ("key", "given", "accepted"),
    [
        ("nb_workers", 0, WHOLE),
        ("nb_workers", 2.0, WHOLE),
        ("nb_workers", "2", WHOLE),
        ("nb_workers", True, WHOLE),
        ("max_ram_per_worker", -1, NUMBER),
        ("max_ram_per_worker", "2000", NUMBER),
        ("max_ram_per_worker", float("inf"), NUMBER),
        ("walltime", 59, DURATION),
        ("walltime", 43200, DURATION),  # how YAML reads 12:00:00 without quotes
        ("walltime", "1:00:00", DURATION),
        ("walltime", "01:00", DURATION),
        ("walltime", "00:60:00", DURATION),
        ("walltime", "00:00:60", DURATION),
        ("walltime", "00:00:00", DURATION),
        ("walltime", "1-00:00:00", DURATION),
        ("walltime", "01:00:00\n", DURATION),
        ("use_memory_logger", 1, YES_NO),
        ("activate_dashboard", "yes", YES_NO),
        ("python", 3, TEXT),
        ("python", "", TEXT),
        ("local_directory", "a\nb", TEXT),
        ("task_timeout", 1.5, WHOLE),
    ],
)
def test_an_invalid_value_is_reported_in_one_line(
    mode: str, key: str, given: Any, accepted: str
) -> None:
    assert problems(complete(mode, **{key: given})) == [
        f"{key}: {given!r} given, {accepted} expected"
    ]


@pytest.mark.parametrize("mode", JOB_MODES)
@pytest.mark.parametrize(
    ("key", "given", "accepted"),
    [
        ("account", "a\nb", TEXT),
        ("account", 7, TEXT),
        ("interface", " ", TEXT),
        ("job_extra_directives", "--exclusive", TEXTS),
        ("cores_per_job", 0, WHOLE),
        ("processes_per_job", 1.5, WHOLE),
        ("scheduler_port", 0, "a port from 1 to 65535"),
        ("scheduler_port", 70000, "a port from 1 to 65535"),
        ("tls", "no", YES_NO),
    ],
)
def test_an_invalid_value_of_batch_jobs_is_reported_in_one_line(
    mode: str, key: str, given: Any, accepted: str
) -> None:
    assert problems(complete(mode, **{key: given})) == [
        f"{key}: {given!r} given, {accepted} expected"
    ]


@pytest.mark.parametrize("mode", JOB_MODES)
@pytest.mark.parametrize(
    "key", ["job_extra_directives", "job_script_prologue", "worker_extra_args"]
)
@pytest.mark.parametrize("line", ["--exclusive\nrm -r x", "a\rb", "", 3])
def test_a_string_that_would_start_another_line_of_the_job_script_is_refused(
    mode: str, key: str, line: Any
) -> None:
    assert problems(complete(mode, **{key: ["--ok", line]})) == [
        f"{key}: {line!r} given, {TEXTS} expected"
    ]


@pytest.mark.parametrize("qos", ["a, b", "a,,b", ",a", "", "a b", "a\nb"])
def test_a_list_of_qos_has_no_space_and_no_empty_name(qos: str) -> None:
    assert problems(complete("slurm_dask", qos=qos)) == [f"qos: {qos!r} given, {NAMES} expected"]


@pytest.mark.parametrize(
    ("key", "given", "accepted"),
    [
        ("partition", "", TEXT),
        ("partition", 3, TEXT),
        ("qos", ["a", "b"], NAMES),
    ],
)
def test_an_invalid_value_of_slurm_is_reported_in_one_line(
    key: str, given: Any, accepted: str
) -> None:
    assert problems(complete("slurm_dask", **{key: given})) == [
        f"{key}: {given!r} given, {accepted} expected"
    ]


@pytest.mark.parametrize("key", ["queue", "resource_spec"])
def test_an_invalid_value_of_pbs_is_reported_in_one_line(key: str) -> None:
    assert problems(complete("pbs_dask", **{key: "a\nb"})) == [
        f"{key}: 'a\\nb' given, {TEXT} expected"
    ]


@pytest.mark.parametrize("mode", JOB_MODES)
def test_each_worker_of_a_job_has_a_core(mode: str) -> None:
    assert problems(complete(mode, cores_per_job=2, processes_per_job=4)) == [
        "cores_per_job: 2 given, a whole number of at least 4 (processes_per_job) expected"
    ]
    config: Any = check_configuration(complete(mode, processes_per_job=4))
    assert config.cores == 4
    config = check_configuration(complete(mode, processes_per_job=4, cores_per_job=8))
    assert config.cores == 8


@pytest.mark.parametrize(
    "given", ["head:8786", "http://head:8787", "https://head/status", "tcp://", "tcp://a b", 8786]
)
def test_an_address_that_cannot_be_a_schedulers_is_refused(given: Any) -> None:
    assert problems({"mode": "dask", "scheduler_address": given}) == [
        f"scheduler_address: {given!r} given, {ADDRESS} expected"
    ]


@pytest.mark.parametrize(
    "given", ["tcp://10.0.0.1:8786", "tls://head:8786", "tls://[::1]:8786", "gateway://hub:8000/x"]
)
def test_the_address_of_a_scheduler_is_accepted(given: str) -> None:
    config: Any = check_configuration({"mode": "dask", "scheduler_address": given})
    assert config.scheduler_address == given


def test_the_keys_of_tls_go_together() -> None:
    files = {"tls_ca_file": "ca.pem", "tls_cert": "cert.pem", "tls_key": "key.pem"}
    config = check_configuration(complete("dask", **files))
    assert files.items() <= config.as_dict().items()
    del files["tls_ca_file"], files["tls_key"]
    assert problems(complete("dask", **files)) == [
        "tls_ca_file, tls_key: missing, required with the other TLS keys"
    ]


def test_certificates_are_for_an_address_of_tls() -> None:
    conf = {
        "mode": "dask",
        "scheduler_address": "tcp://head:8786",
        "tls_ca_file": "ca.pem",
        "tls_cert": "cert.pem",
        "tls_key": "key.pem",
    }
    (line,) = problems(conf)
    assert line == (
        "scheduler_address: 'tcp://head:8786' given, a TLS address such as tls://host:8786"
        " expected: certificates are configured"
    )


@pytest.mark.parametrize(
    ("mode", "key", "meant"),
    [
        ("slurm_dask", "queue", "partition"),
        ("pbs_dask", "partition", "queue"),
        ("slurm_dask", "cores", "cores_per_job"),
        ("pbs_dask", "processes", "processes_per_job"),
        ("slurm_dask", "memory", "max_ram_per_worker"),
        ("pbs_dask", "project", "account"),
        ("local_dask", "n_workers", "nb_workers"),
        ("local_dask", "wall_time", "walltime"),
        ("slurm_dask", "job_extra_directive", "job_extra_directives"),
        ("dask", "address", "scheduler_address"),
        ("dask", "tls_ca", "tls_ca_file"),
    ],
)
def test_an_unknown_key_is_reported_with_the_one_that_is_meant(
    mode: str, key: str, meant: str
) -> None:
    assert problems(complete(mode, **{key: "x"})) == [f"{key}: unknown key, did you mean {meant}?"]


@pytest.mark.parametrize(
    ("mode", "key"),
    [
        ("local_dask", "account"),
        ("local_dask", "queue"),
        ("pbs_dask", "qos"),
        ("slurm_dask", "resource_spec"),
        ("dask", "nb_workers"),
        ("dask", "walltime"),
        ("slurm_dask", "per_job_timeout"),
    ],
)
def test_keys_of_another_mode_are_refused(mode: str, key: str) -> None:
    (line,) = problems(complete(mode, **{key: "x"}))
    assert line.startswith(f"{key}: unknown key")


def test_all_mistakes_are_reported_at_once_one_line_each() -> None:
    conf = {"mode": "slurm_dask", "nb_workers": 0, "walltime": "1h", "queue": "short"}
    assert problems(conf) == [
        f"nb_workers: 0 given, {WHOLE} expected",
        f"walltime: '1h' given, {DURATION} expected",
        f"account: missing, {TEXT} expected",
        "queue: unknown key, did you mean partition?",
    ]


@pytest.mark.parametrize("mode", JOB_MODES)
def test_an_interface_that_this_machine_lacks_is_reported_with_those_it_has(mode: str) -> None:
    config: Any = check_configuration(complete(mode, interface="ib999"))
    available = ", ".join(sorted(psutil.net_if_addrs()))
    with pytest.raises(ConfigurationError) as caught:
        batch_job_options(config)
    assert list(caught.value.problems) == [f"interface: 'ib999' given, one of {available} expected"]


@pytest.mark.parametrize(
    ("walltime", "seconds"), [("00:59:00", 3540), ("01:00:01", 3601), ("100:00:00", 360_000)]
)
def test_a_walltime_is_converted_to_seconds(walltime: str, seconds: int) -> None:
    assert seconds_of(walltime) == seconds


WITHOUT = """
import json, sys
sys.modules[sys.argv[1]] = None
from batuta.cluster import check_configuration
from batuta.errors import ConfigurationError
for conf in json.loads(sys.argv[2]):
    try:
        check_configuration(conf)
        print("")
    except ConfigurationError as error:
        print(*error.problems)
"""


def problems_without(package: str) -> dict[str, str]:
    """Return the problem of each mode where a package is not installed; empty if there is none."""
    confs = json.dumps([complete(mode) for mode in MODES])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, package, confs], check=True, stdout=subprocess.PIPE
    )
    return dict(zip(MODES, done.stdout.decode().split("\n"), strict=False))


@pytest.mark.parametrize("missing", ["distributed", "dask"])
def test_modes_whose_extra_is_not_installed_say_how_to_install_it(missing: str) -> None:
    for mode, line in problems_without(missing).items():
        assert line.startswith((f"mode: '{mode}' needs dask", f"mode: '{mode}' needs distributed"))
        assert line.endswith(": pip install 'batuta[dask]'")


def test_only_modes_in_batch_jobs_need_dask_jobqueue() -> None:
    found = problems_without("dask_jobqueue")
    assert found["local_dask"] == found["dask"] == ""
    for mode in JOB_MODES:
        assert found[mode].startswith(f"mode: '{mode}' needs dask_jobqueue")
        assert found[mode].endswith(": pip install 'batuta[dask]'")
