// Compiles every contract: `node compile.js SOURCES COMPILED` reads SOURCES/{name}.tolk and writes
// COMPILED/{name}.boc, the code cell, and COMPILED/hashes.json, what there is to compare with.
//
// `cargo xtask contracts` runs it. The compiler's version is pinned in package.json: the same sources
// give the same bytes anywhere.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, normalize } from "node:path";

import { getTolkCompilerVersion, runTolkCompiler } from "@ton/tolk-js";

const NAMES = ["client", "proxy", "root", "steward", "wallet", "worker"];

const [sources, compiled] = process.argv.slice(2);
if (!sources || !compiled) throw new Error("usage: node compile.js SOURCES COMPILED");

mkdirSync(compiled, { recursive: true });
const hashes = { compiler: `tolk ${await getTolkCompilerVersion()}`, contracts: {} };
for (const name of NAMES) {
  const code = await compile(name);
  writeFileSync(join(compiled, `${name}.boc`), code.boc);
  hashes.contracts[name] = { code_hash: code.hash, bytes: code.boc.length };
}
writeFileSync(join(compiled, "hashes.json"), JSON.stringify(hashes, null, 2) + "\n");

async function compile(name) {
  const result = await runTolkCompiler({
    entrypointFileName: `${name}.tolk`,
    fsReadCallback: (path) => readFileSync(join(sources, normalize(path)), "utf8"),
  });
  if (result.status === "error") throw new Error(`${name}.tolk: ${result.message}`);
  if (result.stderr) throw new Error(`${name}.tolk, warnings are errors: ${result.stderr}`);
  return { boc: Buffer.from(result.codeBoc64, "base64"), hash: result.codeHashHex.toLowerCase() };
}
