#!/bin/sh
# Runs forge natively (npm's shim costs 0.7 s a call) with the dependencies of package-lock.json installed.
# Usage: ./forge.sh build | test | snapshot | ...   (any forge arguments)
set -eu
cd "$(dirname "$0")"
stamp=node_modules/.tradewind-lock
if ! cmp -s package-lock.json "$stamp" 2>/dev/null; then
    # Install scripts are not needed: the platform packages carry their binaries.
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
    cp package-lock.json "$stamp"
fi
platform="$(uname -s | tr '[:upper:]' '[:lower:]')-$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')"
exec "node_modules/@foundry-rs/forge-$platform/bin/forge" "$@"
