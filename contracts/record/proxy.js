// The proxy: money in, claims by the right and the wrong contracts, commission, and the close.

import { PARAMS, TON, beginCell, body, keys, nano, ours, person, signedByProxy, text, trio } from "./network.js";

const OP = {
  payout: 0x7610e6eb, stake: 0x9713f187, close: 0xb51d5a01, closeSigned: 0x636a4391, completeSigned: 0xe511abc7,
  clientNote: 0x65448ff4, workerNote: 0x4d725d2c, workerPayout: 0xa040ad28,
};
const CHARGE_PAID = ours("charge_paid");
const COMPLETE = ours("complete_close");

export async function run(chain, codes) {
  await life(chain, codes);
  await closedBySignature(chain, codes);
  await closedByText(chain, codes);
}

async function life(chain, codes) {
  const net = await trio(chain, codes);
  const { toProxy: tell, toWorker, proxyOwner: owner, proxy, worker, client, key } = net;
  const [payer, stranger] = ["payer", "stranger"].map(person);
  const coins = (op, amount, back = payer) => body(op).storeCoins(amount).storeAddress(back);
  const request = (op, back = owner) => body(op).storeAddress(back);
  const signed = (op, more) => signedByProxy(key, op, proxy.address, payer, more);

  await tell("a charge", coins(CHARGE_PAID, 2n * TON), { sender: stranger, value: nano(2.1) });
  await tell("a charge that carries too little", coins(CHARGE_PAID, 2n * TON), { sender: stranger, value: nano(2.001) });
  await tell("a charge of nothing", coins(CHARGE_PAID, 0n), { sender: stranger, value: nano(0.1) });
  await tell("a charge, and a bit", coins(CHARGE_PAID, 0n).storeBit(1), { sender: stranger, value: nano(0.1) });
  await tell("stake", coins(OP.stake, TON), { sender: stranger, value: nano(1.2) });
  await tell("stake for too little", coins(OP.stake, TON), { sender: stranger, value: nano(1.05) });

  const snapshot = beginCell().storeUint(0, 2).storeCoins(0).storeCoins(TON).storeUint(0, 64).storeUint(0, 256).endCell();
  const clientNote = (of) => body(OP.clientNote).storeAddress(of).storeRef(snapshot).storeBit(0);
  await tell("a note of the client", clientNote(net.clientOwner), { sender: client.address });
  await tell("a note of a stranger", clientNote(stranger), { sender: stranger });
  await tell("a note in another's name", clientNote(net.clientOwner), { sender: stranger });
  const parts = (worker, own) =>
    beginCell().storeUint(0x08e7d036, 32).storeCoins(worker).storeCoins(own).storeAddress(payer).endCell();
  const workerNote = (of, payload) => body(OP.workerNote).storeAddress(of).storeUint(0, 2).storeUint(5, 64).storeMaybeRef(payload);
  await tell("a claim of the worker", workerNote(net.workerOwner, parts(TON / 10n, TON / 10n)), { sender: worker.address });
  await tell("a claim beyond the funds", workerNote(net.workerOwner, parts(9n * TON, 0n)), { sender: worker.address });
  await tell("a claim of a stranger", workerNote(stranger, parts(1n, 1n)), { sender: stranger });
  await tell("a claim in another's name", workerNote(net.workerOwner, parts(1n, 1n)), { sender: stranger });
  await tell("a note of the worker", workerNote(net.workerOwner, null), { sender: worker.address });
  await tell("a claim that is none", workerNote(net.workerOwner, snapshot), { sender: worker.address });
  await tell("a log entry of 1 nano", workerNote(net.workerOwner, null), { sender: worker.address, value: 1n });

  await tell("commission from nothing", request(OP.payout, stranger), { sender: stranger });
  await tell("more charges", coins(CHARGE_PAID, 3n * TON), { sender: stranger, value: nano(3.1) });
  await tell("stake again", coins(OP.stake, 2n * TON), { sender: stranger, value: nano(2.2) });
  await toWorker("a payout", signedByProxy(key, OP.workerPayout, worker.address, payer, { tokens: 20_000_000n }), { sender: payer });
  await tell("commission, asked by a stranger", request(OP.payout, stranger), { sender: stranger });
  await tell("a plain transfer", undefined, { sender: stranger, value: TON });
  await toWorker("another payout", signedByProxy(key, OP.workerPayout, worker.address, payer, { tokens: 30_000_000n }), { sender: payer });
  await tell("w", text("w"));
  await tell("w, by a stranger", text("w"), { sender: stranger });
  await tell("x", text("x"));
  await tell("no text", text(""));
  await tell("a long text", text("close"));

  await tell("complete what is open", request(COMPLETE));
  await tell("a signed complete of what is open", signed(OP.completeSigned));
  await tell("close, by a stranger", request(OP.close), { sender: stranger });
  await tell("close", request(OP.close));
  await tell("close again", request(OP.close));
  await tell("a signed close again", signed(OP.closeSigned));
  await tell("complete too early", request(COMPLETE));
  await tell("c too early", text("c"));
  await tell("a charge while closing", coins(CHARGE_PAID, TON), { sender: stranger, value: nano(1.1) });
  chain.now += PARAMS.proxyDelay - 1;
  await tell("complete a second too early", request(COMPLETE));
  chain.now += 1;
  await tell("complete, by a stranger", request(COMPLETE), { sender: stranger });
  await tell("complete", request(COMPLETE));
  await tell("complete again", request(COMPLETE));
  await tell("stake when closed", coins(OP.stake, TON), { sender: stranger, value: nano(1.2) });
  await tell("a charge when closed", coins(CHARGE_PAID, TON), { sender: stranger, value: nano(1.1) });
  await toWorker("a payout when closed", signedByProxy(key, OP.workerPayout, worker.address, payer, { tokens: 50_000_000n }), { sender: payer });
  await tell("commission when closed", request(OP.payout, stranger), { sender: stranger });
  await tell("w when closed", text("w"));
  await tell("an unknown op", body(0x12345678));
  await tell("a log entry", body(0x9a1247c0), { sender: stranger });
  await tell("excesses", body(0x2565934c), { sender: stranger });
}

