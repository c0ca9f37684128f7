//! The driver over real sockets of this host: ranks find each other, and nobody else gets in between.
use super::driver::{Event, Listen, Net};
use super::greeting::{Dialing, Heard, Key, Parties};
use crate::sys::net::Epoll;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

fn key(last: u8, encrypt: bool) -> Key {
    Key {
        secret: [last; 32],
        job: "job".into(),
        encrypt,
    }
}

fn open(me: u32, key: Key) -> Net {
    let listen = Listen {
        me,
        ranks: 3,
        key,
        interface: "127.0.0.1",
        alone: true,
    };
    Net::open(listen, &Arc::new(Epoll::new().unwrap())).unwrap()
}

fn place(net: &Net) -> SocketAddr {
    String::from_utf8(net.address()).unwrap().parse().unwrap()
}

/// Looks until all are joined, or `until`; how many are.
fn look(nets: &mut [&mut Net], until: impl Fn() -> bool) -> usize {
    let mut joined = 0;
    while joined < nets.len() && !until() {
        for net in nets.iter_mut() {
            let mut events = Vec::new();
            net.look(&mut events);
            joined += events
                .iter()
                .filter(|event| matches!(event, Event::Joined(..)))
                .count();
        }
        thread::yield_now();
    }
    joined
}

fn after(limit: Duration) -> impl Fn() -> bool {
    let end = Instant::now() + limit;
    move || Instant::now() >= end
}

#[test]
fn ranks_that_call_each_other_at_once_are_joined_once() {
    for encrypt in [false, true] {
        let (mut a, mut b) = (open(0, key(1, encrypt)), open(1, key(1, encrypt)));
        let (at_a, at_b) = (a.address(), b.address());
        a.call(1, &at_b, &mut Vec::new());
        b.call(0, &at_a, &mut Vec::new());
        assert_eq!(
            look(&mut [&mut a, &mut b], after(Duration::from_secs(30))),
            2
        );
    }
}

#[test]
fn another_jobs_secret_opens_nothing() {
    for encrypt in [false, true] {
        let (mut a, mut b) = (open(0, key(1, encrypt)), open(1, key(2, encrypt)));
        let at_a = a.address();
        b.call(0, &at_a, &mut Vec::new());
        assert_eq!(
            look(&mut [&mut a, &mut b], after(Duration::from_millis(300))),
            0
        );
    }
}

/// Passes on what comes from either side to the other, until one of them closes.
fn pass_on(mut left: TcpStream, mut right: TcpStream) {
    for stream in [&left, &right] {
        stream.set_nonblocking(true).unwrap();
    }
    let mut room = [0; 512];
    loop {
        for turn in 0..2 {
            let (from, to) = match turn {
                0 => (&mut left, &mut right),
                _ => (&mut right, &mut left),
            };
            match from.read(&mut room) {
                Ok(0) => return,
                Ok(n) => {
                    if to.write_all(&room[..n]).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
                Err(_) => return,
            }
        }
    }
}

/// Both ends see other addresses than the ranks' own, and their proofs say so.
#[test]
fn somebody_in_between_who_passes_everything_on_is_refused() {
    for encrypt in [false, true] {
        let (mut a, mut b) = (open(0, key(1, encrypt)), open(1, key(1, encrypt)));
        let relay = TcpListener::bind("127.0.0.1:0").unwrap();
        let (at_relay, at_a) = (relay.local_addr().unwrap(), place(&a));
        let between = thread::spawn(move || {
            let (left, _) = relay.accept().unwrap();
            pass_on(left, TcpStream::connect(at_a).unwrap());
        });
        b.call(0, at_relay.to_string().as_bytes(), &mut Vec::new());
        let nets = &mut [&mut a, &mut b];
        assert_eq!(look(nets, || between.is_finished()), 0);
        between.join().unwrap();
    }
}

/// Waits for so many bytes while the acceptor is at work; fewer if it closes.
fn hear(stream: &mut TcpStream, net: &mut Net, want: usize, joined: &mut usize) -> Vec<u8> {
    let (mut heard, mut room) = (Vec::new(), [0; 256]);
    while heard.len() < want {
        *joined += look(&mut [net], after(Duration::from_millis(1)));
        match stream.read(&mut room) {
            Ok(0) => break,
            Ok(n) => heard.extend_from_slice(&room[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    heard
}

#[test]
fn a_recorded_handshake_is_of_no_use() {
    for encrypt in [false, true] {
        let mut net = open(0, key(1, encrypt));
        let call = || {
            let stream = TcpStream::connect(place(&net)).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        };
        let (mut good, mut replay) = (call(), call());
        let parties = Parties {
            dialer: 1,
            acceptor: 0,
            dialer_at: good.local_addr().unwrap(),
            acceptor_at: good.peer_addr().unwrap(),
        };
        let mut joined = 0;
        let (mut dialing, hello) = Dialing::new(&key(1, encrypt), parties, [5; 32]);
        good.write_all(&hello).unwrap();
        let answer = if encrypt { 48 } else { 64 };
        let challenge = hear(&mut good, &mut net, answer, &mut joined);
        assert_eq!(dialing.take(&challenge).unwrap().0, Some(Heard::Challenge));
        let proof = dialing.proof();
        good.write_all(&proof).unwrap();
        let verdict = if encrypt { 17 } else { 33 };
        let verdict = hear(&mut good, &mut net, verdict, &mut joined);
        assert!(matches!(
            dialing.take(&verdict),
            Ok((Some(Heard::Verdict(_)), _))
        ));
        assert_eq!(joined, 1);
        // The very same bytes from elsewhere: closed without a word.
        replay.write_all(&hello).unwrap();
        let _ = replay.write_all(&proof);
        assert_eq!(hear(&mut replay, &mut net, 1, &mut joined), []);
        assert_eq!(joined, 1);
    }
}
