//! How jobs end: codes, verdicts, limits, and how soon.
use crate::support::{Mark, kill, soon, text, timed, trial, verdict};
use std::time::{Duration, Instant};
use tercio::launch::{Ending, Job, Output, Program};

pub fn tests() -> Vec<libtest_mimic::Trial> {
    vec![
        trial("a_killed_rank_ends_the_job_with_its_signal", killed),
        trial("a_rank_that_fails_ends_the_job_with_its_code", failed),
        trial("a_job_that_succeeds_says_nothing", succeeded),
        trial("what_cannot_be_run_is_refused_with_its_code", refused),
        trial("a_limit_that_a_start_meets_is_told", too_many),
        trial("a_time_limit_ends_the_job_with_124", limited),
        trial("a_signal_to_the_launcher_is_its_code", interrupted),
        trial("a_rank_that_catches_term_has_its_grace", caught),
        trial(
            "a_rank_that_ignores_term_is_killed_after_the_grace",
            ignored,
        ),
        trial("a_second_signal_kills_at_once", twice),
        trial("a_stopped_rank_is_a_pause_and_is_told", stopped),
        trial("a_stopped_rank_ends_with_the_job", stopped_and_ended),
        trial("a_job_can_be_paused_and_resumed", paused),
        trial("several_programs_make_one_job", several),
        trial("ranks_know_who_they_are", identity),
        trial(
            "two_jobs_and_a_foreign_child_do_not_disturb_each_other",
            together,
        ),
        trial("a_dropped_job_is_killed", dropped),
        trial("a_job_outlives_the_thread_that_started_it", other_thread),
        trial(
            "a_program_that_forgot_its_role_does_not_start_guards_of_guards",
            forgetful,
        ),
        trial("many_ranks_start_and_end", many),
        trial("descriptors_and_children_do_not_pile_up", no_leak),
    ]
}

/// The first ranks sleep in a child of a shell, the last one does what is told.
fn one_fails(mark: &Mark, what: &str) -> Job {
    mark.job(
        4,
        &format!("if test $TERCIO_RANK = 2; then {what}; fi; sleep 60; true"),
    )
}

fn killed() {
    let mark = Mark::new();
    let (outcome, took) = timed(one_fails(&mark, "kill -SEGV $$"));
    mark.assert_nothing_left();
    assert_eq!(outcome.code, 139);
    let words = verdict(&outcome);
    assert!(
        words.starts_with(
            "tercio: rank 2 of 4 was killed by signal 11 (SIGSEGV, segmentation fault)\n"
        ),
        "{words}"
    );
    assert!(
        words.contains("ended too  ranks 0, 1 and 3\n") && words.ends_with("exit code  139\n"),
        "{words}"
    );
    assert!(took < soon(), "{took:?}");
    let json = outcome.verdict.unwrap().json();
    assert!(
        json.contains("\"code\":139,\"code_of\":\"rank\"") && json.contains("\"rank\":2,"),
        "{json}"
    );
}

fn failed() {
    let mark = Mark::new();
    let (outcome, took) = timed(one_fails(&mark, "exit 3"));
    mark.assert_nothing_left();
    assert_eq!(outcome.code, 3);
    assert!(
        verdict(&outcome).starts_with("tercio: rank 2 of 4 exited with code 3\n"),
        "{}",
        verdict(&outcome)
    );
    assert!(took < soon(), "{took:?}");
}

fn succeeded() {
    let mark = Mark::new();
    let outcome = mark.job(3, "echo out; echo err >&2").run().unwrap();
    assert_eq!(
        (outcome.code, outcome.verdict, outcome.notes),
        (0, None, Vec::new())
    );
    assert_eq!(
        (
            text(&outcome.stdout).as_str(),
            text(&outcome.stderr).as_str()
        ),
        ("out\nout\nout\n", "err\nerr\nerr\n")
    );
    mark.assert_nothing_left();
}

