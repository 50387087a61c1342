#!/usr/bin/env bash
# Runs a recipe in a chroot of another Debian suite, to see that it works there. Not part of CI: it needs root,
# debootstrap, util-linux, and 3 GB under target/chroot/ (much more for .ci/run). The chroot has a copy of the last commit
# under /src, and Rust and the crates of this machine. It stays for the next run; remove it with rm -rf.
#
#   scripts/chroot.sh SUITE              make servers peers, and a check that everything compiles
#   scripts/chroot.sh SUITE COMMAND...   something else in /src, such as .ci/run
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/system.sh
. "$root/scripts/system.sh"

[ $# -ge 1 ] || fail "usage: scripts/chroot.sh SUITE [COMMAND...], for example scripts/chroot.sh trixie"
suite=$1
shift
[ $# -gt 0 ] || set -- sh -c 'make servers peers && cargo check --workspace --all-targets --locked'
[ "$(id -u)" = 0 ] || fail "a chroot needs root"
for tool in debootstrap unshare cargo rustc git; do
    command -v "$tool" >/dev/null || fail "needs $tool, which is not on PATH"
done

jail=$root/target/chroot/$suite
packages=ca-certificates,curl,gcc,git,libc6-dev,make,python3,python3-pip
if [ ! -e "$jail/complete" ]; then
    say "debootstrap $suite"
    rm -rf "$jail"
    mkdir -p "$jail"
    debootstrap --variant=minbase --include="$packages" "$suite" "$jail" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >&2
    touch "$jail/complete"
fi
cp /etc/resolv.conf "$jail/etc/resolv.conf"
# Behind a proxy, mirrors may have an authority that only this machine knows.
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp -L /etc/ssl/certs/ca-certificates.crt "$jail/etc/ssl/certs/"
mkdir -p "$jail/src" "$jail/opt/rust" "$jail/root/.cargo/registry"
# What was brought or built in an earlier run stays under target/.
find "$jail/src" -mindepth 1 -maxdepth 1 ! -name target -exec rm -rf {} +
git -C "$root" archive HEAD | tar -x -C "$jail/src"

say "in $suite: $*"
export JAIL=$jail RUST CRATES=${CARGO_HOME:-$HOME/.cargo}/registry
RUST=$(rustc --print sysroot)
# The mounts end with the namespace.
# shellcheck disable=SC2016 # expanded by the shell in the namespace
exec unshare --mount --propagation private bash -euc '
    mount -t proc proc "$JAIL/proc"
    mount --rbind /dev "$JAIL/dev"
    mount --bind "$RUST" "$JAIL/opt/rust"
    mount --bind "$CRATES" "$JAIL/root/.cargo/registry"
    exec chroot "$JAIL" env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" \
        PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        sh -c "cd /src && exec \"\$@\"" sh "$@"' bash "$@"
