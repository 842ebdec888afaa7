"""`make serve`: the service on loopback, with a token that is made the first time and kept, until Ctrl-C.

Everything is in .demo/ at the top of the repository: the database, the servers, the token, the key of its secrets.
`make clean` removes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from pathlib import Path

from demo.children import ROOT
from holdfast.seal import new_key

HOLDFAST = Path(sys.executable).with_name("holdfast")
PORT = 8760


def token_of(directory: Path) -> str:
    """The token; made, with the file that the service reads, if there is none yet."""
    path = directory / "token"
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(24) + "\n")
    token = path.read_text(encoding="ascii").strip()
    known = {hashlib.sha256(token.encode()).hexdigest(): {"user": "you", "project": "default", "roles": ["admin"]}}
    (directory / "tokens.json").write_text(json.dumps(known), encoding="utf-8")
    return token


def key_of(directory: Path) -> Path:
    """The file of the key that seals secrets; made, if there is none yet."""
    path = directory / "key"
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(new_key() + "\n")
    return path


def words_for(token: str, port: int) -> str:
    """What to type next."""
    url = f"http://127.0.0.1:{port}"
    return f"""
  The service: {url}     its token: {token}     Ctrl-C stops it; servers live on.

    export HOLDFAST_URL={url} HOLDFAST_TOKEN={token}
    curl -sH "X-Auth-Token: $HOLDFAST_TOKEN" $HOLDFAST_URL/v3/servers --json '{{"server": {{"name": "web"}}}}'
    curl -sH "X-Auth-Token: $HOLDFAST_TOKEN" $HOLDFAST_URL/v3/servers
    curl -NH "X-Auth-Token: $HOLDFAST_TOKEN" -H 'Accept: text/event-stream' $HOLDFAST_URL/v3/events

  More: docs/how-to/run-the-service.md
"""


def main() -> None:
    directory = ROOT / ".demo"
    directory.mkdir(mode=0o700, exist_ok=True)
    port = int(os.environ.get("HOLDFAST_PORT", PORT))
    print(words_for(token_of(directory), port), flush=True)
    settings = {
        "HOLDFAST_IDENTITY": "tokens",
        "HOLDFAST_TOKENS_FILE": str(directory / "tokens.json"),
        "HOLDFAST_SECRET_KEY_FILE": str(key_of(directory)),
        "HOLDFAST_SERVER_DIR": str(directory / "servers"),
        "HOLDFAST_SERVER_FAULTS": "1",
    }
    words = [str(HOLDFAST), "serve", "--database", f"sqlite:///{directory / 'service.db'}", "--port", str(port)]
    os.execve(HOLDFAST, words, {**os.environ, **settings})


if __name__ == "__main__":
    main()
