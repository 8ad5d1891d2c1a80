"""What the Kubernetes manifests promise, read from what kubectl renders: valid, confined, connected to each other, and in step with compose."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
KUSTOMIZATIONS = ["base", "overlays/cpu", "overlays/gpu", "overlays/keda"]
# The oldest and the newest Kubernetes that the manifests are held against.
VERSIONS = ["1.29", "1.37"]
Manifest = dict[str, Any]


@functools.cache
def rendered(kustomization: str) -> tuple[Manifest, ...]:
    """Return every object of a kustomization; skips the test where there is no kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not on PATH")
    done = subprocess.run(
        [kubectl, "kustomize", REPOSITORY / "k8s" / kustomization], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(kustomization: str, *kinds: str) -> dict[str, Manifest]:
    """Return the objects of these kinds by name."""
    return {manifest["metadata"]["name"]: manifest for manifest in rendered(kustomization) if manifest["kind"] in kinds}


def workloads(kustomization: str) -> dict[str, Manifest]:
    """Return what runs pods, by name."""
    return of_kind(kustomization, "Deployment", "StatefulSet")


def pod(workload: Manifest) -> Manifest:
    """Return the specification of a workload's pods."""
    specification: Manifest = workload["spec"]["template"]["spec"]
    return specification


def containers(workload: Manifest) -> list[Manifest]:
    """Return all containers of a workload's pods, the first ones included."""
    return [*pod(workload).get("initContainers", []), *pod(workload)["containers"]]


def selects(selector: dict[str, str], workload: Manifest) -> bool:
    """Whether labels select a workload's pods."""
    return bool(selector.items() <= workload["spec"]["template"]["metadata"]["labels"].items())


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_valid(kustomization: str, version: str) -> None:
    """The API server's own schemas accept each object, strictly: a field with a typing mistake is an error."""
    for manifest in rendered(kustomization):
        if not manifest["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_pods_keep_to_the_restricted_profile(kustomization: str) -> None:
    """Pod Security `restricted`, and more: no root, no rights, no writable file system, no token."""
    for name, workload in workloads(kustomization).items():
        specification = pod(workload)
        assert specification["automountServiceAccountToken"] is False, name
        assert specification["securityContext"]["runAsNonRoot"] is True
        assert specification["securityContext"]["runAsUser"] > 0
        assert specification["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(specification)
        assert all({"hostPath"}.isdisjoint(volume) for volume in specification.get("volumes", []))
        for container in containers(workload):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_pods_are_bounded_and_end_in_time(kustomization: str) -> None:
    """Each says what it needs and may take, and how long its end may last."""
    for name, workload in workloads(kustomization).items():
        assert pod(workload)["terminationGracePeriodSeconds"] >= 30, name
        # A Service called harkline-api would set HARKLINE_API_PORT, which is a setting.
        assert pod(workload)["enableServiceLinks"] is False
        for container in containers(workload):
            assert container["resources"]["requests"]["memory"]
            assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_pods_are_probed_without_their_dependencies(kustomization: str) -> None:
    """Startup and liveness ask the process itself: a Redis that is away must not restart the API or the workers."""
    found = workloads(kustomization)
    for workload in found.values():
        for container in pod(workload)["containers"]:
            assert {"startupProbe", "livenessProbe"} <= set(container)
    api = pod(found["api"])["containers"][0]
    paths = {name: api[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/startup", "livenessProbe": "/health", "readinessProbe": "/readiness"}
    for name in found.keys() & {"worker-cpu", "worker-gpu"}:
        worker = pod(found[name])["containers"][0]
        for probe in ("startupProbe", "livenessProbe"):
            assert worker[probe]["httpGet"] == {"path": "/health", "port": "metrics"}
        assert "readinessProbe" not in worker


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_images_are_those_of_compose(kustomization: str) -> None:
    """Pinned, and the same versions as in docker-compose.yml."""
    services = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
    known = {options["image"] for options in services.values()}
    assert {
        container["image"] for workload in workloads(kustomization).values() for container in containers(workload)
    } <= known


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_every_variable_is_a_setting(kustomization: str) -> None:
    """A name with a typing mistake would set nothing, in silence."""
    printed = subprocess.run(
        [Path(sys.executable).with_name("harkline"), "settings"], capture_output=True, text=True, check=True
    ).stdout
    known = set(re.findall(r"^(HARKLINE_[A-Z0-9_]+)=", printed, re.MULTILINE))
    used = {
        variable["name"]
        for workload in workloads(kustomization).values()
        for container in containers(workload)
        for variable in container.get("env", [])
    }
    for manifest in of_kind(kustomization, "ConfigMap").values():
        used |= {name for name in manifest["data"] if name.startswith("HARKLINE_")}
    assert {name for name in used if name.startswith("HARKLINE_")} <= known


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_no_secret_is_in_git(kustomization: str) -> None:
    """Secrets are referred to and never rendered; each key is one that `make secrets` writes, and a pod without it does not start."""
    assert not of_kind(kustomization, "Secret")
    written = set(re.findall(r"\$\{([A-Z_]+):\?", (REPOSITORY / "docker-compose.yml").read_text()))
    for workload in workloads(kustomization).values():
        for container in containers(workload):
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    assert reference["name"] == "harkline-secrets"
                    assert reference["key"] in written
                    assert not reference.get("optional")


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_services_lead_to_ports_that_pods_open(kustomization: str) -> None:
    """Each Service selects pods of harkline, and each port it leads to has that name there."""
    for name, service in of_kind(kustomization, "Service").items():
        selected = [
            workload for workload in workloads(kustomization).values() if selects(service["spec"]["selector"], workload)
        ]
        assert selected, name
        assert service["spec"]["selector"]["app.kubernetes.io/part-of"] == "harkline"
        for workload in selected:
            opened = {
                port["name"]: port["containerPort"]
                for container in pod(workload)["containers"]
                for port in container["ports"]
            }
            for port in service["spec"]["ports"]:
                assert opened[port["targetPort"]] == port["port"]


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_prometheus_reaches_what_it_asks(kustomization: str) -> None:
    """prometheus.yml is compose's; each name in it is a Service at that port, and names of many pods have no cluster address, so that each is asked."""
    services = of_kind(kustomization, "Service")
    found = next(
        manifest
        for name, manifest in of_kind(kustomization, "ConfigMap").items()
        if name.startswith("prometheus-config-")
    )
    key = pod(workloads(kustomization)["prometheus"])["initContainers"][0]["command"][-1].rpartition("> ")[2]
    for job in yaml.safe_load(found["data"]["prometheus.yml"])["scrape_configs"]:
        assert job.get("authorization", {}).get("credentials_file") == (
            key if job["job_name"] == "harkline-api" else None
        )
        for discovered in job.get("dns_sd_configs", []):
            for name in discovered["names"]:
                assert services[name]["spec"]["clusterIP"] == "None"
                assert services[name]["spec"]["publishNotReadyAddresses"] is True
                assert services[name]["spec"]["ports"][0]["port"] == discovered["port"]
        for target in [target for group in job.get("static_configs", []) for target in group["targets"]]:
            name, _, port = target.partition(":")
            assert name == "localhost" or services[name]["spec"]["ports"][0]["port"] == int(port)


def test_every_file_of_rules_is_mounted() -> None:
    """A new file under monitoring/prometheus/rules that no ConfigMap holds would alert on one machine and not in the cluster."""
    files = {path.name for path in (REPOSITORY / "monitoring/prometheus/rules").glob("*.yml")}
    held = next(
        manifest for name, manifest in of_kind("base", "ConfigMap").items() if name.startswith("prometheus-rules-")
    )
    assert set(held["data"]) == files
    sources = next(volume for volume in pod(workloads("base")["prometheus"])["volumes"] if volume["name"] == "config")[
        "projected"
    ]["sources"]
    mounted = {item["key"]: item["path"] for source in sources for item in source["configMap"].get("items", [])}
    assert mounted == {name: f"rules/{name}" for name in files}


def allowed(kustomization: str) -> set[tuple[str, str, int]]:
    """Return who may reach whom at which port: pairs of workloads that both the sender's and the receiver's policies let through."""
    policies = list(of_kind(kustomization, "NetworkPolicy").values())
    pods = workloads(kustomization)

    def chosen(selector: Manifest) -> set[str]:
        return {name for name, workload in pods.items() if selects(selector.get("matchLabels", {}), workload)}

    def open_ways(direction: str, side: str) -> set[tuple[str, str, int]]:
        ways = set()
        for policy in policies:
            for rule in policy["spec"].get(direction, []):
                peers = rule.get(side)
                others = (
                    set(pods)
                    if peers is None
                    else {
                        name
                        for peer in peers
                        if "namespaceSelector" not in peer
                        for name in chosen(peer["podSelector"])
                    }
                )
                ports = [port["port"] for port in rule.get("ports", [])] or [5000, 5555, 6379, 8000, 9090, 9093]
                ways |= {
                    (one, other, port)
                    for one in chosen(policy["spec"]["podSelector"])
                    for other in others
                    for port in ports
                }
        return ways

    received = {(sender, receiver, port) for receiver, sender, port in open_ways("ingress", "from")}
    return received & open_ways("egress", "to")


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_only_those_talk_who_have_to(kustomization: str) -> None:
    """All traffic is denied but for these ways (senders reach the API from anywhere, and Alertmanager its receivers)."""
    denied = of_kind(kustomization, "NetworkPolicy")["harkline-default-deny"]["spec"]
    assert set(denied["policyTypes"]) == {"Ingress", "Egress"}
    assert all(
        selects(denied["podSelector"]["matchLabels"], workload) for workload in workloads(kustomization).values()
    )
    workers = {name for name in workloads(kustomization) if name.startswith("worker-")}
    expected = {(name, "redis", 6379) for name in {"api", "flower"} | workers} | {
        (name, "alertmanager", 9093) for name in workers | {"prometheus"}
    }
    expected |= {("prometheus", name, 8000) for name in workers} | {
        ("prometheus", "api", 5000),
        ("prometheus", "flower", 5555),
    }
    talking = {way for way in allowed(kustomization) if way[0] != way[1]}
    assert talking - {("alertmanager", "api", 5000)} == expected


def test_redis_is_set_up_as_in_compose() -> None:
    """The same directives in the same order: what holds on one machine holds in the cluster."""
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]["redis"]["command"][-1]
    script = pod(workloads("base")["redis"])["containers"][0]["command"][-1]
    assert script == compose.replace("$$", "$")
    claim = workloads("base")["redis"]["spec"]["volumeClaimTemplates"][0]["metadata"]["name"]
    assert {"name": claim, "mountPath": "/data"} in pod(workloads("base")["redis"])["containers"][0]["volumeMounts"]


def test_the_gpu_overlay_asks_for_one_gpu() -> None:
    """One process, one GPU, the torch backend, and no worker on CPU beside it."""
    found = workloads("overlays/gpu")
    worker = pod(found["worker-gpu"])["containers"][0]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"name": "HARKLINE_BACKEND", "value": "torch"} in worker["env"]
    assert found["worker-cpu"]["spec"]["replicas"] == 0
    assert any(toleration["key"] == "nvidia.com/gpu" for toleration in pod(found["worker-gpu"])["tolerations"])


def test_keda_scales_on_the_ledger() -> None:
    """The trigger reads the stream that the product writes, by the length that falls with each counted entry, and nobody else sets the number."""
    scaled = of_kind("overlays/keda", "ScaledObject")["worker-cpu"]["spec"]
    trigger = scaled["triggers"][0]
    source = (REPOSITORY / "harkline/ledger.py").read_text()
    tag = re.search(r'^TAG = "(.+)"$', source, re.MULTILINE)
    stream = re.search(r'^LEDGER = f"\{TAG\}(.+)"$', source, re.MULTILINE)
    assert tag
    assert stream
    assert trigger["metadata"]["stream"] == tag[1] + stream[1]
    assert {"lagCount", "consumerGroup", "pendingEntriesCount"}.isdisjoint(trigger["metadata"])
    assert (
        trigger["metadata"]["address"]
        == f"redis.{workloads('overlays/keda')['redis']['metadata']['namespace']}.svc:6379"
    )
    assert scaled["minReplicaCount"] >= 1
    assert "replicas" not in workloads("overlays/keda")[scaled["scaleTargetRef"]["name"]]["spec"]
    assert trigger["authenticationRef"]["name"] in of_kind("overlays/keda", "TriggerAuthentication")
