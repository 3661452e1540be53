"""What is shipped to run Errata on many machines holds together, and gives nobody more than they need."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement

from service.queue import QUEUES
from service.settings import PREFIX, Settings

DEPLOY = Path(__file__).parents[3] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
CLUSTER = "1.34"
FILES = [*sorted((KUBERNETES / "base").glob("*.yaml")), KUBERNETES / "overlays/trial/databases.yaml"]
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
UNITS = sorted((DEPLOY / "systemd").glob("errata-*.service"))
MAY = re.compile(r"\$\{(\w+)(:?[-?])?([^}]*)\}")


def objects(text: str) -> list[dict[str, Any]]:
    """Return the objects of a file, lists taken apart."""
    found = [each for each in yaml.safe_load_all(text) if each]
    return [item for each in found for item in each.get("items", [each])]


SHIPPED = {
    (each["kind"], each["metadata"]["name"]): each
    for file in FILES
    if file.stem != "kustomization"
    for each in objects(file.read_text())
}


def pods(found: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what runs, by name."""
    for each in found:
        if template := each.get("spec", {}).get("template"):
            yield each["metadata"]["name"], template["spec"]


PODS = dict(pods(list(SHIPPED.values())))


def built(overlay: str) -> list[dict[str, Any]]:
    """Return an overlay's objects as `kubectl apply --kustomize` would send them."""
    if (binary := shutil.which("kubectl")) is None:
        pytest.skip("no kubectl, which builds overlays; what they are made of is checked all the same")
    asked = [binary, "kustomize", KUBERNETES / "overlays" / overlay]
    return objects(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)


def is_guarded(pod: dict[str, Any]) -> bool:
    """Say whether a pod runs as nobody in particular, writes nowhere by itself and may nothing."""
    (process,) = pod["containers"]
    may = process["securityContext"]
    return (
        pod["securityContext"]["runAsNonRoot"]
        and pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        and pod["automountServiceAccountToken"] is False
        and may["readOnlyRootFilesystem"]
        and may["allowPrivilegeEscalation"] is False
        and may["capabilities"] == {"drop": ["ALL"]}
        and "memory" in process["resources"]["limits"]
    )


