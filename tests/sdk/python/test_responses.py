"""OpenAI's Responses API over chat completions, with the official SDK."""

import base64
import json

import httpx
import openai
import pydantic
import pytest

TOOL = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a town.",
    "strict": True,
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"], "additionalProperties": False},
}
INSTRUCTIONS = "You are a helpful assistant."
QUESTION = "What is the capital of France?"


class Capital(pydantic.BaseModel):
    country: str
    capital: str


def script(*events, done=True, ending="finish"):
    """A `user` that makes the scripted engine stream these chat events."""
    events = [{"data": json.dumps(event)} for event in events]
    return "sim:" + json.dumps({"kind": "sse", "events": events, "done": done, "ending": ending})


def whole(message, reason="stop"):
    """A `user` that makes the scripted engine give this message."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 1}}
    body = {"choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}], "usage": usage}
    return "sim:" + json.dumps({"kind": "json", "body": body})


def delta(reason=None, **delta):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def call_deltas():
    function = {"name": "weather", "arguments": ""}
    yield delta(role="assistant", content="")
    yield delta(reasoning_content="A tool ")
    yield delta(reasoning_content="helps.")
    yield delta(tool_calls=[{"index": 0, "id": "call_1", "type": "function", "function": function}])
    for piece in ('{"town":', '"Bern"}'):
        yield delta(tool_calls=[{"index": 0, "function": {"arguments": piece}}])
    yield delta(reason="tool_calls")


def arrived(net):
    request = net.engine.requests()[-1]
    assert request["path"] == "/v1/chat/completions"
    return json.loads(base64.b64decode(request["body_base64"]))


def test_create(net, sdk):
    answer = sdk.responses.create(model=net.model, instructions=INSTRUCTIONS, input=QUESTION, max_output_tokens=24, temperature=0)
    assert answer.object == "response" and answer.id.startswith("resp_")
    assert answer.status in ("completed", "incomplete")
    assert answer.store is False
    assert answer.model == net.model
    assert answer.instructions == INSTRUCTIONS
    assert answer.usage.input_tokens > 0
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert "Paris" in answer.output_text if net.is_real else answer.output_text


def test_stream(net, sdk):
    ask = dict(model=net.model, instructions=INSTRUCTIONS, input=QUESTION, max_output_tokens=24, temperature=0)
    events = list(sdk.responses.create(**ask, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:4] == ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    assert kinds[-1] in ("response.completed", "response.incomplete")
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[-1].response.output_text == text
    assert events[-1].response.usage.output_tokens > 0
    assert sdk.responses.create(**ask).output_text == text


def test_the_stream_helper(net, sdk):
    with sdk.responses.stream(model=net.model, instructions=INSTRUCTIONS, input=QUESTION, max_output_tokens=64, temperature=0) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert final.output_text == text


def test_a_conversation_goes_on(net, sdk):
    conversation = [{"role": "user", "content": "hello"}]
    first = sdk.responses.create(model=net.model, input=conversation, max_output_tokens=8)
    conversation += [item.model_dump(exclude_none=True) for item in first.output]
    conversation.append({"role": "user", "content": [{"type": "input_text", "text": "And again?"}]})
    assert sdk.responses.create(model=net.model, input=conversation, max_output_tokens=8).output


def test_a_cut_answer_is_incomplete(net, sdk):
    if not net.is_real:
        pytest.skip("the scripted engine never cuts")
    answer = sdk.responses.create(model=net.model, input="Tell a long story.", max_output_tokens=4)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_tools(scripted, sdk):
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"town":"Bern"}'}}
    ask = dict(model=scripted.model, tools=[TOOL], tool_choice="auto", parallel_tool_calls=False)
    conversation = [{"role": "user", "content": "Weather in Bern?"}]
    message = {"content": None, "reasoning_content": "A tool helps.", "tool_calls": [call]}
    answer = sdk.responses.create(**ask, input=conversation, user=whole(message, "tool_calls"))
    reasoning, called = answer.output
    assert (reasoning.type, reasoning.content[0].text) == ("reasoning", "A tool helps.")
    assert (called.type, called.name, json.loads(called.arguments)) == ("function_call", "weather", {"town": "Bern"})
    assert arrived(scripted)["tools"][0]["function"]["parameters"] == TOOL["parameters"]
    conversation += [item.model_dump(exclude_none=True) for item in answer.output]
    conversation.append({"type": "function_call_output", "call_id": called.call_id, "output": "7 degrees"})
    answer = sdk.responses.create(**ask, input=conversation)
    assert answer.output_text
    sent = arrived(scripted)["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
    assert (sent[1]["tool_calls"], sent[1]["reasoning_content"]) == ([call], "A tool helps.")
    assert (sent[2]["tool_call_id"], sent[2]["content"]) == ("call_1", "7 degrees")


def test_streamed_tools_and_reasoning(scripted, sdk):
    ask = dict(model=scripted.model, input="Weather in Bern?", tools=[TOOL], user=script(*call_deltas()))
    with sdk.responses.stream(**ask) as stream:
        events = list(stream)
        final = stream.get_final_response()
    pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert "".join(pieces) == '{"town":"Bern"}'
    thoughts = [event.delta for event in events if event.type == "response.reasoning_text.delta"]
    assert "".join(thoughts) == "A tool helps."
    assert final.output[1].parsed_arguments == {"town": "Bern"}


def test_parse(scripted, sdk):
    answer = sdk.responses.parse(
        model=scripted.model, input=QUESTION, text_format=Capital, user=whole({"content": '{"country":"France","capital":"Paris"}'})
    )
    assert answer.output_parsed == Capital(country="France", capital="Paris")
    schema = arrived(scripted)["response_format"]["json_schema"]
    assert (schema["name"], schema["strict"]) == ("Capital", True)


def test_an_image_and_other_fields(scripted, sdk):
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"}
    content = [{"type": "input_text", "text": "What is it?"}, image]
    sdk.responses.create(
        model=scripted.model,
        input=[{"role": "user", "content": content}],
        max_output_tokens=9,
        reasoning={"effort": "low"},
        metadata={"team": "a"},
        extra_body={"guided_regex": "[0-9]+"},
    )
    sent = arrived(scripted)
    assert sent["messages"][0]["content"][1]["image_url"]["url"] == image["image_url"]
    assert (sent["max_tokens"], sent["reasoning_effort"], sent["guided_regex"]) == (9, "low", "[0-9]+")
    assert "metadata" not in sent and "store" not in sent


def test_a_refusal(scripted, sdk):
    answer = sdk.responses.create(model=scripted.model, input="x", user=whole({"content": None, "refusal": "I cannot."}))
    assert answer.output[0].content[0].refusal == "I cannot."


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://a/b.png"}]}]}, "input[0].content[0].image_url"),
        ({"max_output_tokens": -1}, None),
    ],
)
def test_what_is_not_done_is_said(net, sdk, fields, param):
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.responses.create(**{"model": net.model, "input": "x", **fields})
    assert refused.value.type == "invalid_request_error"
    if param:
        assert refused.value.param == param and param in refused.value.message


def test_nothing_is_kept(net, sdk):
    for ask in (sdk.responses.retrieve, sdk.responses.delete, sdk.responses.cancel):
        with pytest.raises(openai.NotFoundError) as refused:
            ask("resp_1")
        assert "keeps no" in refused.value.message


def test_an_unknown_model_is_404(net, sdk):
    with pytest.raises(openai.NotFoundError) as refused:
        sdk.responses.create(model="no-such-model", input="x")
    assert refused.value.code == "model_not_found"


def test_errors_of_the_engine(scripted, sdk):
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.responses.create(model=scripted.model, input="x", user="sim:error400", stream=stream)
        assert "scripted engine refuses" in refused.value.message


@pytest.mark.parametrize("user", ["sim:cut", script({"error": {"message": "out of memory"}}), script(delta(content="half"))])
def test_a_stream_that_breaks_off_raises(scripted, sdk, user):
    seen = []
    with pytest.raises(openai.APIError):
        for event in sdk.responses.create(model=scripted.model, input="x", stream=True, user=user):
            seen.append(event)
    assert seen[-1].type == "response.failed"
    assert seen[-1].response.error.message


def test_a_stream_of_ten_thousand_tokens(scripted, sdk):
    events = sdk.responses.create(model=scripted.model, input="x", max_output_tokens=10_000, stream=True, user="sim:tokens=10000")
    count, final = 0, None
    for event in events:
        count += event.type == "response.output_text.delta"
        final = event
    assert count == 10_000
    assert final.response.usage.output_tokens == 10_000


def test_headers_name_what_proves_the_answer(net):
    body = {"model": net.model, "input": "hello", "max_output_tokens": 4}
    answer = httpx.post(f"{net.url}/v1/responses", json=body, trust_env=False, timeout=60)
    for header in ("x-request-id", "x-cocoon-attestation", "x-cocoon-client-start", "x-cocoon-worker-end"):
        assert header in answer.headers
