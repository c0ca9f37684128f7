//! A rank's side of what the ranks of a job publish for each other: put, fence, get. See the README.
use super::directory::Record;
use super::{Segment, leave};
use crate::model::error::Result;
use crate::model::{Error, ErrorClass};
use crate::sys::fd;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// The most bytes of a key and its value together.
pub(crate) const MOST: usize = 4096;
/// Room for any packet over the claim socket.
pub(crate) const PACKET: usize = MOST + 16;
const PUT: u8 = b'P';
const ASK: &[u8] = b"S";
/// Fences are records under this key; the value is the fence's number.
const FENCE: &str = "";

/// The job's secret.
pub(crate) type Secret = [u8; 32];

/// What a rank asks of its agent over the claim socket once it has claimed its rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Put { key: Vec<u8>, value: Vec<u8> },
    Secret,
}

impl Request {
    fn encode(&self) -> Vec<u8> {
        match self {
            Request::Put { key, value } => {
                let mut packet = vec![PUT];
                packet.extend((key.len() as u32).to_le_bytes());
                packet.extend(key);
                packet.extend(value);
                packet
            }
            Request::Secret => ASK.to_vec(),
        }
    }

    pub(crate) fn decode(packet: &[u8]) -> Option<Request> {
        if packet == ASK {
            return Some(Request::Secret);
        }
        let (len, rest) = packet.strip_prefix(&[PUT])?.split_first_chunk::<4>()?;
        let (key, value) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        (rest.len() <= MOST).then(|| Request::Put {
            key: key.to_vec(),
            value: value.to_vec(),
        })
    }

    /// The agent's answer to [`Request::Secret`].
    pub(crate) fn answer(secret: Option<&Secret>) -> &[u8] {
        secret.map_or(&[0], |secret| secret)
    }
}

/// One rank's view of what all ranks have published.
pub(crate) struct Exchange {
    segment: Arc<Segment>,
    rank: usize,
    /// The claim socket; without one (threads that are ranks, a program on its own) records are appended here.
    agent: Option<OwnedFd>,
    read: u32,
    known: HashMap<(u32, Vec<u8>), Vec<u8>>,
    fences: u32,
}

impl Exchange {
    pub(crate) fn new(segment: Arc<Segment>, rank: usize, agent: Option<OwnedFd>) -> Exchange {
        Exchange {
            segment,
            rank,
            agent,
            read: 0,
            known: HashMap::new(),
            fences: 0,
        }
    }

