//! What failed first, in words for people and for programs.
use std::fmt::Write;
use std::time::Duration;

/// The first failure of a job: which rank, on which host, why, and what it did last.
///
/// ```no_run
/// use tercio::launch::{Job, Output, Program};
///
/// tercio::launch::role();
/// let program = Program::new("sh", 2).args(["-c", "exit $TERCIO_RANK"]);
/// let verdict = Job::new().program(program).output(Output::Capture { tag: false }).run().unwrap().verdict.unwrap();
/// assert!(verdict.text().contains("rank 1 of 2 exited with code 1"));
/// assert!(verdict.json().starts_with('{'));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub(super) text: String,
    pub(super) json: String,
}

impl Verdict {
    /// At most twelve lines for a terminal, the last one ended too.
    pub fn text(&self) -> String {
        self.text.clone()
    }

    /// The same as one JSON object on one line.
    pub fn json(&self) -> String {
        self.json.clone()
    }
}

/// Why a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A rank was killed by a signal.
    Signal(i32),
    /// The kernel killed a rank because memory ran out; limit and use of its memory group, where there is one.
    OutOfMemory(Option<(u64, u64)>),
    /// A rank ended with a code of its own.
    Exit(i32),
    /// A rank panicked: place, text, and the code that it ended with.
    Panic {
        place: String,
        text: String,
        code: i32,
    },
    /// A rank called abort.
    Abort { code: i32, text: String },
    /// The runtime in a rank could not go on: the sentence that it left.
    Reported(String),
    /// A rank waited for another that is gone: the sentence that it left. It is hearsay where the other's own end is known.
    Gone(String),
    /// A rank ended with code 0 between initialize and finalize; what another rank that waited for it said.
    NoGoodbye(Option<String>),
    /// A rank's process, started by a wrapper, ended in a way that the kernel does not tell.
    Vanished,
    /// The time limit.
    TimeLimit(Option<Duration>),
    /// The launcher was told to end by a signal.
    Interrupted(i32),
    /// One of our own processes ended: which, and how.
    Lost { who: String, pid: u32, how: String },
    /// A host was lost: how that was seen.
    LostHost(String),
}

impl Cause {
    /// The code that the launcher exits with, and whose code it is.
    pub(super) fn code(&self) -> (i32, &'static str) {
        match self {
            Cause::Signal(signal) => (128 + signal, "rank"),
            Cause::OutOfMemory(_) => (128 + libc::SIGKILL, "rank"),
            Cause::Exit(code) | Cause::Panic { code, .. } | Cause::Abort { code, .. } => {
                (*code, "rank")
            }
            Cause::Reported(_)
            | Cause::Gone(_)
            | Cause::NoGoodbye(_)
            | Cause::Vanished
            | Cause::LostHost(_) => (120, "tercio"),
            Cause::TimeLimit(_) => (124, "launcher"),
            Cause::Interrupted(signal) => (128 + signal, "launcher"),
            Cause::Lost { .. } => (125, "launcher"),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Cause::Signal(_) => "signal",
            Cause::OutOfMemory(_) => "out of memory",
            Cause::Exit(_) => "exit",
            Cause::Panic { .. } => "panic",
            Cause::Abort { .. } => "abort",
            Cause::Reported(_) | Cause::Gone(_) => "error",
            Cause::NoGoodbye(_) => "no goodbye",
            Cause::Vanished => "vanished",
            Cause::TimeLimit(_) => "time limit",
            Cause::Interrupted(_) => "interrupted",
            Cause::Lost { .. } => "lost",
            Cause::LostHost(_) => "lost host",
        }
    }