fn refused() {
    for (program, code) in [("./no-such-program", 127), ("/etc/passwd", 126), ("/", 126)] {
        let error = Job::new()
            .program(Program::new(program, 2))
            .run()
            .unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    // Found and executable, and still no program: the kernel finds out.
    let path = std::env::temp_dir().join(format!("tercio-test-{}", std::process::id()));
    std::fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    std::fs::set_permissions(&path, permissions.clone()).unwrap();
    let error = Job::new()
        .program(Program::new(&path, 2))
        .run()
        .unwrap_err();
    assert_eq!(error.code(), 126, "{error}");
    assert!(error.to_string().contains("interpreter"), "{error}");
    // A script without such a line is the shell's.
    std::fs::write(&path, "exit 7\n").unwrap();
    assert_eq!(
        Job::new()
            .program(Program::new(&path, 1))
            .output(Output::Capture { tag: false })
            .run()
            .unwrap()
            .code,
        7
    );
    std::fs::remove_file(&path).unwrap();
}

/// Limits that a start meets are told with what to do, and what was started by then is gone.
fn too_many() {
    for (limit, said, advice) in [
        (
            "few-descriptors",
            "tercio: the job's agent cannot start rank ",
            "(`ulimit -n`)",
        ),
        (
            "small-files",
            "tercio: cannot make the job's shared segment",
            "raise `ulimit -f`",
        ),
    ] {
        let mark = Mark::new();
        let (code, _, err) = mark.spawn_launcher(60, "sleep 60; true", &[limit]).finish();
        mark.assert_nothing_left();
        assert_eq!(code, Some(125), "{err}");
        assert!(err.starts_with(said) && err.contains(advice), "{err}");
    }
}

fn limited() {
    let mark = Mark::new();
    let (outcome, took) = timed(
        mark.job(2, "sleep 60; true")
            .timeout(Duration::from_millis(200)),
    );
    mark.assert_nothing_left();
    assert_eq!(outcome.code, 124);
    assert!(
        verdict(&outcome).starts_with("tercio: the time limit of 0.2 s is over\n"),
        "{}",
        verdict(&outcome)
    );
    assert!(
        took >= Duration::from_millis(200) && took < Duration::from_millis(200) + soon(),
        "{took:?}"
    );
}

fn interrupted() {
    for (signal, code) in [(libc::SIGTERM, 143), (libc::SIGINT, 130)] {
        let mark = Mark::new();
        let running = mark.job(3, "sleep 60; true").start().unwrap();
        let begun = Instant::now();
        running.handle().end(Ending::Signal(signal));
        let outcome = running.wait();
        let took = begun.elapsed();
        mark.assert_nothing_left();
        assert_eq!(outcome.code, code);
        assert!(
            verdict(&outcome).contains("the launcher got signal"),
            "{}",
            verdict(&outcome)
        );
        assert!(took < soon(), "{took:?}");
    }
}

/// Starts a job and waits until each of its ranks has said that it is ready.
fn started(mark: &Mark, ranks: usize, script: &str, grace: Duration) -> tercio::launch::Running {
    let directory =
        std::env::temp_dir().join(format!("tercio-ready-{}-{:p}", std::process::id(), mark));
    std::fs::create_dir_all(&directory).unwrap();
    let script = script.replace(
        "READY",
        &format!("echo > {}/$TERCIO_RANK", directory.display()),
    );
    let running = mark.job(ranks, &script).grace(grace).start().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while std::fs::read_dir(&directory).unwrap().count() < ranks {
        assert!(Instant::now() < until, "ranks do not start");
        std::thread::yield_now();
    }
    std::fs::remove_dir_all(&directory).unwrap();
    running
}

fn caught() {
    let mark = Mark::new();
    let script = "trap 'sleep 0.1; echo saved; exit 9' TERM; READY; while :; do :; done";
    let running = started(&mark, 2, script, Duration::from_secs(5));
    running.handle().end(Ending::Signal(libc::SIGTERM));
    let begun = Instant::now();
    let outcome = running.wait();
    mark.assert_nothing_left();
    // What a rank does when it is told to end is never the cause.
    assert_eq!(
        (outcome.code, text(&outcome.stdout).as_str()),
        (143, "saved\nsaved\n")
    );
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
}

fn ignored() {
    let mark = Mark::new();
    let running = started(
        &mark,
        2,
        "trap '' TERM; READY; while :; do sleep 60; done",
        Duration::from_millis(200),
    );
    let begun = Instant::now();
    running.handle().end(Ending::Signal(libc::SIGTERM));
    let outcome = running.wait();
    mark.assert_nothing_left();
    assert_eq!(outcome.code, 143);
    assert!(
        begun.elapsed() >= Duration::from_millis(200)
            && begun.elapsed() < Duration::from_millis(200) + soon(),
        "{:?}",
        begun.elapsed()
    );
}

fn twice() {
    let mark = Mark::new();
    let running = started(
        &mark,
        2,
        "trap '' TERM; READY; while :; do sleep 60; done",
        Duration::from_secs(30),
    );
    let begun = Instant::now();
    running.handle().end(Ending::Signal(libc::SIGINT));
    running.handle().end(Ending::Signal(libc::SIGINT));
    assert_eq!(running.wait().code, 130);
    mark.assert_nothing_left();
    assert!(begun.elapsed() < soon(), "{:?}", begun.elapsed());
}

fn stopped() {
    let mark = Mark::new();
    let running = mark
        .job(2, "test $TERCIO_RANK = 0 || kill -STOP $$; echo on")
        .start()
        .unwrap();
    let (pid, begun) = (running.rank_pids()[1], Instant::now());
    let waker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(5) + soon());
        kill(pid, libc::SIGCONT);
    });
    let outcome = running.wait();
    waker.join().unwrap();
    assert_eq!(
        (outcome.code, text(&outcome.stdout).as_str()),
        (0, "on\non\n")
    );
    assert!(begun.elapsed() >= Duration::from_secs(5));
    assert_eq!(outcome.notes.len(), 1, "{:?}", outcome.notes);
    assert!(
        outcome.notes[0].starts_with(&format!("rank 1 (process {pid}) is stopped (SIGSTOP")),
        "{:?}",
        outcome.notes
    );
}

