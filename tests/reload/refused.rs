//! Configurations that are not used, or not wholly.

use crate::fixture::{QUICK, Reloading, SOON, server, value, was_successful};
use crate::support::wait::wait_until;

const RELOADED_AT: &str = "streamgauge_config_last_reload_success_timestamp_seconds";

#[tokio::test]
async fn a_wrong_file_changes_nothing_and_says_why() {
    let (server, _talk) = server().await;
    let good = format!("{QUICK}targets: [{{name: t, url: '{}'}}]", server.url());
    let reloading = Reloading::start(&good).await;
    let before = reloading.exporter.metrics().await;
    assert_eq!(was_successful(&before), 1.0);

    let wrong = good.replace("name: t", "name: other, rle: master").replace("190ms", "1h");
    let refused = reloading.try_to(&wrong).await;
    assert_eq!(refused.status, 500);
    let text = refused.text();
    assert!(text.starts_with("failed to reload: "), "{text}");
    for fault in ["targets[0].rle: unknown key; did you mean role?", "poll.timeout: 1h is not below"] {
        assert!(text.contains(fault), "{text}");
    }
    let metrics = reloading
        .metrics_when("it is polled as before", |metrics| {
            value(metrics, "streamgauge_target_up", &["target=\"t\""]) == Some(1.0)
        })
        .await;
    assert_eq!((was_successful(&metrics), metrics[RELOADED_AT]), (0.0, before[RELOADED_AT]));

    // The same without the file, which is logged as well, by SIGHUP.
    std::fs::remove_file(reloading.file.path()).unwrap();
    reloading.exporter.hang_up();
    wait_until(SOON, "it says why", async || {
        let log = reloading.exporter.stderr();
        log.lines().any(|line| line.contains("the old one stays") && line.contains("No such file"))
    })
    .await;
    reloading.to(&good).await;
    let metrics = reloading.exporter.metrics().await;
    assert_eq!(was_successful(&metrics), 1.0);
    assert!(metrics[RELOADED_AT] > before[RELOADED_AT]);
}

#[tokio::test]
async fn what_takes_effect_at_the_next_start_only_says_so() {
    let (server, _talk) = server().await;
    let target = format!("{{name: t, url: '{}'}}", server.url());
    let reloading = Reloading::start(&format!("{QUICK}targets: [{target}]")).await;
    let web = "{enable_reload: true, probe_listen: '127.0.0.1:1'}";
    let changed = QUICK.replace("{enable_reload: true}", web);
    let changed = format!(
        "{changed}metrics: {{exclude: ['redis_*']}}\ntargets: [{target}, {{url: 'redis://127.0.0.1:1'}}]"
    );
    for _ in 0..2 {
        let response = reloading.try_to(&changed).await;
        assert_eq!(response.status, 200);
        let left = "changed, but takes effect at the next start only";
        assert_eq!(response.text(), format!("reloaded\nweb.probe_listen: {left}\nmetrics: {left}\n"));
    }
    // The rest is in force.
    let metrics = reloading.exporter.metrics().await;
    assert!(value(&metrics, "streamgauge_target_up", &["127.0.0.1:1"]).is_some());
    assert_eq!(was_successful(&metrics), 1.0);

    let labelled = format!("{QUICK}targets: [{}]", target.replace("name: t", "name: t, labels: {team: x}"));
    let response = reloading.try_to(&labelled).await;
    assert_eq!(response.status, 500);
    assert!(response.text().contains("restart to change them"), "{}", response.text());
}
