#!/bin/sh
# Builds llama.cpp's llama-bench from the source package of llama-cpp-python and prints its path. By hand, for
# `bench engine --llama-bench PATH`; nothing of it is installed or shipped. Needs python3 with venv, a C++ compiler, and some minutes.
#
#     tests/peers/llama.cpp.sh FOLDER
set -eu
version=0.3.36
folder=${1:?"usage: $0 FOLDER"}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if [ ! -x "$folder/build/bin/llama-bench" ]; then
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet cmake ninja scikit-build-core pathspec pyproject_metadata >&2
    "$folder/venv/bin/pip" download --quiet --no-deps --no-build-isolation --no-binary llama-cpp-python \
        --dest "$folder" "llama-cpp-python==$version" >&2
    tar -xf "$folder/llama_cpp_python-$version.tar.gz" -C "$folder"
    PATH="$folder/venv/bin:$PATH" cmake -G Ninja -S "$folder/llama_cpp_python-$version/vendor/llama.cpp" -B "$folder/build" \
        -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF \
        -DLLAMA_BUILD_SERVER=OFF >&2
    PATH="$folder/venv/bin:$PATH" cmake --build "$folder/build" --target llama-bench >&2
fi
echo "$folder/build/bin/llama-bench"
