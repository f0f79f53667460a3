#!/usr/bin/env bash
# All checks that want a GPU, in one run of ten minutes at most.
#
#     bash tests/device.sh pack target/device      puts what the checks need beside the checkout into a folder
#     bash tests/device.sh run target/device       runs them on the machine with the GPU, from the same checkout
#
# `pack` takes the release binary (built with `--features cuda,vulkan`), strips and compresses it, and puts NVIDIA's
# mathematical functions, Vulkan's loader and the CPU's losses beside it. `run` needs nothing but bash, xz or Python, and
# the driver; where Python has PyTorch, that is measured too. After each part it writes device.json, device.md and
# device.log into a folder; at the end it prints the first two, and ends with 1 if a part failed, with 3 if one was cut
# off or had no time left.
#
#     --device cuda,vulkan   the devices; `cpu` or `wgpu` rehearses everything without a GPU
#     --seconds 560          time for all parts, of which each has its share; what has no time left is skipped, the
#                            last parts first
#     --small                tiny models and few steps, for a rehearsal; goes with `pack` as well
#     --only verify,speed    these parts only
#     --out DIR              where to write; default: device-checks
#
# Products of f32 matrices may be computed in TF32 on CUDA, which CubeCL 0.11 cannot be told not to do; the bounds on
# a GPU are therefore those of `kiln verify` there, 1e-2.
set -uo pipefail

usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}" >&2
    exit 2
}

command="${1:-}"
folder="${2:-}"
case "$command" in
    pack | run) [ -n "$folder" ] || usage ;;
    *) usage ;;
esac
shift 2
devices=cuda,vulkan seconds=560 small=false only="" out=device-checks
while [ $# -gt 0 ]; do
    case "$1" in
        --small)
            small=true
            shift
            continue
            ;;
        --device) devices=${2:?--device names devices} ;;
        --seconds) seconds=${2:?--seconds needs a number} ;;
        --only) only=${2:?--only names parts} ;;
        --out) out=${2:?--out needs a folder} ;;
        *) usage ;;
    esac
    shift 2
done
checkout="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# Steps of the runs whose losses are compared with the CPU's, and what makes them small enough for it.
steps=200 block=256
if $small; then steps=20 block=32; fi
changes() {
    echo "--preset $1 --set train.max_steps=$steps"
    if [ "$1" = shakespeare-char ]; then
        echo "--set model.dropout=0 --set train.batch_size=4 --set model.block_size=$block"
    fi
}

# losses DEVICE NAME ARGUMENTS...: trains into the folder NAME, and leaves the loss of each step in NAME.losses.
losses() {
    local device=$1 name=$2
    shift 2
    rm -rf "$name"
    "$kiln" train --device "$device" --out "$name" --set train.log_interval=1 --set train.eval_interval=0 \
        --set train.sample_interval=0 "$@" >"$name.log" 2>&1 || {
        tail -n 5 "$name.log"
        return 1
    }
    grep '"type":"step"' "$name/log.jsonl" | grep -o '"loss":[^,}]*' | sed 's/.*://' >"$name.losses"
    rm -rf "$name"
}

pack() {
    local release="${CARGO_TARGET_DIR:-$checkout/target}/release" preset loader
    kiln="$release/kiln"
    mkdir -p "$folder/nvvm/libdevice" "$folder/lib" || exit 1
    CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$checkout/target}" bash "$checkout/examples/cuda.sh" libdevice || exit 1
    cp "$release"/nvvm/libdevice/* "$folder/nvvm/libdevice" || exit 1
    strip --strip-all -o "$folder/kiln" "$kiln" && xz --force --threads=0 "$folder/kiln" || exit 1
    loader="$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p | sed -n 's/.*libvulkan.so.1.*=> //p' | head -n 1)"
    [ -z "$loader" ] || cp -L "$loader" "$folder/lib/libvulkan.so.1" || exit 1
    git -C "$checkout" describe --always --dirty >"$folder/commit"
    cd "$folder" || exit 1
    for preset in debug shakespeare-char; do
        # shellcheck disable=SC2046
        losses cpu "reference-$preset" $(changes "$preset") || exit 1
        rm "reference-$preset.log"
    done
    du -sh .
    [ "$(du -sm . | cut -f 1)" -le 60 ] || {
        echo "that is more than 60 MiB" >&2
        exit 1
    }
}

if [ "$command" = pack ]; then
    pack
    exit
fi

mkdir -p "$out" && out="$(cd "$out" && pwd)" || exit 1
folder="$(cd "$folder" && pwd)" || exit 1
kiln="$folder/kiln"
if [ ! -x "$kiln" ]; then
    xz --decompress --keep "$kiln.xz" 2>/dev/null || python3 -c \
        'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), open(sys.argv[2], "wb"))' \
        "$kiln.xz" "$kiln" || exit 1
    chmod +x "$kiln"
fi
export LD_LIBRARY_PATH="$folder/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
manifest=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
[ -n "${VK_DRIVER_FILES:-}" ] || [ ! -e "$manifest" ] || export VK_DRIVER_FILES="$manifest"
"$kiln" --version || {
    echo "kiln does not start here: are glibc and libstdc++ too old?" >&2
    exit 1
}
# Outside of any checkout, so that tuning begins anew and nothing of this machine's is changed.
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
home=$HOME
export XDG_CACHE_HOME="$work/cache" HOME="$work/home"
mkdir -p "$XDG_CACHE_HOME" "$HOME"
cd "$work" || exit 1

# figure NAME VALUE: a number or text of the part that runs.
figure() {
    printf '%s\t%s\n' "$1" "$2" >>"$part.figures"
}

# value KEY: the first number or text of that key in JSON.
value() {
    grep -o "\"$1\": *[^,}]*" | head -n 1 | sed 's/^[^:]*: *//; s/^"//; s/"$//'
}

