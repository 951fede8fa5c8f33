// The client: deposits, charges and exits, in every state, with a proxy that lives, is dead or absent.

import { PARAMS, TON, beginCell, body, keys, nano, person, signedByProxy, trio } from "./network.js";

const OP = {
  topUp: 0xf172e6c2, secretTopUp: 0x8473b408, register: 0xc45f9f3b, secret: 0xa9357034, stake: 0x6a1f6a60,
  withdraw: 0xda068e78, refund: 0xfafa6cc1, charge: 0xbb63ff93, grant: 0xefd711e1,
};

export async function run(chain, codes) {
  await life(chain, codes);
  await deadProxy(chain, codes);
  await granted(chain, codes);
  await absurdDelay(chain, codes);
}

async function life(chain, codes) {
  const net = await trio(chain, codes);
  const { toClient: tell, clientOwner: owner, client, key } = net;
  const [payer, stranger] = ["payer", "stranger"].map(person);
  const charge = (tokens, more) => signedByProxy(key, OP.charge, client.address, payer, { tokens, ...more });
  const topUp = (amount, back = payer) => body(OP.topUp).storeCoins(amount).storeAddress(back);
  const request = (op) => body(op).storeAddress(owner);

  await tell("top up", topUp(3n * TON), { sender: payer, value: nano(3.2) });
  await tell("top up for too little", topUp(TON), { sender: payer, value: nano(1.09) });
  await tell("top up by nothing", topUp(0n), { sender: payer, value: nano(0.2) });
  await tell("top up, and a bit", topUp(TON).storeBit(1), { sender: payer, value: nano(1.2) });
  await tell("register", body(OP.register).storeUint(77, 64).storeAddress(owner));
  await tell("register, by a stranger", body(OP.register).storeUint(77, 64).storeAddress(owner), { sender: stranger });
  const secret = () => body(OP.secret).storeUint(5, 256).storeAddress(owner);
  await tell("change the secret", secret());
  await tell("change the secret, by a stranger", secret(), { sender: stranger });
  const both = () => body(OP.secretTopUp).storeCoins(TON).storeUint(6, 256).storeAddress(owner);
  await tell("change the secret and top up", both(), { value: nano(1.2) });
  await tell("the same, by a stranger", both(), { sender: stranger, value: nano(1.2) });
  const stake = (coins) => body(OP.stake).storeCoins(coins).storeAddress(owner);
  await tell("raise the stake", stake(2n * TON));
  await tell("lower the stake", stake(TON));
  await tell("raise the stake, by a stranger", stake(3n * TON), { sender: stranger });

  await tell("charge", charge(10_000_000n), { sender: payer });
  await tell("the same charge again", charge(10_000_000n), { sender: payer });
  await tell("an older charge", charge(9_000_000n), { sender: payer });
  await tell("a charge for too little", charge(20_000_000n), { sender: payer, value: nano(0.09) });
  await tell("a forged charge", signedByProxy(keys("thief"), OP.charge, client.address, payer, { tokens: 90n }));
  await tell("a charge for another", signedByProxy(key, OP.charge, owner, payer, { tokens: 20_000_000n }));
  await tell("another op inside", charge(20_000_000n, { inner: OP.grant }));
  await tell("another query inside", charge(20_000_000n, { envelopeQuery: 2n }));
  await tell("withdraw", request(OP.withdraw));
  await tell("withdraw again", request(OP.withdraw));
  await tell("withdraw, by a stranger", request(OP.withdraw), { sender: stranger });
  await tell("charge more than there is", charge(500_000_000n), { sender: payer });
  await tell("charge from nothing", charge(500_000_000n), { sender: payer });
  await tell("withdraw from nothing", request(OP.withdraw));
  await tell("top up after", topUp(5n * TON), { sender: payer, value: nano(5.2) });
  await tell("the rest of the charge", charge(200_000_000n), { sender: payer });
  await tell("top up once more", topUp(5n * TON), { sender: payer, value: nano(5.2) });

  await tell("ask for a refund, as a stranger", request(OP.refund), { sender: stranger });
  await tell("ask for a refund", request(OP.refund));
  await tell("ask again too early", request(OP.refund));
  await tell("withdraw while closing", request(OP.withdraw));
  await tell("top up while closing", topUp(TON), { sender: payer, value: nano(1.2) });
  chain.now += PARAMS.clientDelay;
  await tell("ask at the last second of the delay", request(OP.refund));
  await tell("charge at the last second", charge(210_000_000n), { sender: payer });
  chain.now += 1;
  await tell("charge too late", charge(220_000_000n), { sender: payer });
  const grant = signedByProxy(key, OP.grant, client.address, payer, { tokens: 220_000_000n });
  await tell("grant too late", grant, { sender: payer });
  await tell("force the refund", request(OP.refund), { value: nano(0.2) });
  await tell("force it again", request(OP.refund));
  await tell("charge when closed", charge(230_000_000n), { sender: payer });
  await tell("top up when closed", topUp(TON), { sender: payer, value: nano(1.2) });
  await tell("register when closed", body(OP.register).storeUint(7, 64).storeAddress(owner));
  await tell("a plain transfer when closed", undefined, { sender: payer, value: 2n * TON });
  await tell("ask for what came, as a stranger", request(OP.refund), { sender: stranger });
  await tell("ask for what came", request(OP.refund));
  await tell("ask for more", request(OP.refund));
  await tell("an unknown op", body(0x12345678));
  await tell("a log entry", body(0x9a1247c0));
  await tell("excesses", body(0x2565934c));
  await tell("two bytes", beginCell().storeUint(1, 16));
  await tell("no body", undefined);
}

