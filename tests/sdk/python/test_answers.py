"""Answers of any engine through the chain: chat, stream with and without usage, completions, models."""

import openai
import pytest

QUESTION = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]


def test_chat(net, sdk):
    answer = sdk.chat.completions.create(model=net.model, messages=QUESTION, max_tokens=24, temperature=0)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    if net.is_real:
        assert "Paris" in answer.choices[0].message.content


def test_stream_without_usage(net, sdk):
    events = list(sdk.chat.completions.create(model=net.model, messages=QUESTION, max_tokens=24, temperature=0, stream=True))
    assert all(event.usage is None for event in events)
    assert all(event.choices for event in events)
    text = "".join(event.choices[0].delta.content or "" for event in events)
    assert events[-1].choices[0].finish_reason in ("stop", "length")
    assert "Paris" in text if net.is_real else text


def test_stream_with_usage(net, sdk):
    events = list(
        sdk.chat.completions.create(
            model=net.model, messages=QUESTION, max_tokens=24, temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )
    assert events[-1].choices == []
    assert events[-1].usage.completion_tokens > 0
    assert sum(event.usage is not None for event in events) == 1


def test_streamed_and_plain_text_are_equal(net, sdk):
    ask = dict(model=net.model, messages=QUESTION, max_tokens=16, temperature=0, seed=1)
    plain = sdk.chat.completions.create(**ask).choices[0].message.content
    events = sdk.chat.completions.create(**ask, stream=True)
    assert "".join(event.choices[0].delta.content or "" for event in events) == plain


def test_completions(net, sdk):
    ask = dict(model=net.model, prompt="The capital of France is", max_tokens=4, temperature=0)
    answer = sdk.completions.create(**ask)
    assert answer.usage.completion_tokens > 0
    streamed = "".join(event.choices[0].text for event in sdk.completions.create(**ask, stream=True))
    assert streamed == answer.choices[0].text
    if net.is_real:
        assert "Paris" in streamed


def test_models(net, sdk):
    assert net.model in [model.id for model in sdk.models.list()]
    assert sdk.models.retrieve(net.model).id == net.model


def test_an_unknown_model_is_404(net, sdk):
    with pytest.raises(openai.NotFoundError) as refused:
        sdk.chat.completions.create(model="no-such-model", messages=QUESTION)
    assert refused.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("no-such-model")


@pytest.mark.parametrize("limit", [-1, 1.5, "many"])
def test_a_bad_token_limit_is_400(net, sdk, limit):
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.chat.completions.create(model=net.model, messages=QUESTION, max_tokens=limit)
    assert refused.value.body["message"]


def test_timing_headers_and_request_id(net, sdk):
    answer = sdk.chat.completions.with_raw_response.create(model=net.model, messages=QUESTION, max_tokens=2)
    for role in ("client", "proxy", "worker"):
        assert float(answer.headers[f"x-cocoon-{role}-start"]) <= float(answer.headers[f"x-cocoon-{role}-end"])
    assert answer.headers["x-request-id"]
    assert answer.headers["content-type"].startswith("application/json")
