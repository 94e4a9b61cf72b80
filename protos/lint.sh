#!/bin/sh
# Lints the contract with buf, and refuses what would break clients of the released one; buf comes from npm.
set -eu
BUF_VERSION=1.75.0
BUF=.venv/buf/node_modules/.bin/buf
if ! command -v npm >/dev/null 2>&1; then
    echo "npm is not here: the contract was not linted (install Node.js to do it)"
    exit 0
fi
if [ "$("$BUF" --version 2>/dev/null || true)" != "$BUF_VERSION" ]; then
    npm install --silent --no-fund --no-audit --prefix .venv/buf "@bufbuild/buf@$BUF_VERSION"
fi
"${PYTHON:-python3}" -m protos.generate --image .venv/buf/contract.binpb
"$BUF" lint .venv/buf/contract.binpb --config protos/buf.yaml
if [ -f protos/released.binpb ]; then
    "$BUF" breaking .venv/buf/contract.binpb --against protos/released.binpb --config protos/buf.yaml
fi
