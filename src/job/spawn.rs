//! Asking the agent for further ranks while the job runs.
//!
//! The request lies in a memfd, which goes over the claim socket together with one end of a socket pair of its own; the answer comes over that
//! pair. So a request may be long, the agent never waits for a rank, and a rank that waits sees the agent refuse by closing its end.
use super::Membership;
use super::bytes::{Reader, Writer};
use super::identity::Birth;
use crate::model::error::Result;
use crate::model::{Error, ErrorClass};
use crate::sys::fd::{self, Interest, Watch};
use crate::sys::mem;
use core::time::Duration;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// What a rank sends to its agent, together with the request and the socket for the answer.
pub(crate) const SPAWN: &[u8] = b"tercio spawn 1";

/// The most bytes of a request: as for a job's description.
const REQUEST: u64 = 64 << 20;
/// How long a rank that waits for the answer leaves its other work alone.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// A program and how many ranks are to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) command: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) ranks: usize,
    /// The whole environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) wdir: PathBuf,
}

/// Ranks that are wanted, and how they are to be told of their parents. `birth.first` is the agent's to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) programs: Vec<Wanted>,
    pub(crate) birth: Birth,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// All run; the number in the job of the first.
    Started(usize),
    /// None runs, since so many of them could not be started.
    Refused { failed: usize, text: String },
}

impl Request {
    /// How many ranks are wanted; at most `usize::MAX`.
    pub(crate) fn ranks(&self) -> usize {
        let ranks = self.programs.iter().map(|program| program.ranks);
        ranks.fold(0, usize::saturating_add)
    }

    fn encode(&self) -> Vec<u8> {
        let birth = &self.birth;
        let mut w = Writer::default()
            .u32(birth.cells.map_or(0, |block| block as u32 + 1))
            .u32(birth.between)
            .u32(birth.union)
            .u32(birth.parents.len() as u32);
        w = birth.parents.iter().fold(w, |w, &p| w.u32(p as u32));
        w = w.u32(self.programs.len() as u32);
        for program in &self.programs {
            w = w
                .bytes(program.command.as_bytes())
                .u32(program.ranks as u32)
                .bytes(program.wdir.as_os_str().as_bytes())
                .u32(program.args.len() as u32);
            w = program.args.iter().fold(w, |w, a| w.bytes(a.as_bytes()));
            w = w.u32(program.env.len() as u32);
            w = program.env.iter().fold(w, |w, (name, value)| {
                w.bytes(name.as_bytes()).bytes(value.as_bytes())
            });
        }
        w.0
    }

    fn decode(bytes: &[u8]) -> Option<Request> {
        let mut r = Reader(bytes);
        let birth = Birth {
            first: 0,
            cells: (r.u32()? as usize).checked_sub(1),
            between: r.u32()?,
            union: r.u32()?,
            parents: (0..r.count()?)
                .map(|_| Some(r.u32()? as usize))
                .collect::<Option<_>>()?,
        };
        let mut programs = Vec::new();
        for _ in 0..r.count()? {
            programs.push(Wanted {
                command: r.os()?,
                ranks: r.u32()? as usize,
                wdir: r.os()?.into(),
                args: (0..r.count()?).map(|_| r.os()).collect::<Option<_>>()?,
                env: (0..r.count()?)
                    .map(|_| Some((r.os()?, r.os()?)))
                    .collect::<Option<_>>()?,
            });
        }
        r.0.is_empty().then_some(Request { programs, birth })
    }

    /// The request behind a descriptor that a rank sent; `None` if there is none.
    pub(crate) fn read(fd: OwnedFd) -> Option<Request> {
        let len = mem::file_len(&fd).ok().filter(|len| *len <= REQUEST)?;
        let mut bytes = vec![0_u8; len as usize];
        File::from(fd).read_exact_at(&mut bytes, 0).ok()?;
        Request::decode(&bytes)
    }
}

