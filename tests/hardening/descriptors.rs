//! A limit of file descriptors that is too low for anything.

use std::process::Command;

use crate::support::program::Streamgauge;

const SERVER: [&str; 2] = ["--redis-url", "redis://127.0.0.1:1"];
const STREAM: [&str; 2] = ["--stream", "s"];
const GROUP: [&str; 2] = ["--group", "g"];

#[test]
fn each_command_says_that_too_few_file_descriptors_are_free() {
    let commands = [
        Streamgauge::command("serve").args(SERVER),
        Streamgauge::command("check").args(SERVER),
        Streamgauge::command("status").args(SERVER),
        Streamgauge::command("init").args(SERVER),
        Streamgauge::command("tidy").args(SERVER),
        Streamgauge::command("pending").args(SERVER).args(STREAM).args(GROUP),
        Streamgauge::command("consume").args(SERVER).args(STREAM).args(GROUP),
        Streamgauge::command("produce").args(SERVER).args(STREAM),
        Streamgauge::command("dead-letters").args(["list"]).args(SERVER).args(STREAM),
        Streamgauge::command("rules"),
        Streamgauge::command("completions").args(["bash"]),
        Streamgauge::command("demo"),
        Streamgauge::command("healthcheck"),
    ];
    for run in commands {
        let run = run.into_command();
        // Below 4 the program cannot be loaded.
        for limit in [4, 5, 7, 8, 9, 16, 26] {
            let mut command = Command::new("sh");
            command.arg("-c").arg(format!("ulimit -n {limit}; exec \"$0\" \"$@\""));
            command.arg(run.get_program()).args(run.get_args());
            let output = command.output().expect("there is a shell");
            let stderr = String::from_utf8_lossy(&output.stderr);
            let shown = format!("{limit} {:?}: {stderr}", run.get_args());
            assert_eq!(output.status.code(), Some(1), "{shown}");
            let said = "are free, and 24 are needed; the limit is ";
            assert!(stderr.contains(&format!("{said}{limit}, ")) && stderr.lines().count() == 1, "{shown}");
        }
    }
}
