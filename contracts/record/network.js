// Layouts of storage and messages, written a second time on purpose: the Rust ones are checked against
// what these make the contracts do. See INTERFACES in contracts/common/*.tolk and the specification.

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { Address, Cell, Dictionary, beginCell, contractAddress, external, internal } from "@ton/core";
import { keyPairFromSeed, sha256_sync, sign } from "@ton/crypto";

export const TON = 1_000_000_000n;

export const nano = (ton) => BigInt(Math.round(ton * 1e9));
export const person = (name) => new Address(0, sha256_sync(`cocoon test: ${name}`));
export const keys = (name) => keyPairFromSeed(sha256_sync(`cocoon test key: ${name}`));
export const hash = (name) => BigInt("0x" + sha256_sync(name).toString("hex"));
/** Ours are the first 32 bits of SHA-256("cocoon:<name>"). */
export const ours = (name) => sha256_sync(`cocoon:${name}`).readUInt32BE(0);

export function codes(folder) {
  const load = (name) => Cell.fromBoc(readFileSync(join(folder, `${name}.boc`)))[0];
  const names = ["client", "proxy", "root", "steward", "wallet", "worker"];
  return Object.fromEntries(names.map((name) => [name, load(name)]));
}

export function deploy(code, data) {
  const init = { code, data };
  return { init, address: contractAddress(0, init), data };
}

/** A message from an owner's wallet, or anybody's. */
export function from(sender, to, value, body, { bounce = true, init } = {}) {
  const message = internal({ to, value, bounce, body, init });
  return { ...message, info: { ...message.info, src: sender, ihrDisabled: true } };
}

export function outside(to, body, init) {
  return external({ to, body, init });
}

export function body(op, query = 1n) {
  return beginCell().storeUint(op, 32).storeUint(query, 64);
}

export function text(words) {
  return beginCell().storeUint(0, 32).storeStringTail(words).endCell();
}

// ---- parameters ---------------------------------------------------------------------------------

export const PARAMS = {
  version: 1,
  uniqueId: 17,
  isTest: true,
  price: 20n,
  fee: 10n,
  prompt: 10000,
  cached: 5000,
  completion: 20000,
  reasoning: 20000,
  proxyDelay: 86400,
  clientDelay: 43200,
  minProxyStake: TON,
  minClientStake: TON,
};

/** With codes as the root and the proxy have them; without as worker and client do. */
export function params(values, all) {
  const head = beginCell()
    .storeUint(3, 8).storeUint(values.version, 32).storeUint(values.uniqueId, 32).storeBit(values.isTest)
    .storeCoins(values.price).storeCoins(values.fee)
    .storeUint(values.prompt, 32).storeUint(values.cached, 32)
    .storeUint(values.completion, 32).storeUint(values.reasoning, 32)
    .storeUint(values.proxyDelay, 32).storeUint(values.clientDelay, 32)
    .storeCoins(values.minProxyStake).storeCoins(values.minClientStake);
  return head.storeMaybeRef(all?.proxy).storeMaybeRef(all?.worker).storeMaybeRef(all?.client).endCell();
}

// ---- storage ------------------------------------------------------------------------------------

export function rootData(owner, values, all) {
  const registry = beginCell().storeBit(false).storeBit(false).storeUint(0, 32).storeBit(false).storeBit(false);
  return beginCell().storeAddress(owner).storeUint(1, 32).storeRef(registry.endCell())
    .storeRef(params(values, all)).endCell();
}

export function stewardData(owner, root, delay) {
  return beginCell().storeAddress(owner).storeBit(false).storeAddress(root)
    .storeUint(delay, 32).storeUint(0, 32).storeBit(false).endCell();
}

export function walletData(key, owner, { subwallet = 0, seqno = 0 } = {}) {
  return beginCell().storeUint(seqno, 32).storeUint(subwallet, 32).storeBuffer(key.publicKey)
    .storeUint(0, 32).storeAddress(owner).endCell();
}