/** A charge that bounces off a proxy whose contract was never deployed. */
async function deadProxy(chain, codes) {
  const values = { ...PARAMS, uniqueId: 18 };
  const net = await trio(chain, codes, values, { proxyIsDead: true });
  const { toClient: tell, clientOwner: owner, client, key } = net;
  const payer = person("payer");
  const charge = (tokens) => signedByProxy(key, OP.charge, client.address, payer, { tokens });
  const topUp = body(OP.topUp).storeCoins(3n * TON).storeAddress(payer);
  await tell("dead proxy: top up", topUp, { sender: payer, value: nano(3.2) });
  await tell("dead proxy: charge", charge(10_000_000n), { sender: payer });
  await tell("dead proxy: the same charge again", charge(10_000_000n), { sender: payer });
  await tell("dead proxy: another charge", charge(11_000_000n), { sender: payer });
  await tell("dead proxy: ask for a refund", body(OP.refund).storeAddress(owner));
  chain.now += values.clientDelay + 1;
  await tell("dead proxy: force the refund", body(OP.refund).storeAddress(owner));
}

async function granted(chain, codes) {
  for (const [name, uniqueId, tokens, deposit] of [
    ["granted", 19, 40_000_000n, 3n * TON],
    ["granted, more than there is", 20, 400_000_000n, 3n * TON],
    ["granted, nothing", 21, 0n, 0n],
  ]) {
    const net = await trio(chain, codes, { ...PARAMS, uniqueId });
    const { toClient: tell, client, key } = net;
    const payer = person("payer");
    const topUp = body(OP.topUp).storeCoins(deposit).storeAddress(payer);
    const grant = signedByProxy(key, OP.grant, client.address, payer, { tokens });
    await tell(`${name}: top up`, topUp, { sender: payer, value: deposit + nano(0.2) });
    await tell(`${name}: for too little`, grant, { sender: payer, value: nano(0.05) });
    await tell(name, grant, { sender: payer });
    await tell(`${name}: again`, grant, { sender: payer });
    await tell(`${name}: force a refund after it`, body(OP.refund).storeAddress(net.clientOwner));
  }
}

/** A delay beyond the end of time: the requests work, and charged money that bounces is still kept. */
async function absurdDelay(chain, codes) {
  const values = { ...PARAMS, uniqueId: 22, clientDelay: 0xffffffff };
  const net = await trio(chain, codes, values, { proxyIsDead: true });
  const { toClient: tell, client, key } = net;
  const payer = person("payer");
  const topUp = body(OP.topUp).storeCoins(3n * TON).storeAddress(payer);
  const grant = signedByProxy(key, OP.grant, client.address, payer, { tokens: 10_000_000n });
  await tell("absurd delay: top up", topUp, { sender: payer, value: nano(3.2) });
  await tell("absurd delay: ask for a refund", body(OP.refund).storeAddress(net.clientOwner));
  await tell("absurd delay: grant, and the charge bounces", grant, { sender: payer });
}
