#!/usr/bin/env node
// Writes abi/*.json from forge's output; with --check compares instead. Owns the list of what is committed.
'use strict';
const fs = require('fs');
const path = require('path');

const root = path.join(__dirname, '..');
// committed name -> [source file, contract] of the artifact
const committed = {
  // The market's constructor and functions of its parts, as one contract: what callers see at its address.
  'Market.json': ['IMarket.sol', 'IMarket'],
};

function artifact([file, contract]) {
  return JSON.parse(fs.readFileSync(path.join(root, 'out', file, `${contract}.json`), 'utf8'));
}

const check = process.argv.includes('--check');
let drifted = 0;
for (const [name, source] of Object.entries(committed)) {
  const target = path.join(root, 'abi', name);
  const text = `${JSON.stringify(artifact(source).abi, null, 2)}\n`;
  if (!check) {
    fs.writeFileSync(target, text);
  } else if (!fs.existsSync(target) || fs.readFileSync(target, 'utf8') !== text) {
    process.stderr.write(`abi/${name} differs from the build: run deploy/contracts/abi.sh and commit\n`);
    drifted += 1;
  }
}
process.exitCode = drifted === 0 ? 0 : 1;
