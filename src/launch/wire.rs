//! What launcher and agent say to each other: one frame a packet, lengths bounded, decoding that never trusts.
//!
//! The launcher gives [`Order`]s, the agent (and, when the agent is lost, the guard) makes [`Report`]s.
use super::running::Ending;
use super::verdict::{Cause, Findings, Subject};
use crate::job::bytes::{Reader, Writer};
use crate::job::directory::Record;
use crate::job::exchange::Secret;
use crate::job::layout::MAX_RANKS;
use std::time::Duration;

/// The most payload bytes of a frame.
pub(super) const PAYLOAD: usize = 32 * 1024;
/// Room for any packet.
pub(super) const PACKET: usize = PAYLOAD + 64;
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
    /// The job's secret: the first order to each agent of a job of several hosts.
    Secret(Secret),
    /// The job ends because of what happened on another host.
    Fail,
    /// What a rank of another host has published.
    Publish(Record),
    /// A rank of another host is gone: its number and its state.
    Gone(u32, u32),
    /// The launcher's side lives.
    Beat,
    /// Every rank gets this signal.
    Signal(i32),
}

/// To the launcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The processes of ranks, from this one on; all of them come before `Started`.
    Ranks { first: u32, pids: Vec<u32> },
    /// Every rank runs.
    Started { agent: u32 },
    /// The job could not be started.
    Refused { code: i32, text: String },
    /// Output of a rank: whole lines, or as much of a line as there was, unless more of the same follows.
    Output {
        stream: Stream,
        rank: u32,
        more: bool,
        bytes: Vec<u8>,
    },
    /// A sentence for the user.
    Note(String),
    /// Every rank is stopped.
    Paused,
    /// So many bytes of standard input have been taken.
    StdinTaken(u32),
    /// The job is over, and nothing of it is left here.
    Done(Box<Account>),
    /// An agent on another host is there.
    Hello(Hello),
    /// A rank here has published something.
    Published(Record),
    /// A rank here is gone: its number and its state.
    Gone(u32, u32),
    /// The agent lives.
    Beat,
    /// The job has begun to end here, for this reason. The final account follows with `Done`.
    Failed(Box<Findings>),
}

/// What came of a job, or of its part on one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// What failed here, if something did.
    pub(super) findings: Option<Findings>,
    /// The ranks that were ended here because of something elsewhere.
    pub(super) ended: Vec<usize>,
    /// What they were doing.
    pub(super) doing: Vec<(usize, String)>,
    /// The rank here that exited without goodbye, if one did.
    pub(super) suspect: Option<Subject>,
}

/// What an agent on another host says of itself before it is told anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// [`BYTE_ORDER`] as its machine has it.
    pub(super) order: [u8; 4],
    /// The version of the frames after this one.
    pub(super) wire: u32,
    /// The version of the program.
    pub(super) version: String,
    pub(super) pid: u32,
}

/// Counts up with every change of what the frames mean.
pub(super) const WIRE: u32 = 2;
/// A number whose bytes tell the order that a machine has them in.
pub(super) const BYTE_ORDER: u32 = 0x0102_0304;
/// Spans of ranks in one account: more come from jobs whose ranks are strewn over hosts, and are left out.
const SPANS: usize = 1500;
/// Calls in one account; a verdict shows fewer.
const CALLS: usize = 16;

fn put_record(w: Writer, record: &Record) -> Vec<u8> {
    w.u32(record.rank).bytes(&record.key).rest(&record.value)
}

fn take_record(mut r: Reader<'_>) -> Option<Record> {
    Some(Record {
        rank: r.u32()?,
        key: r.bytes()?.to_vec(),
        value: r.rest(),
    })
}

/// Texts are ours and short; one that is not is cut, so that every packet is taken.
fn cut(text: &str) -> &[u8] {
    &text.as_bytes()[..text.len().min(PAYLOAD / 8)]
}

