//! Descriptors: pipes, packet sockets that carry descriptors and credentials, polling (pipe2(2), unix(7), poll(2), signalfd(2)).
use super::last_error;
use core::time::Duration;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// -1 as the error that the system left, anything else as it is.
pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(last_error())
    } else {
        Ok(result)
    }
}

/// Repeats a call that a signal interrupted.
fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        let result = call();
        if result >= 0 {
            return Ok(result as usize);
        }
        let error = last_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Receives by `call`. A reset says no more than that the other side ended with something of ours unread, and comes before what the other side
/// had sent: the kernel says it once, and then gives the rest.
fn retry_receive(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    match retry(&mut call) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => retry(call),
        received => received,
    }
}

/// A connected pair of packet sockets (`SOCK_SEQPACKET`: message boundaries and an end of stream), both close-on-exec.
pub(crate) fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(libc::SOCK_SEQPACKET)
}

/// A connected pair of stream sockets, both close-on-exec.
pub(crate) fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(libc::SOCK_STREAM)
}

fn pair(kind: libc::c_int) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` is valid for the two descriptors that the call writes.
    check(unsafe {
        libc::socketpair(
            libc::AF_UNIX,
            kind | libc::SOCK_CLOEXEC,
            0,
            fds.as_mut_ptr(),
        )
    })?;
    // SAFETY: both were just made and belong to nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// The address of an abstract socket, and its length.
fn abstract_address(name: &str) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    // SAFETY: an all-zero `sockaddr_un` is a valid value of that plain C struct.
    let mut address: libc::sockaddr_un = unsafe { core::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // The first byte stays zero: that makes it abstract.
    let Some(room) = address.sun_path.get_mut(1..=name.len()) else {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    };
    for (to, from) in room.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let len = core::mem::offset_of!(libc::sockaddr_un, sun_path) + 1 + name.len();
    Ok((address, len as libc::socklen_t))
}

fn packet_socket(flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call.
    let fd = check(unsafe {
        libc::socket(
            libc::AF_UNIX,
            libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | flags,
            0,
        )
    })?;
    // SAFETY: it was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A packet socket under an abstract name, which the kernel frees with its holder, for others to connect to. [`accept`] does not wait.
pub(crate) fn listen(name: &str) -> io::Result<OwnedFd> {
    let (address, len) = abstract_address(name)?;
    let socket = packet_socket(libc::SOCK_NONBLOCK)?;
    // SAFETY: `address` is valid for reads of `len` bytes.
    unsafe {
        check(libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            len,
        ))?;
        check(libc::listen(socket.as_raw_fd(), libc::SOMAXCONN))?;
    }
    Ok(socket)
}

/// Connects to such a socket.
pub(crate) fn connect(name: &str) -> io::Result<OwnedFd> {
    let (address, len) = abstract_address(name)?;
    let socket = packet_socket(0)?;
    // SAFETY: `address` is valid for reads of `len` bytes.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(socket)
}

/// The next connection to such a socket.
pub(crate) fn accept(socket: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: null pointers mean that nobody asks for the other's address.
    let fd = check(unsafe {
        libc::accept4(
            socket.as_raw_fd(),
            core::ptr::null_mut(),
            core::ptr::null_mut(),
            libc::SOCK_CLOEXEC,
        )
    })?;
    // SAFETY: it was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes every descriptor of this process from `first` on, but those in `keep`.
///
/// # Safety
/// Nothing may use a descriptor afterwards that is not kept: whoever owns one in this process is never to be dropped or used again.
pub(crate) unsafe fn close_all(first: RawFd, keep: &[RawFd]) {
    let mut keep: Vec<RawFd> = keep.iter().copied().filter(|fd| *fd >= first).collect();
    keep.sort_unstable();
    let mut from = first as libc::c_uint;
    for end in keep
        .into_iter()
        .map(|fd| fd as libc::c_uint)
        .chain([libc::c_uint::MAX])
    {
        if end > from {
            // SAFETY: a plain system call; that the descriptors are nobody's any more is the caller's promise.
            unsafe { libc::syscall(libc::SYS_close_range, from, end - 1, 0) };
        }
        from = end.saturating_add(1);
    }
}

/// A pipe's reading and writing end, both close-on-exec.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` is valid for the two descriptors that the call writes.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: both were just made and belong to nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// A descriptor that becomes readable when one of `signals` is pending; the caller's thread has them blocked from here on.
pub(crate) fn signals(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: an all-zero `sigset_t` is a valid value of that plain C type.
    let mut set: libc::sigset_t = unsafe { core::mem::zeroed() };
    // SAFETY: `set` is valid for the calls, which read and write nothing else.
    let fd = unsafe {
        libc::sigemptyset(&mut set);
        for &signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, core::ptr::null_mut());
        libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    check(fd)?;
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes what is pending on a descriptor of [`signals`], so that it is no longer readable.
pub(crate) fn clear_signals(fd: &OwnedFd) {
    let mut buffer = [0_u8; 128 * 8];
    while read(fd.as_raw_fd(), &mut buffer).is_ok_and(|n| n > 0) {}
}

/// Takes over a descriptor that this process inherited under the number `fd`, if one is open there.
///
/// The caller must be told the number by whoever started this process, and take it over once.
pub(crate) fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    if fd <= 2 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    set_close_on_exec(fd, true)?;
    // SAFETY: the call above found it open; by the caller's promise nobody else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes standard input (0) or output (1) out of its place: the file gets another number, and `/dev/null` takes its place. It may be called
/// once for each.
pub(crate) fn take_over(standard: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call; a number that is not open is an error.
    let moved = check(unsafe { libc::fcntl(standard, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: just made, and nobody else's.
    let moved = unsafe { OwnedFd::from_raw_fd(moved) };
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    duplicate_onto(null.as_raw_fd(), standard)?;
    Ok(moved)
}

/// Whether descriptor `fd` is a socket.
pub(crate) fn is_socket(fd: RawFd) -> bool {
    // SAFETY: an all-zero `stat` is a valid value of that plain C struct.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: `stat` is valid for writes for the length of the call.
    unsafe { libc::fstat(fd, &mut stat) == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFSOCK }
}

/// Sets or clears close-on-exec. The flag is this descriptor's alone, not that of the file behind it.
pub(crate) fn set_close_on_exec(fd: RawFd, on: bool) -> io::Result<()> {
    // SAFETY: a plain system call; a number that is not open is an error.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, if on { libc::FD_CLOEXEC } else { 0 }) })
        .map(drop)
}

/// Makes reads and writes through `fd` return at once. Only for files that this process made: the flag is shared by all who have the file.
pub(crate) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: plain system calls on a descriptor that we own.
    unsafe {
        let flags = check(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL))?;
        check(libc::fcntl(
            fd.as_raw_fd(),
            libc::F_SETFL,
            flags | libc::O_NONBLOCK,
        ))
        .map(drop)
    }
}

/// Makes `to` another number for the file behind `from`; it is inherited by exec. Both may be the same.
pub(crate) fn duplicate_onto(from: RawFd, to: RawFd) -> io::Result<()> {
    if from == to {
        return set_close_on_exec(to, false);
    }
    // SAFETY: a plain system call; it closes `to`, which the caller gives up.
    check(unsafe { libc::dup2(from, to) }).map(drop)
}

/// Reads what is there, at most `buffer` full; 0 at the end.
pub(crate) fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buffer` is valid for writes of its length.
    retry(|| unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// Writes a part of `bytes`, at least one byte.
pub(crate) fn write(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: `bytes` is valid for reads of its length.
    retry(|| unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) })
}

/// What poll(2) says of one descriptor at once.
fn is_ready(fd: BorrowedFd<'_>, interest: Interest) -> bool {
    let mut watch = Watch::default();
    let index = watch.add(fd, interest);
    watch.wait(Some(Duration::ZERO));
    watch.ready(index)
}

/// [`read`] from a file that nobody else reads, without waiting, whatever flags it has.
pub(crate) fn read_now(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    if !is_ready(fd, Interest::Read) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    read(fd.as_raw_fd(), buffer)
}

/// [`write()`] into a socket or pipe that nobody else writes, without waiting, whatever flags it has.
pub(crate) fn write_now(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    if is_socket(fd.as_raw_fd()) {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: `bytes` is valid for reads of its length.
        return retry(|| unsafe {
            libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags)
        });
    }
    if !is_ready(fd, Interest::Write) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    // A pipe that is ready has room for so much (pipe(7)).
    write(fd.as_raw_fd(), &bytes[..bytes.len().min(libc::PIPE_BUF)])
}

/// Sends one packet; `wait` says whether to wait for room.
pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8], wait: bool) -> io::Result<()> {
    let flags = libc::MSG_NOSIGNAL | if wait { 0 } else { libc::MSG_DONTWAIT };
    // SAFETY: `bytes` is valid for reads of its length.
    retry(|| unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
        .map(drop)
}

/// Receives one packet; 0 bytes at the end of the stream. `wait` says whether to wait for one.
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], wait: bool) -> io::Result<usize> {
    let flags = if wait { 0 } else { libc::MSG_DONTWAIT };
    // SAFETY: `buffer` is valid for writes of its length.
    retry_receive(|| unsafe {
        libc::recv(
            fd.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            flags,
        )
    })
}

/// Ends both directions of a socket for everybody who has it: waiting readers see the end.
pub(crate) fn shut_down(fd: BorrowedFd<'_>) {
    // SAFETY: a plain system call on an open descriptor.
    unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) };
}

/// Makes packets received from `fd` carry their sender's process and user, vouched for by the kernel.
pub(crate) fn ask_credentials(fd: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int that lives through the call.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PASSCRED,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// The process that made the socket pair of which `fd` is one end, or that is at the other end of a connection (the one that listened, or
/// that connected).
pub(crate) fn peer(fd: BorrowedFd<'_>) -> io::Result<u32> {
    peer_and_user(fd).map(|(pid, _)| pid)
}

/// As [`peer`], and the user that it was then.
pub(crate) fn peer_and_user(fd: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` and `len` are valid for writes and agree.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &mut len,
        )
    })?;
    Ok((peer.pid as u32, peer.uid))
}

