#!/usr/bin/env node
// Writes abi/*.json from forge's output; with --check compares instead. Owns the list of what is committed.
'use strict';
const fs = require('fs');
const path = require('path');

const root = path.join(__dirname, '..');
// committed name -> artifacts [source file, contract] whose ABIs are joined, each entry once.
const committed = {
  // What callers see at the market's address: the interface, the constructor, and the errors that its libraries raise.
  'Market.json': [
    ['IMarket.sol', 'IMarket'],
    ['Market.sol', 'Market'],
    ['Jobs.sol', 'Jobs'],
    ['Ledger.sol', 'Ledger'],
  ],
  'LabToken.json': [['LabToken.sol', 'LabToken']],
};

function abiOf([file, contract]) {
  return JSON.parse(fs.readFileSync(path.join(root, 'out', file, `${contract}.json`), 'utf8')).abi;
}

// Names and types make an entry what it is; names of outputs differ between interface and implementation.
function identity(entry) {
  const types = (inputs) => (inputs || []).map((input) => input.type + (input.components ? types(input.components) : ''));
  return `${entry.type} ${entry.name || ''}(${types(entry.inputs)})`;
}

function joined(sources) {
  const entries = new Map();
  for (const source of sources) {
    for (const entry of abiOf(source)) {
      // A part's fallback only says that the part was reached with an unknown selector.
      if (entry.type !== 'fallback' && !entries.has(identity(entry))) entries.set(identity(entry), entry);
    }
  }
  return [...entries.values()];
}

const check = process.argv.includes('--check');
let drifted = 0;
for (const [name, sources] of Object.entries(committed)) {
  const target = path.join(root, 'abi', name);
  const text = `${JSON.stringify(joined(sources), null, 2)}\n`;
  if (!check) {
    fs.writeFileSync(target, text);
  } else if (!fs.existsSync(target) || fs.readFileSync(target, 'utf8') !== text) {
    process.stderr.write(`abi/${name} differs from the build: run deploy/contracts/abi.sh and commit\n`);
    drifted += 1;
  }
}
process.exitCode = drifted === 0 ? 0 : 1;
