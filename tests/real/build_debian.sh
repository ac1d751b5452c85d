#!/bin/bash
# Build a Debian image that holds what real images hold, and leave it in OUTDIR in every shape.
#
#     sudo tests/real/build_debian.sh OUTDIR
#
# OUTDIR/layers/NN.tar, layers-gz/NN.tar.gz, layers-zst/NN.tar.zst (base is 01), oci/, oci-archive.tar, docker.tar.
# Every layer is what buildah's overlay driver committed after one step below. Some 2 minutes and 1 GB the first time,
# at once after that. Debian's mirror is the one that this machine's apt uses.
set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
OUT=$(realpath -m -- "${1:?usage: build_debian.sh OUTDIR}")
SUITE=bookworm
# shellcheck source=image_tools.sh
source "$HERE/image_tools.sh"

# "deb URI SUITE COMPONENT" for the suites given as a pattern; nothing where apt knows no such Debian.
apt_lines() {
    apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
        awk -v suite="^($1)\$" '$3 ~ suite && $4 == "main"' | sort -u
}

# Only the release itself: what its updates have replaced is then old here, and the layer "upgrade" has work.
# Where apt knows no such Debian, mmdebstrap's own choice of mirror must do.
base() {
    local mirror=()
    apt_lines "$SUITE" >"$WORK/release.list"
    if [[ -s $WORK/release.list ]]; then mirror=(-); fi
    mmdebstrap --quiet --mode=root --format=directory --variant=minbase --aptopt='Acquire::Languages "none"' \
        --aptopt='Dir::Cache::pkgcache ""' --aptopt='Dir::Cache::srcpkgcache ""' \
        "$SUITE" "$ROOT" "${mirror[@]}" <"$WORK/release.list"
}

# Hard links by the package (perl, git, gzip), file capabilities (ping), setuid (sudo), diversions. The lists stay
# behind and are deleted by the next layer: the classic fat image.
install_packages() {
    inside <<'SH'
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --no-install-recommends perl git iputils-ping sudo openssl ca-certificates file vim-tiny \
    less patch bzip2 unzip
apt-get clean
SH
}