    /// What comes after "rank 2 of 4 " or stands alone.
    fn words(&self) -> String {
        match self {
            Cause::Signal(signal) => {
                format!("was killed by signal {signal} ({})", signal_name(*signal))
            }
            Cause::OutOfMemory(Some((limit, used))) => format!(
                "was killed because memory ran out: its memory group may use {} MiB and used {} MiB; allow more, or use fewer ranks",
                limit >> 20,
                used >> 20
            ),
            Cause::OutOfMemory(None) => {
                "was killed because the machine's memory ran out; use fewer ranks or less data"
                    .into()
            }
            Cause::Exit(code) => format!("exited with code {code}"),
            Cause::Panic { place, text, .. } if place.is_empty() => format!("panicked: {text}"),
            Cause::Panic { place, text, .. } => format!("panicked at {place}: {text}"),
            Cause::Abort { text, .. } | Cause::Reported(text) | Cause::Gone(text) => text.clone(),
            Cause::NoGoodbye(_) => {
                "exited with code 0 without finalizing (its Universe was never dropped)".into()
            }
            Cause::Vanished => {
                "ended under its wrapper without finalizing; the kernel does not tell how".into()
            }
            Cause::TimeLimit(Some(limit)) => {
                format!("the time limit of {} s is over", limit.as_secs_f64())
            }
            Cause::TimeLimit(None) => "the time limit is over".into(),
            Cause::Interrupted(signal) => format!(
                "the launcher got signal {signal} ({})",
                signal_name(*signal)
            ),
            Cause::LostHost(how) => how.clone(),
            Cause::Lost { who, pid, how } => {
                format!("the job's {who} (process {pid}) {how}; the job cannot go on without it")
            }
        }
    }
}

/// A rank as a verdict shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) rank: usize,
    pub(super) pid: u32,
    pub(super) program: String,
    /// Its last call and where that stands in the program, as far as it told.
    pub(super) call: String,
}

/// Everything that a verdict says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Findings {
    pub(super) cause: Cause,
    /// The rank that failed, if it was one.
    pub(super) rank: Option<Subject>,
    pub(super) size: usize,
    pub(super) host: String,
    pub(super) job: String,
    /// Since the start of the ranks.
    pub(super) after: Duration,
    /// The ranks that were ended with it.
    pub(super) ended: Vec<usize>,
    /// What ranks were doing, where that helps: rank and call.
    pub(super) doing: Vec<(usize, String)>,
}

/// Lines of a verdict.
const LINES: usize = 12;
/// Lines of a panic's or error's text.
const TEXT_LINES: usize = 4;

impl Findings {
    pub(super) fn verdict(&self) -> Verdict {
        Verdict {
            text: self.text(),
            json: self.json(),
        }
    }

    fn text(&self) -> String {
        let words = printable(&self.cause.words());
        let mut words = words.lines();
        let first = words.next().unwrap_or_default();
        let mut lines = vec![match &self.rank {
            Some(it) => {
                let own = format!("rank {} ", it.rank);
                // What a rank reports of itself names it, or is a sentence of its own.
                let said = match (&self.cause, first.strip_prefix(&own)) {
                    (_, Some(rest)) => format!(" {rest}"),
                    (Cause::Abort { .. } | Cause::Reported(_) | Cause::Gone(_), None) => {
                        format!(": {first}")
                    }
                    _ => format!(" {first}"),
                };
                format!("tercio: rank {} of {}{said}", it.rank, self.size)
            }
            None => format!("tercio: {first}"),
        }];
        lines.extend(
            words
                .take(TEXT_LINES - 1)
                .map(|line| format!("        {line}")),
        );
        let after = format!("{:.3} s after the start", self.after.as_secs_f64());
        match &self.rank {
            Some(it) => {
                lines.push(format!(
                    "  process    {} on {}, {after}: {}",
                    it.pid, self.host, it.program
                ));
                if !it.call.is_empty() {
                    lines.push(format!("  last call  {}", it.call));
                }
            }
            None => lines.push(format!(
                "  job        {} on {}, {after}",
                self.job, self.host
            )),
        }
        if let Cause::NoGoodbye(Some(waiter)) = &self.cause {
            lines.push(format!("  found by   {}", one_line(waiter)));
        }
        let room = LINES - 2 - lines.len();
        for (rank, call) in self.doing.iter().take(room) {
            lines.push(format!("  rank {rank:<6}{}", one_line(call)));
        }
        match &self.ended[..] {
            [] => {}
            ended => lines.push(format!("  ended too  {}", ranks(ended))),
        }
        let (code, whose) = self.cause.code();
        let whose = match whose {
            "rank" => String::new(),
            whose => format!(
                " (the {}'s)",
                if whose == "tercio" { "runtime" } else { whose }
            ),
        };
        lines.push(format!("  exit code  {code}{whose}"));
        debug_assert!(lines.len() <= LINES);
        lines.join("\n") + "\n"
    }

