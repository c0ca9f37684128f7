//! What frames travel over: packets of a socket pair on one host, a byte stream to and from another.
//!
//! Neither waits, and no flag of a descriptor is changed: the streams of a remote agent are not its own.
use super::wire::PACKET;
use crate::sys::fd::{self, Interest, Watch};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// The first bytes of a remote agent on its stream: what comes before is not ours (a greeting of the login shell).
pub(super) const MAGIC: &[u8] = b"\0tercio agent 1\n";

/// One end of a control channel.
pub(super) enum Channel {
    /// A socket that keeps frames apart.
    Packets(OwnedFd),
    /// Bytes: each frame with its length, four bytes, in front, and a line's end behind it. What carries the stream may hold back what is no
    /// whole line, as srun does.
    Stream(Box<Stream>),
}

/// A byte stream that carries frames.
pub(super) struct Stream {
    input: OwnedFd,
    output: OwnedFd,
    /// Read and not yet taken, from `taken` on.
    read: Vec<u8>,
    taken: usize,
    /// What the other side has still to be sent of the last frame.
    unsent: Vec<u8>,
}

/// What stands behind each frame.
const LINE_END: u8 = b'\n';
/// Bytes read at once.
const CHUNK: usize = 64 << 10;

impl Channel {
    pub(super) fn stream(input: OwnedFd, output: OwnedFd) -> Channel {
        Channel::Stream(Box::new(Stream {
            input,
            output,
            read: Vec::new(),
            taken: 0,
            unsent: Vec::new(),
        }))
    }

    /// The next frame; `WouldBlock` if none is there, `UnexpectedEof` at the end.
    pub(super) fn receive(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Channel::Packets(socket) => {
                let mut packet = vec![0_u8; PACKET];
                let len = fd::receive(socket.as_fd(), &mut packet, false)?;
                if len == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                packet.truncate(len);
                Ok(packet)
            }
            Channel::Stream(stream) => stream.receive(),
        }
    }

    /// Sends a frame; `WouldBlock` if there is no room for it yet.
    pub(super) fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        match self {
            Channel::Packets(socket) => match fd::send(socket.as_fd(), frame, false) {
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                sent => sent,
            },
            Channel::Stream(stream) => stream.send(frame),
        }
    }

    /// Sends on what is left of a frame.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Channel::Packets(_) => Ok(()),
            Channel::Stream(stream) => stream.flush(),
        }
    }

    /// Whether a part of a frame waits to be sent.
    pub(super) fn is_flushed(&self) -> bool {
        match self {
            Channel::Packets(_) => true,
            Channel::Stream(stream) => stream.unsent.is_empty(),
        }
    }

    /// Watches for what comes in, and for room if there is something to send; the index of the former.
    pub(super) fn watch(&self, watch: &mut Watch, wants_room: bool) -> usize {
        let (input, output) = match self {
            Channel::Packets(socket) => (socket.as_fd(), socket.as_fd()),
            Channel::Stream(stream) => (stream.input.as_fd(), stream.output.as_fd()),
        };
        if wants_room || !self.is_flushed() {
            watch.add(output, Interest::Write);
        }
        watch.add(input, Interest::Read)
    }

    /// Whether what comes in is bytes from another host, where silence means something.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Channel::Stream(_))
    }
}

