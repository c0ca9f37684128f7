//! The limit beside messages through sockets or an MPI: a raw TCP connection between the same two processes, or blocking messages of that MPI by the
//! crate `mpi`, on the same cores, without anything of the library. Sides 0 and 1 make the same calls in the same order.
use super::mpi::Mpi;
use super::probe::now;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

/// Sizes of the send buffer, of which the best is taken: what is more than the path holds only falls out of the caches. The first is the kernel's own choice.
const BOUNDS: [Option<libc::c_int>; 4] = [None, Some(128 << 10), Some(256 << 10), Some(512 << 10)];
/// How long an address is tried.
const PATIENCE: Duration = Duration::from_secs(2);
/// Small messages of a stream leave together, up to so many bytes.
const TOGETHER: usize = 64 << 10;

/// One end of the connection.
pub struct Wire {
    end: End,
    first: bool,
    buffer: Vec<u8>,
    /// Where messages of an MPI come: apart from those that go, as in the benchmarks. What is sent from where it came has left its sender's cache.
    incoming: Vec<u8>,
}

/// What the bytes go through.
enum End {
    Socket(TcpStream),
    Mpi(Mpi),
}

impl Wire {
    /// The connection between ranks 0 and 1, which may be on two hosts; nothing on other ranks. All ranks call it.
    pub fn connect(world: &SimpleCommunicator, apart: bool) -> Option<Wire> {
        let (first, stream) = match world.rank() {
            0 => {
                let here = if apart {
                    Ipv4Addr::UNSPECIFIED
                } else {
                    Ipv4Addr::LOCALHOST
                };
                let listener = TcpListener::bind((here, 0)).expect("a port");
                let port = listener.local_addr().expect("a port").port();
                let addresses = if apart { own_addresses() } else { vec![here] };
                let text: Vec<String> = addresses.iter().map(|ip| format!("{ip}:{port}")).collect();
                world.process_at_rank(1).send(text.join(" ").as_bytes());
                (true, listener.accept().expect("rank 1 connects").0)
            }
            1 => {
                let (text, _) = world.process_at_rank(0).receive_vec::<u8>();
                let text = String::from_utf8(text).expect("addresses");
                let stream = text.split(' ').find_map(|address| {
                    let address: SocketAddr = address.parse().expect("an address");
                    TcpStream::connect_timeout(&address, PATIENCE).ok()
                });
                let stream = stream.unwrap_or_else(|| {
                    panic!("none of the addresses of rank 0's host can be reached: {text}")
                });
                (false, stream)
            }
            _ => return None,
        };
        stream
            .set_nodelay(true)
            .and_then(|()| stream.set_nonblocking(true))
            .expect("a socket of our own");
        Some(Wire {
            end: End::Socket(stream),
            first,
            buffer: vec![1; TOGETHER],
            incoming: Vec::new(),
        })
    }

    /// Messages of the MPI that carries those of ranks 0 and 1; nothing on other ranks. All ranks call it.
    pub fn of_mpi(world: &SimpleCommunicator) -> Option<Wire> {
        Some(Wire {
            end: End::Mpi(Mpi::of(world)?),
            first: world.rank() == 0,
            buffer: vec![1; TOGETHER],
            incoming: Vec::new(),
        })
    }

    /// Bounds the bytes under way of what this side sends.
    fn set_bound(&self, bound: Option<libc::c_int>) {
        let stream = match &self.end {
            End::Socket(stream) => stream,
            End::Mpi(_) => return,
        };
        // SO_BUF_LOCK, which gives the choice back to the kernel.
        let (name, value) = bound.map_or((72, 0), |bytes| (libc::SO_SNDBUF, bytes));
        // SAFETY: both options are an int.
        unsafe {
            libc::setsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                name,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
    }

    fn put(&mut self, n: usize) {
        if self.buffer.len() < n {
            self.buffer = vec![1; n];
        }
        match &self.end {
            End::Socket(stream) => {
                let (mut stream, mut at) = (stream, 0);
                while at < n {
                    at += moved(stream.write(&self.buffer[at..n]));
                }
            }
            End::Mpi(mpi) => mpi.put(&self.buffer[..n]),
        }
    }

    fn take(&mut self, n: usize) {
        let buffer = match &self.end {
            End::Socket(_) => &mut self.buffer,
            End::Mpi(_) => &mut self.incoming,
        };
        if buffer.len() < n {
            *buffer = vec![1; n];
        }
        match &self.end {
            End::Socket(stream) => {
                let (mut stream, mut at) = (stream, 0);
                while at < n {
                    at += moved(stream.read(&mut buffer[at..n]));
                }
            }
            End::Mpi(mpi) => mpi.take(&mut buffer[..n]),
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
        let together = match &self.end {
            End::Socket(_) => (TOGETHER / n).max(1),
            // It has messages, and puts together what it likes.
            End::Mpi(_) => 1,
        };
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
        if let End::Mpi(_) = self.end {
            return;
        }
        let mut best = (f64::INFINITY, None);
        for bound in BOUNDS {
            self.set_bound(bound);
            time(self);
            let found = time(self).min(time(self));
            if found < best.0 {
                best = (found, bound);
            }
        }
        // Each side bounds what it sends itself, so that they need not agree.
        self.set_bound(best.1);
    }
}

/// The addresses of this host that others may reach.
fn own_addresses() -> Vec<Ipv4Addr> {
    let told = std::process::Command::new("hostname").arg("-I").output();
    let text = told.map_or(String::new(), |told| {
        String::from_utf8_lossy(&told.stdout).into_owned()
    });
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
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
