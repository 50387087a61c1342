//! Interaction: sorting, searching, and live refresh; with a keyboard, and without scripts.

use crate::browser::{Browser, Page, Scheme};
use crate::scenario::Scenario;

/// Returns the names in the table, from the top.
const NAMES: &str =
    "[...document.querySelectorAll('#groups-list tbody th')].map((cell) => cell.innerText.trim())";

async fn names(page: &Page<'_>) -> Vec<String> {
    serde_json::from_value(page.eval(NAMES).await).unwrap()
}

#[tokio::test]
async fn a_click_on_a_heading_sorts_and_a_second_one_turns_round() {
    let Some(browser) = Browser::start().await else { return };
    let scenario = Scenario::begin().await;
    let page = browser.page(1_400, 900, Scheme::Light).await;
    page.go(&scenario.url("/?fold=no")).await;
    page.click("#by-pending").await;
    page.wait("document.querySelector('[aria-sort]')?.ariaSort === 'descending'").await;
    assert_eq!(names(&page).await[0], "busy");
    assert_eq!(page.eval("document.getElementById('sort').value").await, "pending");
    page.click("#by-group").await;
    page.wait("document.querySelector('[aria-sort]')?.ariaSort === 'ascending'").await;
    let up = names(&page).await;
    page.click("#by-group").await;
    page.wait("document.querySelector('[aria-sort]')?.ariaSort === 'descending'").await;
    let down = names(&page).await;
    assert!(up.len() == 50 && up[0] != down[0], "{up:?}");
    page.eval("history.back()").await;
    page.wait("document.querySelector('[aria-sort]')?.ariaSort === 'ascending'").await;
    page.click("#next-page").await;
    page.wait("document.querySelector('.pager').innerText.includes('Page 2 of 2')").await;
    page.assert_no_complaint();
}

#[tokio::test]
async fn a_search_narrows_down_while_one_types_and_the_address_says_so() {
    let Some(browser) = Browser::start().await else { return };
    let scenario = Scenario::begin().await;
    let page = browser.page(1_400, 900, Scheme::Light).await;
    page.go(&scenario.url("/")).await;
    page.eval("document.getElementById('q').focus()").await;
    page.write("ABAN").await;
    page.wait("document.querySelectorAll('#groups-list tbody tr').length === 1").await;
    assert_eq!(names(&page).await, ["abandoned"]);
    assert_eq!(page.eval("document.activeElement.id + location.search").await, "q?q=ABAN");
    page.write("x").await;
    page.wait("document.getElementById('groups-list').innerText.includes('No group is like this.')").await;
    page.go(&scenario.url("/")).await;
    page.eval("(() => { const status = document.getElementById('status'); status.value = 'trouble'; status.dispatchEvent(new Event('input', {bubbles: true})); })()").await;
    page.wait("location.search === '?status=trouble' && ![...document.querySelectorAll('#groups-list .badge')].some((badge) => badge.innerText.includes('ok'))").await;
    page.assert_no_complaint();
}

#[tokio::test]
async fn what_is_new_is_shown_and_the_place_is_kept() {
    let Some(browser) = Browser::start().await else { return };
    let scenario = Scenario::begin().await;
    let mut client = scenario.client().await;
    let page = browser.page(900, 500, Scheme::Light).await;
    page.go(&scenario.url("/?q=orders")).await;
    // The page is scrolled, a link has the focus, a detail is open, and text is being typed.
    page.eval("document.getElementById('pending-alerts').open = true").await;
    page.eval("(() => { const link = [...document.querySelectorAll('#groups-list a')].find((one) => one.innerText === 'abandoned'); link.focus(); window.scrollTo(0, 260); window.old = link; })()").await;
    let scrolled = page.eval("window.scrollY").await;
    assert!(scrolled.as_f64().unwrap() > 100.0, "{scrolled}");
    for n in 0..30 {
        client.run(&format!("XADD orders * n {n}")).await;
    }
    page.wait("document.getElementById('groups-list').innerText.includes('1,230')").await;
    assert_eq!(page.eval("window.old.isConnected").await, false, "it was replaced");
    assert_eq!(page.eval("document.activeElement.innerText").await, "abandoned");
    assert_eq!(page.eval("window.scrollY").await, scrolled);
    assert_eq!(page.eval("document.getElementById('pending-alerts').open").await, true);
    assert_eq!(page.eval("document.getElementById('q').value").await, "orders");

    // Paused, the page does not change; then it is refreshed again.
    page.click("#live-toggle").await;
    page.wait("document.getElementById('live-toggle').ariaPressed === 'false'").await;
    client.run("XADD orders * n 31").await;
    scenario.shows("the exporter knows", "\"lag\":1231").await;
    assert!(!page.text("#groups-list").await.contains("1,231"));
    page.click("#live-toggle").await;
    page.wait("document.getElementById('groups-list').innerText.includes('1,231')").await;

    // The page of a group keeps a selection, too.
    page.go(&scenario.url("/groups/shop/db0/orders/abandoned")).await;
    page.eval("window.getSelection().selectAllChildren(document.querySelector('pre'))").await;
    client.run("XADD orders * n 32").await;
    page.wait("document.getElementById('numbers').innerText.includes('1,232')").await;
    let selected = page.eval("window.getSelection().toString()").await;
    assert!(selected.as_str().unwrap().contains("redis-cli"), "{selected}");
    page.assert_no_complaint();
}

