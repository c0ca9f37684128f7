//! A library that hands the message-passing library on to its users.
pub mod prelude {
    pub use message_passing as ranks;
}
