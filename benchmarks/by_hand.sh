#!/bin/bash
# by_hand.sh OUT LAYER...: merge layers as oldest_first.bash does it, into the tar OUT, for somebody who is not root.
#
# Tools of the shell follow the image's symlinks out of the tree: a layer with `run -> /run` and a whiteout below it
# would delete the host's. So layers with absolute symlinks or ".." anywhere are refused, before anything is touched;
# and root is refused too, whom nothing else would stop. (The first version of this script had neither.)
set -euo pipefail

if ((EUID == 0)); then echo "by_hand.sh: not as root" >&2; exit 3; fi
# shellcheck source=oldest_first.bash
source "$(dirname "${BASH_SOURCE[0]}")/oldest_first.bash"
out=$(realpath -m -- "$1")
shift
start=${EPOCHREALTIME/./}
work=$(mktemp -d "$(dirname "$out")/by-hand.XXXXXX")
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
lists=$work
mkdir "$work/root"

# Counts, and never stops at the first match: "grep -q" would, sed would die of it, and pipefail call that no match.
check() {
    local found
    found=$(sed 's#\.wh\.\.wh\.\.opq$##' "$lists/listing" | grep -cE -e '-> /|\.\.') || true
    if [[ $found != 0 ]]; then refuse "$1"; fi
    if grep -q '^/' "$lists/names"; then refuse "$1"; fi
}

refuse() {
    echo "by_hand.sh: $1: could lead out of the tree" >&2
    exit 3
}

for layer in "$@"; do
    layer=$(realpath -- "$layer")
    list "$layer"
    check "$layer"
    cd "$work/root"
    hide
    make_way
    extract "$layer"
    cd - >/dev/null
done
echo "the tree alone $(seconds_since "$start")" >"$(dirname "$out")/phases"
cd "$work/root"
pack "$out"
cd /
