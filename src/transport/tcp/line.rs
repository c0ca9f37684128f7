//! One connection that stands: bytes between a socket and the frames, sealed or not.
mod direct;

use super::cipher::{Cipher, RECORD};
use super::frame::{Broken, HEAD};
use super::inbox::{Inbox, Sink};
use super::outbox::{Outbox, Piece};
use crate::sys::net::{self, Congestion};
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};

/// Bytes that are read at once when small frames are expected.
pub(crate) const READ_AHEAD: usize = 64 * 1024;
/// Bytes that are read at once when the next frame is expected to be long: then its body goes straight where it belongs.
const READ_HEAD: usize = 4096;
/// A frame as long as this makes the next one expected to be long.
const LONG: usize = 16 * 1024;
/// An outbox with less than this in it gets the next part of long payloads.
pub(crate) const LOW: usize = 512 * 1024;
/// Slices given to one system call.
const SLICES: usize = 32;
/// Sealed bytes that wait for the socket before more is sealed.
const SEALED_MOST: usize = 256 * 1024;

/// Where frames go, when their bodies may be read straight into their place.
pub(crate) trait Place: Sink {
    /// Where the next bytes of the body under way belong: at most `left`. `None`: they go by [`Sink::part`].
    fn place(&mut self, left: usize) -> Option<(*mut u8, usize)>;
    /// So many bytes were put there.
    fn placed(&mut self, n: usize) -> Result<(), Broken>;
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer closed it.
    Closed,
    /// It failed, in words.
    Failed(String),
    /// The peer wrote what no peer writes.
    Broken(String),
}

/// How much the kernel takes of what is sent, and of what the other side has not acknowledged. README.md says why.
struct Room {
    /// Whether it is little, or as much as the kernel finds right; `None`: not decided, or the kernel decides alone.
    little: Option<bool>,
    /// Bytes to send until the kernel is asked again how long the path is.
    look: usize,
    /// The system's congestion control, which paces, while the path is so short that nothing is paced.
    pacing: Option<Congestion>,
}

/// The little room: best of 128 KiB to 1 MiB on loopback and on veth, for single messages and for streams.
const LITTLE: usize = 512 * 1024;
/// Microseconds of a round trip up to which a little room carries all that one connection can: 5 GB a second.
const SHORT: u32 = 100;
/// Bytes between two looks.
const BETWEEN_LOOKS: usize = 1024 * 1024;

impl Room {
    /// So many bytes were written.
    fn wrote(&mut self, n: usize, socket: &OwnedFd) {
        self.look = self.look.saturating_sub(n);
        if self.look == 0 {
            self.look = BETWEEN_LOOKS;
            self.choose(socket);
        }
    }

    /// Gives the connection back to the system's congestion control.
    fn pace(&mut self, socket: &OwnedFd) {
        if let Some(pacing) = self.pacing.take() {
            net::set_congestion(socket.as_fd(), &pacing);
        }
    }

    fn choose(&mut self, socket: &OwnedFd) {
        let little = is_short(socket);
        if !little {
            self.pace(socket);
        }
        if self.little != Some(little) {
            self.little = Some(little);
            net::set_room(socket.as_fd(), little.then_some(LITTLE));
        }
    }
}

fn is_short(socket: &OwnedFd) -> bool {
    let round_trip = net::round_trip(socket.as_fd());
    round_trip.is_some_and(|time| time <= SHORT)
}

struct Sealed {
    cipher: Cipher,
    coming: Vec<u8>,
    plain: Vec<u8>,
    going: Vec<u8>,
    gone: usize,
}

/// A connection.
pub(crate) struct Line {
    socket: OwnedFd,
    number: u64,
    inbox: Inbox,
    sealed: Option<Box<Sealed>>,
    long: bool,
    room: Room,
    /// So many bytes must have come before they are news for the epoll set.
    told_from: usize,
    /// Whether the epoll set looks for room to write.
    pub(super) watches_room: bool,
}