upgrade() {
    apt_lines "$SUITE-(updates|security)" >"$ROOT/etc/apt/sources.list.d/updates.list"
    inside <<'SH'
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq dist-upgrade
apt-get clean
rm -rf /var/lib/apt/lists/*
SH
}

reinstall() {
    inside <<'SH'
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --reinstall gzip bash e2fsprogs
apt-get clean
rm -rf /var/lib/apt/lists/*
SH
}

purge() {
    inside <<'SH'
export DEBIAN_FRONTEND=noninteractive
apt-get -qq purge --autoremove vim-tiny git file
rm -rf /usr/share/doc/* /usr/share/man/man[2-9] /var/cache/debconf
SH
}

odd_kinds() (
    cd "$ROOT"; mkdir -p opt/odd/kinds; cd opt/odd/kinds
    mknod null c 1 3
    mknod minor c 240 70000
    mknod disk b 7 0
    mkfifo -m 640 pipe
    : >empty
    ln -s /nowhere/at/all dangling
    ln -s "$(printf 'x/%.0s' {1..1500})end" far
    truncate -s 8M sparse; printf end | dd of=sparse seek=4M bs=1 conv=notrunc status=none
)

odd_modes() (
    cd "$ROOT"; mkdir -p opt/odd/modes/{sticky,setgid,closed}; cd opt/odd/modes
    for mode in 0000 0111 2755 4711 6755 7777; do echo $mode >f$mode; chmod $mode f$mode; done
    echo inside >closed/file
    chmod 1777 sticky; chmod 2775 setgid; chmod 000 closed
    echo big >owner; chown 4294967294:4294967294 owner
    echo nobody >nobody; chown -h 65534:65534 nobody
    touch -d '1965-05-05 05:05:05.5 UTC' old owner; touch -d '2255-01-01 UTC' late; touch -d @1.123456789 fraction
)

odd_xattrs() (
    cd "$ROOT"; mkdir -p opt/odd/xattrs/dir; cd opt/odd/xattrs
    cp "$ROOT/bin/true" capable; setcap cap_net_raw,cap_net_admin+eip capable; ln capable capable-too
    echo text >text; setfattr -n user.text -v 'plain = value' text
    echo binary >binary; setfattr -n user.binary -v 0x0a0031303d0a00ff binary
    echo empty >empty; setfattr -n user.empty -v '' empty
    setfattr -n user.on-a-directory -v yes dir
)

odd_names() (
    cd "$ROOT"; mkdir -p opt/odd/names/{a,a-b,日本語}; cd opt/odd/names
    local name
    for name in 'Grüße' $'latin1-\xe9\xff' $'new\nline' $'tab\there' ' lead' 'trail ' -dash ... '*?[' '\back' \
        "quo\"te'" .wh 'x.wh.y' a/x a-b/x 日本語/ファイル; do
        echo "$name" >"$name"
    done
    echo 255 >"$(printf 'n%.0s' {1..255})"
    echo 251 >"$(printf 'm%.0s' {1..251})"
    mkdir -p "$(printf 'directory-of-forty-characters-and-no-more/%.0s' {1..13})"
    echo deep >"$(printf 'directory-of-forty-characters-and-no-more/%.0s' {1..13})file"
)

odd() { odd_kinds; odd_modes; odd_xattrs; odd_names; }

# Groups of hard links, and what later layers do to each: the name sorted first carries the data in the tar.
links() (
    cd "$ROOT"; mkdir -p opt/links/{sub,mayfly}; cd opt/links
    local group
    for group in deleted replaced moved chmod gone again crossing early becomes-dir opaque; do
        echo "group $group" >$group-1; ln $group-1 $group-2; ln $group-1 sub/$group-3
    done
    ln opaque-1 mayfly/opaque-4
    ln -s target symlink-1; ln symlink-1 symlink-2
    mkfifo fifo-1; ln fifo-1 fifo-2
    mknod device-1 c 1 5; ln device-1 device-2
    for group in {001..040}; do echo $group >many-$group-a; ln many-$group-a many-$group-b; done
    ln "$ROOT/usr/bin/openssl" openssl-here
)

relink() (
    cd "$ROOT/opt/links"
    rm deleted-1; rm gone-1 gone-2 sub/gone-3 again-1
    rm replaced-1; echo 'replaced, a new inode' >replaced-1
    mv moved-1 moved-9
    chmod 600 chmod-2; chown 7:7 sub/chmod-3
    ln crossing-1 crossing-4; ln "$ROOT/usr/bin/perl" perl-here
    rm becomes-dir-1; mkdir becomes-dir-1; echo child >becomes-dir-1/child
    rm symlink-1 fifo-1 device-1
    rm many-0[0-2]*-a; for name in many-03*-a; do rm $name; echo new >$name; done
)

relink_again() (
    cd "$ROOT/opt/links"
    rm deleted-2 replaced-2; echo 'again, a new inode' >again-1
    rm crossing-1; echo 'broken off' >early-1
    ln sub/replaced-3 replaced-back
    rm -r becomes-dir-1
)

opaque() (
    cd "$ROOT"
    rm -r usr/share/perl/5.36.0/unicore usr/share/zoneinfo usr/share/pixmaps opt/links/mayfly etc/skel
    mkdir -p usr/share/perl/5.36.0/unicore/lib usr/share/zoneinfo/Etc usr/share/pixmaps opt/links/mayfly
    mkdir -m 700 etc/skel
    echo left >usr/share/perl/5.36.0/unicore/lib/one
    echo only >usr/share/zoneinfo/Etc/UTC
    echo 'in the new directory' >opt/links/mayfly/opaque-3
)

below_opaque() (
    cd "$ROOT"
    echo more >usr/share/zoneinfo/Etc/GMT; mkdir usr/share/zoneinfo/Indian; echo hi >usr/share/zoneinfo/Indian/Reunion
    rm usr/share/perl/5.36.0/unicore/lib/one
)

shapes() (
    cd "$ROOT"; mkdir -p opt/shapes; cd opt/shapes
    mkdir -p dir-to-link/deep dir-to-file/deep dir-to-device real dir-to-link-and-back
    echo 1 | tee dir-to-link/deep/a dir-to-file/deep/b dir-to-device/c real/d dir-to-link-and-back/e >file-to-dir
    ln -s real link-to-dir; ln -s nowhere link-to-file; mknod device-to-dir c 1 7; echo 1 >file-to-link
)

reshape() (
    cd "$ROOT/opt/shapes"
    rm -r dir-to-link dir-to-file dir-to-device dir-to-link-and-back
    rm -r file-to-dir link-to-dir link-to-file device-to-dir file-to-link
    ln -s real dir-to-link; ln -s /etc dir-to-link-and-back; ln -s real/d file-to-link
    echo 2 >dir-to-file; echo 2 >link-to-file; mknod dir-to-device c 1 8
    mkdir file-to-dir link-to-dir device-to-dir; echo 2 | tee file-to-dir/f link-to-dir/g >device-to-dir/h
    rm "$ROOT/var/run"; mkdir -p "$ROOT/var/run/service"
    mv "$ROOT/var/local" "$ROOT/srv/"; ln -s ../srv/local "$ROOT/var/local"
)

reshape_again() (
    cd "$ROOT/opt/shapes"
    rm dir-to-link-and-back; mkdir dir-to-link-and-back; echo 3 >dir-to-link-and-back/new
    rm -r "$ROOT"/var/run; ln -s /run "$ROOT/var/run"
)

metadata_only() {
    chmod -R go-w,o-rx "$ROOT/usr/share/perl"
    chown -R 33:33 "$ROOT/srv" "$ROOT/opt/shapes/real"
    chown -h 12:12 "$ROOT/opt/shapes/dir-to-link"
    chmod 711 "$ROOT/opt/odd/names/a" "$ROOT/opt"
    setfattr -n user.late -v yes "$ROOT/opt/odd/xattrs/text"; setfattr -x user.text "$ROOT/opt/odd/xattrs/text"
    setcap -r "$ROOT/bin/ping"
    touch -d '2001-02-03 04:05:06 UTC' "$ROOT/etc/hostname" "$ROOT/opt/odd"
}

nothing() { :; }

STEPS=(base install_packages upgrade reinstall odd links purge relink shapes relink_again opaque reshape nothing
    metadata_only below_opaque reshape_again)

if already_built "$0" "$HERE/image_tools.sh"; then exit 0; fi
need apt-get mmdebstrap buildah skopeo python3 setcap setfattr
start_work
rm -rf "$OUT"; mkdir -p "$OUT"
for step in "${STEPS[@]}"; do layer "$step"; done
copy_image "containers-storage:localhost/step:$STEP" "oci:$OUT/oci:latest"
publish "$OUT/oci"
recipe "$0" "$HERE/image_tools.sh" >"$OUT/complete"
