//! The one table of names that other launchers taught and that are not simply our own options' names.

/// What a spelling of another launcher means here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meaning<'a> {
    /// Our option of this name, with its value if it has one.
    Same(&'a str),
    /// Two words follow; they become NAME=VALUE of our option of this name.
    Pair(&'static str),
    /// Exactly this, with nothing behind it.
    Whole(&'static str),
    /// `--map-by`, `--rank-by`: `ppr:N:node` says how many ranks; slot and node are ours; finer places say what is so anyway.
    Mapping(&'static str),
    /// So many values follow; it says what is so anyway.
    Granted(usize),
    /// So many values follow; it has no effect here, for this reason.
    NoEffect(usize, &'static str),
    /// What to do instead.
    Refused(&'static str),
}

use Meaning::*;

const FOREIGN_SETTING: &str = "a setting of another implementation";

/// Names without their dashes.
pub(super) const TABLE: &[(&[&str], Meaning<'static>)] = &[
    (&["c"], Same("n")),
    (&["ppn", "perhost", "per-host"], Same("npernode")),
    (&["env"], Pair("x")),
    (&["genv"], Pair("genv")),
    (&["prepend-rank", "label"], Same("tag-output")),
    (&["s"], Same("stdin")),
    (
        &[
            "verbose",
            "report-bindings",
            "print-rank-map",
            "display-map",
            "display-allocation",
        ],
        Same("verbose"),
    ),
    (&["do-not-launch"], Same("dry-run")),
    (&["machine", "default-hostfile"], Same("hostfile")),
    (&["map-by"], Mapping("map-by")),
    (&["rank-by"], Mapping("rank-by")),
    (&["bynode", "rr"], Whole("--map-by=node")),
    (&["byslot"], Whole("--map-by=slot")),
    (
        &[
            "genvall",
            "envall",
            "allow-run-as-root",
            "print-all-exitcodes",
        ],
        Granted(0),
    ),
    (&["genvlist", "envlist"], Granted(1)),
    (
        &["rmk", "display"],
        NoEffect(
            1,
            "hosts are those of --hostfile and --host; -v and --dry-run show what runs where",
        ),
    ),
    (&["launcher-exec", "bootstrap-exec"], Same("rsh-agent")),
    (
        &["launcher", "bootstrap"],
        NoEffect(
            1,
            "other hosts are reached by ssh; --rsh-agent names another command",
        ),
    ),
    (
        &["iface"],
        NoEffect(1, "the addresses between hosts are found by trying them"),
    ),
    (
        &["mca", "gmca", "prtemca", "pmixmca"],
        NoEffect(2, FOREIGN_SETTING),
    ),
    (
        &["use-hwthread-cpus"],
        NoEffect(0, "every usable CPU counts as a core"),
    ),
    (
        &["report-state-on-timeout", "get-stack-traces"],
        NoEffect(0, "the verdict says what each rank was doing"),
    ),
    (
        &["genvnone", "envnone"],
        Refused("ranks inherit the launcher's environment; give it less by 'env -i'"),
    ),
    (
        &["configfile", "app"],
        Refused("write the programs on the command line, with a lone ':' between them"),
    ),
    (
        &["outfile-pattern", "errfile-pattern"],
        Refused("use --output-filename DIR, which writes a file for each rank"),
    ),
    (
        &["prepend-pattern", "output"],
        Refused("use -l, which begins each line with its rank"),
    ),
];

/// The meaning of a name that is not one of our own.
pub(super) fn meaning(name: &str) -> Option<Meaning<'static>> {
    TABLE
        .iter()
        .find(|(names, _)| names.contains(&name))
        .map(|(_, meaning)| *meaning)
}
