// The root: every op, by its owner and by others, with bodies that end too early or go on too long.

import { PARAMS, TON, beginCell, body, deploy, from, hash, nano, netAddr, person, rootData } from "./network.js";

const OPS = {
  addWorker: 0xe34b1c60, delWorker: 0x8d94a79a, addModel: 0xc146134d, delModel: 0x92b11c18,
  addProxy: 0x71860e80, delProxy: 0x3c41d0b2, register: 0x927c7cb5, unregister: 0x6d49eaf2,
  update: 0x9c7924ba, fees: 0xc52ed8d4, params: 0x022fa189, paramsFull: 0x9f1e69dc,
  contracts: 0xa2370f61, code: 0x11aefd51, reset: 0x563c1d96, full: 0x4f7c5789, owner: 0xc4a1ae54,
};

export async function run(chain, codes) {
  const owner = person("root owner");
  const stranger = person("stranger");
  const { address, init, data } = deploy(codes.root, rootData(owner, PARAMS, codes));
  const tell = (name, cell, { sender = owner, value = nano(0.1) } = {}) =>
    chain.send(name, from(sender, address, value, cell));
  await chain.send("deploy", from(owner, address, TON, undefined, { bounce: false, init }));

  const pin = { contract: person("a proxy contract"), key: Buffer.alloc(32, 7) };
  const bodies = (query) => ({
    addWorker: body(OPS.addWorker, query).storeUint(hash("worker image"), 256),
    addWorkerTwice: body(OPS.addWorker, query).storeUint(hash("worker image"), 256),
    addWorker2: body(OPS.addWorker, query).storeUint(hash("worker image 2"), 256),
    addModel: body(OPS.addModel, query).storeUint(hash("model@commit:root"), 256),
    addProxy: body(OPS.addProxy, query).storeUint(hash("proxy image"), 256),
    register: body(OPS.register, query).storeBuilder(netAddr("192.0.2.1:9000")),
    registerTwo: body(OPS.register, query).storeBuilder(netAddr("192.0.2.1:9000 192.0.2.2:9001")),
    registerPinned: body(OPS.register, query).storeBuilder(netAddr("proxy.example:443", pin)),
    registerLong: body(OPS.register, query).storeBuilder(netAddr("a".repeat(110))),
    updateToPinned: body(OPS.update, query).storeUint(1, 32).storeBuilder(netAddr("192.0.2.9:9000", pin)),
    updateToPlain: body(OPS.update, query).storeUint(3, 32).storeBuilder(netAddr("192.0.2.3:9000")),
    updateUnknown: body(OPS.update, query).storeUint(9, 32).storeBuilder(netAddr("192.0.2.3:9000")),
    unregister: body(OPS.unregister, query).storeUint(2, 32),
    unregisterUnknown: body(OPS.unregister, query).storeUint(2, 32),
    registerEmpty: body(OPS.register, query).storeBuilder(netAddr("")),
    registerSpaces: body(OPS.register, query).storeBuilder(netAddr("a:1 b:1 c:1")),
    registerSpaceLast: body(OPS.register, query).storeBuilder(netAddr("a:1 ")),
    registerControl: body(OPS.register, query).storeBuilder(netAddr("a:1\n")),
    registerNoPin: body(OPS.register, query).storeBit(true).storeUint(3, 7).storeBuffer(Buffer.from("a:1")),
    registerPinToo: body(OPS.register, query).storeBuilder(netAddr("a:1")).storeRef(beginCell().endCell()),
    fees: body(OPS.fees, query).storeCoins(30).storeCoins(12),
    params: body(OPS.params, query).storeCoins(25).storeCoins(11).storeUint(7200, 32).storeUint(3600, 32)
      .storeCoins(2n * TON).storeCoins(3n * TON),
    paramsFull: body(OPS.paramsFull, query).storeCoins(22).storeCoins(9).storeUint(11000, 32).storeUint(4000, 32)
      .storeUint(21000, 32).storeUint(31000, 32).storeUint(600, 32).storeUint(300, 32)
      .storeCoins(TON).storeCoins(TON),
    contracts: body(OPS.contracts, query).storeRef(codes.proxy).storeRef(codes.worker).storeRef(codes.client),
    delWorker: body(OPS.delWorker, query).storeUint(hash("worker image"), 256),
    delWorkerUnknown: body(OPS.delWorker, query).storeUint(hash("worker image"), 256),
    delModel: body(OPS.delModel, query).storeUint(hash("model@commit:root"), 256),
    delProxy: body(OPS.delProxy, query).storeUint(hash("proxy image"), 256),
    code: body(OPS.code, query).storeRef(codes.root),
    reset: body(OPS.reset, query),
    full: body(OPS.full, query).storeRef(data).storeRef(codes.root),
    ownerElsewhere: body(OPS.owner, query).storeAddress(person("next")).storeBit(1),
    unknown: body(0x12345678, query),
    nothing: body(0x9a1247c0, query),
  });
  for (const [name, builder] of Object.entries(bodies(1n))) await tell(name, builder.endCell());
  for (const [name, builder] of Object.entries(bodies(2n))) {
    await tell(`${name}, by a stranger`, builder.endCell(), { sender: stranger });
  }
  for (const [name, builder] of Object.entries(bodies(3n))) {
    await tell(`${name}, and a bit more`, builder.storeBit(1).endCell());
  }
  const add = () => body(OPS.addModel, 4n).storeUint(hash("another"), 256);
  await tell("no more than an op", beginCell().storeUint(OPS.addModel, 32).endCell());
  await tell("no body", undefined);
  await tell("two bytes", beginCell().storeUint(1, 16).endCell());
  for (const value of [1n, nano(0.0005), nano(0.003), nano(0.004), nano(0.01), TON]) {
    await tell(`for ${value} nano`, add().endCell(), { value });
  }
  chain.now += 365 * 24 * 3600;
  await tell("after a year of storage", add().endCell());
  await tell("owner", body(OPS.owner, 5n).storeAddress(stranger).endCell());
  await tell("owner, by the old one", body(OPS.owner, 5n).storeAddress(owner).endCell());
  await tell("by the new owner", add().endCell(), { sender: stranger });
}
