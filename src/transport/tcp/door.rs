//! The handshakes of one rank, with all others: which connections become the connection of a pair. Without sockets and clock; the README has the rules and why
//! they leave exactly one.
#![forbid(unsafe_code)]
use super::cipher::Cipher;
use super::greeting::{Accepting, Dialing, Heard, Key, Nonce, Parties, STRANGER, Told, Verdict};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// What a stranger has to greet, from accept.
const GREETING: Duration = Duration::from_secs(5);
/// Strangers at one time; a further one takes the place of the oldest.
const STRANGERS: usize = 64;
/// Connections at one time that say to be of one peer and have not proved it.
const CLAIMS: usize = 4;

/// A connection, as the driver numbers them.
pub(crate) type Id = u64;

/// What the driver is to do.
pub(crate) enum Do {
    Send(Id, Vec<u8>),
    Close(Id),
    /// This is the pair's connection from now on.
    Join {
        id: Id,
        peer: u32,
        cipher: Option<Cipher>,
        /// What came after the handshake already.
        rest: Vec<u8>,
    },
    /// The peer has another connection in mind: call again later if none comes.
    Wait {
        peer: u32,
    },
}

enum Greeting {
    Dial {
        peer: u32,
        dialing: Box<Dialing>,
        challenged: bool,
    },
    Accept {
        accepting: Box<Accepting>,
        since: Duration,
    },
}

/// The handshakes under way, and who is joined.
pub(crate) struct Door {
    key: Key,
    me: u32,
    ranks: u32,
    joined: Vec<bool>,
    under_way: BTreeMap<Id, Greeting>,
}

impl Door {
    pub(crate) fn new(key: Key, me: u32, ranks: u32) -> Door {
        Door {
            key,
            me,
            ranks,
            joined: vec![false; ranks as usize],
            under_way: BTreeMap::new(),
        }
    }

    pub(crate) fn is_joined(&self, peer: u32) -> bool {
        self.joined[peer as usize]
    }

    /// A connection from `here` to `peer` at `there` has come about. What to send first.
    pub(crate) fn dialed(
        &mut self,
        id: Id,
        peer: u32,
        here: SocketAddr,
        there: SocketAddr,
        nonce: Nonce,
    ) -> Vec<u8> {
        let parties = Parties {
            dialer: self.me,
            acceptor: peer,
            dialer_at: here,
            acceptor_at: there,
        };
        let (dialing, hello) = Dialing::new(&self.key, parties, nonce);
        let greeting = Greeting::Dial {
            peer,
            dialing: Box::new(dialing),
            challenged: false,
        };
        self.under_way.insert(id, greeting);
        hello
    }

    /// Somebody at `there` has connected to `here`.
    pub(crate) fn accepted(
        &mut self,
        id: Id,
        here: SocketAddr,
        there: SocketAddr,
        nonce: Nonce,
        now: Duration,
        out: &mut Vec<Do>,
    ) {
        let oldest = self.oldest(|accepting| accepting.from().is_none());
        if let (true, Some(oldest)) = (oldest.0 >= STRANGERS, oldest.1) {
            self.close(oldest, out);
        }
        let accepting = Accepting::new(&self.key, (self.me, self.ranks), (here, there), nonce);
        let greeting = Greeting::Accept {
            accepting: Box::new(accepting),
            since: now,
        };
        self.under_way.insert(id, greeting);
    }

    /// How many accepted connections are such, and the oldest of them.
    fn oldest(&self, such: impl Fn(&Accepting) -> bool) -> (usize, Option<Id>) {
        let mut found = self
            .under_way
            .iter()
            .filter_map(|(id, greeting)| match greeting {
                Greeting::Accept { accepting, .. } if such(accepting) => Some(*id),
                _ => None,
            });
        let first = found.next();
        (first.map_or(0, |_| 1 + found.count()), first)
    }

    fn close(&mut self, id: Id, out: &mut Vec<Do>) {
        if self.under_way.remove(&id).is_some() {
            out.push(Do::Close(id));
        }
    }

