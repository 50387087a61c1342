//! What the program left behind elsewhere: on the servers, and in its log.

use redis::Value;

use crate::journal::Window;
use crate::setup::{Node, Setup, USER};
use crate::support::server::connect;
use crate::support::snapshot::{ask, list, text};

/// Commands that nobody else sends here.
const OWN: [&str; 4] = ["XINFO", "SCAN", "TIME", "HELLO"];

/// Returns the denied commands, and those that were slow while no fault was injected.
pub(crate) async fn on_servers(setup: &Setup, excused: &[Window]) -> (Vec<String>, Vec<String>) {
    let (mut denied, mut slow) = (Vec::new(), Vec::new());
    for node in &setup.nodes {
        let mut connection = connect(&node.url).await.expect("all servers are up");
        for entry in list(ask(&mut connection, &["ACL", "LOG"]).await.expect("it tells")) {
            let told = format!("{entry:?}");
            if told.contains(&format!("user={USER}")) {
                denied.push(format!("{}: {told}", node.target));
            }
        }
        for entry in list(ask(&mut connection, &["SLOWLOG", "GET", "128"]).await.expect("it tells")) {
            slow.extend(slow_command(node, &list(entry), excused));
        }
    }
    (denied, slow)
}

/// When, how long, and which words.
fn slow_command(node: &Node, entry: &[Value], excused: &[Window]) -> Option<String> {
    let (Value::Int(at), Value::Int(micros)) = (&entry[1], &entry[2]) else { panic!("{entry:?}") };
    let at = std::time::Duration::from_secs(u64::try_from(*at).expect("it is later than 1970"));
    let is_excused =
        excused.iter().any(|window| window.touches(&node.target, at, at + std::time::Duration::from_secs(1)));
    let words: Vec<_> = list(entry[3].clone()).iter().map(text).collect();
    let is_own = OWN.contains(&words[0].to_uppercase().as_str());
    (is_own && !is_excused).then(|| format!("{}: {words:?} took {micros} us", node.target))
}

/// Errors in the log, but for so many refused reloads, which were asked for.
pub(crate) fn in_log(log: &str, refused_reloads: usize) -> Vec<String> {
    let is_refusal = |line: &str| line.contains("cannot reload the configuration; the old one stays");
    let errors = log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked"));
    let (refusals, mut errors): (Vec<String>, Vec<String>) =
        errors.map(str::to_owned).partition(|line| is_refusal(line));
    if refusals.len() != refused_reloads {
        errors.push(format!("{} reloads were refused, not {refused_reloads}", refusals.len()));
    }
    errors
}
