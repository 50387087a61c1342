# Shared by servers.sh and peers.sh: messages, and Debian packages unpacked in place. Sourced, not run.
# shellcheck shell=bash

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

# Runs a command as root, where that needs no password.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

has_apt() { command -v apt-get >/dev/null && command -v apt-cache >/dev/null && command -v dpkg-deb >/dev/null; }

apt_updated=no
# Options for apt-get and apt-cache.
apt_options=(-o APT::Sandbox::User=root)

# apt_use_suite FOLDER SUITE: from now on packages come from another suite of the Debian mirror that the system uses, with
# lists in the folder.
apt_use_suite() {
    local folder=$1 suite=$2 mirror
    # shellcheck disable=SC2016 # expanded by apt-get
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep '/debian/$' | head -n 1)
    [ -n "$mirror" ] || return 1
    mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
    # Packages that are installed here, in other versions, are no candidates.
    : >"$folder/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$folder/sources.list"
    apt_options+=(-o "Dir::Etc::sourcelist=$folder/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$folder/lists" -o "Dir::State::status=$folder/status" -o "Dir::Cache=$folder/cache")
    apt_updated=yes
    apt-get "${apt_options[@]}" update -qq >&2
}

# Fetches the package lists, once a run.
apt_update() {
    [ "$apt_updated" = no ] || return 1
    apt_updated=yes
    as_root true || return 1
    say "apt-get update"
    as_root apt-get update -qq >&2
}

# Prints the version of a package that apt-get would install; nothing for an unknown package.
deb_version() { apt-cache "${apt_options[@]}" --no-all-versions show "$1" 2>/dev/null | sed -n 's/^Version: //p' | head -n 1; }

# Succeeds if apt-get knows the package, after an update if necessary.
deb_known() { [ -n "$(deb_version "$1")" ] || { apt_update && [ -n "$(deb_version "$1")" ]; }; }

# deb_unpack FOLDER PACKAGE...: downloads the packages and unpacks them under the folder. Needs no root,
# installs nothing and starts no service.
deb_unpack() {
    local folder=$1 package debs
    shift
    debs=$(mktemp -d)
    for package in "$@"; do
        say "downloading the package $package $(deb_version "$package")"
        if ! deb_download "$debs" "$package" && ! { apt_update && deb_download "$debs" "$package"; }; then
            rm -rf "$debs"
            return 1
        fi
    done
    mkdir -p "$folder"
    for package in "$debs"/*.deb; do
        dpkg-deb -x "$package" "$folder"
    done
    rm -rf "$debs"
}

# Prints the packages that apt-get would install for a package: the package and its missing dependencies.
deb_missing() { apt-get install -qq --simulate --no-install-recommends "$1" | sed -n 's/^Inst \([^ ]*\) .*/\1/p'; }

deb_download() { (cd "$1" && apt-get "${apt_options[@]}" -qq download "$2" >&2); }