fn put_subject(w: Writer, subject: Option<&Subject>) -> Writer {
    match subject {
        None => w.u32(0),
        Some(it) => w
            .u32(1)
            .u32(it.rank as u32)
            .u32(it.pid)
            .bytes(cut(&it.program))
            .bytes(cut(&it.call)),
    }
}

fn take_subject(r: &mut Reader<'_>) -> Option<Option<Subject>> {
    if r.u32()? == 0 {
        return Some(None);
    }
    Some(Some(Subject {
        rank: r.u32()? as usize,
        pid: r.u32()?,
        program: r.text()?,
        call: r.text()?,
    }))
}

fn put_ranks(w: Writer, ranks: &[usize]) -> Writer {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for &rank in ranks {
        match spans.last_mut() {
            Some((first, count)) if *first + *count == rank => *count += 1,
            _ => spans.push((rank, 1)),
        }
    }
    spans.truncate(SPANS);
    spans
        .iter()
        .fold(w.u32(spans.len() as u32), |w, &(first, count)| {
            w.u32(first as u32).u32(count as u32)
        })
}

fn take_ranks(r: &mut Reader<'_>) -> Option<Vec<usize>> {
    let mut ranks = Vec::new();
    for _ in 0..r.count()? {
        let (first, count) = (r.u32()? as usize, r.u32()? as usize);
        if first + count > MAX_RANKS || ranks.len() + count > MAX_RANKS {
            return None;
        }
        ranks.extend(first..first + count);
    }
    Some(ranks)
}

fn put_calls(w: Writer, calls: &[(usize, String)]) -> Writer {
    let calls = &calls[..calls.len().min(CALLS)];
    calls
        .iter()
        .fold(w.u32(calls.len() as u32), |w, (rank, call)| {
            w.u32(*rank as u32).bytes(&cut(call)[..call.len().min(200)])
        })
}

fn take_calls(r: &mut Reader<'_>) -> Option<Vec<(usize, String)>> {
    (0..r.count()?)
        .map(|_| Some((r.u32()? as usize, r.text()?)))
        .collect()
}

fn put_findings(w: Writer, it: &Findings) -> Writer {
    let w = put_cause(w, &it.cause);
    let w = put_subject(w, it.rank.as_ref())
        .u32(it.size as u32)
        .bytes(cut(&it.host))
        .bytes(cut(&it.job))
        .u64(it.after.as_nanos().min(u64::MAX as u128) as u64);
    put_calls(put_ranks(w, &it.ended), &it.doing)
}

fn take_findings(r: &mut Reader<'_>) -> Option<Findings> {
    Some(Findings {
        cause: take_cause(r)?,
        rank: take_subject(r)?,
        size: r.u32()? as usize,
        host: r.text()?,
        job: r.text()?,
        after: Duration::from_nanos(r.u64()?),
        ended: take_ranks(r)?,
        doing: take_calls(r)?,
    })
}

fn put_cause(w: Writer, cause: &Cause) -> Writer {
    match cause {
        Cause::Signal(signal) => w.u32(0).u32(*signal as u32),
        Cause::OutOfMemory(None) => w.u32(1),
        Cause::OutOfMemory(Some((limit, used))) => w.u32(2).u64(*limit).u64(*used),
        Cause::Exit(code) => w.u32(3).u32(*code as u32),
        Cause::Panic { place, text, code } => w
            .u32(4)
            .u32(*code as u32)
            .bytes(cut(place))
            .bytes(cut(text)),
        Cause::Abort { code, text } => w.u32(5).u32(*code as u32).bytes(cut(text)),
        Cause::Reported(text) => w.u32(6).bytes(cut(text)),
        Cause::Gone(text) => w.u32(7).bytes(cut(text)),
        Cause::NoGoodbye(None) => w.u32(8),
        Cause::NoGoodbye(Some(waiter)) => w.u32(9).bytes(cut(waiter)),
        Cause::Vanished => w.u32(10),
        Cause::TimeLimit(None) => w.u32(11),
        Cause::TimeLimit(Some(limit)) => {
            w.u32(12).u64(limit.as_nanos().min(u64::MAX as u128) as u64)
        }
        Cause::Interrupted(signal) => w.u32(13).u32(*signal as u32),
        Cause::Lost { who, pid, how } => w.u32(14).u32(*pid).bytes(cut(who)).bytes(cut(how)),
        Cause::LostHost(how) => w.u32(15).bytes(cut(how)),
    }
}

