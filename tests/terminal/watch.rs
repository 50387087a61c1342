//! `status --watch`, on the screen of a pseudo-terminal.

use std::env;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use streamgauge::api::groups::Listing;
use streamgauge::terminal::screen::Screen;
use streamgauge::terminal::status_view::StatusView;

use crate::scenario::fill;
use crate::support::client::RedisClient;
use crate::support::config::{ConfigFile, QUICK};
use crate::support::program::Streamgauge;
use crate::support::pty::Terminal;
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::wait_until;

const PANICS: &str = "STREAMGAUGE_TEST_PANICS";

fn watching(server: &Server, rows: u16, columns: u16) -> Terminal {
    let command = Streamgauge::command("status").args(["--watch", "--redis-url", &server.url()]);
    Terminal::open_below("$ streamgauge status --watch\r\n", &command.into_command(), rows, columns)
}

/// Returns the groups of the list, from the top.
fn listed(screen: &str) -> Vec<&str> {
    let names = ["done", "behind", "untouched", "\\x1b[2Jgone"];
    let of = |line: &str| names.into_iter().find(|name| line.split_whitespace().any(|word| word == *name));
    // The line of keys contains the word "done", too, and the events name groups.
    screen.lines().filter(|line| !line.contains("Esc") && !line.contains("group ")).filter_map(of).collect()
}

#[tokio::test]
async fn groups_are_shown_sorted_filtered_and_looked_into() {
    let server = Server::start(newest(), &[]).await;
    fill(&server).await;
    let mut terminal = watching(&server, 36, 80);
    let screen =
        terminal.shows_all(&["4 groups of 2 streams", "STATUS", "CONSUMERS", "q quit", "worst first"]).await;
    assert_eq!(listed(&screen).len(), 4, "{screen}");
    terminal.press("s");
    terminal
        .shows("it is sorted by lag", |screen| {
            screen.contains("sorted by lag") && listed(screen)[..2] == ["untouched", "behind"]
        })
        .await;
    terminal.press("r");
    terminal
        .shows("it is reversed", |screen| {
            screen.contains("reversed") && listed(screen)[2..] == ["behind", "untouched"]
        })
        .await;
    terminal.press("/BEH");
    terminal
        .shows("it is filtered", |screen| screen.contains("filter: BEH_") && listed(screen) == ["behind"])
        .await;
    terminal.press("\r\r");
    let screen = terminal
        .shows_all(&[
            "group behind of stream orders",
            "Consumers",
            "worker-1",
            "worker-2",
            "Pending entries",
            "DELIVERIES",
        ])
        .await;
    assert!(
        screen.lines().any(|line| line.starts_with("Lag ") && line.trim_end().ends_with(" 4")),
        "{screen}"
    );
    let ids = screen.lines().filter(|line| line.starts_with("17") || line.starts_with("18")).count();
    assert!(ids >= 3, "{screen}");
    terminal.press("q");
    assert_eq!(terminal.ended().await, Some(0));
    terminal.is_restored().await;
    let text = String::from_utf8_lossy(&terminal.bytes()).into_owned();
    assert!(!text.contains("\x1b[2Jgone"), "a name cleared the screen");
    assert!(!text.contains("INFO") && !text.contains("WARN"), "log lines are in the way");
}

#[tokio::test]
async fn it_is_kept_up_to_date_and_says_when_it_cannot_be() {
    let mut server = Server::start(newest(), &[]).await;
    fill(&server).await;
    let terminal = watching(&server, 24, 80);
    terminal.shows_all(&["4 groups"]).await;
    RedisClient::to(&server).await.run("XGROUP CREATE orders newcomer 0").await;
    terminal.shows_all(&["5 groups", "newcomer"]).await;
    server.kill();
    // The values of the last reading are still shown, in grey, with their time.
    terminal
        .shows_all(&["target \"127.0.0.1:", "shown as read before", "newcomer", "as of ", " UTC ("])
        .await;
    terminal.shows("they are grey", |_| is_dim(&terminal, "newcomer")).await;
}

