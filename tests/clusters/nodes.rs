//! Ranks of `tercio run` on the two nodes of scripts/slurm: where they are, and what becomes of them when a process or the wire between the nodes fails.
use super::{Forever, SLURM_TWO_NODES, TWO_NODES, kill, own_launcher, quiet, text};
use libtest_mimic::Trial;
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

/// Whoever cuts a node off has the nodes alone.
static NODES: RwLock<()> = RwLock::new(());

/// To be held while something runs on the nodes.
pub(super) fn in_use() -> RwLockReadGuard<'static, ()> {
    NODES.read().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn tests() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("nodes_{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![
        trial(
            "have_as_many_ranks_as_slurm_says",
            ranks_are_where_slurm_says,
        ),
        trial(
            "of_a_batch_script_are_this_one_and_another",
            from_a_batch_script,
        ),
        trial("count_words_as_one_host_does", words_are_counted),
        trial("outlive_no_launcher", nothing_outlives_the_launcher),
        trial(
            "that_are_cut_off_are_named",
            a_node_that_is_cut_off_is_named,
        ),
    ]
}

/// Our launcher within an allocation of both nodes.
fn job(tasks: usize, words: &[&str]) -> Command {
    let tasks = tasks.to_string();
    let mut command = quiet(&["salloc", "--quiet", "--overcommit", "-N", "2", "-n", &tasks]);
    command.arg(own_launcher()).arg("run").args(words);
    command
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// Which node three tasks have two of is Slurm's choice: the one with more free cores at that moment.
fn counts(told: &str, tasks: usize) -> [usize; 2] {
    let counts = match told {
        "1(x2)" => [1, 1],
        "2(x2)" => [2, 2],
        "2,1" => [2, 1],
        "1,2" => [1, 2],
        _ => panic!("Slurm gives the nodes {told} tasks"),
    };
    assert_eq!(counts[0] + counts[1], tasks, "{told}");
    counts
}

/// What `hostname` says of each rank, where the first ranks are on the first node.
fn names(counts: [usize; 2]) -> Vec<String> {
    (0..counts[0] + counts[1])
        .map(|rank| format!("[{rank}] node{}", 1 + usize::from(rank >= counts[0])))
        .collect()
}

fn ranks_are_where_slurm_says() {
    let _nodes = in_use();
    let script =
        "echo $SLURM_JOB_NODELIST $SLURM_TASKS_PER_NODE; exec \"$0\" run --tag-output hostname";
    for tasks in [2, 3, 4] {
        let mut command = quiet(&["salloc", "--quiet", "-N", "2", "-n", &tasks.to_string()]);
        command.args(["sh", "-c", script]).arg(own_launcher());
        let all = output(&mut command);
        let (told, ranks) = all.split_once('\n').unwrap();
        let told = told.strip_prefix("node[1-2] ").unwrap_or(told);
        assert_eq!(sorted(ranks), names(counts(told, tasks)));
    }
}

/// The launcher runs on the first node: its agent is there already, and srun starts the other's.
fn from_a_batch_script() {
    let _nodes = in_use();
    let file = std::env::temp_dir().join(format!("tercio-batch-{}", std::process::id()));
    let launcher = own_launcher();
    let script = format!(
        "echo $SLURM_TASKS_PER_NODE; {0} run --dry-run hostname; exec {0} run --tag-output hostname",
        launcher.display()
    );
    let mut command = quiet(&["sbatch", "--quiet", "--wait", "-N", "2", "-n", "3", "-o"]);
    let done = command
        .arg(&file)
        .args(["--wrap", &script])
        .output()
        .unwrap();
    let all = std::fs::read_to_string(&file).unwrap_or_default();
    let _ = std::fs::remove_file(&file);
    assert!(done.status.success(), "{}{all}", text(&done.stderr));
    let counts = counts(all.lines().next().unwrap_or_default(), 3);
    let first = ["rank 0", "ranks 0-1"][counts[0] - 1];
    let here = format!("host node1 (this host): {first}\n");
    assert!(all.contains(&here), "{all}");
    assert!(all.contains("reached by srun\n"), "{all}");
    let ranks: Vec<_> = sorted(&all)
        .into_iter()
        .filter(|line| line.starts_with('['))
        .collect();
    assert_eq!(ranks, names(counts));
}

fn words_are_counted() {
    let _nodes = in_use();
    let program = own_launcher().with_file_name("examples").join("wordcount");
    let program = program.to_str().unwrap();
    let counted = |all: String| {
        let lines: Vec<_> = all.lines().filter(|line| !line.starts_with('#')).collect();
        lines.join("\n")
    };
    let alone = counted(output(&mut quiet(&[program, "--sequential"])));
    assert!(alone.lines().count() > 5, "{alone}");
    assert_eq!(counted(output(&mut job(4, &[program]))), alone);
}

fn nothing_outlives_the_launcher() {
    let _nodes = in_use();
    for victim in ["tercio", "tercio-hub", "tercio-guard"] {
        let job = Forever::start(TWO_NODES, 4);
        // The launcher itself, not the agents, which have its name too: it came first.
        kill(job.named(victim)[0]);
        // salloc calls it a success when its command is killed.
        let (code, errors) = job.end();
        assert!(code != Some(0) || victim == "tercio", "{victim}: {errors}");
    }
}

fn a_node_that_is_cut_off_is_named() {
    let _alone = NODES.write().unwrap_or_else(PoisonError::into_inner);
    let space = std::env::var("TERCIO_TEST_SLURM").expect("run by scripts/slurm");
    let link = |state: &str| {
        let node = format!("{space}2");
        let done = quiet(&["ip", "-n", &node, "link", "set", "eth0", state]).status();
        assert!(done.unwrap().success());
    };
    for launcher in [TWO_NODES, SLURM_TWO_NODES] {
        let job = Forever::start(launcher, 4);
        // Time for the word that the ranks run to reach the launcher: a node that is cut off before has the time that a start may take.
        std::thread::sleep(Duration::from_secs(1));
        link("down");
        let begun = Instant::now();
        // Each side ends its own ranks; the launchers wait for the node until it is there again.
        while !job.named("forever").is_empty() && begun.elapsed() < Duration::from_secs(15) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let took = begun.elapsed();
        link("up");
        let (code, errors) = job.end();
        assert!(took < Duration::from_secs(10), "{took:?}: {errors}");
        assert_ne!(code, Some(0), "{errors}");
        assert!(errors.contains("host \"node2\" was lost"), "{errors}");
    }
}