async function closedBySignature(chain, codes) {
  const net = await trio(chain, codes, { ...PARAMS, uniqueId: 18 });
  const { toProxy: tell, proxy, key } = net;
  const payer = person("payer");
  const signed = (op, to = proxy.address, by = key) => signedByProxy(by, op, to, payer);
  await tell("signed: stake", body(OP.stake).storeCoins(TON).storeAddress(payer), { value: nano(1.2) });
  await tell("signed: a forged close", signed(OP.closeSigned, proxy.address, keys("thief")), { sender: payer });
  await tell("signed: a close for another", signed(OP.closeSigned, payer), { sender: payer });
  await tell("signed: close for too little", signed(OP.closeSigned), { sender: payer, value: nano(0.09) });
  await tell("signed: close", signed(OP.closeSigned), { sender: payer });
  await tell("signed: complete too early", signed(OP.completeSigned), { sender: payer });
  chain.now += PARAMS.proxyDelay;
  await tell("signed: a forged complete", signed(OP.completeSigned, proxy.address, keys("thief")), { sender: payer });
  await tell("signed: complete", signed(OP.completeSigned), { sender: payer });
  await tell("signed: complete again", signed(OP.completeSigned), { sender: payer });
}

async function closedByText(chain, codes) {
  const { toProxy: tell } = await trio(chain, codes, { ...PARAMS, uniqueId: 19 });
  await tell("text: c", text("c"));
  chain.now += PARAMS.proxyDelay;
  await tell("text: c again", text("c"));
  await tell("text: c a third time", text("c"));
}
