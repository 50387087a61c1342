//! A server with consumer groups in every status, and an exporter that polls it.

use std::time::Duration;

use crate::support::client::RedisClient;
use crate::support::config::ConfigFile;
use crate::support::program::Exporter;
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::wait_for;

/// A window of 3 s, so that each status is reached soon.
const SETTINGS: &str = "poll: {interval: 250ms, timeout: 240ms, stale_after: 30s, discovery_interval: 250ms}
status: {window: 3s}
";

/// A name that is harmful as markup.
pub(crate) const HOSTILE: &str = "<script>window.harmed=1</script>\"'><img src=x onerror=window.harmed=2>";
/// A name with a change of direction and a control character, too long for a table.
pub(crate) const ODD: &[u8] = b"abc\xe2\x80\xaefed\x1b[31m\xff";

/// A server, and the exporter that polls it.
pub(crate) struct Scenario {
    pub(crate) server: Server,
    pub(crate) exporter: Exporter,
}

impl Scenario {
    /// Starts a server with groups that do not advance: `abandoned` with undelivered entries, `calm` with none, and more.
    pub(crate) async fn begin() -> Self {
        let server = Server::start(newest(), &[]).await;
        let mut client = RedisClient::to(&server).await;
        client.run("XGROUP CREATE orders calm $ MKSTREAM\nXGROUP CREATE orders abandoned 0").await;
        for n in 0..1_200 {
            client.run(&format!("XADD orders * n {n}")).await;
        }
        client
            .run("XGROUP CREATE orders busy 0\nXREADGROUP GROUP busy worker-1 COUNT 1100 STREAMS orders >")
            .await;
        client.run("XGROUP SETID orders calm $\nXGROUP CREATECONSUMER orders calm idler").await;
        let hostile = HOSTILE.as_bytes();
        let long = vec![b'x'; 10_000];
        for group in [hostile, ODD, &long, b"..", "\u{645}\u{631}\u{62d}\u{628}\u{627}".as_bytes()] {
            client.ask::<()>(&[&b"XGROUP"[..], b"CREATE", b"names", group, b"$", b"MKSTREAM"]).await;
        }
        client.ask::<String>(&[&b"XADD"[..], hostile, b"*", b"f", b"v"]).await;
        client.ask::<()>(&[&b"XGROUP"[..], b"CREATE", hostile, hostile, b"0"]).await;
        client.ask::<()>(&[&b"XGROUP"[..], b"CREATECONSUMER", hostile, hostile, hostile]).await;
        for n in 0..60 {
            client.run(&format!("XGROUP CREATE many g{n:02} $ MKSTREAM")).await;
        }
        let exporter = Self::watch(&server, SETTINGS).await;
        let scenario = Self { server, exporter };
        scenario
            .shows(
                "abandoned is abandoned",
                "\"group\":\"abandoned\",\"family\":null,\"up\":true,\"status\":\"abandoned\"",
            )
            .await;
        scenario
            .shows("calm is ok", "\"group\":\"calm\",\"family\":null,\"up\":true,\"status\":\"ok\"")
            .await;
        scenario
    }

    /// Starts an exporter of this server, and of one that does not exist.
    pub(crate) async fn watch(server: &Server, settings: &str) -> Exporter {
        let config = ConfigFile::new(&format!(
            "{settings}targets:
  - {{name: shop, url: '{}', streams: [{{key: orders, groups: {{include: ['*', wanted]}}}}, {{key: '*'}}]}}
  - {{name: <b>gone</b>, url: 'redis://127.0.0.1:1'}}
alerts:
  recommended: false
  rules:
    - {{alert: Behind, expr: lag > 1000, annotations: {{summary: '{{{{ $labels.group }}}} is {{{{ $value }}}} behind'}}}}
    - {{alert: Waiting, expr: lag > 0, for: 1h}}
",
            server.url()
        ));
        config.serve().serving().await
    }

    /// Waits until the groups, as JSON, contain a text.
    pub(crate) async fn shows(&self, what: &str, text: &str) {
        wait_for(Duration::from_secs(60), what, async || {
            let shown = self.exporter.get("/api/v1/groups").await.text();
            if shown.contains(text) { Ok(()) } else { Err(shown.chars().take(2_000).collect::<String>()) }
        })
        .await;
    }

    /// Returns the URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.exporter.address)
    }

    pub(crate) async fn client(&self) -> RedisClient {
        RedisClient::to(&self.server).await
    }
}
