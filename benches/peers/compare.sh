#!/bin/sh
# Times Ocelli and PyTorch eager in turns, so that both see the same machine, and prints their ratio:
#
#     benches/peers/compare.sh resnet50 --threads 2
#     benches/peers/compare.sh resnet18 --batch 16 --train --threads 2
#
# The arguments are those of `ocelli bench`. MODEL must have the same name in torchvision; else PEER_MODEL says which
# one to run (PEER_MODEL=timm:tf_efficientnet_lite0, PEER_MODEL=cifar:20). PAIRS is the number of rounds (3), LAYOUTS what
# PyTorch does ("nchw channels_last"; compiled is a third), OPTIONS further ones of `ocelli bench`, PYTHON an interpreter
# that has torch and torchvision, OCELLI a binary (built here if not given).
set -eu
if [ $# -eq 0 ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
model=$1
shift
peers=$(dirname "$0")
python=${PYTHON:-python3}
if [ -z "${OCELLI:-}" ]; then
    cargo build --release --quiet --manifest-path "$peers/../../Cargo.toml" -p ocelli
    OCELLI=${CARGO_TARGET_DIR:-$peers/../../target}/release/ocelli
fi
results=$(mktemp)
trap 'rm -f "$results"' EXIT
pair=0
while [ "$pair" -lt "${PAIRS:-3}" ]; do
    pair=$((pair + 1))
    "$OCELLI" bench "$model" "$@" ${OPTIONS:-} --json >>"$results"
    for layout in ${LAYOUTS:-nchw channels_last}; do
        "$python" "$peers/bench_pytorch.py" "${PEER_MODEL:-$model}" "$@" --layout "$layout" >>"$results"
    done
done
cat "$results"
"$python" "$peers/ratio.py" <"$results"
