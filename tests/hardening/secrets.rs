//! Servers and receivers that repeat the secrets that were sent to them.

use crate::support::config::{ConfigFile, QUICK};
use crate::support::fake_server::{Behavior, FakeServer};
use crate::support::program::Streamgauge;
use crate::support::receiver::TestReceiver;
use crate::support::server::Server;
use crate::support::servers::for_each_program;
use crate::support::watch::keeps_failing;

const PASSWORD: &str = "hunter2 with \"quotes\"";

/// Returns everything that streamgauge shows about a target whose server repeats the password.
async fn shown_about(address: &str) -> String {
    let (config, password) = of_target(address);
    let url = format!("redis://{address}");
    let server = ["--redis-url", &url, "--redis-password-file", &password];
    let group = ["--stream", "s", "--group", "g"];
    let runs = [
        config.command("check"),
        config.command("status"),
        config.command("status").args(["--json"]),
        Streamgauge::command("pending").args(server).args(group),
    ];
    let mut seen = ended(runs).await;
    let exporter = config.serve().args(["--log-level", "trace"]).serving().await;
    keeps_failing(&exporter, "auth").await;
    for path in ["/", "/metrics", "/api/v1/groups", "/api/v1/alerts", "/-/ready"] {
        seen += &exporter.get(path).await.text();
    }
    let finished = exporter.stop().await;
    seen + &finished.stdout + &finished.stderr
}

/// Returns a configuration with its password in a file, and the path of that file.
fn of_target(address: &str) -> (ConfigFile, String) {
    let config = ConfigFile::new(&format!(
        "{QUICK}targets: [{{name: t, url: 'redis://{address}', password_file: pw}}]\n"
    ));
    let password = config.put("pw", &format!("{PASSWORD}\n"));
    let password = password.to_str().expect("a temporary folder has a plain name").to_owned();
    (config, password)
}

/// Returns the output of commands that fail.
async fn ended(runs: impl IntoIterator<Item = Streamgauge>) -> String {
    let mut seen = String::new();
    for run in runs {
        let finished = run.args(["--log-level", "trace"]).run().await;
        assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
        seen += &(finished.stdout + &finished.stderr);
    }
    seen
}

fn assert_hidden(seen: &str) {
    for part in ["hunter2", "with \"quotes", "with \\\"quotes"] {
        assert!(!seen.contains(part), "{part} in {seen}");
    }
}

#[tokio::test]
async fn a_server_that_repeats_the_arguments_of_auth_does_not_make_the_password_appear() {
    for_each_program(async |program| {
        let server = Server::start(program, &["--rename-command", "AUTH", "LOGIN"]).await;
        let address = server.address().to_string();
        assert_hidden(&shown_about(&address).await);
        let (_config, password) = of_target(&address);
        let url = format!("redis://{address}");
        let server = ["--redis-url", &url, "--redis-password-file", &password, "--stream", "s"];
        let clients = [
            Streamgauge::command("consume").args(server).args(["--group", "g"]),
            Streamgauge::command("produce").args(server).args(["--count", "1"]),
        ];
        assert_hidden(&ended(clients).await);
    })
    .await;
    for reply in [
        "-ERR unknown command 'AUTH', with args beginning with: 'hunter2 with \"quotes\"' \r\n",
        "-hunter2 with \"quotes\"\r\n",
        "-WRONGPASS for hunter2 with \"quotes\"\r\n",
        "-NOAUTH hunter2 with \\\"quotes\\\"\r\n",
        "-ERR max number of clients; hunter2 with \"quotes\"\r\n",
    ] {
        let fake = FakeServer::new(Behavior::ReplyAlways(reply.as_bytes())).await;
        if reply.contains("max number") {
            let url = format!("redis://:hunter2%20with%20%22quotes%22@{}", fake.address);
            let finished = Streamgauge::command("check").args(["--redis-url", &url]).run().await;
            assert_hidden(&format!("{}{}", finished.stdout, finished.stderr));
        } else {
            assert_hidden(&shown_about(&fake.address.to_string()).await);
        }
    }
}

#[tokio::test]
async fn a_receiver_that_repeats_a_token_or_its_url_does_not_make_it_appear() {
    let reply = "HTTP/1.1 400 Bad Request\r\nContent-Length: 46\r\n\r\nno /services/B0123456789/hunter3 nor hunter2-to";
    let receiver = TestReceiver::answering(reply).await;
    let config = ConfigFile::new(&format!(
        "{QUICK}targets: [{{name: t, url: 'redis://127.0.0.1:1'}}]
alerts:
  recommended: false
  rules: [{{alert: Down, expr: target_up == 0}}]
  notifiers:
    - {{name: w, webhook: {{url: 'http://{}/services/B0123456789/hunter3', bearer_token_file: token}}}}
",
        receiver.address
    ));
    config.put("token", "hunter2-token\n");
    let exporter = config.serve().args(["--log-level", "trace"]).serving().await;
    receiver.until_received(1).await;
    let mut seen = String::new();
    for path in ["/", "/metrics", "/alerts", "/api/v1/alerts"] {
        seen += &exporter.get(path).await.text();
    }
    let finished = exporter.stop().await;
    seen += &(finished.stdout + &finished.stderr);
    for part in ["hunter2", "hunter3", "B0123456789"] {
        assert!(!seen.contains(part), "{part} in {seen}");
    }
}
