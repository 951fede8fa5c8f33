"""The stock TON clients against `cocoon devnet`, and the devnet against SIGKILL.

`run.py --cocoon BIN --contracts FOLDER [--node-modules FOLDER] [--rounds N] [--seed N]`
1. runs the Node tests (ton.test.js) on a fresh devnet;
2. kills a devnet N times at a random moment under load, and after each restart asks it for every transaction and
   every message that it ever acknowledged.
It fails if a test fails or anything acknowledged is lost.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
READY_SECONDS = 30
BLOCK_MS = 20


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--cocoon", required=True, type=Path, help="the cocoon binary")
    parser.add_argument("--contracts", default=HERE.parents[1] / "contracts/compiled", type=Path, help="compiled contracts")
    parser.add_argument("--node-modules", default=HERE, type=Path, help="folder that holds node_modules with @ton/ton")
    parser.add_argument("--rounds", default=12, type=int, help="how often to kill")
    parser.add_argument("--seed", default=random.SystemRandom().randrange(1 << 32), type=int, help="of the moments of killing")
    options = parser.parse_args()
    cocoon, modules = options.cocoon.resolve(), options.node_modules.resolve()
    failed = stock_clients(cocoon, modules, options.contracts.resolve())
    failed |= kills(cocoon, modules, options.rounds, options.seed)
    sys.exit(1 if failed else 0)


class Devnet:
    """One `cocoon devnet` on a folder that outlives it, ended by its own process id."""

    def __init__(self, cocoon, folder):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "devnet.log"
        self.command = [str(cocoon), "devnet", "--data-dir", str(folder / "data"), "--port", str(self.port)]
        self.command += ["--block-ms", str(BLOCK_MS)]
        self.child = None

    def start(self):
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_SECONDS
        while True:
            if self.child.poll() is not None:
                raise RuntimeError(f"the devnet ended ({self.child.returncode}):\n{self.log.read_text()[-4000:]}")
            try:
                return self.status()
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < deadline, f"the devnet was not ready within {READY_SECONDS} s"
                time.sleep(0.01)

    def status(self):
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{self.url}/dev/status", timeout=10) as answer:
            return json.load(answer)["result"]

    def end(self, how):
        if self.child and self.child.poll() is None:
            self.child.send_signal(how)
            self.child.wait(timeout=20)
        return self.child.returncode


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def script(name, modules):
    """Modules are resolved beside a script, so the folder that has node_modules gets a copy of it."""
    path = modules / name
    if modules != HERE:
        path.write_bytes((HERE / name).read_bytes())
    return str(path)


def stock_clients(cocoon, modules, contracts):
    with tempfile.TemporaryDirectory(prefix="cocoon-ton-") as folder:
        devnet = Devnet(cocoon, Path(folder))
        devnet.start()
        try:
            facts = json.dumps({"url": devnet.url, "contracts": str(contracts)})
            environment = {**os.environ, "COCOON_DEVNET": facts}
            command = ["node", "--test", "--test-concurrency=1", script("ton.test.js", modules)]
            failed = subprocess.run(command, cwd=modules, env=environment).returncode != 0
        finally:
            code = devnet.end(signal.SIGINT)
        if code != 0:
            print(f"the devnet did not stop cleanly ({code}):\n{devnet.log.read_text()[-4000:]}")
        return failed or code != 0


def kills(cocoon, modules, rounds, seed):
    """Kills and restarts; true when something acknowledged is gone."""
    print(f"killing a devnet {rounds} times under load, seed {seed}", flush=True)
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="cocoon-ton-") as folder:
        devnet = Devnet(cocoon, Path(folder))
        head = devnet.start()["seqno"]
        load = subprocess.Popen(
            ["node", script("load.js", modules), devnet.url], cwd=modules, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            for number in range(1, rounds + 1):
                say(load, "load")
                time.sleep(moments.uniform(0.2, 1.5))
                devnet.end(signal.SIGKILL)
                restarted = time.monotonic()
                after = devnet.start()["seqno"]
                restarted = time.monotonic() - restarted
                say(load, "check")
                answer = load.stdout.readline()
                if not answer:
                    print(f"round {number}: the check ended without an answer; repeat with --seed {seed}")
                    return True
                found = json.loads(answer)
                print(
                    f"  round {number}: {found['transactions']} transactions and {found['messages']} messages "
                    f"acknowledged so far, {len(found['lost'])} lost; up again after {restarted * 1000:.0f} ms",
                    flush=True,
                )
                if found["lost"] or after < head:
                    print("\n".join(found["lost"][:20]) or f"block {head} became {after}")
                    print(f"repeat with --seed {seed}")
                    return True
                head = after
            return found["messages"] == 0
        finally:
            load.stdin.close()
            load.kill()
            load.wait()
            devnet.end(signal.SIGKILL)


def say(process, word):
    process.stdin.write(word + "\n")
    process.stdin.flush()


if __name__ == "__main__":
    main()
