// A chain of our contracts on the official executor, which writes down every transaction.
//
// Senders are not accounts: a message from an owner's wallet is made here with whatever value it should
// carry. What a contract sends to another contract is delivered, in order; the rest is in the
// transaction and goes no further.

import { Cell, beginCell, loadShardAccount, loadTransaction, storeMessage, storeShardAccount } from "@ton/core";

const LT_STEP = 1_000_000n;
const SEED = Buffer.alloc(32);

export class Chain {
  constructor(executor, config) {
    this.executor = executor;
    this.config = config;
    this.now = 1_800_000_000;
    this.lt = 0n;
    this.accounts = new Map();
    this.lines = [];
  }

  /** Runs a message and what follows from it; gives the first transaction, or null where it was refused. */
  async send(name, message) {
    const queue = [[name, beginCell().store(storeMessage(message)).endCell(), message.info.dest]];
    let first;
    while (queue.length > 0) {
      const [step, cell, to] = queue.shift();
      const transaction = await this.execute(step, cell, to);
      first ??= transaction ?? null;
      for (const out of transaction?.outMessages.values() ?? []) {
        if (out.info.type === "internal" && this.accounts.has(out.info.dest.toRawString())) {
          queue.push([`${name} >`, beginCell().store(storeMessage(out)).endCell(), out.info.dest]);
        }
      }
    }
    return first;
  }

  /** Says that an account is one of ours, so that messages for it are delivered. */
  open(address) {
    const none = { account: null, lastTransactionHash: 0n, lastTransactionLt: 0n };
    this.accounts.set(address.toRawString(), beginCell().store(storeShardAccount(none)).endCell());
  }

  account(address) {
    return loadShardAccount(this.accounts.get(address.toRawString()).beginParse()).account;
  }

  async execute(name, message, to) {
    const key = to.toRawString();
    if (!this.accounts.has(key)) this.open(to);
    this.lt += LT_STEP;
    const line = { name, to: key, now: this.now, lt: this.lt.toString(), message: base64(message) };
    const { result } = await this.executor.runTransaction({
      config: this.config,
      libs: null,
      verbosity: "short",
      shardAccount: base64(this.accounts.get(key)),
      message,
      now: this.now,
      lt: this.lt,
      randomSeed: SEED,
      ignoreChksig: false,
      debugEnabled: false,
    });
    if (!result.success) {
      this.lines.push({ ...line, refused: result.vmResults?.vmExitCode ?? null });
      return null;
    }
    this.accounts.set(key, Cell.fromBase64(result.shardAccount));
    this.lines.push({ ...line, transaction: base64(Cell.fromBase64(result.transaction)), after: this.after(to) });
    return loadTransaction(Cell.fromBase64(result.transaction).beginParse());
  }

  /** What the replay compares besides the transaction. */
  after(address) {
    const account = this.account(address);
    if (account == null) return null;
    const { storage, storageStats } = account;
    const hash = (cell) => cell?.hash().toString("hex");
    const state = storage.state.type === "active" ? storage.state.state : {};
    return {
      status: storage.state.type,
      balance: storage.balance.coins.toString(),
      code: hash(state.code),
      data: hash(state.data),
      cells: Number(storageStats.used.cells),
      bits: Number(storageStats.used.bits),
      last_paid: storageStats.lastPaid,
      due: (storageStats.duePayment ?? 0n).toString(),
    };
  }
}

function base64(cell) {
  return cell.toBoc({ idx: false, crc32: false }).toString("base64");
}