impl Line {
    /// `pacing`: the system's congestion control, if it paces, and the socket was made without it.
    pub(crate) fn new(
        socket: OwnedFd,
        number: u64,
        cipher: Option<Cipher>,
        pacing: Option<Congestion>,
    ) -> Line {
        let sealed = cipher.map(|cipher| {
            Box::new(Sealed {
                cipher,
                coming: Vec::new(),
                plain: Vec::new(),
                going: Vec::new(),
                gone: 0,
            })
        });
        let mut room = Room {
            little: None,
            look: BETWEEN_LOOKS,
            pacing,
        };
        if !is_short(&socket) {
            room.pace(&socket);
        }
        Line {
            socket,
            number,
            inbox: Inbox::default(),
            sealed,
            long: false,
            room,
            told_from: 1,
            watches_room: false,
        }
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Takes bytes that came behind the handshake.
    pub(crate) fn begin(&mut self, rest: &[u8], sink: &mut impl Sink) -> Result<(), End> {
        match &mut self.sealed {
            None => self.inbox.take(rest, sink).map_err(broken),
            Some(sealed) => {
                sealed.coming.extend_from_slice(rest);
                self.open(sink)
            }
        }
    }

    /// Takes what has come, as much as the socket gives at once. Whether that was all for now, and whether there was anything.
    pub(crate) fn read(&mut self, sink: &mut impl Place, room: &mut [u8]) -> Result<Read, End> {
        if self.sealed.is_some() {
            return self.read_sealed(sink, room);
        }
        let left = self.inbox.body_left();
        let place = if left > 0 { sink.place(left) } else { None };
        let (at, direct) = place.unwrap_or((core::ptr::null_mut(), 0));
        let direct = direct.min(left);
        // Behind a long body only the next head is read, so that its body goes straight to its place too.
        let ahead = match direct {
            0 if self.long => READ_HEAD,
            0 => READ_AHEAD,
            LONG.. => HEAD,
            _ => READ_HEAD,
        };
        let ahead = ahead.min(room.len());
        // SAFETY: the sink gives memory that is the transfer's for as many bytes.
        let n = match unsafe { net::receive(self.socket.as_fd(), (at, direct), &mut room[..ahead]) }
        {
            Ok(None) => return Ok(Read::Nothing),
            Ok(Some(0)) => return Err(End::Closed),
            Ok(Some(n)) => n,
            Err(error) => return Err(End::Failed(error.to_string())),
        };
        let here = n.min(direct);
        if here > 0 {
            self.inbox.skip(here);
            sink.placed(here).map_err(broken)?;
        }
        self.inbox.take(&room[..n - here], sink).map_err(broken)?;
        match self.inbox.body_left() {
            0 if here == 0 => self.long = false,
            LONG.. => self.long = true,
            _ => {}
        }
        // A short read has emptied the socket; what came since then comes with the next one.
        Ok(if n < direct + ahead && self.inbox.body_left() == 0 {
            Read::Last
        } else {
            Read::More
        })
    }

    fn read_sealed(&mut self, sink: &mut impl Sink, room: &mut [u8]) -> Result<Read, End> {
        // SAFETY: no memory of others is given.
        let n = match unsafe { net::receive(self.socket.as_fd(), (core::ptr::null_mut(), 0), room) }
        {
            Ok(None) => return Ok(Read::Nothing),
            Ok(Some(0)) => return Err(End::Closed),
            Ok(Some(n)) => n,
            Err(error) => return Err(End::Failed(error.to_string())),
        };
        if let Some(sealed) = &mut self.sealed {
            sealed.coming.extend_from_slice(&room[..n]);
        }
        self.open(sink)?;
        Ok(if n < room.len() {
            Read::Last
        } else {
            Read::More
        })
    }

    fn open(&mut self, sink: &mut impl Sink) -> Result<(), End> {
        let Some(sealed) = &mut self.sealed else {
            return Ok(());
        };
        sealed.plain.clear();
        let done = sealed
            .cipher
            .open(&sealed.coming, &mut sealed.plain)
            .map_err(|stranger| End::Broken(stranger.0.into()))?;
        sealed.coming.drain(..done);
        self.inbox.take(&sealed.plain, sink).map_err(broken)
    }

    /// Writes until the socket takes no more, or nothing is left, or so little of something long that more may be put behind it first: each call has a price, and where
    /// the last bytes of a part went by themselves the receiver ran dry meanwhile (15 µs a MiB). `lent` finds the payload of a send: that many bytes from there;
    /// `sent` is told of each that has left.
    pub(crate) fn write(
        &mut self,
        outbox: &mut Outbox,
        mut lent: impl FnMut(u64, usize, usize) -> Option<*const u8>,
        mut sent: impl FnMut(u64, usize),
    ) -> Result<Written, End> {
        let (mut any, mut full) = (false, false);
        while self.has_output(outbox) {
            if self.room.little.is_none() && outbox.pending() >= LONG {
                self.room.choose(&self.socket);
            }
            let n = match self.sealed.is_some() {
                false => self.write_once(outbox, &mut lent, &mut sent)?,
                true => self.write_sealed(outbox, &mut lent, &mut sent)?,
            };
            let Some(n) = n else {
                full = true;
                break;
            };
            any = true;
            if self.room.little.is_some() {
                self.room.wrote(n, &self.socket);
            }
            // Sealed bytes may be left with the outbox empty: nothing can be put behind what they are of.
            if n >= LONG && !outbox.is_empty() && outbox.pending() < LOW {
                break;
            }
        }
        Ok(Written { any, full })
    }

    fn write_once(
        &mut self,
        outbox: &mut Outbox,
        lent: &mut impl FnMut(u64, usize, usize) -> Option<*const u8>,
        sent: &mut impl FnMut(u64, usize),
    ) -> Result<Option<usize>, End> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut used = 0;
        for (slice, bytes) in slices.iter_mut().zip(bytes_of(outbox, lent)) {
            *slice = IoSlice::new(bytes?);
            used += 1;
        }
        let n = match net::send(self.socket.as_fd(), &slices[..used]) {
            Ok(n) => n,
            Err(error) => return Err(End::Failed(error.to_string())),
        };
        if let Some(n) = n {
            outbox.sent(n, sent);
        }
        Ok(n.filter(|n| *n > 0))
    }

