//! `tercio doctor`: whether the hosts can run jobs, and what mends it where they cannot. Each host is looked at by a job of one rank there, so that
//! what is tried is what `tercio run` does; then one rank on each sends to all others.
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tercio::launch::{self, Bind, Host, Job, Level, Output, Program, Reach};
use tercio::traits::*;

use crate::hosts::reach::{Starter, Way};
use crate::hosts::{self, Entry};
use crate::sentence::Sentence;

/// Hosts that are looked at at one time.
const AT_ONCE: usize = 32;
/// How far another host's clock may be off.
const SKEW: Duration = Duration::from_secs(1);
/// How long the hosts may take to send to each other.
const MESSAGES: Duration = Duration::from_secs(20);

/// The command line of `tercio doctor`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The hosts to look at, as for tercio run
    #[arg(short = 'f', long, visible_alias = "machinefile", value_name = "FILE")]
    hostfile: Option<PathBuf>,
    /// The same as a list
    #[arg(short = 'H', long, value_name = "HOST,HOST,...")]
    host: Option<String>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    /// Reach other hosts by this command, which gets the host and a command line
    #[arg(long, value_name = "COMMAND", default_value = "ssh")]
    rsh_agent: String,
    /// Bring this program along to hosts that do not have it
    #[arg(long)]
    push: bool,
    /// The time in seconds that each host has until its agent is there
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    start_timeout: u64,
    /// This process looks at its host
    #[arg(long, value_name = "examine|messages", hide = true)]
    part: Option<String>,
}

/// Looks at the hosts; 0 if nothing failed, 1 if something did, 125 if they could not be looked at.
pub(crate) fn main(args: Args) -> i32 {
    match args.part.as_deref() {
        Some("messages") => return send_to_all(),
        Some(_) => {
            println!("{}", of_this_host());
            return 0;
        }
        None => {}
    }
    match examine(&args) {
        Ok(report) => {
            match args.json {
                true => println!("{}", report.json()),
                false => print!("{}", report.text()),
            }
            i32::from(report.level() == Level::Failure)
        }
        Err(sentence) => {
            eprintln!("tercio: {sentence}");
            sentence.code
        }
    }
}

/// A thing that was looked at.
#[derive(Clone, Debug, PartialEq)]
struct Check {
    what: String,
    level: Level,
    text: String,
    mend: Option<String>,
}

impl Check {
    fn fine(what: &str, text: String) -> Check {
        Check {
            what: what.into(),
            level: Level::Fine,
            text,
            mend: None,
        }
    }

    /// A sentence says behind its semicolon what to do; else it is `mend`.
    fn failed(what: &str, text: &str, mend: &str) -> Check {
        let (text, mend) = text.split_once("; ").unwrap_or((text, mend));
        Check {
            what: what.into(),
            level: Level::Failure,
            text: text.into(),
            mend: Some(mend.into()),
        }
    }

    fn json(&self) -> Value {
        json!({ "check": self.what, "level": word(self.level), "text": self.text, "mend": self.mend })
    }

    fn from_json(value: &Value) -> Option<Check> {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        Some(Check {
            what: text("check")?,
            level: match value["level"].as_str()? {
                "ok" => Level::Fine,
                "warn" => Level::Warning,
                _ => Level::Failure,
            },
            text: text("text")?,
            mend: text("mend"),
        })
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Fine => "ok",
        Level::Warning => "warn",
        Level::Failure => "fail",
    }
}

/// What a rank on a host tells of it, on one line.
fn of_this_host() -> Value {
    let checks: Vec<_> = launch::examine()
        .into_iter()
        .map(|check| {
            let launch::Check {
                what,
                level,
                text,
                mend,
                ..
            } = check;
            Check {
                what: what.into(),
                level,
                text,
                mend,
            }
            .json()
        })
        .collect();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    json!({ "clock": now.unwrap_or_default().as_secs_f64(), "checks": checks })
}

/// Each rank sends its number to every other, and gets theirs.
fn send_to_all() -> i32 {
    let Some(universe) = tercio::initialize() else {
        return 125;
    };
    let world = universe.world();
    let (rank, size) = (world.rank(), world.size());
    for step in 1..size {
        let (to, from) = ((rank + step) % size, (rank + size - step) % size);
        let (to, source) = (world.process_at_rank(to), world.process_at_rank(from));
        let (got, _): (i32, _) = tercio::point_to_point::send_receive(&rank, &to, &source);
        if got != from {
            eprintln!("rank {rank} got {got} from rank {from}");
            return 1;
        }
    }
    0
}

/// All that was found.
struct Report {
    hosts: Vec<(String, Vec<Check>)>,
    between: Vec<Check>,
}

impl Report {
    fn all(&self) -> impl Iterator<Item = &Check> {
        self.hosts
            .iter()
            .flat_map(|(_, checks)| checks)
            .chain(&self.between)
    }