/// Returns true if the row of the group is drawn in grey.
fn is_dim(terminal: &Terminal, group: &str) -> bool {
    terminal.look(|screen| {
        let (_, columns) = screen.size();
        let row = screen.rows(0, columns).position(|row| row.contains(group) && !row.contains("group "));
        let cell = row.and_then(|row| screen.cell(u16::try_from(row).ok()?, 30));
        cell.is_some_and(vt100::Cell::dim)
    })
}

#[tokio::test]
async fn a_narrow_terminal_is_enough() {
    let server = Server::start(newest(), &[]).await;
    fill(&server).await;
    let mut terminal = watching(&server, 8, 40);
    let screen = terminal.shows_all(&["STATUS", "GROUP", "LAG", "untouched"]).await;
    assert!(screen.lines().all(|line| line.chars().count() <= 40), "{screen}");
    assert!(!screen.contains("CONSUMERS"), "there is no room for it:\n{screen}");
    terminal.press("\r");
    terminal.shows_all(&["Status", "Behind"]).await;
    // More lines than fit can be reached by scrolling.
    terminal.press("\x1b[6~\x1b[6~\x1b[6~\x1b[6~\x1b[6~");
    terminal.shows_all(&["Pending entries"]).await;
    terminal.press("\x1b");
    terminal.shows_all(&["STATUS", "LAG"]).await;
    terminal.press("\x03");
    assert_eq!(terminal.ended().await, Some(0));
    terminal.is_restored().await;
}

/// Returns the first line without the clock.
fn title(screen: &str) -> &str {
    let line = screen.lines().next().unwrap_or_default().trim_end();
    line.strip_suffix(" UTC")
        .and_then(|line| line.rsplit_once("  "))
        .map_or(line, |(title, _)| title)
        .trim_end()
}

/// Returns true if the screen shows the title, or its beginning and an ellipsis.
fn shows_title(screen: &str, expected: &str) -> bool {
    let shown = title(screen);
    let (start, expected) = (shown.trim_end_matches('…'), expected.trim_end_matches('…'));
    !shown.is_empty() && (start.starts_with(expected) || expected.starts_with(start))
}

#[tokio::test]
async fn a_new_size_is_taken_down_to_a_single_character_and_up_again() {
    let server = Server::start(newest(), &[]).await;
    fill(&server).await;
    let mut terminal = watching(&server, 24, 80);
    let wide = terminal.shows_all(&["4 groups", "CONSUMERS", "q quit"]).await;
    let title = title(&wide).to_owned();
    terminal.resize(12, 40);
    let narrow = terminal.shows_all(&["STATUS", "LAG", "untouched", "q quit"]).await;
    assert!(!narrow.contains("CONSUMERS"), "there is no room for it:\n{narrow}");
    assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
    // In the list, in a group, and while a filter is typed.
    for (keys, back) in [("", ""), ("\r", "\x1b"), ("/", "\x1b")] {
        terminal.resize(24, 80);
        terminal.shows("the list is wide again", |screen| shows_title(screen, &title)).await;
        terminal.press(keys);
        let shown = match keys {
            "\r" => terminal.shows_all(&["Consumers: ", "Esc back"]).await,
            "/" => terminal.shows_all(&["filter: _", "Enter done"]).await,
            _ => wide.clone(),
        };
        let title = self::title(&shown).to_owned();
        for (rows, columns) in [(24, 200), (24, 80), (5, 12), (2, 30), (1, 80), (24, 1), (1, 1), (3, 2)] {
            terminal.resize(rows, columns);
            let what = format!("{rows} rows of {columns} columns after {keys:?}");
            terminal.shows(&what, |screen| shows_title(screen, &title)).await;
        }
        terminal.press(back);
    }
    terminal.resize(24, 80);
    let screen = terminal.shows_all(&["4 groups", "CONSUMERS", "q quit"]).await;
    assert_eq!(listed(&screen).len(), 4, "{screen}");
    terminal.press("q");
    assert_eq!(terminal.ended().await, Some(0));
}

