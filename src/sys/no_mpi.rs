//! What stands for the site's MPI in programs that were built without the feature `system-mpi`: it cannot be started.
use super::mpi_request::{Arrived, Threads};
use core::convert::Infallible;
use std::io;

pub(crate) struct Mpi(Infallible);
pub(crate) struct Request(Infallible);

impl Mpi {
    pub(crate) const PRESENT: bool = false;

    pub(crate) fn start(_threads: Threads) -> io::Result<Mpi> {
        Err(io::Error::other(
            "the program was built without it; build it with the feature system-mpi of the crate tercio (cargo build --features tercio/system-mpi)",
        ))
    }

    pub(crate) fn rank(&self) -> usize {
        match self.0 {}
    }

    pub(crate) fn size(&self) -> usize {
        match self.0 {}
    }

    pub(crate) fn threads(&self) -> Threads {
        match self.0 {}
    }

    pub(crate) fn all_gather(&self, _bytes: &[u8]) -> Vec<Vec<u8>> {
        match self.0 {}
    }

    /// # Safety
    /// It cannot be called.
    pub(crate) unsafe fn send(
        &self,
        _to: usize,
        _tag: i32,
        _from: *const u8,
        _len: usize,
    ) -> Request {
        match self.0 {}
    }

    /// # Safety
    /// It cannot be called.
    pub(crate) unsafe fn send_matched(
        &self,
        _to: usize,
        _tag: i32,
        _from: *const u8,
        _len: usize,
    ) -> Request {
        match self.0 {}
    }

    /// # Safety
    /// It cannot be called.
    pub(crate) unsafe fn send_own(
        &self,
        _to: usize,
        _tag: i32,
        _from: *const u8,
        _len: usize,
    ) -> Request {
        match self.0 {}
    }

    pub(crate) fn receive(&self, _to: *mut u8, _len: usize) -> Request {
        match self.0 {}
    }

    pub(crate) fn receive_tagged(&self, _tag: i32, _to: *mut u8, _len: usize) -> Request {
        match self.0 {}
    }

    /// # Safety
    /// It cannot be called.
    pub(crate) unsafe fn start_again(&self, request: &mut Request) {
        match request.0 {}
    }

    /// # Safety
    /// It cannot be called.
    pub(crate) unsafe fn receive_own(
        &self,
        _from: usize,
        _tag: i32,
        _to: *mut u8,
        _len: usize,
    ) -> Request {
        match self.0 {}
    }

    /// # Safety
    /// It cannot be called.
    pub(crate) unsafe fn receive_numbered(
        &self,
        _from: usize,
        _tag: i32,
        _to: *mut u8,
        _len: usize,
    ) -> Request {
        match self.0 {}
    }

    pub(crate) fn is_there(&self, _from: Option<usize>) -> bool {
        match self.0 {}
    }

    pub(crate) fn first_unasked(&self) -> Option<(usize, i32)> {
        match self.0 {}
    }

    pub(crate) fn take_back(&self, request: &mut Request) -> Option<Option<Arrived>> {
        match request.0 {}
    }

    pub(crate) fn received(&self, request: &mut Request) -> Option<Arrived> {
        match request.0 {}
    }

    pub(crate) fn is_over(&self, request: &mut Request) -> bool {
        match request.0 {}
    }

    pub(crate) fn is_here(&self, request: &Request) -> bool {
        match request.0 {}
    }

    pub(crate) fn free(&self, request: Request, _started: bool) {
        match request.0 {}
    }

    pub(crate) fn finish(&mut self) {
        match self.0 {}
    }
}
