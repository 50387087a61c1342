//! `streamgauge status` that polls the server itself.

use serde_json::Value;

use crate::scenario::{cells, fill};
use crate::support::client::RedisClient;
use crate::support::config::ConfigFile;
use crate::support::program::Streamgauge;
use crate::support::pty::Terminal;
use crate::support::server::Server;
use crate::support::servers::{for_each_server, newest};

/// Runs `status` with an observation of this time.
fn status(server: &Server, time: &str) -> Streamgauge {
    Streamgauge::command("status").args(["--redis-url", &server.url(), "--observe", time])
}

#[tokio::test]
async fn a_table_says_which_group_is_how_far_behind() {
    for_each_server(async |server| {
        fill(&server).await;
        let end = status(&server, "2s").run().await;
        assert_eq!(end.code, Some(0), "{}", end.stderr);
        let head =
            "observed for 2s: a group that pauses for longer looks stalled or abandoned (--observe)\n\n";
        let table = end.stdout.strip_prefix(head).unwrap_or_else(|| panic!("{}", end.stdout));
        let heading = table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(heading, "STATUS STREAM GROUP LAG TREND BEHIND PENDING OLDEST CONSUMERS DRAIN IN/S OUT/S");
        let behind = cells(&end.stdout, "behind");
        assert_eq!((behind[1].as_str(), behind[3].as_str(), behind[6].as_str()), ("orders", "4", "5"));
        assert!(["stalled", "abandoned", "stuck"].contains(&behind[0].as_str()), "{behind:?}");
        let untouched = cells(&end.stdout, "untouched");
        assert_eq!((untouched[0].as_str(), untouched[3].as_str()), ("abandoned", "9"));
        assert!(untouched[5].ends_with('s') && untouched[5] != "0s", "{untouched:?}");
        assert_eq!(cells(&end.stdout, "done")[3..8], ["0", "-", "0s", "0", "-"]);
        assert!(!end.stdout.contains('\x1b'), "a name or a colour reached the pipe: {:?}", end.stdout);
        assert_eq!(cells(&end.stdout, "\\x1b[2Jgone")[1], "bills");
        let last = end.stdout.lines().last().unwrap();
        assert!(last.starts_with("4 groups of 2 streams: "), "{last}");
    })
    .await;
}

#[tokio::test]
async fn groups_that_are_looked_for_exit_3() {
    let server = Server::start(newest(), &[]).await;
    fill(&server).await;
    let end =
        status(&server, "2s").args(["--stream", "orders", "--fail-on", "rewound,abandoned"]).run().await;
    assert_eq!(end.code, Some(3), "{}", end.stdout);
    assert!(end.stderr.ends_with("rewound or abandoned\n"), "{}", end.stderr);
    let end = status(&server, "2s").args(["--fail-on", "rewound"]).run().await;
    assert_eq!(end.code, Some(0), "{}", end.stderr);
    let end = status(&server, "2s").args(["--fail-on", "bad"]).run().await;
    assert_eq!((end.code, end.stdout.as_str()), (Some(2), ""));
    assert!(
        end.stderr.starts_with("--fail-on: status: found \"bad\"; expected abandoned, "),
        "{}",
        end.stderr
    );
}

#[tokio::test]
async fn what_could_not_be_read_exits_1_after_the_rest() {
    let server = Server::start(newest(), &[]).await;
    fill(&server).await;
    let config = ConfigFile::new(&format!(
        "targets:
  - {{name: here, url: '{}', streams: [{{key: missing}}, {{key: orders, groups: {{include: [done, absent]}}}}]}}
  - {{name: nobody, url: 'redis://:hunter2@127.0.0.1:1'}}
",
        server.url()
    ));
    let end = config.command("status").args(["--observe", "0s"]).run().await;
    assert_eq!(end.code, Some(1), "{}", end.stderr);
    let done = cells(&end.stdout, "done");
    assert_eq!(done[..5], ["ok", "here", "orders", "done", "0"], "{}", end.stdout);
    assert_eq!(cells(&end.stdout, "absent")[..5], ["missing", "here", "orders", "absent", "?"]);
    for said in [
        "target \"nobody\": cannot connect to 127.0.0.1:1: ",
        "target \"here\": stream \"missing\" is missing, of another type or denied\n",
        "target \"here\": stream \"orders\" has no group \"absent\"\n",
        "not everything could be read\n",
    ] {
        assert!(end.stderr.contains(said), "{said:?} is not in\n{}", end.stderr);
    }
    assert!(!end.stderr.contains("hunter2") && !end.stdout.contains("hunter2"));
    let only = Streamgauge::command("status").args(["--redis-url", "redis://127.0.0.1:1"]).run().await;
    assert_eq!((only.code, only.stdout.as_str()), (Some(1), ""), "{}", only.stderr);
}

#[tokio::test]
async fn json_has_the_shape_of_the_route() {
    let server = Server::start(newest(), &[]).await;
    fill(&server).await;
    let end = status(&server, "0s").args(["--json", "--stream", "bills"]).run().await;
    assert_eq!(end.code, Some(0), "{}", end.stderr);
    let listing: Value = serde_json::from_str(&end.stdout).unwrap();
    assert_eq!(listing["groups"][0]["group"], "\x1b[2Jgone");
    assert_eq!((&listing["groups"][0]["lag"], &listing["matched"]), (&Value::from(0), &Value::from(1)));
    assert_eq!(listing["targets"][0]["up"], true);
    assert!(end.stdout.is_ascii() && !end.stdout.contains('\x1b'), "{:?}", end.stdout);
}

#[tokio::test]
async fn a_terminal_has_colours_unless_it_wants_none_and_its_width_is_kept() {
    let server = Server::start(newest(), &[]).await;
    fill(&server).await;
    let mut client = RedisClient::to(&server).await;
    let long = "a-group-with-a-name-of-some-length-that-does-not-fit";
    client.run(&format!("XGROUP CREATE orders {long} $")).await;
    for (columns, colours) in [(80, "always"), (40, "never")] {
        let mut command = status(&server, "1s").into_command();
        if colours == "always" {
            command.env_remove("NO_COLOR");
        }
        let mut terminal = Terminal::open(&command, 24, columns);
        assert_eq!(terminal.ended().await, Some(0), "{}", terminal.screen());
        let screen = terminal.shows_all(&["5 groups of 2 streams"]).await;
        let text = String::from_utf8(terminal.bytes()).unwrap();
        assert_eq!(text.contains("\x1b[31m"), colours == "always", "{text:?}");
        assert!(!text.contains("\x1b[2J"), "a name cleared the screen: {text:?}");
        // A row that is too long would be wrapped to more rows.
        let rows: Vec<_> =
            screen.lines().filter(|line| line.contains("orders") || line.contains("bills")).collect();
        assert_eq!(rows.len(), 5, "{screen}");
        assert!(rows.iter().all(|row| row.split_whitespace().count() >= 4), "{screen}");
        assert!(rows.iter().any(|row| row.contains("a-g") && row.contains('…')), "{screen}");
    }
}
