#!/usr/bin/env bash
# What a build and a run with CUDA need, from PyPI in place of the CUDA toolkit. On Linux, with Python's pip:
#
#     bash examples/cuda.sh              LLVM for the build, NVIDIA's mathematical functions for the run
#     bash examples/cuda.sh libdevice    only the functions, as nvvm/libdevice/libdevice.10.bc beside the binary
#     bash examples/cuda.sh ptxas DIR    NVIDIA's assembler, as DIR/ptxas below the checkout, which the tests use
#
# LLVM's licence is Apache 2.0 with its exception. Functions and assembler are NVIDIA's, under the licence that is put
# beside them; it lets a program that uses the functions be handed on with them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "$(uname -sm)" in
    "Linux x86_64")
        llvm=dcfec888abfaa418be77d41af585805f31463584cf9c90582992c00f392c1ac5
        llvm_targets=c36e834d9a4e9cf9759f27fece65711ece7a2fc2b5a96dbb15d66f5e9e787929
        nvcc=5d6a0d32fdc7ea39917c20065614ae93add6f577d840233237ff08e9a38f58f0
        ;;
    "Linux aarch64")
        llvm=3d4b1b30cea531ffa5956fa14ff4ffb0b1ed61284bf31eac3ebb752fb308b71d
        llvm_targets=b1ddc694cf75bb1502b64c1898b15915362450453b637534886519e20e3d5522
        nvcc=44e1eca4d08926193a558d2434b1bf83d57b4d5743e0c431c0c83d51da1df62b
        ;;
    *)
        echo "cuda.sh is for Linux on x86-64 or ARM: elsewhere install the CUDA toolkit; the build fetches its LLVM itself" >&2
        exit 2
        ;;
esac

partial=""
trap '[ -z "$partial" ] || rm -rf "$partial"' EXIT

# wheels FOLDER NAME==VERSION SHA256...: unpacks wheels that have these hashes into the folder.
wheels() {
    local folder=$1 requirements
    shift
    if ! python3 -m pip --version >/dev/null 2>&1; then
        echo "cuda.sh needs Python with pip: on Debian and Ubuntu \`apt install python3-pip\`" >&2
        exit 1
    fi
    requirements="$folder.txt"
    printf '%s --hash=sha256:%s\n' "$@" >"$requirements"
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --no-deps --require-hashes --requirement "$requirements" --target "$folder"
    rm "$requirements"
}

# Where the build script of CubeCL's LLVM looks before it downloads its own from GitHub.
install_llvm() {
    local tracel="${XDG_DATA_HOME:-$HOME/.local/share}/tracel"
    local place="$tracel/tracel-llvm-23.1.0-4"
    if [ -e "$place/.tracel-llvm-installed" ]; then
        echo "LLVM: $place (already there)"
        return
    fi
    partial="$tracel/partial.$$"
    mkdir -p "$partial"
    wheels "$partial/wheels" mlc-llvm-static==23.1.1.post0 "$llvm" mlc-llvm-static-extra-targets==23.1.1.post0 "$llvm_targets"
    touch "$partial/wheels/mlc_llvm_static/static/.tracel-llvm-installed"
    rm -rf "$place"
    mv "$partial/wheels/mlc_llvm_static/static" "$place"
    rm -r "$partial"
    echo "LLVM: $place"
}

# from_nvcc FILE TO...: copies files of NVIDIA's wheel.
from_nvcc() {
    partial="$(mktemp -d)"
    wheels "$partial/wheels" nvidia-cuda-nvcc-cu12==12.9.86 "$nvcc"
    while [ $# -gt 0 ]; do
        mkdir -p "$(dirname "$2")"
        cp "$partial/wheels/$1" "$2.partial"
        mv "$2.partial" "$2"
        shift 2
    done
    rm -r "$partial"
}

license=nvidia_cuda_nvcc_cu12-12.9.86.dist-info/licenses/License.txt

install_libdevice() {
    local folder="${CARGO_TARGET_DIR:-target}/release/nvvm/libdevice"
    if [ -e "$folder/libdevice.10.bc" ]; then
        echo "functions: $folder (already there)"
        return
    fi
    from_nvcc "$license" "$folder/License.txt" nvidia/cuda_nvcc/nvvm/libdevice/libdevice.10.bc "$folder/libdevice.10.bc"
    echo "functions: $folder"
}

case "${1:-}" in
    "")
        install_llvm
        install_libdevice
        ;;
    libdevice) install_libdevice ;;
    ptxas)
        folder="${2:?usage: bash examples/cuda.sh ptxas DIR}"
        [ -e "$folder/ptxas" ] || from_nvcc "$license" "$folder/License.txt" nvidia/cuda_nvcc/bin/ptxas "$folder/ptxas"
        ;;
    *)
        echo "usage: bash examples/cuda.sh [libdevice | ptxas DIR]" >&2
        exit 2
        ;;
esac
