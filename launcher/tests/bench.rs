//! `tercio bench` through the binary. Figures are judged on a quiet machine, not here.
use std::process::{Command, Output};

fn bench(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tercio"))
        .arg("bench")
        .args(words)
        .output()
        .unwrap()
}

#[test]
fn a_debug_build_refuses_to_measure() {
    if !cfg!(debug_assertions) {
        return;
    }
    let output = bench(&["latency"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("a debug build says nothing about speed"),
        "{said}"
    );
    assert!(said.contains("cargo build --release"), "{said}");
}

#[test]
fn every_operation_gives_its_rows_in_json() {
    if cfg!(debug_assertions) {
        return;
    }
    for (op, ranks, sizes) in [
        ("latency", 2, 2),
        ("latency", 4, 2),
        ("bandwidth", 2, 2),
        ("bibandwidth", 2, 2),
        ("rate", 4, 2),
        ("barrier", 3, 1),
        ("bcast", 2, 2),
        ("reduce", 3, 2),
        ("allreduce", 4, 2),
        ("gather", 2, 2),
        ("scatter", 3, 2),
        ("allgather", 4, 2),
        ("alltoall", 2, 2),
        ("launch", 2, 1),
    ] {
        let output = bench(&[
            op,
            "-n",
            &ranks.to_string(),
            "--sizes",
            "8,64K",
            "--iters",
            "20",
            "--rewrite",
            "--json",
        ]);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{op}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["op"], op);
        assert_eq!(found["ranks"], ranks);
        assert_eq!(found["transport"], "shm");
        let rows = found["rows"].as_array().unwrap();
        assert_eq!(rows.len(), sizes, "{op}");
        assert!(
            rows.iter().all(|row| row["p50_ns"].as_f64().unwrap() > 0.0),
            "{found}"
        );
    }
}

#[test]
fn without_limits_there_are_the_ranks_figures_alone() {
    let refused = bench(&["latency", "--no-limit", "--check-limits"]);
    assert_eq!(refused.status.code(), Some(125));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("--check-limits"), "{said}");
    if cfg!(debug_assertions) {
        return;
    }
    let output = bench(&[
        "latency",
        "--sizes",
        "8,64K",
        "--iters",
        "20",
        "--no-limit",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(0));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert!(row["p50_ns"].as_f64().unwrap() > 0.0, "{found}");
        assert!(row["limit"].is_null() && row["ratio"].is_null(), "{found}");
    }
}

#[test]
fn messages_need_two_ranks() {
    if cfg!(debug_assertions) {
        return;
    }
    let output = bench(&["latency", "-n", "1"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("at least two ranks")
    );
}

#[test]
fn an_mpi_that_is_not_there_is_not_measured() {
    if cfg!(debug_assertions) || cfg!(feature = "system-mpi") {
        return;
    }
    for (words, part) in [
        (["--transport", "mpi:all"], "built without an MPI"),
        (["--mpiexec", "srun"], "it goes with --transport mpi"),
    ] {
        let output = bench(&[&["latency"], &words[..]].concat());
        assert_eq!(output.status.code(), Some(125));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn the_way_of_a_message_is_told() {
    if cfg!(debug_assertions) {
        return;
    }
    let few = ["--sizes", "8,4K,1M", "--iters", "20", "--explain"];
    // Single copies are off: which way wins is measured, and differs between machines.
    let said = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tercio"))
            .arg("bench")
            .args([words, &few].concat())
            .env("TERCIO_SINGLE_COPY", "off")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    let shared = said(&["latency"]);
    for part in [
        "in a slot of the lane",
        "a staging ring in chunks of 32768 bytes",
        "TERCIO_SINGLE_COPY=off",
    ] {
        assert!(shared.contains(part), "{part}: {shared}");
    }
    // Which ring is the one of middle sizes follows from how far apart the two cores are.
    let near = shared.contains("this rank's long ring")
        && shared.contains("the receiver's core is near, and it has at least 1024");
    assert!(near || shared.contains("the lane's byte ring"), "{shared}");
    let sockets = said(&["rate", "--transport", "tcp"]);
    assert!(sockets.contains("through a socket, at once"), "{sockets}");
    assert!(
        sockets.contains("straight into the receiver's buffer"),
        "{sockets}"
    );
    let output = bench(&["barrier", "--explain"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("use it with latency")
    );
}
