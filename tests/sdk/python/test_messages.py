"""Anthropic's Messages API over chat completions, with the official SDK."""

import json

import anthropic
import httpx
import pytest

from test_responses import Capital, arrived, call_deltas, delta, script, whole

TOOL = {
    "name": "weather",
    "description": "The weather in a town.",
    "input_schema": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
}
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
HELLO = [{"role": "user", "content": "hello"}]
# The API has it; this SDK has no argument for it any more.
GREEDY = {"extra_body": {"temperature": 0}}


def sdk_of(net, **options):
    options = {"api_key": net.api_key or "unused", "max_retries": 0, "timeout": 60, **options}
    return anthropic.Anthropic(base_url=net.url, http_client=anthropic.DefaultHttpxClient(trust_env=False), **options)


@pytest.fixture
def claude(request):
    """The official SDK, pointed at the network that the test uses."""
    name = "net" if "net" in request.fixturenames else "scripted"
    return sdk_of(request.getfixturevalue(name))


def acting(user):
    return {"metadata": {"user_id": user}}


def test_create(net, claude):
    answer = claude.messages.create(
        model=net.model, max_tokens=24, system="You are a helpful assistant.", messages=QUESTION, **GREEDY
    )
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", net.model)
    assert answer.id.startswith("msg_")
    assert answer.stop_reason in ("end_turn", "max_tokens")
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0
    assert answer._request_id
    assert "Paris" in answer.content[0].text if net.is_real else answer.content[0].text


def test_stream(net, claude):
    ask = dict(model=net.model, max_tokens=24, messages=QUESTION, **GREEDY)
    with claude.messages.stream(**ask) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert final.content[0].text == text
    assert final.usage.output_tokens > 0 and final.usage.input_tokens > 0
    assert claude.messages.create(**ask).content[0].text == text


