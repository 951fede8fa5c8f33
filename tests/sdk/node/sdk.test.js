// The official Node SDK against the chain. One network per run; COCOON_SDK says where it is:
// {"url", "model", "real", "engine_url"}; behind the scripted engine also "guarded" (keys required), "crowded" (one
// slot, no queue) and "mortal" (its "worker" is the process id that a test may end).
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const net = JSON.parse(process.env.COCOON_SDK);
const sdk = new OpenAI({ baseURL: `${net.url}/v1`, apiKey: "unused", maxRetries: 0 });
const scripted = { skip: net.engine_url ? false : "needs the scripted engine" };
const question = [
  { role: "system", content: "You are a helpful assistant." },
  { role: "user", content: "What is the capital of France?" },
];
const hello = [{ role: "user", content: "hello" }];

const requests = async () => (await fetch(`${net.engine_url}/__requests`)).json();

async function waitUntil(condition) {
  const deadline = Date.now() + 5000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, "it did not happen in time");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const at = (other, options) => new OpenAI({ baseURL: `${other.url}/v1`, apiKey: "unused", maxRetries: 0, ...options });
const refusal = (promise) => promise.then(() => assert.fail("it was not refused"), (error) => error);

async function textOf(stream) {
  let text = "";
  let usage = null;
  for await (const event of stream) {
    text += event.choices[0]?.delta?.content ?? "";
    usage = event.usage ?? usage;
  }
  return { text, usage };
}

test("chat", async () => {
  const answer = await sdk.chat.completions.create({ model: net.model, messages: question, max_tokens: 24, temperature: 0 });
  assert.ok(answer.usage.prompt_tokens > 0);
  if (net.real) assert.match(answer.choices[0].message.content, /Paris/);
});

test("stream without and with usage", async () => {
  const ask = { model: net.model, messages: question, max_tokens: 24, temperature: 0, stream: true };
  const plain = await textOf(await sdk.chat.completions.create(ask));
  assert.equal(plain.usage, null);
  const counted = await textOf(await sdk.chat.completions.create({ ...ask, stream_options: { include_usage: true } }));
  assert.ok(counted.usage.completion_tokens > 0);
  assert.equal(counted.text, plain.text);
});

test("completions", async () => {
  const answer = await sdk.completions.create({ model: net.model, prompt: "The capital of France is", max_tokens: 4, temperature: 0 });
  assert.ok(answer.choices[0].text.length > 0);
});

test("models", async () => {
  const ids = [];
  for await (const model of sdk.models.list()) ids.push(model.id);
  assert.ok(ids.includes(net.model));
  assert.equal((await sdk.models.retrieve(net.model)).id, net.model);
});

test("an unknown model is 404", async () => {
  const refused = await sdk.chat.completions.create({ model: "no-such-model", messages: hello }).catch((error) => error);
  assert.ok(refused instanceof OpenAI.NotFoundError);
  assert.equal(refused.code, "model_not_found");
});

test("a bad request is 400", async () => {
  const refused = await sdk.chat.completions.create({ model: net.model, messages: hello, max_tokens: -1 }).catch((error) => error);
  assert.ok(refused instanceof OpenAI.BadRequestError);
});

test("unknown fields, tools and response format arrive byte for byte", scripted, async () => {
  let sent;
  const fetchAndKeep = (url, init) => {
    sent = init.body;
    return fetch(url, init);
  };
  const client = sdk.withOptions({ fetch: fetchAndKeep });
  await client.chat.completions.create({
    model: net.model,
    messages: hello,
    max_tokens: 8,
    seed: 3,
    logprobs: true,
    response_format: { type: "json_object" },
    tools: [{ type: "function", function: { name: "f", parameters: { type: "object" } } }],
    guided_regex: "[0-9]+",
    weights: [1e-7, 1.0, -0],
  });
  const arrived = (await requests()).at(-1);
  assert.equal(Buffer.from(arrived.body_base64, "base64").toString(), sent);
});

test("a stream cut by the engine ends with an error", scripted, async () => {
  const stream = await sdk.chat.completions.create({ model: net.model, messages: hello, stream: true, user: "sim:cut" });
  await assert.rejects(textOf(stream), OpenAI.APIError);
});

test("a hang-up reaches the engine", scripted, async () => {
  const stream = await sdk.chat.completions.create({ model: net.model, messages: hello, max_tokens: 1000, stream: true, user: "sim:slow" });
  for await (const _ of stream) break;
  await waitUntil(async () => (await requests()).at(-1).outcome === "hung_up");
});

test("a stream of ten thousand tokens", scripted, async () => {
  const stream = await sdk.chat.completions.create({ model: net.model, messages: hello, max_tokens: 10000, stream: true, user: "sim:tokens=10000" });
  let count = 0;
  for await (const event of stream) count += event.choices[0]?.delta?.content ? 1 : 0;
  assert.equal(count, 10000);
});

test("tool results arrive byte for byte", scripted, async () => {
  let sent;
  const client = sdk.withOptions({ fetch: (url, init) => ((sent = init.body), fetch(url, init)) });
  const call = { id: "call_1", type: "function", function: { name: "weather", arguments: '{"town":"Bern"}' } };
  const messages = [...hello, { role: "assistant", content: null, tool_calls: [call] }, { role: "tool", tool_call_id: "call_1", content: '{"celsius": 7}' }];
  await client.chat.completions.create({ model: net.model, max_tokens: 8, messages });
  assert.equal(Buffer.from((await requests()).at(-1).body_base64, "base64").toString(), sent);
});

test("a prompt of one mebibyte arrives whole", scripted, async () => {
  const content = "x".repeat(1 << 20);
  await sdk.chat.completions.create({ model: net.model, max_tokens: 8, messages: [{ role: "user", content }] });
  const arrived = JSON.parse(Buffer.from((await requests()).at(-1).body_base64, "base64"));
  assert.equal(arrived.messages[0].content, content);
});

test("a wrong key is 401", scripted, async () => {
  const refused = await refusal(at(net.guarded, { apiKey: "sk-cocoon-wrong" }).models.list());
  assert.ok(refused instanceof OpenAI.AuthenticationError);
  assert.ok((await at(net.guarded, { apiKey: net.guarded.api_key }).models.list()).data.length > 0);
});

test("overload is refused with Retry-After", scripted, async () => {
  const crowded = at(net.crowded);
  const running = await crowded.chat.completions.create({ model: net.crowded.model, messages: hello, stream: true, user: "sim:slow" });
  for await (const _ of running) {
    const refused = await refusal(crowded.chat.completions.create({ model: net.crowded.model, messages: hello }));
    assert.ok([429, 503].includes(refused.status), `${refused.status}`);
    assert.ok(Number(refused.headers.get("retry-after")) > 0);
    break;
  }
});

test("a worker gone mid-stream is an error, not silence", scripted, async () => {
  const stream = await at(net.mortal).chat.completions.create({ model: net.mortal.model, messages: hello, max_tokens: 1000, stream: true, user: "sim:slow" });
  const reading = (async () => {
    for await (const _ of stream) if (net.mortal.worker) process.kill(net.mortal.worker, "SIGKILL"), (net.mortal.worker = null);
  })();
  await assert.rejects(reading, OpenAI.APIError);
});