impl Stream {
    fn receive(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let held = &self.read[self.taken..];
            if let Some((len, rest)) = held.split_first_chunk::<4>() {
                let len = u32::from_le_bytes(*len) as usize;
                if len > PACKET {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("a frame of {len} bytes"),
                    ));
                }
                if let Some(&end) = rest.get(len) {
                    if end != LINE_END {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            "a frame without an end",
                        ));
                    }
                    let frame = rest[..len].to_vec();
                    self.taken += 4 + len + 1;
                    return Ok(frame);
                }
            }
            self.read.drain(..self.taken);
            self.taken = 0;
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let held = self.read.len();
        self.read.resize(held + CHUNK, 0);
        let len = fd::read_now(self.input.as_fd(), &mut self.read[held..]);
        self.read.truncate(held + *len.as_ref().unwrap_or(&0));
        match len {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.flush()?;
        if !self.unsent.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.unsent.extend((frame.len() as u32).to_le_bytes());
        self.unsent.extend(frame);
        self.unsent.push(LINE_END);
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match fd::write_now(self.output.as_fd(), &self.unsent) {
                Ok(len) => drop(self.unsent.drain(..len)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends bytes that are no frame.
    pub(super) fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.unsent.extend(bytes);
        self.flush()
    }

    /// Takes what has come in as it is: for what a remote side says before its first frame.
    pub(super) fn take_raw(&mut self) -> io::Result<Vec<u8>> {
        if self.read.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.read))
    }

    /// Gives back what was taken too much of.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        self.read.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd::{pipe, stream_pair};
    use proptest::prelude::*;
    use std::os::fd::AsRawFd;

    /// A channel over pipes, and the ends that feed and read it.
    fn over_pipes() -> (Channel, OwnedFd, OwnedFd) {
        let (input, feed) = pipe().unwrap();
        let (taken, output) = pipe().unwrap();
        (Channel::stream(input, output), feed, taken)
    }

    #[test]
    fn frames_come_whole_through_sockets_and_pipes() {
        let (a, b) = stream_pair().unwrap();
        let twice = |fd: OwnedFd| Channel::stream(fd.try_clone().unwrap(), fd);
        let (mut a, mut b) = (twice(a), twice(b));
        let frames: Vec<Vec<u8>> = (0..200).map(|n| vec![n as u8; n * 100]).collect();
        let (mut sent, mut received) = (0, 0);
        while received < frames.len() {
            while sent < frames.len() && a.send(&frames[sent]).is_ok() {
                sent += 1;
            }
            let _ = a.flush();
            match b.receive() {
                Ok(frame) => {
                    assert_eq!(frame, frames[received]);
                    received += 1;
                }
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        drop(a);
        assert_eq!(
            b.receive().unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    #[test]
    fn a_full_pipe_keeps_nobody() {
        let (mut channel, _feed, taken) = over_pipes();
        let mut sent = 0;
        while channel.send(&[7; 30_000]).is_ok() {
            sent += 1;
            assert!(sent < 100);
        }
        assert!(!channel.is_flushed());
        let mut all = 0;
        let mut buffer = vec![0; 1 << 16];
        while all < sent * 30_005 {
            all += fd::read(taken.as_raw_fd(), &mut buffer).unwrap();
            channel.flush().unwrap();
        }
        assert!(channel.is_flushed());
    }

    #[test]
    fn too_long_a_frame_is_refused() {
        let (mut channel, feed, _taken) = over_pipes();
        fd::write(feed.as_raw_fd(), &(PACKET as u32 + 1).to_le_bytes()).unwrap();
        let error = channel.receive().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_frame_ends_with_its_line() {
        let (mut channel, feed, _taken) = over_pipes();
        fd::write(feed.as_raw_fd(), b"\x01\0\0\0a").unwrap();
        let error = channel.receive().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        fd::write(feed.as_raw_fd(), b"b").unwrap();
        let error = channel.receive().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_refused(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6)) {
            let (mut channel, feed, _taken) = over_pipes();
            let mut feed = Some(feed);
            let mut frames = 0;
            for piece in &pieces {
                fd::write_now(feed.as_ref().unwrap().as_fd(), piece).unwrap();
                while let Ok(frame) = channel.receive() {
                    prop_assert!(frame.len() <= PACKET);
                    frames += 1;
                    prop_assert!(frames <= 200);
                }
            }
            feed.take();
            while channel.receive().is_ok() {}
        }

        #[test]
        fn frames_survive_being_cut_anywhere(lens in prop::collection::vec(0_usize..50, 1..8), cut in 1_usize..20) {
            let (mut channel, feed, _taken) = over_pipes();
            let bytes: Vec<u8> = lens.iter().enumerate().flat_map(|(n, &len)| {
                (len as u32).to_le_bytes().into_iter().chain(std::iter::repeat_n(n as u8, len)).chain([LINE_END])
            }).collect();
            let mut got = Vec::new();
            for piece in bytes.chunks(cut) {
                fd::write(feed.as_raw_fd(), piece).unwrap();
                while let Ok(frame) = channel.receive() {
                    got.push(frame);
                }
            }
            let expected: Vec<Vec<u8>> = lens.iter().enumerate().map(|(n, &len)| vec![n as u8; len]).collect();
            prop_assert_eq!(got, expected);
        }
    }
}
