#!/bin/bash
# by_hand.sh OUT LAYER...: what people write who merge layers themselves, with GNU tar and in an honest order: delete
# what a layer's whiteouts hide and the directories it replaces, extract the layer over what is there, at last pack
# the tree. Every layer is read twice, every file that shows is written twice.
#
# Tools of the shell follow the image's symlinks out of the tree: a layer with `run -> /run` and a whiteout below it
# would delete the host's. So layers with absolute symlinks or ".." anywhere are refused, before anything is touched;
# and root is refused too, whom nothing else would stop. (The first version of this script had neither.)
set -euo pipefail

if ((EUID == 0)); then echo "by_hand.sh: not as root" >&2; exit 3; fi
out=$(realpath -m -- "$1")
shift
work=$(mktemp -d "$(dirname "$out")/by-hand.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/root"

list() {
    tar --quoting-style=escape --numeric-owner -tvf "$1" >"$work/listing"
    sed -E 's/^([^ ]+ +){5}//; s/ (->|link to) .*//' "$work/listing" >"$work/names"
    if sed 's#\.wh\.\.wh\.\.opq$##' "$work/listing" | grep -qE -e '-> /|\.\.'; then refuse "$1"; fi
    if grep -q '^/' "$work/names"; then refuse "$1"; fi
}

refuse() {
    echo "by_hand.sh: $1: could lead out of the tree" >&2
    exit 3
}

hide() {
    sed -n 's#\(^\|/\)\.wh\.\.wh\.\.opq$#\1.#p' "$work/names" | while read -r directory; do
        if [[ -d $directory ]]; then find "$directory" -mindepth 1 -delete; fi
    done
    sed -n '\#\.wh\.\.wh\.\.opq$#d; s#\(^\|/\)\.wh\.#\1#p' "$work/names" |
        xargs --no-run-if-empty --delimiter='\n' rm -rf --
}

make_way() {
    local file files
    sed '\#/$#d; \#\(^\|/\)\.wh\.#d' "$work/names" >"$work/files"
    mapfile -t files <"$work/files" # a loop of "read" costs more than all the rest
    for file in "${files[@]}"; do
        if [[ -d $file && ! -L $file ]]; then rm -rf -- "$file"; fi
    done
}

for layer in "$@"; do
    list "$layer"
    cd "$work/root"
    hide
    make_way
    cd - >/dev/null
    tar --numeric-owner --preserve-permissions --exclude='.wh.*' -xf "$layer" -C "$work/root"
done
tar --numeric-owner --sort=name -cf "$out" -C "$work/root" .
