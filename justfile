# What is done often: `just` lists it, `just NAME` does it. CONTRIBUTING.md has the plain commands.

_default:
    @"{{ just_executable() }}" --list --unsorted

# The whole system in one command: eight requests, two workers, one kill
demo:
    cargo run --release -- demo

# Formatting and unit tests, without network, pip or model files
fast:
    cargo fmt --all --check
    cargo test --offline --workspace --exclude integration-tests --lib

# All tests; fetches the embedding model that some need, once
test *arguments:
    tests/set-up
    cargo test --workspace {{ arguments }}

# Everything that must hold before a change lands
ci:
    .ci/run

# The form of Markdown: line and sentence lengths, links
prose *files:
    .ci/prose {{ files }}

# Benchmarks as in tests/BENCHMARKS.md: `just bench all --model FILE.gguf`
bench *arguments='all':
    cargo run --release --package integration-tests --bin bench -- {{ arguments }}

# Changes of the policy that its tests must catch; needs cargo-mutants. `just mutants --shard 1/20`
mutants *arguments:
    cargo mutants --package policy {{ arguments }}

# The fuzzers, each for so many seconds; needs cargo-fuzz
fuzz seconds='60' *targets:
    tests/fuzz/run {{ seconds }} {{ targets }}