    /// Whether a connection is one of those under way, and how many bytes may be read from it at once.
    pub(crate) fn listens_to(&self, id: Id) -> Option<usize> {
        match self.under_way.get(&id)? {
            Greeting::Accept { accepting, .. } if accepting.from().is_none() => Some(STRANGER),
            // A frame or two may come right behind the verdict.
            _ => Some(4096),
        }
    }

    /// Bytes have come on a connection.
    pub(crate) fn received(&mut self, id: Id, mut bytes: &[u8], out: &mut Vec<Do>) {
        while !bytes.is_empty() {
            let used = match self.under_way.get(&id) {
                Some(Greeting::Dial { .. }) => self.dialer_hears(id, bytes, out),
                Some(Greeting::Accept { .. }) => self.acceptor_hears(id, bytes, out),
                None => return,
            };
            match used {
                Some(used) => bytes = &bytes[used..],
                None => return self.close(id, out),
            }
        }
    }

    /// Whether this rank has sent PROOF to `peer` on a connection that lives.
    fn has_proved_to(&self, peer: u32) -> bool {
        self.under_way.values().any(|greeting| {
            matches!(greeting, Greeting::Dial { peer: p, challenged: true, .. } if *p == peer)
        })
    }

    /// Closes every dial to `peer` but `keep`.
    fn drop_dials(&mut self, peer: u32, keep: Option<Id>, out: &mut Vec<Do>) {
        let dials: Vec<Id> = self
            .under_way
            .iter()
            .filter(|(id, greeting)| {
                matches!(greeting, Greeting::Dial { peer: p, .. } if *p == peer)
                    && Some(**id) != keep
            })
            .map(|(id, _)| *id)
            .collect();
        dials.into_iter().for_each(|id| self.close(id, out));
    }

    /// How many bytes the next thing that an acceptor says took; `None`: close.
    fn dialer_hears(&mut self, id: Id, bytes: &[u8], out: &mut Vec<Do>) -> Option<usize> {
        let Some(Greeting::Dial {
            peer,
            dialing,
            challenged,
        }) = self.under_way.get_mut(&id)
        else {
            return None;
        };
        let peer = *peer;
        let (heard, used) = dialing.take(bytes).ok()?;
        match heard {
            None => {}
            Some(Heard::Challenge) if self.joined[peer as usize] => return None,
            Some(Heard::Challenge) => {
                *challenged = true;
                out.push(Do::Send(id, dialing.proof()));
            }
            Some(Heard::Verdict(Verdict::Accepted)) => {
                // The acceptor said so to one connection only, and this rank accepted none then: see the README.
                if core::mem::replace(&mut self.joined[peer as usize], true) {
                    return None;
                }
                if let Some(Greeting::Dial { dialing, .. }) = self.under_way.remove(&id) {
                    out.push(Do::Join {
                        id,
                        peer,
                        cipher: dialing.into_cipher(),
                        rest: bytes[used..].to_vec(),
                    });
                }
                self.drop_dials(peer, None, out);
                return Some(bytes.len());
            }
            Some(Heard::Verdict(_)) => {
                out.push(Do::Wait { peer });
                return None;
            }
        }
        Some(used)
    }

    /// As `dialer_hears`, for what a dialer says.
    fn acceptor_hears(&mut self, id: Id, bytes: &[u8], out: &mut Vec<Do>) -> Option<usize> {
        let Some(Greeting::Accept { accepting, .. }) = self.under_way.get_mut(&id) else {
            return None;
        };
        let (told, used) = accepting.take(bytes).ok()?;
        match told {
            None => {}
            Some(Told::Hello { from, challenge }) => {
                out.push(Do::Send(id, challenge));
                let (claims, oldest) = self.oldest(|accepting| accepting.from() == Some(from));
                if let (true, Some(oldest)) = (claims > CLAIMS, oldest) {
                    self.close(oldest, out);
                }
            }
            Some(Told::Proof) => {
                let peer = accepting.from()?;
                return self.judge(id, peer, out).then_some(bytes.len());
            }
        }
        Some(used)
    }

