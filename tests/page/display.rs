//! The display in a browser: the worst group first, the numbers of the metrics, advice; and no error in the console.

use crate::browser::{Browser, Scheme};
use crate::scenario::Scenario;

#[tokio::test]
async fn the_console_stays_empty() {
    let Some(browser) = Browser::start().await else { return };
    let scenario = Scenario::begin().await;
    let page = browser.page(1_000, 800, Scheme::Light).await;
    for path in [
        "/",
        "/groups/shop/db0/orders/abandoned",
        "/streams/shop/db0/orders",
        "/?fold=no&page=2",
        "/groups/%3Cb%3Egone%3C%2Fb%3E/db0/s/g",
    ] {
        page.go(&scenario.url(path)).await;
        // Waits until the page was refreshed.
        page.eval("window.before = performance.getEntriesByType('resource').length").await;
        page.wait("performance.getEntriesByType('resource').length > window.before").await;
        page.assert_no_complaint();
    }
}

#[tokio::test]
async fn the_worst_comes_first_and_each_number_is_the_one_of_the_metrics() {
    let Some(browser) = Browser::start().await else { return };
    let scenario = Scenario::begin().await;
    let page = browser.page(1_400, 900, Scheme::Light).await;
    page.go(&scenario.url("/?fold=no")).await;
    let rows = page
        .eval("[...document.querySelectorAll('#groups-list tbody tr')].map((row) => [...row.cells].map((cell) => cell.innerText.trim()))")
        .await;
    let rows: Vec<Vec<String>> = serde_json::from_value(rows).unwrap();
    assert_eq!(rows.len(), 50);
    assert_eq!(rows[0][..2], ["\u{2716} missing", "wanted"], "{:?}", rows[0]);
    let abandoned = rows.iter().find(|row| row[1] == "abandoned").unwrap();
    assert!(abandoned[0].starts_with("\u{2716} abandoned\nsince "), "{abandoned:?}");
    assert!(abandoned[3].starts_with("1,200"), "{abandoned:?}");
    assert_eq!((abandoned[8].as_str(), abandoned[9].as_str()), ("0", "0"));
    assert!(abandoned[2].starts_with("orders"), "{abandoned:?}");
    let busy = rows.iter().find(|row| row[1] == "busy").unwrap();
    assert!(busy[3].starts_with("100") && busy[8].starts_with("1,100\noldest "), "{busy:?}");
    assert_eq!(busy[9], "1");
    let place = |name: &str| rows.iter().position(|row| row[1] == name).unwrap_or(50);
    assert!(place("abandoned") < place("calm"));
    let summary = page.text("#summary").await;
    assert!(summary.contains("<b>gone</b>") && summary.contains("on 2 targets"), "{summary}");
    assert!(page.text("#alerts").await.contains("abandoned is 1200 behind"));

    page.go(&scenario.url("/groups/shop/db0/orders/abandoned")).await;
    let text = page.text("main").await;
    for part in [
        "abandoned",
        "there is no consumer",
        "Lag\n1,200",
        "There are none.",
        "abandoned is 1200 behind",
        "XGROUP DESTROY orders abandoned",
        "This changes data.",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
