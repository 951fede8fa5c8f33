// Records what the official executor does with our contracts: `node record.js COMPILED VECTORS` writes
// VECTORS/{contract}.jsonl, one transaction a line, for the replay test of `cocoon-ton`.
//
// `cargo xtask contracts --record` runs it. Nothing is random and no clock is read: the same code cells
// give the same files.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { Executor } from "@ton/sandbox";
import { slimConfig } from "@ton/sandbox/dist/config/slimConfig.js";

import { Chain } from "./chain.js";
import { codes } from "./network.js";
import * as client from "./client.js";
import * as proxy from "./proxy.js";
import * as root from "./root.js";
import * as steward from "./steward.js";
import * as wallet from "./wallet.js";
import * as worker from "./worker.js";

const [compiled, vectors] = process.argv.slice(2);
if (!compiled || !vectors) throw new Error("usage: node record.js COMPILED VECTORS");

mkdirSync(vectors, { recursive: true });
const executor = await Executor.create();
for (const [name, scenario] of Object.entries({ client, proxy, root, steward, wallet, worker })) {
  const chain = new Chain(executor, slimConfig);
  await scenario.run(chain, codes(compiled));
  const lines = chain.lines.map((line) => JSON.stringify(line) + "\n").join("");
  writeFileSync(join(vectors, `${name}.jsonl`), lines);
  console.log(`${name}: ${chain.lines.length} transactions, ${lines.length} bytes`);
}
