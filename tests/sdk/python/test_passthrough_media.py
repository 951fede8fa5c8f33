"""Embeddings, reranking, audio and images: bodies pass both ways untouched, and what they cost adds up.

The scripted engine's answers follow from the request alone (`cocoon-sim/src/script/media.rs`), so each test knows what
must come back: a transcript spells the SHA-256 of the file that reached the engine.
"""

import base64
import hashlib
import io
import json
import os
import time

import httpx
import openai
import pytest

TOKENS_PER_SECOND = 50
BYTES_PER_SECOND = 32_000


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def post(scripted, path, **options):
    return httpx.post(f"{scripted.url}/v1/{path}", trust_env=False, timeout=60, **options)


def last(scripted):
    """The last request that reached the engine, and its body."""
    request = scripted.engine.requests()[-1]
    return request, base64.b64decode(request["body_base64"])


def script(scripted, behaviour):
    httpx.post(f"{scripted.engine.url}/__script", json=behaviour, trust_env=False).raise_for_status()


def counted(scripted, headers):
    """Raw prompt and completion tokens in the receipt of an answer."""
    receipt_id = headers["x-cocoon-receipt"]
    for _ in range(100):
        receipt = httpx.get(f"{scripted.url}/v1/receipts/{receipt_id}", trust_env=False)
        if receipt.status_code == 200:
            usage = json.loads(receipt.json()["receipt"])["usage"]
            return usage["prompt"], usage["completion"]
        assert receipt.status_code == 202, receipt.text
        time.sleep(0.1)
    raise AssertionError("no receipt came")


def error_of(response, status, param=None):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param, error
    return error


def test_embeddings(scripted, sdk):
    texts = ["the first text", "a second"]
    # The SDK asks for base64 and decodes it.
    raw = sdk.embeddings.with_raw_response.create(model=scripted.model, input=texts)
    made = raw.parse()
    assert [len(each.embedding) for each in made.data] == [8, 8]
    expected = [byte / 256 for byte in hashlib.sha256(b"\0\0\0\0" + texts[0].encode()).digest()[:8]]
    assert made.data[0].embedding == expected
    assert made.usage.prompt_tokens == made.usage.total_tokens == 5
    assert counted(scripted, raw.headers) == (5, 0)
    numbers = sdk.embeddings.create(model=scripted.model, input=texts[0], encoding_format="float", dimensions=40)
    assert len(numbers.data[0].embedding) == 40
    assert numbers.data[0].embedding[:8] == expected
    # Nothing is added to the body: there is no token limit, and no stream.
    _, body = last(scripted)
    assert set(json.loads(body)) == {"model", "input", "encoding_format", "dimensions"}


def test_rerank(scripted):
    asked = {"model": scripted.model, "query": "a query", "documents": ["one", "two of them", "three"], "top_n": 2}
    response = post(scripted, "rerank", json=asked)
    assert response.status_code == 200, response.text
    answer = response.json()
    scores = [result["relevance_score"] for result in answer["results"]]
    assert len(scores) == 2 and scores == sorted(scores, reverse=True)
    assert counted(scripted, response.headers) == (answer["usage"]["total_tokens"], 0)
    assert int(response.headers["x-cocoon-cost-nano"]) > 0
    error_of(post(scripted, "rerank", json={"model": scripted.model, "query": "a"}), 400, "documents")