#[tokio::test]
async fn a_key_that_ends_it_gives_the_terminal_back() {
    let server = Server::start(newest(), &[]).await;
    fill(&server).await;
    // Control-C is a key in raw mode; q is part of a filter.
    for keys in ["q", "\x03", "\rq", "\r\x03", "/q\x03"] {
        let mut terminal = watching(&server, 24, 80);
        let screen = terminal.shows_all(&["4 groups"]).await;
        assert!(!screen.contains("$ streamgauge"), "it has a screen of its own:\n{screen}");
        terminal.press(keys);
        assert_eq!(terminal.ended().await, Some(0), "{keys:?}");
        terminal.is_restored().await;
    }
}

#[tokio::test]
async fn a_signal_gives_the_terminal_back() {
    let server = Server::start(newest(), &[]).await;
    fill(&server).await;
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut terminal = watching(&server, 24, 80);
        terminal.shows_all(&["4 groups"]).await;
        terminal.signal(signal);
        assert_eq!(terminal.ended().await, Some(0));
        terminal.is_restored().await;
    }
}

#[tokio::test]
async fn a_running_streamgauge_is_watched() {
    let server = Server::start(newest(), &[]).await;
    fill(&server).await;
    let config = ConfigFile::new(&format!("{QUICK}targets: [{{name: here, url: '{}'}}]\n", server.url()));
    let exporter = config.serve().serving().await;
    let soon = Duration::from_secs(30);
    wait_until(soon, "it has polled", async || exporter.get("/-/ready").await.status == 200).await;
    let url = format!("http://{}", exporter.address);
    let command = Streamgauge::command("status").args(["--watch", "--server", &url]).into_command();
    let mut terminal = Terminal::open(&command, 36, 80);
    terminal.shows_all(&[&url, "4 groups", "untouched"]).await;
    terminal.press("/behind\r\r");
    let screen =
        terminal.shows_all(&["group behind of stream orders on here", "worker-1", "lists no entries"]).await;
    // The exporter does know the numbers of the pending entries.
    let line = |name: &str| screen.lines().find(|line| line.starts_with(name)).unwrap_or(&screen).trim_end();
    assert!(line("Pending").ends_with(" 5") && line("Consumers").ends_with(" 2"), "{screen}");
    assert!(line("Oldest pending").contains("idle for"), "{screen}");
    exporter.stop().await;
    terminal.press("\x1b");
    terminal.shows_all(&["cannot connect", "behind"]).await;
    terminal.press("q");
    assert_eq!(terminal.ended().await, Some(0));
}

#[tokio::test]
async fn many_groups_are_folded_and_opened_with_the_keys_of_vi() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    client.run("XADD cache:invalidate * n 1\nXADD orders * n 1\nXGROUP CREATE orders mail $").await;
    let pod = |n| format!("cache-invalidator-6c8d7f9b54-{n:05}");
    for n in 0..24 {
        client.run(&format!("XGROUP CREATE cache:invalidate {} $", pod(n))).await;
    }
    let mut terminal = watching(&server, 24, 80);
    // One line for 24 pods; all are ok.
    let screen =
        terminal.shows_all(&["25 groups of 2 streams", "\u{25b8} 24 groups", "mail", "? help"]).await;
    assert!(screen.contains("read ") && screen.contains(" ago") && screen.contains(" UTC"), "{screen}");
    terminal.press("gj");
    let row = |screen: &str, text: &str| screen.lines().position(|line| line.contains(text));
    terminal.press(if row(&screen, "24 groups") < row(&screen, "mail") { "k" } else { "" });
    terminal.press(" ");
    let screen = terminal.shows_all(&["\u{25be} 24 groups", "00000", "00015"]).await;
    // Names that differ at their ends stay different.
    let is_pod = |word: &&str| word.contains('…') && word.ends_with(|last: char| last.is_ascii_digit());
    let pods: std::collections::HashSet<_> =
        screen.lines().filter_map(|line| line.split_whitespace().find(is_pod)).collect();
    assert!(pods.len() >= 14, "{pods:?} on\n{screen}");
    // Below the last pod is the group of the other stream.
    terminal.press("Gk");
    terminal.shows("the last one is shown", |screen| screen.contains("00023")).await;
    terminal.press("\r");
    terminal.shows_all(&["group cache-invalidator-6c8d7f9b54-00023 of stream"]).await;
    // Esc and a key in one write would be that key with Alt.
    terminal.press("\x1b");
    terminal.shows_all(&["STATUS"]).await;
    terminal.press(" ");
    terminal.shows_all(&["\u{25b8} 24 groups", "mail"]).await;
    terminal.press("f");
    terminal
        .shows("they are no longer folded", |screen| {
            !screen.contains("24 groups") && screen.contains("00001")
        })
        .await;
    terminal.press("?");
    terminal.shows_all(&["Keys", "open or close a folded line"]).await;
    terminal.press("G");
    terminal.shows_all(&["entries added to the stream, delivered to the group"]).await;
    terminal.press("q");
    // What happens is an event.
    client.run("XGROUP DESTROY orders mail\nXGROUP CREATE orders \u{6ce8}\u{6587} $").await;
    terminal.shows_all(&["mail of orders: is gone"]).await;
    client.run(&"XADD orders * f v\n".repeat(300)).await;
    terminal.shows_all(&[" 300 "]).await;
    client.run("XTRIM orders MAXLEN 1").await;
    terminal.press("e");
    terminal
        .shows_all(&["recent events", "of orders: was created", "orders: 30", "entries were removed"])
        .await;
    terminal.press("q");
    terminal.shows_all(&["STATUS"]).await;
    terminal.press("q");
    assert_eq!(terminal.ended().await, Some(0));
    terminal.is_restored().await;
}

