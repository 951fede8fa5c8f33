#!/usr/bin/env python3
"""Compares cocoon-llm with llama.cpp on the same GGUF file.

    python compare.py --model PATH --generate PATH_TO_THE_GENERATE_EXAMPLE

Checks, on 20 fixed prompts:
  * the prompt ids are equal;
  * the first 16 greedy tokens are equal, or at the first difference llama.cpp itself was nearly
    undecided: its log-probability for our token is within --gap-max of its best one.
    Inputs of every product are rounded to 8 bits, so a difference in the last bit of a float can
    grow; the reference is llama.cpp without flash attention and with a 32-bit cache, which is what
    we compute. How far llama.cpp's default settings are from that reference is printed beside it:
    --gap-max is of that size.
And measures, in the same run, one thread each, tokens per CPU second:
  * prefill of a prompt of about 500 tokens, decoding of 64 tokens after a short prompt, and the same
    for 4 sequences at once (llama.cpp with 4 slots); ours must reach --ratio-min of llama.cpp's.
    Rounds alternate; the median of --rounds counts.
--speed-only leaves the checks out; --json writes what was measured to a file.

Needs the package `xllamacpp` and the standard library. Exit status 0 means every check passed.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import threading
import urllib.request

import xllamacpp

TOKENS = 16
DECODED = 64
SEQUENCES = 4
PHASES = ("prefill", "decode", f"decode, {SEQUENCES} sequences")

CHATS = [
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "List three prime numbers above 100.",
    "Explain in one sentence why the sky is blue.",
    "Translate to German: The weather is nice today.",
    "Who wrote Romeo and Juliet?",
    "What is 17 + 25?",
    "Give me a recipe for pancakes.",
    "Summarise: The quick brown fox jumps over the lazy dog, which was asleep in 1984.",
    "How do I reverse a list in Python?",
]
CONVERSATIONS = [
    [
        {"role": "system", "content": "You are a terse assistant."},
        {"role": "user", "content": "Name a fruit."},
        {"role": "assistant", "content": "Apple."},
        {"role": "user", "content": "Another one."},
    ],
    [
        {"role": "user", "content": "  Spaces,\ttabs\n\nand newlines \u2014 caf\u00e9, \u65e5\u672c\u8a9e, \U0001F980!  "},
    ],
]
TEXTS = [
    "Once upon a time",
    "The three laws of robotics are",
    "def fibonacci(n):\n    ",
    "In 1969, Apollo 11",
    "SELECT name, COUNT(*) FROM users WHERE id > 12345",
    "We'll see what they've done; it's 3.14159 and it's 100% don't-care.",
    "Der schnelle braune Fuchs springt \u00fcber",
    "{\"key\": [1, 22, 333], \"other\":",
]
LONG = " ".join(f"The quick brown fox number {i} jumped over a lazy dog." for i in range(37))
SHORT = "Once upon a time there was a"


def prompts():
    chats = [[{"role": "user", "content": text}] for text in CHATS]
    return [{"messages": messages} for messages in chats + CONVERSATIONS] + [
        {"prompt": text} for text in TEXTS
    ]


class LlamaCpp:
    """llama.cpp's server code in this process, one thread, no prompt cache."""

    def __init__(self, model, exact=False, slots=1):
        params = xllamacpp.CommonParams()
        params.model.path = model
        params.n_parallel = slots
        params.n_ctx = 2048
        params.cpuparams.n_threads = 1
        params.cpuparams_batch.n_threads = 1
        params.cache_ram_mib = 0
        if exact:
            params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
            params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
            params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        self.server = xllamacpp.Server(params)
        self.system = xllamacpp.get_system_info()

    def complete(self, prompt, tokens, probabilities=0, ignore_eos=False):
        body = {
            "prompt": prompt,
            "n_predict": tokens,
            "temperature": 0,
            "top_k": 1,
            "cache_prompt": False,
            "ignore_eos": ignore_eos,
            "n_probs": probabilities,
        }
        return self.call(self.server.handle_completions, body)

    def post(self, path, body):
        """The calls that exist only over HTTP: rendering a template, tokenising."""
        request = urllib.request.Request(
            self.server.listening_address + path,
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def prompt_ids(self, request):
        if "messages" in request:
            text = self.post("/apply-template", {"messages": request["messages"]})["prompt"]
        else:
            text = request["prompt"]
        return self.post("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]

    @staticmethod
    def call(handler, body):
        answer = handler(body)
        answer = answer if isinstance(answer, dict) else json.loads(answer)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


class Ours:
    """The `generate` example, one thread, fed line by line."""

    def __init__(self, binary, model):
        self.process = subprocess.Popen(
            [binary, model, "1", str(SEQUENCES)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.loaded = json.loads(self.process.stdout.readline())
        self.eos_ids = self.loaded["eos_ids"]

    def run(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the generate example ended")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def compare_tokens(ours, exact, default, gap_max):
    """Returns the failures; prints a line a prompt."""
    failures = []
    equal = {"ours": 0, "default": 0}
    for number, request in enumerate(prompts()):
        mine = ours.run(max_tokens=TOKENS, **request)
        ids = exact.prompt_ids(request)
        if mine["prompt_ids"] != ids:
            failures.append(f"prompt {number}: ids differ: {mine['prompt_ids']} {ids}")
            continue
        steps = greedy_steps(exact, ids)
        their_default = [step["id"] for step in greedy_steps(default, ids)]
        verdict, failed = compare_answer(mine["ids"], steps, ours.eos_ids, gap_max)
        self_verdict, _ = compare_answer(their_default, steps, ours.eos_ids, gap_max)
        equal["ours"] += verdict == "equal"
        equal["default"] += self_verdict == "equal"
        print(f"prompt {number:2}: {len(ids):3} ids equal; ours {verdict}; llama.cpp's default {self_verdict}")
        if failed:
            failures.append(f"prompt {number}: {verdict}")
    total = len(prompts())
    print(f"first {TOKENS} tokens equal to llama.cpp's exact attention: ours {equal['ours']} of {total}, "
          f"llama.cpp's default {equal['default']} of {total}")
    return failures


def greedy_steps(llama, ids):
    return llama.complete(ids, TOKENS, probabilities=20)["choices"][0]["logprobs"]["content"]


def compare_answer(answer, steps, eos_ids, gap_max):
    """Compares ids with the reference's; neither lists the token that ends an answer."""
    reference = [step["id"] for step in steps]
    for position, step in enumerate(steps):
        token = answer[position] if position < len(answer) else None
        if token == reference[position]:
            continue
        top = {entry["id"]: entry["logprob"] for entry in step["top_logprobs"]}
        ours = [token] if token is not None else eos_ids
        gap = top[reference[position]] - max(top.get(id, float("-inf")) for id in ours)
        return f"differs at {position}, gap {gap:.4f}", gap > gap_max
    # The reference ended and we went on: its probabilities at the end are not reported.
    if len(answer) > len(steps):
        return f"goes on after {len(steps)}", True
    return "equal", False


def measure(ours, llama, llama_slots, rounds):
    """Tokens per CPU second: {(engine, phase): [one number a round]}."""
    speeds = {(engine, phase): [] for engine in ("ours", "llama.cpp") for phase in PHASES}
    prefill, decode, together = PHASES
    for _ in range(rounds):
        mine = ours.run(prompt=LONG, max_tokens=1, ignore_eos=True)
        speeds["ours", prefill].append(len(mine["prompt_ids"]) / mine["prefill_cpu_s"])
        mine = ours.run(prompt=SHORT, max_tokens=1 + DECODED, ignore_eos=True)
        speeds["ours", decode].append(DECODED / mine["decode_cpu_s"])
        mine = ours_together(ours, 1 + DECODED) - ours_together(ours, 1)
        speeds["ours", together].append(SEQUENCES * DECODED / mine)

        start = cpu_seconds()
        theirs = llama.complete(LONG, 1, ignore_eos=True)
        speeds["llama.cpp", prefill].append(theirs["timings"]["prompt_n"] / (cpu_seconds() - start))
        theirs = llama_together([llama], 1 + DECODED) - llama_together([llama], 1)
        speeds["llama.cpp", decode].append(DECODED / theirs)
        slots = [llama_slots] * SEQUENCES
        theirs = llama_together(slots, 1 + DECODED) - llama_together(slots, 1)
        speeds["llama.cpp", together].append(SEQUENCES * DECODED / theirs)
    return speeds


def sequence_prompt(index):
    """Prompts of one length that differ from the first token on."""
    return f"{'ABCDEFGH'[index]}. {SHORT}"


def ours_together(ours, tokens):
    """CPU seconds of a prompt and so many tokens, as often as there are sequences."""
    requests = [
        {"prompt": sequence_prompt(index), "max_tokens": tokens, "ignore_eos": True} for index in range(SEQUENCES)
    ]
    answer = ours.run(together=requests)
    assert answer["completion_tokens"] == SEQUENCES * tokens
    return answer["cpu_s"]


def llama_together(slots, tokens):
    """The same, of calls that run at once."""

    def complete(index):
        timings = slots[index].complete(sequence_prompt(index), tokens, ignore_eos=True)["timings"]
        counted.append(timings["predicted_n"])

    counted = []
    start = cpu_seconds()
    threads = [threading.Thread(target=complete, args=(index,)) for index in range(len(slots))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = cpu_seconds() - start
    assert counted == [tokens] * len(slots), counted
    return spent


def report(speeds, ratio_min):
    """Prints the table; returns what is to be kept, and the failures."""
    failures = []
    kept = {}
    print(f"{'tokens per CPU second':30}{'min':>9}{'median':>9}{'max':>9}")
    for (engine, phase), values in speeds.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        kept.setdefault(phase, {})[engine] = {"min": low, "median": middle, "max": high}
        print(f"{engine + ' ' + phase:30}{low:9.1f}{middle:9.1f}{high:9.1f}")
    for phase, engines in kept.items():
        ratio = engines["ours"]["median"] / engines["llama.cpp"]["median"]
        engines["ratio"] = ratio
        print(f"{phase} ratio {ratio:.2f} (at least {ratio_min})")
        if ratio < ratio_min:
            failures.append(f"{phase} ratio {ratio:.2f} is below {ratio_min}")
    return kept, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--generate", required=True)
    parser.add_argument("--gap-max", type=float, default=0.5, help="nats (default %(default)s)")
    parser.add_argument("--ratio-min", type=float, default=0.7)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--speed-only", action="store_true")
    parser.add_argument("--json", help="where to write what was measured")
    arguments = parser.parse_args()

    ours = Ours(arguments.generate, arguments.model)
    llama = LlamaCpp(arguments.model)
    print(f"llama.cpp: {llama.system.strip()}")
    print(f"our load: {ours.loaded['load_cpu_s']:.2f} CPU s")
    failures = []
    if not arguments.speed_only:
        failures += compare_tokens(ours, LlamaCpp(arguments.model, exact=True), llama, arguments.gap_max)
    llama_slots = LlamaCpp(arguments.model, slots=SEQUENCES)
    kept, too_slow = report(measure(ours, llama, llama_slots, arguments.rounds), arguments.ratio_min)
    failures += too_slow
    if arguments.json:
        with open(arguments.json, "w") as out:
            json.dump({"tokens_per_cpu_second": kept, "load_cpu_s": ours.loaded["load_cpu_s"]}, out, indent=2)
    ours.close()
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
