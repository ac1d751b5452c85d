# A typical hand-written merge with GNU tar, in the correct order: for each layer, oldest first, delete what its
# whiteouts hide and the directories that it replaces, and extract it over the tree; finally pack the tree. Every layer
# is read twice, and every visible file is written twice.
# shellcheck shell=bash
#
# Source this file; it only defines functions. They FOLLOW THE SYMLINKS OF THE IMAGE, also out of the tree: a layer with
# `run -> /run` and a whiteout below it deletes files of the host. Call them only where that cannot happen: by_hand.sh
# refuses such layers, and in jailed.sh there is nothing to write to outside the tree.

# If XATTRS is set, xattrs are kept; GNU tar then takes a third longer.
xattrs=()
if [[ ${XATTRS:-} ]]; then xattrs=(--xattrs --xattrs-include='*'); fi

# list LAYER: write its names to $lists/names, and the output of `tar -tv` to $lists/listing.
list() {
    tar --quoting-style=escape --numeric-owner -tvf "$1" >"$lists/listing"
    sed -E 's/^([^ ]+ +){5}//; s/ (->|link to) .*//' "$lists/listing" >"$lists/names"
}

# hide: in the tree, delete what the whiteouts in $lists/names hide.
hide() {
    sed -n 's#\(^\|/\)\.wh\.\.wh\.\.opq$#\1.#p' "$lists/names" | while read -r directory; do
        if [[ -d $directory ]]; then find "$directory" -mindepth 1 -delete; fi
    done
    sed -n '\#\.wh\.\.wh\.\.opq$#d; s#\(^\|/\)\.wh\.#\1#p' "$lists/names" |
        xargs --no-run-if-empty --delimiter='\n' rm -rf --
}

# make_way: in the tree, delete directories that the layer replaces with something else.
make_way() {
    local file files
    sed '\#/$#d; \#\(^\|/\)\.wh\.#d' "$lists/names" >"$lists/files"
    mapfile -t files <"$lists/files" # a loop of "read" takes longer than everything else
    for file in "${files[@]}"; do
        if [[ -d $file && ! -L $file ]]; then rm -rf -- "$file"; fi
    done
}

# extract LAYER: extract it over the tree.
extract() {
    tar --numeric-owner --preserve-permissions "${xattrs[@]}" --exclude='.wh.*' \
        --delay-directory-restore --warning=no-timestamp -xf "$1"
}

# pack OUT: write the tree as a tar.
pack() { tar --format=posix --numeric-owner "${xattrs[@]}" --sort=name -cf "$1" .; }

# pack_view OUT: the same for an overlay. In a directory that only one layer has, overlayfs lists whiteouts but cannot
# open them: tar then warns and exits with 1.
pack_view() { pack "$1" 2>/dev/null || (($? == 1)); }

# seconds_since MICROSECONDS: print the seconds since then; the argument is $EPOCHREALTIME without its point.
seconds_since() {
    local spent=$((${EPOCHREALTIME/./} - $1))
    printf '%d.%06d' $((spent / 1000000)) $((spent % 1000000))
}
