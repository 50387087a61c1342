//! Readability: nothing overflows the window, from a phone's to a wide one; contrast is sufficient in both schemes; and
//! everything has a name and role for a screen reader.

use serde_json::Value;

use crate::browser::{Browser, Page, Scheme};
use crate::scenario::Scenario;

/// Lists faults for users of screen readers and keyboards.
const FAULTS: &str = r#"(() => {
  const faults = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const fault = (what, one) => faults.push(`${what}: ${one.outerHTML.slice(0, 200)}`);
  if (!document.documentElement.lang) faults.push("no language");
  if (all("h1").length !== 1) faults.push(`${all("h1").length} h1`);
  for (const landmark of ["main", "header", "nav", "footer"]) if (!all(landmark).length) faults.push(`no ${landmark}`);
  for (const one of all("input:not([type=hidden]), select")) if (!one.labels.length) fault("no label", one);
  for (const one of all("a, button, summary")) if (!one.textContent.trim()) fault("no text", one);
  for (const one of all("svg")) if (one.getAttribute("role") !== "img" || !one.getAttribute("aria-label")) fault("no words", one);
  for (const one of all("th")) if (!one.scope) fault("no scope", one);
  for (const one of all("nav")) if (!one.getAttribute("aria-label")) fault("no name", one);
  const ids = all("[id]").map((one) => one.id);
  for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) faults.push(`id ${id} twice`);
  const light = (color) => {
    const parts = color.match(/[\d.]+/g).slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (!/, 0\)$|transparent/.test(color)) return color;
    }
    return "rgb(255, 255, 255)";
  };
  for (const one of all("p, a, th, td, h1, h2, dt, dd, span, strong, label, button, pre, li")) {
    if (!one.checkVisibility() || ![...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    const [front, back] = [light(getComputedStyle(one).color), light(ground(one))];
    const contrast = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (contrast < 4.5) fault(`contrast ${contrast.toFixed(2)}`, one);
  }
  return faults;
})()"#;

/// Lists elements that overflow the window or their parent.
const OVERFLOW: &str = r#"(() => {
  const wide = document.documentElement.clientWidth;
  const out = [...document.querySelectorAll("main *, header *")].filter((one) => {
    if (one.closest(".unseen, .skip, pre, thead") || !one.checkVisibility()) return false;
    const box = one.getBoundingClientRect();
    return box.width > 0 && (box.right > wide + 1 || box.left < -1);
  });
  const faults = out.slice(0, 5).map((one) => one.outerHTML.slice(0, 200));
  if (document.documentElement.scrollWidth > wide) faults.push(`${document.documentElement.scrollWidth} wide`);
  return faults;
})()"#;

async fn assert_none(page: &Page<'_>, faults: &str, where_: &str) {
    let found = page.eval(faults).await;
    assert_eq!(found, Value::Array(Vec::new()), "{where_}");
}

#[tokio::test]
async fn nothing_sticks_out_nothing_is_unreadable_and_nothing_is_without_a_name() {
    let Some(browser) = Browser::start().await else { return };
    let scenario = Scenario::begin().await;
    let hostile =
        percent_encoding::utf8_percent_encode(crate::scenario::HOSTILE, percent_encoding::NON_ALPHANUMERIC);
    let paths = [
        "/".to_owned(),
        "/?q=names&sort=lag".to_owned(),
        "/?q=nothing+is+called+this".to_owned(),
        "/groups/shop/db0/orders/abandoned".to_owned(),
        "/streams/shop/db0/orders".to_owned(),
        "/streams/shop/db0/nothing".to_owned(),
        "/groups/shop/db0/orders/busy".to_owned(),
        "/groups/shop/db0/orders/wanted".to_owned(),
        format!("/groups/shop/db0/{hostile}/{hostile}"),
        "/groups/shop/db0/orders/nobody".to_owned(),
        "/groups/%3Cb%3Egone%3C%2Fb%3E/db0/s/g".to_owned(),
    ];
    for scheme in [Scheme::Light, Scheme::Dark] {
        let page = browser.page(1_920, 1_080, scheme).await;
        for path in &paths {
            page.go(&scenario.url(path)).await;
            for width in [360, 800, 1_920] {
                page.resize(width, 900).await;
                let place = format!("{path} at {width}, {}", scheme.name());
                assert_none(&page, OVERFLOW, &place).await;
                assert_none(&page, FAULTS, &place).await;
            }
            assert_eq!(page.eval("typeof window.harmed").await, "undefined", "{path}");
        }
        let ground =
            page.eval("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] < 128").await;
        assert_eq!(ground, scheme == Scheme::Dark);
        // The only allowed complaint is the 404 of a missing page.
    }
}
