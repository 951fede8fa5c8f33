"""What goes wrong is said in OpenAI's shape, and the node serves on."""

import time

import httpx
import openai
import pytest

HELLO = [{"role": "user", "content": "hello"}]


def still_serves(net, sdk):
    assert sdk.chat.completions.create(model=net.model, messages=HELLO, max_tokens=4).choices


def wait_until(condition, seconds=5):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model":"m"', b'{"model":1}', b'{"model":"a","model":"b"}', b"\xff"])
def test_a_malformed_body_is_400(net, sdk, body):
    url = f"{net.url}/v1/chat/completions"
    answer = httpx.post(url, content=body, headers={"content-type": "application/json"}, trust_env=False)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["message"] and error["type"] == "invalid_request_error"
    still_serves(net, sdk)


def test_an_error_of_the_engine_passes_through(scripted, sdk):
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.chat.completions.create(model=scripted.model, messages=HELLO, user="sim:error400")
    assert "scripted engine refuses" in refused.value.message
    with pytest.raises(openai.InternalServerError):
        sdk.chat.completions.create(model=scripted.model, messages=HELLO, user="sim:error500")
    still_serves(scripted, sdk)


def test_an_engine_that_closes_is_502_and_names_no_address(scripted, sdk):
    with pytest.raises(openai.InternalServerError) as refused:
        sdk.chat.completions.create(model=scripted.model, messages=HELLO, user="sim:close")
    assert refused.value.status_code == 502
    assert "127.0.0.1" not in str(refused.value.body)
    still_serves(scripted, sdk)


def test_a_stream_cut_by_the_engine_ends_with_an_error_event(scripted, sdk):
    with pytest.raises(openai.APIError):
        for _ in sdk.chat.completions.create(model=scripted.model, messages=HELLO, stream=True, user="sim:cut"):
            pass
    still_serves(scripted, sdk)


def test_a_hang_up_reaches_the_engine(scripted, sdk):
    stream = sdk.chat.completions.create(model=scripted.model, messages=HELLO, max_tokens=1000, stream=True, user="sim:slow")
    next(iter(stream))
    stream.close()
    wait_until(lambda: scripted.engine.requests()[-1]["outcome"] == "hung_up")
    still_serves(scripted, sdk)


def test_a_stream_of_ten_thousand_tokens(scripted, sdk):
    events = sdk.chat.completions.create(
        model=scripted.model, messages=HELLO, max_tokens=10_000, stream=True, user="sim:tokens=10000", stream_options={"include_usage": True}
    )
    usage = None
    count = 0
    for event in events:
        count += bool(event.choices and event.choices[0].delta.content)
        usage = event.usage or usage
    assert count == 10_000
    assert usage.completion_tokens == 10_000


def test_a_wrong_key_is_401(guarded):
    with pytest.raises(openai.AuthenticationError) as refused:
        guarded.sdk(api_key="sk-cocoon-wrong").models.list()
    assert refused.value.code == "invalid_api_key"
    assert guarded.sdk(api_key=guarded.api_key).models.list().data


def test_overload_is_refused_with_retry_after(crowded):
    sdk = crowded.sdk()
    running = sdk.chat.completions.create(model=crowded.model, messages=HELLO, stream=True, user="sim:slow")
    next(iter(running))
    with pytest.raises((openai.RateLimitError, openai.InternalServerError)) as refused:
        sdk.chat.completions.create(model=crowded.model, messages=HELLO)
    assert refused.value.status_code in (429, 503)
    assert int(refused.value.response.headers["retry-after"]) > 0
    running.close()
    wait_until(lambda: crowded.engine.requests()[0]["outcome"] == "hung_up")
    still_serves(crowded, crowded.sdk(max_retries=5))


def test_a_worker_gone_mid_stream_is_an_error_event_not_silence(mortal):
    sdk = mortal.sdk()
    stream = iter(sdk.chat.completions.create(model=mortal.model, messages=HELLO, max_tokens=1000, stream=True, user="sim:slow"))
    next(stream)
    mortal.kill("worker")
    with pytest.raises(openai.APIError):
        for _ in stream:
            pass
    with pytest.raises(openai.InternalServerError) as refused:
        sdk.chat.completions.create(model=mortal.model, messages=HELLO)
    assert refused.value.status_code == 503
    assert int(refused.value.response.headers["retry-after"]) > 0
    mortal.start("worker")
    mortal.wait_ready()
    still_serves(mortal, sdk)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:10000", "localhost.evil.example"])
def test_dns_rebinding_is_refused(net, host):
    answer = httpx.get(f"{net.url}/v1/models", headers={"host": host}, trust_env=False)
    assert answer.status_code in (400, 403, 421)
    assert answer.json()["error"]["message"]


def test_a_cross_origin_post_is_refused(net):
    headers = {"content-type": "text/plain", "origin": "https://evil.example"}
    answer = httpx.post(f"{net.url}/v1/chat/completions", content=b"{}", headers=headers, trust_env=False)
    assert answer.status_code in (403, 415)
    headers["content-type"] = "application/json"
    answer = httpx.post(f"{net.url}/v1/chat/completions", content=b"{}", headers=headers, trust_env=False)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_a_remote_image_url_is_refused(scripted, sdk):
    def ask(url):
        content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
        return sdk.chat.completions.create(model=scripted.model, messages=[{"role": "user", "content": content}], max_tokens=4)

    before = len(scripted.engine.requests())
    for url in ("http://10.0.0.1/a.png", "https://example.com/a.png", "file:///etc/passwd"):
        with pytest.raises(openai.UnprocessableEntityError):
            ask(url)
    assert len(scripted.engine.requests()) == before
    assert ask("data:image/png;base64,AAAA").choices
