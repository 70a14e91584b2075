#!/bin/sh
# Fuzzes one target, or all, for some seconds each: sh tests/fuzz/run.sh [SECONDS] [TARGET ...]
# Stable Rust: libFuzzer needs its coverage flags and nothing else, as the crate has no unsafe code.
set -eu
cd "$(dirname "$0")"
seconds=${1:-60}
[ $# -gt 0 ] && shift
targets=${*:-safetensors_header config_json torch_pickle}
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1"
cargo build --release --target "$(rustc -vV | sed -n 's/^host: //p')" --target-dir target
for target in $targets; do
    found=$(mktemp -d)
    "target/$(rustc -vV | sed -n 's/^host: //p')/release/$target" "$found" "corpus/$target" \
        -max_total_time="$seconds" -timeout=5 -rss_limit_mb=512 -artifact_prefix="$found/" -print_final_stats=1
    rm -r "$found"
done