/// How many descriptors one packet may carry here.
pub(crate) const MOST_DESCRIPTORS: usize = 32;

/// Room for the control messages of one packet, aligned as their headers need it.
#[repr(C, align(8))]
struct Ancillary([u8; 256]);

/// Sends one packet together with descriptors.
pub(crate) fn send_descriptors(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    assert!(!descriptors.is_empty() && descriptors.len() <= MOST_DESCRIPTORS);
    let numbers: Vec<RawFd> = descriptors.iter().map(|d| d.as_raw_fd()).collect();
    let payload = size_of_val(&numbers[..]);
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut ancillary = Ancillary([0; 256]);
    // SAFETY: an all-zero `msghdr` is a valid value of that plain C struct.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = ancillary.0.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE only computes.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(payload as u32) } as _;
    assert!(message.msg_controllen as usize <= ancillary.0.len());
    // SAFETY: the control buffer has room for one message of `payload` bytes (asserted), so its header and data lie inside.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(payload as u32) as _;
        core::ptr::copy_nonoverlapping(
            numbers.as_ptr().cast::<u8>(),
            libc::CMSG_DATA(header),
            payload,
        );
    }
    // SAFETY: `message` points at `part`, `bytes` and `ancillary`, which outlive the call.
    retry(|| unsafe { libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_NOSIGNAL) }).map(drop)
}