short() {
    awk -v number="$1" -v format="${2:-%.3g}" 'BEGIN { if (number ~ /^[-+0-9.eE]+$/) printf format, number; else print "?" }'
}

# judged NAME NUMBER BOUND: a figure that must be a number of at most the bound.
judged() {
    figure "$1, at most $3" "$2"
    awk -v n="$2" -v b="$3" 'BEGIN { exit !(n ~ /^[-+0-9.eE]+$/ && n + 0 <= b + 0) }' || failed=true
}

bound() {
    if [ "$1" = cpu ]; then echo 1e-3; else echo 1e-2; fi
}

each_device() {
    local device
    for device in ${devices//,/ }; do
        "$@" "$device" || failed=true
    done
}

in_json() {
    "$kiln" "$@" --json
}

devices_part() {
    in_json devices >devices.json || return 1
    cat devices.json
    if command -v nvidia-smi >/dev/null; then
        figure "card, driver, memory" "$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | head -n 1)"
    fi
    each_device device_of
}

# A device that is not usable is left out of the other parts.
device_of() {
    local row
    row="$(tr -d '\n' <devices.json | sed 's/}, *{/}\n{/g' | grep "\"name\": \"$1\"")"
    if [ -z "$row" ]; then
        figure "$1" "is not here"
    elif [ "$(value problem <<<"$row")" != null ]; then
        figure "$1" "is not usable: $(value problem <<<"$row")"
    else
        figure "$1" "$(value description <<<"$row")"
        echo "$1" >>usable
        return 0
    fi
    return 1
}

