//! Connections that are cut at the worst moment, by a proxy that sees what goes through it; and what follows.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use redis::Value;
use redis_stream_consumer::connect_options::ConnectOptions;
use redis_stream_consumer::consume::ConsumerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::member::{DEADLINE, Recorder, Running, add, member, pending, send};
use crate::support::server::Server;
use crate::support::servers::{for_each_server, newest};
use crate::support::wait::wait_until;

/// Where the proxy cuts, once.
#[derive(Clone, Copy)]
enum Cut {
    /// Before it passes on a command with this text, the second of them.
    Second(&'static str),
    /// Within the first reply that is larger than this.
    WithinReplyOver(usize),
}

/// A proxy in front of `server`, which cuts one connection.
async fn proxy(server: &Server, cut: Cut) -> (SocketAddr, Arc<AtomicI64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (address, upstream) = (listener.local_addr().unwrap(), server.address());
    // Matches until the cut.
    let left = Arc::new(AtomicI64::new(match cut {
        Cut::Second(_) => 2,
        Cut::WithinReplyOver(_) => 1,
    }));
    let budget = Arc::clone(&left);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(upstream).await else { continue };
            let budget = Arc::clone(&budget);
            tokio::spawn(async move { carry(client, server, cut, &budget).await });
        }
    });
    (address, left)
}

async fn carry(mut client: TcpStream, mut server: TcpStream, cut: Cut, left: &AtomicI64) {
    let (mut said, mut replied) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut said) => {
                let Ok(count @ 1..) = read else { return };
                let is_it = matches!(cut, Cut::Second(text) if has(&said[..count], text));
                if is_it && left.fetch_sub(1, Ordering::SeqCst) == 1 {
                    return;
                }
                if server.write_all(&said[..count]).await.is_err() { return }
            }
            read = server.read(&mut replied) => {
                let Ok(count @ 1..) = read else { return };
                let is_it = matches!(cut, Cut::WithinReplyOver(bytes) if count > bytes);
                if is_it && left.fetch_sub(1, Ordering::SeqCst) == 1 {
                    // Within a string, three bytes before the end of the reply.
                    let _ = client.write_all(&replied[..count - 3]).await;
                    return;
                }
                if client.write_all(&replied[..count]).await.is_err() { return }
            }
        }
    }
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn through(address: SocketAddr, config: ConsumerConfig) -> ConsumerConfig {
    let connect = ConnectOptions::new(&format!("redis://{address}"), None, None).unwrap();
    ConsumerConfig { connect, ..config }
}

#[tokio::test]
async fn a_connection_cut_between_two_claims_leaves_no_entry_behind() {
    for_each_server(async |server| {
        let mut connection = server.connection().await;
        add(&server, 1, 40).await;
        let () = send(&mut connection, "XGROUP CREATE orders billing 0").await;
        // Unfinished entries of its own, read at different times, so that they need several claims.
        for _ in 0..40 {
            let _: Value =
                send(&mut connection, "XREADGROUP GROUP billing one COUNT 1 STREAMS orders >").await;
        }
        let (address, left) = proxy(&server, Cut::Second("XCLAIM")).await;
        let config = ConsumerConfig { concurrency: 40, ..through(address, member(&server, "one")) };
        let running = Running::start(config, Recorder::default());
        wait_until(DEADLINE, "all are handled", async || running.recorder.distinct().len() == 40).await;
        wait_until(DEADLINE, "nothing is pending", async || pending(&mut connection).await == Some(0)).await;
        assert!(left.load(Ordering::SeqCst) <= 0, "it was cut");
        running.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_reply_cut_off_in_the_middle_is_a_lost_connection() {
    for_each_server(async |server| {
        add(&server, 1, 500).await;
        let (address, left) = proxy(&server, Cut::WithinReplyOver(2_000)).await;
        let running = Running::start(through(address, member(&server, "one")), Recorder::default());
        wait_until(DEADLINE, "all are handled", async || running.recorder.distinct().len() == 500).await;
        assert!(left.load(Ordering::SeqCst) <= 0, "it was cut");
        running.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_idle_consumer_reads_on_at_once_after_a_flush() {
    for_each_server(async |server| {
        let mut connection = server.connection().await;
        add(&server, 1, 1).await;
        let config = ConsumerConfig { claim_min_idle: Duration::from_secs(600), ..member(&server, "one") };
        let running = Running::start(config, Recorder::default());
        running.has_seen(1).await;
        wait_until(DEADLINE, "it is idle", async || pending(&mut connection).await == Some(0)).await;
        let () = send(&mut connection, "FLUSHALL").await;
        wait_until(DEADLINE, "the group is back", async || pending(&mut connection).await == Some(0)).await;
        add(&server, 2, 1).await;
        // Not only when the next heartbeat comes, after a quarter of 10 minutes.
        running.has_seen(2).await;
        running.stop().await;
    })
    .await;
}

#[tokio::test]
async fn queued_entries_that_are_trimmed_meanwhile_are_handled_all_the_same() {
    for_each_server(async |server| {
        let mut connection = server.connection().await;
        add(&server, 1, 20).await;
        // The heartbeat comes several times while they wait.
        let config = ConsumerConfig { claim_min_idle: Duration::from_millis(400), ..member(&server, "one") };
        let recorder = Recorder { work_time: Duration::from_millis(50), ..Recorder::default() };
        let running = Running::start(config, recorder);
        running.has_seen(1).await;
        let () = send(&mut connection, "XTRIM orders MAXLEN 0").await;
        running.has_seen(20).await;
        wait_until(DEADLINE, "nothing is pending", async || pending(&mut connection).await == Some(0)).await;
        let (recorder, _) = running.stop().await;
        assert_eq!(recorder.numbers(), (1..=20).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn a_backlog_of_its_own_and_a_lost_connection_cost_no_processor() {
    let server = Server::start(newest(), &[]).await;
    let mut connection = server.connection().await;
    add(&server, 1, 2_500).await;
    let () = send(&mut connection, "XGROUP CREATE orders billing 0").await;
    let _: Value = send(&mut connection, "XREADGROUP GROUP billing one COUNT 2500 STREAMS orders >").await;
    let recorder = Recorder { work_time: Duration::from_secs(5), ..Recorder::default() };
    // A heartbeat each second finds the connection gone.
    let config = ConsumerConfig { claim_min_idle: Duration::from_secs(4), ..member(&server, "one") };
    let running = Running::start(config, recorder);
    wait_until(DEADLINE, "it is at work", async || {
        let clients: String = send(&mut connection, "CLIENT LIST").await;
        clients.lines().any(|line| line.contains("cmd=xclaim"))
    })
    .await;
    let _: Value = send(&mut connection, "CLIENT KILL TYPE normal SKIPME yes").await;
    // Twice the time after which it looks again.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let before = own_cpu_ticks();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = own_cpu_ticks() - before;
    assert!(used < 50, "{used} of 200 ticks");
    running.crash();
}

/// CPU time of this thread, and so of this test with its consumer, in hundredths of a second.
fn own_cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, after) = stat.rsplit_once(')').unwrap();
    let ticks = |field: usize| after.split_whitespace().nth(field).unwrap().parse::<u64>().unwrap();
    ticks(11) + ticks(12)
}
