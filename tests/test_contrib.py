"""What is in contrib/ for fleets: files and services that are named exist, options too."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from smtp_blinker.serve.cli import command
from smtp_blinker.serve.help import without_effect
from smtp_blinker.serve.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "contrib" / "compose"
SERVICES: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
NODES = ("node1", "node2", "node3")
MANIFESTS: list[Any] = list(
    yaml.safe_load_all((ROOT / "contrib/kubernetes/smtp-blinker.yaml").read_text())
)


def compose() -> dict[str, Any]:
    whole: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    return whole


@contextmanager
def variables(values: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SMTP_BLINKER_")]:
            patch.delenv(name)
        for name, value in values.items():
            patch.setenv(name, value)
        yield


def settings(words: Sequence[str], values: dict[str, str]) -> Settings:
    """What smtp-blinker's own parser makes of them; raises what it raises."""
    known = {f"SMTP_BLINKER_{option.name.upper()}" for option in command.params if option.name}
    assert values.keys() <= known
    with variables(values):
        context = command.make_context("smtp-blinker", list(words))
    assert without_effect(context) is None
    return Settings(http_asked=True, **context.params)


# compose.yaml


def test_each_service_names_services_networks_and_volumes_that_exist() -> None:
    whole = compose()
    for name, service in SERVICES.items():
        needs = service.get("depends_on", {})
        assert set(needs) <= SERVICES.keys(), name
        if isinstance(needs, dict):
            for other, how in needs.items():
                if how["condition"] == "service_healthy":
                    assert "healthcheck" in SERVICES[other], (name, other)
        assert set(service["networks"]) <= whole["networks"].keys(), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (COMPOSE / source).is_file(), (name, source)
            else:
                assert source in whole["volumes"], (name, source)
    used = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
    }
    assert whole["volumes"].keys() <= used


def test_the_image_is_made_of_files_and_extras_that_exist() -> None:
    build = SERVICES["node1"]["build"]
    context = (COMPOSE / build["context"]).resolve()
    assert context == ROOT
    dockerfile = (context / build["dockerfile"]).read_text()
    [extras] = re.findall(r"/tmp/smtp_blinker\[([^]]+)\]", dockerfile)
    setup = (ROOT / "setup.py").read_text()
    for extra in extras.split(","):
        assert re.search(rf'"{extra}"(:|\] =)', setup), extra
    [entry] = re.findall(r"^ENTRYPOINT (.*)$", dockerfile, re.M)
    assert entry == '["smtp-blinker"]'
    assert SERVICES["consumer"]["image"] == SERVICES["node1"]["image"]


def test_the_image_holds_nothing_of_the_checkout_but_what_it_installs() -> None:
    # A layer keeps what is copied: the .env beside compose.yaml, and .git.
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    nothing, *patterns = [line for line in lines if line and not line.startswith("#")]
    kept = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    assert nothing == "*"
    assert kept == {"pyproject.toml", "setup.py", "README.md", "LICENSE", "smtp_blinker"}
    assert all((ROOT / name).exists() for name in kept)


def test_git_leaves_the_password_out() -> None:
    assert "echo RABBITMQ_PASSWORD=" in (COMPOSE / "compose.yaml").read_text()
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_only_nodes_are_checked_by_the_check_of_their_image() -> None:
    """It asks for the page of a node: another program of the image would never be well."""
    for name, service in SERVICES.items():
        if service.get("image") == "smtp-blinker" and "entrypoint" in service:
            assert service["healthcheck"] == {"disable": True}, name


@pytest.mark.parametrize("name", NODES)
def test_the_options_of_the_nodes_are_those_of_smtp_blinker(name: str) -> None:
    node = SERVICES[name]
    values = {key: _filled_in(value) for key, value in node["environment"].items()}
    made = settings(node["command"], values)
    assert made.name == name
    assert [str(one) for one in made.listen] == ["0.0.0.0:2525"]
    assert made.http is not None
    assert made.deliver == "amqp://mail:secret@rabbitmq/"
    # The proxy is in the network that is believed.
    [subnet] = compose()["networks"]["fleet"]["ipam"]["config"]
    assert made.trusted_proxy == (subnet["subnet"],)
    assert made.contents in [volume.split(":")[1] for volume in node["volumes"]]
    # Messages may end before it is killed.
    assert int(node["stop_grace_period"].removesuffix("s")) > 30


