//! Where a rank sleeps: on its sleep word, or, where it has sockets, in an epoll set with a bell that is rung with the word.
use super::word::SleepWord;
use crate::job::Segment;
use crate::job::layout::header;
use crate::job::segment::Word;
use crate::sys::futex;
use crate::sys::net::{self, Epoll};
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::sync::Arc;

/// The number of the bell in a rank's epoll set: no socket has it.
const BELL: u64 = u64::MAX;

/// A rank's sleep word, and how it is roused.
pub(super) struct Bed {
    word: Word<AtomicU32>,
    /// Its index in the segment, if it has a bell there.
    bell: Option<(usize, Arc<Segment>)>,
    /// The set in which it sleeps: this rank's own, in a job with sockets.
    epoll: Option<Arc<Epoll>>,
}

impl Bed {
    /// The bed of the rank with this index in the segment; `None`: of one on another host, which never sleeps here.
    pub(super) fn new(
        segment: &Arc<Segment>,
        local: Option<usize>,
        epoll: Option<Arc<Epoll>>,
    ) -> Bed {
        let at = local.map_or(header::NOBODY, |local| {
            segment.control().sleep_word_at(local)
        });
        let bell = local.filter(|local| segment.bell(*local).is_some());
        // A set in which the bell cannot be put is no place to sleep; the word is.
        let epoll = epoll.filter(|epoll| {
            let bell = bell.and_then(|local| segment.bell(local));
            bell.is_some_and(|bell| epoll.add(bell, BELL, false).is_ok())
        });
        Bed {
            word: Word::at32(segment, at),
            bell: bell.map(|local| (local, segment.clone())),
            epoll,
        }
    }
}

impl Bed {
    /// Waits on the word alone, whatever comes to the sockets meanwhile.
    pub(super) fn doze(&self, expected: u32, limit: Duration) {
        futex::wait(&self.word, expected, Some(limit));
    }
}

impl SleepWord for Bed {
    #[inline(always)]
    fn load(&self, order: Ordering) -> u32 {
        self.word.load(order)
    }

    fn compare_exchange(&self, from: u32, to: u32, success: Ordering) -> Result<u32, u32> {
        self.word
            .compare_exchange(from, to, success, Ordering::Relaxed)
    }

    fn fetch_add(&self, by: u32, order: Ordering) -> u32 {
        self.word.fetch_add(by, order)
    }

    fn fetch_sub(&self, by: u32, order: Ordering) -> u32 {
        self.word.fetch_sub(by, order)
    }

    fn wait(&self, expected: u32, limit: Option<Duration>) {
        let bell = self
            .bell
            .as_ref()
            .and_then(|(local, segment)| segment.bell(*local));
        let (Some(epoll), Some(bell)) = (&self.epoll, bell) else {
            return futex::wait(&self.word, expected, limit);
        };
        let mut ready = Vec::new();
        while self.word.load(Ordering::Acquire) == expected {
            epoll.wait(limit, &mut ready);
            // Whoever wakes moves the word on and then rings: so where the bell that is hushed here was rung for this sleep, the word has moved. If it has
            // not, it was rung for an earlier one, and this one goes on, as long as its caller means it to be.
            let rung = ready.iter().any(|it| it.number == BELL);
            if rung {
                net::hush(bell);
            }
            if !rung || ready.len() > 1 {
                return;
            }
        }
    }

    fn wake_all(&self) {
        let bell = self.bell.as_ref();
        if let Some(bell) = bell.and_then(|(local, segment)| segment.bell(*local)) {
            net::ring(bell);
        }
        futex::wake(&self.word, u32::MAX);
    }

    fn fence() {
        core::sync::atomic::fence(Ordering::SeqCst);
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::super::{WaitMode, Waiter};
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    /// Two threads hand a number back and forth; one of them sleeps where a socket is watched that is readable at times.
    #[test]
    fn no_wake_is_lost_between_bell_and_socket() {
        let segment = Arc::new(Segment::private(2).unwrap());
        segment.set_bells(vec![net::event().unwrap(), net::event().unwrap()]);
        let epoll = Arc::new(Epoll::new().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let out = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        epoll.add(socket.as_fd(), 1, false).unwrap();
        let index = [Some(0), Some(1)];
        let waiter = |rank, epoll| {
            Waiter::among(&segment, &index, rank, WaitMode::Yield, false, epoll, None)
        };
        let (a, b) = (waiter(0, Some(epoll.clone())), waiter(1, None));
        let number = AtomicU32::new(0);
        let mut came = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 0..1000 {
                    let mut spell = b.spell(None);
                    while number.load(Ordering::Acquire) != 2 * turn + 1 {
                        spell.idle(|| number.load(Ordering::Acquire) == 2 * turn + 1);
                    }
                    if turn % 3 == 0 {
                        std::io::Write::write_all(&mut &out, b"x").unwrap();
                    }
                    number.store(2 * turn + 2, Ordering::Release);
                    b.wake_fenced(0);
                }
            });
            for turn in 0..1000 {
                number.store(2 * turn + 1, Ordering::Release);
                a.wake_fenced(1);
                let mut spell = a.spell(None);
                let mut take = || {
                    let mut room = [0; 16];
                    // SAFETY: no memory of others is given.
                    let n = unsafe {
                        net::receive(socket.as_fd(), (core::ptr::null_mut(), 0), &mut room)
                    };
                    came += n.unwrap().unwrap_or(0);
                    number.load(Ordering::Acquire) == 2 * turn + 2
                };
                while !take() {
                    spell.idle(&mut take);
                }
            }
        });
        assert_eq!(came, 334);
    }
}
