//! The caller's own standard streams: a thread that writes the ranks' output, and one that reads input for a rank.
//!
//! They block where the terminal or the pipe blocks, so that nothing else does. Flags of inherited descriptors are never changed.
use super::running::Shared;
use super::wire::{Order, Stream};
use crate::sys::fd::{self, Interest, Watch};
use crate::sys::process;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Standard input that may be under way and not yet taken by its rank: what a pipe holds.
const AHEAD: usize = 64 << 10;
/// A terminal is not read in the background. Nothing tells of coming to the foreground, so it is looked at this often.
const BACKGROUND: Duration = Duration::from_millis(200);

/// Where reports' output goes.
pub(super) enum Sink {
    Captured,
    Writer(Writer),
}

/// Output on its way to the caller's own standard streams.
pub(super) struct Writer {
    /// With the bytes that the agent may send for these; none for sentences of our own.
    queue: Sender<(Stream, Vec<u8>, Option<u32>)>,
}

/// Tells when all output is written.
#[derive(Debug)]
pub(super) struct Written(Receiver<()>);

impl Written {
    /// Waits until it is, at most for `limit`.
    pub(super) fn wait(self, limit: Option<Duration>) {
        // Nothing is ever sent: the channel is closed when the writing thread ends.
        match limit {
            Some(limit) => drop(self.0.recv_timeout(limit)),
            None => drop(self.0.recv()),
        }
    }
}

impl Writer {
    pub(super) fn start(shared: &Arc<Shared>) -> io::Result<(Writer, Written)> {
        let (queue, queued) = channel::<(Stream, Vec<u8>, Option<u32>)>();
        let (alive, written) = channel::<()>();
        let shared = shared.clone();
        std::thread::Builder::new()
            .name("tercio-output".into())
            .spawn(move || {
                let _alive = alive;
                let mut closed = [false; 2];
                for (stream, bytes, credit) in queued {
                    let closed = &mut closed[stream as usize];
                    if !*closed && write_all(stream, &bytes).is_err() {
                        *closed = true;
                        shared.order(&Order::Closed(stream));
                    }
                    if let Some(credit) = credit {
                        shared.order(&Order::Taken(credit));
                    }
                }
            })?;
        Ok((Writer { queue }, Written(written)))
    }

    /// Output of ranks.
    pub(super) fn write(&mut self, stream: Stream, bytes: Vec<u8>, credit: u32) {
        // The thread ends after its sender only.
        let _ = self.queue.send((stream, bytes, Some(credit)));
    }

    /// A sentence of our own.
    pub(super) fn say(&mut self, text: &str) {
        let _ = self
            .queue
            .send((Stream::Err, format!("tercio: {text}\n").into_bytes(), None));
    }
}

fn write_all(stream: Stream, mut bytes: &[u8]) -> io::Result<()> {
    let (out, err) = (io::stdout(), io::stderr());
    let target: BorrowedFd<'_> = match stream {
        Stream::Out => out.as_fd(),
        Stream::Err => err.as_fd(),
    };
    while !bytes.is_empty() {
        match fd::write(target.as_raw_fd(), bytes) {
            Ok(len) => bytes = &bytes[len..],
            // Somebody who shares the file made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut watch = Watch::default();
                watch.add(target, Interest::Write);
                watch.wait(None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Starts the thread that reads the caller's standard input for a rank. It ends with the input, with the job, or when the descriptor that
/// this returns is closed.
pub(super) fn forward_stdin(shared: &Arc<Shared>) -> io::Result<OwnedFd> {
    let (ended, keep) = fd::pipe()?;
    let shared = shared.clone();
    std::thread::Builder::new()
        .name("tercio-input".into())
        .spawn(move || {
            let stdin = io::stdin();
            let mut buffer = vec![0_u8; 4096];
            loop {
                let state = shared.wait_until(shared.state(), None, |state| {
                    state.is_over() || state.stdin_held + buffer.len() <= AHEAD
                });
                if state.is_over() {
                    return;
                }
                drop(state);
                let mut watch = Watch::default();
                let stop = watch.add(ended.as_fd(), Interest::Read);
                let foreground = process::in_foreground(stdin.as_fd());
                let input = foreground.then(|| watch.add(stdin.as_fd(), Interest::Read));
                watch.wait((!foreground).then_some(BACKGROUND));
                if watch.ready(stop) {
                    return;
                }
                // It may have gone to the background meanwhile; reading there would stop this process.
                if !input.is_some_and(|input| watch.ready(input))
                    || !process::in_foreground(stdin.as_fd())
                {
                    continue;
                }
                let len = fd::read(stdin.as_raw_fd(), &mut buffer).unwrap_or(0);
                shared.state().stdin_held += len;
                shared.order(&Order::Stdin(buffer[..len].to_vec()));
                if len == 0 {
                    return;
                }
            }
        })?;
    Ok(keep)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn waiting_for_output_ends_with_the_writer_or_the_limit() {
        let (alive, written) = channel::<()>();
        let begun = Instant::now();
        Written(written).wait(Some(Duration::from_millis(1)));
        assert!(begun.elapsed() >= Duration::from_millis(1));
        drop(alive);
        let (alive, written) = channel::<()>();
        drop(alive);
        Written(written).wait(None);
    }
}
