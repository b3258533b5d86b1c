#!/bin/sh
# Makes the virtual environments of the peers, each in a folder of its name:
#
#     benchmarks/peers/setup.sh [--venvs FOLDER] [PEER...]
#
# Defaults to all peers, in build/peers. An environment that is there already
# is kept, and brought to the pinned versions. TF-Agents' last release needs
# Python 3.11: PYTHON_tf_agents names it, PYTHON that of the others.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
venvs=$here/../../build/peers
if [ "${1-}" = --venvs ]; then
  venvs=$2
  shift 2
fi
[ $# -gt 0 ] || set -- sb3 sbx tf_agents

for peer; do
  python=${PYTHON-python3}
  [ "$peer" != tf_agents ] || python=${PYTHON_tf_agents-python3.11}
  "$python" -m venv "$venvs/$peer"
  "$venvs/$peer/bin/python" -m pip install \
    --requirement "$here/requirements/$peer.txt"
done
