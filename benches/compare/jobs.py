"""A running job of one implementation: commands in by pipes, answers out; it sleeps between commands."""
import os
import select
import shutil
import subprocess
import tempfile
import time


class Failed(Exception):
    """The job ended, or did not answer in time."""


def ended(process, limit):
    """As Popen.wait with a limit of so many seconds, but woken by the end: that looks after 1, 3, 7, 15 ms and so on."""
    watched = os.pidfd_open(process.pid)
    try:
        over, _, _ = select.select([watched], [], [], limit)
    finally:
        os.close(watched)
    if not over:
        raise subprocess.TimeoutExpired(process.args, limit)
    return process.wait()


class Job:
    def __init__(self, peer, ranks, crowded=False, patience=60.0):
        self.peer, self.ranks, self.patience = peer, ranks, patience
        self.folder = tempfile.mkdtemp(prefix="compare-")
        self.log = open(os.path.join(self.folder, "log"), "w+")
        self.commands, self.answers, self.rest = [], [], []
        for rank in range(ranks):
            for name, ends in (("in", self.commands), ("out", self.answers)):
                path = os.path.join(self.folder, f"{name}.{rank}")
                os.mkfifo(path)
                # Both ends, so that neither opening waits and a rank that ends is no end of file.
                ends.append(os.open(path, os.O_RDWR))
            self.rest.append(b"")
        self.process = subprocess.Popen(
            peer.command(ranks, [self.folder], crowded), env=peer.environment(crowded), stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log, start_new_session=True)
        try:
            ready = self.collect(range(ranks))
        except Failed:
            self.end(kill=True)
            raise
        self.version = " ".join(ready[0].removeprefix("ready ").split(",")[0].replace("\0", "").split())

    def ask(self, command, ranks=None):
        """One command for these ranks (or all), and their answers."""
        ranks = range(self.ranks) if ranks is None else ranks
        self.tell(command, ranks)
        return self.collect(ranks)

    def tell(self, command, ranks):
        for rank in ranks:
            os.write(self.commands[rank], (command + "\n").encode())

    def collect(self, ranks):
        until = time.monotonic() + self.patience
        lines = []
        for rank in ranks:
            while b"\n" not in self.rest[rank]:
                ready, _, _ = select.select([self.answers[rank]], [], [], 0.5)
                if ready:
                    self.rest[rank] += os.read(self.answers[rank], 1 << 16)
                elif self.process.poll() is not None or time.monotonic() > until:
                    raise Failed(f"{self.peer.title} with {self.ranks} ranks does not answer: {self.said()}")
            line, self.rest[rank] = self.rest[rank].split(b"\n", 1)
            lines.append(line.decode())
        return lines

    def said(self):
        self.log.seek(0)
        return self.log.read()[-600:].strip() or "and says nothing"

    def end(self, kill=False):
        for pipe in self.commands + self.answers:
            os.close(pipe)
        try:
            self.process.wait(0.01 if kill else 20)
        except subprocess.TimeoutExpired:
            # The session that this job began, and nobody else's.
            os.killpg(self.process.pid, 9)
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
