//! What passes through a job: output in whole lines, nothing lost, input for the rank that reads.
use crate::support::{Mark, text, trial};
use std::io::Write;
use std::time::{Duration, Instant};
use tercio::launch::{Job, Output};

pub fn tests() -> Vec<libtest_mimic::Trial> {
    vec![
        trial("lines_of_many_ranks_stay_whole", whole),
        trial("labels_stand_before_each_line", labelled),
        trial("a_part_of_a_line_is_shown_after_its_time", prompt),
        trial("late_output_of_a_child_is_waited_for_and_then_not", late),
        trial("what_a_killed_rank_wrote_is_not_lost", last_words),
        trial("output_goes_into_files", files),
        trial("standard_input_is_inherited_by_one_rank", inherited),
        trial("standard_input_is_forwarded_to_one_rank", forwarded),
        trial("a_closed_output_ends_the_writers", closed),
    ]
}

fn whole() {
    let mark = Mark::new();
    let line = "x".repeat(150);
    let script =
        format!("i=0; while test $i -lt 1500; do echo $TERCIO_RANK $i {line}; i=$((i+1)); done");
    let outcome = mark.job(8, &script).run().unwrap();
    let all = text(&outcome.stdout);
    let mut next = [0; 8];
    for got in all.lines() {
        let words: Vec<&str> = got.split(' ').collect();
        let rank: usize = words[0].parse().unwrap();
        assert_eq!(
            (words[1], words[2]),
            (next[rank].to_string().as_str(), line.as_str())
        );
        next[rank] += 1;
    }
    assert_eq!((outcome.code, next), (0, [1500; 8]));
}

fn labelled() {
    let mark = Mark::new();
    let (code, out, err) = mark
        .launcher(3, "echo a; echo b; echo c >&2", &["tag"])
        .finish();
    assert_eq!(code, Some(0));
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines.join(",")
    };
    assert_eq!(sorted(&out), "[0] a,[0] b,[1] a,[1] b,[2] a,[2] b");
    assert_eq!(sorted(&err), "[0] c,[1] c,[2] c");
}

fn prompt() {
    let mark = Mark::new();
    let mut launcher = mark.launcher(
        1,
        "printf 'name? '; read name; echo hello $name",
        &["stdin"],
    );
    let stdout = launcher.child.stdout.as_mut().unwrap();
    let mut prompt = [0; 6];
    std::io::Read::read_exact(stdout, &mut prompt).unwrap();
    assert_eq!(&prompt, b"name? ");
    launcher
        .child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"you\n")
        .unwrap();
    let (code, out, _) = launcher.finish();
    assert_eq!((code, out.as_str()), (Some(0), "hello you\n"));
}

fn late() {
    let mark = Mark::new();
    // A machine that is busy may be late itself.
    let waited_for = (0..10).any(|_| {
        let outcome = mark
            .job(2, "(sleep 0.03; echo late) & echo early")
            .run()
            .unwrap();
        text(&outcome.stdout) == "early\nearly\nlate\nlate\n"
    });
    assert!(waited_for);
    let begun = Instant::now();
    let outcome = mark
        .job(2, "(sleep 5; echo late) & echo early")
        .run()
        .unwrap();
    assert_eq!(
        (outcome.code, text(&outcome.stdout).as_str()),
        (0, "early\nearly\n")
    );
    assert!(begun.elapsed() < Duration::from_secs(2));
    mark.assert_nothing_left();
}

fn last_words() {
    let mark = Mark::new();
    let outcome = mark.job(1, "i=0; while test $i -lt 400; do echo line $i; i=$((i+1)); done; printf end; kill -KILL $$").run().unwrap();
    let all = text(&outcome.stdout);
    assert_eq!(outcome.code, 137);
    assert!(
        all.ends_with("line 399\nend"),
        "{}",
        &all[all.len().saturating_sub(50)..]
    );
}

fn files() {
    let mark = Mark::new();
    let directory = std::env::temp_dir().join(format!("tercio-output-{}", std::process::id()));
    for tag in [false, true] {
        let job = Job::new()
            .program(mark.sh(2, "echo out $TERCIO_RANK; echo err $TERCIO_RANK >&2"))
            .output(Output::Directory {
                path: directory.join("new"),
                tag,
            });
        assert_eq!(job.run().unwrap().code, 0);
        let read = |file: &str| std::fs::read_to_string(directory.join("new").join(file)).unwrap();
        let label = if tag { "[1] " } else { "" };
        assert_eq!(read("rank.1/stdout"), format!("{label}out 1\n"));
        assert_eq!(read("rank.1/stderr"), format!("{label}err 1\n"));
        assert!(read("rank.0/stdout").ends_with("out 0\n"));
    }
    std::fs::remove_dir_all(directory).unwrap();
}

const READERS: &str = "n=$(wc -c); echo $TERCIO_RANK read $n";

fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn inherited() {
    let mark = Mark::new();
    let mut launcher = mark.launcher(2, READERS, &["stdin"]);
    launcher
        .child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"12345")
        .unwrap();
    let (code, out, _) = launcher.finish();
    assert_eq!((code, lines(&out)), (Some(0), vec!["0 read 5", "1 read 0"]));
}

fn forwarded() {
    let mark = Mark::new();
    let mut launcher = mark.launcher(2, READERS, &["forward"]);
    // More than pipes and credit hold, so that all of them have to be refilled.
    let bytes = vec![b'x'; 1 << 20];
    launcher
        .child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(&bytes)
        .unwrap();
    let (code, out, _) = launcher.finish();
    assert_eq!(
        (code, lines(&out)),
        (Some(0), vec!["0 read 1048576", "1 read 0"])
    );
}

fn closed() {
    let mark = Mark::new();
    let mut launcher = mark.launcher(2, "while :; do echo more; done", &[]);
    drop(launcher.child.stdout.take());
    let (code, _, err) = launcher.finish();
    assert_eq!(code, Some(141), "{err}");
    assert!(err.contains("SIGPIPE"), "{err}");
    mark.assert_nothing_left();
}
