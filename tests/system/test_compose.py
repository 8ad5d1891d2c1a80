"""The system of docker-compose.yml, built and started for real: a line is counted and alerts, and what is killed comes back.

`make compose-test` runs this; it takes minutes, so `make test` leaves it out. Grafana is left out too: no stand-in for its image can be made.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.containers.composition import Composition, composition
from tests.support.containers.engine import REPOSITORY, Engine, engine
from tests.support.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3600)]

SERVICES = ["redis", "api", "worker", "flower", "alertmanager", "prometheus"]
PYTHON = "python:3.11-slim"
CRITICAL = "kernel: Out of memory: Killed process 4242 (postgres) total-vm:8123456kB"


@pytest.fixture(scope="module")
def docker(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A Docker engine with the images that the compose file builds on."""
    if "docker" not in request.config.option.markexpr:
        pytest.skip("takes minutes: make compose-test")
    services = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
    with engine() as found:
        found.require_images(
            [PYTHON, *(services[name]["image"] for name in SERVICES if "build" not in services[name])], PYTHON
        )
        yield found


@pytest.fixture(scope="module")
def system(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """The running system."""
    with composition(docker, tmp_path_factory.mktemp("compose"), SERVICES) as started:
        yield started


def test_a_critical_line_is_counted_and_alerts(system: Composition) -> None:
    """One line goes all the way: API, Redis, worker with the shipped model, Prometheus, Alertmanager."""
    answer = system.post_lines(f"{CRITICAL}\n", "?wait=20&service=db")
    assert answer["accepted"] == 1
    verdict = answer["verdicts"][0]
    assert (verdict["severity"], verdict["degraded"]) == ("critical", False)
    wait_for(lambda: system.counted() == 1, 30, "Prometheus has the line", 0.5)
    wait_for(lambda: "CriticalLogDetected" in system.alerts(), 60, "Alertmanager has the alert", 0.5)


def test_every_target_is_scraped(system: Composition) -> None:
    """All jobs of prometheus.yml are up: names, ports and the key of the API's metrics fit together."""
    config = yaml.safe_load((REPOSITORY / "monitoring/prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    wait_for(
        lambda: {series["metric"]["job"] for series in system.query("up == 1")} == jobs, 30, "all jobs are up", 0.5
    )


def test_nothing_is_open_that_asks_for_a_key(system: Composition) -> None:
    """The API's metrics and Flower's tables want a login."""
    assert system.get_status("api", "/metrics") == 401
    assert system.get_status("flower", "/") == 401
    assert system.get_status("api", "/readiness") == 200


def test_nobody_is_root_and_nothing_is_writable(system: Composition) -> None:
    """Every container runs as a user without capabilities on a file system it cannot change."""
    for service in SERVICES:
        for container in system.containers(service):
            user = system.engine.docker("exec", container["Id"], "sh", "-c", "cat /proc/1/status")
            fields = dict(line.split(":\t", 1) for line in user.splitlines() if ":\t" in line)
            assert fields["Uid"].split()[0] != "0", service
            assert int(fields["CapEff"], 16) == 0, service
            assert fields["NoNewPrivs"].strip() == "1", service
            assert container["HostConfig"]["ReadonlyRootfs"], service


@pytest.mark.parametrize(
    ("image", "absent"),
    [
        (
            "api",
            ["torch", "transformers", "onnxruntime", "numpy", "tokenizers", "harkline_workers", "harkline_training"],
        ),
        (
            "flower",
            [
                "torch",
                "transformers",
                "onnxruntime",
                "numpy",
                "tokenizers",
                "flask",
                "harkline_api",
                "harkline_training",
            ],
        ),
        ("worker-cpu", ["torch", "transformers", "flask", "gunicorn", "flower", "harkline_api", "harkline_training"]),
    ],
)
def test_images_hold_no_more_than_they_need(system: Composition, image: str, absent: list[str]) -> None:
    """No model runtime where none runs, and no code of the other side."""
    script = "import importlib.util as u, json, sys; print(json.dumps([n for n in sys.argv[1:] if u.find_spec(n)]))"
    printed = system.engine.docker(
        "run", "--rm", "--network=none", "--entrypoint=python", f"harkline/{image}:0.1.0", "-c", script, *absent
    )
    assert json.loads(printed) == []


def test_a_killed_worker_comes_back(system: Composition) -> None:
    """kill -9 of the worker: docker starts it again, and a line sent meanwhile is counted once."""
    before = wait_for(lambda: system.counted() > 0 and system.counted(), 30, "Prometheus knows a count")
    system.kill("worker")
    assert system.post_lines(f"{CRITICAL}\n")["accepted"] == 1
    wait_for(
        lambda: all(c["RestartCount"] > 0 for c in system.containers("worker")), 30, "docker restarted the worker", 0.5
    )
    wait_for(lambda: system.counted() == before + 1, 60, "the line is counted", 0.5)


def test_workers_scale_and_each_is_scraped(system: Composition) -> None:
    """`--scale worker=3` starts two more, and Prometheus finds them by name."""
    system.compose("up", "--detach", "--no-recreate", "--scale", "worker=3", "worker")
    wait_for(lambda: len(system.query('up{job="harkline-worker"} == 1')) == 3, 120, "three workers are scraped", 0.5)


def test_what_was_accepted_survives_redis(system: Composition) -> None:
    """Lines that wait while no worker runs are still there after kill -9 of Redis, and are counted once each."""
    before = wait_for(lambda: system.counted() > 0 and system.counted(), 30, "Prometheus knows a count")
    system.compose("stop", "worker")
    assert all(container["State"]["ExitCode"] == 0 for container in system.containers("worker"))
    lines = 500
    assert (
        system.post_lines("".join(f"request {number} served in 12 ms\n" for number in range(lines)))["accepted"]
        == lines
    )
    system.kill("redis")
    wait_for(lambda: all(c["RestartCount"] > 0 for c in system.containers("redis")), 30, "docker restarted Redis", 0.5)
    system.wait_until_healthy(["redis"])
    system.compose("start", "worker")
    wait_for(lambda: system.counted() == before + lines, 90, "all lines are counted", 0.5)
