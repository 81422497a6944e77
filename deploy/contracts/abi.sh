#!/bin/sh
# Writes the committed ABIs from the build, or with `--check` fails if the committed ones have drifted.
set -eu
cd "$(dirname "$0")"
./forge.sh build --quiet
exec node script/abi.js "$@"
