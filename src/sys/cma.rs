//! Reading another process's memory by one system call (process_vm_readv(2)), and allowing it (prctl(2), PR_SET_PTRACER).
use super::last_error;
use std::io;

/// Copies `len` bytes at `remote` of process `pid` to `local`. The kernel may stop early; the loop goes on until all is there or refused.
///
/// # Safety
/// `local` is valid for writing `len` bytes, and nobody else uses them meanwhile.
pub(crate) unsafe fn read(pid: i32, remote: u64, local: *mut u8, len: usize) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        let to = libc::iovec {
            // SAFETY: `done` is below `len`, for which the caller vouches.
            iov_base: unsafe { local.add(done) }.cast(),
            iov_len: len - done,
        };
        let from = libc::iovec {
            iov_base: core::ptr::without_provenance_mut(remote.wrapping_add(done as u64) as usize),
            iov_len: len - done,
        };
        // SAFETY: `to` describes memory that the caller lends; the kernel checks `from` against the other process.
        let read = unsafe { libc::process_vm_readv(pid, &to, 1, &from, 1, 0) };
        match read {
            1.. => done += read as usize,
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => {
                let error = last_error();
                if error.raw_os_error() != Some(libc::EINTR) {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Where Yama restricts it (ptrace_scope 1), allows `pid` and its descendants to read this process's memory. Without Yama it is refused
/// and not needed.
pub(crate) fn allow(pid: i32) -> io::Result<()> {
    // SAFETY: changes a setting of this process and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PTRACER, pid as libc::c_ulong, 0, 0, 0) } == 0 {
        Ok(())
    } else {
        Err(last_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_reads_itself_and_is_refused_nonsense() {
        // Miri has no such system call.
        if cfg!(miri) {
            return;
        }
        let source = [7_u8; 100];
        let mut target = [0_u8; 100];
        let me = std::process::id() as i32;
        // SAFETY: `target` has 100 bytes.
        let read = unsafe { read(me, source.as_ptr() as u64, target.as_mut_ptr(), 100) };
        // A sandbox may forbid the call altogether; then there is nothing to compare.
        if read.is_ok() {
            assert_eq!(source, target);
        }
        // SAFETY: as above.
        assert!(unsafe { super::read(me, 8, target.as_mut_ptr(), 100) }.is_err());
    }
}