    fn json(&self) -> String {
        let (code, whose) = self.cause.code();
        let mut o = Object::default();
        o.number("code", code)
            .text("code_of", whose)
            .text("job", &self.job)
            .text("host", &self.host);
        o.number("ranks", self.size)
            .number("after_ms", self.after.as_millis());
        match &self.rank {
            Some(it) => o
                .number("rank", it.rank)
                .number("pid", it.pid)
                .text("program", &it.program)
                .text("last_call", &it.call),
            None => o.null("rank").null("pid").null("program").null("last_call"),
        };
        o.text("cause", self.cause.kind())
            .text("text", &self.cause.words());
        match &self.cause {
            Cause::Signal(signal) | Cause::Interrupted(signal) => o
                .number("signal", signal)
                .text("signal_name", signal_name(*signal)),
            Cause::OutOfMemory(Some((limit, used))) => {
                o.number("memory_limit", limit).number("memory_used", used)
            }
            Cause::Panic { place, text, .. } => o.text("place", place).text("panic", text),
            Cause::NoGoodbye(Some(waiter)) => o.text("found_by", waiter),
            _ => &mut o,
        };
        o.raw("ended", &format!("{:?}", self.ended));
        format!("{{{}}}", o.0)
    }
}

/// The inside of a JSON object.
#[derive(Default)]
struct Object(String);

impl Object {
    fn raw(&mut self, name: &str, value: &str) -> &mut Object {
        let comma = if self.0.is_empty() { "" } else { "," };
        let _ = write!(self.0, "{comma}\"{name}\":{value}");
        self
    }

    fn number(&mut self, name: &str, value: impl ToString) -> &mut Object {
        self.raw(name, &value.to_string())
    }

    fn null(&mut self, name: &str) -> &mut Object {
        self.raw(name, "null")
    }

    fn text(&mut self, name: &str, value: &str) -> &mut Object {
        let mut quoted = String::from("\"");
        for c in value.chars() {
            match c {
                '"' | '\\' => quoted.extend(['\\', c]),
                '\n' => quoted.push_str("\\n"),
                c if (c as u32) < 0x20 => {
                    let _ = write!(quoted, "\\u{:04x}", c as u32);
                }
                c => quoted.push(c),
            }
        }
        quoted.push('"');
        self.raw(name, &quoted)
    }
}

fn one_line(text: &str) -> String {
    printable(text.lines().next().unwrap_or_default())
}

/// Without what would steer a terminal: ranks' texts come out of shared memory.
fn printable(text: &str) -> String {
    let keep = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().filter(keep).collect()
}

/// "ranks 0, 2 and 3", runs joined: "ranks 0 to 6 and 8".
fn ranks(all: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &rank in all {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == rank => *last = rank,
            _ => runs.push((rank, rank)),
        }
    }
    let mut parts: Vec<String> = runs
        .iter()
        .flat_map(|&(a, b)| match b - a {
            0 => vec![a.to_string()],
            1 => vec![a.to_string(), b.to_string()],
            _ => vec![format!("{a} to {b}")],
        })
        .collect();
    if parts.len() > 12 {
        let more = all.len();
        return format!("{more} ranks");
    }
    let last = parts.pop().unwrap_or_default();
    match (parts.is_empty(), all.len()) {
        (true, 1) => format!("rank {last}"),
        (true, _) => format!("ranks {last}"),
        _ => format!("ranks {} and {last}", parts.join(", ")),
    }
}