impl Answer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Answer::Started(first) => Writer::new(0).u32(*first as u32).0,
            Answer::Refused { failed, text } => {
                Writer::new(1).u32(*failed as u32).rest(text.as_bytes())
            }
        }
    }

    fn decode(bytes: &[u8]) -> Option<Answer> {
        let mut r = Reader(bytes);
        Some(match r.u8()? {
            0 => Answer::Started(r.u32()? as usize),
            1 => Answer::Refused {
                failed: r.u32()? as usize,
                text: String::from_utf8_lossy(&r.rest()).into_owned(),
            },
            _ => return None,
        })
    }
}

impl Membership {
    /// Has the agent start further ranks. `meanwhile` is called now and then until it has.
    ///
    /// # Errors
    /// `State` where there is no agent, `Aborted` if the job is ending, `Internal` if the agent cannot be asked; what `meanwhile` says.
    pub(crate) fn spawn(
        &self,
        request: &Request,
        mut meanwhile: impl FnMut() -> Result<()>,
    ) -> Result<Answer> {
        let Some(agent) = self.agent() else {
            return Err(Error::new(
                ErrorClass::State,
                "there is no launcher that could start further ranks; start the program by `tercio run -n 1 PROGRAM`",
            ));
        };
        let lost = |error: io::Error| {
            let text = format!("the job's agent cannot be asked for further ranks ({error})");
            Error::new(ErrorClass::Internal, text)
        };
        let bytes = request.encode();
        if bytes.len() as u64 > REQUEST {
            return Err(Error::new(
                ErrorClass::Arg,
                format!(
                    "arguments and environment of the programs to spawn take {} MiB, and may take {}; pass long data in a message",
                    bytes.len() >> 20,
                    REQUEST >> 20
                ),
            ));
        }
        let file = File::from(mem::memfd(c"tercio-spawn", bytes.len() as u64).map_err(lost)?);
        file.write_all_at(&bytes, 0).map_err(lost)?;
        let (mine, theirs) = fd::packet_pair().map_err(lost)?;
        fd::send_descriptors(agent, SPAWN, &[file.as_fd(), theirs.as_fd()]).map_err(lost)?;
        drop(theirs);
        let mut packet = [0_u8; 4096];
        loop {
            match fd::receive(mine.as_fd(), &mut packet, false) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(len) => {
                    return Answer::decode(&packet[..len])
                        .ok_or_else(|| Error::new(ErrorClass::Aborted, "the job is ending"));
                }
                Err(error) => return Err(lost(error)),
            }
            meanwhile()?;
            let mut watch = Watch::default();
            watch.add(mine.as_fd(), Interest::Read);
            watch.wait(Some(BETWEEN_LOOKS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request() -> Request {
        let program = |name: &str| Wanted {
            command: name.into(),
            args: vec!["-x".into(), "".into()],
            ranks: 3,
            env: vec![("A".into(), "b=c".into())],
            wdir: "/tmp".into(),
        };
        Request {
            programs: vec![program("one"), program("two")],
            birth: Birth {
                first: 0,
                cells: Some(0),
                between: 8,
                union: 10,
                parents: vec![0, 3],
            },
        }
    }

    #[test]
    fn requests_and_answers_come_back() {
        assert_eq!(request().ranks(), 6);
        let bytes = request().encode();
        assert_eq!(Request::decode(&bytes), Some(request()));
        let file = mem::memfd(c"test", bytes.len() as u64).unwrap();
        let file = File::from(file);
        file.write_all_at(&bytes, 0).unwrap();
        assert_eq!(Request::read(file.into()), Some(request()));
        let refused = Answer::Refused {
            failed: 2,
            text: "no".into(),
        };
        for answer in [Answer::Started(7), refused] {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
    }

    proptest! {
        #[test]
        fn a_damaged_request_never_panics(at in 0_usize..120, value in any::<u8>(), keep in 0_usize..200) {
            let mut bytes = request().encode();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(keep);
            let _ = Request::decode(&bytes);
            let _ = Answer::decode(&bytes);
        }
    }
}