fn stopped_and_ended() {
    let mark = Mark::new();
    let running = mark.job(2, "kill -STOP $$").start().unwrap();
    let begun = Instant::now();
    running.handle().end(Ending::Signal(libc::SIGTERM));
    assert_eq!(running.wait().code, 143);
    mark.assert_nothing_left();
    assert!(begun.elapsed() < soon(), "{:?}", begun.elapsed());
}

fn paused() {
    let mark = Mark::new();
    let running = started(
        &mark,
        2,
        "READY; for i in 1 2 3 4 5 6; do sleep 0.05; done; echo done",
        Duration::from_secs(1),
    );
    running.handle().pause();
    for pid in running.rank_pids() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // A shell that waits for the child that it has just forked is not runnable either, while that is stopped.
        assert!(stat.contains(") T ") || stat.contains(") D "), "{stat}");
    }
    running.handle().resume();
    let outcome = running.wait();
    assert_eq!(
        (outcome.code, text(&outcome.stdout).as_str()),
        (0, "done\ndone\n")
    );
}

fn several() {
    let mark = Mark::new();
    let mut second = mark
        .sh(2, "echo $TERCIO_RANK of $TERCIO_SIZE is b $X in $PWD")
        .env("X", "y z");
    second.wdir = Some("/".into());
    let job = Job::new()
        .program(mark.sh(1, "echo $TERCIO_RANK of $TERCIO_SIZE is a"))
        .program(second)
        .output(Output::Capture { tag: false });
    let outcome = job.run().unwrap();
    let all = text(&outcome.stdout);
    let mut lines: Vec<&str> = all.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "0 of 3 is a",
            "1 of 3 is b y z in /",
            "2 of 3 is b y z in /"
        ]
    );
}

fn identity() {
    let mark = Mark::new();
    let script = "env | grep -c '^TERCIO_\\(ROLE\\|CONTROL_FD\\)='; test $(ps -o pgid= -p $$) = $$ && echo own group; \
                  test -e /proc/self/fd/$TERCIO_SEGMENT_FD && test -S /proc/self/fd/$TERCIO_CLAIM_FD && echo open; echo $OMPI_COMM_WORLD_RANK/$WORLD_SIZE";
    let outcome = mark.job(1, script).foreign_names(true).run().unwrap();
    assert_eq!(text(&outcome.stdout), "0\nown group\nopen\n0/1\n");
}

fn together() {
    let (one, two) = (Mark::new(), Mark::new());
    let mut foreign = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let first = one.job(2, "sleep 60; true").start().unwrap();
    let second = two.job(2, "sleep 60; true").start().unwrap();
    first.handle().end(Ending::Signal(libc::SIGTERM));
    assert_eq!(first.wait().code, 143);
    one.assert_nothing_left();
    let alive = two.alive();
    for pid in second.rank_pids() {
        assert!(
            alive
                .iter()
                .any(|process| process.starts_with(&format!("{pid} "))),
            "{pid} not in {alive:?}"
        );
    }
    assert!(foreign.try_wait().unwrap().is_none());
    kill(second.rank_pids()[1], libc::SIGKILL);
    let outcome = second.wait();
    assert_eq!(outcome.code, 137);
    assert!(
        verdict(&outcome).starts_with("tercio: rank 1 of 2 was killed by signal 9"),
        "{}",
        verdict(&outcome)
    );
    two.assert_nothing_left();
    assert!(foreign.try_wait().unwrap().is_none());
    foreign.kill().unwrap();
    foreign.wait().unwrap();
}

fn dropped() {
    let mark = Mark::new();
    let running = mark.job(2, "trap '' TERM; sleep 60; true").start().unwrap();
    let begun = Instant::now();
    drop(running);
    mark.assert_nothing_left();
    assert!(begun.elapsed() < soon(), "{:?}", begun.elapsed());
}

fn other_thread() {
    let mark = Mark::new();
    let start = move || mark.job(2, "sleep 0.2; echo on").start().unwrap();
    let running = std::thread::spawn(start).join().unwrap();
    let outcome = running.wait();
    assert_eq!(
        (outcome.code, text(&outcome.stdout).as_str()),
        (0, "on\non\n")
    );
}

fn forgetful() {
    let output = std::process::Command::new("/proc/self/exe")
        .env(crate::parts::PART, "forgetful")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

fn many() {
    let mark = Mark::new();
    let outcome = mark.job(128, "echo $TERCIO_RANK").run().unwrap();
    let all = text(&outcome.stdout);
    let mut ranks: Vec<usize> = all.lines().map(|line| line.parse().unwrap()).collect();
    ranks.sort_unstable();
    assert_eq!((outcome.code, ranks), (0, (0..128).collect()));
}

fn no_leak() {
    // In a process of its own, since other tests open descriptors meanwhile.
    let mark = Mark::new();
    let script = "true";
    let launcher = mark.launcher(1, script, &["again"]);
    let (code, out, err) = launcher.finish();
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
}
