// Load on a devnet that is killed while it answers, and a memory of everything it acknowledged.
// `load.js URL` reads one word a line: "load" starts the senders; "check" stops them, asks the (restarted) devnet for
// everything that it ever acknowledged, and prints {"transactions", "messages", "lost": [...]} as one line.
import { createInterface } from "node:readline";
import { SendMode, beginCell, external, internal, storeMessage, toNano } from "@ton/core";
import { keyPairFromSeed, sha256_sync } from "@ton/crypto";
import { WalletContractV4 } from "@ton/ton";

const WALLETS = 4;
const TAPS = 2;
const url = process.argv[2];
/** What the devnet acknowledged: hashes of transactions by account and logical time, and of messages by account. */
const transactions = new Map();
const messages = new Map();
/** What it acknowledged and no longer has. */
const lost = [];
let loading = false;

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function ask(path, body) {
  const answer = await fetch(url + path, { method: "POST", body: JSON.stringify(body) });
  const { ok, result, error } = await answer.json();
  if (!ok) throw new Error(error);
  return result;
}

const call = (method, params) => ask(`/api/v2/${method}`, params);

function remember(account, { lt, hash }) {
  const known = transactions.get(`${account} ${lt}`);
  if (known && known.hash !== hash) lost.push(`transaction ${account} ${lt}: ${known.hash} became ${hash}`);
  transactions.set(`${account} ${lt}`, { account, lt, hash });
}

const walletOf = (index) => {
  const keys = keyPairFromSeed(sha256_sync(`sender ${index}`));
  return { keys, wallet: WalletContractV4.create({ workchain: 0, publicKey: keys.publicKey }) };
};

/** A wallet that sends as fast as its seqno moves, each time to the next one. */
class Sender {
  constructor(index) {
    Object.assign(this, walletOf(index), { to: walletOf((index + 1) % WALLETS).wallet.address, outgoing: null });
    this.address = this.wallet.address.toRawString();
  }

  async step() {
    const { balance, state, last_transaction_id } = await call("getAddressInformation", { address: this.address });
    if (BigInt(balance) < toNano("1")) return tap(this.address, "10");
    remember(this.address, last_transaction_id);
    const seqno = state === "active" ? await this.seqno() : 0;
    // A message that was sent without an answer may be queued: it is sent again byte for byte, never a second one with
    // the same seqno, of which only one could land.
    if (this.outgoing?.seqno !== seqno) this.outgoing = this.compose(seqno);
    await call("sendBoc", { boc: this.outgoing.boc });
    messages.set(this.outgoing.hash, this.address);
    while (loading && (await this.seqno()) === seqno) await sleep(5);
  }

  async seqno() {
    const { exit_code, stack } = await call("runGetMethod", { address: this.address, method: "seqno", stack: [] });
    return exit_code === 0 ? Number(stack[0][1]) : 0;
  }

  compose(seqno) {
    const body = this.wallet.createTransfer({
      seqno,
      secretKey: this.keys.secretKey,
      timeout: Math.floor(Date.now() / 1000) + 3600,
      sendMode: SendMode.PAY_GAS_SEPARATELY | SendMode.IGNORE_ERRORS,
      messages: [internal({ to: this.to, value: toNano("0.001"), bounce: false })],
    });
    const init = seqno === 0 ? this.wallet.init : undefined;
    const message = beginCell().store(storeMessage(external({ to: this.wallet.address, init, body }))).endCell();
    return { seqno, boc: message.toBoc().toString("base64"), hash: message.hash().toString("base64") };
  }
}

/** Money from the faucet; what it answers with is a transaction. */
async function tap(address, amount) {
  const paid = await ask("/dev/faucet", { address, amount });
  remember(paid.address, paid.transaction);
}

/** Repeats while the load is on; what fails without an answer was not acknowledged. */
async function repeat(step) {
  while (loading) await step().catch(() => sleep(5));
}

/** Everything on an account: hashes of transactions by logical time, and of the messages that caused them. */
async function history(address) {
  const found = { hashes: new Map(), causes: new Set() };
  let from = {};
  for (;;) {
    const page = await call("getTransactions", { address, limit: 200, ...from });
    const fresh = page.filter(({ transaction_id }) => !found.hashes.has(transaction_id.lt));
    for (const { transaction_id, in_msg } of fresh) {
      found.hashes.set(transaction_id.lt, transaction_id.hash);
      if (in_msg) found.causes.add(in_msg.hash);
    }
    if (fresh.length === 0) return found;
    const { lt, hash } = fresh.at(-1).transaction_id;
    from = { lt, hash };
  }
}

/** Waits until nothing is queued: what was acknowledged as queued must have landed by then. */
async function settled() {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const { result } = await (await fetch(`${url}/dev/status`)).json();
    if (result.queue === 0) return;
    if (Date.now() > deadline) throw new Error(`after 10 s ${result.queue} messages still wait`);
    await sleep(20);
  }
}

async function check() {
  await settled();
  const accounts = new Set([...transactions.values()].map(({ account }) => account).concat([...messages.values()]));
  const found = new Map();
  for (const account of accounts) found.set(account, await history(account));
  for (const { account, lt, hash } of transactions.values()) {
    if (found.get(account).hashes.get(lt) !== hash) lost.push(`transaction ${account} ${lt} ${hash}`);
  }
  for (const [hash, account] of messages) {
    if (!found.get(account).causes.has(hash)) lost.push(`message ${hash} to ${account}`);
  }
  return { transactions: transactions.size, messages: messages.size, lost };
}

const senders = Array.from({ length: WALLETS }, (_, index) => new Sender(index));
let running = Promise.resolve();
for await (const word of createInterface({ input: process.stdin })) {
  if (word === "load") {
    loading = true;
    const taps = Array.from({ length: TAPS }, (_, index) => () => tap(senders[index].address, "0.5"));
    running = Promise.all([...senders.map((sender) => repeat(() => sender.step())), ...taps.map(repeat)]);
  } else {
    loading = false;
    await running;
    console.log(JSON.stringify(await check()));
  }
}