verify_of() {
    local paths=("$checkout"/tests/fixtures/models/*/fixture.safetensors) path fixture json good=0 all=0 next=0 every=1
    if $small; then every=4; fi
    for ((; next < ${#paths[@]}; next += every)); do
        path="${paths[next]}"
        fixture="$(basename "$(dirname "$path")")"
        all=$((all + 1))
        if json="$(in_json verify "$(dirname "$path")" --device "$1")"; then
            good=$((good + 1))
        else
            failed=true
        fi
        echo "$fixture on $1: $json"
        figure "$1: $fixture, largest difference of logits from PyTorch's" "$(short "$(value logits <<<"$json")")"
    done
    figure "$1: fixtures within $(bound "$1")" "$good of $all"
}

verify_part() {
    each_device verify_of
}

kernels_of() {
    local name json key
    for name in $(grep -A 1 '^    case($' "$checkout/src/kernels/cases.rs" | grep -o '"[^"]*"' | tr -d '"') \
        $(grep -o '^    case("[^"]*"' "$checkout/src/kernels/cases.rs" | grep -o '"[^"]*"' | tr -d '"'); do
        json="$(in_json bench kernels --only "$name" --runs 1 --device "$1")" || {
            failed=true
            continue
        }
        echo "$json"
        for key in forward_error gradient_error; do
            judged "$1: $name, $key" "$(value "$key" <<<"$json")" "$(bound "$1")"
        done
    done
}

kernels_part() {
    each_device kernels_of
}

# apart A B: the largest difference of two files of losses.
apart() {
    paste "$1" "$2" | awk '
        NF != 2 || $1 !~ /^[-+0-9.eE]+$/ || $2 !~ /^[-+0-9.eE]+$/ { bad = 1 }
        { d = $1 - $2; if (d < 0) d = -d; if (d > worst) worst = d }
        END { if (bad || !NR) print "not comparable"; else printf "%.1e", worst }'
}

losses_of() {
    local preset
    for preset in debug shakespeare-char; do
        # shellcheck disable=SC2046
        losses "$1" "$preset-$1" $(changes "$preset") || {
            failed=true
            continue
        }
        judged "$1: $steps losses of $preset, difference from the CPU's" \
            "$(apart "$folder/reference-$preset.losses" "$preset-$1.losses")" "$(bound "$1")"
    done
}

losses_part() {
    each_device losses_of
}

# Size, rows and timed steps.
sizes() {
    if $small; then
        echo "0.8M 12 3"
    else
        printf '%s\n' "10.7M 64 20" "124M 12 10" "350M 4 10"
    fi
}

speed_of() {
    local size rows steps json
    while read -r size rows steps; do
        json="$(in_json bench train --size "$size" --set "train.batch_size=$rows" --steps "$steps" --device "$1" </dev/null)" || {
            failed=true
            continue
        }
        echo "$json"
        value tokens_per_second <<<"$json" >"speed-$size-$1"
        figure "$1: $size, $rows rows, f32, tokens/s" "$(short "$(cat "speed-$size-$1")" %.0f)"
        figure "$1: $size, share of its own f32 peak (MFU)" "$(short "$(value mfu <<<"$json")")"
        figure "$1: peak of f32 products, FLOP/s" "$(short "$(value peak_flops <<<"$json")")"
        figure "$1: $size, seconds to the first step" "$(short "$(value seconds_to_first_step <<<"$json")")"
    done < <(sizes)
}

speed_part() {
    local size
    figure "Kiln in bf16" "not there yet"
    each_device speed_of
    while read -r size _; do
        if [ -e "speed-$size-vulkan" ] && [ -e "speed-$size-cuda" ]; then
            figure "$size: Vulkan over CUDA" \
                "$(paste "speed-$size-vulkan" "speed-$size-cuda" | awk '{ printf "%.2f", $1 / $2 }')"
        fi
    done < <(sizes)
}

# nanoGPT's models in PyTorch, compiled, and in Kiln, one after the other.
pytorch_part() {
    local device="${devices%%,*}" size rows first type ours theirs ratio types="f32 bf16"
    if $small; then types=f32; fi
    export HOME=$home
    python3 -c 'import torch; print(torch.__version__)' || {
        figure "PyTorch" "not installed"
        return 0
    }
    while read -r size rows _; do
        while read -r first _ type ours theirs ratio _; do
            [ "$first" = "$size" ] || continue
            figure "$device: $size, Kiln in f32 over PyTorch compiled in $type, tokens/s" "$ours over $theirs: $ratio"
        done < <(
            # shellcheck disable=SC2086
            python3 "$checkout/examples/compare_pytorch.py" --kiln "$kiln" --device "$device" --sizes "$size" \
                --rows "$rows" --modes compile --dtypes $types --rounds 1 --no-writing --threads "$(nproc)" \
                </dev/null | tee /dev/stderr
        )
    done < <(sizes)
}

# What may be chosen, or kept from earlier runs, does not change the losses.
settings_of() {
    local run name more steps=50
    local XDG_CACHE_HOME="$work/settings" HOME="$work/settings-home"
    if $small; then steps=10; fi
    rm -rf "$XDG_CACHE_HOME" "$HOME" && mkdir -p "$XDG_CACHE_HOME" "$HOME"
    for run in "tuned anew" "tuned before" "kernels.fused=false"; do
        name="settings-${run// /-}-$1" more=""
        if [ "$run" = "kernels.fused=false" ]; then more="--set kernels.fused=false"; fi
        # shellcheck disable=SC2086
        losses "$1" "$name" --preset debug --set "train.max_steps=$steps" $more || {
            failed=true
            continue
        }
        [ "$run" = "tuned anew" ] || judged "$1: $run, $steps losses, difference from those tuned anew" \
            "$(apart "settings-tuned-anew-$1.losses" "$name.losses")" "$(bound "$1")"
    done
    figure "Burn's fusion off" "cannot be chosen when a program runs"
}

settings_part() {
    each_device settings_of
}

# Memory in MiB: of all cards, or for a device that is none, of a process.
memory() {
    if [[ "$1" = cuda* || "$1" = vulkan* ]] && command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits | awk '{ sum += $1 } END { print sum }'
    else
        awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$2/status" 2>/dev/null
    fi
}

memory_of() {
    local steps=2000 process early late
    if $small; then steps=600; fi
    rm -rf "memory-$1"
    "$kiln" train --preset debug --device "$1" --out "memory-$1" --set "train.max_steps=$steps" \
        --set train.eval_interval=0 --set train.sample_interval=0 \
        >"memory-$1.log" 2>&1 &
    process=$!
    : >"memory-$1.samples"
    while kill -0 "$process" 2>/dev/null; do
        memory "$1" "$process" >>"memory-$1.samples"
        sleep 0.1
    done
    wait "$process" || {
        tail -n 5 "memory-$1.log"
        return 1
    }
    # A process that ends gives its memory back.
    early="$(awk '{ all[NR] = $1 } END { print all[int(NR / 2) + 1] }' "memory-$1.samples")"
    late="$(awk '{ all[NR] = $1 } END { for (i = int(NR / 2) + 1; i <= NR; i++) if (all[i] > most) most = all[i]; print most }' \
        "memory-$1.samples")"
    figure "$1: MiB half-way through $steps steps" "$early"
    judged "$1: MiB at the most after that" "$late" "$((early + early / 20 + 8))"
}

memory_part() {
    each_device memory_of
}

generation_of() {
    local preset=shakespeare-char json
    if $small; then preset=shakespeare-char-cpu; fi
    json="$(in_json bench generate --preset "$preset" --device "$1")" || return 1
    echo "$json"
    figure "$1: generated tokens/s with the cache, $preset" "$(short "$(value cached_tokens_per_second <<<"$json")" %.0f)"
    figure "$1: generated tokens/s without" "$(short "$(value uncached_tokens_per_second <<<"$json")" %.0f)"
}

generation_part() {
    each_device generation_of
}

quoted() {
    tr -d '\000-\037' <<<"$1" | sed 's/\\/\\\\/g; s/"/\\"/g'
}

in_table() {
    tr -d '\000-\037' <<<"$1" | sed 's/|/\\|/g'
}

table="| part | what | figure |"$'\n'"| --- | --- | --- |"
json="" bad=false incomplete=false
commit="$(cat "$folder/commit" 2>/dev/null || echo unknown)"

# Written after each part, so that nothing is lost if the machine is taken away.
report() {
    printf '{"date": "%s", "commit": "%s", "devices": "%s", "seconds": %s, "parts": [%s]}\n' "$(date -u +%FT%TZ)" \
        "$commit" "$devices" "$SECONDS" "$json" >device.json
    mv device.json "$out/device.json"
    echo "$table" >"$out/device.md"
    for log in *.log; do echo "== $log"; cat "$log"; done >"$out/device.log"
}

# run PART SHARE: runs a part in its own process group, for as long as its share of the time, in 560ths, and the time
# that is left allow.
run() {
    part=$1
    local limit=$(($2 * seconds / 560)) from=$SECONDS left=$((seconds - SECONDS)) status process figures="" name text
    [ -z "$only" ] || [[ ",$only,devices," = *",$part,"* ]] || return
    if [ "$left" -lt 5 ]; then
        status="no time left"
        incomplete=true
    else
        [ "$limit" -le "$left" ] || limit=$left
        echo "== $part, at most $limit s" >&2
        set -m
        (
            failed=false
            "${part}_part" && ! $failed
        ) >"part-$part.log" 2>&1 </dev/null &
        process=$!
        set +m
        while kill -0 "$process" 2>/dev/null && [ $((SECONDS - from)) -lt "$limit" ]; do sleep 0.2; done
        if kill -0 "$process" 2>/dev/null; then
            # A step that hangs does not heed less.
            kill -KILL -- -"$process"
            wait "$process" 2>/dev/null
            status="cut off after $limit s"
            incomplete=true
        elif wait "$process"; then
            status=done
        else
            status="failed"
            bad=true
        fi
    fi
    table+=$'\n'"| $part | $status | $((SECONDS - from)) s |"
    if [ -e "$part.figures" ]; then
        while IFS=$'\t' read -r name text; do
            table+=$'\n'"| | $(in_table "$name") | $(in_table "$text") |"
            figures+="${figures:+, }\"$(quoted "$name")\": \"$(quoted "$text")\""
        done <"$part.figures"
    fi
    json+="${json:+, }{\"part\": \"$part\", \"status\": \"$status\", \"seconds\": $((SECONDS - from)), \"figures\": {$figures}}"
    report
}

: >usable
run devices 45
devices="$(paste -sd , usable)"
if [ -n "$devices" ]; then
    run verify 110
    run kernels 90
    run losses 60
    run speed 120
    run pytorch 120
    run settings 40
    run memory 40
    run generation 30
fi
cat "$out/device.json" "$out/device.md"
if $bad; then exit 1; fi
if $incomplete; then exit 3; fi
