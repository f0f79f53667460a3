#!/usr/bin/env bash
# Compiles the engine to WebAssembly, ready for the page: page/worker/wasm/.
#
#     bash web/build.sh                    small and fast, as the page is published
#     KILN_WEB_FAST=1 bash web/build.sh    without LTO and wasm-opt, which take most of the time, for work on the page
#
# Installs what is missing: the wasm32 target, the wasm-bindgen of the version that the engine was locked
# to, and the page's npm packages (wasm-opt among them).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/kiln-target}"
tools="$CARGO_TARGET_DIR/tools"
profile="web${KILN_WEB_FAST:+-fast}"
wasm="$CARGO_TARGET_DIR/wasm32-unknown-unknown/$profile/kiln_web.wasm"
out=page/worker/wasm

if [ ! -d "$(rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown" ]; then
    rustup target add wasm32-unknown-unknown
fi
# The newest npm packages of package-lock.json, unless they are there already.
if [ ! node_modules/.package-lock.json -nt package-lock.json ]; then
    npm ci --no-audit --no-fund
    touch node_modules/.package-lock.json
fi
version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/version = "\(.*\)"/\1/p}' ../Cargo.lock)
if ! "$tools/bin/wasm-bindgen" --version 2>/dev/null | grep -qF "$version"; then
    # Not --locked: its lock file names versions that some mirrors of crates.io lack.
    # In a folder of its own, so that it does not wait for another build.
    (cd / && CARGO_TARGET_DIR="$tools/build" cargo install wasm-bindgen-cli --version "$version" --root "$tools")
    rm -rf "$tools/build"
fi

cargo build --profile "$profile" --target wasm32-unknown-unknown --package kiln-web
# wasm-opt takes minutes: only when the engine changed.
if [ ! "$out/kiln_web_bg.wasm" -nt "$wasm" ] || [ "$(cat "$out/profile" 2>/dev/null)" != "$profile" ]; then
    "$tools/bin/wasm-bindgen" "$wasm" --target web --out-dir "$out"
    before=$(stat -c %s "$out/kiln_web_bg.wasm")
    if [ "$profile" = web ]; then
        npx wasm-opt -O2 --strip-debug --strip-producers --enable-simd --enable-bulk-memory \
            --enable-nontrapping-float-to-int --enable-sign-ext --enable-mutable-globals \
            --enable-reference-types --enable-multivalue \
            "$out/kiln_web_bg.wasm" -o "$out/kiln_web_bg.wasm.opt"
        mv "$out/kiln_web_bg.wasm.opt" "$out/kiln_web_bg.wasm"
    fi
    echo "$profile" >"$out/profile"
    after=$(stat -c %s "$out/kiln_web_bg.wasm")
    echo "engine ($profile): $before bytes, $after for the page, $(gzip -9 -c "$out/kiln_web_bg.wasm" | wc -c) gzipped"
fi