    /// `peer` has proved to be there. Whether this is the pair's connection.
    fn judge(&mut self, id: Id, peer: u32, out: &mut Vec<Do>) -> bool {
        let verdict = if self.joined[peer as usize] {
            Verdict::Twice
        } else if self.me < peer && self.has_proved_to(peer) {
            Verdict::Crossed
        } else {
            Verdict::Accepted
        };
        let Some(Greeting::Accept { accepting, .. }) = self.under_way.get_mut(&id) else {
            return false;
        };
        out.push(Do::Send(id, accepting.verdict(verdict)));
        if verdict != Verdict::Accepted {
            return false;
        }
        self.joined[peer as usize] = true;
        if let Some(Greeting::Accept { accepting, .. }) = self.under_way.remove(&id) {
            out.push(Do::Join {
                id,
                peer,
                cipher: accepting.into_cipher(),
                rest: Vec::new(),
            });
        }
        self.drop_dials(peer, None, out);
        true
    }

    /// A connection has ended.
    pub(crate) fn ended(&mut self, id: Id) {
        self.under_way.remove(&id);
    }

    /// Closes connections of strangers that have had their time.
    pub(crate) fn tick(&mut self, now: Duration, out: &mut Vec<Do>) {
        let late: Vec<Id> = self
            .under_way
            .iter()
            .filter(|(_, greeting)| {
                matches!(greeting, Greeting::Accept { accepting, since }
                    if accepting.from().is_none() && now.saturating_sub(*since) >= GREETING)
            })
            .map(|(id, _)| *id)
            .collect();
        late.into_iter().for_each(|id| self.close(id, out));
    }

    /// When `tick` has something to do, if nothing else happens.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let stranger = |greeting: &Greeting| match greeting {
            Greeting::Accept { accepting, since } if accepting.from().is_none() => {
                Some(*since + GREETING)
            }
            _ => None,
        };
        self.under_way.values().filter_map(stranger).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    fn door(me: u32) -> Door {
        let key = Key {
            secret: [3; 32],
            job: "j".into(),
            encrypt: false,
        };
        Door::new(key, me, 8)
    }

    fn closed(out: &[Do]) -> Vec<Id> {
        out.iter()
            .filter_map(|d| match d {
                Do::Close(id) => Some(*id),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn strangers_are_few_and_have_little_time() {
        let mut door = door(0);
        let mut out = Vec::new();
        for id in 0..100 {
            door.accepted(
                id,
                at(1),
                at(2),
                [0; 32],
                Duration::from_millis(id),
                &mut out,
            );
        }
        assert_eq!(closed(&out), (0..36).collect::<Vec<_>>());
        assert_eq!(door.deadline(), Some(Duration::from_millis(5036)));
        out.clear();
        door.tick(Duration::from_millis(5050), &mut out);
        assert_eq!(closed(&out), (36..51).collect::<Vec<_>>());
        out.clear();
        door.received(60, b"GET /", &mut out);
        assert_eq!(closed(&out), [60]);
    }

    /// Recordings of a greeting take the places of each other, and not of strangers; who proved in time is not bothered by the clock.
    #[test]
    fn recordings_hold_few_places() {
        let mut caller = door(2);
        let hello = caller.dialed(1, 0, at(2), at(1), [5; 32]);
        let mut door = door(0);
        let mut out = Vec::new();
        for id in 0..10 {
            door.accepted(id, at(1), at(2), [id as u8; 32], Duration::ZERO, &mut out);
            door.received(id, &hello, &mut out);
        }
        assert_eq!(closed(&out), (0..6).collect::<Vec<_>>());
        out.clear();
        door.tick(Duration::from_secs(3600), &mut out);
        assert_eq!((closed(&out), door.deadline()), (vec![], None));
    }
}
