#!/usr/bin/env bash
# Installs tfsac in each way there is, each into an empty virtual environment:
# with a compiler the kernels must load, without one TensorFlow must serve.
#
#   tests/install_routes.sh [ROUTE...]    # default: all of them
#
# Builds are isolated and install TensorFlow once more, so each takes minutes.
set -Eeuo pipefail
trap 'echo "failed: $BASH_COMMAND" >&2' ERR
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
source=$work/source
mkdir "$source"
# Without what git ignores: no kernels that an earlier build left.
git ls-files -z --cached --others --exclude-standard |
  xargs -0 cp --parents --target-directory "$source"
cd "$work" # away from the checkout, whose tfsac/ would be imported

log() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }

# environment NAME: makes an empty virtual environment.
environment() { "${PYTHON:-python3}" -m venv "$work/$1"; }

# build: makes an sdist, and from it a wheel, in $work/dist.
build() {
  [[ -d dist ]] && return
  environment build
  build/bin/pip install --quiet 'build>=1.2,<2'
  build/bin/python -m build --outdir dist "$source"
}

# check NAME: whether the environment's tfsac has its kernels.
check() { "$1/bin/tfsac" info --require-kernels; }

directory() {
  environment directory
  directory/bin/pip install "$source"
  check directory
}

editable() {
  environment editable
  editable/bin/pip install --editable "$source"
  check editable
}

sdist() {
  build
  environment sdist
  sdist/bin/pip install dist/*.tar.gz
  check sdist
}

wheel() {
  build
  environment wheel
  wheel/bin/pip install dist/*.whl
  check wheel
}

no_compiler() {
  environment no_compiler
  cat >compiler <<'END'
#!/bin/sh
echo "compiler: this machine has none" >&2
exit 1
END
  chmod +x compiler
  CXX=$work/compiler no_compiler/bin/pip install --verbose "$source" 2>&1 |
    tee install.log
  grep --quiet "this machine has none" install.log
  no_compiler/bin/python -c 'import tfsac' 2>import.log
  [[ $(grep --count Warning import.log) == 1 ]]
  no_compiler/bin/tfsac info
  if no_compiler/bin/tfsac info --require-kernels; then
    echo "info --require-kernels must fail without kernels" >&2
    return 1
  fi
}

routes=("$@")
[[ $# -gt 0 ]] || routes=(directory editable sdist wheel no_compiler)
for route in "${routes[@]}"; do
  log "$route"
  "$route"
  rm -rf "${work:?}/$route"
done
log "every route works: ${routes[*]}"
