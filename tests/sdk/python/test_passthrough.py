"""What an app sends arrives at the engine byte for byte, whatever it is."""

import base64
import hashlib
import json

import httpx
import pytest

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a town.",
            "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
        },
    }
]

# Each case is what `chat.completions.create` gets beside model and messages.
FIELDS = {
    "tools": {"tools": TOOLS, "tool_choice": "auto", "parallel_tool_calls": False},
    "response_format": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object", "properties": {"x": {"type": "number"}}}},
        }
    },
    "seed": {"seed": 7},
    "logprobs": {"logprobs": True, "top_logprobs": 3, "logit_bias": {"50256": -100}},
    "metadata": {"metadata": {"team": "a"}, "store": False},
    "sampling": {"temperature": 0.1, "top_p": 0.9, "presence_penalty": 0.5, "stop": ["\n\n", "END"]},
    "unknown fields": {"extra_body": {"guided_regex": "[0-9]+", "chat_template_kwargs": {"thinking": False}, "größe": 1e-7}},
}


def sent_and_arrived(scripted, sdk, **fields):
    """Makes one call; gives the bytes that left the SDK and the bytes that reached the engine."""
    sent = []
    http = httpx.Client(event_hooks={"request": [lambda request: sent.append(request.content)]}, trust_env=False)
    marker = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    fields.setdefault("messages", [{"role": "user", "content": f"case {marker}"}])
    fields.setdefault("max_tokens", 16)
    sdk.with_options(http_client=http).chat.completions.create(model=scripted.model, **fields)
    arrived = scripted.engine.requests()[-1]
    return sent[-1], base64.b64decode(arrived["body_base64"]), arrived


@pytest.mark.parametrize("case", FIELDS)
def test_fields_arrive_byte_for_byte(scripted, sdk, case):
    sent, arrived, _ = sent_and_arrived(scripted, sdk, **FIELDS[case])
    assert arrived == sent


def test_tool_results_arrive_byte_for_byte(scripted, sdk):
    messages = [
        {"role": "user", "content": "Weather in Bern?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"town":"Bern"}'}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": '{"celsius": 7}'},
    ]
    sent, arrived, _ = sent_and_arrived(scripted, sdk, messages=messages, tools=TOOLS)
    assert arrived == sent


def test_a_missing_token_limit_is_the_only_thing_added(scripted, sdk):
    sent, arrived, _ = sent_and_arrived(scripted, sdk, max_tokens=None)
    sent, arrived = json.loads(sent), json.loads(arrived)
    sent.pop("max_tokens")
    assert isinstance(arrived.pop("max_tokens"), int)
    assert arrived == sent


def test_fields_of_this_network_are_taken_out(scripted, sdk):
    own = {"max_coefficient": 2000, "timeout": 30, "enable_debug": True, "request_guid": "a-guid"}
    sent, arrived, _ = sent_and_arrived(scripted, sdk, extra_body={**own, "kept": 1})
    arrived = json.loads(arrived)
    assert not set(own) & set(arrived)
    assert arrived["kept"] == 1


def test_headers_of_the_app_never_reach_the_engine(scripted, sdk):
    headers = {"Cookie": "session=1", "X-Secret": "s", "Forwarded": "for=10.0.0.1"}
    _, _, arrived = sent_and_arrived(scripted, sdk, extra_headers=headers)
    names = {name.lower() for name, _ in arrived["headers"]}
    assert not names & {"cookie", "x-secret", "forwarded", "authorization", "user-agent", "x-stainless-lang"}


def test_a_prompt_of_one_mebibyte_arrives_whole(scripted, sdk):
    sent, arrived, _ = sent_and_arrived(scripted, sdk, messages=[{"role": "user", "content": "x" * (1 << 20)}])
    assert len(sent) > 1 << 20
    assert hashlib.sha256(arrived).digest() == hashlib.sha256(sent).digest()