/// One packet, what came with it, and who sent it.
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
    /// The sender's process and user, if [`ask_credentials`] was called.
    pub(crate) sender: Option<(u32, u32)>,
}

/// Receives one packet of at most `most` bytes with its descriptors, without waiting. `None` at the end of the stream.
pub(crate) fn receive_descriptors(fd: BorrowedFd<'_>, most: usize) -> io::Result<Option<Packet>> {
    let mut bytes = vec![0_u8; most];
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut ancillary = Ancillary([0; 256]);
    // SAFETY: an all-zero `msghdr` is a valid value of that plain C struct.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = ancillary.0.as_mut_ptr().cast();
    message.msg_controllen = ancillary.0.len() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `message` points at `part`, `bytes` and `ancillary`, which outlive the call.
    let len = retry_receive(|| unsafe { libc::recvmsg(fd.as_raw_fd(), &mut message, flags) })?;
    if len == 0 {
        return Ok(None);
    }
    bytes.truncate(len);
    let mut packet = Packet {
        bytes,
        descriptors: Vec::new(),
        sender: None,
    };
    // SAFETY: the kernel filled `ancillary` and set its length in `message`; the macros walk headers inside it only.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&message) };
    while !header.is_null() {
        // SAFETY: `header` is not null, so it is a whole control message inside `ancillary`; its data is read unaligned and by its length.
        unsafe {
            let data = libc::CMSG_DATA(header);
            let len = (*header).cmsg_len as usize - (data as usize - header as usize);
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    for k in 0..len / size_of::<RawFd>() {
                        let number = data.cast::<RawFd>().add(k).read_unaligned();
                        packet.descriptors.push(OwnedFd::from_raw_fd(number));
                    }
                }
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if len >= size_of::<libc::ucred>() => {
                    let from = data.cast::<libc::ucred>().read_unaligned();
                    packet.sender = Some((from.pid as u32, from.uid));
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(&message, header);
        }
    }
    Ok(Some(packet))
}

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    Write,
    /// The other side has closed it, or will write no more.
    End,
}

