//! What launcher and agent say to each other: one frame a packet, lengths bounded, decoding that never trusts.
//!
//! The launcher gives [`Order`]s, the agent (and, when the agent is lost, the guard) makes [`Report`]s.
use super::job::{Bind, Job, Output, Program, Stdin};
use super::running::Ending;
use crate::job::bytes::{Reader, Writer};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// The most payload bytes of a frame.
pub(super) const PAYLOAD: usize = 32 * 1024;
/// Room for any packet.
pub(super) const PACKET: usize = PAYLOAD + 64;
/// The most bytes of a job's description: more than the kernel takes as arguments and environment of one program.
const DESCRIPTION: usize = 64 << 20;

/// The standard streams of a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

/// From the launcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// A part of the job's description.
    Describe(Vec<u8>),
    /// The description is complete.
    Go,
    End(Ending),
    Pause,
    Resume,
    /// So many bytes of output have been written.
    Taken(u32),
    /// Nobody reads this stream any more.
    Closed(Stream),
    /// Standard input for the rank that gets it; empty at its end.
    Stdin(Vec<u8>),
}

/// To the launcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// Every rank runs.
    Started { agent: u32, ranks: Vec<u32> },
    /// The job could not be started.
    Refused { code: i32, text: String },
    /// Whole lines of output, or as much of a line as there was.
    Output(Stream, Vec<u8>),
    /// A sentence for the user.
    Note(String),
    /// Every rank is stopped.
    Paused,
    /// So many bytes of standard input have been taken.
    StdinTaken(u32),
    /// The job is over, and nothing of it is left.
    Done {
        code: i32,
        verdict: Option<(String, String)>,
    },
}

impl Stream {
    fn word(self) -> u32 {
        self as u32
    }

    fn from_word(word: u32) -> Option<Stream> {
        match word {
            0 => Some(Stream::Out),
            1 => Some(Stream::Err),
            _ => None,
        }
    }
}

impl Order {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Order::Describe(part) => Writer::new(0).rest(part),
            Order::Go => Writer::new(1).0,
            Order::End(Ending::TimeLimit) => Writer::new(2).u32(0).0,
            Order::End(Ending::Signal(signal)) => Writer::new(2).u32(*signal as u32).0,
            Order::Pause => Writer::new(3).0,
            Order::Resume => Writer::new(4).0,
            Order::Taken(bytes) => Writer::new(5).u32(*bytes).0,
            Order::Closed(stream) => Writer::new(6).u32(stream.word()).0,
            Order::Stdin(bytes) => Writer::new(7).rest(bytes),
        }
    }

    pub(super) fn decode(frame: &[u8]) -> Option<Order> {
        let mut frame = Reader(frame);
        Some(match frame.u8()? {
            0 => Order::Describe(frame.rest()),
            1 => Order::Go,
            2 => Order::End(match frame.u32()? {
                0 => Ending::TimeLimit,
                signal => Ending::Signal(i32::try_from(signal).ok().filter(|s| *s < 128)?),
            }),
            3 => Order::Pause,
            4 => Order::Resume,
            5 => Order::Taken(frame.u32()?),
            6 => Order::Closed(Stream::from_word(frame.u32()?)?),
            7 => Order::Stdin(frame.rest()),
            _ => return None,
        })
    }
}

impl Report {
    pub(super) fn encode(&self) -> Vec<u8> {
        // Texts are ours and short; one that is not is cut, so that every packet is taken.
        let cut = |text: &str| text.as_bytes()[..text.len().min(PAYLOAD / 4)].to_vec();
        match self {
            Report::Started { agent, ranks } => {
                ranks
                    .iter()
                    .fold(
                        Writer::new(0).u32(*agent).u32(ranks.len() as u32),
                        |w, pid| w.u32(*pid),
                    )
                    .0
            }
            Report::Refused { code, text } => Writer::new(1).u32(*code as u32).bytes(&cut(text)).0,
            Report::Output(stream, bytes) => Writer::new(2).u32(stream.word()).rest(bytes),
            Report::Note(text) => Writer::new(3).bytes(&cut(text)).0,
            Report::Paused => Writer::new(4).0,
            Report::StdinTaken(bytes) => Writer::new(5).u32(*bytes).0,
            Report::Done {
                code,
                verdict: None,
            } => Writer::new(6).u32(*code as u32).u32(0).0,
            Report::Done {
                code,
                verdict: Some((text, json)),
            } => {
                Writer::new(6)
                    .u32(*code as u32)
                    .u32(1)
                    .bytes(&cut(text))
                    .bytes(&cut(json))
                    .0
            }
        }
    }

