//! Writes the figures as a table in Markdown and compares them with the goals. Pure.

use std::time::{Duration, SystemTime};

use crate::idle::Idle;
use crate::runs::{Figures, Moving, Unchanged};
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
/// The most time of a full collection, in the server's CPU time.
const MAX_COLLECTION_RATIO: f64 = 3.0;
/// The most growth of a figure from the first step to the last, in that of the number of streams.
const MAX_GROWTH: f64 = 1.0;

/// Factors by which streamgauge must use less than the peer; `None` if there is no goal.
pub(crate) struct Goals {
    /// Time of a full collection.
    pub(crate) collection: Option<f64>,
    /// Time of a scrape without compression.
    pub(crate) plain_scrape: Option<f64>,
    /// Time of a scrape with compression.
    pub(crate) gzip_scrape: Option<f64>,
    /// The server's CPU time.
    pub(crate) redis_cpu: Option<f64>,
    /// The most memory.
    pub(crate) peak_memory: Option<f64>,
}

impl Goals {
    /// No goal at all.
    pub(crate) const NONE: Self =
        Self { collection: None, plain_scrape: None, gzip_scrape: None, redis_cpu: None, peak_memory: None };
}

/// Writes one table after the other, each with its goals, and collects these.
pub(crate) struct Table {
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
    pub(crate) fn new() -> Self {
        Self { verdicts: Vec::new() }
    }

    /// Returns what is compared, and when.
    pub(crate) fn heading(server: &str, peer_version: &str) -> String {
        let date = humantime::format_rfc3339_seconds(today()).to_string();
        format!(
            "streamgauge {} and prometheus-redis-exporter {peer_version} on {server}, {}\n",
            env!("CARGO_PKG_VERSION"),
            &date[..10],
        )
    }

    /// Returns the lines of one comparison.
    pub(crate) fn compare(&mut self, title: &str, ours: &Figures, theirs: &Figures, goals: &Goals) -> String {
        let known = self.verdicts.len();
        use Quantity::{Bytes, Count, Time};
        let mut lines = format!(
            "| {title} | streamgauge | prometheus-redis-exporter | ratio | goal |\n| --- | ---: | ---: | ---: | ---: |\n"
        );
        let mut line = |what: &str, ours: &Quantity, theirs: &Quantity, goal: Option<f64>| {
            let ratio = theirs.number() / ours.number();
            let goal_text = goal.map_or_else(String::new, |goal| format!("{goal}x"));
            // CPU time may be 0 in a small run.
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
            ("time of a scrape", time(|run| run.plain_scrape), goals.plain_scrape),
            ("time of a scrape, gzipped, the first after a poll", time(|run| run.first_gzip_scrape), None),
            ("time of a scrape, gzipped, after that", time(|run| run.gzip_scrape), goals.gzip_scrape),
            ("exporter's CPU per collection", time(|run| run.cpu), None),
            ("Redis' CPU per collection", time(|run| run.redis_cpu), goals.redis_cpu),
            ("commands per collection", (Count(ours.commands), Count(theirs.commands)), None),
            ("bytes sent by Redis per collection", (Bytes(ours.sent_bytes), Bytes(theirs.sent_bytes)), None),
            ("peak memory", (Bytes(ours.peak_bytes), Bytes(theirs.peak_bytes)), goals.peak_memory),
        ] {
            line(what, &ours, &theirs, goal);
        }
        let note = format!(
            "The pages have {} and {}; the slowest poll of streamgauge while it first counted lag took {}, and the \
             first scrape of the peer {}.",
            Bytes(ours.page_bytes).text(),
            Bytes(theirs.page_bytes).text(),
            Time(ours.slowest_warm_up).text(),
            Time(theirs.slowest_warm_up).text(),
        );
        format!("{lines}\n{note}\n\n{}", self.verdicts_since(known))
    }

    /// Compares streamgauge's own figures with those of the server.
    pub(crate) fn compare_with_server(&mut self, title: &str, run: &Figures) -> String {
        let known = self.verdicts.len();
        let in_server_cpu = |time: Duration| time.as_secs_f64() / run.redis_cpu.as_secs_f64();
        for (what, ratio, most) in [
            ("CPU time", in_server_cpu(run.cpu), MAX_CPU_RATIO),
            ("time of a full collection", in_server_cpu(run.collection), MAX_COLLECTION_RATIO),
        ] {
            let text = format!("{title}: {what}: {ratio:.1}x the CPU time of Redis, to stay below {most}x");
            self.verdicts.push(GoalResult { text, is_met: ratio <= most });
        }
        self.verdicts_since(known)
    }

    /// Returns the lines about the run in which every group moved between polls, which makes no difference to the peer.
    pub(crate) fn moving(&mut self, moving: &Moving, theirs: &Figures, goals: &Goals) -> String {
        let known = self.verdicts.len();
        let (ours, theirs) = (Quantity::Time(moving.collection), Quantity::Time(theirs.collection));
        let ratio = theirs.number() / ours.number();
        let goal = goals.collection.map_or_else(String::new, |goal| format!("{goal}x"));
        let lines = format!(
            "| every group moves between polls | streamgauge | prometheus-redis-exporter | ratio | goal |\n\
             | --- | ---: | ---: | ---: | ---: |\n\
             | time of a full collection, every lag exact | {} | {} | {ratio:.1}x | {goal} |\n\
             | entries read to count lag | {} | | | |\n",
            ours.text(),
            theirs.text(),
            moving.counted,
        );
        if let Some(goal) = goals.collection {
            let text =
                format!("every group moves: time of a full collection: {ratio:.1}x less, to reach {goal}x");
            self.verdicts.push(GoalResult { text, is_met: ratio >= goal });
        }
        format!("{lines}\n{}", self.verdicts_since(known))
    }

