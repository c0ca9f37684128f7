//! Which of a peer's addresses to dial, and when. Without sockets and clock.
#![forbid(unsafe_code)]
use std::net::SocketAddr;
use std::time::Duration;

/// While no address has answered, the next one is tried after this: what RFC 8305 recommends.
const STAGGER: Duration = Duration::from_millis(250);
/// After all addresses have failed, or the peer asked to wait: doubled each time.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_secs(2);
/// A peer none of whose addresses could be connected to for so long is out of reach.
const PATIENCE: Duration = Duration::from_secs(20);

/// The calls to one peer.
pub(crate) struct Calling {
    addresses: Vec<SocketAddr>,
    /// Addresses tried in this round.
    tried: usize,
    /// Dials that are under way.
    under_way: usize,
    next: Duration,
    pause: Duration,
    /// Where a connection stands, whose other end may be busy for as long as it likes.
    stands: Vec<SocketAddr>,
    /// When one last came about, or the call began.
    hope: Duration,
    failures: Vec<String>,
}

impl Calling {
    pub(crate) fn new(addresses: Vec<SocketAddr>, now: Duration) -> Calling {
        Calling {
            addresses,
            tried: 0,
            under_way: 0,
            next: now,
            pause: PAUSE,
            stands: Vec::new(),
            hope: now,
            failures: Vec::new(),
        }
    }

    /// The address to dial now, if it is time for one.
    pub(crate) fn due(&mut self, now: Duration) -> Option<SocketAddr> {
        if now < self.next {
            return None;
        }
        if self.tried == self.addresses.len() {
            if self.under_way > 0 {
                return None;
            }
            self.tried = 0;
        }
        let address = *self.addresses.get(self.tried)?;
        self.tried += 1;
        self.under_way += 1;
        self.next = now + STAGGER;
        Some(address)
    }

    /// A dial's connection stands.
    pub(crate) fn connected(&mut self, address: SocketAddr, now: Duration) {
        self.hope = now;
        self.stands.push(address);
        self.failures.clear();
    }

    /// The peer has another connection in mind: no further address is tried before a pause.
    pub(crate) fn asked(&mut self, now: Duration) {
        self.tried = self.addresses.len();
        self.next = now + self.pause;
    }

    /// A dial has come to nothing, in words.
    pub(crate) fn failed(&mut self, address: SocketAddr, why: &str, now: Duration) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(at) = self.stands.iter().position(|stands| *stands == address) {
            self.stands.swap_remove(at);
        }
        let text = format!("{address}: {why}");
        if !self.failures.contains(&text) && self.failures.len() < 16 {
            self.failures.push(text);
        }
        if self.tried < self.addresses.len() {
            // The next one at once.
            self.next = now;
        } else if self.under_way == 0 {
            self.next = now + self.pause;
            self.pause = (2 * self.pause).min(PAUSE_MOST);
        }
    }

    /// When `due` or `given_up` have something to say, if nothing else happens.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let dials = self.tried < self.addresses.len() || self.under_way == 0;
        let gives_up = self.stands.is_empty().then(|| self.hope + PATIENCE);
        match dials {
            true => Some(gives_up.map_or(self.next, |at| at.min(self.next))),
            false => gives_up,
        }
    }

    /// Why the peer is out of reach, if it is: what each address answered.
    pub(crate) fn given_up(&self, now: Duration) -> Option<String> {
        let over = self.stands.is_empty() && now.saturating_sub(self.hope) >= PATIENCE;
        over.then(|| match self.failures.is_empty() {
            true => {
                let all: Vec<String> = self.addresses.iter().map(SocketAddr::to_string).collect();
                format!("{} did not answer", all.join(", "))
            }
            false => self.failures.join("; "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_silent_address_does_not_keep_the_others_waiting() {
        let (a, b) = (([1, 1, 1, 1], 1).into(), ([1, 1, 1, 2], 1).into());
        let mut calling = Calling::new(vec![a, b], ms(0));
        assert_eq!(calling.due(ms(0)), Some(a));
        assert_eq!(calling.due(ms(249)), None);
        assert_eq!(calling.deadline(), Some(ms(250)));
        assert_eq!(calling.due(ms(250)), Some(b));
        // One that fails makes way at once, and when all have failed there is a pause that grows.
        let mut calling = Calling::new(vec![a, b], ms(0));
        assert_eq!(calling.due(ms(0)), Some(a));
        calling.failed(a, "refused", ms(1));
        assert_eq!(calling.due(ms(1)), Some(b));
        calling.failed(b, "refused", ms(2));
        assert_eq!((calling.due(ms(51)), calling.due(ms(52))), (None, Some(a)));
    }

    #[test]
    fn who_cannot_be_connected_to_is_given_up_and_who_is_busy_is_not() {
        let a = ([1, 1, 1, 1], 1).into();
        let mut calling = Calling::new(vec![a], ms(0));
        calling.due(ms(0));
        calling.failed(a, "connection refused", ms(1));
        assert_eq!(calling.given_up(ms(19_000)), None);
        assert_eq!(
            calling.given_up(ms(20_000)).as_deref(),
            Some("1.1.1.1:1: connection refused")
        );
        calling.due(ms(20_000));
        calling.connected(a, ms(20_000));
        assert_eq!(calling.given_up(ms(3_600_000)), None);
        assert_eq!(calling.deadline(), None);
        // One that answers nothing at all is given up too.
        let mut calling = Calling::new(vec![a], ms(0));
        calling.due(ms(0));
        assert_eq!(calling.deadline(), Some(ms(20_000)));
        assert_eq!(
            calling.given_up(ms(20_000)).as_deref(),
            Some("1.1.1.1:1 did not answer")
        );
    }
}
