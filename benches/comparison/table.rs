//! Writes the figures as a table in Markdown and compares them with the goals. Pure.

use std::time::{Duration, SystemTime};

use crate::idle::Idle;
use crate::runs::{Figures, Moving};
use crate::scale::ScaleFigures;

/// Goal for the resident memory of the exporter with one stream.
const MAX_IDLE_BYTES: u64 = 12 << 20;
/// The same for the part of it that no other process maps.
const MAX_IDLE_UNIQUE_BYTES: u64 = 3 << 20;
/// The most CPU time of the exporter per collection, in that of the server.
const MAX_CPU_RATIO: f64 = 1.5;
/// Of so many streams with two groups of three consumers each, the most resident memory.
const MAX_PEAKS: [(usize, u64); 2] = [(10_000, 60 << 20), (100_000, 400 << 20)];
/// The most time of a full collection of 100,000 streams.
const MAX_COLLECTION: (usize, Duration) = (100_000, Duration::from_secs(5));

/// Factors by which streamgauge must use less than the peer; `None` if there is no goal.
pub(crate) struct Goals {
    /// Time of a full collection.
    pub(crate) collection: Option<f64>,
    /// Time of a scrape, compressed or not.
    pub(crate) scrape: Option<f64>,
    /// The server's CPU time.
    pub(crate) redis_cpu: Option<f64>,
    /// The most memory.
    pub(crate) peak_memory: Option<f64>,
}

impl Goals {
    /// No goal at all.
    pub(crate) const NONE: Self = Self { collection: None, scrape: None, redis_cpu: None, peak_memory: None };
}

pub(crate) struct Table {
    heading: String,
    sections: Vec<String>,
    notes: Vec<String>,
    verdicts: Vec<GoalResult>,
}

struct GoalResult {
    text: String,
    is_met: bool,
}

/// A compared quantity.
enum Quantity {
    Time(Duration),
    Count(u64),
    Bytes(u64),
}

impl Table {
    /// Begins an empty table.
    pub(crate) fn begin(server: &str, peer_version: &str) -> Self {
        let date = humantime::format_rfc3339_seconds(today()).to_string();
        let heading = format!(
            "streamgauge {} and prometheus-redis-exporter {peer_version} on {server}, {}",
            env!("CARGO_PKG_VERSION"),
            &date[..10],
        );
        Self { heading, sections: Vec::new(), notes: Vec::new(), verdicts: Vec::new() }
    }

    /// Adds the lines of one comparison.
    pub(crate) fn compare(&mut self, title: &str, ours: &Figures, theirs: &Figures, goals: &Goals) {
        use Quantity::{Bytes, Count, Time};
        let mut lines = format!(
            "| {title} | streamgauge | prometheus-redis-exporter | ratio | goal |\n| --- | ---: | ---: | ---: | ---: |\n"
        );
        let mut line = |what: &str, ours: &Quantity, theirs: &Quantity, goal: Option<f64>| {
            let ratio = theirs.number() / ours.number();
            let goal_text = goal.map_or_else(String::new, |goal| format!("{goal}x"));
            // CPU time is counted in steps of 10 ms and may be 0 in a small run.
            let ratio_text = if ratio.is_finite() { format!("{ratio:.1}x") } else { String::new() };
            lines +=
                &format!("| {what} | {} | {} | {ratio_text} | {goal_text} |\n", ours.text(), theirs.text());
            if let Some(goal) = goal {
                let text = format!("{title}: {what}: {ratio:.1}x less, to reach {goal}x");
                self.verdicts.push(GoalResult { text, is_met: ratio >= goal });
            }
        };
        let time = |figure: fn(&Figures) -> Duration| (Time(figure(ours)), Time(figure(theirs)));
        for (what, (ours, theirs), goal) in [
            ("time of a full collection", time(|run| run.collection), goals.collection),
            ("time of a scrape", time(|run| run.plain_scrape), goals.scrape),
            ("time of a scrape, gzipped", time(|run| run.gzip_scrape), goals.scrape),
            ("exporter's CPU per collection", time(|run| run.cpu), None),
            ("Redis' CPU per collection", time(|run| run.redis_cpu), goals.redis_cpu),
            ("commands per collection", (Count(ours.commands), Count(theirs.commands)), None),
            ("bytes sent by Redis per collection", (Bytes(ours.sent_bytes), Bytes(theirs.sent_bytes)), None),
            ("peak memory", (Bytes(ours.peak_bytes), Bytes(theirs.peak_bytes)), goals.peak_memory),
        ] {
            line(what, &ours, &theirs, goal);
        }
        self.sections.push(lines);
        self.notes.push(format!(
            "{title}: the pages have {} and {}; the slowest poll of streamgauge while it first counted lag took \
             {}, and the first scrape of the peer {}.",
            Bytes(ours.page_bytes).text(),
            Bytes(theirs.page_bytes).text(),
            Time(ours.slowest_warm_up).text(),
            Time(theirs.slowest_warm_up).text(),
        ));
    }

