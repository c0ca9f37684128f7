"""From samples to the tables, drawings and docs/performance.md."""
import math
import os
import statistics

from measure import BARE, COLLECTIVES, RANKS_ON_FEW, SIZES, THROUGH_MPI, placement
from peers import ROOT, through_mpi

BEGIN, END = "<!-- begin: written by scripts/compare --report -->", "<!-- end -->"
HEAD = ["row", "what", "cores", "ours", "limit", "ours ÷ limit", "best peer", "ours ÷ peer", "bare", "ours ÷ bare", "must", "aim", "verdict"]
# Ours ÷ the same layout without the runtime, at most, where that misses a bound too and so no runtime with that layout holds it.
NEAR_BARE = 1.15
EXCUSED = "bare misses it too"
FEW = 5


def quartiles(values):
    if len(values) < 2:
        return (values[0],) * 3 if values else None
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))


def in_place(samples, where):
    """Round to sample, of those taken in this placement ('any' where ranks outnumber cores)."""
    return {s[0]: s for s in samples or [] if where == "any" or placement(s) == where}


def middle(samples, where):
    values = [s[1] for s in in_place(samples, where).values()]
    return statistics.median(values) if len(values) >= min(FEW, len(samples or [])) and values else None


def ratios(ours, theirs, where):
    """Quartiles of ours ÷ theirs over the rounds in which both ran with the cores equally far apart."""
    ours, theirs = in_place(ours, where), in_place(theirs, where)
    pairs = [ours[n][1] / theirs[n][1] for n in ours.keys() & theirs.keys()
             if where == "any" or 1 / 1.5 < ours[n][2] / theirs[n][2] < 1.5]
    return quartiles(pairs) if len(pairs) >= min(FEW, len(ours)) and pairs else None


def shown(ns):
    if ns is None:
        return "-"
    for unit, scale in (("ns", 1), ("µs", 1e3), ("ms", 1e6)):
        if ns < 1000 * scale or unit == "ms":
            return f"{ns / scale:.3g} {unit}"


def sized(n):
    for unit, scale in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n >= scale:
            return f"{n // scale} {unit}"
    return f"{n} B"


def spread(q):
    return "-" if q is None else f"**{q[1]:.2f}** ({q[0]:.2f}-{q[2]:.2f})"


