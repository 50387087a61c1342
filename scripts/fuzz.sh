#!/usr/bin/env bash
# Runs the fuzz targets of tests/fuzz from the corpus in fuzz/corpus, as many at once as there are processors: by
# cargo-fuzz where that and nightly Rust are there (`rustup toolchain install nightly`, `cargo install cargo-fuzz`),
# else by mutation in the test program, on the Rust that builds everything else.
#
#   scripts/fuzz.sh [--seconds N] [--stable] [TARGET ...]   each for N seconds (60); --stable: never by cargo-fuzz
#   scripts/fuzz.sh --keep [TARGET ...]                     puts what cargo-fuzz has found to be of new coverage into
#                                                           the kept corpus; the tests say how large that may be
#
# The sanitizer is left out: there is no unsafe code here for it to watch, and it halves the speed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# What is built and found lies here; what fails, in fuzz/artifacts.
scratch=$PWD/target/fuzz
most_bytes=2048

say() {
    echo "fuzz: $*" >&2
}

has_cargo_fuzz() {
    cargo +nightly fuzz --version >/dev/null 2>&1
}

# cargo_fuzz COMMAND ...: with the versions of crates that everything else is built with.
cargo_fuzz() {
    CARGO_PROFILE_RELEASE_DEBUG=0 \
        cargo +nightly fuzz "$1" --sanitizer none --target-dir "$scratch/target" "${@:2}"
}

build() {
    [ -e fuzz/Cargo.lock ] && [ fuzz/Cargo.lock -nt Cargo.lock ] || cp Cargo.lock fuzz/Cargo.lock
    cargo_fuzz build
}

# search TARGET SECONDS: prints the last that libfuzzer says of its progress, or all that it says of a failure.
search() {
    local found=$scratch/corpus/$1 log=$scratch/$1.log
    mkdir -p "$found"
    if cargo_fuzz run "$1" "$found" "fuzz/corpus/$1" -- \
        -max_total_time="$2" -max_len=4096 -timeout=30 -rss_limit_mb=1024 >"$log" 2>&1; then
        say "$1: $(grep 'cov: ' "$log" | tail -n 1 | tr -s '\t ' ' '), $(grep '^Done ' "$log")"
    else
        tail -n 40 "$log" >&2
        say "$1 failed: it is in $log, the input under fuzz/artifacts/$1; make it a test, then mend the code"
        return 1
    fi
}

keep() {
    local found=$scratch/corpus/$1
    if [ -d "$found" ]; then
        cargo_fuzz run "$1" "fuzz/corpus/$1" "$found" -- -merge=1 -use_counters=0 -max_len="$most_bytes" -rss_limit_mb=1024
        find "fuzz/corpus/$1" -size "+${most_bytes}c" -delete
        say "$1: $(find "fuzz/corpus/$1" -type f | wc -l) files are kept"
    else
        say "$1: nothing was found yet"
    fi
}

seconds=60 does=search
targets=()
while [ $# -gt 0 ]; do
    case $1 in
    --seconds) seconds=${2:?expected a number of seconds behind --seconds} && shift ;;
    --stable) does=stable ;;
    --keep) does=keep ;;
    --one) search "$2" "$seconds" && exit 0 || exit 1 ;;
    -*) say "unknown flag $1; expected --seconds N, --stable or --keep" && exit 2 ;;
    *)
        [ -d "fuzz/corpus/$1" ] || { say "no target $1; expected some of: $(ls fuzz/corpus | xargs)" && exit 2; }
        targets+=("$1")
        ;;
    esac
    shift
done
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(ls fuzz/corpus)

if [ "$does" != stable ] && ! has_cargo_fuzz; then
    [ "$does" != keep ] || { say "only cargo-fuzz tells what is of new coverage" && exit 2; }
    say "no nightly Rust with cargo-fuzz: by mutation alone"
    does=stable
fi
case $does in
stable)
    STREAMGAUGE_FUZZ_SECONDS=$seconds STREAMGAUGE_FUZZ_SEED=${STREAMGAUGE_FUZZ_SEED:-$(date +%s)} \
        cargo test --locked --test fuzz -- --test-threads "$(nproc)" --show-output --exact "${targets[@]}"
    ;;
search)
    build
    printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I TARGET "scripts/fuzz.sh" --seconds "$seconds" --one TARGET
    ;;
keep)
    build
    for target in "${targets[@]}"; do keep "$target"; done
    ;;
esac
