// The wallet: externals that are good, stale, forged, unpayable or malformed, and what its owner says.

import { TON, beginCell, body, deploy, from, keys, nano, outside, person } from "./network.js";
import { signedForWallet, text, walletData } from "./network.js";
import { internal, storeMessageRelaxed } from "@ton/core";

const SEND = 0x9c69f376;

export async function run(chain, codes) {
  const [owner, payee, stranger] = ["wallet owner", "payee", "stranger"].map(person);
  const key = keys("wallet");
  const { address, init } = deploy(codes.wallet, walletData(key, owner));
  const fund = (name, value) => chain.send(name, from(stranger, address, value, undefined, { bounce: false }));
  const say = (name, cell, { sender = owner, value = nano(0.1) } = {}) =>
    chain.send(name, from(sender, address, value, cell));
  const pay = (value, rest = {}) =>
    beginCell().store(storeMessageRelaxed(internal({ to: payee, value, bounce: false, ...rest }))).endCell();
  let seqno = 0;
  const order = (fields) => signedForWallet(fields.key ?? key, { validUntil: chain.now + 60, seqno, ...fields });
  const submit = async (name, fields, { uses = true, withInit } = {}) => {
    await chain.send(name, outside(address, order(fields), withInit));
    if (uses) seqno += 1;
  };
  const refused = (name, fields) => submit(name, fields, { uses: false });

  await fund("fund before it exists", 20n * TON);
  await refused("no code yet", { messages: [] });
  await submit("deploy and pay", { messages: [[1, pay(TON)]] }, { withInit: init });
  await submit("no message", {});
  await submit("four messages", { messages: [[0, pay(1n)], [1, pay(2n)], [2, pay(3n)], [3, pay(4n)]] });
  await submit("a large body", { messages: [[3, pay(1n, { body: codes.root })]] });
  await submit("a deployment", { messages: [[3, pay(nano(0.1), { init: { code: codes.wallet, data: codes.root } })]] });

  await refused("expired", { validUntil: chain.now });
  await refused("long expired", { validUntil: chain.now - 1 });
  await refused("an old seqno", { seqno: seqno - 1 });
  await refused("a future seqno", { seqno: seqno + 1 });
  await refused("another subwallet", { subwallet: 1 });
  await refused("another key", { key: keys("another") });
  await refused("too short", { messages: [], rest: undefined, validUntil: chain.now + 60, subwallet: 2 });
  await chain.send("no signature", outside(address, beginCell().storeUint(1, 32).endCell()));

  const unpayable = order({ messages: [[0, pay(10_000n * TON)]] });
  await submit("an unpayable message is skipped", { messages: [[0, pay(10_000n * TON)]] });
  await chain.send("and cannot be replayed", outside(address, unpayable));
  await submit("an unpayable one before a good one", { messages: [[0, pay(10_000n * TON)], [3, pay(5n)]] });
  await submit("no message at all", { messages: [[3, beginCell().storeUint(1, 16).endCell()]] });
  await submit("a bit too much", { messages: [[3, pay(1n)]], rest: beginCell().storeBit(1) });
  await submit("a mode too few", { rest: beginCell().storeUint(3, 8).storeRef(pay(1n)).storeRef(pay(2n)) });
  await submit("mode 32 would delete the wallet", { messages: [[160, pay(0n)]] });
  await submit("mode 16", { messages: [[16, pay(1n)]] });
  await submit("mode 64 and 128", { messages: [[192, pay(1n)]] });
  await submit("mode 64", { messages: [[64, pay(1n)]] });
  const withSource = (src) => {
    const message = internal({ to: payee, value: 7n, bounce: false });
    return beginCell().store(storeMessageRelaxed({ ...message, info: { ...message.info, src } })).endCell();
  };
  await submit("its own address as source", { messages: [[3, withSource(address)]] });
  await submit("another address as source", { messages: [[3, withSource(stranger)]] });
  const masterchain = internal({ to: "-1:" + "33".repeat(32), value: 8n, bounce: false });
  await submit("to the masterchain", { messages: [[3, beginCell().store(storeMessageRelaxed(masterchain)).endCell()]] });
  const event = { info: { type: "external-out", dest: null, createdLt: 0n, createdAt: 0 }, body: codes.wallet };
  const eventCell = beginCell().store(storeMessageRelaxed(event)).endCell();
  await submit("an event", { messages: [[3, eventCell]] });
  await submit("an event with mode 64", { messages: [[64, eventCell]] });
  await submit("an event with mode 128", { messages: [[128, eventCell]] });
  const initOf = (library) => beginCell().storeUint(0, 4).storeMaybeRef(library);
  const nonsense = beginCell().storeUint(5, 7).endCell();
  const header = () => beginCell().storeUint(0x10, 6).storeAddress(payee).storeCoins(1n).storeUint(0, 1 + 4 + 4 + 64 + 32);
  const deploying = {
    inside: (init) => header().storeUint(0b10, 2).storeBuilder(init).storeBit(0).endCell(),
    beside: (init) => header().storeUint(0b11, 2).storeRef(init).storeBit(0).endCell(),
  };
  for (const [where, message] of Object.entries(deploying)) {
    await submit(`a library that is none, ${where}`, { messages: [[3, message(initOf(nonsense))]] });
    await submit(`an empty init, ${where}`, { messages: [[3, message(initOf())]] });
    await submit(`an init that is none, ${where}`, { messages: [[3, message(beginCell().storeUint(1, 1))]] });
  }

  await say("owner sends", body(SEND).storeUint(1, 8).storeRef(pay(9n)).endCell());
  await say("owner sends what it sent", body(SEND).storeUint(64, 8).storeRef(pay(0n)).endCell(), { value: TON });
  await say("owner sends too much", body(SEND).storeUint(1, 8).storeRef(pay(10_000n * TON)).endCell());
  await say("owner sends nonsense", body(SEND).storeUint(1, 8).storeRef(beginCell().endCell()).endCell());
  await say("owner sends, and a bit", body(SEND).storeUint(1, 8).storeRef(pay(9n)).storeBit(1).endCell());
  await say("a stranger sends", body(SEND).storeUint(1, 8).storeRef(pay(9n)).endCell(), { sender: stranger });
  await say("an unknown op", body(0x12345678).endCell());
  await say("an unknown text", text("x"));
  await say("a long text", text("withdraw"));
  await say("a stranger says w", text("w"), { sender: stranger });
  for (const op of [0x2565934c, 0xc59a7cd3, 0x9a1247c0]) {
    await say(`ignored ${op.toString(16)}`, body(op).endCell(), { sender: stranger });
  }
  await say("block", text("b"));
  await refused("blocked", {});
  await say("block again", text("b"));
  await say("unblock, by a stranger", text("u"), { sender: stranger });
  await say("unblock", text("u"));
  await submit("unblocked", { messages: [[3, pay(11n)]] });
  await submit("all of it", { messages: [[128, pay(0n)]] });
  await refused("below the floor of 2 TON", {});
  await fund("just below the floor", nano(1.9));
  await refused("still below", {});
  await fund("more", TON);
  chain.now += 3600;
  await submit("above it", { messages: [[3, pay(12n)]] });
  await say("withdraw", text("w"));
  await say("withdraw nothing", text("w"), { value: 1n });
  await say("withdraw little", text("w"), { value: nano(0.002) });
}