    /// Seals what is there, up to a bound, and writes sealed bytes. A send's bytes have left when they are sealed.
    fn write_sealed(
        &mut self,
        outbox: &mut Outbox,
        lent: &mut impl FnMut(u64, usize, usize) -> Option<*const u8>,
        sent: &mut impl FnMut(u64, usize),
    ) -> Result<Option<usize>, End> {
        let Some(sealed) = &mut self.sealed else {
            return Ok(None);
        };
        let mut taken = 0;
        if sealed.going.len() - sealed.gone < SEALED_MOST {
            let mut record = Vec::with_capacity(RECORD);
            for bytes in bytes_of(outbox, lent) {
                let bytes = bytes?;
                let n = bytes.len().min(RECORD - record.len());
                record.extend_from_slice(&bytes[..n]);
                if record.len() == RECORD {
                    break;
                }
            }
            if !record.is_empty() {
                let failed = |s: super::greeting::Stranger| End::Failed(s.0.into());
                sealed
                    .cipher
                    .seal(&record, &mut sealed.going)
                    .map_err(failed)?;
                taken = record.len();
                outbox.sent(taken, sent);
            }
        }
        let slice = [IoSlice::new(&sealed.going[sealed.gone..])];
        match net::send(self.socket.as_fd(), &slice) {
            Ok(Some(n)) if n > 0 => {
                sealed.gone += n;
                if sealed.gone == sealed.going.len() {
                    sealed.going.clear();
                    sealed.gone = 0;
                }
                Ok(Some(n))
            }
            Ok(_) => Ok((taken > 0).then_some(taken)),
            Err(error) => Err(End::Failed(error.to_string())),
        }
    }

    /// Whether there is something to write.
    pub(crate) fn has_output(&self, outbox: &Outbox) -> bool {
        !outbox.is_empty() || self.sealed.as_ref().is_some_and(|s| s.gone < s.going.len())
    }

    /// Whether much of a frame's body is still to come.
    pub(crate) fn is_amid_long(&self) -> bool {
        self.inbox.body_left() >= LONG
    }

    /// Microseconds of the path's shortest round trip; `None` where the kernel does not tell.
    pub(crate) fn round_trip(&self) -> Option<u32> {
        net::round_trip(self.socket.as_fd())
    }

    /// Bytes that the kernel keeps of what comes.
    pub(crate) fn kept(&self) -> usize {
        net::kept(self.socket.as_fd())
    }

    /// Whether the peer's kernel has all that was written.
    pub(crate) fn is_acknowledged(&self) -> bool {
        net::unacknowledged(self.socket.as_fd()) == 0
    }
}

/// The outbox's pieces as memory.
fn bytes_of<'a>(
    outbox: &'a Outbox,
    lent: &'a mut impl FnMut(u64, usize, usize) -> Option<*const u8>,
) -> impl Iterator<Item = Result<&'a [u8], End>> {
    outbox.front().map(move |(piece, copied)| match piece {
        Piece::Copied(_) => Ok(copied),
        Piece::Lent { send, at, len } => match lent(send, at, len) {
            // SAFETY: the payload is lent for reading until all of it has left.
            Some(ptr) => Ok(unsafe { core::slice::from_raw_parts(ptr, len) }),
            None => Err(End::Failed("a send that is not under way any more".into())),
        },
    })
}

fn broken(broken: Broken) -> End {
    End::Broken(broken.0)
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Whether anything has left.
    pub(crate) any: bool,
    /// Whether the socket takes no more for now.
    pub(crate) full: bool,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Nothing,
    /// Something, and for now that was all.
    Last,
    /// Something, and perhaps more.
    More,
}