export function proxyData(owner, key, root, values, all) {
  return beginCell().storeAddress(owner).storeBuffer(key.publicKey).storeAddress(root).storeUint(0, 2)
    .storeCoins(0).storeCoins(0).storeUint(0, 32).storeRef(params(values, all)).endCell();
}

export function workerData(owner, proxy, key, values) {
  return beginCell().storeAddress(owner).storeAddress(proxy).storeBuffer(key.publicKey).storeUint(0, 2)
    .storeUint(0, 64).storeRef(params(values)).endCell();
}

export function clientData(owner, proxy, key, values) {
  const parties = beginCell().storeAddress(owner).storeAddress(proxy).storeBuffer(key.publicKey).endCell();
  return beginCell().storeUint(0, 2).storeCoins(0).storeCoins(values.minClientStake).storeUint(0, 64)
    .storeUint(0, 32).storeUint(0, 256).storeRef(parties).storeRef(params(values)).endCell();
}

// ---- messages -----------------------------------------------------------------------------------

export function netAddr(words, pin) {
  const bytes = Buffer.from(words, "ascii");
  const head = beginCell().storeBit(pin !== undefined).storeUint(bytes.length, 7).storeBuffer(bytes);
  if (pin === undefined) return head;
  return head.storeRef(beginCell().storeAddress(pin.contract).storeBuffer(pin.key).endCell());
}

export function batch(bodies) {
  return bodies.reduceRight(
    (next, one) => beginCell().storeRef(one).storeMaybeRef(next).endCell(),
    null,
  );
}

/** What a key signs for a wallet: `messages` are [mode, cell]. */
export function signedForWallet(key, { subwallet = 0, validUntil, seqno, messages = [], rest } = {}) {
  const order = beginCell().storeUint(subwallet, 32).storeUint(validUntil, 32).storeUint(seqno, 32);
  for (const [mode, message] of messages) order.storeUint(mode, 8).storeRef(message);
  if (rest) order.storeBuilder(rest);
  const cell = order.endCell();
  return beginCell().storeBuffer(sign(cell.hash(), key.secretKey)).storeSlice(cell.beginParse()).endCell();
}

/** A payment or a request signed by a proxy's key; `tokens` only for payments. */
export function signedByProxy(key, op, to, back, { tokens, query = 1n, envelopeQuery = query, inner = op } = {}) {
  const payload = body(inner, query);
  if (tokens !== undefined) payload.storeUint(tokens, 64);
  const cell = payload.storeAddress(to).endCell();
  return body(op, envelopeQuery).storeAddress(back).storeBuffer(sign(cell.hash(), key.secretKey)).storeRef(cell).endCell();
}

export { Address, Cell, Dictionary, beginCell, sign };

// ---- a proxy with one client and one worker ------------------------------------------------------

/** Deploys the three, or two and the address of a proxy that never was. */
export async function trio(chain, all, values = PARAMS, { proxyIsDead = false } = {}) {
  const [proxyOwner, clientOwner, workerOwner] = ["proxy owner", "client owner", "worker owner"].map(person);
  const key = keys("proxy");
  const proxy = deploy(all.proxy, proxyData(proxyOwner, key, person("a root"), values, all));
  const client = deploy(all.client, clientData(clientOwner, proxy.address, key, values));
  const worker = deploy(all.worker, workerData(workerOwner, proxy.address, key, values));
  const deployment = (name, owner, { address, init }) =>
    chain.send(`deploy the ${name}`, from(owner, address, nano(0.2), undefined, { bounce: false, init }));
  if (proxyIsDead) chain.open(proxy.address);
  else await deployment("proxy", proxyOwner, proxy);
  await deployment("client", clientOwner, client);
  await deployment("worker", workerOwner, worker);
  const say = (to, owner) => (name, cell, { sender = owner, value = nano(0.5) } = {}) =>
    chain.send(name, from(sender, to.address, value, cell?.endCell ? cell.endCell() : cell));
  return {
    proxyOwner, clientOwner, workerOwner, key, proxy, client, worker,
    toProxy: say(proxy, proxyOwner), toClient: say(client, clientOwner), toWorker: say(worker, workerOwner),
  };
}
