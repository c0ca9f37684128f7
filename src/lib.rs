//! Tercio: a message-passing runtime for high-performance computing.

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!(
    "tercio runs on 64-bit Linux on x86-64 and aarch64; other systems are not supported yet"
);

pub(crate) mod coll;
pub(crate) mod engine;
pub(crate) mod job;
pub mod launch;
pub(crate) mod model;
pub(crate) mod sys;
pub(crate) mod transport;
pub(crate) mod wait;