    pub(super) fn decode(frame: &[u8]) -> Option<Report> {
        let mut frame = Reader(frame);
        Some(match frame.u8()? {
            0 => {
                let agent = frame.u32()?;
                let ranks = (0..frame.count()?)
                    .map(|_| frame.u32())
                    .collect::<Option<_>>()?;
                Report::Started { agent, ranks }
            }
            1 => Report::Refused {
                code: frame.u32()? as i32,
                text: frame.text()?,
            },
            2 => Report::Output(Stream::from_word(frame.u32()?)?, frame.rest()),
            3 => Report::Note(frame.text()?),
            4 => Report::Paused,
            5 => Report::StdinTaken(frame.u32()?),
            6 => {
                let code = frame.u32()? as i32;
                let verdict = if frame.u32()? == 0 {
                    None
                } else {
                    Some((frame.text()?, frame.text()?))
                };
                Report::Done { code, verdict }
            }
            _ => return None,
        })
    }
}

/// The job as the agent needs it, in frames for the wire, the last of them [`Order::Go`].
pub(super) fn describe(job: &Job) -> Vec<Order> {
    let stdin = match job.stdin {
        Stdin::None => (0, 0),
        Stdin::Inherit { rank } => (1, rank),
        Stdin::Forward { rank } => (2, rank),
    };
    let (output, tag, path) = match &job.output {
        Output::Inherit { tag } => (0, *tag, None),
        Output::Directory { path, tag } => (1, *tag, Some(path)),
        Output::Capture { tag } => (2, *tag, None),
    };
    let mut w = Writer::default()
        .u64(
            job.timeout
                .map_or(u64::MAX, |d| d.as_nanos().min(u64::MAX as u128 - 1) as u64),
        )
        .u64(job.grace.as_nanos().min(u64::MAX as u128) as u64)
        .u32((job.bind == Bind::Core) as u32)
        .u32(stdin.0)
        .u32(stdin.1 as u32)
        .u32(output)
        .u32(tag as u32)
        .bytes(path.map_or(&[], |p| p.as_os_str().as_bytes()))
        .u32(job.verbose as u32)
        .u32(job.foreign_names as u32)
        .u32(job.universe.map_or(0, |n| n as u32))
        .u32(job.programs.len() as u32);
    for program in &job.programs {
        w = w
            .bytes(program.command.as_bytes())
            .u32(program.ranks as u32)
            .u32(program.args.len() as u32);
        w = program
            .args
            .iter()
            .fold(w, |w, arg| w.bytes(arg.as_bytes()));
        w = w.u32(program.env.len() as u32);
        w = program.env.iter().fold(w, |w, (name, value)| {
            w.bytes(name.as_bytes()).bytes(value.as_bytes())
        });
        w = w.u32(program.wdir.is_some() as u32).bytes(
            program
                .wdir
                .as_ref()
                .map_or(&[], |d| d.as_os_str().as_bytes()),
        );
    }
    w.0.chunks(PAYLOAD)
        .map(|part| Order::Describe(part.to_vec()))
        .chain([Order::Go])
        .collect()
}

/// A description that arrives in parts.
#[derive(Default)]
pub(super) struct Description(Vec<u8>);

impl Description {
    /// Adds a part; false once it is longer than any job's.
    pub(super) fn push(&mut self, part: &[u8]) -> bool {
        self.0.extend(part);
        self.0.len() <= DESCRIPTION
    }