class TestKubernetes:
    @pytest.mark.parametrize("name", SHIPPED, ids="/".join)
    def test_an_object_fits_its_schema(self, name):
        kubernetes_validate.validate(SHIPPED[name], CLUSTER, strict=True)

    def test_one_that_does_not_is_refused(self):
        misspelt = SHIPPED["NetworkPolicy", "nothing"] | {"spec": {"podSelectr": {}}}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(misspelt, CLUSTER, strict=True)

    @pytest.mark.parametrize("name", PODS)
    def test_no_pod_may_more_than_it_needs(self, name):
        pod = PODS[name]
        assert is_guarded(pod)
        (process,) = pod["containers"]
        loosened = process | {
            "securityContext": process["securityContext"] | {"readOnlyRootFilesystem": False}
        }
        assert not is_guarded(pod | {"containers": [loosened]})

    def test_every_queue_has_a_worker_and_scaling_names_what_there_is(self):
        workers = {pod["containers"][0]["command"][-1] for name, pod in PODS.items() if "worker" in name}
        assert workers == set(QUEUES)
        scalers = [each for (kind, _), each in SHIPPED.items() if kind == "HorizontalPodAutoscaler"]
        assert {each["spec"]["scaleTargetRef"]["name"] for each in scalers} <= set(PODS)
        metrics = [
            (each["metadata"]["name"], metric) for each in scalers for metric in each["spec"]["metrics"]
        ]
        asked = {name: metric["external"]["metric"] for name, metric in metrics if "external" in metric}
        assert {metric["name"] for metric in asked.values()} == {"job_oldest_pending_seconds"}
        queues = {name: metric["selector"]["matchLabels"]["queue"] for name, metric in asked.items()}
        assert all(name == f"worker-{queue}" for name, queue in queues.items())

    def test_nothing_is_reached_but_what_is_named(self):
        assert SHIPPED["NetworkPolicy", "nothing"]["spec"] == {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
        }
        (entry,) = SHIPPED["NetworkPolicy", "responder"]["spec"]["ingress"]
        assert entry["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "web"}}}]

    def test_settings_are_known(self):
        for name in SHIPPED["ConfigMap", "errata"]["data"]:
            assert not name.startswith(PREFIX) or name.removeprefix(PREFIX).lower() in Settings.model_fields

    @pytest.mark.parametrize("overlay", ["external", "gpu", "trial"])
    def test_an_overlay_keeps_what_guards(self, overlay):
        found = built(overlay)
        assert all(is_guarded(pod) for _, pod in pods(found))
        heavy = next(each for each in found if each["metadata"]["name"] == "worker-heavy")
        kubernetes_validate.validate(heavy, CLUSTER, strict=True)
        limits = heavy["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert ("nvidia.com/gpu" in limits) == (overlay == "gpu")


class TestCompose:
    def test_what_is_named_is_there(self):
        services = COMPOSE["services"]
        for name, service in services.items():
            assert set(service.get("depends_on", [])) <= set(services), name
            wanted = {
                each if isinstance(each, str) else each["source"] for each in service.get("secrets", [])
            }
            assert wanted <= set(COMPOSE["secrets"]), name
            sources = [volume.partition(":")[0] for volume in service.get("volumes", [])]
            assert all(
                (DEPLOY / each).exists() if each.startswith(".") else each in COMPOSE["volumes"]
                for each in sources
            )

    def test_every_part_of_a_team_is_there(self):
        services = COMPOSE["services"]
        workers = {service["command"][-1] for name, service in services.items() if name.startswith("worker-")}
        assert workers == set(QUEUES)
        assert services["web"]["deploy"]["replicas"] == 2
        assert {
            "nginx",
            "scheduler",
            "responder",
            "postgres",
            "redis",
            "s3",
            "label-studio",
            "argilla",
        } <= set(services)
        assert {"mlflow", "prometheus", "grafana"} <= set(services)

    def test_no_secret_has_a_default_and_those_without_are_refused(self):
        text = (DEPLOY / "compose.yaml").read_text()
        defaults = {name for name, kind, given in MAY.findall(text) if kind == ":-" and given}
        assert defaults == {"ERRATA_TRUSTED_PROXIES", "ERRATA_ARTIFACTS_URL", "AWS_ENDPOINT_URL"}
        assert all(each["file"].startswith("${SECRETS:?") for each in COMPOSE["secrets"].values())
        plain = {
            (name, key)
            for name, service in COMPOSE["services"].items()
            for key, value in service.get("environment", {}).items()
            if re.search("(PASSWORD|TOKEN|KEY|SECRET|_USER)", key) and "/run/secrets" not in value
        }
        assert plain == {
            ("postgres", "POSTGRES_USER"),
            ("label-studio", "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN"),
        } | {
            ("label-studio", "LABEL_STUDIO_USERNAME"),
            ("label-studio", "LABEL_STUDIO_USER_ADDITIONAL_BANNED_SUBNETS"),
        }

    def test_web_and_workers_are_thrown_away_without_loss(self):
        ours = [service for service in COMPOSE["services"].values() if "errata-w" in service.get("image", "")]
        assert len(ours) == 9
        held = {volume.partition(":")[0] for service in ours for volume in service.get("volumes", [])}
        assert held == {"work", "mirror", "cache"}  # what can be made again
        assert all(service["read_only"] and service["cap_drop"] == ["ALL"] for service in ours)

    def test_only_nginx_is_reached_from_elsewhere(self):
        open_to_all = {
            name
            for name, service in COMPOSE["services"].items()
            if any(not str(port).startswith("127.0.0.1:") for port in service.get("ports", []))
        }
        assert open_to_all == {"nginx"}


class TestSecrets:
    def test_each_is_made_once_and_what_compose_wants_is_there(self, tmp_path):
        place = tmp_path / "secrets"
        made = [self._make(place), self._make(place)]
        assert made[0] == made[1]
        assert made[0] != self._make(tmp_path / "others")
        wanted = {Path(each["file"]).name for each in COMPOSE["secrets"].values()} - {"tls.crt", "tls.key"}
        assert set(made[0]) == wanted
        assert place.stat().st_mode & 0o077 == 0
        assert made[0]["postgres_password"] in made[0]["ERRATA_DATABASE_URL"]
        assert set(json.loads(made[0]["secrets.json"])) == {
            "key_id",
            "signing_key",
            "session_key",
            "hook_secret",
        }
        assert all(len(made[0][name]) >= 40 for name in made[0] if "password" in name)

    @staticmethod
    def _make(place: Path) -> dict[str, str]:
        subprocess.run(["/bin/sh", DEPLOY / "make_secrets.sh", place], check=True)
        return {file.name: file.read_text() for file in place.iterdir()}


@pytest.fixture(scope="module")
def machine(tmp_path_factory) -> Path:
    """A root directory with the units, and programs that are there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    root = tmp_path_factory.mktemp("machine")
    shutil.copytree(DEPLOY / "systemd", root / "etc/systemd/system")
    for program in ("opt/errata/bin/errata", "opt/errata/bin/granian", "usr/bin/mkdir", "usr/bin/rm"):
        (root / program).parent.mkdir(parents=True, exist_ok=True)
        (root / program).write_text("#!/bin/sh\n")
        (root / program).chmod(0o755)
    return root


class TestSystemd:
    @pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
    def test_a_unit_is_whole_and_hardened(self, machine, unit):
        name = unit.name.replace("@", "@light")
        analyse = ("systemd-analyze", f"--root={machine}")
        for verb in (("verify", "--recursive-errors=no"), ("security", "--offline=true", "--threshold=30")):
            asked = subprocess.run([*analyse, *verb, name], capture_output=True, text=True, check=False)
            assert (asked.returncode, asked.stderr) == (0, "")

    def test_a_unit_that_starts_what_is_not_there_is_refused(self, machine, tmp_path):
        broken = shutil.copytree(machine, tmp_path / "broken")
        (broken / "opt/errata/bin/granian").unlink()
        asked = (
            "systemd-analyze",
            f"--root={broken}",
            "verify",
            "--recursive-errors=no",
            "errata-web.service",
        )
        assert subprocess.run(asked, capture_output=True, check=False).returncode != 0

    def test_without_the_hardening_a_unit_is_refused(self, machine, tmp_path):
        bare = shutil.copytree(machine, tmp_path / "bare")
        shutil.rmtree(bare / "etc/systemd/system/errata-.service.d")
        exposure = [
            "systemd-analyze",
            f"--root={bare}",
            "security",
            "--offline=true",
            "--threshold=30",
            "errata-web.service",
        ]
        assert subprocess.run(exposure, capture_output=True, check=False).returncode != 0

    def test_every_queue_is_started(self):
        target = (DEPLOY / "systemd" / "errata.target").read_text()
        assert set(re.findall(r"errata-worker@(\w+)\.service", target)) == set(QUEUES)


def reached(names: set[str], extras: set[str]) -> set[str]:
    """Return the packages that these need, here and now."""
    found: set[str] = set()
    waiting = [(name, frozenset(extras)) for name in names]
    while waiting:
        name, wanted = waiting.pop()
        for text in importlib.metadata.requires(name) or []:
            each = Requirement(text)
            is_needed = each.marker is None or any(
                each.marker.evaluate({"extra": extra}) for extra in {"", *wanted}
            )
            if is_needed and each.name not in found:
                found.add(each.name)
                waiting.append((each.name, frozenset(each.extras)))
    return found


class TestImages:
    def test_the_web_needs_no_torch_and_the_worker_does(self):
        heavy = {"torch", "transformers", "argilla", "label-studio-sdk", "scikit-learn"}
        assert not heavy & reached({"errata"}, {"web"})
        assert heavy <= reached({"errata"}, {"worker"})

    def test_the_bill_of_materials_names_what_is_installed(self):
        told = subprocess.run([sys.executable, DEPLOY / "sbom.py"], capture_output=True, check=True).stdout
        bill = json.loads(told)
        purls = [each["purl"] for each in bill["components"]]
        assert f"pkg:pypi/flask@{importlib.metadata.version('flask')}" in purls
        assert purls == sorted(set(purls), key=purls.index)
        assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
