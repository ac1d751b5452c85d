# Functions shared by the scripts that make real images. Source it; it does nothing by itself.
# shellcheck shell=bash
#
# Needs root. Everything lives below a new directory, $WORK, which goes away with the script: no image store of
# the machine is touched. Images are held by buildah with its overlay driver, since only the kernel's overlayfs
# gives opaque markers; STORAGE_DRIVER=vfs is the way out where /tmp is itself an overlay (set TMPDIR to another
# file system instead, if you can).

need() {
    local tool missing=()
    for tool in "$@"; do command -v "$tool" >/dev/null || missing+=("$tool"); done
    ((${#missing[@]} == 0)) || { echo "missing: ${missing[*]}" >&2; exit 2; }
    ((EUID == 0)) || { echo "must run as root" >&2; exit 2; }
}

start_work() {
    WORK=$(mktemp -d "${TMPDIR:-/tmp}/streamerge-image.XXXXXX")
    trap end_work EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    export STORAGE_DRIVER="${STORAGE_DRIVER:-overlay}" STORAGE_OPTS="" BUILDAH_ISOLATION=chroot
    printf '[storage]\ndriver = "%s"\nrunroot = "%s/run"\ngraphroot = "%s/store"\n' \
        "$STORAGE_DRIVER" "$WORK" "$WORK" >"$WORK/storage.conf"
    printf '{"default": [{"type": "insecureAcceptAnything"}]}\n' >"$WORK/policy.json"
    export CONTAINERS_STORAGE_CONF=$WORK/storage.conf
    umask 022
}

# Mounts that a failed step left behind must go before the tree they show through does.
end_work() {
    local mount
    awk -v under="$WORK/" 'index($2, under) == 1 {print $2}' /proc/self/mounts | sort -r |
        while read -r mount; do umount -l "$mount" || true; done
    rm -rf --one-file-system "$WORK"
}

# buildah before 1.31 reads the policy from a fixed place only, unless told.
copy_image() { skopeo --policy "$WORK/policy.json" copy --quiet "$@"; }

# layer FUNCTION: run it with $ROOT, the mounted root, and $CONTAINER; what it changes is one new layer.
# Keep && out of such functions: the shell would not stop at what fails before it.
layer() {
    local from="localhost/step:$STEP" start
    ((STEP)) || from=scratch
    start=$SECONDS
    CONTAINER=$(buildah from --quiet --signature-policy "$WORK/policy.json" --pull-never "$from")
    ROOT=$(buildah mount "$CONTAINER")
    "$1"
    buildah umount "$CONTAINER" >/dev/null
    STEP=$((STEP + 1))
    buildah commit --quiet --disable-compression --signature-policy "$WORK/policy.json" \
        "$CONTAINER" "localhost/step:$STEP" >/dev/null
    buildah rm "$CONTAINER" >/dev/null
    echo "layer $STEP: $1 ($((SECONDS - start)) s)"
}
STEP=0

# inside: run the script on standard input within the container, as a builder's RUN would; show output if it fails.
inside() {
    local script
    script=$(cat)
    buildah run "$CONTAINER" -- sh -euc "$script" </dev/null >"$WORK/log" 2>&1 || { cat "$WORK/log" >&2; exit 1; }
}

# settle DATE: give all that was changed since $STAMP a fixed time.
settle() { find "$ROOT" -xdev -newer "$STAMP" -exec touch --no-dereference --date="$1" {} +; }
stamp() { STAMP=$WORK/stamp; touch --date='2 seconds ago' "$STAMP"; }

# layer_blobs LAYOUT: the paths of the layers, base first.
layer_blobs() {
    python3 - "$@" <<'PYTHON'
import json, pathlib, sys

layout = pathlib.Path(sys.argv[1])
blob = lambda descriptor: layout / "blobs" / descriptor["digest"].replace(":", "/")
index = json.loads((layout / "index.json").read_text())
for layer in json.loads(blob(index["manifests"][0]).read_text())["layers"]:
    print(blob(layer))
PYTHON
}

# Builds are cached: "complete" holds the sums of the scripts that made the directory.
recipe() { cat -- "$@" | sha256sum | cut -d' ' -f1; }
already_built() { [[ -f $OUT/complete && $(<"$OUT/complete") == "$(recipe "$@")" ]]; }

# publish LAYOUT: fill $OUT with the image in every shape: an OCI layout, both archives, and its layers, plain and
# compressed, numbered from the base. The docker-archive goes first, since only from it will skopeo compress anew.
publish() {
    [[ $1 -ef $OUT/oci ]] || copy_image "oci:$1:latest" "oci:$OUT/oci:latest"
    copy_image "oci:$1:latest" "docker-archive:$OUT/docker.tar:localhost/streamerge:latest"
    copy_image "oci:$1:latest" "oci-archive:$OUT/oci-archive.tar:latest"
    copy_image --dest-compress-format zstd "docker-archive:$OUT/docker.tar" "oci:$WORK/zstd:latest"
    publish_layers "$1" layers-gz tar.gz
    publish_layers "$WORK/zstd" layers-zst tar.zst
    decompress_layers
}

publish_layers() {
    local blob name number=0
    mkdir -p "$OUT/$2"
    while read -r blob; do
        number=$((number + 1))
        printf -v name '%s/%s/%02d.%s' "$OUT" "$2" $number "$3"
        cp --link "$blob" "$name" 2>/dev/null || cp "$blob" "$name"
    done < <(layer_blobs "$1")
}

decompress_layers() {
    local blob
    mkdir -p "$OUT/layers"
    for blob in "$OUT"/layers-gz/*.tar.gz; do
        gzip -dc "$blob" >"$OUT/layers/$(basename "$blob" .gz)"
    done
}
