//! The screenshots of the documents, from real servers: `make pictures` stores them. Otherwise the test only checks that
//! they can be made and are small.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::{Instant, sleep_until};

use crate::browser::{Browser, Scheme};
use crate::screen;
use crate::support::client::RedisClient;
use crate::support::config::ConfigFile;
use crate::support::pty::Terminal;
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::wait_for;

const PROGRAM: &str = env!("CARGO_BIN_EXE_streamgauge");
const MAX_BYTES: usize = 200 * 1024;
/// Time before the screenshots that are stored: charts need some history.
const STORY: Duration = Duration::from_secs(150);
const STEP: Duration = Duration::from_millis(500);

/// Adds and reads entries once, as the services of a shop would.
async fn step(client: &mut RedisClient, step: u32) {
    let wave = [1, 2, 4, 7, 4, 2][(step / 10 % 6) as usize];
    for n in 0..wave + 4 {
        client.run(&format!("XADD orders * step {step} n {n}")).await;
    }
    client.run("XADD payments * f v\nXADD thumbnails * f v").await;
    let ids = |group: &str, stream: &str, count: u32| {
        format!("XREADGROUP GROUP {group} {group}-1 COUNT {count} NOACK STREAMS {stream} >")
    };
    let all = [ids("billing", "orders", 1_000), ids("mail", "orders", 4), ids("ledger", "payments", 100)];
    client.run(&all.join("\n")).await;
    if step.is_multiple_of(12) {
        client.run(&ids("reports", "orders", 80)).await;
    }
    client.run(&ids("resize", "thumbnails", 100)).await;
    // Reads its own pending entries again, and acknowledges none.
    client.run("XREADGROUP GROUP audit audit-1 STREAMS orders 0").await;
}

async fn begin(client: &mut RedisClient) {
    for (stream, groups) in [
        ("orders", &["billing", "mail", "audit", "reports", "search"][..]),
        ("payments", &["ledger"]),
        ("thumbnails", &["resize"]),
    ] {
        for group in groups {
            client.run(&format!("XGROUP CREATE {stream} {group} 0 MKSTREAM")).await;
        }
    }
    client.run("XADD orders * f v\nXADD thumbnails * f v\nXADD thumbnails * f v").await;
    client.run("XREADGROUP GROUP audit audit-1 COUNT 1 STREAMS orders >").await;
    client.run("XREADGROUP GROUP resize resize-2 COUNT 2 STREAMS thumbnails >").await;
}

#[tokio::test]
async fn the_pictures_can_be_made_and_are_small() {
    let Some(browser) = Browser::start().await else { return };
    let folder = env::var_os("STREAMGAUGE_PICTURES").map(PathBuf::from);
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    begin(&mut client).await;
    let config = ConfigFile::new(&format!(
        "poll: {{interval: 1s}}\nstatus: {{window: 20s}}\ntargets: [{{name: shop, url: '{}'}}]
alerts:
  rules: [{{alert: OrdersLagHigh, stream: orders, expr: lag > 500, annotations: {{summary: '{{{{ $labels.group }}}} is {{{{ $value }}}} entries behind on {{{{ $labels.stream }}}}'}}}}]
",
        server.url()
    ));
    let exporter = config.serve().serving().await;
    let began = now();
    let mut at = 0;
    wait_for(STORY + Duration::from_secs(60), "the scenario is told", async || {
        step(&mut client, at).await;
        at += 1;
        if folder.is_some() {
            sleep_until(began + STEP * at).await;
            return if began.elapsed() >= STORY { Ok(()) } else { Err("it goes on") };
        }
        let shown = exporter.get("/api/v1/groups").await.text();
        if shown.contains("\"group\":\"search\"") { Ok(()) } else { Err("the groups are not known") }
    })
    .await;
    let url = |path: &str| format!("http://{}{path}", exporter.address);
    for (name, path, scheme, width, height) in [
        ("status-page", "/", Scheme::Light, 1_280, 900),
        ("status-page-dark", "/", Scheme::Dark, 1_280, 900),
        ("group-page", "/groups/shop/db0/orders/mail", Scheme::Light, 1_280, 1_250),
        ("status-page-phone", "/", Scheme::Light, 360, 800),
    ] {
        let page = browser.page(width, height, scheme).await;
        page.go(&url(path)).await;
        let picture = page.picture().await;
        assert!(picture.len() < MAX_BYTES, "{name}: {} bytes", picture.len());
        assert!(picture.starts_with(b"\x89PNG"), "{name}");
        if let Some(folder) = &folder {
            fs::write(folder.join(format!("{name}.png")), picture).unwrap();
        }
        page.assert_no_complaint();
    }
    let picture = terminal(&browser, exporter.address).await;
    assert!(picture.len() < MAX_BYTES, "terminal: {} bytes", picture.len());
    if let Some(folder) = &folder {
        fs::write(folder.join("terminal.png"), picture).unwrap();
    }
}

/// Returns the output of `streamgauge status` in a terminal.
async fn terminal(browser: &Browser, address: SocketAddr) -> Vec<u8> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "echo '$ streamgauge status --server http://localhost:10121'; exec \"$0\" \"$@\""]);
    command.arg(PROGRAM).args(["status", "--server", &format!("http://{address}")]).env_remove("NO_COLOR");
    let mut terminal = Terminal::open(&command, 12, 80);
    assert_eq!(terminal.ended().await, Some(0));
    terminal.shows_all(&["--server", "search", "thumbnails"]).await;
    let page = browser.page(800, 310, Scheme::Dark).await;
    page.go(&format!("data:text/html;base64,{}", STANDARD.encode(terminal.look(screen::page)))).await;
    page.picture().await
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "measures the length of a scenario")]
    Instant::now()
}
