//! Jobs through the binary: exit codes, streams, directories, variables, several programs, stops. The ranks are shell scripts,
//! so that what is tested is the launcher and not the messages.
mod hosts;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const TERCIO: &str = env!("CARGO_BIN_EXE_tercio");

/// How a job ended, and what it said.
struct Ended {
    status: ExitStatus,
    out: String,
    err: String,
}

impl Ended {
    fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| panic!("the launcher itself was killed: {}", self.err))
    }

    /// The lines of standard output in order, for output whose order between ranks is free.
    fn sorted(&self) -> Vec<&str> {
        let mut lines: Vec<_> = self.out.lines().collect();
        lines.sort_unstable();
        lines
    }
}

fn tercio(words: &[&str]) -> Command {
    let mut command = Command::new(TERCIO);
    command.arg("run").args(words).stdin(Stdio::null());
    command
}

fn ended(command: &mut Command) -> Ended {
    let output = command.output().expect("the launcher starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ended {
        status: output.status,
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

fn run(words: &[&str]) -> Ended {
    ended(&mut tercio(words))
}

/// `n` ranks of a shell script.
fn sh(n: &str, script: &str) -> Ended {
    run(&["-n", n, "sh", "-c", script])
}

/// A directory of this test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Scratch {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("run-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a scratch directory");
        Scratch(directory.canonicalize().expect("its path"))
    }

    fn path(&self, name: &str) -> String {
        self.0
            .join(name)
            .to_str()
            .expect("a path of text")
            .to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn verdict_of(words: &[&str], test: &str) -> (Ended, serde_json::Value) {
    let scratch = Scratch::new(test);
    let file = scratch.path("verdict.json");
    std::fs::write(&file, "of an older job").expect("a file");
    let ended = run(&[&["--verdict", &file], words].concat());
    let json = std::fs::read_to_string(&file).expect("a verdict");
    (
        ended,
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}")),
    )
}

#[test]
fn a_job_that_succeeds_says_nothing() {
    let ended = sh("3", "echo hello");
    assert_eq!(
        (ended.code(), ended.out.as_str(), ended.err.as_str()),
        (0, "hello\nhello\nhello\n", "")
    );
}

#[test]
fn every_rank_knows_its_number() {
    let ended = sh("4", "echo $TERCIO_RANK/$TERCIO_SIZE");
    assert_eq!(ended.sorted(), ["0/4", "1/4", "2/4", "3/4"]);
}

#[test]
fn the_code_is_that_of_the_rank_that_failed() {
    let ended = sh("4", "[ $TERCIO_RANK = 2 ] && exit 3; sleep 60");
    assert_eq!(ended.code(), 3);
    assert!(
        ended.err.contains("rank 2") && ended.err.contains('3'),
        "{}",
        ended.err
    );
    assert!(ended.err.lines().count() <= 12, "{}", ended.err);
}

#[test]
fn a_signal_counts_from_128() {
    let ended = sh("4", "[ $TERCIO_RANK = 1 ] && kill -SEGV $$; sleep 60");
    assert_eq!(ended.code(), 139);
    assert!(
        ended.err.contains("rank 1") && ended.err.contains("SIGSEGV"),
        "{}",
        ended.err
    );
}

#[test]
fn programs_that_cannot_start_have_codes_of_their_own() {
    let missing = run(&["-n", "2", "./no-such-program"]);
    assert_eq!(missing.code(), 127);
    assert!(missing.err.contains("./no-such-program"), "{}", missing.err);
    assert_eq!(run(&["-n", "2", "no-such-program-in-path"]).code(), 127);
    let scratch = Scratch::new("executable");
    let file = scratch.path("text");
    std::fs::write(&file, "no program").expect("a file");
    let not_executable = run(&["-n", "2", &file]);
    assert_eq!(not_executable.code(), 126);
    assert!(not_executable.err.contains(&file), "{}", not_executable.err);
    assert_eq!(
        run(&["-n", "1", &scratch.0.to_string_lossy()]).code(),
        126,
        "a directory"
    );
}

#[test]
fn a_time_limit_is_kept() {
    let began = Instant::now();
    let ended = run(&["-n", "2", "--timeout", "0.3", "sleep", "60"]);
    assert_eq!(ended.code(), 124);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert!(ended.err.contains("0.3"), "{}", ended.err);
}

/// Rank 0 does `trap` and loops; rank 1 exits with 7 as soon as the trap stands.
fn trapped(test: &str, trap: &str, grace: &str) -> Ended {
    let scratch = Scratch::new(test);
    let ready = scratch.path("ready");
    let fail = format!("until [ -e {ready} ]; do sleep 0.01; done; exit 7");
    let stay = format!("trap {trap} TERM; : >{ready}; while :; do sleep 0.02; done");
    run(&[
        "-n", "1", "--grace", grace, "sh", "-c", &stay, ":", "-n", "1", "sh", "-c", &fail,
    ])
}

#[test]
fn a_rank_that_catches_term_has_the_grace() {
    let saves = trapped("saves", "'echo saved; exit 0'", "20");
    assert_eq!((saves.code(), saves.out.as_str()), (7, "saved\n"));
    let began = Instant::now();
    assert_eq!(trapped("stubborn", "''", "0.2").code(), 7);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn lines_are_whole_and_labelled() {
    let script =
        "for i in 1 2 3 4 5 6 7 8 9; do printf 'a%s' $TERCIO_RANK; printf 'b%s\\n' $i; done";
    let ended = run(&["-n", "4", "-l", "sh", "-c", script]);
    let mut expected: Vec<_> = (0..4)
        .flat_map(|r| (1..10).map(move |i| format!("[{r}] a{r}b{i}")))
        .collect();
    expected.sort_unstable();
    assert_eq!(ended.sorted(), expected);
}

#[test]
fn nothing_of_the_output_is_lost() {
    let ended = sh("3", "seq 20000; echo rank $TERCIO_RANK >&2");
    assert_eq!(ended.out.lines().count(), 60000);
    let sum: u64 = ended
        .out
        .lines()
        .map(|line| line.parse::<u64>().expect("a whole line"))
        .sum();
    assert_eq!(sum, 3 * 20000 * 20001 / 2);
    assert_eq!(ended.err.lines().count(), 3);
    let failed = sh("1", "seq 20000; exit 4");
    assert_eq!((failed.code(), failed.out.lines().count()), (4, 20000));
}

#[test]
fn a_prompt_shows_before_its_line_ends() {
    let mut child = tercio(&[
        "-n",
        "1",
        "sh",
        "-c",
        "printf 'name? '; read name; echo hello $name",
    ])
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .spawn()
    .expect("the launcher starts");
    let mut prompt = [0; 6];
    let mut out = child.stdout.take().expect("a pipe");
    out.read_exact(&mut prompt).expect("the prompt");
    assert_eq!(&prompt, b"name? ");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(b"Ada\n")
        .expect("the answer is taken");
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the rest");
    assert_eq!(rest, "hello Ada\n");
    assert!(child.wait().expect("an end").success());
}

/// The job gets `input` at its standard input.
fn with_input(words: &[&str], input: &'static str) -> Ended {
    let mut child = tercio(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the launcher starts");
    // Ranks may not read it: then the pipe breaks, which is no failure.
    let _ = child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(input.as_bytes());
    let output = child.wait_with_output().expect("an end");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ended {
        status: output.status,
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

#[test]
fn one_rank_has_standard_input() {
    let script = "echo $TERCIO_RANK:$(cat)";
    let to = |rank: &str| with_input(&["-n", "3", "--stdin", rank, "sh", "-c", script], "words\n");
    assert_eq!(
        with_input(&["-n", "2", "sh", "-c", script], "words\n").sorted(),
        ["0:words", "1:"]
    );
    assert_eq!(to("2").sorted(), ["0:", "1:", "2:words"]);
    assert_eq!(to("none").sorted(), ["0:", "1:", "2:"]);
}

#[test]
fn a_loop_over_lines_keeps_its_input() {
    let script = format!("while read line; do {TERCIO} run -n 2 echo $line; done");
    let mut shell = Command::new("sh");
    let mut child = shell
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(b"a\nb\nc\n")
        .expect("the lines are taken");
    let output = child.wait_with_output().expect("an end");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "a\na\nb\nb\nc\nc\n"
    );
}

#[test]
fn ranks_start_in_the_directory_asked_for() {
    let scratch = Scratch::new("wdir");
    let directory = scratch.0.to_str().expect("a path of text");
    let ended = run(&[
        "-n", "1", "--wdir", directory, "pwd", ":", "-n", "1", "--wd", "/", "pwd",
    ]);
    assert_eq!(ended.sorted(), ["/", directory]);
    let nowhere = run(&["-n", "1", "--wdir", "/no/such/place", "pwd"]);
    assert!((125..=127).contains(&nowhere.code()), "{}", nowhere.err);
    assert!(nowhere.err.contains("/no/such/place"), "{}", nowhere.err);
}

#[test]
fn variables_reach_the_ranks_that_they_are_for() {
    let print = ["sh", "-c", "echo $A-$B"];
    let words = [
        &["-n", "1", "-x", "A=1", "-genv", "B", "2"][..],
        &print,
        &[":", "-n", "1"],
        &print,
    ]
    .concat();
    assert_eq!(run(&words).sorted(), ["-2", "1-2"]);
    assert_eq!(
        ended(tercio(&["-n", "1", "printenv", "INHERITED"]).env("INHERITED", "yes")).out,
        "yes\n"
    );
}

#[test]
fn cargos_own_variables_stay_behind() {
    let mut command = tercio(&["-n", "1", "-x", "CARGO_PKG_NAME", "env"]);
    let set = [
        ("CARGO", "c"),
        ("CARGO_PKG_NAME", "kept"),
        ("CARGO_MANIFEST_DIR", "m"),
        ("RUSTUP_TOOLCHAIN", "t"),
    ];
    let ended = ended(
        command
            .envs(set)
            .env("LD_LIBRARY_PATH", Path::new(TERCIO).with_file_name("deps")),
    );
    let cargos = |line: &&str| {
        line.starts_with("CARGO")
            || line.starts_with("RUSTUP")
            || line.starts_with("LD_LIBRARY_PATH")
    };
    assert_eq!(
        ended.out.lines().filter(cargos).collect::<Vec<_>>(),
        ["CARGO_PKG_NAME=kept"]
    );
}

#[test]
fn several_programs_are_one_job() {
    let say = |word: &'static str| ["sh", "-c", word];
    let words = [
        &["-n", "1"][..],
        &say("echo a $TERCIO_RANK of $TERCIO_SIZE"),
        &[":", "-n", "2"],
        &say("echo b $TERCIO_RANK"),
    ];
    assert_eq!(run(&words.concat()).sorted(), ["a 0 of 3", "b 1", "b 2"]);
}

#[test]
fn output_goes_to_files_where_asked() {
    let scratch = Scratch::new("files");
    let directory = scratch.path("deep/er");
    let ended = run(&[
        "-n",
        "2",
        "--output-filename",
        &directory,
        "sh",
        "-c",
        "echo out $TERCIO_RANK; echo err >&2",
    ]);
    assert_eq!(
        (ended.code(), ended.out.as_str(), ended.err.as_str()),
        (0, "", "")
    );
    for rank in 0..2 {
        let read = |stream| {
            std::fs::read_to_string(format!("{directory}/rank.{rank}/{stream}"))
                .expect("a file of the rank")
        };
        assert_eq!(
            (read("stdout"), read("stderr")),
            (format!("out {rank}\n"), "err\n".to_owned())
        );
    }
}

#[test]
fn the_verdict_is_json() {
    let (ended, json) = verdict_of(
        &[
            "-n",
            "3",
            "sh",
            "-c",
            "[ $TERCIO_RANK = 1 ] && exit 3; sleep 60",
        ],
        "verdict",
    );
    assert_eq!(
        (ended.code(), &json["code"], &json["rank"]),
        (3, &3.into(), &1.into()),
        "{json}"
    );
    let (ended, json) = verdict_of(&["-n", "2", "true"], "success");
    assert_eq!((ended.code(), &json["code"]), (0, &0.into()), "{json}");
    let (ended, json) = verdict_of(&["-n", "2", "./no-such-program"], "missing");
    assert_eq!(
        (ended.code(), &json["code"], &json["code_of"]),
        (127, &127.into(), &"launcher".into()),
        "{json}"
    );
    let nowhere = run(&[
        "--verdict",
        "/no/such/place/v.json",
        "-n",
        "1",
        "sh",
        "-c",
        "echo started",
    ]);
    assert_eq!(
        (nowhere.code(), nowhere.out.as_str()),
        (125, ""),
        "{}",
        nowhere.err
    );
}

#[test]
fn a_reader_that_leaves_early_is_no_failure_of_ours() {
    let script = format!("{TERCIO} run -n 2 seq 100000 | head -n 1");
    let output = Command::new("sh")
        .args(["-c", &script])
        .output()
        .expect("a shell");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}

/// A job whose ranks have said their process ids.
struct Live {
    launcher: Child,
    ranks: Vec<i32>,
}

impl Live {
    /// Starts `script` on two ranks; it must `echo $$` first.
    fn start(script: &str) -> Live {
        Live::of(&mut tercio(&["-n", "2", "sh", "-c", script]), 2)
    }

    /// Starts a job of `count` such ranks.
    fn of(command: &mut Command, count: usize) -> Live {
        let mut launcher = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the launcher starts");
        let lines = BufReader::new(launcher.stdout.as_mut().expect("a pipe")).lines();
        let ranks = lines
            .take(count)
            .map(|line| line.expect("a line").parse().expect("a process id"))
            .collect();
        Live { launcher, ranks }
    }

    fn send(&self, signal: i32) {
        let pid = self.launcher.id().try_into().expect("a process id");
        // SAFETY: kill takes two numbers; the launcher is our child and not waited for, so the id is its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    fn end(mut self) -> i32 {
        self.launcher
            .wait()
            .expect("an end")
            .code()
            .expect("an exit, no signal")
    }
}

/// The state letter of a process ("S", "T", "R" ...); `None` when it is gone.
fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "not within 10 s: {what}"
        );
        std::thread::yield_now();
    }
}

// Not a loop with children: a shell that waits for a child between fork and exec cannot be stopped just then.
const WAIT: &str = "echo $$; exec sleep 60";

#[test]
fn interrupt_and_terminate_end_the_job() {
    for (signal, code) in [
        (libc::SIGINT, 130),
        (libc::SIGTERM, 143),
        (libc::SIGHUP, 129),
    ] {
        let job = Live::start(WAIT);
        let ranks = job.ranks.clone();
        job.send(signal);
        assert_eq!(job.end(), code);
        assert!(
            ranks.iter().all(|rank| state(*rank).is_none()),
            "a rank outlived its job"
        );
    }
}

#[test]
fn a_second_interrupt_does_not_wait_for_the_grace() {
    let mut launcher = tercio(&[
        "-n",
        "1",
        "--grace",
        "60",
        "sh",
        "-c",
        "trap 'echo caught' TERM; echo up; while :; do sleep 0.02; done",
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .expect("the launcher starts");
    let mut lines = BufReader::new(launcher.stdout.take().expect("a pipe")).lines();
    let mut next = || lines.next().map(|line| line.expect("a line"));
    let job = Live {
        launcher,
        ranks: Vec::new(),
    };
    assert_eq!(next().as_deref(), Some("up"));
    job.send(libc::SIGINT);
    assert_eq!(next().as_deref(), Some("caught"));
    let began = Instant::now();
    job.send(libc::SIGINT);
    assert_eq!(job.end(), 130);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn the_terminals_stop_pauses_every_rank_and_continue_goes_on() {
    let job = Live::start(WAIT);
    let (launcher, ranks) = (
        i32::try_from(job.launcher.id()).expect("a process id"),
        job.ranks.clone(),
    );
    for _ in 0..2 {
        job.send(libc::SIGTSTP);
        eventually("the launcher stops", || state(launcher) == Some('T'));
        assert!(
            ranks.iter().all(|rank| state(*rank) == Some('T')),
            "the ranks stop before the launcher does"
        );
        job.send(libc::SIGCONT);
        eventually("the ranks go on", || {
            ranks
                .iter()
                .all(|rank| matches!(state(*rank), Some('S' | 'R')))
        });
    }
    job.send(libc::SIGTERM);
    assert_eq!(job.end(), 143);
}

#[test]
fn a_stopped_job_can_be_ended() {
    let job = Live::start(WAIT);
    for rank in &job.ranks {
        // SAFETY: kill takes two numbers; the rank lives, since its launcher does.
        assert_eq!(unsafe { libc::kill(*rank, libc::SIGSTOP) }, 0);
    }
    job.send(libc::SIGTERM);
    assert_eq!(job.end(), 143);
}

#[test]
fn oversubscribing_is_allowed() {
    let ended = sh("32", "echo $TERCIO_RANK");
    assert_eq!(
        (ended.code(), ended.out.lines().count()),
        (0, 32),
        "{}",
        ended.err
    );
}

/// `script` gives the job a terminal of its own and types what it reads.
#[test]
fn a_terminals_input_reaches_the_rank() {
    let mut terminal = Command::new("script")
        .args([
            "-qec",
            &format!("{TERCIO} run -n 2 sh -c 'read line; echo $TERCIO_RANK got $line'"),
            "/dev/null",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script, of the package bsdutils");
    terminal
        .stdin
        .as_mut()
        .expect("a pipe")
        .write_all(b"hello\n")
        .expect("what is typed is taken");
    let output = terminal.wait_with_output().expect("an end");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("0 got hello\r\n"), "{text:?}");
}