/// A signal's name and what it commonly means.
pub(super) fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGHUP => "SIGHUP, hangup",
        libc::SIGINT => "SIGINT, interrupt",
        libc::SIGQUIT => "SIGQUIT, quit",
        libc::SIGILL => "SIGILL, illegal instruction",
        libc::SIGTRAP => "SIGTRAP, breakpoint",
        libc::SIGABRT => "SIGABRT, abort",
        libc::SIGBUS => "SIGBUS, access beyond a mapped file",
        libc::SIGFPE => "SIGFPE, arithmetic error",
        libc::SIGKILL => "SIGKILL, killed from outside",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV, segmentation fault",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE, nobody reads its output",
        libc::SIGALRM => "SIGALRM, alarm clock",
        libc::SIGTERM => "SIGTERM, told to end",
        libc::SIGSTOP => "SIGSTOP, stopped from outside",
        libc::SIGTSTP => "SIGTSTP, stopped from a terminal",
        libc::SIGTTIN => "SIGTTIN, read from a terminal in the background",
        libc::SIGTTOU => "SIGTTOU, wrote to a terminal in the background",
        libc::SIGXCPU => "SIGXCPU, processor time limit",
        libc::SIGXFSZ => "SIGXFSZ, file size limit",
        libc::SIGSYS => "SIGSYS, forbidden system call",
        _ => "a signal without a common name",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(cause: Cause) -> Findings {
        Findings {
            cause,
            rank: Some(Subject {
                rank: 2,
                pid: 4711,
                program: "./prog --steps 5".into(),
                call: "barrier at src/main.rs:57".into(),
            }),
            size: 4,
            host: "box".into(),
            job: "4700-1".into(),
            after: Duration::from_millis(1204),
            ended: vec![0, 1, 3],
            doing: Vec::new(),
        }
    }

    #[test]
    fn a_killed_rank_in_words() {
        let text = findings(Cause::Signal(11)).verdict().text();
        assert_eq!(
            text,
            "tercio: rank 2 of 4 was killed by signal 11 (SIGSEGV, segmentation fault)\n  \
               process    4711 on box, 1.204 s after the start: ./prog --steps 5\n  \
               last call  barrier at src/main.rs:57\n  \
               ended too  ranks 0, 1 and 3\n  \
               exit code  139\n"
        );
    }

    #[test]
    fn a_verdict_is_short_whatever_it_says() {
        let long = "line\n".repeat(50);
        for cause in [
            Cause::Panic {
                place: "a.rs:1".into(),
                text: long.clone(),
                code: 101,
            },
            Cause::NoGoodbye(Some(long.clone())),
            Cause::Reported(long),
            Cause::OutOfMemory(Some((64 << 20, 64 << 20))),
        ] {
            let mut all = findings(cause);
            all.doing = (0..1000)
                .map(|rank| (rank, "receive at a.rs:1".to_string()))
                .collect();
            all.ended = (0..1000).step_by(2).collect();
            let text = all.verdict().text();
            assert!(text.lines().count() <= LINES, "{text}");
            assert!(text.contains("500 ranks"), "{text}");
            let json = all.verdict().json();
            assert!(!json.contains('\n'), "{json}");
        }
    }

    #[test]
    fn json_says_whose_code_it_is() {
        let json = findings(Cause::Panic {
            place: "a.rs:1".into(),
            text: "say \"no\"\n\t".into(),
            code: 101,
        })
        .verdict()
        .json();
        assert_eq!(
            json,
            "{\"code\":101,\"code_of\":\"rank\",\"job\":\"4700-1\",\"host\":\"box\",\"ranks\":4,\"after_ms\":1204,\"rank\":2,\"pid\":4711,\
             \"program\":\"./prog --steps 5\",\"last_call\":\"barrier at src/main.rs:57\",\"cause\":\"panic\",\
             \"text\":\"panicked at a.rs:1: say \\\"no\\\"\\n\\u0009\",\"place\":\"a.rs:1\",\"panic\":\"say \\\"no\\\"\\n\\u0009\",\"ended\":[0, 1, 3]}"
        );
        let mut none = findings(Cause::Interrupted(15));
        none.rank = None;
        let json = none.verdict().json();
        assert!(
            json.contains("\"code\":143,\"code_of\":\"launcher\"")
                && json.contains("\"rank\":null"),
            "{json}"
        );
        assert!(none.verdict().text().starts_with(
            "tercio: the launcher got signal 15 (SIGTERM, told to end)\n  job        4700-1 on box"
        ));
    }

    #[test]
    fn ranks_are_listed_in_runs() {
        assert_eq!(ranks(&[3]), "rank 3");
        assert_eq!(ranks(&[0, 1, 3]), "ranks 0, 1 and 3");
        assert_eq!(ranks(&[0, 1, 2, 3, 4, 5, 6, 8]), "ranks 0 to 6 and 8");
        assert_eq!(ranks(&[0, 1, 2]), "ranks 0 to 2");
    }
}