    fn level(&self) -> Level {
        self.all()
            .map(|check| check.level)
            .max()
            .unwrap_or(Level::Fine)
    }

    fn json(&self) -> Value {
        let list = |checks: &[Check]| checks.iter().map(Check::json).collect::<Vec<_>>();
        let host =
            |(name, checks): &(String, Vec<Check>)| json!({ "host": name, "checks": list(checks) });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "level": word(self.level()),
            "hosts": self.hosts.iter().map(host).collect::<Vec<_>>(),
            "between": list(&self.between),
        })
    }

    /// For people: a paragraph for each host.
    fn text(&self) -> String {
        let mut text = String::new();
        let between = (!self.between.is_empty())
            .then(|| ("between the hosts".to_owned(), self.between.clone()));
        for (name, checks) in self.hosts.iter().chain(&between) {
            let _ = writeln!(text, "{name}");
            for check in checks {
                let _ = writeln!(
                    text,
                    "  {:<5} {:<14} {}",
                    word(check.level),
                    check.what,
                    check.text
                );
                if let Some(mend) = &check.mend {
                    let _ = writeln!(text, "  {:<5} {:<14} {mend}", "", "->");
                }
            }
        }
        let count = |level| self.all().filter(|check| check.level == level).count();
        let (warnings, failures) = (count(Level::Warning), count(Level::Failure));
        let _ = match (warnings, failures) {
            (0, 0) => writeln!(text, "all is well"),
            _ => writeln!(text, "{failures} failed, {warnings} to be warned of"),
        };
        text
    }
}

/// Looks at all hosts, several at one time.
fn examine(args: &Args) -> Result<Report, Sentence> {
    let named = named(args.hostfile.as_deref(), args.host.as_deref())?;
    let start_limit = Duration::from_secs(args.start_timeout.max(1));
    let starter = Starter::Shell(args.rsh_agent.clone());
    let way = Way::new(&starter, args.push, start_limit)?;
    // The agent's own file, which is this program; in a directory that every host has.
    let mut program = Program::new("/proc/self/exe", 1);
    program.wdir = Some("/".into());
    let found: Vec<Mutex<Vec<Check>>> = named.iter().map(|_| Mutex::default()).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(named.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(entry) = named.get(at) else { return };
                    let checks = look_at(entry, way.to(entry), &program, start_limit);
                    *found[at]
                        .lock()
                        .unwrap_or_else(|broken| broken.into_inner()) = checks;
                }
            });
        }
    });
    let found: Vec<Vec<Check>> = found
        .into_iter()
        .map(|checks| checks.into_inner().unwrap_or_default())
        .collect();
    let usable: Vec<&Entry> = named
        .iter()
        .zip(&found)
        .filter(|(_, checks)| {
            checks
                .first()
                .is_some_and(|check| check.level != Level::Failure)
        })
        .map(|(entry, _)| entry)
        .collect();
    let between = match usable.len() {
        0 | 1 => Vec::new(),
        _ => vec![messages(&usable, &way, &program, start_limit)],
    };
    let name = |entry: &Entry| match entry.is_here() {
        true => format!("{} (this host)", entry.name),
        false => entry.name.clone(),
    };
    Ok(Report {
        hosts: named.iter().map(name).zip(found).collect(),
        between,
    })
}

/// The hosts that the command line names; this one if it names none.
pub(crate) fn named(file: Option<&Path>, list: Option<&str>) -> Result<Vec<Entry>, Sentence> {
    let file = file.map(hosts::read).transpose()?;
    let list = list.map(|list| hosts::list("--host", list)).transpose()?;
    match (file, list) {
        (Some(file), Some(list)) => hosts::select(&file, list),
        (Some(hosts), None) | (None, Some(hosts)) => Ok(hosts),
        (None, None) => hosts::list("--host", "localhost"),
    }
}

/// A job that tells of itself and not of its ranks.
fn quiet_job(start_limit: Duration) -> Job {
    // A rank that is bound sees one processor.
    Job::new()
        .bind(Bind::None)
        .output(Output::Capture { tag: false })
        .start_limit(start_limit)
}

