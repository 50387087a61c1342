//! The share of the retained entries that a group lacks, on real servers: it warns of trims that can overtake a group, and
//! of no others.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use redis::aio::MultiplexedConnection;
use support::polled::Polled;
use support::server::Server;
use support::servers::{Program, ServerKind, for_each_program};
use support::snapshot::{StreamSnapshot, ask};

/// A stream with a group that keeps up and one that does not, polled after each step.
struct Trimmed {
    connection: MultiplexedConnection,
    polled: Polled,
    _server: Server,
}

impl Trimmed {
    async fn begin(program: &'static Program) -> Self {
        let server = Server::start(program, &[]).await;
        let mut trimmed = Self {
            connection: server.connection().await,
            polled: Polled::new(&server, &["s"], ""),
            _server: server,
        };
        trimmed.send("XGROUP CREATE s fast 0 MKSTREAM").await;
        trimmed.send("XGROUP CREATE s slow 0").await;
        trimmed
    }

    async fn send(&mut self, line: &str) {
        ask(&mut self.connection, &line.split_whitespace().collect::<Vec<_>>()).await.unwrap();
    }

    async fn add(&mut self, count: usize) {
        for _ in 0..count {
            self.send("XADD s * n 1").await;
        }
    }

    async fn read(&mut self, group: &str, count: usize) {
        self.send(&format!("XREADGROUP GROUP {group} me COUNT {count} NOACK STREAMS s >")).await;
    }

    /// Polls, and returns the ratio of each group.
    async fn ratios(&mut self) -> Vec<Option<f64>> {
        let report = self.polled.poll().await.unwrap();
        let groups = report.streams[0].groups.iter();
        groups
            .map(|group| group.values.as_ref().unwrap().seldom.retention_used.map(|used| used.ratio()))
            .collect()
    }

    async fn last_delivered(&mut self, group: &str) -> String {
        StreamSnapshot::read(&mut self.connection, "s").await.groups[group].0.to_string()
    }
}

fn reports_trimming(program: &Program) -> bool {
    program.version >= (7, 0, 0)
}

#[tokio::test]
async fn trims_up_to_the_slowest_group_do_not_count() {
    for_each_program(async |program| {
        for (added, read, approximately) in [(10, 10, "="), (120, 100, "="), (120, 110, "~"), (7, 1, "=")] {
            let mut stream = Trimmed::begin(program).await;
            stream.add(added).await;
            for _ in 0..8 {
                stream.add(added).await;
                stream.read("fast", 1_000).await;
                assert_eq!(stream.ratios().await, [None, None], "{added}, {read}");
                stream.read("slow", read).await;
                let position = stream.last_delivered("slow").await;
                stream.send(&format!("XTRIM s MINID {approximately} {position}")).await;
                assert_eq!(stream.ratios().await, [None, None], "{added}, {read}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn trims_of_what_is_acknowledged_do_not_count() {
    for_each_program(async |program| {
        if program.kind != ServerKind::Redis || program.version < (8, 2, 0) {
            return;
        }
        let mut stream = Trimmed::begin(program).await;
        for _ in 0..8 {
            stream.add(60).await;
            stream.read("fast", 1_000).await;
            assert_eq!(stream.ratios().await, [None, None]);
            stream.read("slow", 50).await;
            stream.send("XTRIM s MAXLEN = 5 ACKED").await;
            assert_eq!(stream.ratios().await, [None, None]);
        }
    })
    .await;
}

#[tokio::test]
async fn trims_to_a_length_count_and_cease_to_when_they_wait_for_the_slowest_group() {
    for_each_program(async |program| {
        for (length, kept_up_to) in [(500, 5), (20, 3)] {
            let mut stream = Trimmed::begin(program).await;
            for _ in 0..5 {
                stream.add(length).await;
                stream.send(&format!("XTRIM s MAXLEN = {length}")).await;
                stream.read("fast", 1_000).await;
                stream.read("slow", length - kept_up_to).await;
                stream.ratios().await;
                stream.read("slow", 1_000).await;
                stream.ratios().await;
            }
            let expected = reports_trimming(program).then_some(0.0);
            assert_eq!(stream.ratios().await, [expected, expected], "MAXLEN {length}");
        }
        let mut stream = Trimmed::begin(program).await;
        stream.add(400).await;
        stream.read("fast", 400).await;
        stream.read("slow", 390).await;
        stream.ratios().await;
        stream.add(10).await;
        stream.send("XTRIM s MAXLEN = 300").await;
        assert_eq!(stream.ratios().await.contains(&None), !reports_trimming(program));
        for _ in 0..4 {
            stream.add(10).await;
            stream.read("fast", 1_000).await;
            stream.read("slow", 10).await;
            let position = stream.last_delivered("slow").await;
            stream.send(&format!("XTRIM s MINID = {position}")).await;
            stream.ratios().await;
        }
        assert_eq!(stream.ratios().await, [None, None]);
    })
    .await;
}
