//! Derive macros of the message-passing runtime `tercio`.
