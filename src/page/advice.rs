//! The meaning of each status, and what to try.

use crate::diagnosis::GonePending;
use redis_stream_lag::report::Status;

pub(super) struct Advice {
    pub(super) meaning: &'static str,
    pub(super) steps: &'static [Step],
}

pub(super) struct Step {
    pub(super) text: &'static str,
    pub(super) command: Option<RedisCommand>,
}

pub(super) struct RedisCommand {
    /// Words with a space between; `{stream}` and `{group}` are names, `{entry}` the ID of the worst pending entry, and
    /// `{gone}` that of the oldest one if it is known to have left the stream: while that is not known, the step is left
    /// out.
    pub(super) words: &'static str,
    pub(super) effect: CommandEffect,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CommandEffect {
    Reads,
    /// Changes data.
    Writes,
}

use CommandEffect::{Reads, Writes};

const fn say(text: &'static str) -> Step {
    Step { text, command: None }
}

const fn run(text: &'static str, effect: CommandEffect, words: &'static str) -> Step {
    Step { text, command: Some(RedisCommand { words, effect }) }
}

const GROUPS: Step = run("How far each group of the stream is:", Reads, "XINFO GROUPS {stream}");
const CONSUMERS: Step = run(
    "The consumers, with their pending entries and idle times:",
    Reads,
    "XINFO CONSUMERS {stream} {group}",
);
const PENDING: Step = run(
    "The oldest pending entries: ID, consumer, milliseconds since the last delivery, and number of deliveries:",
    Reads,
    "XPENDING {stream} {group} - + 10",
);
const ENTRY: Step = run("What the entry holds:", Reads, "XRANGE {stream} {entry} {entry}");
const EXTENT: Step =
    run("What the stream keeps, and how much was ever added:", Reads, "XINFO STREAM {stream}");
const CLAIM: Step = run(
    "Hand pending entries that were idle for 10 minutes to another consumer, here \"rescuer\", which must then read its pending entries (XREADGROUP with the ID 0) and acknowledge them:",
    Writes,
    "XAUTOCLAIM {stream} {group} rescuer 600000 0-0 COUNT 10",
);

/// Returns the advice for a status. `None` is a group that is configured by name and missing; `gone` is what is known of its
/// pending entries.
pub(super) fn on(status: Option<Status>, gone: GonePending) -> Advice {
    match status {
        None => MISSING,
        Some(Status::Rewound) => REWOUND,
        Some(Status::Losing) => LOSING,
        Some(Status::Abandoned) => ABANDONED,
        Some(Status::Stalled) => STALLED,
        Some(Status::Stuck) => Advice { meaning: STUCK, steps: on_stuck(gone) },
        Some(Status::Lagging) => LAGGING,
        Some(Status::Unknown) => UNKNOWN,
        Some(Status::Ok) => OK,
    }
}

/// Returns the meaning of a status; `None` is a group that is configured by name and missing.
pub(super) fn meaning(status: Option<Status>) -> &'static str {
    on(status, GonePending::NotKnown).meaning
}

/// Returns the steps for pending entries that no consumer takes. One that left the stream cannot be claimed, and has to be
/// removed first.
fn on_stuck(gone: GonePending) -> &'static [Step] {
    match gone {
        GonePending::None => &[PENDING, ENTRY, OWNER, CLAIM, PUT_ASIDE],
        GonePending::Some(_) => &[PENDING, LIST_GONE, REMOVE_GONE, OWNER, CLAIM, PUT_ASIDE],
        GonePending::All => &[PENDING, ALL_GONE, REMOVE_GONE, KEEP_LONGER],
        GonePending::NotKnown => &[PENDING, ENTRY, PERHAPS_GONE, OWNER, CLAIM, PUT_ASIDE],
    }
}

const MISSING: Advice = Advice {
    meaning: "The group is configured by name, and the stream has no such group. Its consumers get NOGROUP.",
    steps: &[
        GROUPS,
        say("Was the stream deleted and created again, or is the name misspelt in the configuration?"),
        run(
            "Create the group. 0 begins at the oldest entry that is left; give the last ID that was processed instead, if you know it. Do not use $, which skips the entries added in the meantime.",
            Writes,
            "XGROUP CREATE {stream} {group} 0",
        ),
    ],
};

const REWOUND: Advice = Advice {
    meaning: "The group went back: its last-delivered-id became smaller within the window. Entries are delivered a second time.",
    steps: &[
        GROUPS,
        say(
            "Look for an XGROUP SETID, for a group that was destroyed and created further back, for a restart from an older file, and for a failover to a replica that was behind.",
        ),
        run("Whether the server was restarted: uptime_in_seconds.", Reads, "INFO server"),
        run("Whether there was a failover: role and replicas.", Reads, "INFO replication"),
    ],
};