    /// Adds the run in which every group moved between polls, which makes no difference to the peer.
    pub(crate) fn moving(&mut self, moving: &Moving, theirs: &Figures, goals: &Goals) {
        let (ours, theirs) = (Quantity::Time(moving.collection), Quantity::Time(theirs.collection));
        let ratio = theirs.number() / ours.number();
        let goal = goals.collection.map_or_else(String::new, |goal| format!("{goal}x"));
        self.sections.push(format!(
            "| every group moves between polls | streamgauge | prometheus-redis-exporter | ratio | goal |\n\
             | --- | ---: | ---: | ---: | ---: |\n\
             | time of a full collection, every lag exact | {} | {} | {ratio:.1}x | {goal} |\n\
             | entries read to count lag | {} | | | |\n",
            ours.text(),
            theirs.text(),
            moving.counted,
        ));
        if let Some(goal) = goals.collection {
            let text =
                format!("every group moves: time of a full collection: {ratio:.1}x less, to reach {goal}x");
            self.verdicts.push(GoalResult { text, is_met: ratio >= goal });
        }
    }

    /// Adds the measurement of idle exporters.
    pub(crate) fn idle(&mut self, idle: &Idle) {
        let (ours, theirs) =
            (Quantity::Bytes(idle.resident_bytes), Quantity::Bytes(idle.peer_resident_bytes));
        let own = [idle.own_bytes, idle.peer_own_bytes].map(Quantity::Bytes);
        let [ratio, own_ratio] =
            [[&ours, &theirs], own.each_ref()].map(|[ours, theirs]| theirs.number() / ours.number());
        self.sections.push(format!(
            "| one stream, idle | streamgauge | prometheus-redis-exporter | ratio | goal |\n\
             | --- | ---: | ---: | ---: | ---: |\n\
             | resident memory | {} | {} | {ratio:.1}x | |\n\
             | of it, not of files (program, libraries) | {} | {} | {own_ratio:.1}x | |\n\
             | of it, in no other process (unique set size) | {} | | | |\n\
             | file descriptors | {} | {} | | |\n\
             | CPU in {:?} between polls | {} | | | |\n\
             | CPU of {} polls | {} | | | |\n",
            ours.text(),
            theirs.text(),
            own[0].text(),
            own[1].text(),
            Quantity::Bytes(idle.unique_bytes).text(),
            idle.descriptors,
            idle.peer_descriptors,
            idle.time,
            Quantity::Time(idle.waiting_cpu).text(),
            idle.polls,
            Quantity::Time(idle.polling_cpu).text(),
        ));
        self.verdicts.push(GoalResult {
            text: format!("one stream, idle: {} resident, to stay below 12 MiB", ours.text()),
            is_met: idle.resident_bytes < MAX_IDLE_BYTES,
        });
        let unique = Quantity::Bytes(idle.unique_bytes).text();
        self.verdicts.push(GoalResult {
            text: format!("one stream, idle: {unique} in no other process, to stay below 3 MiB"),
            is_met: idle.unique_bytes < MAX_IDLE_UNIQUE_BYTES,
        });
        self.verdicts.push(GoalResult {
            text: format!(
                "one stream, idle: {:?} of CPU in {:?} between polls, to be none",
                idle.waiting_cpu, idle.time
            ),
            is_met: idle.waiting_cpu.is_zero(),
        });
    }