fn take_cause(r: &mut Reader<'_>) -> Option<Cause> {
    let number = |r: &mut Reader<'_>| Some(r.u32()? as i32);
    Some(match r.u32()? {
        0 => Cause::Signal(number(r)?),
        1 => Cause::OutOfMemory(None),
        2 => Cause::OutOfMemory(Some((r.u64()?, r.u64()?))),
        3 => Cause::Exit(number(r)?),
        4 => Cause::Panic {
            code: number(r)?,
            place: r.text()?,
            text: r.text()?,
        },
        5 => Cause::Abort {
            code: number(r)?,
            text: r.text()?,
        },
        6 => Cause::Reported(r.text()?),
        7 => Cause::Gone(r.text()?),
        8 => Cause::NoGoodbye(None),
        9 => Cause::NoGoodbye(Some(r.text()?)),
        10 => Cause::Vanished,
        11 => Cause::TimeLimit(None),
        12 => Cause::TimeLimit(Some(Duration::from_nanos(r.u64()?))),
        13 => Cause::Interrupted(number(r)?),
        14 => Cause::Lost {
            pid: r.u32()?,
            who: r.text()?,
            how: r.text()?,
        },
        15 => Cause::LostHost(r.text()?),
        _ => return None,
    })
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
            Order::Secret(secret) => Writer::new(8).rest(secret),
            Order::Fail => Writer::new(9).0,
            Order::Publish(record) => put_record(Writer::new(10), record),
            Order::Gone(rank, state) => Writer::new(11).u32(*rank).u32(*state).0,
            Order::Beat => Writer::new(12).0,
            Order::Signal(signal) => Writer::new(13).u32(*signal as u32).0,
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
            8 => Order::Secret(frame.take(32)?.try_into().ok()?),
            9 => Order::Fail,
            10 => Order::Publish(take_record(frame)?),
            11 => Order::Gone(frame.u32()?, frame.u32()?),
            12 => Order::Beat,
            13 => Order::Signal(i32::try_from(frame.u32()?).ok().filter(|s| *s < 128)?),
            _ => return None,
        })
    }
}

