#!/bin/bash
# jailed.sh by-hand OUT LAYER...: merge layers with oldest_first.bash, as root, also for images with absolute symlinks.
#     OUT/tree is the merged tree, OUT/out.tar the same tree packed, OUT/phases the time that the tree alone took.
# jailed.sh overlay OUT LAYER...: let the kernel merge: unpack each layer into its own directory, convert its whiteouts
#     to those of overlayfs, mount the directories over one another, and pack the result as OUT/out.tar.
#
# OUT is an empty directory. A symlink of the image must not lead to files of the host. So everything happens in a
# separate mount namespace, in a root directory that contains only the system's programs and the layers, both read-only,
# and OUT. An absolute symlink, or any number of "..", cannot leave it.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

# On the host: enter a mount namespace, so that mounts are invisible outside it and end with this process.
on_the_machine() {
    local out what=$1
    ((EUID == 0)) || { echo "jailed.sh: only as root; see by_hand.sh" >&2; exit 3; }
    out=$(realpath -- "$2")
    [[ -d $out && -z $(ls -A "$out") ]] || { echo "jailed.sh: $out: not an empty directory" >&2; exit 3; }
    mkdir "$out/jail"
    unshare --mount --propagation private -- "$here/jailed.sh" --namespace "$what" "$out" "${@:3}"
    rmdir "$out/jail"
}

# In the namespace: build the jail on a tmpfs, and enter it.
in_the_namespace() {
    local what=$1 out=$2 jail=$2/jail name layer number=0
    shift 2
    mount -t tmpfs -o mode=0755 jail "$jail"
    mkdir "$jail"/{usr,out,layers,scripts,dev,tmp}
    for name in bin sbin lib lib64; do
        if [[ -L /$name ]]; then cp -P "/$name" "$jail/$name"; else bind_if_there "$name"; fi
    done
    mount -o bind,ro /usr "$jail/usr"
    mount -o bind,ro "$here" "$jail/scripts"
    mount --bind "$out" "$jail/out"
    touch "$jail/dev/null"
    mount --bind /dev/null "$jail/dev/null"
    for layer in "$@"; do
        number=$((number + 1))
        printf -v name '%s/layers/%04d' "$jail" "$number"
        touch "$name"
        mount -o bind,ro "$(realpath -- "$layer")" "$name"
    done
    exec chroot "$jail" /usr/bin/env -C / bash /scripts/jailed.sh --jail "$what" "$(root_identity)"
}

bind_if_there() {
    if [[ -d /$1 ]]; then mkdir "$jail/$1"; mount -o bind,ro "/$1" "$jail/$1"; fi
}

root_identity() { stat -c %d:%i /; }

# In the jail: check again that this is not the root directory of the host, then do the work.
in_the_jail() {
    [[ $(root_identity) != "$2" && ! -e /etc && ! -e /home && ! -e /root && -d /out ]] ||
        { echo "jailed.sh: not in a jail" >&2; exit 3; }
    # shellcheck source=oldest_first.bash
    source /scripts/oldest_first.bash
    case $1 in
    by-hand) by_hand ;;
    overlay) overlay ;;
    *) echo "jailed.sh: $1?" >&2; exit 2 ;;
    esac
}

by_hand() {
    local layer start=${EPOCHREALTIME/./}
    mkdir /out/tree /out/lists
    lists=/out/lists
    cd /out/tree
    for layer in /layers/*; do
        list "$layer"
        hide
        make_way
        extract "$layer"
    done
    echo "the tree alone $(seconds_since "$start")" >/out/phases
    pack /out/out.tar
}

# overlayfs needs two lower directories, so there is always an empty one at the bottom.
overlay() {
    local layer older=()
    mkdir -p /out/lower/0000 /out/view
    cd /out/lower
    for layer in /layers/*; do
        mkdir "${layer##*/}"
        cd "${layer##*/}"
        extract "$layer"
        cd ..
        /usr/bin/python3 /scripts/to_overlay.py "$layer" "${layer##*/}" "${older[@]}"
        older=("${layer##*/}" "${older[@]}")
    done
    mount -t overlay -o "ro,lowerdir=$(printf '%s:' "${older[@]}")0000" overlay /out/view
    cd /out/view
    pack_view /out/out.tar
}

case $1 in
--namespace) in_the_namespace "${@:2}" ;;
--jail) in_the_jail "${@:2}" ;;
*) on_the_machine "$@" ;;
esac
