#!/usr/bin/env bash
# Lints a crate with clippy, then compiles it. Cargo starts it in the place of rustc for Kiln's own crates:
#
#     RUSTC_WORKSPACE_WRAPPER=$PWD/tests/lint.sh cargo build
#
# `cargo clippy` would have the compiler read all that Kiln needs a second time, which takes ten minutes.
set -euo pipefail

# What linting writes goes into folders of its own, and cargo does not hear of it.
arguments=()
folder=""
previous=""
for argument in "$@"; do
    case "$argument" in
        --emit=*) argument=--emit=metadata ;;
        --json=*) argument=${argument/,artifacts/} ;;
        incremental=*) argument+=-lints ;;
    esac
    if [ "$previous" = --out-dir ]; then
        argument+=/lints
        folder=$argument
    fi
    previous=$argument
    arguments+=("$argument")
done
# Without a folder cargo only asks for the compiler's version and settings.
if [ -n "$folder" ]; then
    mkdir -p "$folder"
    PATH="$(dirname "$1"):$PATH" clippy-driver "${arguments[@]}" -D warnings
fi
exec "$@"
