//! Names, replies and settings full of characters that act on a terminal or a log: no command prints them as they are.

use std::time::Duration;

use streamgauge::format::unicode::is_invisible;

mod support;

use support::client::RedisClient;
use support::config::{ConfigFile, ONCE, QUICK};
use support::fake_server::{Behavior, FakeServer};
use support::program::{Finished, Streamgauge};
use support::pty::Terminal;
use support::server::Server;
use support::servers::{for_each_server, newest};
use support::wait::wait_until;

const SOON: Duration = Duration::from_secs(20);

/// The start of a log line that is not ours.
const FORGED: &str = "2026-01-01T00:00:00Z ERROR owned";

/// A title of the terminal, a line of the log, controls of one byte and of two, a reversal of the text's direction, a
/// separator of lines, a tag, and bytes that are not UTF-8.
const HOSTILE: [&[u8]; 7] = [
    b"\x1b]0;owned\x07",
    b"x\n2026-01-01T00:00:00Z ERROR owned",
    "\u{9b}2J\u{9d}0;owned\u{9c}".as_bytes(),
    b"\x7f\x08\r\x1b[31m",
    "\u{202e}gnp.exe\u{2066}".as_bytes(),
    "a\u{2028}b\u{85}c\u{e0041}".as_bytes(),
    b"\xff\xfe\x1b[2J",
];

#[track_caller]
fn assert_harmless(what: &str, text: &str) {
    for line in text.lines() {
        assert!(!line.contains(is_invisible), "{what}: {line:?}");
        assert!(!line.starts_with(FORGED), "{what}: {line:?}");
    }
}

#[track_caller]
fn assert_output_harmless(what: &str, finished: &Finished) {
    assert_harmless(what, &finished.stdout);
    assert_harmless(what, &finished.stderr);
}

/// Creates a stream, a group and a pending entry of a consumer of each name, and a key of another type.
async fn with_hostile_names(server: &Server) -> RedisClient {
    let mut client = RedisClient::to(server).await;
    for name in HOSTILE {
        let _: String = client.ask(&[&b"XADD"[..], name, b"*", name, name]).await;
        let _: String = client.ask(&[&b"XGROUP"[..], b"CREATE", name, name, b"0"]).await;
        let _: redis::Value =
            client.ask(&[&b"XREADGROUP"[..], b"GROUP", name, name, b"STREAMS", name, b">"]).await;
        let _: String = client.ask(&[&b"SET"[..], &[name, b"text"].concat(), name]).await;
    }
    client
}

/// Returns a name as YAML in double quotes. Bytes that are not UTF-8 are written `\xHH`.
fn yaml(name: &[u8]) -> String {
    let name = redis_stream_core::escape::escape(name);
    let json = serde_json::to_string(&name).expect("text is JSON");
    let escaped =
        |one: char| if is_invisible(one) { format!("\\U{:08x}", u32::from(one)) } else { one.into() };
    json.chars().map(escaped).collect()
}

/// A configuration that names everything there is, and everything again that is not there.
fn hostile_configuration(poll: &str, url: &str) -> String {
    let mut streams = String::new();
    for name in HOSTILE {
        let [absent, text] = ["absent", "text"].map(|end| yaml(&[name, end.as_bytes()].concat()));
        let name = yaml(name);
        streams += &format!(
            "    - {{key: {absent}}}\n    - {{key: {text}}}\n    - {{key: {name}, groups: {{include: [{name}, {absent}]}}}}\n"
        );
    }
    let name = yaml(HOSTILE[1]);
    format!(
        "{poll}targets:\n- name: {name}\n  url: '{url}'\n  streams:\n{streams}    - {{key: 'no*'}}\n\
         alerts: {{rules: [{{alert: A, expr: lag > 1, stream: {name}, annotations: {{summary: {name}}}}}]}}\n"
    )
}

#[tokio::test]
async fn no_command_prints_a_hostile_name_as_it_is() {
    for_each_server(async |server| {
        let _client = with_hostile_names(&server).await;
        let url = server.url();
        let config = ConfigFile::new(&hostile_configuration(ONCE, &url));
        let checked = config.command("check").run().await;
        assert_eq!(checked.code, Some(0), "{checked:?}");
        assert!(checked.stdout.contains("\\x1b]0;owned\\x07"), "{checked:?}");
        assert_output_harmless("check", &checked);
        assert_output_harmless(
            "check URL",
            &Streamgauge::command("check").args(["--redis-url", &url]).run().await,
        );
        assert_output_harmless("rules", &config.command("rules").run().await);
        for args in [&[][..], &["--json"]] {
            let status = config.command("status").args(["--observe", "0s"]).args(args).run().await;
            assert!(status.stdout.contains("owned"), "{status:?}");
            assert_output_harmless("status", &status);
        }
        for name in HOSTILE {
            let name = redis_stream_core::escape::escape(name);
            let of = ["--redis-url", &url, "--stream", &name, "--group", &name];
            for args in [&[][..], &["--json"], &["--consumer", &name]] {
                let pending = Streamgauge::command("pending").args(of).args(args).run().await;
                assert_eq!(pending.code, Some(0), "{pending:?}");
                assert_output_harmless("pending", &pending);
            }
            let absent = Streamgauge::command("pending")
                .args(["--redis-url", &url, "--stream", &name, "--group", &format!("{name}absent")])
                .run()
                .await;
            assert_eq!(absent.code, Some(1), "{absent:?}");
            assert_output_harmless("pending", &absent);
            let produce =
                ["--redis-url", &url, "--stream", &name, "--stream", "b", "--count", "2", "--rate", "0"];
            let produced = Streamgauge::command("produce").args(produce).run().await;
            assert_output_harmless("produce", &produced);
        }
    })
    .await;
}

