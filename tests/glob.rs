//! Redis' glob dialect, held against every server: random patterns over random keys.

#![expect(clippy::unwrap_used, reason = "clippy does not take a test's own helpers for tests")]

use std::collections::BTreeSet;

use redis_stream_core::glob::Glob;

mod support;

use support::client::RedisClient;
use support::servers::for_each_server;

/// The bytes of keys and patterns: every special one, and few others, so that matches are frequent. None
/// beyond ASCII: there, servers differ by processor.
const ALPHABET: &[u8] = b"abcz[]^-\\*?";

fn random_bytes(random: &mut fastrand::Rng, longest: usize) -> Vec<u8> {
    (0..random.usize(..=longest)).map(|_| *random.choice(ALPHABET).unwrap()).collect()
}

#[tokio::test]
async fn patterns_match_the_keys_that_every_server_matches() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    for_each_server(async |server| {
        compare(RedisClient::to(&server).await, fastrand::Rng::with_seed(seed)).await;
    })
    .await;
}

async fn compare(mut client: RedisClient, mut random: fastrand::Rng) {
    let mut keys: BTreeSet<Vec<u8>> = (0..400).map(|_| random_bytes(&mut random, 5)).collect();
    keys.insert(Vec::new());
    let mut filling = vec![b"MSET".to_vec()];
    filling.extend(keys.iter().flat_map(|key| [key.clone(), b"value".to_vec()]));
    client.ask::<String>(&filling).await;

    let mut patterns: Vec<Vec<u8>> = (0..1000).map(|_| random_bytes(&mut random, 8)).collect();
    patterns.extend(
        [&b""[..], b"*", b"**", b"[", b"[^", b"[a-", b"[a-]", b"[z-a]", b"a*a*a*b"].map(<[u8]>::to_vec),
    );
    let mut matched = 0;
    for pattern in patterns {
        let glob = Glob::new(pattern.clone());
        let ours: BTreeSet<_> = keys.iter().filter(|key| glob.matches(key)).cloned().collect();
        let by_keys: BTreeSet<Vec<u8>> = client.ask(&[&b"KEYS"[..], &pattern]).await;
        let scan = [&b"SCAN"[..], b"0", b"COUNT", b"10000", b"MATCH", &pattern];
        let (_, by_scan): (u64, BTreeSet<Vec<u8>>) = client.ask(&scan).await;
        assert_eq!(show(&ours), show(&by_keys), "KEYS {glob}");
        assert_eq!(show(&ours), show(&by_scan), "SCAN MATCH {glob}");
        matched += ours.len();
    }
    assert!(matched > 1000, "only {matched} matches in all: this compares next to nothing");
}

fn show(keys: &BTreeSet<Vec<u8>>) -> Vec<String> {
    keys.iter().map(|key| key.escape_ascii().to_string()).collect()
}