    /// Publishes `value` under `key`; both together are at most [`MOST`] bytes.
    pub(crate) fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        if key.len() + value.len() > MOST {
            return Err(Error::new(
                ErrorClass::Arg,
                format!(
                    "rank {} was to publish {} bytes under \"{key}\"; a value and its key can have {MOST}",
                    self.rank,
                    value.len()
                ),
            ));
        }
        match &self.agent {
            Some(agent) => {
                let put = Request::Put {
                    key: key.into(),
                    value: value.into(),
                };
                fd::send(agent.as_fd(), &put.encode(), true)
                    .map_err(|error| self.unreachable(&error))
            }
            None => self.segment.directory().append(&Record {
                rank: self.rank as u32,
                key: key.into(),
                value: value.into(),
            }),
        }
    }

    /// What `rank` has published last under `key`, as far as this host knows by now. It does not wait.
    pub(crate) fn get(&mut self, rank: usize, key: &str) -> Option<&[u8]> {
        while let Some(record) = self.segment.directory().next(&mut self.read) {
            self.known.insert((record.rank, record.key), record.value);
        }
        self.known
            .get(&(rank as u32, key.as_bytes().to_vec()))
            .map(Vec::as_slice)
    }

    /// Counts up whenever [`Exchange::get`] may say something new: read it, look, then [`Exchange::wait`].
    pub(crate) fn changes(&self) -> u32 {
        self.segment.directory().changes()
    }

    /// Sleeps until there may be more than when `changes` said `seen`. Leaves a job that is ending.
    pub(crate) fn wait(&self, seen: u32) {
        if self.segment.control().is_aborted() {
            leave::leave();
        }
        self.segment.directory().wait(seen);
    }

    /// Waits until every rank of the job has come to this fence, or is gone. What they put before it can be got after it.
    pub(crate) fn fence(&mut self) -> Result<()> {
        self.fences += 1;
        let number = self.fences;
        self.put(FENCE, &number.to_le_bytes())?;
        let world = self.segment.directory().world();
        let mut next = 0;
        while next < world {
            let seen = self.changes();
            let gone = self.segment.directory().state(next).is_gone();
            let come = self
                .get(next, FENCE)
                .and_then(|value| Some(u32::from_le_bytes(value.try_into().ok()?)));
            match come {
                Some(come) if come >= number => next += 1,
                _ if gone => next += 1,
                _ => self.wait(seen),
            }
        }
        Ok(())
    }

    /// The job's secret; `None` on one host, where there is none.
    pub(crate) fn secret(&self) -> Result<Option<Secret>> {
        let Some(agent) = &self.agent else {
            return Ok(None);
        };
        let mut answer = [0_u8; 64];
        let len = fd::send(agent.as_fd(), &Request::Secret.encode(), true)
            .and_then(|()| fd::receive(agent.as_fd(), &mut answer, true))
            .map_err(|error| self.unreachable(&error))?;
        match len {
            0 => leave::leave(),
            _ => Ok(answer[..len].try_into().ok()),
        }
    }

    fn unreachable(&self, error: &std::io::Error) -> Error {
        if self.segment.control().is_aborted() {
            leave::leave();
        }
        Error::new(
            ErrorClass::Join,
            format!(
                "rank {} cannot reach its agent ({error}); the program closed descriptors that are not its own, or the job has ended",
                self.rank
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::RankState;

    fn ranks(count: usize) -> (Arc<Segment>, Vec<Exchange>) {
        let segment = Arc::new(Segment::private(count).unwrap());
        let all = (0..count)
            .map(|rank| Exchange::new(segment.clone(), rank, None))
            .collect();
        (segment, all)
    }

    #[test]
    fn what_was_put_before_a_fence_is_there_after_it() {
        let (_, all) = ranks(4);
        std::thread::scope(|scope| {
            for mut me in all {
                scope.spawn(move || {
                    for round in 0..50_u8 {
                        me.put("at", &[me.rank as u8, round]).unwrap();
                        me.fence().unwrap();
                        for rank in 0..4 {
                            let value = me.get(rank, "at").unwrap().to_vec();
                            assert_eq!(value[0], rank as u8);
                            assert!(value[1] == round || value[1] == round + 1);
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn a_fence_does_not_wait_for_who_is_gone() {
        let (segment, mut all) = ranks(4);
        segment.control().set_state(1, RankState::EndedWithoutInit);
        all.truncate(3);
        let mut second = all.pop().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                second.fence().unwrap();
                assert_eq!(second.get(0, "a"), Some(&b"b"[..]));
            });
            all[0].put("a", b"b").unwrap();
            scope.spawn(|| all[0].fence().unwrap());
            segment.control().set_state(3, RankState::Exited);
        });
        assert_eq!(all[0].get(1, "a"), None);
    }

    #[test]
    fn requests_come_back_and_strange_ones_are_refused() {
        let put = Request::Put {
            key: b"tcp".to_vec(),
            value: vec![0, 1],
        };
        for request in [put, Request::Secret] {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
        for strange in [&b""[..], b"P", b"P\x05\0\0\0abcd", b"Q\0\0\0\0", b"SS"] {
            assert_eq!(Request::decode(strange), None, "{strange:?}");
        }
        let long = [&b"P\0\0\0\0"[..], &[0; MOST + 1]].concat();
        assert_eq!(Request::decode(&long), None);
    }

    #[test]
    fn too_much_gets_a_sentence() {
        let (_, all) = ranks(1);
        let text = all[0].put("a", &[0; MOST]).unwrap_err().to_string();
        assert!(text.contains("can have 4096"), "{text}");
        assert_eq!(all[0].secret().unwrap(), None);
    }
}