class Table:
    def __init__(self, store):
        self.store, self.rows = store, []
        self.titles = {key: value[0] for key, value in store["settings"].items()}

    def cell(self, name):
        return self.store["cells"].get(name, {})

    def best(self, cell, where):
        """The fastest peer of a cell: its key and median."""
        found = [(middle(samples, where), key) for key, samples in cell.items() if key not in ("tercio", "limit", BARE)]
        found = [pair for pair in found if pair[0] is not None]
        return min(found)[::-1] if found else (None, None)

    def peer(self, cell, where):
        """The fastest peer of a cell in words, and our ratio to it."""
        key, best = self.best(cell, where)
        return (f"{self.titles.get(key, key)} {shown(best)}", ratios(cell["tercio"], cell[key], where)) if key else ("-", None)

    def add(self, row, what, where, ours, limit, to_limit, peer, to_peer, must, aim, bare=None):
        """must and aim: bounds of (ours ÷ limit, ours ÷ peer, ours), None where there is none. bare: what the layout without the runtime has of those, and quartiles of ours ÷ that."""
        got = (to_limit[1] if to_limit else None, to_peer[1] if to_peer else None, ours)
        # The figure itself is judged where the cores are near.
        keeps = lambda at, bound, value: bound is None or value is None or (at == 2 and where == "far") or value <= bound
        kept = lambda bounds: all(keeps(at, *pair) for at, pair in enumerate(zip(bounds, got)))
        known = any(bound is not None and value is not None for bound, value in zip(must, got))
        verdict = "-" if not known else "aim" if kept(aim) and kept(must) else "holds" if kept(must) else "**behind**"
        if verdict == "**behind**" and bare and bare[1] and bare[1][1] <= NEAR_BARE:
            missed = [at for at, pair in enumerate(zip(must, got)) if not keeps(at, *pair)]
            if not any(keeps(at, must[at], bare[0][at]) for at in missed):
                verdict = EXCUSED
        words = lambda bounds: ", ".join(f"{sign}{bound:g}{unit}" if at < 2 else f"{sign}{shown(bound)}" for at, (bound, sign, unit)
                                         in enumerate(zip(bounds, ("≤ ", "≤ ", "≤ "), (" limit", " peer", ""))) if bound is not None) or "-"
        self.rows.append([str(row), what, where, shown(ours), shown(limit), spread(to_limit), peer, spread(to_peer), shown(bare and bare[0][2]),
                          spread(bare and bare[1]), words(must), words(aim), verdict])

    def measured(self, row, what, name, must, aim):
        """Rows of a cell, for each placement that it was met in."""
        cell = self.cell(name)
        for where in ("near", "far", "any"):
            if not cell or (where == "any") != (cell.get("tercio", [[0, 0, 0, 0]])[0][2] == 0):
                continue
            ours = middle(cell.get("tercio"), where)
            if ours is None:
                continue
            bound = cell.get("limit")
            self.add(row, what, where, ours, middle(bound, where), ratios(cell["tercio"], bound, where), *self.peer(cell, where), must, aim,
                     self.bare(cell, where))

    def bare(self, cell, where):
        """What the layout without the runtime has in a cell, ÷ the limit, ÷ the best peer and itself, and the quartiles of ours ÷ that; None if it took no part."""
        samples = cell.get(BARE)
        time = middle(samples, where)
        if time is None:
            return None
        middles = lambda theirs: (lambda found: found and found[1])(ratios(samples, theirs, where))
        key, _ = self.best(cell, where)
        return (middles(cell.get("limit")), middles(cell[key]) if key else None, time), ratios(cell["tercio"], samples, where)

    # The rows of one host, by number.

    def build(self, suffix=""):
        none = (None, None, None)
        self.measured(1, "latency 8 B", f"latency/8/2{suffix}", (1.4, 0.8, None), (1.15, None, None))
        for power in range(6, 12):
            self.measured(2, f"latency {sized(1 << power)}", f"latency/{1 << power}/2{suffix}", (1.5, 0.8, None), (1.2, None, None))
        self.jumps(suffix)
        for power in range(12, 27):
            must = (1.15, 1.05, None) if power <= 22 else none
            self.measured(4, f"latency {sized(1 << power)}", f"latency/{1 << power}/2{suffix}", must, (1.05, None, None))
        for op, what in (("bandwidth", "bandwidth, window 64,"), ("bibandwidth", "both ways, window 64,")):
            for size in (1 << power for power in range(10, 24)):
                self.measured(6, f"{what} {sized(size)}, a message", f"{op}/{size}/2{suffix}", (1.25, 1.0, None), (1 / 0.9, None, None))
        for size in (8, 65536):
            self.measured(6, f"exchange {sized(size)}", f"exchange/{size}/2{suffix}", (None, 1.0, None), none)
        self.measured(7, "64 sends of 8 B, a message", f"bandwidth/8/2{suffix}", (None, 0.4, 1000 / 60), (None, None, 1000 / 150))
        self.measured(8, "barrier", f"barrier/0/2{suffix}", (1.5, 0.8, None), (1.3, None, None))
        self.against(9, "allreduce 8 B against own barrier", f"allreduce/8/2{suffix}", f"barrier/0/2{suffix}", 1.3, 1.1, 0.8)
        for op in ["allreduce"] + [op for op in COLLECTIVES if op != "allreduce"]:
            for size in SIZES:
                if (op, size) != ("allreduce", 8):
                    row, must, aim = (10, 0.8, None) if op == "allreduce" else (11, 0.9, 0.7)
                    self.measured(row, f"{op} {sized(size)}", f"{op}/{size}/2{suffix}", (None, must, None), (None, aim, None))
        if not suffix:
            self.shared()
            self.consistent()
            self.few_cores()
            self.single()
        return self

    def against(self, row, what, name, base, must, aim, peer_must):
        cell, own = self.cell(name), self.cell(base).get("tercio")
        for where in ("near", "far"):
            ours, bound = middle(cell.get("tercio"), where), middle(own, where)
            if ours is None or bound is None:
                continue
            self.add(row, what, where, ours, bound, (ours / bound,) * 3, *self.peer(cell, where), (must, peer_must, None), (aim, None, None))

    def jumps(self, suffix):
        """Row 3: the worst step from a size to its double, against what the limit does there."""
        for where in ("near", "far"):
            worst = None
            for power in range(3, 26):
                small, large = (self.cell(f"latency/{1 << p}/2{suffix}") for p in (power, power + 1))
                times = [middle(cell.get(key), where) for cell in (small, large) for key in ("tercio", "limit")]
                if any(time is None for time in times):
                    continue
                step, bound = times[2] / times[0], max(2, times[3] / times[1])
                if worst is None or step / bound > worst[0]:
                    worst = (step / bound, power, step, bound, times[2], [self.bare(cell, where) for cell in (small, large)])
            if worst:
                ratio, power, step, bound, time, bare = worst
                what = f"steepest step: {sized(1 << power)} to {sized(2 << power)} takes {step:.2f} × (limit {bound:.2f})"
                if all(bare):
                    bare = (bare[1][0][2] / bare[0][0][2] / bound, None, bare[1][0][2]), bare[1][1]
                self.add(3, what, where, time, None, (ratio,) * 3, "-", None, (1.15, None, None), (1.1, None, None), bare if all(bare) else None)

    def consistent(self):
        """Row 12: completion times, the synchronising barrier subtracted."""
        base = self.cell("done nothing/0/2").get("tercio")
        for where in ("near", "far"):
            def done(op, size):
                time, zero = middle(self.cell(f"done {op}/{size}/2").get("tercio"), where), middle(base, where)
                return None if time is None or zero is None else time - zero
            for size in SIZES:
                for what, ours, bound in (
                        (f"allreduce {sized(size)} against reduce + bcast", done("allreduce", size),
                         [done("reduce", size), done("bcast", size)]),
                        (f"gather {sized(size)} against allgather", done("gather", size), [done("allgather", size)]),
                        (f"barrier against allreduce {sized(size)}", done("barrier", 0), [done("allreduce", size)])):
                    if ours is not None and None not in bound:
                        self.add(12, what, where, ours, sum(bound), (ours / sum(bound),) * 3, "-", None, (1.1, None, None), (1.0, None, None))

    def few_cores(self):
        for ranks in RANKS_ON_FEW:
            for op, size, what in (("barrier", 0, "barrier"), ("allreduce", 8, "allreduce 8 B"), ("allreduce", 65536, "allreduce 64 KiB")):
                self.measured(13, f"{what}, {ranks} ranks", f"{op}/{size}/{ranks}", (None, 0.8, None), (1.3, None, None))
        alone = self.cell("latency/8/2").get("tercio")
        for ranks in RANKS_ON_FEW:
            for where in ("near", "far"):
                cell = self.cell(f"latency/8/{ranks}")
                ours, bound = middle(cell.get("tercio"), where), middle(alone, where)
                if ours and bound:
                    self.add(14, f"8 B between 2 of {ranks} ranks, against 2 alone", where, ours, bound, (ours / bound,) * 3,
                             *self.peer(cell, where), (2, None, None), (1.2, None, None))

    def shared(self):
        """Row 5: from buffers in shared memory, against writing in place and copying out of there without a runtime."""
        for size, cell in sorted(self.store["single"].get("shared", {}).items(), key=lambda pair: int(pair[0])):
            for where in ("near", "far"):
                rows = cell.get(where, [])
                if rows:
                    ours, limit = (statistics.median(values) for values in zip(*rows))
                    self.add(5, f"latency {sized(int(size))} from a shared buffer, rewritten", where, ours, limit,
                             quartiles([mine / bound for mine, bound in rows]), "-", None, (1.2, None, None), (1.1, None, None))

    def single(self):
        single = self.store["single"]
        blocked = single.get("blocked", {}).get("tercio", {})
        others = {key: value for key, value in single.get("blocked", {}).items() if key != "tercio"}

        def peer(name, scale):
            found = min(((value[name] * scale, key) for key, value in others.items() if value.get(name) is not None), default=None)
            return found and (self.titles[found[1]], found[0])
        none = (None, None, None)
        if blocked.get("w0"):
            best = peer("wake", 1)
            self.add(15, "send to the sleeping receiver's first instruction, against W0", "any", blocked["wake"], blocked["w0"],
                     (blocked["wake"] / blocked["w0"],) * 3, f"{best[0]} {shown(best[1])}" if best else "-", None, (1.5, None, None), (1.25, None, None))
        if "cpu" in blocked:
            best = peer("cpu", 1e9)
            self.add(15, "CPU time of a rank blocked for 1 s, the first 5 ms in it", "any", blocked["cpu"] * 1e9, None, None,
                     f"{best[0]} {shown(best[1])}" if best else "-", None, (None, None, 15e6), none)
        if "slowdown" in blocked:
            best = peer("slowdown", 1)
            self.add(15, "a compute loop beside a blocked rank, against alone", "any", None, None, (blocked["slowdown"],) * 3,
                     f"{best[0]} {best[1]:.2f} ×" if best else "-", None, (1.05, None, None), (1.02, None, None))
        fastest = {"2": 6, "8": 11, "32": 38, "128": 243}
        for ranks, cell in single.get("start", {}).items():
            if "tercio" in cell:
                ours, limit = (statistics.median(cell[key]) * 1e6 for key in ("tercio", "limit"))
                key, best = min(((key, statistics.median(v)) for key, v in cell.items() if key not in ("tercio", "limit")),
                                key=lambda pair: pair[1], default=(None, None))
                self.add(19, f"start and end of {ranks} ranks", "any", ours, limit, (ours / limit,) * 3,
                         f"{self.titles[key]} {shown(best * 1e6)}" if key else "-", (ours / best / 1e6,) * 3 if key else None,
                         (None, None, fastest[ranks] * 1e6), (2, None, None))
        killed = single.get("killed", {})
        if killed.get("tercio"):
            ours = statistics.median(time for time, _ in killed["tercio"]) * 1e6
            key, best = min(((key, statistics.median(time for time, _ in v)) for key, v in killed.items() if v and key != "tercio"),
                            key=lambda pair: pair[1], default=(None, None))
            self.add(20, "one of 4 ranks killed: launcher back", "any", ours, None, None, f"{self.titles[key]} {shown(best * 1e6)}" if key else "-",
                     (ours / best / 1e6,) * 3 if key else None, (None, None, 5e6), (None, None, 2e6))
        for ranks, cell in single.get("memory", {}).items():
            if "tercio" in cell:
                mib = lambda bytes_: f"{bytes_ / (1 << 20):.2f} MiB"
                ours = cell["tercio"]["private"] + cell["tercio"]["shared"]
                key, best = min(((key, v["pss"]) for key, v in cell.items() if key != "tercio"), key=lambda pair: pair[1], default=(None, None))
                verdict = "aim" if ours <= 0.4 * (1 << 20) else "holds" if ours <= 1 << 20 else "**behind**"
                self.rows.append(["21", f"memory of one of {ranks} ranks (private {mib(cell['tercio']['private'])})", "any", mib(ours), "-", "-",
                                  f"{self.titles[key]} {mib(best)}" if key else "-", "-", "-", "-", "≤ 1 MiB", "≤ 0.4 MiB", verdict])

    def text(self):
        widths = [max(len(row[at]) for row in [HEAD, *self.rows]) for at in range(len(HEAD))]
        line = lambda row: "| " + " | ".join(word.ljust(width) for word, width in zip(row, widths)) + " |"
        return "\n".join([line(HEAD), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, self.rows)])

    def summary(self):
        count = lambda word: sum(row[-1] == word for row in self.rows)
        return (f"{count('aim')} rows at their aim, {count('holds')} more hold their must, {count(EXCUSED)} miss it where the same layout without the runtime does too, "
                f"{count('**behind**')} are behind.")


