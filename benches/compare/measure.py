"""Takes the samples: every implementation in turn, round after round, so that each pair of figures was taken within the same second."""
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time

import peers
from jobs import Failed, Job, ended
from peers import loud

# Half a round trip of one line, ns: below the first one, two hardware threads of one core, whose caches are one (EPYC: 20 to 28 ns; two cores of one die 52 to 90).
ONE_CORE, NEAR, FAR = 35.0, 130.0, 200.0
ENOUGH = 20
COLLECTIVES = ["bcast", "reduce", "allreduce", "gather", "scatter", "allgather", "alltoall", "reducescatter", "scan"]
SIZES = [8, 1 << 10, 64 << 10, 1 << 20]
RANKS_ON_FEW = [4, 8, 16]
GROUPS = ["latency", "bandwidth", "collectives", "completion", "crowded", "blocked", "start", "killed", "memory", "shared", "mpi"]
# The rows in which Tercio goes through an MPI, beside that MPI itself.
THROUGH_MPI = "through "
# The rows' key of Tercio's layouts without a runtime.
BARE = "bare"
# Messages below this travel in slots with a flag, by the limit's way of moving them; from here through a ring in chunks.
RINGED = 4096


def placement(sample):
    """Where the two cores sat during a sample, or None if they moved, sat in between, or were not two."""
    _, _, before, after = sample[:4]
    low, high = min(before, after), max(before, after)
    if low > ONE_CORE and high < NEAR and high < 1.5 * low:
        return "near"
    if low > FAR and high < 1.3 * low:
        return "far"
    return None


def elapsed(op, answers):
    """A step of the slowest rank; for messages by rank 0's clock, which ends with the answer."""
    times = [float(answer.split()[0]) for answer in answers]
    return times[0] if op in ("latency", "exchange", "bandwidth", "bibandwidth") else max(times)


