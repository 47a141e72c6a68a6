"""A server of its own for each run: a temporary home and a free port."""

import os
import shutil
import subprocess
import tempfile
import threading

START_S = 60


class Server:
    """`BINARY serve`, listening when the block begins, gone when it ends."""

    def __init__(self, binary, *args):
        self.command = [binary, "serve", "--port", "0", *args]
        self.log = []

    def __enter__(self):
        self.home = tempfile.mkdtemp(prefix="zimage-clients-")
        environment = {**os.environ, "ZIMAGE_HOME": self.home}
        self.process = subprocess.Popen(self.command, env=environment, stderr=subprocess.PIPE, text=True)
        self.url = None
        listening = threading.Event()
        threading.Thread(target=self._read_log, args=[listening], daemon=True).start()
        if not listening.wait(START_S) or self.url is None:
            self.__exit__()
            raise SystemExit("the server does not listen:\n" + "".join(self.log))
        return self

    def _read_log(self, listening):
        for line in self.process.stderr:
            self.log.append(line)
            if self.url is None and line.startswith("listening on "):
                self.url = line.removeprefix("listening on ").strip()
                listening.set()
        listening.set()

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)
