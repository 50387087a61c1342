#!/usr/bin/env bash
# Checks every manifest of deploy/kubernetes, and what the Helm chart renders with several values, against the schemas of
# the oldest and the newest Kubernetes, of the Prometheus Operator and of KEDA; and deploy/compose.yaml against the
# schema of compose files. Needs python3 with pip and venv, and npm; brings the schemas under target/manifests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v npm >/dev/null || {
    echo "manifests: there is no npm: install Node.js" >&2
    exit 1
}
scripts/peers.sh helm
folder=target/manifests
mkdir -p "$folder"
[ -x "$folder/venv/bin/python" ] || python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check kubernetes-validate==1.37.0 check-jsonschema==0.39.0
[ -f "$folder/package.json" ] || echo '{"private": true}' >"$folder/package.json"
npm install --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel error \
    @kubernetes-models/prometheus-operator@6.0.0 @kubernetes-models/keda@2.0.0 >&2

"$folder/venv/bin/check-jsonschema" --builtin-schema vendor.compose-spec deploy/compose.yaml

"$folder/venv/bin/python" - "$folder" <<'PROGRAM'
import json, pathlib, subprocess, sys
import kubernetes_validate, yaml

folder = pathlib.Path(sys.argv[1])
VERSIONS = ["1.25", kubernetes_validate.latest_version()]
OTHER_SCHEMAS = ("monitoring.coreos.com/", "keda.sh/")
EVERYTHING = {
    "existingSecret": "a", "env": [{"name": "A", "value": "b"}], "envFrom": [{"secretRef": {"name": "a"}}],
    "imagePullSecrets": [{"name": "a"}], "extraVolumes": [{"name": "a", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "a", "mountPath": "/a"}], "strategy": {"type": "RollingUpdate"},
    "livenessProbe": {"periodSeconds": 20}, "commonLabels": {"a": "b"}, "podLabels": {"a": "c"},
    "annotations": {"a": "b"}, "podAnnotations": {"a": "b"}, "nodeSelector": {"a": "b"}, "priorityClassName": "a",
    "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "a", "labelSelector": {"matchLabels": {"a": "b"}}}]}},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "ScheduleAnyway"}],
    "serviceAccount": {"create": True, "annotations": {"a": "b"}},
    "service": {"type": "NodePort", "labels": {"a": "c"}, "annotations": {"a": "b"}},
    "ingress": {"enabled": True, "host": "a.example.com", "tlsSecret": "a", "className": "a", "annotations": {"a": "b"}},
    "networkPolicy": {"enabled": True, "from": [{"namespaceSelector": {}}], "egress": [{"ports": [{"port": 6379}]}]},
    "podDisruptionBudget": {"enabled": True},
    "serviceMonitor": {"enabled": True, "namespace": "a", "scrapeTimeout": "10s", "annotations": {"a": "b"},
        "basicAuth": {"username": {"name": "a", "key": "b"}, "password": {"name": "a", "key": "b"}},
        "tlsConfig": {"serverName": "a", "ca": {"secret": {"name": "a", "key": "b"}}},
        "relabelings": [{"action": "labeldrop", "regex": "a"}], "metricRelabelings": [{"action": "drop", "regex": "a"}]},
    "prometheusRule": {"enabled": True, "annotations": {"a": "b"}, "additionalGroups": [
        {"name": "a", "rules": [{"alert": "A", "expr": "up == 0"}]}]},
    "dashboard": {"enabled": True, "namespace": "a", "annotations": {"grafana_folder": "a"}},
}
WEB = {"tls_server_config": {"client_auth_type": "RequireAnyClientCert"}, "probe_listen": "[::]:10122",
       "basic_auth_users": {"a": "b"}}
TARGETS = [{"url": "redis://redis:6379"}]
VALUES = {
    "defaults": {},
    "everything": EVERYTHING,
    "shards, TLS": EVERYTHING | {"strategy": {"type": "OnDelete"}, "shards": 3,
        "persistence": {"enabled": True, "storageClass": "a", "annotations": {"a": "b"}},
        "config": {"targets": TARGETS, "web": WEB}},
    "a claim, a secret": {"persistence": {"enabled": True, "existingClaim": "a"}, "existingConfigSecret": "a"},
    "notifiers": {"prometheusRule": {"enabled": True}, "config": {"targets": TARGETS,
        "alerts": {"notifiers": [{"name": "a", "slack": {"webhook_url": "https://a"}}]}}},
}


def rendered(values):
    path = folder / "values.json"
    path.write_text(json.dumps(values))
    command = ["target/peers/helm", "template", "demo", "deploy/helm/streamgauge", "--values", str(path)]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    sources = [source for source in text.split("# Source: ") if "/NOTES.txt\n" not in source]
    return [document for source in sources for document in yaml.safe_load_all("# " + source)]


objects = [(str(path), document) for path in sorted(pathlib.Path("deploy/kubernetes").glob("*.yaml"))
           for document in yaml.safe_load_all(path.read_text())]
objects += [(f"the chart, {name}", document) for name, values in VALUES.items() for document in rendered(values)]
objects = [(where, found) for where, found in objects if found]
faults, others = 0, []
for where, found in objects:
    if found["apiVersion"].startswith(OTHER_SCHEMAS):
        others.append({"where": where, "found": found})
        continue
    for version in VERSIONS:
        # A container that restarts beside the others is newer than the oldest version.
        if version == VERSIONS[0] and "restartPolicy: Always" in yaml.dump(found.get("spec", {}).get("template", {})):
            continue
        try:
            kubernetes_validate.validate(found, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            faults += 1
            print(f"{where}: {found['kind']}, Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message[:300]}", file=sys.stderr)
(folder / "others.json").write_text(json.dumps(others))
print(f"manifests: {len(objects)} objects, {len(others)} of them of operators", file=sys.stderr)
sys.exit(faults > 0)
PROGRAM

cat >"$folder/others.mjs" <<'PROGRAM'
import fs from "fs";
import * as monitoring from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
import * as keda from "@kubernetes-models/keda/keda.sh/v1alpha1";
let faults = 0;
for (const {where, found} of JSON.parse(fs.readFileSync("others.json", "utf8"))) {
    try {
        new ({...monitoring, ...keda})[found.kind](found).validate();
    } catch (error) {
        faults += 1;
        console.error(`${where}: ${found.kind}: ${error.message}`);
    }
}
process.exit(faults > 0 ? 1 : 0);
PROGRAM
(cd "$folder" && node others.mjs)
echo "manifests: as Kubernetes, the Prometheus Operator, KEDA and compose have them" >&2
