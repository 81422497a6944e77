#!/bin/sh
# Runs forge natively (npm's shim costs 0.7 s a call) with the dependencies of package-lock.json installed.
# Usage: ./forge.sh build | test | snapshot | ...   (any forge arguments)
set -eu
cd "$(dirname "$0")"
# Dependencies are kept outside the tree by their lock's hash, so that a fresh clone finds them. They are put
# together aside and renamed: of two that install at once, one wins and both go on.
lock=$(sha256sum package-lock.json | cut -c1-16)
modules="${TRADEWIND_CACHE:-$HOME/.cache/tradewind}/tools/contracts-$lock"
if [ ! -d "$modules" ]; then
    mkdir -p "$modules.aside.$$"
    trap 'rm -rf "$modules.aside.$$"' EXIT
    cp package.json package-lock.json "$modules.aside.$$"
    # Install scripts are not needed: the platform packages carry their binaries.
    (cd "$modules.aside.$$" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    mv -T "$modules.aside.$$" "$modules" 2>/dev/null || [ -d "$modules" ]
fi
if [ "$(readlink node_modules || true)" != "$modules/node_modules" ]; then
    rm -rf node_modules
    ln -sfn "$modules/node_modules" node_modules
fi
exec node_modules/@foundry-rs/forge-linux-amd64/bin/forge "$@"
