// The stock TonClient against `cocoon devnet`: what a wallet or an explorer does, with nobody's code but theirs.
// COCOON_DEVNET says where it runs: {"url", "contracts"}; the second is the folder of the compiled contracts.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { before, test } from "node:test";
import { Address, Cell, Dictionary, SendMode, beginCell, contractAddress, internal, toNano } from "@ton/core";
import { keyPairFromSeed, sha256_sync } from "@ton/crypto";
import { TonClient, WalletContractV4, WalletContractV5R1 } from "@ton/ton";

const { url, contracts } = JSON.parse(process.env.COCOON_DEVNET);
const client = new TonClient({ endpoint: `${url}/api/v2/jsonRPC` });
const keys = keyPairFromSeed(sha256_sync("cocoon: a key of the tests"));
const networkGlobalId = -239;
const wallet = WalletContractV5R1.create({ workchain: 0, publicKey: keys.publicKey, walletId: { networkGlobalId } });
const older = WalletContractV4.create({ workchain: 0, publicKey: keys.publicKey });

const post = (path, body) => fetch(url + path, { method: "POST", body: JSON.stringify(body) });
const dev = async (control, body) => (await (await post(`/dev/${control}`, body)).json()).result;
const status = async () => (await (await fetch(`${url}/dev/status`)).json()).result;
const rest = async (method, query) => (await fetch(`${url}/api/v2/${method}?${new URLSearchParams(query)}`)).json();
const faucet = (address, amount) => dev("faucet", { address: address.toString({ bounceable: false }), amount });