const LOSING: Advice = Advice {
    meaning: "Entries were trimmed or deleted within the window before the group got them. They are gone.",
    steps: &[
        EXTENT,
        say(
            "Raise MAXLEN of the producers, or trim by age (MINID). Add consumers, or make them faster, so that the group reads before the stream is trimmed.",
        ),
        CONSUMERS,
    ],
};

const ABANDONED: Advice = Advice {
    meaning: "Entries wait, none was delivered for longer than the window and the pauses that the group usually makes, and there is no consumer, or none read, claimed or acknowledged in the window.",
    steps: &[
        CONSUMERS,
        say("Start the consumers: are they deployed, scaled to zero, or unable to connect?"),
        run(
            "If the group is no longer needed, remove it; its pending entries are lost.",
            Writes,
            "XGROUP DESTROY {stream} {group}",
        ),
    ],
};

const STALLED: Advice = Advice {
    meaning: "Entries wait, and none was delivered for longer than the window and the pauses that the group usually makes, although there are consumers, and none acknowledges.",
    steps: &[
        CONSUMERS,
        PENDING,
        ENTRY,
        say(
            "Look at the logs of the consumers: they fail before they acknowledge or read, wait for something else, or read another group. A restart often helps, and often hides the cause.",
        ),
    ],
};

const STUCK: &str =
    "A pending entry was not delivered again for the window, and no consumer acknowledged it.";
const OWNER: Step = say(
    "The first line names the oldest entry and its consumer; others that stand out are listed below. Is that consumer still alive? One that restarts has to read its own pending entries first (XREADGROUP with the ID 0).",
);
const PUT_ASIDE: Step =
    say("An entry that no consumer can process: put it aside, and acknowledge it by XACK.");
const LIST_GONE: Step = say(
    "Some of them are no longer in the stream: they were trimmed or deleted, and cannot be claimed. streamgauge pending --fields shows which. Remove these first, each by XACK with its ID.",
);
const ALL_GONE: Step = say(
    "None of them is in the stream any more: they were trimmed or deleted, and cannot be claimed. Each is removed by XACK with its ID, and from Redis 7.0 on also by XAUTOCLAIM.",
);
const REMOVE_GONE: Step =
    run("Remove the oldest one, which is gone:", Writes, "XACK {stream} {group} {gone}");
const PERHAPS_GONE: Step = say(
    "It is not known whether they are all still in the stream. One that XRANGE does not find was trimmed or deleted, and cannot be claimed: remove it by XACK with its ID. streamgauge pending --fields shows which these are.",
);
const KEEP_LONGER: Step = say(
    "Keep entries for longer than the work on them takes: raise MAXLEN of the producers, or trim by age (MINID).",
);

const LAGGING: Advice = Advice {
    meaning: "The group has been behind for the whole window, and falls further behind: more is added than it reads.",
    steps: &[
        say(
            "Add consumers to the group, or make them faster: read more at a time (COUNT), and acknowledge in batches.",
        ),
        CONSUMERS,
        EXTENT,
        PENDING,
    ],
};

const UNKNOWN: Advice = Advice {
    meaning: "There is not enough history yet: after a start, for a new group with something to do, after polls that failed; or the group is behind, and its exact lag was not known often enough to tell whether it grows.",
    steps: &[
        say("Wait for a window of history: status.window, 2 minutes unless it is configured."),
        GROUPS,
        CONSUMERS,
    ],
};

const OK: Advice = Advice { meaning: "No problem detected.", steps: &[GROUPS, CONSUMERS, PENDING] };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_something_to_try_and_what_writes_comes_after_a_look() {
        for status in Status::ALL.into_iter().map(Some).chain([None]) {
            let advice = on(status, GonePending::NotKnown);
            let effects: Vec<_> = advice
                .steps
                .iter()
                .filter_map(|step| step.command.as_ref())
                .map(|command| command.effect)
                .collect();
            assert!(effects.first() == Some(&Reads), "{status:?}");
            assert!(advice.meaning.ends_with('.'), "{status:?}");
            for step in advice.steps {
                let end = step.text.chars().last().expect("it says something");
                assert!(".:?)".contains(end), "{}", step.text);
            }
        }
    }

    #[test]
    fn what_is_gone_is_removed_before_the_rest_is_claimed() {
        let commands = |gone| -> Vec<_> {
            let steps = on(Some(Status::Stuck), gone).steps.iter();
            let names = steps.filter_map(|step| step.command.as_ref()?.words.split(' ').next());
            names.collect()
        };
        for (gone, expected) in [
            (GonePending::None, &["XPENDING", "XRANGE", "XAUTOCLAIM"][..]),
            (GonePending::Some(3), &["XPENDING", "XACK", "XAUTOCLAIM"]),
            (GonePending::All, &["XPENDING", "XACK"]),
            (GonePending::NotKnown, &["XPENDING", "XRANGE", "XAUTOCLAIM"]),
        ] {
            assert_eq!(commands(gone), expected, "{gone:?}");
        }
    }
}
