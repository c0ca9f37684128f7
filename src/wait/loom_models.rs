//! Loom runs the sleep word and the turn through every interleaving of up to three threads:
//! `LOOM_MAX_PREEMPTIONS=3 RUSTFLAGS="--cfg loom" cargo test --lib --release loom`. A lost wake-up shows as a deadlock, since the model's
//! futex knows no time limit.
use super::sleep;
use super::turn::Turn;
use super::word::SleepWord;
use core::sync::atomic::Ordering;
use core::time::Duration;
use loom::sync::atomic::{AtomicU32, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// A futex: the compare and the going to sleep are one step with respect to wakes, and nothing more is promised.
struct Futex {
    value: AtomicU32,
    queue: Mutex<()>,
    woken: Condvar,
}

impl Futex {
    fn new() -> Futex {
        Futex {
            value: AtomicU32::new(0),
            queue: Mutex::new(()),
            woken: Condvar::new(),
        }
    }
}

impl SleepWord for Futex {
    fn load(&self, order: Ordering) -> u32 {
        self.value.load(order)
    }

    fn compare_exchange(&self, from: u32, to: u32, success: Ordering) -> Result<u32, u32> {
        self.value
            .compare_exchange(from, to, success, Ordering::Relaxed)
    }

    fn fetch_add(&self, by: u32, order: Ordering) -> u32 {
        self.value.fetch_add(by, order)
    }

    fn fetch_sub(&self, by: u32, order: Ordering) -> u32 {
        self.value.fetch_sub(by, order)
    }

    fn wait(&self, expected: u32, _limit: Option<Duration>) {
        let queue = self.queue.lock().unwrap();
        if self.value.load(Ordering::Relaxed) == expected {
            drop(self.woken.wait(queue).unwrap());
        }
    }

    fn wake_all(&self) {
        drop(self.queue.lock().unwrap());
        self.woken.notify_all();
    }

    fn fence() {
        fence(Ordering::SeqCst);
    }
}

/// The word of a rank with sockets, which sleeps until its bell is rung (bed.rs does the same with an eventfd in an epoll set).
struct Bell {
    value: AtomicU32,
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    fn new() -> Bell {
        Bell {
            value: AtomicU32::new(0),
            rung: Mutex::new(false),
            heard: Condvar::new(),
        }
    }
}

impl SleepWord for Bell {
    fn load(&self, order: Ordering) -> u32 {
        self.value.load(order)
    }

    fn compare_exchange(&self, from: u32, to: u32, success: Ordering) -> Result<u32, u32> {
        self.value
            .compare_exchange(from, to, success, Ordering::Relaxed)
    }

    fn fetch_add(&self, by: u32, order: Ordering) -> u32 {
        self.value.fetch_add(by, order)
    }

    fn fetch_sub(&self, by: u32, order: Ordering) -> u32 {
        self.value.fetch_sub(by, order)
    }

    fn wait(&self, expected: u32, _limit: Option<Duration>) {
        while self.value.load(Ordering::Acquire) == expected {
            let mut rung = self.rung.lock().unwrap();
            while !*rung {
                rung = self.heard.wait(rung).unwrap();
            }
            drop(rung);
            *self.rung.lock().unwrap() = false;
        }
    }

    fn wake_all(&self) {
        *self.rung.lock().unwrap() = true;
        self.heard.notify_all();
    }

    fn fence() {
        fence(Ordering::SeqCst);
    }
}

/// A sleep word and two things to wait for.
struct Rank<W = Futex> {
    word: W,
    message: AtomicU32,
    abort: AtomicU32,
}

impl Rank {
    fn new() -> Arc<Rank> {
        Rank::over(Futex::new())
    }
}

impl<W: SleepWord> Rank<W> {
    fn over(word: W) -> Arc<Rank<W>> {
        Arc::new(Rank {
            word,
            message: AtomicU32::new(0),
            abort: AtomicU32::new(0),
        })
    }

    /// Sleeps until `message` is at least `count`; `false` if the job was ended before.
    fn receive(&self, count: u32) -> bool {
        let come = || {
            self.message.load(Ordering::Acquire) >= count || self.abort.load(Ordering::Acquire) != 0
        };
        while !come() {
            let wait = |ticket| {
                self.word.wait(ticket, None);
                true
            };
            sleep::sleep(&self.word, &mut || come(), wait, |_| ());
        }
        self.abort.load(Ordering::Acquire) == 0
    }

    /// A doze whose time is over at once.
    fn doze(&self) {
        let come = || self.message.load(Ordering::Acquire) > 0;
        sleep::sleep(&self.word, &mut || come(), |_| false, |_| ());
    }

    fn send(&self) {
        self.message.fetch_add(1, Ordering::Release);
        W::fence();
        sleep::wake(&self.word);
    }
}

/// A rank that dozes takes its announcement back: no wake of that time is taken for one of the sleep that follows, nor the other way round.
#[test]
fn loom_sleep_a_doze_takes_no_wake_from_the_next_sleep() {
    loom::model(|| {
        let rank = Rank::new();
        let senders = [0, 1].map(|_| {
            thread::spawn({
                let rank = rank.clone();
                move || rank.send()
            })
        });
        rank.doze();
        assert!(rank.receive(1));
        rank.doze();
        assert!(rank.receive(2));
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn loom_sleep_two_senders_wake_one_sleeper() {
    loom::model(|| {
        let rank = Rank::new();
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let rank = rank.clone();
                thread::spawn(move || rank.send())
            })
            .collect();
        assert!(rank.receive(1) && rank.receive(2));
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

/// A ring for an earlier sleep does not end a later one; that of this one is never hushed unseen.
#[test]
fn loom_sleep_a_bell_is_never_slept_through() {
    loom::model(|| {
        let rank = Rank::over(Bell::new());
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let rank = rank.clone();
                thread::spawn(move || rank.send())
            })
            .collect();
        assert!(rank.receive(1) && rank.receive(2));
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

/// Threads of one rank sleep on its word one after the other: whoever has the turn. What one takes back, or is woken from, is no matter of the next.
#[test]
fn loom_sleep_two_threads_of_a_rank_sleep_by_turns() {
    loom::model(|| {
        let rank = Arc::new((
            Rank::over(Futex::new()),
            Turn::over(Futex::new(), Futex::new(), Futex::new()),
        ));
        let receive = |of: &(Arc<Rank>, Turn<Futex>), count| {
            let (rank, turn) = of;
            loop {
                let epoch = turn.epoch();
                if rank.message.load(Ordering::Acquire) >= count {
                    return;
                }
                match turn.try_take() {
                    Some(_turn) => assert!(rank.receive(count)),
                    None => turn.follow(epoch, None),
                }
            }
        };
        let sender = thread::spawn({
            let rank = rank.clone();
            move || {
                rank.0.send();
                rank.0.send();
            }
        });
        let other = thread::spawn({
            let rank = rank.clone();
            move || receive(&rank, 2)
        });
        receive(&rank, 1);
        sender.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn loom_sleep_an_abort_is_never_slept_through() {
    loom::model(|| {
        let rank = Rank::new();
        let ender = {
            let rank = rank.clone();
            thread::spawn(move || {
                rank.abort.store(1, Ordering::Release);
                Futex::fence();
                sleep::wake(&rank.word);
            })
        };
        let sender = {
            let rank = rank.clone();
            thread::spawn(move || rank.send())
        };
        // Whichever comes first; the second message never comes.
        rank.receive(1);
        assert!(!rank.receive(2));
        ender.join().unwrap();
        sender.join().unwrap();
    });
}

/// Threads of one rank, each waiting for a completion that only polling brings; a poll completes one request, in order of arrival.
fn threads_take_turns(threads: u32) {
    let turn = Arc::new((
        Turn::over(Futex::new(), Futex::new(), Futex::new()),
        (0..threads).map(|_| AtomicU32::new(0)).collect::<Vec<_>>(),
        // What the turn protects: whose request completes next.
        loom::cell::UnsafeCell::new(0_usize),
    ));
    let run =
        |me: usize, state: Arc<(Turn<Futex>, Vec<AtomicU32>, loom::cell::UnsafeCell<usize>)>| {
            let (turn, done, next) = &*state;
            loop {
                let epoch = turn.epoch();
                if done[me].load(Ordering::Acquire) == 1 {
                    return;
                }
                let Some(guard) = turn.try_take() else {
                    turn.follow(epoch, None);
                    continue;
                };
                // SAFETY: the turn is ours; loom checks that nobody else's access is concurrent.
                let whose = next.with_mut(|next| unsafe {
                    *next += 1;
                    *next - 1
                });
                if let Some(done) = done.get(whose) {
                    done.store(1, Ordering::Release);
                    if whose != me {
                        turn.news();
                    }
                }
                drop(guard);
            }
        };
    let others: Vec<_> = (1..threads as usize)
        .map(|me| {
            let turn = turn.clone();
            thread::spawn(move || run(me, turn))
        })
        .collect();
    run(0, turn);
    for other in others {
        other.join().unwrap();
    }
}

#[test]
fn loom_turn_two_threads_hand_over() {
    loom::model(|| threads_take_turns(2));
}

#[test]
fn loom_turn_three_threads_hand_over() {
    loom::model(|| threads_take_turns(3));
}
