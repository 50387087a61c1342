//! Watches the API for the conditions of groups and for alerts that fire, and keeps for how long each was seen. While the
//! report of a target is too old to be served, its groups are not known, so that no condition of them has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use crate::judgement::{Sight, Span};
use crate::story_time::{LENGTH, StoryTime};
use crate::support::http;

/// A group, or with an empty group its stream, or with both empty the target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject {
    pub(crate) target: String,
    pub(crate) stream: String,
    pub(crate) group: String,
}

/// Everything that was seen, by subject.
pub(crate) type Seen = BTreeMap<Subject, Vec<(Sight, Span)>>;

const STEP: Duration = Duration::from_millis(100);

/// Watches all conditions and firing alerts until the end of the story.
pub(crate) async fn watch(address: SocketAddr, time: StoryTime) -> Seen {
    let mut seen = Seen::new();
    let mut holding: BTreeMap<(Subject, Sight), f64> = BTreeMap::new();
    let mut steps = interval(STEP.max(time.real(0.05)));
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while time.is_before(LENGTH) {
        steps.tick().await;
        let listing = json(address, "/api/v1/groups").await;
        let mut now: BTreeSet<_> = conditions(&listing).into_iter().collect();
        let unknown = targets_without_report(&listing);
        let is_unknown = |(subject, sight): &&(Subject, Sight)| {
            matches!(sight, Sight::Condition(_)) && unknown.contains(&subject.target)
        };
        now.extend(holding.keys().filter(is_unknown).cloned());
        now.extend(firing(&json(address, "/api/v1/alerts").await));
        let minute = time.minute();
        let ended: Vec<_> = holding.keys().filter(|key| !now.contains(*key)).cloned().collect();
        for key in ended {
            let begin = holding.remove(&key).expect("it is a key of the map");
            seen.entry(key.0).or_default().push((key.1, Span { begin, end: Some(minute) }));
        }
        for key in now {
            holding.entry(key).or_insert(minute);
        }
    }
    for ((subject, sight), begin) in holding {
        seen.entry(subject).or_default().push((sight, Span { begin, end: None }));
    }
    seen
}

async fn json(address: SocketAddr, path: &str) -> Value {
    let response = http::get(address, path).await;
    serde_json::from_str(&response.text()).expect("the API answers with JSON")
}

fn conditions(listing: &Value) -> Vec<(Subject, Sight)> {
    let groups = listing["groups"].as_array().expect("it lists groups");
    groups
        .iter()
        .flat_map(|group| {
            let names = group["conditions"].as_array().into_iter().flatten();
            names.map(|name| (subject(group), Sight::Condition(text_of(name))))
        })
        .collect()
}

fn targets_without_report(listing: &Value) -> Vec<String> {
    let targets = listing["targets"].as_array().expect("it lists targets");
    targets
        .iter()
        .filter(|target| target["streams"].is_null())
        .map(|target| text_of(&target["target"]))
        .collect()
}

/// An inhibited alert is not sent, so it does not count as seen.
fn firing(answer: &Value) -> Vec<(Subject, Sight)> {
    let alerts = answer["data"]["alerts"].as_array().expect("it lists alerts");
    alerts
        .iter()
        .filter(|alert| alert["state"] == "firing" && alert["inhibitedBy"].is_null())
        .map(|alert| (subject(&alert["labels"]), Sight::Alert(text_of(&alert["labels"]["alertname"]))))
        .collect()
}

fn subject(labels: &Value) -> Subject {
    let [target, stream, group] = ["target", "stream", "group"].map(|name| text_of(&labels[name]));
    Subject { target, stream, group }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