def table(store):
    if not store["settings"]:
        return "nothing was measured yet"
    plain = Table(store).build()
    text = [plain.summary(), "", plain.text()]
    rewritten = Table(store).build("/rewrite")
    if rewritten.rows:
        text += ["", "With the send buffer written before each message (`--rewrite`; the limit includes the writing): " + rewritten.summary(), "",
                 rewritten.text()]
    if through(store):
        text += ["", "All messages through an MPI (`TERCIO_TRANSPORT=mpi:all`), and the same program on that MPI by the crate `mpi`, sample by sample in turn:", "", through(store)]
    return "\n".join(text)


def through(store):
    """Tercio with all its messages through an MPI, beside that MPI; None if that was not measured."""
    rows = []
    for ours, raw in through_mpi():
        cells = {int(name.split("/")[1]): cell for name, cell in store["cells"].items() if name.split("/")[0] == THROUGH_MPI + raw.key}
        for size, cell in sorted(cells.items()):
            for where in ("near", "far"):
                us, them = cell.get(ours.key), cell.get(raw.key)
                ratio = us and them and ratios(us, them, where)
                if ratio and middle(us, where) and middle(them, where):
                    verdict = "holds" if ratio[1] <= 1.15 else "**behind**"
                    rows.append(f"| {raw.title} | {sized(size)} | {where} | {shown(middle(us, where))} | {shown(middle(them, where))} | {spread(ratio)} | {verdict} |")
    if not rows:
        return None
    return "\n".join(["| MPI | half a round trip | cores | Tercio through it | the MPI alone | ratio | ≤ 1.15 |", "|---|---|---|---|---|---|---|", *rows])


