"""Checks by hand that the cache of `zimage models pull` is the one of huggingface_hub, in both directions.

    cargo build && pip install huggingface_hub && python python/check_hub_cache.py target/debug/zimage

A local server stands for the hub and serves goldens/models/tiny-a as `tiny/model`.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = pathlib.Path(__file__).parent.parent / "goldens/models/tiny-a"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LFS_BYTES = 16_000
FILES = {str(path.relative_to(MODEL)): path.read_bytes() for path in sorted(MODEL.rglob("*")) if path.is_file()}
served = []


def git_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def entry(path, data):
    sibling = {"rfilename": path, "size": len(data), "blobId": git_id(data)}
    if len(data) > LFS_BYTES:
        sibling["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return sibling


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        if path.startswith("/api/models/tiny/model/tree/"):
            tree = [{"type": "file", "path": name, "size": len(data), "oid": git_id(data)} for name, data in FILES.items()]
            return self.send(json.dumps(tree).encode(), {"Content-Type": "application/json"})
        if path.startswith("/api/models/tiny/model"):
            info = {"id": "tiny/model", "sha": COMMIT, "siblings": [entry(*file) for file in FILES.items()]}
            return self.send(json.dumps(info).encode(), {"Content-Type": "application/json"})
        name = path.split(f"/tiny/model/resolve/{COMMIT}/")[-1]
        data = FILES.get(name)
        if data is None:
            return self.send(b"", {"X-Error-Code": "EntryNotFound"}, 404)
        if self.command == "GET":
            served.append(name)
        lfs = len(data) > LFS_BYTES
        digest = hashlib.sha256(data).hexdigest() if lfs else git_id(data)
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))} if lfs else {}
        self.send(data, {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT, **linked})

    def send(self, data, headers, status=200):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    os.environ.update(HF_ENDPOINT=endpoint, HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1", NO_PROXY="127.0.0.1")
    from huggingface_hub import scan_cache_dir, snapshot_download

    def pull(cache, home):
        env = {**os.environ, "HF_HUB_CACHE": str(cache), "ZIMAGE_HOME": str(home)}
        done = subprocess.run([sys.argv[1], "models", "pull", "tiny/model"], env=env, check=True, capture_output=True, text=True)
        return pathlib.Path(done.stdout.strip())

    def check(folder):
        for name, data in FILES.items():
            assert (pathlib.Path(folder) / name).read_bytes() == data, name

    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        ours = pull(place / "first", place / "home")
        assert len(served) == len(FILES), served
        found = snapshot_download("tiny/model", cache_dir=place / "first", local_files_only=True)
        assert pathlib.Path(found) == ours, (found, ours)
        check(found)
        snapshot_download("tiny/model", cache_dir=place / "first")
        assert len(served) == len(FILES), "huggingface_hub fetched what was there"
        report = scan_cache_dir(place / "first")
        assert not report.warnings, report.warnings
        assert [repo.repo_id for repo in report.repos] == ["tiny/model"]
        print(f"huggingface_hub finds what zimage pulled: {len(FILES)} files, {report.size_on_disk} bytes")

        served.clear()
        theirs = snapshot_download("tiny/model", cache_dir=place / "second")
        fetched = len(served)
        assert fetched == len(FILES), served
        assert pull(place / "second", place / "home2") == pathlib.Path(theirs)
        assert len(served) == fetched, "zimage fetched what was there"
        print(f"zimage finds what huggingface_hub pulled: {fetched} files")


if __name__ == "__main__":
    main()
