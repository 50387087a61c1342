//! The commands that a page shows, run by a real shell and redis-cli on a real server.

use std::process::Command;

use crate::scenario::{HOSTILE, ODD, Scenario};
use crate::support::peers;

/// Returns the commands of a page, without markup.
fn commands(html: &str) -> Vec<String> {
    let parts = html.split("<pre tabindex=\"0\"><code>").skip(1);
    let texts = parts.map(|part| part.split("</code>").next().unwrap());
    texts
        .map(|text| {
            text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
        })
        .collect()
}

#[tokio::test]
async fn the_commands_that_are_printed_do_what_they_say_whatever_the_names_are() {
    let Some(redis_cli) = peers::find("redis-cli") else { return };
    let scenario = Scenario::begin().await;
    let folder = redis_cli.parent().unwrap().display().to_string();
    let encode =
        |name: &[u8]| percent_encoding::percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string();
    for (stream, group) in
        [(&b"orders"[..], &b"busy"[..]), (HOSTILE.as_bytes(), HOSTILE.as_bytes()), (b"names", ODD)]
    {
        let path = format!("/groups/shop/db0/{}/{}", encode(stream), encode(group));
        let page = scenario.exporter.get(&path).await;
        assert_eq!(page.status, 200, "{path}");
        let printed = commands(&page.text());
        assert!(printed.len() >= 2, "{printed:?}");
        for line in printed.iter().filter(|line| !line.contains("XGROUP") && !line.contains("XAUTOCLAIM")) {
            let run = Command::new("/bin/sh")
                .args(["-c", line])
                .env("PATH", format!("{folder}:/usr/bin:/bin"))
                .output()
                .unwrap();
            let said =
                String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
            assert!(
                run.status.success() && !said.contains("ERR") && !said.contains("NOGROUP"),
                "{line}: {said}"
            );
        }
        assert!(printed.iter().all(|line| line.starts_with("redis-cli -h 127.0.0.1 -p ")), "{printed:?}");
    }
}
