#!/bin/bash
# by_hand.sh OUT LAYER...: merge layers with oldest_first.bash into the tar OUT, without root.
#
# Shell tools follow the symlinks of the image out of the tree: a layer with `run -> /run` and a whiteout below it would
# delete files of the host. So the script refuses layers with an absolute symlink or ".." before it changes anything.
# It also refuses to run as root, since root could delete every file of the host.
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

# Counts all matches: "grep -q" would exit at the first, sed would then fail, and pipefail would report that as no match.
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