    /// Adds the runs at growing numbers of streams. Each figure but the first has its growth since the one above: 10x the
    /// streams should cost 10x as much.
    pub(crate) fn scale(&mut self, steps: &[ScaleFigures]) {
        use Quantity::{Bytes, Time};
        let mut lines = "| streams with 2 groups each | exporter | time of a full collection | exporter's CPU | Redis' CPU | peak memory |\n\
                         | ---: | --- | ---: | ---: | ---: | ---: |\n"
            .to_owned();
        let quantities =
            |run: &Figures| [Time(run.collection), Time(run.cpu), Time(run.redis_cpu), Bytes(run.peak_bytes)];
        let ours: Vec<_> = steps.iter().map(|step| &step.ours).collect();
        let theirs: Vec<_> = steps.iter().map(|step| &step.theirs).collect();
        for (name, runs) in [("streamgauge", ours), ("prometheus-redis-exporter", theirs)] {
            let mut before = None;
            for (step, run) in steps.iter().zip(runs) {
                let now = quantities(run);
                let cells: Vec<String> = match &before {
                    None => now.iter().map(Quantity::text).collect(),
                    Some(before) => {
                        now.iter().zip(before).map(|(now, before)| now.grown_from(before)).collect()
                    }
                };
                lines += &format!("| {} | {name} | {} |\n", step.streams, cells.join(" | "));
                before = Some(now);
            }
        }
        self.sections.push(lines);
        steps.iter().for_each(|step| self.scale_goals(step.streams, &step.ours));
    }

    fn scale_goals(&mut self, streams: usize, run: &Figures) {
        let ratio = run.cpu.as_secs_f64() / run.redis_cpu.as_secs_f64();
        if streams >= 10_000 {
            self.verdicts.push(GoalResult {
                text: format!(
                    "{streams} streams: {ratio:.1}x the CPU time of Redis, to stay below {MAX_CPU_RATIO}x"
                ),
                is_met: ratio <= MAX_CPU_RATIO,
            });
        }
        for (_, most) in MAX_PEAKS.into_iter().filter(|(of, _)| *of == streams) {
            let [peak, limit] = [run.peak_bytes, most].map(|bytes| Quantity::Bytes(bytes).text());
            self.verdicts.push(GoalResult {
                text: format!("{streams} streams: a peak of {peak}, to stay below {limit}"),
                is_met: run.peak_bytes < most,
            });
        }
        if streams == MAX_COLLECTION.0 {
            let [took, limit] = [run.collection, MAX_COLLECTION.1].map(|time| Quantity::Time(time).text());
            self.verdicts.push(GoalResult {
                text: format!("{streams} streams: collected in {took}, to stay below {limit}"),
                is_met: run.collection < MAX_COLLECTION.1,
            });
        }
    }

    /// Returns the table as text.
    pub(crate) fn text(&self) -> String {
        let verdicts = self.verdicts.iter().map(|verdict| {
            let word = if verdict.is_met { "goal met" } else { "MISSED" };
            format!("{word}: {}\n", verdict.text)
        });
        let verdicts: String = verdicts.collect();
        format!("{}\n\n{}\n{}\n\n{verdicts}", self.heading, self.sections.join("\n"), self.notes.join("\n"))
    }

    /// Returns true if every goal was met.
    pub(crate) fn goals_met(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.is_met)
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
impl Quantity {
    fn number(&self) -> f64 {
        match self {
            Self::Time(time) => time.as_secs_f64(),
            Self::Count(number) | Self::Bytes(number) => *number as f64,
        }
    }

    fn grown_from(&self, before: &Self) -> String {
        let ratio = self.number() / before.number();
        if ratio.is_finite() { format!("{} ({ratio:.1}x)", self.text()) } else { self.text() }
    }

    fn text(&self) -> String {
        match self {
            Self::Time(time) if time.as_millis() >= 10_000 => format!("{:.1} s", time.as_secs_f64()),
            Self::Time(time) if time.as_millis() >= 1_000 => format!("{:.2} s", time.as_secs_f64()),
            Self::Time(time) if time.as_millis() >= 10 => format!("{} ms", time.as_millis()),
            Self::Time(time) => format!("{:.1} ms", time.as_secs_f64() * 1_000.0),
            Self::Count(number) => number.to_string(),
            Self::Bytes(bytes) => format!("{:.1} MiB", *bytes as f64 / f64::from(1 << 20)),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the table says when it was made")]
fn today() -> SystemTime {
    SystemTime::now()
}