    /// Returns the lines about the run in which nothing happened, beside those of a run that had just begun.
    pub(crate) fn unchanged(&mut self, unchanged: &Unchanged, begun: &Figures) -> String {
        let known = self.verdicts.len();
        let ratio = |cpu: Duration, redis_cpu: Duration| cpu.as_secs_f64() / redis_cpu.as_secs_f64();
        let now = ratio(unchanged.cpu, unchanged.redis_cpu);
        let text = |time: Duration| Quantity::Time(time).text();
        let lines = format!(
            "| streamgauge, while nothing happens to the streams | after the start | after some windows |\n\
             | --- | ---: | ---: |\n\
             | time of a full collection | {} | {} |\n\
             | exporter's CPU per collection | {} | {} |\n\
             | Redis' CPU per collection | {} | {} |\n\
             | exporter's CPU for each of Redis' | {:.1}x | {now:.1}x |\n",
            text(begun.collection),
            text(unchanged.collection),
            text(begun.cpu),
            text(unchanged.cpu),
            text(begun.redis_cpu),
            text(unchanged.redis_cpu),
            ratio(begun.cpu, begun.redis_cpu),
        );
        let text =
            format!("nothing happens: CPU time: {now:.1}x that of Redis, to stay below {MAX_CPU_RATIO}x");
        self.verdicts.push(GoalResult { text, is_met: now <= MAX_CPU_RATIO });
        format!("{lines}\n{}", self.verdicts_since(known))
    }

    /// Returns the lines about idle exporters.
    pub(crate) fn idle(&mut self, idle: &Idle) -> String {
        let known = self.verdicts.len();
        let (ours, theirs) =
            (Quantity::Bytes(idle.resident_bytes), Quantity::Bytes(idle.peer_resident_bytes));
        let own = [idle.own_bytes, idle.peer_own_bytes].map(Quantity::Bytes);
        let [ratio, own_ratio] =
            [[&ours, &theirs], own.each_ref()].map(|[ours, theirs]| theirs.number() / ours.number());
        let lines = format!(
            "| one stream, idle | streamgauge | prometheus-redis-exporter | ratio | goal |\n\
             | --- | ---: | ---: | ---: | ---: |\n\
             | resident memory | {} | {} | {ratio:.1}x | |\n\
             | of that, without files (program, libraries) | {} | {} | {own_ratio:.1}x | |\n\
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
        );
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
        format!("{lines}\n{}", self.verdicts_since(known))
    }

    /// Returns the first lines of the table of growing numbers of streams.
    pub(crate) fn scale_heading() -> &'static str {
        "| streams with 2 groups each | exporter | time of a full collection | exporter's CPU | Redis' CPU | peak memory |\n\
         | ---: | --- | ---: | ---: | ---: | ---: |"
    }

    /// Returns the lines of one number of streams. Each figure has its growth since the step before: 10x the streams
    /// should cost 10x as much.
    pub(crate) fn scale_step(step: &ScaleFigures, before: Option<&ScaleFigures>) -> String {
        let ours = ("streamgauge", &step.ours, before.map(|before| &before.ours));
        let theirs = ("prometheus-redis-exporter", &step.theirs, before.map(|before| &before.theirs));
        let lines = [ours, theirs].map(|(name, run, before)| {
            let now = scale_quantities(run);
            let cells: Vec<String> = match before.map(scale_quantities) {
                None => now.iter().map(Quantity::text).collect(),
                Some(before) => now.iter().zip(&before).map(|(now, before)| now.grown_from(before)).collect(),
            };
            format!("| {} | {name} | {} |", step.streams, cells.join(" | "))
        });
        lines.join("\n")
    }

    /// Compares growing numbers of streams with the goals.
    pub(crate) fn scale_goals(&mut self, steps: &[ScaleFigures]) -> String {
        let known = self.verdicts.len();
        for step in steps {
            self.step_goals(step.streams, &step.ours);
        }
        if let [first, .., last] = steps {
            self.growth_goals(first, last);
        }
        format!("\n{}", self.verdicts_since(known))
    }

    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    fn growth_goals(&mut self, first: &ScaleFigures, last: &ScaleFigures) {
        let most = MAX_GROWTH * last.streams as f64 / first.streams as f64;
        let figures = scale_quantities(&last.ours).into_iter().zip(scale_quantities(&first.ours));
        for (what, (now, before)) in
            ["time", "CPU time", "Redis' CPU time", "memory"].into_iter().zip(figures)
        {
            let growth = now.number() / before.number();
            let text = format!(
                "from {} to {} streams: {what} grows {growth:.0}x, to stay below {most}x",
                first.streams, last.streams
            );
            self.verdicts.push(GoalResult { text, is_met: growth <= most });
        }
    }

    fn step_goals(&mut self, streams: usize, run: &Figures) {
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

    /// Returns the goals after the first `known`, one in each line.
    fn verdicts_since(&self, known: usize) -> String {
        let verdicts = self.verdicts[known..].iter().map(|verdict| {
            let word = if verdict.is_met { "goal met" } else { "MISSED" };
            format!("{word}: {}\n", verdict.text)
        });
        verdicts.collect()
    }

    /// Returns how many goals were met.
    pub(crate) fn summary(&self) -> String {
        let met = self.verdicts.iter().filter(|verdict| verdict.is_met).count();
        format!("{met} of {} goals were met", self.verdicts.len())
    }

    /// Returns true if every goal was met.
    pub(crate) fn goals_met(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.is_met)
    }
}

/// The figures that should grow with the number of streams.
fn scale_quantities(run: &Figures) -> [Quantity; 4] {
    use Quantity::{Bytes, Time};
    [Time(run.collection), Time(run.cpu), Time(run.redis_cpu), Bytes(run.peak_bytes)]
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
