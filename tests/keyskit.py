"""zmq-keys as a user runs it: a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).with_name("zmq-keys")


def zmq_keys(*arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def token_of(path: Path) -> str:
    """The certificate in N.key, or the token in N.cert or N.crl."""
    text = path.read_text()
    return json.loads(text)["certificate"] if path.suffix == ".key" else text.strip()


def secrets_of(folder: Path) -> list[str]:
    documents = [json.loads(path.read_bytes()) for path in folder.glob("*.key")]
    return [document[key] for document in documents for key in ("ed25519", "curve")]
