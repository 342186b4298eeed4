"""As much of a W&B server as `wandb sync` talks to: it keeps what it is told, and nothing leaves the machine."""

import gzip
import json
import os
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def alone():
    """The variables of a process that has a W&B service of its own, not this one's."""
    return {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}


@dataclass
class ServedRun:
    """A run as the server holds it: its lines of history by their place, config, tags, files and artifacts."""

    name: str
    told: dict = field(default_factory=dict)
    history: dict = field(default_factory=dict)
    summary: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)
    made: list = field(default_factory=list)
    used: list = field(default_factory=list)

    @property
    def rows(self):
        return [json.loads(self.history[place]) for place in sorted(self.history)]

    def bucket(self):
        return {
            "id": f"id-{self.name}", "name": self.name, "displayName": self.told.get("displayName"), "description": "",
            "config": self.told.get("config") or "{}", "sweepName": None, "historyLineCount": len(self.history),
            "eventsLineCount": 0, "logLineCount": 0, "eventsTail": "[]", "tags": self.told.get("tags"), "notes": None,
            "wandbConfig": "{}", "summaryMetrics": json.dumps(self.summary),
            "historyTail": json.dumps([self.history[max(self.history)]] if self.history else []),
            "project": {"id": "p", "name": "modalign", "entity": {"id": "e", "name": "somebody"}},
        }  # fmt: skip


class WandbServer:
    """Listens on a free port of this machine while it is entered."""

    def __init__(self):
        self.runs = {}
        self.asked = []
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def environment(self, folder):
        """The variables of a process that is to talk to this server and to keep what it keeps in `folder`."""
        return alone() | {
            "WANDB_BASE_URL": self.url, "WANDB_API_KEY": "0" * 40, "WANDB_CONFIG_DIR": str(folder),
            "WANDB_CACHE_DIR": str(folder), "WANDB_ERROR_REPORTING": "false",
        }  # fmt: skip

    def run(self, name):
        return self.runs.setdefault(name, ServedRun(name))

    def answer(self, query, given):
        """What a GraphQL operation gets."""
        operation = query.split("(")[0].split("{")[0].split()[-1]
        self.asked.append(operation)
        if operation == "UpsertBucket":
            name = given.get("name") or str(given["id"]).removeprefix("id-")
            run, new = self.run(name), name not in self.runs
            run.told |= {key: value for key, value in given.items() if value is not None}
            return {"upsertBucket": {"bucket": run.bucket(), "inserted": new}}
        if operation == "RunResumeStatus":
            known = self.runs.get(given["name"])
            return {"model": {"id": "p", "name": "modalign", "entity": {"id": "e", "name": "somebody"},
                              "bucket": known and known.bucket()}}  # fmt: skip
        if operation == "CreateRunFiles":
            names = [{"name": n, "uploadUrl": f"{self.url}/put/{given['run']}/{n}"} for n in given["files"]]
            return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": names}}
        if operation == "ArtifactType":
            return {"project": {"artifact": None}}  # no such type yet: it is made when it is needed
        if operation == "CreateArtifact":
            self.run(given["input"]["runName"]).made.append(given["input"])
            return {"createArtifact": {"artifact": {
                "id": f"a{len(self.asked)}", "state": "COMMITTED", "artifactSequence": {"id": "s"},
            }}}  # fmt: skip
        if operation == "UseArtifact":
            self.run(given["input"]["runName"]).used.append(given["input"])
            return {"useArtifact": {"artifact": {"id": given["input"]["artifactID"]}}}
        if operation == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        if operation == "Viewer":
            return {"viewer": {"id": "u", "entity": "somebody", "username": "somebody", "email": "", "flags": "{}",
                               "teams": {"edges": []}}}  # fmt: skip
        return {}

    def put(self, path, body):
        """A file of a run, or a stretch of its history at its place."""
        words = path.strip("/").split("/")
        if words[0] == "put":
            self.run(words[1]).files["/".join(words[2:])] = body
            return
        told = json.loads(body)
        run = self.run(words[3])
        for name, part in (told.get("files") or {}).items():
            if name == "wandb-history.jsonl":
                run.history |= {part["offset"] + i: line for i, line in enumerate(part["content"])}
            if name == "wandb-summary.json":
                run.summary = json.loads(part["content"][-1])

    def handler(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                answer = {}
                if self.path == "/graphql":
                    told = json.loads(body)
                    answer = {"data": server.answer(told["query"], told.get("variables") or {})}
                else:
                    server.put(self.path, body)
                self.reply(json.dumps(answer).encode())

            do_PUT = do_POST

            def do_GET(self):
                self.reply(b"{}")

            def reply(self, body):
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        return Handler