impl Report {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Report::Ranks { first, pids } => {
                let w = Writer::new(0).u32(*first).u32(pids.len() as u32);
                pids.iter().fold(w, |w, pid| w.u32(*pid)).0
            }
            Report::Refused { code, text } => Writer::new(1).u32(*code as u32).bytes(cut(text)).0,
            Report::Output {
                stream,
                rank,
                more,
                bytes,
            } => Writer::new(2)
                .u32(stream.word())
                .u32(*rank)
                .u32(*more as u32)
                .rest(bytes),
            Report::Note(text) => Writer::new(3).bytes(cut(text)).0,
            Report::Paused => Writer::new(4).0,
            Report::StdinTaken(bytes) => Writer::new(5).u32(*bytes).0,
            Report::Done(account) => {
                let w = Writer::new(6);
                let w = match &account.findings {
                    None => w.u32(0),
                    Some(findings) => put_findings(w.u32(1), findings),
                };
                let w = put_calls(put_ranks(w, &account.ended), &account.doing);
                put_subject(w, account.suspect.as_ref()).0
            }
            Report::Hello(hello) => Writer::new(7)
                .rest(&hello.order)
                .into_iter()
                .chain(
                    Writer::default()
                        .u32(hello.wire)
                        .bytes(cut(&hello.version))
                        .u32(hello.pid)
                        .0,
                )
                .collect(),
            Report::Published(record) => put_record(Writer::new(8), record),
            Report::Gone(rank, state) => Writer::new(9).u32(*rank).u32(*state).0,
            Report::Beat => Writer::new(10).0,
            Report::Failed(findings) => put_findings(Writer::new(11), findings).0,
            Report::Started { agent } => Writer::new(12).u32(*agent).0,
        }
    }

    /// The processes of all ranks, in as many reports as that takes.
    pub(super) fn ranks(pids: &[u32]) -> Vec<Report> {
        let most = PAYLOAD / 4 - 4;
        let part = |(at, pids): (usize, &[u32])| Report::Ranks {
            first: (at * most) as u32,
            pids: pids.to_vec(),
        };
        pids.chunks(most).enumerate().map(part).collect()
    }

    pub(super) fn decode(frame: &[u8]) -> Option<Report> {
        let mut frame = Reader(frame);
        Some(match frame.u8()? {
            0 => Report::Ranks {
                first: frame.u32()?,
                pids: (0..frame.count()?)
                    .map(|_| frame.u32())
                    .collect::<Option<_>>()?,
            },
            1 => Report::Refused {
                code: frame.u32()? as i32,
                text: frame.text()?,
            },
            2 => Report::Output {
                stream: Stream::from_word(frame.u32()?)?,
                rank: frame.u32()?,
                more: frame.u32()? != 0,
                bytes: frame.rest(),
            },
            3 => Report::Note(frame.text()?),
            4 => Report::Paused,
            5 => Report::StdinTaken(frame.u32()?),
            6 => {
                let findings = match frame.u32()? {
                    0 => None,
                    _ => Some(take_findings(&mut frame)?),
                };
                Report::Done(Box::new(Account {
                    findings,
                    ended: take_ranks(&mut frame)?,
                    doing: take_calls(&mut frame)?,
                    suspect: take_subject(&mut frame)?,
                }))
            }
            7 => Report::Hello(Hello {
                order: frame.take(4)?.try_into().ok()?,
                wire: frame.u32()?,
                version: frame.text()?,
                pid: frame.u32()?,
            }),
            8 => Report::Published(take_record(frame)?),
            9 => Report::Gone(frame.u32()?, frame.u32()?),
            10 => Report::Beat,
            11 => Report::Failed(Box::new(take_findings(&mut frame)?)),
            12 => Report::Started {
                agent: frame.u32()?,
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn orders() -> Vec<Order> {
        let ends = [Ending::TimeLimit, Ending::Signal(15)].map(Order::End);
        let others = [
            Order::Describe(vec![1, 2]),
            Order::Go,
            Order::Pause,
            Order::Resume,
            Order::Signal(libc::SIGUSR1),
            Order::Taken(7),
            Order::Closed(Stream::Err),
            Order::Stdin(vec![]),
            Order::Secret([7; 32]),
            Order::Fail,
            Order::Publish(record()),
            Order::Gone(70_000, 2),
            Order::Beat,
        ];
        ends.into_iter().chain(others).collect()
    }

    fn record() -> Record {
        Record {
            rank: 7,
            key: b"tcp".to_vec(),
            value: vec![1; 30],
        }
    }

    fn findings(cause: Cause) -> Findings {
        Findings {
            cause,
            rank: Some(Subject {
                rank: 3,
                pid: 4,
                program: "./x -n".into(),
                call: "barrier at a.rs:7".into(),
            }),
            size: 9,
            host: "node03".into(),
            job: "1-2".into(),
            after: Duration::from_millis(7),
            ended: vec![0, 1, 2, 5, 8],
            doing: vec![(1, "send".into())],
        }
    }

    fn causes() -> Vec<Cause> {
        let text = || "so".to_owned();
        vec![
            Cause::Signal(11),
            Cause::OutOfMemory(None),
            Cause::OutOfMemory(Some((1, 2))),
            Cause::Exit(-1),
            Cause::Panic {
                place: "a.rs:1".into(),
                text: text(),
                code: 101,
            },
            Cause::Abort {
                code: 3,
                text: text(),
            },
            Cause::Reported(text()),
            Cause::Gone(text()),
            Cause::NoGoodbye(None),
            Cause::NoGoodbye(Some(text())),
            Cause::Vanished,
            Cause::TimeLimit(None),
            Cause::TimeLimit(Some(Duration::from_secs(3))),
            Cause::Interrupted(2),
            Cause::Lost {
                who: "agent".into(),
                pid: 9,
                how: text(),
            },
            Cause::LostHost(text()),
        ]
    }

    fn reports() -> Vec<Report> {
        let account = Account {
            findings: None,
            ended: vec![4, 5],
            doing: vec![(4, "wait".into())],
            suspect: findings(Cause::Vanished).rank,
        };
        let mut all = vec![
            Report::Ranks {
                first: 5,
                pids: vec![8, 9],
            },
            Report::Started { agent: 7 },
            Report::Refused {
                code: 127,
                text: "no".into(),
            },
            Report::Output {
                stream: Stream::Out,
                rank: 3,
                more: true,
                bytes: b"line\n".to_vec(),
            },
            Report::Note("so".into()),
            Report::Paused,
            Report::StdinTaken(3),
            Report::Done(Box::default()),
            Report::Done(Box::new(account)),
            Report::Hello(Hello {
                order: BYTE_ORDER.to_ne_bytes(),
                wire: WIRE,
                version: "1.2.3".into(),
                pid: 77,
            }),
            Report::Published(record()),
            Report::Gone(3, 4),
            Report::Beat,
        ];
        for cause in causes() {
            all.push(Report::Failed(Box::new(findings(cause.clone()))));
            all.push(Report::Done(Box::new(Account {
                findings: Some(findings(cause)),
                ..Account::default()
            })));
        }
        all
    }

    #[test]
    fn frames_come_back() {
        for order in orders() {
            assert_eq!(Order::decode(&order.encode()), Some(order));
        }
        for report in reports() {
            assert!(report.encode().len() <= PACKET);
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
    }

    /// Every frame cut at every length, and with every byte changed in several ways.
    #[test]
    fn damaged_frames_are_refused_or_mean_something() {
        let frames = orders().iter().map(Order::encode).collect::<Vec<_>>();
        let reports = reports().iter().map(Report::encode).collect::<Vec<_>>();
        for frame in frames.iter().chain(&reports) {
            for at in 0..frame.len() {
                let look = |bytes: &[u8]| {
                    let (order, report) = (Order::decode(bytes), Report::decode(bytes));
                    let most = frame.len().max(PACKET);
                    assert!(order.is_none_or(|order| order.encode().len() <= most));
                    assert!(report.is_none_or(|report| report.encode().len() <= most));
                };
                look(&frame[..at]);
                for value in [0, 1, 0x7f, 0x80, 0xff, frame[at] ^ 1] {
                    let mut damaged = frame.clone();
                    damaged[at] = value;
                    look(&damaged);
                }
            }
        }
    }

    #[test]
    fn the_longest_account_is_a_packet() {
        let long = "x".repeat(PAYLOAD);
        let strewn: Vec<usize> = (0..20_000).map(|n| 2 * n).collect();
        let findings = Findings {
            rank: Some(Subject {
                rank: 0,
                pid: 0,
                program: long.clone(),
                call: String::new(),
            }),
            ended: strewn,
            doing: vec![(0, long.clone()); 50],
            ..findings(Cause::Gone(long))
        };
        assert!(Report::Failed(Box::new(findings)).encode().len() <= PACKET);
    }

    proptest! {
        #[test]
        fn strange_bytes_are_refused_or_mean_something(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(order) = Order::decode(&bytes) {
                prop_assert_eq!(Order::decode(&order.encode()), Some(order));
            }
            if let Some(report) = Report::decode(&bytes) {
                // Long texts and lists are cut.
                prop_assert!(Report::decode(&report.encode()).is_some());
            }
        }

    }
}