#[tokio::test]
async fn a_page_says_when_nobody_answers_and_goes_on_when_somebody_does_again() {
    let Some(browser) = Browser::start().await else { return };
    let scenario = Scenario::begin().await;
    let page = browser.page(900, 700, Scheme::Light).await;
    page.go(&scenario.url("/")).await;
    let address = scenario.exporter.address;
    let Scenario { server, exporter } = scenario;
    exporter.stop().await;
    page.wait("document.getElementById('live-state').innerText.startsWith('No answer since')").await;
    assert!(page.text("#groups-list").await.contains("abandoned"), "what was known is still there");
    let again = crate::support::program::Streamgauge::command("serve")
        .args(["--listen", &address.to_string(), "--redis-url", &server.url(), "--interval", "250ms"])
        .serving()
        .await;
    page.wait("document.getElementById('live-state').innerText === ''").await;
    drop(again);
}

#[tokio::test]
async fn all_of_it_works_by_keyboard() {
    let Some(browser) = Browser::start().await else { return };
    let scenario = Scenario::begin().await;
    let page = browser.page(1_200, 800, Scheme::Light).await;
    page.go(&scenario.url("/?q=orders")).await;
    page.press("Tab").await;
    assert_eq!(page.eval("document.activeElement.className").await, "skip");
    page.press("Enter").await;
    page.wait("document.activeElement.id === 'content'").await;
    for _ in 0..60 {
        page.press("Tab").await;
        if page.eval("document.activeElement.id").await == "by-lag" {
            break;
        }
    }
    let outline = page.eval("getComputedStyle(document.activeElement).outlineStyle").await;
    assert_eq!(outline, "solid", "one sees where one is");
    page.press("Enter").await;
    page.wait("document.querySelector('[aria-sort]')?.ariaSort === 'descending'").await;
    assert_eq!(page.eval("document.activeElement.id").await, "by-lag", "and still is there");
    page.assert_no_complaint();
}

#[tokio::test]
async fn all_of_it_works_without_scripts() {
    let Some(browser) = Browser::start().await else { return };
    let scenario = Scenario::begin().await;
    let page = browser.page(1_200, 800, Scheme::Light).await;
    page.disable_scripts().await;
    page.go(&scenario.url("/")).await;
    assert_eq!(page.eval("document.getElementById('live-toggle').checkVisibility()").await, false);
    page.click("#by-pending").await;
    page.wait("location.search.includes('sort=pending') && document.readyState === 'complete'").await;
    assert_eq!(names(&page).await[0], "busy");
    page.eval("document.getElementById('q').focus()").await;
    page.write("calm").await;
    page.click("#filter button").await;
    page.wait("location.search.includes('q=calm') && document.readyState === 'complete'").await;
    assert_eq!(names(&page).await, ["calm"]);
    page.click("#groups-list tbody th a").await;
    page.wait("location.pathname.endsWith('/orders/calm') && document.readyState === 'complete'").await;
    assert!(page.text("main").await.contains("idler"));
}

#[tokio::test]
async fn a_folded_line_opens_stays_open_and_closes() {
    let Some(browser) = Browser::start().await else { return };
    let scenario = Scenario::begin().await;
    let page = browser.page(1_200, 800, Scheme::Light).await;
    page.go(&scenario.url("/?q=many")).await;
    // Their status is known, and the same.
    page.wait("document.querySelectorAll('#groups-list tbody tr').length === 1").await;
    assert!(names(&page).await[0].starts_with("60 groups"), "{:?}", names(&page).await);
    page.click("#groups-list [aria-expanded]").await;
    page.wait("document.querySelectorAll('#groups-list tbody tr').length === 52").await;
    assert_eq!(names(&page).await[1], "g00");
    page.eval("window.before = performance.getEntriesByType('resource').length").await;
    page.wait("performance.getEntriesByType('resource').length > window.before + 1").await;
    assert_eq!(page.eval("document.querySelectorAll('#groups-list tbody tr').length").await, 52);
    page.click("#groups-list [aria-expanded=true]").await;
    page.wait("document.querySelectorAll('#groups-list tbody tr').length === 1").await;
    page.assert_no_complaint();
}

#[tokio::test]
async fn keys_search_move_open_and_help_and_a_command_can_be_copied() {
    let Some(browser) = Browser::start().await else { return };
    let scenario = Scenario::begin().await;
    let page = browser.page(1_200, 800, Scheme::Light).await;
    page.go(&scenario.url("/?q=orders&sort=group")).await;
    page.press("/").await;
    assert_eq!(page.eval("document.activeElement.id").await, "q");
    page.write("j").await;
    page.wait("location.search.includes('q=j')").await;
    page.go(&scenario.url("/?q=orders&sort=group")).await;
    page.press("j").await;
    assert_eq!(page.eval("document.activeElement.innerText").await, "abandoned");
    page.press("j").await;
    page.press("k").await;
    assert_eq!(page.eval("document.activeElement.innerText").await, "abandoned");
    page.press("?").await;
    page.wait("document.getElementById('keys').open").await;
    page.press("?").await;
    page.wait("!document.getElementById('keys').open").await;
    page.press("Enter").await;
    page.wait("location.pathname.endsWith('/orders/abandoned') && document.readyState === 'complete'").await;
    assert!(page.eval("document.querySelectorAll('pre').length").await.as_u64() > Some(0));
    assert_eq!(
        page.eval(
            "document.querySelectorAll('pre').length === document.querySelectorAll('button.copy').length"
        )
        .await,
        true
    );
    page.click("button.copy").await;
    page.wait("['Copied', 'Selected'].includes(document.querySelector('button.copy').innerText)").await;
    page.press("g").await;
    page.wait("location.pathname === '/' && document.readyState === 'complete'").await;
}
