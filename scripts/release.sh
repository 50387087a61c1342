#!/usr/bin/env bash
# The steps of a release, as .github/workflows/release.yml runs them; files are written to target/dist.
#
#   scripts/release.sh check [TAG]     Cargo.toml, the chart and the changelog have one version; with a tag, it is ready
#   scripts/release.sh notes           prints the changelog of the version
#   scripts/release.sh binary TARGET   builds the program for a Rust target; the archive and its bill of materials
#   scripts/release.sh deb TARGET      the Debian package of what `binary` built; needs cargo-deb
#   scripts/release.sh chart           the Helm chart; needs helm
#   scripts/release.sh sums            SHA256SUMS of all files
#   scripts/release.sh predicate       prints the provenance, for a signature; needs the variables of GitHub Actions
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dist=target/dist
mkdir -p "$dist"
version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)

fail() {
    echo "release: $1" >&2
    exit 1
}

check() {
    grep -qx "version: $version" deploy/helm/streamgauge/Chart.yaml || fail "version in Chart.yaml is not $version"
    grep -qx "appVersion: $version" deploy/helm/streamgauge/Chart.yaml || fail "appVersion in Chart.yaml is not $version"
    [ -n "$(notes)" ] || fail "CHANGELOG.md has no section \"## $version\""
    [ $# = 0 ] || check_tag "$1"
}

check_tag() {
    local url=$GITHUB_SERVER_URL/$GITHUB_REPOSITORY
    [ "$1" = "v$version" ] || fail "the tag is $1, and Cargo.toml has version $version; expected the tag v$version"
    grep -q "^## $version / 20" CHANGELOG.md || fail "CHANGELOG.md has no date for $version; expected \"## $version / YYYY-MM-DD\""
    # cargo binstall finds the archives by it.
    grep -qx "repository = \"$url\"" Cargo.toml || fail "Cargo.toml has no line: repository = \"$url\""
}

notes() { awk -v heading="## $version " '/^## / { on = index($0 " ", heading) == 1; next } on' CHANGELOG.md; }

binary() {
    local target=$1 name=streamgauge-$version-$1 program=target/$1/release/streamgauge
    # Kernels with pages of 64 KiB exist on this architecture; jemalloc must be built for the largest.
    case $target in aarch64-*-linux-*) export JEMALLOC_SYS_WITH_LG_PAGE=16 ;; esac
    cargo build --release --locked --bin streamgauge --target "$target"
    case $target in *-musl) is_static "$program" || fail "$program is not static" ;; esac
    rm -rf "${dist:?}/$name"
    mkdir -p "$dist/$name/completions"
    cp "$program" README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE config.example.yaml config.reference.yaml "$dist/$name/"
    cp -r dashboards/streamgauge.json dashboards/alerts.yml dashboards/rules.yml deploy/systemd/streamgauge.service "$dist/$name/"
    for shell in bash zsh fish; do "$program" completions "$shell" >"$dist/$name/completions/streamgauge.$shell"; done
    tar -C "$dist" -czf "$dist/$name.tar.gz" "$name"
    rm -rf "${dist:?}/$name"
    scripts/sbom.py "$target" >"$dist/$name.cdx.json"
}

# Returns whether a program needs no dynamic linker.
is_static() { ! readelf --program-headers --wide "$1" | grep -q INTERP; }

deb() {
    cargo deb --no-build --no-strip --target "$1" --output "$dist/"
}

chart() { helm package deploy/helm/streamgauge --destination "$dist"; }

sums() { (cd "$dist" && rm -f SHA256SUMS && sha256sum -- * >SHA256SUMS); }

# The predicate of SLSA provenance, version 1, of a workflow of GitHub.
predicate() {
    python3 - <<'PROGRAM'
import json, os

env = os.environ
server, repository = env["GITHUB_SERVER_URL"], env["GITHUB_REPOSITORY"]
workflow = env["GITHUB_WORKFLOW_REF"].removeprefix(repository + "/").split("@")[0]
print(json.dumps({
    "buildDefinition": {
        "buildType": "https://actions.github.io/buildtypes/workflow/v1",
        "externalParameters": {
            "workflow": {"ref": env["GITHUB_REF"], "repository": f"{server}/{repository}", "path": workflow}
        },
        "internalParameters": {"github": {
            "event_name": env["GITHUB_EVENT_NAME"],
            "repository_id": env["GITHUB_REPOSITORY_ID"],
            "repository_owner_id": env["GITHUB_REPOSITORY_OWNER_ID"],
            "runner_environment": env["RUNNER_ENVIRONMENT"],
        }},
        "resolvedDependencies": [
            {"uri": f"git+{server}/{repository}@{env['GITHUB_REF']}", "digest": {"gitCommit": env["GITHUB_SHA"]}}
        ],
    },
    "runDetails": {
        "builder": {"id": f"{server}/{env['GITHUB_WORKFLOW_REF']}"},
        "metadata": {"invocationId": f"{server}/{repository}/actions/runs/{env['GITHUB_RUN_ID']}/attempts/{env['GITHUB_RUN_ATTEMPT']}"},
    },
}))
PROGRAM
}

case ${1:-} in
check | notes | chart | sums | predicate) "$@" ;;
binary | deb) [ $# = 2 ] || fail "$1: expected a Rust target"; "$@" ;;
*) fail "unknown step \"${1:-}\"; expected check, notes, binary, deb, chart, sums or predicate" ;;
esac