#[tokio::test]
async fn a_hostile_name_makes_no_line_of_its_own_in_the_log() {
    let server = Server::start(newest(), &[]).await;
    let mut client = with_hostile_names(&server).await;
    let config = ConfigFile::new(&hostile_configuration(QUICK, &server.url()));
    for format in ["text", "json"] {
        let exporter = config.serve().args(["--log-level", "debug", "--log-format", format]).serving().await;
        wait_until(SOON, "it cannot read some", async || exporter.stderr().contains("stream cannot be read"))
            .await;
        for name in HOSTILE {
            let _: i64 = client.ask(&[&b"DEL"[..], &[name, b"text"].concat()]).await;
            let _: String = client.ask(&[&b"XADD"[..], &[name, b"text"].concat(), b"*", b"f", b"v"]).await;
        }
        wait_until(SOON, "it can read them", async || exporter.stderr().contains("stream can be read again"))
            .await;
        let page = exporter.get("/").await.text();
        assert!(!page.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}']), "{page}");
        let finished = exporter.stop().await;
        assert_output_harmless(format, &finished);
        if format == "json" {
            for line in finished.stderr.lines() {
                let _: serde_json::Value = serde_json::from_str(line).expect(line);
            }
        }
        for name in HOSTILE {
            let _: i64 = client.ask(&[&b"DEL"[..], &[name, b"text"].concat()]).await;
            let _: String = client.ask(&[&b"SET"[..], &[name, b"text"].concat(), name]).await;
        }
    }
}

#[tokio::test]
async fn a_hostile_error_reply_is_printed_harmlessly() {
    const REPLIES: [&[u8]; 3] = [
        b"-ERR \x1b]0;owned\x07\r\n",
        "-\u{202e}LOADING \u{9b}2J\r\n".as_bytes(),
        b"!47\r\nERR x\n2026-01-01T00:00:00Z ERROR owned \x1b[31mred\r\n",
    ];
    for reply in REPLIES {
        let server = FakeServer::new(Behavior::ReplyAlways(reply)).await;
        let url = server.url();
        let of = ["--stream", "s", "--group", "g"];
        for (command, args) in [("check", &[][..]), ("status", &["--observe", "0s"]), ("pending", &of)] {
            for login in ["", ":pw@"] {
                let url = url.replace("//", &format!("//{login}"));
                let finished =
                    Streamgauge::command(command).args(["--redis-url", &url]).args(args).run().await;
                // The reply to a login may repeat the password.
                let expected = if login.is_empty() { ["owned", "2J"] } else { ["not shown"; 2] };
                assert!(expected.iter().any(|part| format!("{finished:?}").contains(part)), "{finished:?}");
                assert_output_harmless(command, &finished);
            }
        }
        for format in ["text", "json"] {
            let args = ["--redis-url", &url, "--interval", "300ms", "--log-format", format];
            let exporter = Streamgauge::serve().args(args).serving().await;
            wait_until(SOON, "it fails", async || exporter.stderr().contains("cannot ")).await;
            for path in ["/", "/api/v1/groups"] {
                let page = exporter.get(path).await.text();
                assert!(!page.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}']), "{path}: {page}");
            }
            assert_output_harmless(format, &exporter.stop().await);
        }
        let produce = ["--redis-url", &url, "--stream", "s", "--count", "1"];
        let producer = Streamgauge::command("produce").args(produce).spawn();
        wait_until(SOON, "it fails", async || !producer.stderr().is_empty()).await;
        assert_output_harmless("produce", &producer.stop().await);
    }
}

#[tokio::test]
async fn hostile_arguments_and_files_are_printed_harmlessly() {
    let hostile = "x\u{1b}]0;owned\u{7}\n2026-01-01T00:00:00Z ERROR owned\u{202e}";
    let file = format!("/nowhere/{hostile}");
    let url = format!("redis://{hostile}");
    let unknown = format!("--{hostile}");
    let cases: [(&str, &[&str]); 8] = [
        ("check", &["--config", &file]),
        ("check", &["--redis-url", &url]),
        ("serve", &["--redis-url", "redis://cache", "--listen", hostile]),
        ("serve", &[&unknown]),
        ("status", &["--server", &url]),
        ("produce", &["--redis-url", "redis://cache", "--stream", "s", "--count", hostile]),
        ("rules", &["--config", &file]),
        (hostile, &[]),
    ];
    for (command, args) in cases {
        let finished = Streamgauge::command(command).args(args).run().await;
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert_output_harmless(command, &finished);
    }
    let config = ConfigFile::new(&format!(
        "{}: 1\ntargets: [{{url: {}}}]\n",
        yaml(hostile.as_bytes()),
        yaml(hostile.as_bytes())
    ));
    let finished = config.command("check").run().await;
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert_output_harmless("check", &finished);
    assert!(
        finished.stderr.lines().all(|line| line.starts_with(config.path().to_str().expect("a path"))),
        "{finished:?}"
    );
}

#[tokio::test]
async fn entries_on_a_terminal_are_json_without_invisible_characters() {
    let server = Server::start(newest(), &[]).await;
    let _client = with_hostile_names(&server).await;
    let name = String::from_utf8_lossy(HOSTILE[2]).into_owned();
    let args = ["--redis-url", &server.url(), "--stream", &name, "--group", "new", "--log-level", "error"];
    let terminal = Terminal::open(&Streamgauge::command("consume").args(args).into_command(), 24, 200);
    terminal.shows_all(&["\\u009b2J\\u009d0;owned\\u009c"]).await;
    let written = String::from_utf8(terminal.bytes()).expect("UTF-8");
    assert_harmless("consume", &written.replace("\r\n", "\n"));
}
