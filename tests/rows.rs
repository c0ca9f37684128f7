//! What the examples of the crate `mpi` 0.8.2 show, group by group, with results checked where an example only prints; and what that crate leaves
//! unsound or silent, which is refused here. All on ranks that are processes.
//!
//! | what its examples show | tests |
//! |---|---|
//! | start-up (`simple`, `readme`, `time`, `env_inq`, `init_with_threading`) | `startup`: `what_may_be_asked_before`, `the_level_that_is_asked_for`, `the_clock_and_the_names`, `the_ring_of_the_readme` |
//! | derived types and when they may be made (`derive_*`) | `derived`: `before_during_and_after`, `by_another_thread`, `by_another_thread_at_multiple` |
//! | blocking messages (`send_receive`, `barrier`, `buffered`, `ready_send`, `pack`) | `messages`: `exchanges`, `modes`, `buffered`, `packed`, `a_barrier_holds_all_back` |
//! | nonblocking messages (`immediate*`, `wait_any`) | `requests`: `all_modes`, `probes`, `futures`, `first_come`, `guards_wait_and_cancel`; tests/stress.rs; tests/face/requests.rs |
//! | blocking and immediate collectives | `collectives`: `rooted`, `of_all`, `reductions`, `prefixes`, `varying_counts`, `views`, `users_operations`, `nothing_at_all` |
//! | datatypes (`contiguous`, `vector`, `complex*`, `datatype_dup`, `struct`, `structured`) | `datatypes`: `every_constructor`, `duplicates`, `structs`, `complex_numbers`; tests/face/datatypes.rs |
//! | communicators (`duplicate`, `split`, `group`, `dyn_communicator`, `comm_name`, `attributes`, `cartesian*`) | `communicators`: one each |
//! | processes (`spawn`, `spawn_multiple`) | tests/jobs/spawn.rs |
//! | its tests: derives under a renamed dependency and `#[mpi(crate = "...")]`, `&dyn Communicator` | the packages in tests/renamed; `communicators::trait_objects` |
//!
//! | what is unsound or silent there | tests |
//! |---|---|
//! | reductions into a buffer that is too short | `refused::short_receive_buffers` |
//! | partitions that are negative, overlapping, too far, of another number of ranks | `refused::partitions`; src/datatype/partition.rs |
//! | `bool`s of any byte; elements of another type; empty messages as values | `refused::bytes_that_are_no_bool`, `refused::elements_of_another_type`, `refused::an_empty_message_is_no_value`; tests/face/sentences.rs |
//! | calls after the `Universe` is gone | `refused::calls_after_finalize` |
//! | communicators that may or may not go to another thread | tests/face/threads.rs |
//! | errors that nobody sees | tests/face/errors.rs, tests/face/sentences.rs |
//! | requests and matched messages that are dropped, also in a panic | `refused::a_request_dropped_alive`, `refused::a_message_dropped_unreceived`, `refused::a_message_dropped_in_a_panic`; tests/jobs/ranks.rs |
//! | more elements than an `i32` counts | `refused::more_elements_than_a_count` |
//! | a zero Cartesian dimension | `communicators::grids`; tests/face/sentences.rs |
mod rows {
    mod collectives;
    mod communicators;
    mod datatypes;
    mod derived;
    mod messages;
    mod refused;
    mod requests;
    mod startup;

    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// What `f` panics with.
    #[track_caller]
    fn panic_of<R>(f: impl FnOnce() -> R) -> String {
        let panic = catch_unwind(AssertUnwindSafe(|| drop(f()))).expect_err("it panics");
        match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => panic.downcast_ref::<&str>().expect("a text").to_string(),
        }
    }

    #[track_caller]
    fn says(text: &str, parts: &[&str]) {
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }
}