async function until(what, condition) {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    assert.ok(Date.now() < deadline, `not within 10 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** Signs and sends with a wallet, and waits until it has counted the message. */
async function send(contract, messages) {
  const opened = client.open(contract);
  const seqno = await opened.getSeqno();
  const sendMode = SendMode.PAY_GAS_SEPARATELY | SendMode.IGNORE_ERRORS;
  await opened.sendTransfer({ seqno, secretKey: keys.secretKey, sendMode, messages });
  await until("the seqno moves", async () => (await opened.getSeqno()) === seqno + 1);
}

/** The whole history of an account, newest first, a page at a time as explorers walk it. */
async function history(address, limit) {
  const { lastTransaction } = await client.getContractState(address);
  let page = await client.getTransactions(address, { limit, ...lastTransaction, inclusive: true });
  const all = [...page];
  while (page.length > 0) {
    const last = all.at(-1);
    const from = { lt: last.lt.toString(), hash: last.hash().toString("base64") };
    page = await client.getTransactions(address, { limit, ...from });
    all.push(...page);
  }
  return all;
}

/** A root contract as a deployer of the original writes it, field by field from its storage layout (version 3). */
function rootOf(owner) {
  const code = (name) => Cell.fromBoc(readFileSync(`${contracts}/${name}.boc`))[0];
  const noHashes = Dictionary.empty(Dictionary.Keys.BigUint(256), Dictionary.Values.BitString(0));
  const lists = beginCell().storeDict(noHashes).storeDict(noHashes).storeUint(0, 32).storeDict(noHashes).storeDict(noHashes);
  const params = beginCell()
    .storeUint(3, 8).storeUint(1, 32).storeUint(17, 32).storeBit(false)
    .storeCoins(2).storeCoins(1)
    .storeUint(10_000, 32).storeUint(10_000, 32).storeUint(10_000, 32).storeUint(10_000, 32)
    .storeUint(86_400, 32).storeUint(86_400, 32)
    .storeCoins(toNano("1")).storeCoins(toNano("1"))
    .storeMaybeRef(code("proxy")).storeMaybeRef(code("worker")).storeMaybeRef(code("client"));
  const data = beginCell().storeAddress(owner).storeUint(0, 32).storeRef(lists).storeRef(params).endCell();
  return { code: code("root"), data };
}

before(async () => {
  await faucet(wallet.address, "25.5");
  await until("the faucet pays", async () => (await client.getBalance(wallet.address)) > 0n);
});

test("a fresh account is uninitialized, then has what the faucet gave", async () => {
  const nobody = new Address(0, sha256_sync("nobody"));
  const state = await client.getContractState(nobody);
  assert.deepEqual([state.state, state.balance, state.lastTransaction], ["uninitialized", 0n, null]);
  assert.equal(await client.getBalance(wallet.address), toNano("25.5"));
  assert.equal(await client.isContractDeployed(wallet.address), false);
});

test("a v5r1 wallet deploys itself with its first message", async () => {
  await send(wallet, [internal({ to: older.address, value: toNano("5"), bounce: false, body: "hello" })]);
  assert.equal(await client.isContractDeployed(wallet.address), true);
  await until("the money arrives", async () => (await client.getBalance(older.address)) === toNano("5"));
  const [received] = await client.getTransactions(older.address, { limit: 1 });
  assert.equal(received.inMessage.info.src.toString(), wallet.address.toString());
  assert.equal(received.inMessage.info.value.coins, toNano("5"));
});

test("a v4 wallet sends back", async () => {
  const before = await client.getBalance(wallet.address);
  await send(older, [internal({ to: wallet.address, value: toNano("1"), bounce: false })]);
  await until("the money arrives", async () => (await client.getBalance(wallet.address)) > before);
});

test("the history is a chain without a gap, however it is cut", async () => {
  for (let i = 0; i < 3; i++) {
    await send(wallet, [internal({ to: older.address, value: toNano("0.01"), bounce: false, body: `payment ${i}` })]);
  }
  await until("the network is idle", async () => (await status()).queue === 0);
  const whole = await history(wallet.address, 100);
  assert.ok(whole.length >= 6, `${whole.length} transactions`);
  for (const [index, transaction] of whole.entries()) {
    const older = whole[index + 1];
    assert.equal(transaction.prevTransactionLt, older?.lt ?? 0n);
    assert.equal(transaction.prevTransactionHash, older ? BigInt(`0x${older.hash().toString("hex")}`) : 0n);
  }
  const ids = (transactions) => transactions.map((transaction) => transaction.lt);
  for (const limit of [1, 2, 3]) assert.deepEqual(ids(await history(wallet.address, limit)), ids(whole));
  const one = whole[2];
  const found = await client.getTransaction(wallet.address, one.lt.toString(), one.hash().toString("base64"));
  assert.deepEqual(found.hash(), one.hash());
  const recent = await client.getTransactions(wallet.address, { limit: 100, to_lt: one.lt.toString() });
  assert.deepEqual(ids(recent), ids(whole.slice(0, 2)));
});

test("a root contract is deployed and its get-method read", async () => {
  const init = rootOf(wallet.address);
  const address = contractAddress(0, init);
  await send(wallet, [internal({ to: address, value: toNano("0.2"), bounce: false, init })]);
  await until("the root is there", () => client.isContractDeployed(address));
  const { stack, gas_used } = await client.runMethod(address, "get_cocoon_data");
  assert.ok(gas_used > 0);
  const numbers = Array.from({ length: 9 }, () => stack.readBigNumber());
  assert.deepEqual(numbers, [0n, 0n, 1n, 17n, 0n, 2n, 1n, toNano("1"), toNano("1")]);
  assert.ok(stack.readAddress().equals(wallet.address));
  const valid = await client.runMethod(address, "proxy_hash_is_valid", [{ type: "int", value: 7n }]);
  assert.equal(valid.stack.readBigNumber(), 0n);
  const missing = await client.runMethodWithError(address, "no_such_method");
  assert.equal(missing.exit_code, 11);
  const nobody = await client.runMethodWithError(new Address(0, sha256_sync("nobody")), "seqno");
  assert.equal(nobody.exit_code, -13);
});

test("REST and JSON-RPC answer alike", async () => {
  const address = wallet.address.toString();
  const queries = {
    getAddressInformation: { address },
    getAddressBalance: { address },
    getAddressState: { address },
    getTransactions: { address, limit: "3" },
    getConfigParam: { param: "18" },
    getConfigAll: {},
  };
  for (const [method, params] of Object.entries(queries)) {
    const timeless = ({ block_id, sync_utime, ...result }) => result;
    const [got, posted, called] = await Promise.all([
      rest(method, params),
      post(`/api/v2/${method}`, params).then((answer) => answer.json()),
      post("/jsonRPC", { id: 7, jsonrpc: "2.0", method, params }).then((answer) => answer.json()),
    ]);
    assert.equal(got.ok, true, JSON.stringify(got));
    assert.deepEqual([called.id, called.jsonrpc], [7, "2.0"]);
    const [first, second, third] = [got, posted, called].map(({ result }) => typeof result === "string" ? result : timeless(result));
    assert.deepEqual(second, first, method);
    assert.deepEqual(third, first, method);
  }
  const info = await client.getMasterchainInfo();
  assert.ok(info.latestSeqno > 0);
  assert.ok(Cell.fromBase64((await rest("getConfigAll", {})).result.config.bytes).refs.length > 0);
});

test("an external message that the contract does not take is refused with its exit code", async () => {
  const opened = client.open(wallet);
  const stale = (await opened.getSeqno()) - 1;
  const transfer = { seqno: stale, secretKey: keys.secretKey, sendMode: SendMode.NONE, messages: [] };
  const error = await opened.sendTransfer(transfer).then(() => assert.fail("it was taken"), (error) => error);
  assert.equal(error.response.status, 500);
  assert.equal(error.response.data.ok, false);
  assert.match(error.response.data.error, /cannot apply external message to current state.*exitcode=133/s);
});

test("what is wrong with a request is said in the envelope", async () => {
  const refused = async (answer, code, words) => {
    const body = await (await answer).json();
    assert.deepEqual([body.ok, body.code, (await answer).status], [false, code, code], JSON.stringify(body));
    assert.match(body.error, words);
  };
  await refused(post("/jsonRPC", { id: 1, method: "getBlockHeader", params: {} }), 404, /no such method/);
  await refused(post("/jsonRPC", { id: 1, method: "getAddressBalance", params: { address: "UQ" } }), 422, /no TON address/);
  await refused(post("/api/v2/sendBoc", { boc: "AAAA" }), 422, /bag of cells/);
  await refused(fetch(`${url}/api/v2/sendBoc?boc=AAAA`), 405, /GET/);
  await refused(fetch(`${url}/api/v2/getTransactions?address=${wallet.address}&limit=100000`), 422, /limit/);
  await refused(post("/dev/faucet", { address: wallet.address.toString(), amount: "1e9" }), 422, /amount/);
  await refused(fetch(`${url}/dev/faucet`), 405, /POST/);
});

test("no web page reaches the faucet", async () => {
  const knock = (headers) =>
    new Promise((resolve, reject) => {
      const asked = request(`${url}/dev/status`, { headers }, (answer) => resolve(answer.resume().statusCode));
      asked.on("error", reject).end();
    });
  assert.equal(await knock({}), 200);
  assert.equal(await knock({ host: "rebound.example" }), 403);
  assert.equal(await knock({ origin: "https://page.example" }), 403);
});

test("time moves when it is told to", async () => {
  const before = await client.getContractState(wallet.address);
  await dev("advance", { seconds: 86_400 });
  await until("a block of tomorrow", async () => {
    return (await client.getContractState(wallet.address)).timestampt >= before.timestampt + 86_400;
  });
});
