"""The official SDKs against Cocoon, behind each kind of engine.

`run.py --cocoon BIN --sim BIN --model GGUF [--target scripted|embedded|llama] [PYTEST ARGUMENTS]`
runs the Python tests (pytest) and the Node tests (node --test) and fails if any of them fails.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import network

HERE = Path(__file__).parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--cocoon", required=True, help="the cocoon binary, with the embedded engine")
    parser.add_argument("--sim", required=True, help="the cocoon-sim binary (scripted engine)")
    parser.add_argument("--model", required=True, help="SmolLM2-135M-Instruct Q4_1 as GGUF")
    parser.add_argument("--node-modules", default=HERE / "node", help="folder that holds node_modules with the SDKs")
    parser.add_argument("--target", action="append", choices=network.TARGETS, help="only these engines")
    options, pytest_arguments = parser.parse_known_args()
    targets = options.target or list(network.TARGETS)
    os.environ.update(
        COCOON_BIN=str(Path(options.cocoon).resolve()),
        COCOON_SIM_BIN=str(Path(options.sim).resolve()),
        COCOON_TEST_MODEL=str(Path(options.model).resolve()),
        COCOON_TARGETS=",".join(targets),
    )
    failed = python_tests(pytest_arguments)
    for target in targets:
        failed |= node_tests(target, Path(options.node_modules).resolve())
    sys.exit(1 if failed else 0)


def python_tests(arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=5", str(HERE / "python"), *arguments]
    return subprocess.run(command).returncode != 0


def node_tests(target, modules):
    with network.Networks() as networks:
        net = networks.up(target)
        facts = {"url": net.url, "model": net.model, "real": net.is_real, "engine_url": net.engine.url if net.engine else None}
        if net.engine:
            facts |= {kind: three_processes(networks.roles(kind)) for kind in ("guarded", "crowded", "mortal")}
        environment = {**os.environ, "COCOON_SDK": json.dumps(facts)}
        print(f"node SDK, {target} engine", flush=True)
        # Modules are resolved beside the test files, so the folder that has node_modules gets copies of them.
        tests = []
        for source in sorted((HERE / "node").glob("*.test.js")):
            tests.append(modules / source.name)
            if modules != HERE / "node":
                tests[-1].write_bytes(source.read_bytes())
        return subprocess.run(["node", "--test", "--test-concurrency=1", *map(str, tests)], cwd=modules, env=environment).returncode != 0


def three_processes(net):
    return {"url": net.url, "model": net.model, "api_key": net.api_key, "worker": net.processes["worker"].child.pid}


if __name__ == "__main__":
    main()
