#!/usr/bin/env bash
# Prints the rules of dashboards/ as an object for the Prometheus Operator:
# scripts/prometheus-rule.sh >deploy/kubernetes/prometheusrule.yaml
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../dashboards"

cat <<'HEADER'
# Written by scripts/prometheus-rule.sh from dashboards/alerts.yml and dashboards/rules.yml. Your Prometheus may
# select PrometheusRules by a label: see its ruleSelector.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: streamgauge
  labels: {app.kubernetes.io/name: streamgauge}
spec:
  groups:
HEADER
for file in alerts.yml rules.yml; do
    sed -n '/^groups:/,$p' "$file" | sed -e 1d -e 's/^/  /'
done