/// Descriptors to wait on together. It is built anew for each wait.
#[derive(Default)]
pub(crate) struct Watch {
    set: Vec<libc::pollfd>,
}

impl Watch {
    /// Watches `fd`; the answer is its index for [`Watch::ready`].
    pub(crate) fn add(&mut self, fd: BorrowedFd<'_>, interest: Interest) -> usize {
        let events = match interest {
            Interest::Read => libc::POLLIN,
            Interest::Write => libc::POLLOUT,
            Interest::End => libc::POLLRDHUP,
        };
        self.set.push(libc::pollfd {
            fd: fd.as_raw_fd(),
            events,
            revents: 0,
        });
        self.set.len() - 1
    }

    /// Waits until one is ready, or for `limit`. An end or error of a file counts as ready.
    pub(crate) fn wait(&mut self, limit: Option<Duration>) {
        // Rounded up, so that a deadline has passed when the limit has.
        let limit = limit.map_or(-1, |d| {
            d.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32
        });
        // SAFETY: the set is valid for reads and writes of its length.
        if unsafe { libc::poll(self.set.as_mut_ptr(), self.set.len() as libc::nfds_t, limit) } < 0 {
            // Interrupted: nothing is ready, and the caller looks at its deadlines.
            self.set.iter_mut().for_each(|entry| entry.revents = 0);
        }
    }

    /// Whether the descriptor with this index is ready.
    pub(crate) fn ready(&self, index: usize) -> bool {
        self.set[index].revents != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_packet_carries_descriptors_and_its_sender() {
        let (a, b) = packet_pair().unwrap();
        ask_credentials(b.as_fd()).unwrap();
        let (read_end, write_end) = pipe().unwrap();
        send_descriptors(a.as_fd(), b"hello", &[write_end.as_fd(), read_end.as_fd()]).unwrap();
        let packet = receive_descriptors(b.as_fd(), 256).unwrap().unwrap();
        assert_eq!(packet.bytes, b"hello");
        assert_eq!(packet.sender.unwrap().0, std::process::id());
        assert_eq!(packet.descriptors.len(), 2);
        write(packet.descriptors[0].as_raw_fd(), b"x").unwrap();
        let mut byte = [0];
        assert_eq!(read(read_end.as_raw_fd(), &mut byte).unwrap(), 1);
        assert_eq!(peer(a.as_fd()).unwrap(), std::process::id());
        drop(a);
        assert!(receive_descriptors(b.as_fd(), 256).unwrap().is_none());
    }

    #[test]
    fn what_was_sent_comes_though_the_other_side_ended_with_something_unread() {
        for take in [
            |fd: BorrowedFd<'_>| receive(fd, &mut [0; 8], false).unwrap(),
            |fd: BorrowedFd<'_>| {
                receive_descriptors(fd, 8)
                    .unwrap()
                    .map_or(0, |it| it.bytes.len())
            },
        ] {
            let (a, b) = packet_pair().unwrap();
            send(b.as_fd(), b"unread", false).unwrap();
            send(a.as_fd(), b"last", false).unwrap();
            drop(a);
            assert_eq!(take(b.as_fd()), 4);
            assert_eq!(take(b.as_fd()), 0);
        }
    }

    #[test]
    fn watching_ends_with_what_is_ready_or_with_the_limit() {
        let (a, b) = packet_pair().unwrap();
        let mut watch = Watch::default();
        let (mine, other) = (
            watch.add(a.as_fd(), Interest::Read),
            watch.add(b.as_fd(), Interest::Write),
        );
        watch.wait(None);
        assert!(!watch.ready(mine) && watch.ready(other));
        let mut watch = Watch::default();
        let mine = watch.add(a.as_fd(), Interest::Read);
        watch.wait(Some(Duration::from_millis(1)));
        assert!(!watch.ready(mine));
        drop(b);
        watch.wait(None);
        assert!(watch.ready(mine));
    }

    #[test]
    fn what_is_not_open_is_not_inherited() {
        assert!(inherited(1).is_err() && inherited(987_654).is_err());
        assert!(!is_socket(987_654));
    }
}
