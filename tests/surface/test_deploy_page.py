"""The files in docs/deploy agree with each other, with the command line and with the worker."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import yaml

from nbqueue.cli.health_command import health
from nbqueue.cli.latency_command import latency
from nbqueue.cli.worker_command import worker
from nbqueue.durations import parse_duration
from nbqueue.store.url import parse_url
from nbqueue.worker import supervisor
from nbqueue.worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
FILES = ROOT / "docs" / "deploy"


def settings(arguments: str) -> dict[str, object]:
    """Return the options of `nbqueue worker`, which must take these arguments."""
    words = shlex.split(arguments)
    assert words.pop(0) == "worker"
    context: click.Context = worker.make_context("worker", words)
    options = dict(context.params)
    options["queues"] = dict(options["queues"]) or {"default": 1}
    WorkerSettings(**options)
    return options


def seconds_to_end(options: dict[str, object]) -> float:
    """Return the longest time from SIGTERM to the end of a worker with these options."""
    made = WorkerSettings(**options)
    return made.shutdown_seconds + made.kill_grace_seconds + supervisor._LAST_SENDING


def unit(name: str) -> dict[str, list[str]]:
    """Return the directives of a unit, each with its values."""
    directives: dict[str, list[str]] = {}
    for line in (FILES / name).read_text().splitlines():
        if line and line[0] not in "#[":
            directive, _, value = line.partition("=")
            directives.setdefault(directive, []).append(value)
    return directives


def variables(name: str) -> dict[str, str]:
    lines = (FILES / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and line[0] != "#")


def test_the_page_names_every_file_and_no_other() -> None:
    named = set(re.findall(r"\]\(deploy/([^)]+)\)", (ROOT / "docs" / "deploy.md").read_text()))
    assert named == {path.name for path in FILES.iterdir()}


def test_the_unit_starts_a_worker_and_gives_it_time_to_end() -> None:
    directives = unit("nbqueue-worker@.service")
    [command] = directives["ExecStart"]
    program, _, arguments = command.partition(" ")
    options = settings(
        arguments.replace("$WORKER_OPTIONS", variables("default.env")["WORKER_OPTIONS"])
    )
    assert program == "/opt/nbqueue/bin/nbqueue"
    assert seconds_to_end(options) < parse_duration(directives["TimeoutStopSec"][0])
    assert directives["Type"] == ["notify"]
    assert parse_duration(directives["WatchdogSec"][0]) >= 30
    assert directives["OOMPolicy"] == ["continue"]
    assert set(variables("store.env")) == {"NBQUEUE_URL", "NBQUEUE_KEY"}
    files = ["/etc/nbqueue/store.env", "/etc/nbqueue/%i.env"]
    assert directives["EnvironmentFile"] == files
    assert not re.search(r"(?i)key|url|password", command)


def test_the_compose_file_starts_a_redis_that_suits_and_a_worker_for_it() -> None:
    services = yaml.safe_load((FILES / "compose.yaml").read_text())["services"]
    worker, server = services["worker"], services["redis"]
    assert (FILES / worker["build"]["context"]).resolve() == ROOT
    assert (ROOT / worker["build"]["dockerfile"]).is_file()
    options = settings(shlex.join(worker["command"]))
    assert seconds_to_end(options) < parse_duration(worker["stop_grace_period"])
    assert str(options["health_file"]).rpartition("/")[0] in worker["tmpfs"]
    assert set(worker["environment"]) == {"NBQUEUE_URL", "NBQUEUE_KEY"}
    url = worker["environment"]["NBQUEUE_URL"]
    assert "@redis:6379/" in parse_url(url.replace("${REDIS_PASSWORD}", "secret")).place
    words = [str(word) for word in server["command"]]
    chosen = dict(zip(words[1::2], words[2::2], strict=True))
    assert words[0] == "redis-server"
    assert chosen["--maxmemory-policy"] == "noeviction"
    assert chosen["--appendonly"] == "yes"
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])


def test_the_dockerfile_ends_with_a_worker_that_its_health_check_watches() -> None:
    text = (FILES / "Dockerfile").read_text()
    [command] = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    [check] = re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", text, re.MULTILINE)
    assert settings(shlex.join(json.loads(command)))["health_file"] == json.loads(check)[-1]
    version = re.findall(r"^ARG PYTHON=(\S+)$", text, re.MULTILINE)
    tested = re.search(r"with Python (\d+\.\d+)", (ROOT / "constraints.txt").read_text())
    assert tested is not None
    assert version == [tested[1]]


def objects(name: str) -> dict[str, Any]:
    """Return the objects of a manifest by kind and name."""
    found = yaml.safe_load_all((FILES / name).read_text())
    return {f"{each['kind']} {each['metadata']['name']}": each for each in found}


def test_the_deployment_gives_its_workers_time_to_end_and_probes_their_file() -> None:
    made = objects("kubernetes.yaml")
    secret = made["Secret nbqueue"]["stringData"]
    pod = made["Deployment nbqueue-worker"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    options = settings(shlex.join(container["args"]))
    assert seconds_to_end(options) < pod["terminationGracePeriodSeconds"]
    assert options["concurrency"] == int(container["resources"]["limits"]["cpu"])
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/tmp"}
    for probe, least, most in (("readinessProbe", 6, 60), ("livenessProbe", 300, 3600)):
        program, command, *words = container[probe]["exec"]["command"]
        found = health.make_context("health", words).params
        assert (program, command) == ("nbqueue", "health")
        assert found["file"] == options["health_file"]
        assert least < found["within"] < most
    for variable in container["env"]:
        assert variable["valueFrom"]["secretKeyRef"]["key"] in secret
    assert {variable["name"] for variable in container["env"]} == {"NBQUEUE_URL", "NBQUEUE_KEY"}


def test_keda_reads_the_latency_where_it_is_served() -> None:
    made = objects("keda.yaml")
    scaled, service = made["ScaledObject nbqueue-worker"]["spec"], made["Service nbqueue-latency"]
    [container] = made["Deployment nbqueue-latency"]["spec"]["template"]["spec"]["containers"]
    words = list(container["args"])
    assert words.pop(0) == "latency"
    options = latency.make_context("latency", words).params
    [trigger] = scaled["triggers"]
    url = urlsplit(trigger["metadata"]["url"])
    assert url.hostname == "nbqueue-latency.default.svc"
    assert url.port == service["spec"]["ports"][0]["port"] == options["port"]
    assert container["ports"][0]["containerPort"] == options["port"]
    queue, number = trigger["metadata"]["valueLocation"].split(".")
    assert queue in options["queues"]
    assert number == "latency"
    assert scaled["scaleTargetRef"]["name"] == "nbqueue-worker"
    assert scaled["minReplicaCount"] >= 1