    /// The job; `None` if the bytes do not describe one.
    pub(super) fn job(&self) -> Option<Job> {
        let mut r = Reader(&self.0);
        let mut job = Job::new();
        job.timeout = Some(r.u64()?)
            .filter(|n| *n != u64::MAX)
            .map(Duration::from_nanos);
        job.grace = Duration::from_nanos(r.u64()?);
        job.bind = if r.u32()? == 1 {
            Bind::Core
        } else {
            Bind::None
        };
        job.stdin = match (r.u32()?, r.u32()? as usize) {
            (0, _) => Stdin::None,
            (1, rank) => Stdin::Inherit { rank },
            (2, rank) => Stdin::Forward { rank },
            _ => return None,
        };
        let (output, tag, path) = (r.u32()?, r.u32()? != 0, PathBuf::from(r.os()?));
        job.output = match output {
            0 => Output::Inherit { tag },
            1 => Output::Directory { path, tag },
            2 => Output::Capture { tag },
            _ => return None,
        };
        job.verbose = r.u32()? != 0;
        job.foreign_names = r.u32()? != 0;
        job.universe = Some(r.u32()? as usize).filter(|n| *n != 0);
        for _ in 0..r.count()? {
            let mut program = Program::new(r.os()?, r.u32()? as usize);
            program.args = (0..r.count()?).map(|_| r.os()).collect::<Option<_>>()?;
            program.env = (0..r.count()?)
                .map(|_| Some((r.os()?, r.os()?)))
                .collect::<Option<_>>()?;
            let has_wdir = r.u32()? != 0;
            let wdir = r.os()?;
            program.wdir = has_wdir.then(|| PathBuf::from(wdir));
            job.programs.push(program);
        }
        r.0.is_empty().then_some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    fn orders() -> Vec<Order> {
        let ends = [Ending::TimeLimit, Ending::Signal(15)].map(Order::End);
        let others = [
            Order::Describe(vec![1, 2]),
            Order::Go,
            Order::Pause,
            Order::Resume,
            Order::Taken(7),
            Order::Closed(Stream::Err),
            Order::Stdin(vec![]),
        ];
        ends.into_iter().chain(others).collect()
    }

    fn reports() -> Vec<Report> {
        vec![
            Report::Started {
                agent: 7,
                ranks: vec![8, 9],
            },
            Report::Refused {
                code: 127,
                text: "no".into(),
            },
            Report::Output(Stream::Out, b"line\n".to_vec()),
            Report::Note("so".into()),
            Report::Paused,
            Report::StdinTaken(3),
            Report::Done {
                code: 0,
                verdict: None,
            },
            Report::Done {
                code: 139,
                verdict: Some(("text".into(), "{}".into())),
            },
        ]
    }

    fn whole(job: &Job) -> Option<Job> {
        let mut description = Description::default();
        for order in describe(job) {
            assert!(order.encode().len() <= PACKET);
            if let Order::Describe(part) = order {
                assert!(description.push(&part));
            }
        }
        description.job()
    }

    #[test]
    fn frames_come_back() {
        for order in orders() {
            assert_eq!(Order::decode(&order.encode()), Some(order));
        }
        for report in reports() {
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
    }

    #[test]
    fn jobs_come_back() {
        let program = Program::new("prog", 3)
            .args(["-n", "5"])
            .env("A", "b=c")
            .env("LONG", "x".repeat(3 * PAYLOAD));
        let mut other = Program::new(OsString::from_vec(vec![0xff, b'x']), 1);
        other.wdir = Some("/tmp".into());
        let job = Job::new()
            .program(program)
            .program(other)
            .timeout(Duration::from_millis(1500))
            .grace(Duration::ZERO)
            .bind(Bind::None)
            .stdin(Stdin::Forward { rank: 2 })
            .output(Output::Directory {
                path: "out".into(),
                tag: true,
            })
            .verbose(true)
            .universe_size(12)
            .foreign_names(true);
        assert_eq!(format!("{:?}", whole(&job).unwrap()), format!("{job:?}"));
        assert_eq!(
            format!("{:?}", whole(&Job::new()).unwrap()),
            format!("{:?}", Job::new())
        );
    }

    proptest! {
        #[test]
        fn strange_bytes_are_refused_or_mean_something(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(order) = Order::decode(&bytes) {
                prop_assert_eq!(Order::decode(&order.encode()), Some(order));
            }
            if let Some(report) = Report::decode(&bytes) {
                prop_assert_eq!(Report::decode(&report.encode()), Some(report));
            }
            let mut description = Description::default();
            prop_assert!(description.push(&bytes));
            let _ = description.job();
        }

        #[test]
        fn a_damaged_description_never_panics(at in 0_usize..120, value in any::<u8>(), keep in 0_usize..120) {
            let job = Job::new().program(Program::new("prog", 3).args(["a"]).env("A", "b"));
            let Order::Describe(mut bytes) = describe(&job).remove(0) else { unreachable!() };
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(keep);
            let mut description = Description::default();
            description.push(&bytes);
            let _ = description.job();
        }
    }
}
