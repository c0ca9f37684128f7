//! TCP between hosts.
//!
//! May use the waiting floor's epoll and the operating system; must never know matching, requests or communicators. The protocol, its states and why it is right
//! are in README.md.

pub(crate) mod address;
pub(crate) mod ahead;
mod calling;
mod cipher;
pub(crate) mod credit;
mod door;
pub(crate) mod driver;
#[cfg(test)]
mod far_simulator;
pub(crate) mod frame;
#[cfg(test)]
mod fuzz;
pub(crate) mod greeting;
pub(crate) mod inbox;
pub(crate) mod line;
pub(crate) mod outbox;
#[cfg(test)]
mod simulator;
#[cfg(all(test, not(miri)))]
mod tests;
