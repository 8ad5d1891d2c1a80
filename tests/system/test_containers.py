"""What docker-compose.yml and the Dockerfiles promise, read from the files: pinned, confined, without default secrets, and in step with the settings."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE_FILE = REPOSITORY / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILES = [REPOSITORY / "api/Dockerfile", REPOSITORY / "workers/Dockerfile"]
SECRETS = ["HARKLINE_REDIS_PASSWORD", "HARKLINE_API_KEYS", "HARKLINE_FLOWER_AUTH", "GRAFANA_ADMIN_PASSWORD"]
# Settings whose value is given by the composition itself, or that mean nothing in it.
DECIDED = {
    *(
        "DATA_DIR",
        "REDIS_URL",
        "API_HOST",
        "METRICS_HOST",
        "METRICS_PORT",
        "FLOWER_HOST",
        "BACKEND",
        "MODEL_DIR",
        "MONITORING_DIR",
    ),
    *("SCRAPE_SECONDS",),
}


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile as (name, arguments), comments gone and continued lines joined."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


def stages(dockerfile: Path) -> dict[str, list[tuple[str, str]]]:
    """Return the instructions of each stage by its name ("" for one without), those of the stage it builds on included."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for instruction in instructions(dockerfile):
        if instruction[0] == "FROM":
            base, _, alias = instruction[1].partition(" AS ")
            name = alias
            found[name] = list(found.get(base, []))
        found[name].append(instruction)
    return found


def last(stage: list[tuple[str, str]], name: str) -> str:
    """Return the arguments of the last instruction of that name, or ""."""
    return next((rest for instruction, rest in reversed(stage) if instruction == name), "")


def final_stages() -> dict[str, list[tuple[str, str]]]:
    """Return the stages that become images."""
    workers = stages(DOCKERFILES[1])
    return {"api": stages(DOCKERFILES[0])[""]} | {name: workers[name] for name in ("flower", "cpu", "gpu")}


def setting_names() -> set[str]:
    """Return the name of every setting, as harkline itself prints them."""
    printed = subprocess.run(
        [Path(sys.executable).with_name("harkline"), "settings"], capture_output=True, text=True, check=True
    ).stdout
    return set(re.findall(r"^(HARKLINE_[A-Z0-9_]+)=", printed, re.MULTILINE))


