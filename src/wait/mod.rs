//! Spin, yield, sleep: the one place that decides.
