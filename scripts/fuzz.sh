#!/usr/bin/env bash
# Runs the fuzz targets of tests/fuzz from the corpus in fuzz/corpus by cargo-fuzz, which needs nightly Rust
# (`rustup toolchain install nightly`, `cargo install cargo-fuzz`). Without it proptest searches on stable Rust.
#
#   scripts/fuzz.sh [--seconds N] [TARGET ...]   each target for N seconds (60), as many at once as there are processors
#   scripts/fuzz.sh --keep [TARGET ...]          adds the inputs found with new coverage to the kept corpus
#
# The sanitizer is off: there is no unsafe code here, and it halves the speed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=$PWD/target/fuzz
# As in tests/fuzz/corpus.rs.
max_bytes=2048

say() {
    echo "fuzz: $*" >&2
}

cargo_fuzz() {
    CARGO_PROFILE_RELEASE_DEBUG=0 \
        cargo +nightly fuzz "$1" --sanitizer none --target-dir "$scratch/target" "${@:2}"
}

# search TARGET SECONDS: prints libfuzzer's last line of progress, or the end of its log on a failure.
search() {
    local found=$scratch/corpus/$1 log=$scratch/$1.log
    mkdir -p "$found"
    if cargo_fuzz run "$1" "$found" "fuzz/corpus/$1" -- \
        -max_total_time="$2" -max_len=4096 -timeout=30 -rss_limit_mb=1024 >"$log" 2>&1; then
        say "$1: $(grep 'cov: ' "$log" | tail -n 1 | tr -s '\t ' ' '), $(grep '^Done ' "$log")"
    else
        tail -n 40 "$log" >&2
        say "$1 failed: see $log; the input is under fuzz/artifacts/$1. Make it a test, then fix the code"
        return 1
    fi
}

keep() {
    local found=$scratch/corpus/$1
    [ -d "$found" ] || { say "$1: nothing found yet" && return; }
    cargo_fuzz run "$1" "fuzz/corpus/$1" "$found" -- -merge=1 -use_counters=0 -max_len="$max_bytes" -rss_limit_mb=1024
    find "fuzz/corpus/$1" -size "+${max_bytes}c" -delete
    say "$1: $(find "fuzz/corpus/$1" -type f | wc -l) files in fuzz/corpus"
}

seconds=60 command=search
targets=()
while [ $# -gt 0 ]; do
    case $1 in
    --seconds) seconds=${2:?expected a number after --seconds} && shift ;;
    --keep) command=keep ;;
    --one) search "$2" "$seconds" && exit 0 || exit 1 ;;
    -*) say "unknown flag $1; expected --seconds N or --keep" && exit 2 ;;
    *)
        [ -d "fuzz/corpus/$1" ] || { say "unknown target $1; expected one of: $(cd fuzz/corpus && echo *)" && exit 2; }
        targets+=("$1")
        ;;
    esac
    shift
done
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(ls fuzz/corpus)

if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
    [ "$command" = search ] || { say "--keep needs cargo-fuzz and nightly Rust" && exit 2; }
    say "no cargo-fuzz with nightly Rust: searching with proptest"
    PROPTEST_CASES=${PROPTEST_CASES:-20000} cargo test --locked --test fuzz -- --exact "${targets[@]}"
    exit
fi

[ -e fuzz/Cargo.lock ] && [ fuzz/Cargo.lock -nt Cargo.lock ] || cp Cargo.lock fuzz/Cargo.lock
cargo_fuzz build
if [ "$command" = keep ]; then
    for target in "${targets[@]}"; do keep "$target"; done
else
    printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I TARGET "scripts/fuzz.sh" --seconds "$seconds" --one TARGET
fi