def environment(service: str) -> dict[str, str | None]:
    """Return a service's variables."""
    variables: dict[str, str | None] = SERVICES[service].get("environment", {})
    return variables


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_confined(service: str) -> None:
    """No service may write its own file system, gain rights, fill the disk with logs, or take all memory."""
    options = SERVICES[service]
    assert options["read_only"] is True
    assert options["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in options["security_opt"]
    assert not {"privileged", "cap_add", "pid", "ipc"} & set(options)
    assert options["mem_limit"]
    assert options["pids_limit"]
    assert set(options["logging"]["options"]) == {"max-size", "max-file"}
    assert options["stop_grace_period"] == "30s"


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_runs_as_a_user(service: str) -> None:
    """Our images say so themselves; the vendors' are told."""
    options = SERVICES[service]
    if "build" in options:
        dockerfile = REPOSITORY / options["build"]["dockerfile"]
        assert last(stages(dockerfile)[options["build"].get("target", "")], "USER") == "10001:10001"
    else:
        assert options["user"].partition(":")[0] not in ("", "0", "root")


@pytest.mark.parametrize("service", sorted(set(SERVICES) - {"config"}))
def test_every_service_says_how_it_is(service: str) -> None:
    """A health check, a restart, and no start before what it depends on is healthy."""
    options = SERVICES[service]
    assert options["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert options["restart"] == "unless-stopped"
    for name, condition in options.get("depends_on", {}).items():
        assert condition["condition"] == ("service_completed_successfully" if name == "config" else "service_healthy")


def test_only_the_api_listens_beyond_this_machine() -> None:
    """Every other published port is bound to loopback, and Redis and the workers publish none."""
    published = {name: port for name, options in SERVICES.items() for port in options.get("ports", [])}
    beyond = {name for name, port in published.items() if not port.startswith("127.0.0.1:")}
    assert beyond == {"api"}
    assert not {"redis", "worker", "worker-gpu", "config"} & set(published)


def test_workers_may_be_scaled() -> None:
    """Nothing in them can be had once only: no container name, no published port."""
    assert not {"container_name", "ports", "hostname"} & set(SERVICES["worker"])


def test_redis_and_the_workers_reach_nothing_outside() -> None:
    """They are on internal networks only."""
    networks = COMPOSE["networks"]
    for service in ("redis", "worker", "worker-gpu"):
        assert all((networks[name] or {}).get("internal") for name in SERVICES[service]["networks"])


def test_redis_loses_nothing_that_was_answered() -> None:
    """It writes before it answers, refuses rather than evicts, and keeps its password out of its arguments."""
    script = SERVICES["redis"]["command"][-1]
    for directive in (
        "appendonly yes",
        "appendfsync always",
        "maxmemory-policy noeviction",
        'requirepass "$$REDISCLI_AUTH"',
    ):
        assert re.search(rf"^\s*{re.escape(directive)}$", script, re.MULTILINE)
    assert any(volume.startswith("redis:/data") for volume in SERVICES["redis"]["volumes"])


def test_no_secret_has_a_default() -> None:
    """Where a secret is used, the composition refuses to start without it, and no other default looks like one."""
    uses = re.findall(r"(?<!\$)\$\{([A-Z_]+)(:[^}]*)?\}", COMPOSE_FILE.read_text())
    assert {name for name, _ in uses if name in SECRETS} == set(SECRETS)
    for name, fallback in uses:
        if name in SECRETS:
            assert fallback == ":?run make secrets"
        else:
            assert re.fullmatch(r":-[0-9]+[a-z]?", fallback), name


def test_every_variable_is_a_setting() -> None:
    """A name with a typing mistake would set nothing, in silence."""
    used = {name for service in SERVICES for name in environment(service) if name.startswith("HARKLINE_")}
    in_images = {
        name for dockerfile in DOCKERFILES for name in re.findall(r"HARKLINE_[A-Z_]+(?==)", dockerfile.read_text())
    }
    assert used | in_images <= setting_names()


def test_every_setting_can_be_set() -> None:
    """What harkline can be told, it can be told under compose: each setting reaches a service, or the composition decides it."""
    passed = {name for service in SERVICES for name, value in environment(service).items() if value is None}
    substituted = {name for name, _ in re.findall(r"\$\{(HARKLINE_[A-Z_]+)(:[^}]*)?\}", COMPOSE_FILE.read_text())}
    missing = setting_names() - passed - substituted - {f"HARKLINE_{name}" for name in DECIDED}
    assert not missing, f"docker-compose.yml passes them to no service: {sorted(missing)}"


def test_prometheus_asks_services_that_exist() -> None:
    """Each target is a service, on a network that Prometheus shares, at the port its image exposes."""
    config = yaml.safe_load((REPOSITORY / "monitoring/prometheus/prometheus.yml").read_text())
    exposed = {"api": "5000", "worker": "8000", "flower": "5555", "alertmanager": "9093"}
    for name, stage in (("api", "api"), ("worker", "cpu"), ("flower", "flower")):
        assert last(final_stages()[stage], "EXPOSE") == exposed[name]
    asked: dict[str, str] = {}
    for job in config["scrape_configs"]:
        for found in job.get("dns_sd_configs", []):
            asked |= {name: str(found["port"]) for name in found["names"]}
        for group in job.get("static_configs", []):
            asked |= dict(target.split(":") for target in group["targets"])
    assert asked.pop("localhost") == "9090"
    assert asked == exposed
    shared = set(SERVICES["prometheus"]["networks"])
    assert all(shared & set(SERVICES[name]["networks"]) for name in asked)


def test_prometheus_finds_the_key_where_it_is_put() -> None:
    """The one-shot service writes the API's key where prometheus.yml looks for it, on a volume that both mount."""
    config = yaml.safe_load((REPOSITORY / "monitoring/prometheus/prometheus.yml").read_text())
    job = next(job for job in config["scrape_configs"] if job["job_name"] == "harkline-api")
    path = job["authorization"]["credentials_file"]
    assert f"> {path}" in SERVICES["config"]["command"][-1]
    mount = next(volume for volume in SERVICES["config"]["volumes"] if path.startswith(volume.partition(":")[2]))
    assert mount in SERVICES["prometheus"]["volumes"]


@pytest.mark.parametrize("service", SERVICES)
def test_images_are_pinned(service: str) -> None:
    """A tag with a version, to the patch: what was tested is what starts."""
    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+(-alpine)?", SERVICES[service]["image"])


def test_the_file_is_one_that_old_compose_reads() -> None:
    """docker-compose 1.29 knows neither a project's name nor `develop`."""
    assert set(COMPOSE) - {key for key in COMPOSE if key.startswith("x-")} == {"services", "volumes", "networks"}
    assert not any("develop" in options for options in SERVICES.values())


def test_compose_reads_the_file_and_refuses_to_run_without_secrets(tmp_path: Path) -> None:
    """The real program: it fills the file in with the secrets, and without them it stops and says what to do."""
    compose = compose_command()
    empty, complete = tmp_path / "empty", tmp_path / "complete"
    empty.write_text("")
    complete.write_text("".join(f"{name}=a-secret\n" for name in SECRETS))
    command = [*compose, "--file", str(COMPOSE_FILE), "--env-file"]
    refused = subprocess.run([*command, str(empty), "config"], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "run make secrets" in refused.stderr
    done = subprocess.run([*command, str(complete), "config"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "redis://:a-secret@redis:6379/0" in done.stdout


def compose_command() -> list[str]:
    """Return the compose program of this machine; skips the test where there is none."""
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0:
        return [docker, "compose"]
    standalone = shutil.which("docker-compose")
    if standalone is None:
        pytest.skip("neither `docker compose` nor docker-compose is installed")
    return [standalone]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_dockerfiles_need_no_newer_builder(dockerfile: Path) -> None:
    """Docker's classic builder builds them: no `syntax` line, no mounts, no flags of BuildKit's; bases are pinned or stages of the file."""
    assert "syntax=" not in dockerfile.read_text()
    known = {"scratch"}
    for name, rest in instructions(dockerfile):
        if name == "FROM":
            base, _, alias = rest.partition(" AS ")
            assert base in known or re.fullmatch(r"python:\d+\.\d+-slim", base), base
            known.add(alias)
        assert not re.search(r"--(mount|chmod|link|parents|security|network)\b", rest), rest
        assert "<<" not in rest


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_what_dockerfiles_copy_is_there_and_not_ignored(dockerfile: Path) -> None:
    """A folder that .dockerignore keeps out, or that was renamed, would fail the build."""
    kept = re.findall(r"^!(\w+)/$", (REPOSITORY / ".dockerignore").read_text(), re.MULTILINE)
    for name, rest in instructions(dockerfile):
        if name == "COPY" and "--from=" not in rest:
            for source in rest.split()[:-1]:
                assert (REPOSITORY / source).exists(), source
                assert source.partition("/")[0] in kept, source


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_packages_are_installed_by_hash(dockerfile: Path) -> None:
    """Every install checks hashes, but that of torch, whose builds share a version and not a file; none compiles anything."""
    for name, rest in instructions(dockerfile):
        for install in re.findall(r"pip [^&]*install[^&]*", rest) if name == "RUN" else []:
            assert "--only-binary :all:" in install
            assert "--require-hashes" in install or "/tmp/torch.txt" in install  # noqa: S108 - a path in the image


@pytest.mark.parametrize("target", ["api", "flower", "cpu", "gpu"])
def test_images_start_and_stop_as_programs(target: str) -> None:
    """Signals reach the program (no shell between), its health is asked for, and it has its stop signal, its folder and its user."""
    stage = final_stages()[target]
    assert json.loads(last(stage, "ENTRYPOINT"))
    assert json.loads(last(stage, "CMD"))
    assert last(stage, "STOPSIGNAL") == "SIGTERM"
    assert "CMD [" in last(stage, "HEALTHCHECK")
    assert last(stage, "USER") == "10001:10001"
    variables = " ".join(rest for name, rest in stage if name == "ENV")
    assert "HARKLINE_DATA_DIR=/data" in variables


def test_no_secret_gets_into_an_image() -> None:
    """The builder is sent what is named and nothing else: no .env, no keys, no history."""
    first, *rest = [
        line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert first == "*"
    assert {line for line in rest if line.startswith("!")} == {"!api/", "!harkline/", "!requirements/", "!workers/"}
    for dockerfile in DOCKERFILES:
        assert not {"ARG"} & {name for name, _ in instructions(dockerfile)}


@pytest.mark.parametrize(("given", "seen"), [({}, ""), ({"HARKLINE_WORKER_PROCESSES": "3"}, "3")])
def test_the_entrypoint_keeps_what_it_is_given(tmp_path: Path, given: dict[str, str], seen: str) -> None:
    """It becomes `harkline worker`, with the processes asked for; without a quota it leaves their number to harkline."""
    program = tmp_path / "harkline"
    program.write_text('#!/bin/sh\necho "$1 ${HARKLINE_WORKER_PROCESSES:-}"\n')
    program.chmod(0o755)
    entrypoint = REPOSITORY / "workers/entrypoint.sh"
    done = subprocess.run(
        ["sh", entrypoint, "worker"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"} | given,
        capture_output=True,
        text=True,
        check=True,
    )
    command, processes = done.stdout.rstrip("\n").split(" ")
    assert command == "worker"
    if given:
        assert processes == seen
    else:
        assert processes == "" or int(processes) >= 1
    assert entrypoint.stat().st_mode & 0o111
