// The worker: payouts with a proxy that has money, has too little, or is dead; and the worker's exit.

import { PARAMS, TON, beginCell, body, keys, nano, ours, person, signedByProxy, trio } from "./network.js";

const OP = { register: 0x26ed7f65, payout: 0xa040ad28, last: 0xf5f26a36 };
const CLAIM = ours("claim");
const CLOSE = ours("worker_close");
const REMAINDER = ours("payout_remainder");
const CHARGE_PAID = ours("charge_paid");

export async function run(chain, codes) {
  const net = await trio(chain, codes);
  const { toWorker: tell, toProxy, workerOwner: owner, worker, key, proxy } = net;
  const [payer, stranger] = ["payer", "stranger"].map(person);
  const pay = (tokens, more) => signedByProxy(key, OP.payout, worker.address, payer, { tokens, ...more });
  const last = (tokens) => signedByProxy(key, OP.last, worker.address, payer, { tokens });
  const request = (op, back = owner) => body(op).storeAddress(back);
  const fund = (coins) => toProxy("fund the proxy", body(CHARGE_PAID).storeCoins(coins).storeAddress(payer), {
    sender: stranger, value: coins + nano(0.1),
  });

  await tell("register", request(OP.register));
  await tell("register, by a stranger", request(OP.register), { sender: stranger });
  await fund(2n * TON);
  await tell("payout", pay(1_000_000n), { sender: payer });
  await tell("the same payout again", pay(1_000_000n), { sender: payer });
  await tell("an older payout", pay(1n), { sender: payer });
  await tell("a forged payout", signedByProxy(keys("thief"), OP.payout, worker.address, payer, { tokens: 9_000_000n }));
  await tell("a payout for another", signedByProxy(key, OP.payout, owner, payer, { tokens: 9_000_000n }));
  await tell("another op inside", pay(9_000_000n, { inner: OP.last }));
  await tell("another query inside", pay(9_000_000n, { envelopeQuery: 2n }));
  await tell("a payout for exactly the fees", pay(2_000_000n), { sender: payer, value: nano(0.1) });
  await tell("claim with nothing unpaid", request(CLAIM), { sender: stranger });
  await tell("a payout beyond the funds", pay(300_000_000n), { sender: payer });
  await tell("claim from an empty proxy", request(CLAIM, stranger), { sender: stranger });
  await fund(TON / 2n);
  await tell("claim some", request(CLAIM, stranger), { sender: stranger });
  await tell("the same payout claims the rest", pay(300_000_000n), { sender: payer });
  await tell("a remainder from a stranger", body(REMAINDER).storeCoins(9).storeAddress(stranger), { sender: stranger });
  await fund(5n * TON);
  await tell("claim for too little", request(CLAIM), { sender: stranger, value: nano(0.09) });
  await tell("claim all", request(CLAIM), { sender: stranger });
  await tell("close, by a stranger", request(CLOSE), { sender: stranger });
  await tell("last payout", last(310_000_000n), { sender: payer });
  await tell("last payout again", last(320_000_000n), { sender: payer });
  await tell("payout when closed", pay(330_000_000n), { sender: payer });
  await tell("register when closed", request(OP.register));
  await tell("close when closed", request(CLOSE));
  for (const [name, cell] of [
    ["an unknown op", body(0x12345678)], ["a log entry", body(0x9a1247c0)], ["excesses", body(0x2565934c)],
    ["a payment", body(0xc59a7cd3)], ["two bytes", beginCell().storeUint(1, 16)], ["no body", undefined],
  ]) {
    await tell(name, cell, { sender: stranger });
  }
  await deadProxy(chain, codes);
}

/** A claim that bounces: the proxy's contract is gone. */
async function deadProxy(chain, codes) {
  const net = await trio(chain, codes, { ...PARAMS, uniqueId: 18 }, { proxyIsDead: true });
  const { toWorker: tell, workerOwner: owner, worker, key } = net;
  const payer = person("payer");
  const pay = (tokens) => signedByProxy(key, OP.payout, worker.address, payer, { tokens });
  await tell("dead proxy: payout", pay(1_000_000n), { sender: payer });
  await tell("dead proxy: claim", body(CLAIM).storeAddress(payer), { sender: payer });
  await tell("dead proxy: another payout", pay(2_000_000n), { sender: payer });
  await tell("dead proxy: leave", body(CLOSE).storeAddress(owner));
  await tell("dead proxy: claim when closed", body(CLAIM).storeAddress(payer), { sender: payer });
}
