#!/bin/bash
# Make tests/data/layers/*.tar.gz with the real builders: buildah (overlay) for the first two, umoci for the third.
#
#     sudo tests/data/make_layers.sh [OUTDIR]
#
# Needs buildah, umoci, skopeo, apt-get (for the time zone files). The same tzdata package and the same versions of
# the tools give the same bytes.
set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
OUT=$(realpath -m -- "${1:-$HERE/layers}")
# shellcheck source=../real/image_tools.sh
source "$HERE/../real/image_tools.sh"

fetch_zones() {
    mkdir "$WORK/tzdata"
    (cd "$WORK/tzdata"; apt-get -qq -o APT::Sandbox::User=root download tzdata; dpkg-deb -x ./*.deb .)
    ZONES=$WORK/tzdata/usr/share/zoneinfo
}

base_tree() {
    mkdir -p etc usr/{bin,lib,share/doc} var/{cache/app,lib} srv/www/old opt home/user root tmp
    chmod 700 root
    chmod 1777 tmp
    ln -s usr/bin bin
    printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n' >etc/passwd
    printf 'root:x:0:\nuser:x:1000:\n' >etc/group
    echo 'base' >etc/hostname
    echo 'Welcome.' >etc/motd
    printf 'ID=tiny\nVERSION_ID=1\n' >usr/lib/os-release
    ln -s ../usr/lib/os-release etc/os-release
    ln -s /usr/share/zoneinfo/Etc/UTC etc/localtime
}

base_files() {
    printf '#!/bin/sh\necho "hello from the base"\n' >usr/bin/greet
    printf '#!/bin/sh\nid -u\n' >usr/bin/whoami
    chmod 755 usr/bin/greet; chmod 4755 usr/bin/whoami
    ln usr/bin/greet usr/bin/hello
    ln usr/bin/greet usr/bin/salute
    echo '<h1>base</h1>' >srv/www/index.html
    echo 'gone' >srv/www/old/page.html
    echo 'Grüße' >usr/share/doc/Grüße.txt
    setfattr -n user.origin -v base usr/share/doc/Grüße.txt
    echo 'cached' >var/cache/app/index
    chown -R 1000:1000 home/user
}

base() (
    stamp
    cd "$ROOT"
    base_tree
    base_files
    mkdir usr/share/zoneinfo
    cp -a "$ZONES"/{Antarctica,Atlantic,Etc,Indian} usr/share/zoneinfo/
    settle '2024-01-01 12:00:00 UTC'
)

# greet is replaced while hello and salute keep the old file; srv/www is deleted and made anew, hence opaque.
app() (
    stamp
    cd "$ROOT"
    mkdir -p opt/app/{bin,conf,lib/plugins}
    printf '#!/bin/sh\necho "app 1.0"\n' >opt/app/bin/app
    chmod 755 opt/app/bin/app
    ln opt/app/bin/app opt/app/bin/app-cli
    printf 'level=info\n' >opt/app/conf/default.ini
    ln -s default.ini opt/app/conf/current.ini
    seq 1 2000 >opt/app/lib/table.txt
    echo 'a plugin' >opt/app/lib/plugins/a.so
    ln -s /opt/app/bin/app usr/bin/app
    rm usr/bin/greet
    printf '#!/bin/sh\necho "hello from the app"\n' >usr/bin/greet
    chmod 755 usr/bin/greet
    rm -r srv/www
    mkdir srv/www
    echo '<h1>app</h1>' >srv/www/index.html
    settle '2024-02-02 12:00:00 UTC'
)

# app is replaced, app-cli keeps version 1.0; a directory becomes a symlink, a symlink a file.
update() (
    stamp
    cd "$ROOT"
    rm opt/app/bin/app
    printf '#!/bin/sh\necho "app 1.1"\n' >opt/app/bin/app
    chmod 755 opt/app/bin/app
    rm etc/motd opt/app/conf/current.ini
    printf 'level=debug\n' >opt/app/conf/current.ini
    rm -r usr/share/zoneinfo/Indian opt/app/lib/plugins
    ln -s ../../../usr/lib opt/app/lib/plugins
    echo 'updated' >etc/hostname
    chmod 600 var/cache/app/index
    settle '2024-03-03 12:00:00 UTC'
)

add_update() {
    umoci unpack --image "$WORK/oci:tiny" "$WORK/bundle" >/dev/null
    ROOT=$WORK/bundle/rootfs update
    umoci repack --refresh-bundle --image "$WORK/oci:tiny" "$WORK/bundle" >/dev/null
}

need buildah umoci skopeo apt-get dpkg-deb setfattr python3
start_work
fetch_zones
layer base
layer app
copy_image "containers-storage:localhost/step:$STEP" "oci:$WORK/oci:tiny"
add_update
mkdir -p "$OUT"
layer_blobs "$WORK/oci" | for name in 1-base 2-app 3-update; do
    read -r blob
    install -m 644 "$blob" "$OUT/$name.tar.gz"
done
