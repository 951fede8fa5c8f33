// The steward and its root: what goes at once, what waits, what is refused, who may.

import { PARAMS, TON, batch, beginCell, body, deploy, from, hash, nano, netAddr, ours, person } from "./network.js";
import { rootData, stewardData } from "./network.js";

const ACT = ours("steward_act");
const EXECUTE = ours("steward_execute");
const CANCEL = ours("steward_cancel");
const PROPOSE = ours("steward_propose_owner");
const ACCEPT = ours("steward_accept_owner");
const SET_DELAY = ours("steward_set_delay");
const DELAY = 172_800;

export async function run(chain, codes) {
  const [deployer, owner, next, stranger] = ["deployer", "steward owner", "next owner", "stranger"].map(person);
  const root = deploy(codes.root, rootData(deployer, PARAMS, codes));
  const steward = deploy(codes.steward, stewardData(owner, root.address, DELAY));
  const tell = (name, cell, { sender = owner, value = nano(0.5) } = {}) =>
    chain.send(name, from(sender, steward.address, value, cell));
  const act = (bodies, query = 1n) => body(ACT, query).storeRef(batch(bodies.map((b) => b.endCell()))).endCell();
  const byId = (op, id) => body(op).storeUint(id, 32).endCell();
  const model = (name) => body(0xc146134d).storeUint(hash(name), 256);
  const fees = () => body(0xc52ed8d4).storeCoins(33).storeCoins(13);

  const { init } = root;
  await chain.send("deploy the root", from(deployer, root.address, TON, undefined, { bounce: false, init }));
  await chain.send("deploy", from(owner, steward.address, nano(0.05), undefined, { bounce: false, init: steward.init }));
  await tell("add a model before the root is ours", act([model("early")]));
  const handOver = body(0xc4a1ae54).storeAddress(steward.address).endCell();
  await chain.send("hand over the root", from(deployer, root.address, nano(0.1), handOver));

  await tell("add a model", act([model("one")]));
  const lists = [
    body(0x71860e80).storeUint(hash("proxy image"), 256), body(0xe34b1c60).storeUint(hash("worker image"), 256),
    model("two"), body(0x927c7cb5).storeBuilder(netAddr("192.0.2.1:9000")),
    body(0x9c7924ba).storeUint(1, 32).storeBuilder(netAddr("192.0.2.2:9000")), body(0x6d49eaf2).storeUint(1, 32),
    body(0x92b11c18).storeUint(hash("two"), 256), body(0x8d94a79a).storeUint(hash("worker image"), 256),
    body(0x3c41d0b2).storeUint(hash("proxy image"), 256),
  ];
  await tell("all that goes at once", act(lists), { value: TON });
  await tell("the root refuses", act([body(0x9c7924ba).storeUint(7, 32).storeBuilder(netAddr("192.0.2.2:9000"))]));
  await tell("the root cannot read", act([model("three").storeBit(1)]));
  const locked = [
    fees(), body(0xc4a1ae54).storeAddress(owner), body(0x11aefd51).storeRef(codes.root), body(0x563c1d96),
    body(0xdeadbeef), body(SET_DELAY).storeUint(3600, 32),
    body(0xa2370f61).storeRef(codes.proxy).storeRef(codes.worker).storeRef(codes.client),
  ];
  await tell("all that waits", act(locked));
  await tell("some of both", act([model("four"), fees(), model("five")]));
  await tell("execute too early", byId(EXECUTE, 0));
  await tell("cancel", byId(CANCEL, 1));
  await tell("cancel again", byId(CANCEL, 1));
  await tell("cancel what never was", byId(CANCEL, 99));
  chain.now += DELAY - 1;
  await tell("execute a second too early", byId(EXECUTE, 0));
  chain.now += 1;
  await tell("execute, by a stranger", byId(EXECUTE, 0), { sender: stranger });
  await tell("execute for too little", byId(EXECUTE, 0), { value: nano(0.08) });
  await tell("execute", byId(EXECUTE, 0));
  await tell("execute again", byId(EXECUTE, 0));
  await tell("execute what the root does not know", byId(EXECUTE, 4));
  await tell("execute a shorter delay", byId(EXECUTE, 5));
  await tell("execute new codes", byId(EXECUTE, 6));
  await tell("wait the shorter delay", act([fees()]));
  await tell("a delay of two years", act([body(SET_DELAY).storeUint(63_072_000, 32)]));
  await tell("a delay that cannot be read", act([body(SET_DELAY)]));

  await tell("33 bodies", act(Array.from({ length: 33 }, (_, i) => model(`many ${i}`))), { value: 3n * TON });
  await tell("32 bodies", act(Array.from({ length: 32 }, (_, i) => model(`many ${i}`))), { value: 3n * TON });
  await tell("32 locked bodies", act(Array.from({ length: 32 }, () => fees())), { value: TON });
  await tell("three bodies for too little", act([model("a"), model("b"), model("c")]), { value: nano(0.15) });
  await tell("a body of no op", body(ACT).storeRef(batch([beginCell().storeUint(1, 8).endCell()])).endCell());
  await tell("no batch", body(ACT).endCell());

  const propose = (to) => body(PROPOSE).storeAddress(to).endCell();
  await tell("accept what nobody proposed", body(ACCEPT).endCell(), { sender: next });
  await tell("propose, by a stranger", propose(stranger), { sender: stranger });
  await tell("propose", propose(next));
  await tell("accept, by the proposer", body(ACCEPT).endCell());
  await tell("accept, by a stranger", body(ACCEPT).endCell(), { sender: stranger });
  await tell("the proposed one acts", act([model("six")]), { sender: next });
  await tell("accept", body(ACCEPT).endCell(), { sender: next });
  await tell("accept again", body(ACCEPT).endCell(), { sender: next });
  await tell("the old owner acts", act([model("six")]));
  await tell("the new owner acts", act([model("six")]), { sender: next });
  await tell("set the delay past the lock", body(SET_DELAY).storeUint(0, 32).endCell(), { sender: next });
  await tell("an unknown op", body(0x12345678).endCell(), { sender: next });
  await tell("a log entry", body(0x9a1247c0).endCell(), { sender: stranger });
  await tell("excesses from anybody", body(0x2565934c).endCell(), { sender: stranger });
  await tell("no body", undefined, { sender: stranger });
  for (const value of [1n, nano(0.002), nano(0.02), nano(0.049)]) {
    await tell(`cancel for ${value} nano`, byId(CANCEL, 7), { sender: next, value });
  }
  chain.now += 2 * 365 * 24 * 3600;
  await tell("after two years", byId(CANCEL, 7), { sender: next });
}