COLOURS = {"tercio": "#d62728", "impi": "#1f77b4", "openmpi5": "#2ca02c", "openmpi5-large": "#98df8a", "openmpi4": "#8c564b",
           "mpich4": "#9467bd", "mpich4-mpir": "#c5b0d5", "mpich5": "#ff7f0e", "limit": "#444444"}


def drawing(store, op, title, rate=False):
    """Size against figure, both on logarithmic axes; one line for each implementation, the limit dashed. Near cores, else far ones."""
    cells = {int(name.split("/")[1]): cell for name, cell in store["cells"].items() if name.split("/")[0] == op and name.endswith("/2")}
    count = lambda where: sum(middle(cell.get("tercio"), where) is not None for cell in cells.values())
    where = max(("near", "far"), key=count)
    lines = {}
    for size in sorted(cells):
        for key, samples in cells[size].items():
            ns = middle(samples, where)
            if ns is not None and size:
                lines.setdefault(key, []).append((size, size / ns if rate else ns / 1e3))
    points = [point for line in lines.values() for point in line]
    if not points:
        return None
    left, top, width, height = 70, 40, 620, 400
    low_x, high_x = (f(math.log2(x) for x, _ in points) for f in (min, max))
    low_y, high_y = math.floor(min(math.log10(y) for _, y in points)), math.ceil(max(math.log10(y) for _, y in points))
    at_x = lambda x: left + width * (math.log2(x) - low_x) / max(high_x - low_x, 1)
    at_y = lambda y: top + height - height * (math.log10(y) - low_y) / max(high_y - low_y, 1)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 170} {top + height + 50}" font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="{left}" y="22" font-size="15">{title} ({where} cores, {store.get("date", "")})</text>']
    for power in range(low_y, high_y + 1):
        y = at_y(10.0**power)
        out.append(f'<path d="M{left} {y:.1f}H{left + width}" stroke="#ddd"/><text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for power in range(math.ceil(low_x), math.floor(high_x) + 1, 2):
        x = at_x(2.0**power)
        out.append(f'<path d="M{x:.1f} {top}V{top + height}" stroke="#eee"/>'
                   f'<text x="{x:.1f}" y="{top + height + 18}" text-anchor="middle">{sized(1 << power)}</text>')
    for number, key in enumerate(key for key in COLOURS if key in lines):
        path = " ".join(f"{'M' if at == 0 else 'L'}{at_x(x):.1f} {at_y(y):.1f}" for at, (x, y) in enumerate(lines[key]))
        style = f'stroke="{COLOURS[key]}" stroke-width="{3 if key == "tercio" else 1.5}"' + (' stroke-dasharray="6 4"' if key == "limit" else "")
        name = "limit" if key == "limit" else store["settings"].get(key, [key])[0]
        y = top + 14 + 20 * number
        out.append(f'<path d="{path}" fill="none" {style}/><path d="M{left + width + 12} {y - 4}h24" {style}/>'
                   f'<text x="{left + width + 42}" y="{y}">{name}</text>')
    out.append(f'<text x="16" y="{top - 8}">{"GB/s" if rate else "µs"}</text></svg>\n')
    return "\n".join(out)


DRAWINGS = [("latency", "Half a round trip between two ranks", False), ("bandwidth", "One way, a window of 64 messages", True),
            ("allreduce", "allreduce among two ranks, sums of doubles", False)]


def write(store):
    """docs/performance.md between its two marks, and the drawings beside it."""
    docs = os.path.join(ROOT, "docs")
    text = [BEGIN, "", f"Taken on {store['date']} on {store['machine']}.", "", "| | version | settings with a core for each rank | with more ranks than cores |",
            "|---|---|---|---|"]
    for key, (title, settings, crowded) in store["settings"].items():
        text.append(f"| {title} | {store['versions'].get(key, '') if key != 'tercio' else 'this checkout'} | {settings} | {crowded} |")
    text.append("")
    for op, title, rate in DRAWINGS:
        svg = drawing(store, op, title, rate)
        if svg:
            with open(os.path.join(docs, f"performance-{op}.svg"), "w") as file:
                file.write(svg)
            text += [f"![{title}](performance-{op}.svg)", ""]
    text += [table(store), "", END]
    path = os.path.join(docs, "performance.md")
    with open(path) as file:
        before, rest = file.read().split(BEGIN)
    with open(path, "w") as file:
        file.write(before + "\n".join(text) + rest.split(END)[1])
