#!/usr/bin/env bash
# Runs each fuzz target for a while, all cores at a time, keeps what it finds, and says what came of it.
#
#     fuzz/long.sh [TIME [TARGET...]]
#
# TIME is in hours, or, with a suffix, in s, m or h: 1 by default. TARGETs are all by default.
# Begins with the seeds in fuzz/corpus and with what was found before, in fuzz/found, which it minimises
# afterwards. Exits with 1 if a target crashed. With TARGET_DIR what is built goes there.
set -euo pipefail
cd "$(dirname "$0")"

time=${1:-1}
shift || true
case $time in
    *s) seconds=${time%s} ;;
    *m) seconds=$((${time%m} * 60)) ;;
    *h) seconds=$((${time%h} * 3600)) ;;
    *) seconds=$((time * 3600)) ;;
esac
cores=$(nproc)
build_dir=${TARGET_DIR:-target}
if [ $# -gt 0 ]; then
    targets=("$@")
else
    mapfile -t targets < <(cargo +nightly fuzz list)
fi

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
table=$(printf '%-12s %14s %8s %8s' target executions edges crashes)
failures=()

for target in "${targets[@]}"; do
    found=found/$target
    artifacts=artifacts/$target
    mkdir -p "$found" "corpus/$target" "$artifacts" "$logs/$target"
    cargo +nightly fuzz build --target-dir "$build_dir" "$target"
    binary=$(realpath "$build_dir/$(rustc +nightly -vV | sed -n 's/^host: //p')/release/$target")
    before=$(mktemp -p "$logs")
    echo "$target: $seconds s on $cores cores"

    # Each worker writes its own log. A worker that crashes must not end this script.
    artifacts=$(realpath "$artifacts")
    places=("$(realpath "$found")" "$(realpath "corpus/$target")")
    (cd "$logs/$target" && "$binary" -jobs="$cores" -workers="$cores" \
        -max_total_time="$seconds" -print_final_stats=1 \
        -artifact_prefix="$artifacts/" "${places[@]}" > all.txt 2>&1) || true

    executions=$(cat "$logs/$target"/fuzz-*.log |
        awk '/^stat::number_of_executed_units:/ { sum += $2 } END { print sum + 0 }')
    edges=$(cat "$logs/$target"/fuzz-*.log |
        awk '{ for (i = 1; i < NF; i++) if ($i == "cov:" && $(i + 1) > most) most = $(i + 1) }
             END { print most + 0 }')
    crashes=0
    while IFS= read -r crash; do
        crashes=$((crashes + 1))
        failures+=("cargo +nightly fuzz run $target $crash")
    done < <(find "$artifacts" -type f -newer "$before" | sort)
    for log in "$logs/$target"/fuzz-*.log; do
        if grep -q -e '^==[0-9]*== *ERROR' -e 'panicked at' "$log"; then
            grep -A 3 -e '^==[0-9]*== *ERROR' -e 'panicked at' "$log" | head -n 8 >&2
        fi
    done
    table+=$'\n'$(printf '%-12s %14s %8s %8s' "$target" "$executions" "$edges" "$crashes")

    # Only what adds something is kept. What crashes would end this, so it is not done then.
    if [ "$crashes" -eq 0 ]; then
        cargo +nightly fuzz cmin --target-dir "$build_dir" "$target" "$found" > "$logs/cmin.txt" 2>&1 ||
            { tail -n 20 "$logs/cmin.txt" >&2; exit 2; }
    fi
done

echo
echo "$table"
if [ ${#failures[@]} -gt 0 ]; then
    echo
    echo "To see them again, in $(pwd):"
    printf '  %s\n' "${failures[@]}"
    exit 1
fi