def _filled_in(text: str) -> str:
    """*text* as compose would have it, with a password."""
    return re.sub(r"\$\{RABBITMQ_PASSWORD:\?[^}]*\}", "secret", text)


def test_the_password_is_the_same_everywhere() -> None:
    text = (COMPOSE / "compose.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+)", text)) == {"RABBITMQ_PASSWORD", "MAIL_PORT"}
    assert len(re.findall(r"\$\{RABBITMQ_PASSWORD:\?", text)) == 3
    rabbitmq = SERVICES["rabbitmq"]["environment"]
    assert rabbitmq["RABBITMQ_DEFAULT_USER"] == "mail"
    for name in (
        SERVICES["consumer"]["environment"]["MAIL_URL"],
        SERVICES["node1"]["environment"]["SMTP_BLINKER_DELIVER"],
    ):
        assert _filled_in(name) == "amqp://mail:secret@rabbitmq/"


def test_haproxy_and_prometheus_ask_the_nodes_where_they_listen() -> None:
    haproxy = (COMPOSE / "haproxy.cfg").read_text()
    servers = re.findall(r"^    server (\w+) (\w+):(\d+)$", haproxy, re.M)
    assert servers == [(name, name, "2525") for name in NODES]
    assert re.search(r"default-server check port 8025 .* send-proxy-v2 ", haproxy)
    [listens] = re.findall(r"^    bind :(\d+)$", haproxy, re.M)
    assert SERVICES["haproxy"]["ports"] == [f"${{MAIL_PORT:-25}}:{listens}"]
    prometheus = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())
    [job] = prometheus["scrape_configs"]
    assert job["job_name"] == "smtp"  # which the alert rules expect
    assert job["static_configs"] == [{"targets": [f"{name}:8025" for name in NODES]}]
    mounted = [volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]]
    assert all(f"/etc/prometheus/{rules}" in mounted for rules in prometheus["rule_files"])


def test_grafana_finds_the_dashboard_and_prometheus() -> None:
    [source] = yaml.safe_load((COMPOSE / "grafana/datasource.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = yaml.safe_load((COMPOSE / "grafana/dashboards.yaml").read_text())["providers"]
    mounted = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/smtp.json" in mounted


# Kubernetes


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: one["kind"])
def test_kubernetes_would_take_the_manifests(manifest: Any) -> None:
    assert kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def of_kind(kind: str) -> Any:
    [manifest] = [one for one in MANIFESTS if one["kind"] == kind]
    return manifest


def test_the_options_in_the_manifest_are_those_of_smtp_blinker() -> None:
    [container] = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    secret = {"deliver": "amqp://mail:secret@rabbitmq/", "counters": "redis://redis/"}
    values = {
        one["name"]: secret[one["valueFrom"]["secretKeyRef"]["key"]] for one in container["env"]
    }
    made = settings(container["args"], values)
    assert made.deliver == secret["deliver"]
    # RabbitMQ takes 16 MiB.
    assert 0 < made.size < 16 * 2**20
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert made.http is not None
    assert ports == {"smtp": made.listen[0].address[1], "http": made.http.address[1]}


def test_the_manifests_fit_each_other() -> None:
    deployment = of_kind("Deployment")["spec"]
    pod = deployment["template"]
    labels = pod["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels
    assert of_kind("Service")["spec"]["selector"] == labels
    assert of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    scaler = of_kind("HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == of_kind("Deployment")["metadata"]["name"]
    assert scaler["minReplicas"] > of_kind("PodDisruptionBudget")["spec"]["minAvailable"]
    [container] = pod["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    assert {port["targetPort"] for port in of_kind("Service")["spec"]["ports"]} <= ports
    drains = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["spec"]["terminationGracePeriodSeconds"] >= drains + 30
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["spec"]["volumes"]}


def test_the_metric_that_is_scaled_by_exists() -> None:
    from prometheus_client import CollectorRegistry

    from smtp_blinker.listeners.metrics import EventMetrics

    registry = CollectorRegistry()
    EventMetrics(registry)
    names = {metric.name for metric in registry.collect()}
    metrics = of_kind("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert {one["pods"]["metric"]["name"] for one in metrics if one["type"] == "Pods"} <= names


def test_a_manifest_that_is_wrong_is_told_of() -> None:
    wrong = {**of_kind("Service"), "spec": {"prots": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)
