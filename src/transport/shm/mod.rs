//! Lanes, streams and copies inside a machine.
