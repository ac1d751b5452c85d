# What people write who merge layers themselves, with GNU tar and in an honest order: delete what a layer's whiteouts
# hide and the directories it replaces, extract the layer over what is there, at last pack the tree. Every layer is
# read twice, every file that shows is written twice.
# shellcheck shell=bash
#
# Source it; it does nothing by itself. These functions FOLLOW THE IMAGE'S SYMLINKS, out of the tree too: a layer with
# `run -> /run` and a whiteout below it deletes the host's. Only call them where that cannot be: by_hand.sh refuses
# such layers, and by_hand_jailed.sh has nothing outside of the tree that could be written to.

# With XATTRS in the environment, xattrs are kept, which takes GNU tar a third longer.
xattrs=()
if [[ ${XATTRS:-} ]]; then xattrs=(--xattrs --xattrs-include='*'); fi

# list LAYER: what it holds into $lists/names, as `tar -tv` shows it into $lists/listing.
list() {
    tar --quoting-style=escape --numeric-owner -tvf "$1" >"$lists/listing"
    sed -E 's/^([^ ]+ +){5}//; s/ (->|link to) .*//' "$lists/listing" >"$lists/names"
}

# In the tree: delete what the whiteouts in $lists/names hide.
hide() {
    sed -n 's#\(^\|/\)\.wh\.\.wh\.\.opq$#\1.#p' "$lists/names" | while read -r directory; do
        if [[ -d $directory ]]; then find "$directory" -mindepth 1 -delete; fi
    done
    sed -n '\#\.wh\.\.wh\.\.opq$#d; s#\(^\|/\)\.wh\.#\1#p' "$lists/names" |
        xargs --no-run-if-empty --delimiter='\n' rm -rf --
}

# In the tree: delete directories where the layer has something else.
make_way() {
    local file files
    sed '\#/$#d; \#\(^\|/\)\.wh\.#d' "$lists/names" >"$lists/files"
    mapfile -t files <"$lists/files" # a loop of "read" costs more than all the rest
    for file in "${files[@]}"; do
        if [[ -d $file && ! -L $file ]]; then rm -rf -- "$file"; fi
    done
}

# extract LAYER: over the tree.
extract() {
    tar --numeric-owner --preserve-permissions "${xattrs[@]}" --exclude='.wh.*' \
        --delay-directory-restore --warning=no-timestamp -xf "$1"
}

# pack OUT: the tree as a tar.
pack() { tar --format=posix --numeric-owner "${xattrs[@]}" --sort=name -cf "$1" .; }

# pack_view OUT: likewise, of an overlay. In a directory that one layer alone has, overlayfs lists whiteouts and then
# denies them: tar warns, and ends with 1.
pack_view() { pack "$1" 2>/dev/null || (($? == 1)); }

# seconds_since MICROSECONDS: from what $EPOCHREALTIME was, its point left out.
seconds_since() {
    local spent=$((${EPOCHREALTIME/./} - $1))
    printf '%d.%06d' $((spent / 1000000)) $((spent % 1000000))
}
