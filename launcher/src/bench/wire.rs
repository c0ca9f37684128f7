//! The limit beside messages through sockets: a raw TCP connection between the same two processes, on the same cores, without anything of the library.
//! Sides 0 and 1 make the same calls in the same order.
use super::probe::now;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

/// Bytes under way of a stream that is bounded, where the bound is best: what is more than the path holds only falls out of the caches.
const BOUNDS: [usize; 4] = [128 << 10, 256 << 10, 512 << 10, usize::MAX];
/// Bytes given to one call.
const PIECE: usize = 128 << 10;
/// Small messages of a stream leave together, up to so many bytes.
const TOGETHER: usize = 64 << 10;

/// One end of the connection.
pub struct Wire {
    stream: TcpStream,
    first: bool,
    buffer: Vec<u8>,
    bound: usize,
}

impl Wire {
    /// The connection between ranks 0 and 1, which are on one host; nothing on other ranks. All ranks call it.
    pub fn connect(world: &SimpleCommunicator) -> Option<Wire> {
        let (first, stream) = match world.rank() {
            0 => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
                let port = listener.local_addr().expect("a port").port();
                world.process_at_rank(1).send(&port);
                (true, listener.accept().expect("rank 1 connects").0)
            }
            1 => {
                let (port, _) = world.process_at_rank(0).receive::<u16>();
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
                (false, stream.expect("rank 0 listens"))
            }
            _ => return None,
        };
        stream
            .set_nodelay(true)
            .and_then(|()| stream.set_nonblocking(true))
            .expect("a socket of our own");
        Some(Wire {
            stream,
            first,
            buffer: vec![1; PIECE],
            bound: usize::MAX,
        })
    }

    /// Bytes that the other system has not acknowledged.
    fn under_way(&self) -> usize {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the call writes one int.
        unsafe { libc::ioctl(self.stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        bytes.max(0) as usize
    }

    fn put(&mut self, n: usize) {
        if self.buffer.len() < n {
            self.buffer = vec![1; n];
        }
        let mut at = 0;
        while at < n {
            let piece = PIECE.min(n - at);
            // The bound is asked for only where a message could exceed it.
            if self.bound < usize::MAX && self.under_way() + piece > self.bound.max(piece) {
                continue;
            }
            let written = (&self.stream).write(&self.buffer[at..at + piece]);
            at += moved(written);
        }
    }

    fn take(&mut self, n: usize) {
        if self.buffer.len() < n {
            self.buffer = vec![1; n];
        }
        let mut at = 0;
        while at < n {
            let read = (&self.stream).read(&mut self.buffer[at..n]);
            at += moved(read);
        }
    }

    /// Half the round trip of n bytes, in ns.
    pub fn latency(&mut self, n: usize, round_trips: usize) -> f64 {
        let n = n.max(1);
        self.meet();
        let start = now();
        for _ in 0..round_trips {
            if self.first {
                self.put(n);
                self.take(n);
            } else {
                self.take(n);
                self.put(n);
            }
        }
        (now() - start) as f64 / (2 * round_trips) as f64
    }

    /// One of so many messages of n bytes, one way, in ns.
    pub fn stream(&mut self, n: usize, messages: usize) -> f64 {
        let n = n.max(1);
        let together = (TOGETHER / n).max(1);
        let rounds = messages.div_ceil(together);
        self.meet();
        let start = now();
        for _ in 0..rounds {
            if self.first {
                self.put(n * together);
            } else {
                self.take(n * together);
            }
        }
        self.meet();
        (now() - start) as f64 / (rounds * together) as f64
    }

    /// Both sides are here.
    fn meet(&mut self) {
        if self.first {
            self.put(1);
            self.take(1);
        } else {
            self.take(1);
            self.put(1);
        }
    }

    /// Finds the bound that is best for `time`, a measurement with few repetitions; both sides come to the same one.
    pub fn choose_bound(&mut self, mut time: impl FnMut(&mut Wire) -> f64) {
        let mut best = (f64::INFINITY, usize::MAX);
        for bound in BOUNDS {
            self.bound = bound;
            time(self);
            let found = time(self).min(time(self));
            if found < best.0 {
                best = (found, bound);
            }
        }
        // Each side bounds what it sends itself, so that they need not agree.
        self.bound = best.1;
    }
}

/// Bytes that a call moved; none if it would have had to wait.
fn moved(result: io::Result<usize>) -> usize {
    match result {
        Ok(0) => panic!("the other side of the probe has gone"),
        Ok(n) => n,
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            std::hint::spin_loop();
            0
        }
        Err(error) => panic!("the connection of the probe failed: {error}"),
    }
}