def test_raw_events_come_in_order(net, claude):
    events = list(claude.messages.create(model=net.model, max_tokens=8, messages=HELLO, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:3] == ["message_start", "content_block_start", "content_block_delta"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert events[-2].delta.stop_reason in ("end_turn", "max_tokens")


def test_a_conversation_goes_on(net, claude):
    messages = list(HELLO)
    answer = claude.messages.create(model=net.model, max_tokens=8, messages=messages)
    messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": "And again?"}]
    assert claude.messages.create(model=net.model, max_tokens=8, messages=messages).content


def test_a_cut_answer_says_so(net, claude):
    if not net.is_real:
        pytest.skip("the scripted engine never cuts")
    story = [{"role": "user", "content": "Tell a long story."}]
    assert claude.messages.create(model=net.model, max_tokens=4, messages=story).stop_reason == "max_tokens"


def test_tools(scripted, claude):
    call = {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"town":"Bern"}'}}
    ask = dict(model=scripted.model, max_tokens=64, tools=[TOOL])
    messages = [{"role": "user", "content": "Weather in Bern?"}]
    user = acting(whole({"content": "I look.", "tool_calls": [call]}, "tool_calls"))
    answer = claude.messages.create(**ask, messages=messages, tool_choice={"type": "any"}, **user)
    assert answer.stop_reason == "tool_use"
    text, use = answer.content
    assert (text.text, use.name, use.input) == ("I look.", "weather", {"town": "Bern"})
    assert arrived(scripted)["tool_choice"] == "required"
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "7 degrees"}
    messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    assert claude.messages.create(**ask, messages=messages).content
    sent = arrived(scripted)["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
    assert sent[1]["content"] == "I look."
    assert json.loads(sent[1]["tool_calls"][0]["function"]["arguments"]) == {"town": "Bern"}
    assert (sent[2]["tool_call_id"], sent[2]["content"]) == ("toolu_1", "7 degrees")


def test_streamed_tools_and_thinking(scripted, claude):
    ask = dict(model=scripted.model, max_tokens=4096, messages=HELLO, tools=[TOOL], **acting(script(*call_deltas())))
    with claude.messages.stream(**ask, thinking={"type": "enabled", "budget_tokens": 1024}) as stream:
        final = stream.get_final_message()
    thinking, use = final.content
    assert (thinking.type, thinking.thinking) == ("thinking", "A tool helps.")
    assert (use.name, use.input, final.stop_reason) == ("weather", {"town": "Bern"}, "tool_use")
    assert arrived(scripted)["chat_template_kwargs"]["enable_thinking"] is True
    # Whoever does not ask for thinking gets none.
    with claude.messages.stream(**ask) as stream:
        assert [block.type for block in stream.get_final_message().content] == ["tool_use"]


def test_parse(scripted, claude):
    user = acting(whole({"content": '{"country":"France","capital":"Paris"}'}))
    answer = claude.messages.parse(model=scripted.model, max_tokens=64, messages=QUESTION, output_format=Capital, **user)
    assert answer.parsed_output == Capital(country="France", capital="Paris")
    assert "country" in arrived(scripted)["response_format"]["json_schema"]["schema"]["properties"]


def test_a_stop_sequence(net, claude):
    ask = dict(model=net.model, max_tokens=24, system="You are a helpful assistant.", messages=QUESTION, **GREEDY)
    answer = claude.messages.create(**ask, stop_sequences=["Paris", "scripted"])
    assert answer.stop_reason in ("stop_sequence", "end_turn")
    if net.is_real:
        assert "Paris" not in answer.content[0].text


def test_an_image_and_other_fields(scripted, claude):
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "What is it?", "cache_control": {"type": "ephemeral"}}]
    claude.messages.create(
        model=scripted.model,
        max_tokens=9,
        messages=[{"role": "user", "content": content}],
        system=[{"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}}],
        stop_sequences=["END"],
        extra_body={"top_k": 40, "guided_regex": "[0-9]+"},
    )
    sent = arrived(scripted)
    assert sent["messages"][0] == {"role": "system", "content": "A"}
    assert sent["messages"][1]["content"][0]["image_url"]["url"] == "data:image/png;base64,AAAA"
    assert (sent["max_tokens"], sent["top_k"], sent["stop"], sent["guided_regex"]) == (9, 40, ["END"], "[0-9]+")


@pytest.mark.parametrize(
    "fields, named",
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
        ({"messages": [*HELLO, {"role": "assistant", "content": "{"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://a/b.png"}}]}]}, "messages[0].content[0].source"),
        ({"extra_body": {"container": "c"}}, "container"),
        ({"max_tokens": -1}, "max_tokens"),
    ],
)
def test_what_is_not_done_is_said(net, claude, fields, named):
    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.messages.create(**{"model": net.model, "max_tokens": 9, "messages": HELLO, **fields})
    error = refused.value.body["error"]
    assert error["type"] == "invalid_request_error" and named in error["message"]


def test_tokens_are_not_counted(net, claude):
    with pytest.raises(anthropic.NotFoundError) as refused:
        claude.messages.count_tokens(model=net.model, messages=HELLO)
    assert "tokenizer" in str(refused.value)


def test_an_unknown_model_is_404(net, claude):
    with pytest.raises(anthropic.NotFoundError) as refused:
        claude.messages.create(model="no-such-model", max_tokens=9, messages=HELLO)
    assert refused.value.body["error"]["type"] == "not_found_error"


def test_errors_of_the_engine(scripted, claude):
    ask = dict(model=scripted.model, max_tokens=9, messages=HELLO)
    for stream in (False, True):
        with pytest.raises(anthropic.BadRequestError) as refused:
            claude.messages.create(**ask, stream=stream, **acting("sim:error400"))
        assert "scripted engine refuses" in refused.value.body["error"]["message"]
    with pytest.raises(anthropic.InternalServerError):
        claude.messages.create(**ask, **acting("sim:close"))


@pytest.mark.parametrize("user", ["sim:cut", script({"error": {"message": "out of memory"}}), script(delta(content="half"))])
def test_a_stream_that_breaks_off_raises(scripted, claude, user):
    with pytest.raises(anthropic.APIError):
        for _ in claude.messages.create(model=scripted.model, max_tokens=9, messages=HELLO, stream=True, **acting(user)):
            pass


def test_a_key_of_either_kind(guarded):
    ask = dict(model=guarded.model, max_tokens=4, messages=HELLO)
    assert sdk_of(guarded).messages.create(**ask).content
    assert sdk_of(guarded, api_key=None, auth_token=guarded.api_key).messages.create(**ask).content
    with pytest.raises(anthropic.AuthenticationError):
        sdk_of(guarded, api_key="sk-cocoon-wrong").messages.create(**ask)


def test_overload_is_a_rate_limit(crowded):
    sdk, hold = sdk_of(crowded), acting("sim:slow")
    ask = dict(model=crowded.model, max_tokens=9, messages=HELLO)
    running = sdk.messages.create(**ask, stream=True, **hold)
    next(iter(running))
    with pytest.raises(anthropic.APIStatusError) as refused:
        while True:
            sdk.messages.create(**ask)
    assert refused.value.status_code in (429, 503)
    assert int(refused.value.response.headers["retry-after"]) > 0
    running.close()


def test_headers_name_what_proves_the_answer(net):
    body = {"model": net.model, "max_tokens": 4, "messages": HELLO}
    answer = httpx.post(f"{net.url}/v1/messages", json=body, trust_env=False, timeout=60)
    for header in ("request-id", "x-request-id", "x-cocoon-attestation", "x-cocoon-worker-end"):
        assert header in answer.headers
