"""Starts Cocoon networks for the SDK tests: processes on loopback, ended by their own process ids.

`Networks().up(target)` is one `cocoon up` behind which an engine runs; `roles(kind)` is client, proxy and
worker as three processes whose configuration makes a failure easy to reach. Each starts once, at first use.
"""

import hashlib
import os
import re
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
import openai

TARGETS = ("scripted", "embedded", "llama")
EMBEDDED_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
READY_SECONDS = 60
HERE = Path(__file__).parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """One program, its log in a file, ended when stopped."""

    def __init__(self, command, log, reads_address=False, **options):
        self.name = Path(command[0]).name + " " + str(command[1])
        self.log = log
        out = subprocess.PIPE if reads_address else open(log, "ab")
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=open(log, "ab"), **options)
        self.address = self.child.stdout.readline().decode().strip() if reads_address else None

    def stop(self, *, kill=False):
        self.child.kill() if kill else self.child.terminate()
        self.child.wait(timeout=20)

    def check(self):
        if self.child.poll() is not None:
            raise RuntimeError(f"{self.name} ended ({self.child.returncode}):\n{Path(self.log).read_text()[-4000:]}")


class Engine:
    """The scripted engine, as a test sees it."""

    def __init__(self, address):
        self.url = f"http://{address}"

    def requests(self):
        """What reached the engine since it started, oldest first."""
        return [each for each in httpx.get(f"{self.url}/__requests", trust_env=False).json() if each["method"] == "POST"]


class Network:
    """One running network and how to reach it."""

    def __init__(self, folder, target, model, engine):
        self.folder, self.target, self.model, self.engine = folder, target, model, engine
        self.is_real = engine is None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api_key = None
        self.processes = {}
        self.commands = {}

    def sdk(self, **options):
        options = {"api_key": self.api_key or "unused", "max_retries": 0, "timeout": 60, **options}
        return openai.OpenAI(base_url=f"{self.url}/v1", http_client=httpx.Client(trust_env=False), **options)

    def start(self, name):
        self.processes[name] = Process(self.commands[name], self.folder / f"{self.target}-{name}.log")

    def kill(self, name):
        self.processes.pop(name).stop(kill=True)

    def wait_ready(self):
        """Until the client answers a request, not only listens."""
        deadline = time.monotonic() + READY_SECONDS
        headers = {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        while True:
            for process in self.processes.values():
                process.check()
            try:
                models = httpx.get(f"{self.url}/v1/models", headers=headers, trust_env=False)
                if models.status_code == 200 and models.json()["data"]:
                    return self
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, f"{self.target} was not ready within {READY_SECONDS} s"
            time.sleep(0.05)

    def stop(self):
        for process in self.processes.values():
            process.stop()


class Networks:
    """Every network that was asked for; ends them all on exit."""

    def __init__(self):
        self.cocoon = os.environ["COCOON_BIN"]
        self.sim = os.environ["COCOON_SIM_BIN"]
        self.gguf = os.environ["COCOON_TEST_MODEL"]
        self.temporary = tempfile.TemporaryDirectory(prefix="cocoon-sdk-")
        self.folder = Path(self.temporary.name)
        self.started = {}
        self.engines = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for network in self.started.values():
            network.stop()
        for engine in self.engines:
            engine.stop()
        self.temporary.cleanup()

    def up(self, target):
        """`cocoon up` with this kind of engine."""
        return self.once(target, lambda: self.start_up(target))

    def roles(self, kind):
        """Three processes, configured as `kind` says."""
        return self.once(kind, lambda: self.start_roles(kind))

    def once(self, name, start):
        if name not in self.started:
            self.started[name] = start()
        return self.started[name]

    def engine(self):
        process = Process([self.sim, "engine", "--scripted"], self.folder / "engine.log", reads_address=True)
        self.engines.append(process)
        return Engine(process.address)

    def llama(self):
        import sys

        command = [sys.executable, str(HERE / "llama_server.py"), self.gguf, str(free_port())]
        process = Process(command, self.folder / "llama.log", reads_address=True)
        self.engines.append(process)
        return process.address

    def start_up(self, target):
        engine = self.engine() if target == "scripted" else None
        where = {"scripted": lambda: engine.url, "llama": self.llama, "embedded": lambda: None}[target]()
        network = Network(self.folder, target, None, engine)
        command = [self.cocoon, "up", "--port", str(network.port), "--data-dir", str(self.folder / target)]
        command += ["--engine", where] if where else ["--model-file", self.gguf]
        network.commands["up"] = command
        network.start("up")
        network.wait_ready()
        network.model = network.sdk().models.list().data[0].id
        return network

    def start_roles(self, kind):
        engine = self.engine()
        network = Network(self.folder, kind, "scripted", engine)
        clients, workers = (f"127.0.0.1:{free_port()}" for _ in range(2))
        if kind == "guarded":
            made = subprocess.run([self.cocoon, "key", "new"], capture_output=True, text=True, check=True)
            network.api_key = made.stdout.strip()
            keys = re.search(r"api_keys = .*", made.stderr).group()
        else:
            keys = ""
        slots = 1 if kind == "crowded" else 8
        queue = "queue_max = 0" if kind == "crowded" else ""
        secret = "a secret of these tests"
        secret_hash = hashlib.sha256(secret.encode()).hexdigest()
        configs = {
            "proxy": f'[listen]\nclients = "{clients}"\nworkers = "{workers}"\n[proxy]\nis_test = true\nclient_secret_hash = "{secret_hash}"\n{queue}\n',
            "worker": f'proxies = ["{workers}"]\n[engine]\nkind = "openai-http"\nurl = "{engine.url}"\n[worker]\nis_test = true\nmax_active_requests = {slots}\n',
            "client": f'proxies = ["{clients}"]\n[client]\nlisten = "127.0.0.1:{network.port}"\nis_test = true\nauth_secret = "{secret}"\n{keys}\n',
        }
        # One simulated platform for all three: links are attested as they are everywhere.
        attestation = f'[attestation]\ninsecure_simulated_tee = "{self.folder / kind}-tee"\n'
        for role, text in configs.items():
            file = self.folder / f"{kind}-{role}.toml"
            file.write_text(text + attestation)
            network.commands[role] = [self.cocoon, role, "--config", str(file)]
            network.start(role)
        return network.wait_ready()


