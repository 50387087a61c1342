//! The responses, as any client receives them.

use std::collections::BTreeSet;

use crate::scenario::{HOSTILE, Scenario};
use crate::support::http::{self, Response};

const GROUP: &str = "/groups/shop/db0/orders/abandoned";

#[tokio::test]
async fn pages_are_sent_with_what_browsers_must_know_of_them() {
    let scenario = Scenario::begin().await;
    let exporter = &scenario.exporter;
    for (path, status) in [("/", 200), (GROUP, 200), ("/groups/shop/db0/orders/nobody", 404)] {
        let answer = exporter.get(path).await;
        assert_eq!(answer.status, status, "{path}");
        let header =
            |name: &str| answer.header(name).unwrap_or_else(|| panic!("{path} has no {name}")).to_owned();
        assert_eq!(header("content-type"), "text/html; charset=utf-8");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-frame-options"), "DENY");
        let policy = header("content-security-policy");
        for directive in
            ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]
        {
            assert!(policy.split("; ").any(|one| one == directive), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let text = answer.text();
        assert!(!text.contains("<script>") && !text.contains("<img") && !text.contains(" style="), "{path}");
        let packed = http::get_with(exporter.address, path, &[("accept-encoding", "gzip")]).await;
        assert_eq!(packed.header("content-encoding"), Some("gzip"), "{path}");
        assert!(packed.text().starts_with("<!DOCTYPE html>") && packed.body.len() < text.len(), "{path}");
    }
    for path in
        ["/groups/shop/db1/orders/abandoned", "/groups/x/db0/orders/abandoned", "/assets/00000000/page.js"]
    {
        assert_eq!(exporter.get(path).await.status, 404, "{path}");
    }
    // No server answers there, so the group may exist.
    let dark = exporter.get("/groups/%3Cb%3Egone%3C%2Fb%3E/db0/s/g").await;
    assert_eq!(dark.status, 200);
    assert!(dark.text().contains("Nothing is known of this group at present"), "{}", dark.text());
}

#[tokio::test]
async fn every_link_leads_somewhere_whatever_the_names_are() {
    let scenario = Scenario::begin().await;
    let get = async |path: &str| scenario.exporter.get(path).await;
    let first = get("/").await;
    let assets: Vec<_> = links(&first).into_iter().filter(|link| link.contains("assets/")).collect();
    assert_eq!(assets.len(), 3, "{assets:?}");
    for asset in assets {
        let answer = get(&asset).await;
        assert_eq!(answer.status, 200, "{asset}");
        assert!(answer.header("cache-control").is_some_and(|cache| cache.contains("immutable")), "{asset}");
    }
    let mut groups = BTreeSet::new();
    for page in 1..=2 {
        let listed = get(&format!("/?fold=no&page={page}")).await;
        groups.extend(links(&listed).into_iter().filter(|link| link.starts_with("/groups/")));
    }
    // The other name of 10 kB is too long for a link.
    assert!(groups.len() >= 60 + 3 + 6, "{}", groups.len());
    for path in &groups {
        let answer = get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.text().contains("What to try"), "{path}");
    }
    let hostile = get(&format!(
        "/?q={}",
        percent_encoding::utf8_percent_encode(HOSTILE, percent_encoding::NON_ALPHANUMERIC)
    ))
    .await;
    assert!(hostile.text().contains("2 groups"), "the search finds it");
}

/// Returns the links of a page, as paths from the root.
fn links(answer: &Response) -> BTreeSet<String> {
    let text = answer.text();
    let links = [" href=\"", " src=\""]
        .into_iter()
        .flat_map(|start| text.split(start).skip(1).map(|rest| rest.split('"').next().unwrap()));
    let ours = links.filter(|link| !link.starts_with(['#', '?']) && !link.starts_with("./?"));
    ours.map(|link| format!("/{}", link.trim_start_matches("./").replace("&amp;", "&"))).collect()
}

#[tokio::test]
async fn unknown_pages_of_assets_and_groups_are_counted_by_their_route() {
    let scenario = Scenario::begin().await;
    scenario.exporter.get(GROUP).await;
    let metrics = scenario.exporter.metrics().await;
    let route = "/groups/{target}/{db}/{stream}/{group}";
    assert_eq!(metrics[&format!("streamgauge_http_requests_total{{code=\"200\",route=\"{route}\"}}")], 1.0);
}
