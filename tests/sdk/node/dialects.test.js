// OpenAI's Responses API and Anthropic's Messages API against the chain, with the official Node SDKs.
// COCOON_SDK says where it is, as in sdk.test.js.
import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const net = JSON.parse(process.env.COCOON_SDK);
const sdk = new OpenAI({ baseURL: `${net.url}/v1`, apiKey: "unused", maxRetries: 0 });
const claude = new Anthropic({ baseURL: net.url, apiKey: "unused", maxRetries: 0 });
const scripted = { skip: net.engine_url ? false : "needs the scripted engine" };
const system = "You are a helpful assistant.";
const input = "What is the capital of France?";
const ask = { model: net.model, max_output_tokens: 24, temperature: 0, instructions: system, input };
const say = { model: net.model, max_tokens: 24, temperature: 0, system, messages: [{ role: "user", content: input }] };

const delta = (delta, reason = null) => ({ choices: [{ index: 0, delta, finish_reason: reason }] });
const call = (fields) => delta({ tool_calls: [{ index: 0, ...fields }] });
const script = (...events) => `sim:${JSON.stringify({ kind: "sse", events: events.map((event) => ({ data: JSON.stringify(event) })) })}`;
const weather = script(
  call({ id: "call_1", type: "function", function: { name: "weather", arguments: "" } }),
  call({ function: { arguments: '{"town":' } }),
  call({ function: { arguments: '"Bern"}' } }),
  delta({}, "tool_calls"),
);
const schema = { type: "object", properties: { town: { type: "string" } }, required: ["town"], additionalProperties: false };

const refusal = (promise) => promise.then(() => assert.fail("it was not refused"), (error) => error);

test("responses: whole and streamed", async () => {
  const whole = await sdk.responses.create(ask);
  assert.equal(whole.object, "response");
  assert.equal(whole.store, false);
  if (net.real) assert.match(whole.output_text, /Paris/);
  let text = "";
  let last;
  for await (const event of await sdk.responses.create({ ...ask, stream: true })) {
    if (event.type === "response.output_text.delta") text += event.delta;
    last = event;
  }
  assert.equal(text, whole.output_text);
  assert.ok(["response.completed", "response.incomplete"].includes(last.type));
  assert.ok(last.response.usage.output_tokens > 0);
});

test("responses: tools in a stream", scripted, async () => {
  const tools = [{ type: "function", name: "weather", strict: true, parameters: schema }];
  const final = await sdk.responses.stream({ ...ask, tools, user: weather }).finalResponse();
  assert.equal(final.output[0].name, "weather");
  assert.deepEqual(JSON.parse(final.output[0].arguments), { town: "Bern" });
});

test("responses: what is not done is said", async () => {
  const stored = await refusal(sdk.responses.create({ ...ask, store: true }));
  assert.ok(stored instanceof OpenAI.BadRequestError);
  assert.equal(stored.param, "store");
  assert.ok((await refusal(sdk.responses.retrieve("resp_1"))) instanceof OpenAI.NotFoundError);
});

test("responses: a stream that breaks off raises", scripted, async () => {
  const stream = await sdk.responses.create({ ...ask, stream: true, user: "sim:cut" });
  const types = [];
  await assert.rejects(async () => {
    for await (const event of stream) types.push(event.type);
  }, OpenAI.APIError);
  assert.equal(types.at(-1), "response.failed");
});

test("messages: whole and streamed", async () => {
  const whole = await claude.messages.create(say);
  assert.equal(whole.type, "message");
  assert.ok(whole.usage.input_tokens > 0);
  if (net.real) assert.match(whole.content[0].text, /Paris/);
  const stream = claude.messages.stream(say);
  let text = "";
  stream.on("text", (piece) => (text += piece));
  const final = await stream.finalMessage();
  assert.equal(text, whole.content[0].text);
  assert.equal(final.content[0].text, text);
  assert.ok(final.usage.output_tokens > 0);
});

test("messages: tools in a stream", scripted, async () => {
  const tools = [{ name: "weather", input_schema: schema }];
  const final = await claude.messages.stream({ ...say, tools, metadata: { user_id: weather } }).finalMessage();
  assert.equal(final.stop_reason, "tool_use");
  assert.deepEqual(final.content[0].input, { town: "Bern" });
});

test("messages: what is not done is said", async () => {
  const { max_tokens: _, ...unlimited } = say;
  const refused = await refusal(claude.post("/v1/messages", { body: unlimited }));
  assert.ok(refused instanceof Anthropic.BadRequestError);
  assert.match(refused.message, /max_tokens/);
  assert.ok(refused.requestID);
  const counted = await refusal(claude.messages.countTokens({ model: net.model, messages: say.messages }));
  assert.ok(counted instanceof Anthropic.NotFoundError);
});

test("messages: a stream that breaks off raises", scripted, async () => {
  const stream = await claude.messages.create({ ...say, stream: true, metadata: { user_id: "sim:cut" } });
  await assert.rejects(async () => {
    for await (const _ of stream);
  }, Anthropic.APIError);
});

test("messages: the key alone opens", scripted, async () => {
  const guarded = (apiKey) => new Anthropic({ baseURL: net.guarded.url, apiKey, maxRetries: 0 });
  const hello = { ...say, model: net.guarded.model };
  assert.ok((await guarded(net.guarded.api_key).messages.create(hello)).content.length > 0);
  assert.ok((await refusal(guarded("sk-cocoon-wrong").messages.create(hello))) instanceof Anthropic.AuthenticationError);
});