/// Runs a rank on one host that looks at it. The first check is whether that could be done at all.
fn look_at(entry: &Entry, reach: Reach, program: &Program, start_limit: Duration) -> Vec<Check> {
    let begun = (Instant::now(), SystemTime::now());
    let here = reach == Reach::Here;
    let host = Host {
        name: entry.name.clone(),
        reach,
        ranks: vec![0],
    };
    let what = if here { "agent" } else { "ssh" };
    let outcome = quiet_job(start_limit)
        .program(program.clone().args(["doctor", "--part", "examine"]))
        .host(host)
        .timeout(start_limit)
        .run();
    let took = begun.0.elapsed();
    let failed = |text: String| vec![Check::failed(what, &text, "see `tercio run -v` there")];
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return failed(error.to_string()),
    };
    if let Some(verdict) = &outcome.verdict {
        return failed(first_line(&verdict.text()));
    }
    let told = String::from_utf8_lossy(&outcome.stdout);
    let Ok(told) = serde_json::from_str::<Value>(told.trim()) else {
        return failed(format!(
            "the host told nothing of itself: {:?}",
            told.trim()
        ));
    };
    let mut checks = vec![Check::fine(
        what,
        format!(
            "a rank was started and ended in {:.2} s, by tercio {}",
            took.as_secs_f64(),
            env!("CARGO_PKG_VERSION")
        ),
    )];
    if !here {
        checks.push(clock(begun.1, told["clock"].as_f64().unwrap_or(0.0), took));
    }
    let list = told["checks"].as_array().cloned().unwrap_or_default();
    checks.extend(list.iter().filter_map(Check::from_json));
    checks
}

/// The other host told its time somewhen in the `took` from `begun` on.
fn clock(begun: SystemTime, theirs: f64, took: Duration) -> Check {
    let begun = begun
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64();
    let end = begun + took.as_secs_f64();
    // By so much it is off at the least.
    let off = (begun - theirs).max(theirs - end).max(0.0);
    match off > SKEW.as_secs_f64() {
        true => Check {
            what: "clock".into(),
            level: Level::Warning,
            text: format!(
                "it is {off:.1} s {} this host's",
                if theirs < begun { "behind" } else { "ahead of" }
            ),
            mend: Some("let both follow a time server: `timedatectl set-ntp true`".into()),
        },
        false => Check::fine(
            "clock",
            format!(
                "it agrees with this host's to {:.1} s",
                off + took.as_secs_f64()
            ),
        ),
    }
}

/// One rank on each host sends to all others.
fn messages(usable: &[&Entry], way: &Way, program: &Program, start_limit: Duration) -> Check {
    const WHAT: &str = "messages";
    let mut job = quiet_job(start_limit).timeout(MESSAGES);
    let mut program = program.clone().args(["doctor", "--part", "messages"]);
    program.ranks = usable.len();
    job = job.program(program);
    for (rank, entry) in usable.iter().enumerate() {
        job = job.host(Host {
            name: entry.name.clone(),
            reach: way.to(entry),
            ranks: vec![rank],
        });
    }
    let begun = Instant::now();
    let failed = |text: &str| {
        let mend = "the hosts must reach each other by TCP, on any port above 1023";
        Check::failed(WHAT, text, mend)
    };
    match job.run() {
        Err(error) => failed(&error.to_string()),
        Ok(outcome) => match outcome.verdict {
            None => Check::fine(
                WHAT,
                format!(
                    "each of {} hosts sent to all others, in {:.2} s",
                    usable.len(),
                    begun.elapsed().as_secs_f64()
                ),
            ),
            Some(verdict) => {
                let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
                let own = said.lines().find(|line| line.starts_with("rank "));
                failed(own.unwrap_or(&first_line(&verdict.text())))
            }
        },
    }
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("tercio: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(level: Level) -> Report {
        let check = Check {
            what: "descriptors".into(),
            level,
            text: "so".into(),
            mend: (level != Level::Fine).then(|| "do that".into()),
        };
        let fine = Check::fine("ssh", "it works".into());
        Report {
            hosts: vec![
                ("a".into(), vec![fine.clone(), check]),
                ("b".into(), vec![fine]),
            ],
            between: Vec::new(),
        }
    }

    #[test]
    fn reports_are_for_people_and_programs() {
        let text = report(Level::Warning).text();
        let expected = "a\n  ok    ssh            it works\n  warn  descriptors    so\n        ->             do that\nb\n  ok    ssh            it \
                        works\n0 failed, 1 to be warned of\n";
        assert_eq!(text, expected);
        assert!(report(Level::Fine).text().ends_with("\nall is well\n"));
        let json = report(Level::Failure).json();
        assert_eq!(json["level"], "fail");
        let back = Check::from_json(&json["hosts"][0]["checks"][1]).expect("a check");
        assert_eq!(back, report(Level::Failure).hosts[0].1[1]);
    }

    #[test]
    fn clocks_are_compared_as_far_as_that_can_be_told() {
        let begun = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let level = |theirs| clock(begun, theirs, Duration::from_secs(2)).level;
        assert_eq!(
            [level(999.5), level(1001.0), level(1002.9)],
            [Level::Fine; 3]
        );
        assert_eq!([level(998.0), level(1004.0)], [Level::Warning; 2]);
        assert!(
            clock(begun, 990.0, Duration::ZERO)
                .text
                .contains("10.0 s behind")
        );
    }
}
