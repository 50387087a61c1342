#!/usr/bin/env bash
# Brings the programs that benchmarks and tests compare with, or talk to, under target/peers/, from Debian's packages,
# unpacked in place: nothing is installed and nothing is started. apt-get checks each package against the sums of
# its signed lists. What is there already is left as it is.
#
#   scripts/peers.sh [all]       every one
#   scripts/peers.sh NAME        one of them: prometheus prometheus-alertmanager prometheus-redis-exporter promtool
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/system.sh
. "$root/scripts/system.sh"

peers=$root/target/peers
names="prometheus prometheus-alertmanager prometheus-redis-exporter promtool"

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

one() {
    case $1 in
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
