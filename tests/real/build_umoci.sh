#!/bin/bash
# Build an image with umoci alone, which writes layers unlike anyone else's, and leave it in OUTDIR in every shape.
#
#     sudo tests/real/build_umoci.sh OUTDIR
#
# OUTDIR/layers/NN.tar, layers-gz/NN.tar.gz, layers-zst/NN.tar.zst (base is 01), oci/, oci-archive.tar, docker.tar.
# Peculiar to umoci: unchanged parents left out, whiteouts below what is no longer a directory, mode 0 whiteouts after
# their siblings, and the layers of `umoci insert` stop at the last byte of the last file, without padding or end blocks
# (Go's tar reader takes them, GNU tar and Python's do not).
# The last layer is written by hand with `umoci raw add-layer`: hard links to files that only older layers have.
set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
OUT=$(realpath -m -- "${1:?usage: build_umoci.sh OUTDIR}")
# shellcheck source=image_tools.sh
source "$HERE/image_tools.sh"

on_image() { umoci "$1" --image "$OUT/oci:latest" "${@:2}" >"$WORK/log"; }

new_image() {
    umoci init --layout "$OUT/oci"
    on_image new
}

# repacked FUNCTION: what it changes below $ROOT is one new layer.
repacked() {
    rm -rf "$WORK/bundle"
    on_image unpack "$WORK/bundle"
    ROOT=$WORK/bundle/rootfs
    "$1"
    on_image repack "$WORK/bundle"
}

packages() {
    mkdir -p "$WORK/debs"
    (cd "$WORK/debs"; apt-get -qq -o APT::Sandbox::User=root download busybox-static tzdata gzip bzip2 base-files)
    for deb in "$WORK"/debs/*.deb; do dpkg-deb -x "$deb" "$ROOT"; done
    "$ROOT/bin/busybox" --list-full | while read -r applet; do
        if [[ -e $ROOT/$applet ]]; then continue; fi
        mkdir -p "$(dirname "$ROOT/$applet")"
        ln "$ROOT/bin/busybox" "$ROOT/$applet"
    done
}

app_source() {
    mkdir -p "$WORK/app"/{bin,conf,data/deep/er}
    printf '#!/bin/sh\necho one\n' >"$WORK/app/bin/run"; chmod 755 "$WORK/app/bin/run"
    ln "$WORK/app/bin/run" "$WORK/app/bin/walk"; ln "$WORK/app/bin/run" "$WORK/app/bin/crawl"
    echo key=1 >"$WORK/app/conf/settings"; ln -s settings "$WORK/app/conf/link"
    seq 1 5000 | tee "$WORK/app/data/numbers" >"$WORK/app/data/deep/er/numbers"
}

conf_source() {
    mkdir -p "$WORK/conf/sub"
    echo key=2 >"$WORK/conf/settings"; echo new >"$WORK/conf/sub/new"
}

# walk keeps the old file; half the applets go, among them the name that carries busybox itself.
change() (
    cd "$ROOT"
    rm opt/app/bin/crawl; printf '#!/bin/sh\necho two\n' >opt/app/bin/crawl
    rm bin/[a-k]*; rm -r usr/share/zoneinfo/Antarctica
    rm opt/app/data/deep/er/numbers; echo few >opt/app/data/deep/er/few
    mkdir -p var/lib/app; mkfifo var/lib/app/queue; mknod var/lib/app/zero c 1 5
    setfattr -n user.note -v 'from umoci' opt/app/data/numbers
    chmod 700 root
)

# A directory becomes a symlink, so its old children get whiteouts "below" the symlink.
change_again() (
    cd "$ROOT"
    rm -r opt/app/data usr/share/zoneinfo/Indian; ln -s /etc opt/app/data
    ln -s Atlantic usr/share/zoneinfo/Indian
    rm -r usr/share/zoneinfo/Arctic; echo 'not a directory' >usr/share/zoneinfo/Arctic
    rm usr/share/zoneinfo/Zulu; mkdir usr/share/zoneinfo/Zulu; echo 'not a link' >usr/share/zoneinfo/Zulu/file
    chmod 600 etc/debian_version; chown 5:5 opt/app/conf
)

hand_made() {
    python3 - "$1" <<'PYTHON'
import io, sys, tarfile

with tarfile.open(sys.argv[1], "w", format=tarfile.PAX_FORMAT) as tar:
    def add(name, kind=tarfile.REGTYPE, target="", data=b""):
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.size, member.mtime = kind, target, len(data), 1700000000.25
        member.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
        tar.addfile(member, io.BytesIO(data))

    add("./", tarfile.DIRTYPE)
    add("./usr/bin/zcat-again", tarfile.LNKTYPE, "bin/zcat")
    add("./opt/app/bin/walk-again", tarfile.LNKTYPE, "opt/app/bin/walk")
    add("./opt/app/bin/walk-thrice", tarfile.LNKTYPE, "opt/app/bin/walk-again")
    add("./opt/hand/first", data=b"its directory comes later\n")
    add("./opt/hand/", tarfile.DIRTYPE)
    add("./opt/hand/second", tarfile.LNKTYPE, "opt/hand/first")
    add("./opt/hand/.wh.nothing")
PYTHON
}

if already_built "$0" "$HERE/image_tools.sh"; then exit 0; fi
need apt-get dpkg-deb umoci skopeo python3 setfattr
start_work
rm -rf "$OUT"; mkdir -p "$OUT"
new_image
repacked packages
app_source; on_image insert "$WORK/app" /opt/app
conf_source; on_image insert --opaque "$WORK/conf" /opt/app/conf
on_image insert --whiteout /etc/issue
repacked change
repacked change_again
hand_made "$WORK/hand.tar"
umoci raw add-layer --image "$OUT/oci:latest" "$WORK/hand.tar" >"$WORK/log"
umoci gc --layout "$OUT/oci" >"$WORK/log"
publish "$OUT/oci"
recipe "$0" "$HERE/image_tools.sh" >"$OUT/complete"