@pytest.mark.parametrize("size", [0, 1, 100_000, 1_000_003, 25 << 20])
def test_audio_arrives_byte_for_byte(scripted, sdk, size):
    audio = os.urandom(size)
    raw = sdk.audio.transcriptions.with_raw_response.create(
        model=scripted.model, file=("spe\"ech.wav", io.BytesIO(audio)), language="en", temperature=0
    )
    assert raw.parse().text == f"sha256 {sha256(audio)}"
    assert counted(scripted, raw.headers) == (-(-size // BYTES_PER_SECOND) * TOKENS_PER_SECOND, 0)


def test_a_form_arrives_as_it_was_sent(scripted):
    """All of it but our own fields, whatever client wrote it."""
    file = bytes(range(256)) * 40 + b"\r\n--not the boundary\r\n\r\n"
    own = {"timeout": "30", "max_coefficient": "4000", "enable_debug": "true", "request_guid": "a-guid"}
    kept = {"model": scripted.model, "prompt": "na\u00efve \U0001f980", "timestamp_granularities[]": ["word", "segment"]}
    files = {"file": ("a.bin", file, "application/octet-stream")}
    client = httpx.Client(trust_env=False)
    options = {"files": files, "headers": {"content-type": "multipart/form-data; boundary=aBoundary"}}
    plain = client.build_request("POST", f"{scripted.url}/v1/audio/transcriptions", data=kept, **options)
    response = client.post(plain.url, data={**own, **kept}, **options)
    assert response.status_code == 200, response.text
    assert response.headers["x-request-id"] == "a-guid"
    request, body = last(scripted)
    assert body == plain.read()
    headers = {name.lower(): value for name, value in request["headers"]}
    assert headers["content-type"] == "multipart/form-data; boundary=aBoundary"
    assert response.json()["text"] == f"sha256 {sha256(file)}"


def test_translations_and_verbose_transcripts(scripted, sdk):
    audio = os.urandom(80_000)
    raw = sdk.audio.translations.with_raw_response.create(model=scripted.model, file=("a.mp3", audio))
    assert raw.parse().text == f"sha256 {sha256(audio)}"
    raw = sdk.audio.transcriptions.with_raw_response.create(model=scripted.model, file=("a.mp3", audio), response_format="verbose_json")
    assert float(raw.parse().duration) == 2.5
    # It has no usage, but a length: two and a half seconds are three.
    assert counted(scripted, raw.headers) == (3 * TOKENS_PER_SECOND, 0)


def test_a_streamed_transcript(scripted, sdk):
    audio = os.urandom(80_000)
    asked = {"model": scripted.model, "file": ("a.mp3", audio), "stream": True}
    with sdk.audio.transcriptions.with_streaming_response.create(**asked) as raw:
        events = [json.loads(line.removeprefix("data: ")) for line in raw.iter_lines() if line.startswith("data: ")]
        assert raw.headers["content-type"] == "text/event-stream"
        headers = raw.headers
    assert [event["type"] for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    assert events[-1]["text"] == f"sha256 {sha256(audio)}" == events[0]["delta"] + events[1]["delta"]
    # The engine was asked for its usage, though the app did not.
    assert b'name="stream_include_usage"\r\n\r\ntrue' in last(scripted)[1]
    usage = events[-1]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (14, 9)
    assert counted(scripted, headers) == (14, 9)
    # The SDK's own reader of the same.
    stream = sdk.audio.transcriptions.create(**asked)
    assert [event.type for event in stream][-1] == "transcript.text.done"


def test_images(scripted, sdk):
    raw = sdk.images.with_raw_response.generate(model=scripted.model, prompt="a cat", n=2, size="512x512")
    images = [base64.b64decode(each.b64_json) for each in raw.parse().data]
    assert images == [b"\x89PNG\r\n\x1a\n" + hashlib.sha256(f"{index}\na cat".encode()).digest() for index in range(2)]
    # The engine said nothing, so it is the size that counts: twice 32 by 32 squares.
    prompt, completion = counted(scripted, raw.headers)
    assert completion == 2 * 32 * 32
    raw = sdk.images.with_raw_response.generate(model=scripted.model, prompt="a cat", quality="high")
    assert counted(scripted, raw.headers) == (5, 77)


def test_image_edits(scripted, sdk):
    images = [os.urandom(50_000), os.urandom(10)]
    raw = sdk.images.with_raw_response.edit(
        model=scripted.model, image=[(f"{index}.png", image) for index, image in enumerate(images)], prompt="a hat", size="256x256"
    )
    made = [base64.b64decode(each.b64_json) for each in raw.parse().data]
    assert made == [b"\x89PNG\r\n\x1a\n" + hashlib.sha256(image).digest() for image in images]
    assert counted(scripted, raw.headers)[1] == 16 * 16


@pytest.mark.parametrize("content_type", ["image/png", "audio/mpeg", "application/octet-stream"])
@pytest.mark.parametrize("size", [3, 70_000, 3 << 20])
def test_a_binary_answer_passes_untouched(scripted, content_type, size):
    script(scripted, {"kind": "binary", "content_type": content_type, "length": size})
    asked = {"model": scripted.model, "prompt": "x", "size": "16x32"}
    response = post(scripted, "images/generations", json=asked)
    trap = b'\ndata: {"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
    expected = (trap + bytes(range(256)) * (size // 256 + 1))[:size]
    assert response.headers["content-type"] == content_type
    assert response.content == expected
    # Bytes that look like usage are none.
    assert counted(scripted, response.headers)[1] == 2


def test_an_engines_own_error_passes(scripted, sdk):
    error = {"message": "not audio", "type": "invalid_request_error", "param": "file", "code": None}
    script(scripted, {"kind": "json", "status": 400, "body": {"error": error}})
    with pytest.raises(openai.BadRequestError, match="not audio"):
        sdk.audio.transcriptions.create(model=scripted.model, file=("a.mp3", b"no audio"))


@pytest.mark.parametrize("response_format", ["text", "srt", "vtt"])
def test_a_transcript_that_does_not_say_its_length_is_refused(scripted, sdk, response_format):
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.audio.transcriptions.create(model=scripted.model, file=("a.mp3", b"x"), response_format=response_format)
    assert refused.value.param == "response_format"
    assert refused.value.code == "unsupported_parameter"


def test_an_image_as_a_link_is_refused(scripted, sdk):
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.images.generate(model=scripted.model, prompt="x", response_format="url")
    assert refused.value.param == "response_format"


def test_what_cannot_be_served_is_named(scripted):
    file = {"file": ("a.mp3", b"x")}
    model = {"model": scripted.model}
    error_of(post(scripted, "audio/transcriptions", files={**file, "model": ("m", b"x")}), 400, "model")
    error_of(post(scripted, "audio/transcriptions", data=model), 415)
    error_of(post(scripted, "audio/transcriptions", json=model), 415)
    error_of(post(scripted, "audio/transcriptions", files=file), 400, "model")
    error_of(post(scripted, "audio/transcriptions", data={**model, "file": "http://169.254.169.254/"}, files={"other": ("a", b"x")}), 400, "file")
    error_of(post(scripted, "audio/transcriptions", data={**model, "stream": "maybe"}, files=file), 400, "stream")
    error_of(post(scripted, "images/edits", data={**model, "url": "http://169.254.169.254/"}, files={"image": ("a", b"x")}), 400, "url")
    error_of(post(scripted, "images/generations", json={**model, "prompt": "x", "size": "huge"}), 400, "size")
    error_of(post(scripted, "images/generations", json={**model, "prompt": "x", "width": 9}), 400, "width")
    error_of(post(scripted, "audio/speech", json={**model, "input": "x", "voice": "alloy"}), 404)
    error_of(httpx.get(f"{scripted.url}/v1/embeddings", trust_env=False), 405)


def test_a_model_that_is_given_twice_is_refused(scripted):
    files = [("model", (None, scripted.model)), ("model", (None, "another")), ("file", ("a.mp3", b"x"))]
    error_of(post(scripted, "audio/transcriptions", files=files), 400)