#[tokio::test]
async fn no_color_leaves_the_colours_out() {
    let server = Server::start(newest(), &[]).await;
    fill(&server).await;
    for (value, is_coloured) in [(None, true), (Some("1"), false)] {
        let command = Streamgauge::command("status").args(["--watch", "--redis-url", &server.url()]);
        let mut command = command.into_command();
        match value {
            Some(value) => command.env("NO_COLOR", value),
            None => command.env_remove("NO_COLOR"),
        };
        let mut terminal = Terminal::open(&command, 10, 40);
        terminal.shows_all(&["STATUS", "untouched", "q quit"]).await;
        let is_found = |of: &dyn Fn(&vt100::Cell) -> bool| {
            terminal.look(|screen| {
                let (rows, columns) = screen.size();
                let mut cells =
                    (0..rows).flat_map(|row| (0..columns).filter_map(move |column| screen.cell(row, column)));
                cells.any(of)
            })
        };
        assert_eq!(
            is_found(&|cell| cell.fgcolor() != vt100::Color::Default),
            is_coloured,
            "{}",
            terminal.screen()
        );
        // The row of the cursor is inverse up to its end.
        assert!(is_found(&|cell| cell.inverse() && cell.contents() == "9"), "{}", terminal.screen());
        terminal.press("q");
        assert_eq!(terminal.ended().await, Some(0));
    }
}

#[tokio::test]
async fn without_a_terminal_it_says_so() {
    let end =
        Streamgauge::command("status").args(["--watch", "--redis-url", "redis://127.0.0.1:1"]).run().await;
    assert_eq!((end.code, end.stdout.contains('\x1b')), (Some(1), false), "{:?}", end.stdout);
    assert!(end.stderr.starts_with("--watch needs a terminal"), "{}", end.stderr);
}

/// Runs itself in a terminal, and panics there on the full screen.
#[tokio::test]
async fn a_panic_gives_the_terminal_back_before_it_is_told() {
    if env::var_os(PANICS).is_some() {
        let mut screen = Screen::open().unwrap();
        let mut view = StatusView::new("a screen".to_owned());
        view.update(Listing::default());
        screen.show(&mut view).unwrap();
        panic!("expected by the test");
    }
    let mut command = Command::new(env::current_exe().unwrap());
    let name = "watch::a_panic_gives_the_terminal_back_before_it_is_told";
    command.args(["--exact", name, "--nocapture"]).env(PANICS, "1");
    // A backtrace would not fit on the screen.
    command.env("RUST_BACKTRACE", "0");
    let mut terminal = Terminal::open(&command, 24, 80);
    assert_eq!(terminal.ended().await, Some(101));
    terminal.shows_all(&["expected by the test"]).await;
    terminal.is_restored().await;
    assert!(
        String::from_utf8_lossy(&terminal.bytes()).contains("\x1b[?1049h"),
        "it had taken the screen over"
    );
}
