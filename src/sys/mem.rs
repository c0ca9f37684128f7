//! Memory without a name that several processes map (memfd_create(2), fcntl seals, fallocate(2), mmap(2)).
use super::last_error;
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A new memfd of `len` bytes, all holes, sealed against changes of its size and of its seals. Close-on-exec is set.
pub(crate) fn memfd(name: &core::ffi::CStr, len: u64) -> io::Result<OwnedFd> {
    // SAFETY: `name` is a C string; the call touches no other memory.
    let fd =
        unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return Err(last_error());
    }
    // SAFETY: `fd` was just made and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let len = libc::off_t::try_from(len).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    // SAFETY: plain system calls on a descriptor that we own.
    let failed = unsafe {
        libc::ftruncate(fd.as_raw_fd(), len) < 0
            || libc::fcntl(
                fd.as_raw_fd(),
                libc::F_ADD_SEALS,
                libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL,
            ) < 0
    };
    if failed { Err(last_error()) } else { Ok(fd) }
}

/// Bytes that a file of this process may have (getrlimit(2), RLIMIT_FSIZE).
pub(crate) fn longest_file() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for writes for the length of the call.
    match unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) } {
        0 => limit.rlim_cur,
        _ => u64::MAX,
    }
}

/// The length of the file behind `fd`.
pub(crate) fn file_len(fd: &OwnedFd) -> io::Result<u64> {
    // SAFETY: an all-zero `stat` is a valid value of that plain C struct.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: `stat` is valid for writes for the length of the call.
    if unsafe { libc::fstat(fd.as_raw_fd(), &mut stat) } < 0 {
        return Err(last_error());
    }
    Ok(stat.st_size as u64)
}

/// The seals on `fd`; an error where it is no memfd.
pub(crate) fn seals(fd: &OwnedFd) -> io::Result<i32> {
    // SAFETY: a plain system call on a descriptor that we own.
    let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
    if seals < 0 {
        Err(last_error())
    } else {
        Ok(seals)
    }
}

/// Maps all of `fd`, shared, for reading and writing.
pub(crate) fn map_shared(fd: &OwnedFd, len: usize) -> io::Result<MmapRaw> {
    MmapOptions::new().len(len).map_raw(fd.as_raw_fd())
}

/// Maps `len` bytes at `offset` of `fd`, shared, for reading and writing.
pub(crate) fn map_part(fd: BorrowedFd<'_>, offset: usize, len: usize) -> io::Result<MmapRaw> {
    let mut options = MmapOptions::new();
    options.offset(offset as u64).len(len);
    options.map_raw(fd.as_raw_fd())
}

/// Maps `len` zero bytes of the process's own, without taking memory for them yet.
pub(crate) fn map_private(len: usize) -> io::Result<MmapRaw> {
    let mut options = MmapOptions::new();
    options.len(len);
    // Miri knows only the plain mapping.
    if !cfg!(miri) {
        options.no_reserve_swap();
    }
    Ok(MmapRaw::from(options.map_anon()?))
}

/// Maps the pages of a range for writing now.
pub(crate) fn populate(map: &MmapRaw, offset: usize, len: usize) -> io::Result<()> {
    map.advise_range(Advice::PopulateWrite, offset, len)
}

/// Says whether a range belongs into core dumps. A wish only.
pub(crate) fn dump(map: &MmapRaw, offset: usize, len: usize, wanted: bool) {
    let advice = if wanted {
        Advice::DoDump
    } else {
        Advice::DontDump
    };
    // Miri has no such call.
    if !cfg!(miri) {
        let _ = map.advise_range(advice, offset, len);
    }
}

/// Takes memory for `len` bytes at `offset` of `fd` now, so that touching them later cannot fail.
pub(crate) fn allocate(fd: impl AsFd, offset: u64, len: u64) -> io::Result<()> {
    fallocate(fd.as_fd(), 0, offset, len)
}

/// Gives the memory of `len` bytes at `offset` of `fd` back to the system. Whoever has them mapped reads zeroes then.
pub(crate) fn give_back(fd: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    fallocate(fd, punch, offset, len)
}

/// Gives the memory of a range of a private mapping back to the system. A wish only; what the range holds afterwards is not said.
pub(crate) fn give_back_private(map: &MmapRaw, offset: usize, len: usize) {
    // Miri has no such call.
    if !cfg!(miri) {
        // SAFETY: nobody relies on what the range holds: that is what this function says of it.
        let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len) };
    }
}

/// Bytes of memory that the file behind `fd` has.
#[cfg(test)]
pub(crate) fn blocks(fd: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: an all-zero `stat` is a valid value of that plain C struct.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: `stat` is valid for writes for the length of the call.
    if unsafe { libc::fstat(fd.as_raw_fd(), &mut stat) } < 0 {
        return Err(last_error());
    }
    Ok(stat.st_blocks as u64 * 512)
}

fn fallocate(fd: BorrowedFd<'_>, mode: i32, offset: u64, len: u64) -> io::Result<()> {
    let (offset, len) = (offset as libc::off_t, len as libc::off_t);
    loop {
        // SAFETY: a plain system call on a descriptor that is open.
        if unsafe { libc::fallocate(fd.as_raw_fd(), mode, offset, len) } == 0 {
            return Ok(());
        }
        let error = last_error();
        if error.raw_os_error() != Some(libc::EINTR) {
            return Err(error);
        }
    }
}