class Session:
    """The jobs of all implementations with two ranks, alive side by side, and what they gave."""

    def __init__(self, peers, store, options):
        self.peers, self.store, self.options, self.jobs = peers, store, options, {}
        self.rounds = 3 if options.quick else 40
        self.batch = 3e5 if options.quick else 1.5e6
        self.shapes = {}

    def open(self, ranks, crowded=False):
        self.close()
        for peer in self.peers:
            if crowded and not peer.crowded and peer.key != "mpich4":
                continue
            try:
                self.jobs[peer.key] = Job(peer, ranks, crowded)
                self.store["versions"][peer.key] = self.jobs[peer.key].version
            except Failed as failed:
                loud(str(failed))

    def close(self):
        for job in self.jobs.values():
            job.end()
        self.jobs = {}

    def drop(self, key, why):
        loud(str(why))
        self.jobs.pop(key).end(kill=True)

    # One cell: an operation of a size.

    def steps(self, job, op, size, rewrite, synced):
        """How many steps make a batch, so that one costs about as much for every implementation: by a second look, when memory that is new at first has been used."""
        batch = lambda steps: elapsed(op, job.ask(f"run {op} {size} {steps} {rewrite:d} {synced:d}")) * steps
        fitting = lambda steps, time_of_all: max(1, int(self.batch / time_of_all * steps))
        steps = 1
        while (time_of_all := batch(steps)) <= self.batch / 4 and steps < 1 << 20:
            steps *= 2
        steps = fitting(steps, time_of_all)
        return fitting(steps, batch(steps))

    def cell(self, op, size, limit=None, synced=False, only=None, name=None):
        """Samples of every implementation; the limit in the two processes of the first."""
        rewrite = self.options.rewrite
        plans = {}
        for key in list(self.jobs):
            if only and key not in only:
                continue
            try:
                plans[key] = self.steps(self.jobs[key], op, size, rewrite, synced)
            except Failed as failed:
                self.drop(key, failed)
        samples = {key: [] for key in plans}
        limits = []
        for number in range(self.rounds):
            for key in list(plans):
                try:
                    answers = self.jobs[key].ask(f"run {op} {size} {plans[key]} {rewrite:d} {synced:d}")
                except Failed as failed:
                    self.drop(key, failed)
                    del plans[key]
                    continue
                before, after = map(float, answers[0].split()[1:])
                samples[key].append([number, elapsed(op, answers) / per_step(op), before, after])
                if limit and key == next(iter(self.jobs)):
                    limits.append([number, *self.limit(self.jobs[key], limit, size, rewrite, op)])
            if self.settled(samples, number):
                break
        if limits:
            samples["limit"] = limits
        self.store["cells"][self.key(name or op, size, 2)] = samples
        self.progress(name or op, size, samples)

    def settled(self, samples, number):
        """Enough samples of everybody in one placement."""
        if number + 1 < ENOUGH:
            return False
        ours = next(iter(samples.values()), [])
        return max(sum(placement(sample) == where for sample in ours) for where in ("near", "far")) >= ENOUGH

    def key(self, op, size, ranks):
        return f"{op}/{size}/{ranks}" + ("/rewrite" if self.options.rewrite else "")

    def progress(self, op, size, samples):
        if self.options.verbose:
            middle = {key: f"{sorted(s[1] for s in values)[len(values) // 2]:.0f}" for key, values in samples.items() if values}
            print(f"  {op} {size}: {middle} ns", file=sys.stderr, flush=True)

    def limit(self, job, kind, size, rewrite, op):
        """[ns, before, after] of a limit: 'message' is waited for, 'stream' is not; the size of a barrier is a word's."""
        size = max(size, 8)
        ask = lambda command: float(job.ask("limit " + command, (0, 1))[0])
        if size < RINGED:
            which = "slots" if kind == "message" else "slotstream"
            command = f"{which} {size} {300 if kind == 'message' else 5000} 0 0"
        else:
            chunk, ring = self.shape(job, kind, size)
            which, work = ("ring", 4 << 20) if kind == "message" else ("ringstream", 16 << 20)
            command = f"{which} {size} {min(max(work // size, 2), 200)} {chunk} {ring}"
        before = ask("slots 8 300 0 0")
        time_ = ask(command)
        if rewrite:
            share = 1 if op == "latency" else 1 / per_step(op)
            time_ += share * ask(f"fill {size} {min(max((1 << 20) // size, 2), 500)} 0 0")
        return [time_, before, ask("slots 8 300 0 0")]

    def shape(self, job, kind, size):
        """The chunk and ring that are best for this size: looked for once."""
        if (kind, size) not in self.shapes:
            which = "ring" if kind == "message" else "ringstream"
            count = min(max((1 << 20) // size, 2), 100)
            trials = []
            for ring in (128 << 10, 256 << 10, 1 << 20):
                for chunk in (4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10):
                    if chunk <= size:
                        times = [float(job.ask(f"limit {which} {size} {count} {chunk} {ring}", (0, 1))[0]) for _ in range(3)]
                        trials.append((min(times[1:]), chunk, ring))
            self.shapes[kind, size] = min(trials)[1:]
        return self.shapes[kind, size]

    # The groups of rows.

    @contextlib.contextmanager
    def bare(self):
        """Tercio's layouts without a runtime take part by turns, too."""
        try:
            self.jobs[BARE] = Job(peers.bare(), 2)
        except (Failed, OSError, subprocess.CalledProcessError) as failed:
            loud(f"the bare layouts: {failed}")
        yield
        if BARE in self.jobs:
            self.jobs.pop(BARE).end()

    def latency(self):
        sizes = [8, 4096, 65536] if self.options.quick else [1 << power for power in range(3, 27)]
        with self.bare():
            for size in self.chosen(sizes):
                self.cell("latency", size, "message")

    def bandwidth(self):
        sizes = [4096] if self.options.quick else [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20]
        with self.bare():
            self.cell("bandwidth", 8, "stream")
            for size in self.chosen(sizes):
                self.cell("bandwidth", size, "stream")
                self.cell("bibandwidth", size, "stream")
            for size in self.chosen([8, 64 << 10]):
                self.cell("exchange", size, "message")

    def collectives(self):
        self.cell("barrier", 0, "message")
        for op in COLLECTIVES:
            for size in self.chosen([8, 64 << 10] if self.options.quick else SIZES):
                self.cell(op, size, "stream" if op in ("bcast", "reduce", "gather", "scatter") else "message")

    def completion(self):
        ours = [self.peers[0].key]
        self.cell("nothing", 0, synced=True, only=ours, name="done nothing")
        self.cell("barrier", 0, synced=True, only=ours, name="done barrier")
        for size in self.chosen([8] if self.options.quick else SIZES):
            for op in ("bcast", "reduce", "allreduce", "gather", "allgather"):
                self.cell(op, size, synced=True, only=ours, name=f"done {op}")

    def shared(self):
        """Half a round trip from buffers that the receiver reads where they lie, written before each message, beside the same without a runtime: rsmpi's API has no
        such buffers, so that `tercio bench` measures. Its rows are medians of 20 samples in one placement of the cores."""
        found = self.store["single"].setdefault("shared", {})
        found.clear()
        sizes = self.chosen([64 << 10, 256 << 10, 1 << 20, 4 << 20])
        command = [self.peers[0].launcher[0], "bench", "latency", "--shared", "--rewrite", "--json", "--sizes", ",".join(map(str, sizes))]
        for _ in range((2 if self.options.quick else 15) if sizes else 0):
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
            if done.returncode:
                loud("tercio bench --shared: " + done.stderr.strip())
                return
            for row in json.loads(done.stdout)["rows"]:
                if row["placement"] in ("near", "far"):
                    found.setdefault(str(row["bytes"]), {}).setdefault(row["placement"], []).append([row["p50_ns"], row["limit"]])

    def mpi(self):
        """Half a round trip with all messages through an MPI, and that MPI's own: pairs by turns, one MPI after the other."""
        self.close()
        usual = self.peers
        sizes = [8, 4096, 65536] if self.options.quick else [8, 64, 512, 4 << 10, 8 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20]
        asked = self.options.impls.split(",") if self.options.impls else None
        for pair in peers.through_mpi():
            if asked and pair[1].key not in asked:
                continue
            self.peers = peers.build(pair)
            self.open(2)
            for size in self.chosen(sizes) if len(self.jobs) == 2 else []:
                self.cell("latency", size, name=THROUGH_MPI + pair[1].key)
        self.peers = usual
        self.open(2)

    def chosen(self, sizes):
        return [size for size in sizes if not self.options.sizes or size in self.options.sizes]

    def crowded(self):
        """More ranks than cores: each implementation in turn; then ranks 0 and 1 alone among ranks that wait. Which ranks share a core is
        decided by the kernel when they start, and matters: so all jobs are started several times."""
        starts = 1 if self.options.quick else 3
        for ranks in RANKS_ON_FEW[:1] if self.options.quick else RANKS_ON_FEW:
            cells = [("barrier", 0), ("allreduce", 8), ("allreduce", 65536), ("latency", 8)]
            for op, size in cells:
                self.store["cells"].pop(self.key(op, size, ranks), None)
            for start in range(starts):
                self.open(ranks, crowded=True)
                for op, size in cells:
                    self.crowded_cell(op, size, ranks, start)
        self.open(2, crowded=False)

    def crowded_cell(self, op, size, ranks, start):
        samples = self.store["cells"].setdefault(self.key(op, size, ranks), {})
        plans = {}
        batch, self.batch = self.batch, 5 * self.batch
        # MPICH 4.0 takes a thousand times as long as anybody else: a few samples of it are enough.
        for key in [key for key in self.jobs if start == 0 or not key.startswith("mpich4")]:
            try:
                plans[key] = self.steps(self.jobs[key], op, size, False, False)
            except Failed as failed:
                self.drop(key, failed)
        self.batch = batch
        # Where the cores sit concerns those who talk; where all take turns it drowns in the hand-overs.
        distance = lambda job: float(job.ask("limit slots 8 300 0 0", (0, 1))[0]) if op == "latency" else 0
        rounds = 3 if self.options.quick else 8
        for number in range(start * rounds, (start + 1) * rounds):
            for key in list(plans):
                if number >= 4 and key.startswith("mpich4"):
                    continue
                try:
                    job = self.jobs[key]
                    before = distance(job)
                    answers = job.ask(f"run {op} {size} {plans[key]} 0 0")
                    samples.setdefault(key, []).append([number, elapsed(op, answers) / per_step(op), before, distance(job)])
                except Failed as failed:
                    self.drop(key, failed)
                    del plans[key]
            if self.jobs and op != "latency":
                job = next(iter(self.jobs.values()))
                samples.setdefault("limit", []).append([number, self.turns(job, op, size, ranks), 0, 0])
        self.progress(f"{op} n={ranks}", size, samples)

    def turns(self, job, op, size, ranks):
        """Each rank runs once (Y0 a hand-over), and all cores together copy what an allreduce must."""
        cores = os.cpu_count()
        hand_over = float(job.ask("limit handover 0 200 0 0", (0, 1))[0])
        moved = 2 * ranks * size if op == "allreduce" else 0
        each = min(max(moved, 64), 1 << 20)
        copy = float(job.ask(f"limit copy {each} {max((1 << 20) // each, 1)} 0 0", (0, 1))[0]) * moved / each
        return -(-ranks // cores) * hand_over + copy / cores

    def blocked(self):
        found = self.store["single"].setdefault("blocked", {})
        ours = self.peers[0].key
        for key, job in list(self.jobs.items()):
            try:
                wakes, sleeps = [], []
                for _ in range(3 if self.options.quick else 20):
                    wakes.append(float(job.ask("wake 3")[1]))
                    if key == ours:
                        sleeps.append(float(job.ask("limit sleep 0 3 0 0", (0, 1))[0]))
                found[key] = {"wake": statistics.median(wakes), "w0": statistics.median(sleeps) if sleeps else None,
                              "cpu": float(job.ask("blocked 1000")[1]) / 1e9}
            except Failed as failed:
                self.drop(key, failed)
        self.open(4, crowded=True)
        for key, job in list(self.jobs.items()):
            slowdown = []
            for _ in range(3 if self.options.quick else 9):
                try:
                    alone = max(float(time_) for time_ in job.ask("compute 30000000", (0, 1)))
                    slowdown.append(max(float(time_) for time_ in job.ask("beside 30000000")) / alone)
                except Failed as failed:
                    self.drop(key, failed)
                    break
            if slowdown:
                found.setdefault(key, {})["slowdown"] = sorted(slowdown)[len(slowdown) // 2]
        self.open(2)

    def start(self):
        found = self.store["single"].setdefault("start", {})
        clock = self.peers[0].program()
        for ranks in [2, 8] if self.options.quick else [2, 8, 32, 128]:
            cell = found.setdefault(str(ranks), {})
            cell.clear()
            slow = set()
            for number in range(2 if self.options.quick else 11):
                for peer in self.peers:
                    # Another set of settings starts like the first; peers take seconds where many ranks start.
                    if peer.key in slow or peer.key in ("openmpi5-large", "mpich4-mpir"):
                        continue
                    if number >= (1 if ranks > 32 else 3) and peer is not self.peers[0]:
                        continue
                    time_, code = self.timed([clock, "--start", *peer.command(ranks, ["--launch"], ranks > os.cpu_count())],
                                             peer.environment(ranks > os.cpu_count()))
                    if code == 0:
                        cell.setdefault(peer.key, []).append(time_ / 1e6)
                    else:
                        loud(f"{peer.title} cannot start {ranks} ranks that only initialize (exit code {code})")
                        slow.add(peer.key)
                time_, _ = self.timed([clock, "--spawn", str(ranks)], dict(os.environ))
                cell.setdefault("limit", []).append(time_ / 1e6)

    def timed(self, command, environment):
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True, start_new_session=True)
        try:
            out, _ = process.communicate(timeout=30)
            time_, code = out.strip().splitlines()[-1].split()
            return float(time_), int(code)
        except (subprocess.TimeoutExpired, IndexError, ValueError):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return 0.0, -1

    def killed(self):
        """One of four ranks gets SIGKILL while the others wait or compute: ms until the launcher is back."""
        found = self.store["single"].setdefault("killed", {})
        self.close()
        for peer in self.peers:
            if peer.key in ("openmpi5-large", "mpich4-mpir"):
                continue
            cell = found.setdefault(peer.key, [])
            cell.clear()
            for _ in range(1 if self.options.quick else 9 if peer is self.peers[0] else 3):
                try:
                    job = Job(peer, 4, crowded=True)
                except Failed as failed:
                    loud(str(failed))
                    break
                victim = int(job.ask("pid")[2])
                job.tell("stuck", range(4))
                time.sleep(0.1)
                begin = time.monotonic()
                os.kill(victim, signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    ended(job.process, 10)
                cell.append([(time.monotonic() - begin) * 1e3, job.process.returncode])
                job.end(kill=True)
        self.open(2)

    def memory(self):
        found = self.store["single"].setdefault("memory", {})
        self.close()
        for ranks in [2] if self.options.quick else [2, 32, 128]:
            cell = found.setdefault(str(ranks), {})
            for peer in self.peers:
                if peer.key in ("openmpi5-large", "mpich4-mpir") or (ranks > 32 and peer is not self.peers[0]):
                    continue
                with contextlib.suppress(Failed):
                    found_now = sorted((self.memory_of(peer, ranks) for _ in range(1 if self.options.quick else 3)),
                                       key=lambda it: it["private"] + it["shared"])
                    cell[peer.key] = found_now[len(found_now) // 2]
        self.open(2)

    def memory_of(self, peer, ranks):
        """What a rank of one job takes, of the rank that takes most."""
        try:
            job = Job(peer, ranks, crowded=ranks > os.cpu_count())
            answers = [list(map(int, answer.split())) for answer in job.ask("memory")]
            job.end()
        except Failed as failed:
            loud(str(failed))
            raise
        return {"private": max(a[0] for a in answers), "pss": max(a[1] for a in answers), "shared": max(a[2] for a in answers) / ranks}


def per_step(op):
    """Messages that a step stands for."""
    return {"latency": 2, "bandwidth": 64, "bibandwidth": 128}.get(op, 1)
