#!/bin/bash
# mount_and_tar.sh TOOL OUT LAYOUT: with buildah or podman (TOOL), pull an image from an OCI layout into a new store,
# mount it, and pack what the kernel's overlayfs shows as OUT/out.tar. OUT is an empty directory.
#
# Needs root. Uses no existing store, and mounts in a separate namespace. OUT/phases has the time of mounting and
# packing, without the pull.
set -euo pipefail

if [[ $1 != --namespace ]]; then
    exec unshare --mount --propagation private -- "$0" --namespace "$1" "$(realpath -- "$2")" "$(realpath -- "$3")"
fi
tool=$2 out=$3 layout=$4
# shellcheck source=oldest_first.bash
source "$(dirname "${BASH_SOURCE[0]}")/oldest_first.bash"

mkdir "$out/store" "$out/run" "$out/tmp"
run=("$tool")
if [[ $tool == podman ]]; then run+=(--tmpdir "$out/run/libpod" --events-backend none); fi
export TMPDIR=$out/tmp STORAGE_OPTS="" CONTAINERS_STORAGE_CONF=$out/storage.conf CONTAINERS_CONF=$out/containers.conf
printf '[engine]\nlock_type = "file"\n' >"$out/containers.conf"
printf '[storage]\ndriver = "overlay"\nrunroot = "%s/run"\ngraphroot = "%s/store"\n' "$out" "$out" >"$out/storage.conf"
printf '{"default": [{"type": "insecureAcceptAnything"}]}\n' >"$out/policy.json"

mounted() {
    local image
    image=$("${run[@]}" pull --quiet --signature-policy "$out/policy.json" "oci:$layout:latest")
    start=${EPOCHREALTIME/./}
    case $tool in
    buildah) buildah mount "$(buildah from --pull-never --signature-policy "$out/policy.json" "$image")" ;;
    podman) "${run[@]}" image mount "$image" ;;
    esac
}

start=0
mounted >"$out/where"
cd "$(<"$out/where")"
pack_view "$out/out.tar"
echo "mount and tar alone $(seconds_since "$start")" >"$out/phases"
