#!/bin/bash
# Build the real images to measure, each in CACHE/NAME and in all formats.
#
#     sudo benchmarks/build_images.sh CACHE [debian] [node] [science]
#
# This makes CACHE/NAME/layers/NN.tar, layers-gz/NN.tar.gz, layers-zst/NN.tar.zst (the base is 01), oci/ and both
# archives. An image is built again only when its script changes. Needs buildah, skopeo and mmdebstrap; node also needs
# npm, science also needs pip. Only packages are downloaded, with the usual clients, from Debian, npm and PyPI.
#
#   debian   an application image with upgrades, removals and other features of real layers; tests/real/build_debian.sh
#   node     130,000 entries, most of them small files: a node_modules tree; then some packages upgraded, others removed
#   science  big files: scientific Python packages; then upgraded; then without their tests and caches
set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
REAL=$HERE/../tests/real
CACHE=$(realpath -m -- "${1:?usage: build_images.sh CACHE [NAME...]}")
shift
# shellcheck source=../tests/real/image_tools.sh
source "$REAL/image_tools.sh"

base() {
    mmdebstrap --quiet --mode=root --format=directory --variant=minbase --aptopt='Acquire::Languages "none"' \
        --aptopt='Dir::Cache::pkgcache ""' --aptopt='Dir::Cache::srcpkgcache ""' bookworm "$ROOT"
}

# Package scripts are not run, since some would download more.
npm_install() {
    mkdir -p "$ROOT/srv/app"
    npm install --silent --no-progress --ignore-scripts --no-audit --no-fund --legacy-peer-deps \
        --cache "$WORK/npm" --prefix "$ROOT/srv/app" "$@" >"$WORK/log" 2>&1 || { cat "$WORK/log" >&2; exit 1; }
}

node_install() {
    npm_install typescript@5.3 webpack@5.88 next@13 react@18.2 react-dom@18.2 date-fns@2 lodash@4 rxjs@7.5 eslint@8 \
        jest@29 @mui/material@5 @mui/icons-material@5.11 core-js@3.30 aws-sdk@2 @babel/core @babel/preset-env
}

node_upgrade() { npm_install typescript@5.4 webpack@5.90 date-fns@3 rxjs@7.8 core-js@3.36 @mui/icons-material@5.15; }

node_remove() {
    npm uninstall --silent --no-progress --ignore-scripts --legacy-peer-deps --cache "$WORK/npm" \
        --prefix "$ROOT/srv/app" eslint jest aws-sdk >"$WORK/log" 2>&1 || { cat "$WORK/log" >&2; exit 1; }
    find "$ROOT/srv/app/node_modules" -name '*.map' -delete
}

# Only wheels, so that nothing is compiled.
pip_install() {
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-cache-dir --upgrade \
        --only-binary=:all: --target "$ROOT/opt/science" "$@" 2>"$WORK/log" || { cat "$WORK/log" >&2; exit 1; }
}

science_install() {
    pip_install 'numpy==1.26.*' 'scipy==1.11.*' 'pandas==2.1.*' 'pyarrow==14.*' 'matplotlib==3.8.*' \
        'scikit-learn==1.3.*' 'numba==0.58.*' 'polars==0.20.*'
    python3 -m compileall -q "$ROOT/opt/science" >"$WORK/log" || true # some packages contain Python templates, which do not compile
}

science_upgrade() { pip_install 'pandas==2.2.*' 'pyarrow==16.*' 'matplotlib==3.9.*' 'numpy==1.26.*'; }

science_remove() {
    find "$ROOT/opt/science" -depth -type d \( -name tests -o -name __pycache__ \) -exec rm -r {} +
}

# build NAME STEP...: make a layer from each step, in a subshell, whose exit removes the working directory.
build() (
    OUT=$CACHE/$1
    if already_built "$HERE/build_images.sh" "$REAL/image_tools.sh"; then exit 0; fi
    start_work
    rm -rf "$OUT"; mkdir -p "$OUT"
    for step in "${@:2}"; do layer "$step"; done
    copy_image "containers-storage:localhost/step:$STEP" "oci:$OUT/oci:latest"
    publish "$OUT/oci"
    recipe "$HERE/build_images.sh" "$REAL/image_tools.sh" >"$OUT/complete"
)

need mmdebstrap buildah skopeo python3
if (($# == 0)); then set -- debian node science; fi
for name in "$@"; do
    case $name in
    debian) "$REAL/build_debian.sh" "$CACHE/debian" ;;
    node) need npm && build node base node_install node_upgrade node_remove ;;
    science) build science base science_install science_upgrade science_remove ;;
    *) echo "no such image: $name" >&2; exit 2 ;;
    esac
done
